/*-------------------------------------------------------------------------
 *
 * depend.c
 *	  What the queries of views read, according to the catalogs.
 *
 * The query of a view or materialized view is its rule "_RETURN", and
 * pg_depend names each relation that this rule refers to.  We follow plain
 * views to what they read in turn.  We also follow functions, whether a query
 * calls them directly or through an operator: pg_depend records what a
 * function with a standard SQL body (BEGIN ATOMIC) refers to.  For other
 * functions that is unknown.
 *
 * Everything else ends the search: if nobody refreshes a materialized view,
 * what it reads does not matter to its readers.
 *
 * Each plain view and function is visited once, however many views are above
 * it, and without recursion, so neither wide nor deep schemas endanger the
 * plan.  They do endanger the server, which expands the views of a query
 * whenever it plans the query.  So we also count what it would expand.
 *
 * Views and functions can refer to each other in circles.  All members of a
 * circle read the same items.  (We find circles by Tarjan's algorithm for
 * strongly connected components.)
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "rewrite/rewriteSupport.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "src/plan/depend.h"

/* A relation, function or operator, by its catalog */
typedef struct DependObject
{
	Oid			classid;
	Oid			objid;
} DependObject;

typedef struct DependNode
{
	DependObject object;		/* the key; must be first */
	int			item;			/* the caller's number, or -1 */
	bool		done;			/* everything below it is known */
	int			visit;			/* the last visit that came here */
	int			number;			/* in the order of that visit */
	int			lowest;			/* lowest number that it reaches */
	int			nreads;
	DependObject *reads;		/* what it refers to */
	int			next;			/* the next of these to visit */
	int			depth;			/* of the views nested in it */
	int			references;		/* to relations, with views expanded; like the
								 * depth, at most one more than allowed */
	int			nitems;
	int		   *items;			/* the items that it reads, ascending */
} DependNode;

struct DependGraph
{
	MemoryContext context;
	MemoryContext scratch;		/* for one query */
	HTAB	   *nodes;
	int			nvisits;
};

/* Counts references in a query */
typedef struct DependCounter
{
	DependGraph *graph;
	Oid			relid;			/* whose query it is */
	int			references;
} DependCounter;

static DependNode *depend_node(DependGraph *graph, Oid classid, Oid objid);
static void depend_visit(DependGraph *graph, DependNode *root);
static bool depend_is_followed(const DependNode *node);
static void depend_find_reads(DependNode *node);
static HeapTuple depend_rule(Oid relid);
static void depend_measure(DependGraph *graph, DependNode *node);
static bool depend_is_expanded(const DependNode *node);
static int	depend_count(DependGraph *graph, const DependNode *node);
static bool depend_count_walker(Node *node, DependCounter *counter);
static void depend_collect(DependGraph *graph, List *circle);
static void depend_append(const DependNode *node, int *items, int *nitems);
static void depend_sort(int *items, int *nitems);
static int	depend_compare_objects(const void *a, const void *b);
static int	depend_compare_ints(const void *a, const void *b);

/*
 * Create a graph for about "nitems" items, in the current memory context.
 */
DependGraph *
depend_create(int nitems)
{
	DependGraph *graph = palloc(sizeof(DependGraph));
	HASHCTL		control;

	graph->context = CurrentMemoryContext;
	graph->scratch = AllocSetContextCreate(graph->context,
										   "bigbrotr_refresher query",
										   ALLOCSET_DEFAULT_SIZES);
	graph->nvisits = 0;
	control.keysize = sizeof(DependObject);
	control.entrysize = sizeof(DependNode);
	control.hcxt = graph->context;
	graph->nodes = hash_create("bigbrotr_refresher dependencies",
							   Max(2 * nitems, 64), &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return graph;
}

/*
 * Declare a relation to be an item, with a number chosen by the caller.  All
 * items must be added before the first call of depend_items_read().
 *
 * If the relation is an item already, returns its number, else -1.
 */
int
depend_add_item(DependGraph *graph, Oid relid, int item)
{
	DependNode *node = depend_node(graph, RelationRelationId, relid);
	int			before = node->item;

	if (before < 0)
		node->item = item;
	return before;
}

/*
 * Find the items that the query of a relation and a function read, directly
 * or through plain views and other functions.  Either OID may be invalid.
 * *items gets their numbers in ascending order, without duplicates, allocated
 * in the current memory context.
 *
 * The relation itself may be among them, since a plain view can be replaced
 * by one that reads what was built on it.
 *
 * Returns false if the query is beyond DEPEND_MAX_DEPTH or
 * DEPEND_MAX_REFERENCES.
 */
bool
depend_items_read(DependGraph *graph, Oid relid, Oid funcid,
				  int **items, int *nitems)
{
	DependNode *relation = NULL;
	DependNode *function = NULL;
	int			total = 0;

	if (OidIsValid(relid))
	{
		relation = depend_node(graph, RelationRelationId, relid);
		depend_visit(graph, relation);
		total += relation->nitems;
	}
	if (OidIsValid(funcid))
	{
		function = depend_node(graph, ProcedureRelationId, funcid);
		depend_visit(graph, function);
		total += function->nitems;
	}

	*items = palloc(total * sizeof(int) + 1);
	*nitems = 0;
	depend_append(relation, *items, nitems);
	depend_append(function, *items, nitems);
	depend_sort(*items, nitems);
	return relation == NULL ||
		(relation->depth <= DEPEND_MAX_DEPTH &&
		 relation->references <= DEPEND_MAX_REFERENCES);
}

static DependNode *
depend_node(DependGraph *graph, Oid classid, Oid objid)
{
	DependObject object = {classid, objid};
	bool		found;
	DependNode *node = hash_search(graph->nodes, &object, HASH_ENTER, &found);

	if (!found)
	{
		memset(node, 0, sizeof(DependNode));
		node->object = object;
		node->item = -1;
	}
	return node;
}

/*
 * Visit everything below a node, then the node itself, unless that was done.
 *
 * An ERROR leaves some nodes half visited.  The next visit starts over with
 * them.
 */
static void
depend_visit(DependGraph *graph, DependNode *root)
{
	MemoryContext caller = MemoryContextSwitchTo(graph->context);
	int			visit = ++graph->nvisits;
	List	   *path = root->done ? NIL : list_make1(root);
	List	   *open = NIL;		/* visited, but their circles may go on */
	int			nvisited = 0;

	while (path != NIL)
	{
		DependNode *node = llast(path);

		CHECK_FOR_INTERRUPTS();
		if (node->visit != visit)
		{
			depend_find_reads(node);
			node->next = 0;
			node->visit = visit;
			node->number = node->lowest = nvisited++;
			open = lappend(open, node);
		}
		if (node->next < node->nreads)
		{
			DependObject *object = &node->reads[node->next++];
			DependNode *below = depend_node(graph, object->classid,
											object->objid);

			if (below->done || !depend_is_followed(below))
				continue;
			if (below->visit != visit)
				path = lappend(path, below);
			else
				node->lowest = Min(node->lowest, below->number);
			continue;
		}

		depend_measure(graph, node);
		path = list_delete_last(path);
		if (path != NIL)
		{
			DependNode *above = llast(path);

			above->lowest = Min(above->lowest, node->lowest);
		}
		if (node->lowest == node->number)
		{
			List	   *circle = NIL;
			DependNode *member;

			do
			{
				member = llast(open);
				open = list_delete_last(open);
				circle = lappend(circle, member);
			} while (member != node);
			depend_collect(graph, circle);
			list_free(circle);
		}
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Do we follow what this object refers to?
 */
static bool
depend_is_followed(const DependNode *node)
{
	return node->object.classid != RelationRelationId ||
		(node->item < 0 &&
		 get_rel_relkind(node->object.objid) == RELKIND_VIEW);
}

/*
 * Find the objects that a relation's query, a function or an operator refers
 * to, without duplicates, in order of catalog and OID.  Takes no lock on
 * them.
 */
static void
depend_find_reads(DependNode *node)
{
	DependObject depender = node->object;
	Relation	catalog;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	int			size = 8;

	node->nreads = 0;
	if (depender.classid == RelationRelationId)
	{
		HeapTuple	rule = depend_rule(node->object.objid);

		if (!HeapTupleIsValid(rule))
			return;
		depender.classid = RewriteRelationId;
		depender.objid = ((Form_pg_rewrite) GETSTRUCT(rule))->oid;
		ReleaseSysCache(rule);
	}

	node->reads = palloc(size * sizeof(DependObject));
	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(depender.classid));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(depender.objid));
	scan = systable_beginscan(catalog, DependDependerIndexId, true, NULL,
							  2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);
		DependObject object = {depend->refclassid, depend->refobjid};

		/* The rule depends on its own view, too. */
		if ((object.classid != RelationRelationId &&
			 object.classid != ProcedureRelationId &&
			 object.classid != OperatorRelationId) ||
			depend_compare_objects(&object, &node->object) == 0)
			continue;
		if (node->nreads == size)
		{
			size *= 2;
			node->reads = repalloc(node->reads, size * sizeof(DependObject));
		}
		node->reads[node->nreads++] = object;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	/* There is an entry for each column. */
	qsort(node->reads, node->nreads, sizeof(DependObject),
		  depend_compare_objects);
	node->nreads = qunique(node->reads, node->nreads, sizeof(DependObject),
						   depend_compare_objects);
}

/*
 * The rule that holds the query of a view or materialized view, or NULL.
 */
static HeapTuple
depend_rule(Oid relid)
{
	return SearchSysCache2(RULERELNAME, ObjectIdGetDatum(relid),
						   PointerGetDatum(ViewSelectRuleName));
}

/*
 * Measure what the server would expand.  Everything below must be known.
 */
static void
depend_measure(DependGraph *graph, DependNode *node)
{
	bool		views = false;

	node->depth = 0;
	for (int i = 0; i < node->nreads; i++)
	{
		DependNode *below = depend_node(graph, node->reads[i].classid,
										node->reads[i].objid);

		if (!depend_is_expanded(below))
			continue;
		views = true;
		node->depth = Max(node->depth, below->depth + 1);
	}
	node->depth = Min(node->depth, DEPEND_MAX_DEPTH + 1);
	node->references = node->nreads;
	if (views && node->object.classid == RelationRelationId)
		node->references = depend_count(graph, node);
	node->references = Min(node->references, DEPEND_MAX_REFERENCES + 1);
}

/*
 * Is this a plain view, which the server expands in queries that refer to it?
 * (Of the relations that are not items, we visit only plain views.)
 */
static bool
depend_is_expanded(const DependNode *node)
{
	return node->object.classid == RelationRelationId && node->item < 0 &&
		node->visit > 0;
}

/*
 * Count how often a view's query refers to relations, with its plain views
 * expanded.  pg_depend records which views it refers to, but not how often, so
 * we have to read the query.
 */
static int
depend_count(DependGraph *graph, const DependNode *node)
{
	MemoryContext caller = MemoryContextSwitchTo(graph->scratch);
	HeapTuple	rule = depend_rule(node->object.objid);
	DependCounter counter = {0};
	Datum		action;
	bool		isnull;

	counter.graph = graph;
	counter.relid = node->object.objid;
	if (HeapTupleIsValid(rule))
	{
		action = SysCacheGetAttr(RULERELNAME, rule, Anum_pg_rewrite_ev_action,
								 &isnull);
		Assert(!isnull);
		(void) depend_count_walker(stringToNode(TextDatumGetCString(action)),
								   &counter);
		ReleaseSysCache(rule);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(graph->scratch);
	return counter.references;
}

/*
 * Returns true, to end the walk, when there are too many.
 */
static bool
depend_count_walker(Node *node, DependCounter *counter)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		ListCell   *cell;

		foreach(cell, ((Query *) node)->rtable)
		{
			RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);
			DependNode *below;

			/* The rule's own relation is listed as OLD and NEW. */
			if (entry->rtekind != RTE_RELATION ||
				entry->relid == counter->relid)
				continue;
			below = depend_node(counter->graph, RelationRelationId,
								entry->relid);
			counter->references++;
			if (depend_is_expanded(below))
				counter->references += below->references;
			if (counter->references > DEPEND_MAX_REFERENCES)
				return true;
		}
		return query_tree_walker((Query *) node, depend_count_walker,
								 counter, 0);
	}
	return expression_tree_walker(node, depend_count_walker, counter);
}

/*
 * Collect the items that the nodes of a circle read, or a single node.
 * Everything below them must be known.
 *
 * If all of them come from one node below, we share its array, so that a long
 * chain of views above many items costs no memory.
 */
static void
depend_collect(DependGraph *graph, List *circle)
{
	DependNode *last = NULL;
	int			nsources = 0;
	int			total = 0;
	int		   *items = NULL;
	int			nitems = 0;
	ListCell   *cell;

	/* The nodes of the circle have no items yet. */
	foreach(cell, circle)
	{
		DependNode *node = lfirst(cell);

		for (int i = 0; i < node->nreads; i++)
		{
			DependNode *below = depend_node(graph, node->reads[i].classid,
											node->reads[i].objid);

			if (below->item < 0 && below->nitems == 0)
				continue;
			last = below;
			nsources++;
			total += below->item >= 0 ? 1 : below->nitems;
		}
	}

	if (nsources == 1 && last->item < 0)
	{
		items = last->items;
		nitems = last->nitems;
	}
	else if (nsources > 0)
	{
		items = palloc_extended(total * sizeof(int), MCXT_ALLOC_HUGE);
		foreach(cell, circle)
		{
			DependNode *node = lfirst(cell);

			for (int i = 0; i < node->nreads; i++)
			{
				DependNode *below = depend_node(graph,
												node->reads[i].classid,
												node->reads[i].objid);

				if (below->item >= 0)
					items[nitems++] = below->item;
				else
					depend_append(below, items, &nitems);
			}
		}
		depend_sort(items, &nitems);
	}

	foreach(cell, circle)
	{
		DependNode *node = lfirst(cell);

		node->items = items;
		node->nitems = nitems;
		node->done = true;
	}
}

/*
 * Append the items that a node (or NULL) reads to an array.
 */
static void
depend_append(const DependNode *node, int *items, int *nitems)
{
	if (node == NULL || node->nitems == 0)
		return;
	memcpy(items + *nitems, node->items, node->nitems * sizeof(int));
	*nitems += node->nitems;
}

/*
 * Sort items and remove duplicates.
 */
static void
depend_sort(int *items, int *nitems)
{
	qsort(items, *nitems, sizeof(int), depend_compare_ints);
	*nitems = qunique(items, *nitems, sizeof(int), depend_compare_ints);
}

static int
depend_compare_objects(const void *a, const void *b)
{
	const DependObject *left = a;
	const DependObject *right = b;

	if (left->classid != right->classid)
		return left->classid < right->classid ? -1 : 1;
	return left->objid < right->objid ? -1 : left->objid > right->objid;
}

static int
depend_compare_ints(const void *a, const void *b)
{
	int			left = *(const int *) a;
	int			right = *(const int *) b;

	return left < right ? -1 : left > right;
}
