/*-------------------------------------------------------------------------
 *
 * depend.c
 *	  What the queries of views read, by the catalogs.
 *
 * The query of a view or materialized view is its rule "_RETURN", and
 * pg_depend names each relation that this rule refers to.  Plain views are
 * followed to what they read in turn.  Everything else ends the search: what
 * a materialized view that nobody refreshes reads does not matter to those
 * that read its rows.
 *
 * Each plain view is visited once, whatever the number of views above it, and
 * without recursion, so that neither wide nor deep schemas are a danger.
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
#include "catalog/pg_rewrite.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "rewrite/rewriteSupport.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "src/plan/depend.h"

/* How far a relation has been looked at */
typedef enum DependState
{
	DEPEND_NEW,
	DEPEND_IN_PROGRESS,
	DEPEND_DONE
} DependState;

/* A relation */
typedef struct DependNode
{
	Oid			relid;			/* the key; must be first */
	int			item;			/* the caller's number, or -1 */
	DependState state;
	int			nreads;
	Oid		   *reads;			/* what its query refers to */
	int			next;			/* the next of these to look at */
	int			nitems;
	int		   *items;			/* the items among those, and below */
} DependNode;

struct DependGraph
{
	MemoryContext context;
	HTAB	   *nodes;
};

static DependNode *depend_node(DependGraph *graph, Oid relid);
static void depend_visit(DependGraph *graph, DependNode *root);
static void depend_collect(DependGraph *graph, DependNode *node);
static int	depend_compare_oids(const void *a, const void *b);
static int	depend_compare_ints(const void *a, const void *b);

/*
 * The relations that the query of a view or materialized view refers to, each
 * once, in order of their OIDs; none for a relation without a query.
 *
 * The array is allocated in the current memory context.  Takes no lock on any
 * of the relations.
 */
Oid *
depend_direct_reads(Oid relid, int *nreads)
{
	HeapTuple	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(relid),
									   PointerGetDatum(ViewSelectRuleName));
	Relation	catalog;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			ruleid;
	int			size = 8;
	Oid		   *reads;

	*nreads = 0;
	if (!HeapTupleIsValid(rule))
		return NULL;
	ruleid = ((Form_pg_rewrite) GETSTRUCT(rule))->oid;
	ReleaseSysCache(rule);

	reads = palloc(size * sizeof(Oid));
	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RewriteRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ruleid));
	scan = systable_beginscan(catalog, DependDependerIndexId, true, NULL,
							  2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		/* The rule depends on its own view, too. */
		if (depend->refclassid != RelationRelationId ||
			depend->refobjid == relid)
			continue;
		if (*nreads == size)
		{
			size *= 2;
			reads = repalloc(reads, size * sizeof(Oid));
		}
		reads[(*nreads)++] = depend->refobjid;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	/* There is an entry for each column. */
	qsort(reads, *nreads, sizeof(Oid), depend_compare_oids);
	*nreads = qunique(reads, *nreads, sizeof(Oid), depend_compare_oids);
	return reads;
}

/*
 * Make a graph for about so many items, in the current memory context.
 */
DependGraph *
depend_create(int nitems)
{
	DependGraph *graph = palloc(sizeof(DependGraph));
	HASHCTL		control;

	graph->context = CurrentMemoryContext;
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(DependNode);
	control.hcxt = graph->context;
	graph->nodes = hash_create("bigbrotr_refresher dependencies",
							   Max(2 * nitems, 64), &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return graph;
}

/*
 * Name a relation as an item, under a number of the caller's.  All items must
 * be named before the first question.
 *
 * If the relation is an item already, returns that one's number, else -1.
 */
int
depend_add_item(DependGraph *graph, Oid relid, int item)
{
	DependNode *node = depend_node(graph, relid);
	int			before = node->item;

	if (before < 0)
		node->item = item;
	return before;
}

/*
 * The numbers of the items that the query of a relation reads, itself or
 * through plain views, in ascending order and each once.  The array belongs
 * to the graph.
 *
 * A relation may be among them itself: a plain view can be replaced by one
 * that reads what was built on it.
 */
const int  *
depend_items_read(DependGraph *graph, Oid relid, int *nitems)
{
	DependNode *node = depend_node(graph, relid);

	if (node->state == DEPEND_NEW)
		depend_visit(graph, node);
	*nitems = node->nitems;
	return node->items;
}

static DependNode *
depend_node(DependGraph *graph, Oid relid)
{
	bool		found;
	DependNode *node = hash_search(graph->nodes, &relid, HASH_ENTER, &found);

	if (!found)
	{
		node->item = -1;
		node->state = DEPEND_NEW;
		node->nreads = node->next = node->nitems = 0;
		node->reads = NULL;
		node->items = NULL;
	}
	return node;
}

/*
 * Visit a relation, and first of all the plain views below it.
 */
static void
depend_visit(DependGraph *graph, DependNode *root)
{
	MemoryContext caller = MemoryContextSwitchTo(graph->context);
	List	   *path = list_make1(root);

	while (path != NIL)
	{
		DependNode *node = llast(path);

		CHECK_FOR_INTERRUPTS();
		if (node->state == DEPEND_NEW)
		{
			node->reads = depend_direct_reads(node->relid, &node->nreads);
			node->state = DEPEND_IN_PROGRESS;
		}
		if (node->next < node->nreads)
		{
			DependNode *below = depend_node(graph, node->reads[node->next++]);

			if (below->item < 0 && below->state == DEPEND_NEW &&
				get_rel_relkind(below->relid) == RELKIND_VIEW)
				path = lappend(path, below);
		}
		else
		{
			depend_collect(graph, node);
			node->state = DEPEND_DONE;
			path = list_delete_last(path);
		}
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Put together the items that a relation reads, when all below it is known.
 */
static void
depend_collect(DependGraph *graph, DependNode *node)
{
	int			nitems = 0;

	for (int i = 0; i < node->nreads; i++)
	{
		DependNode *below = depend_node(graph, node->reads[i]);

		nitems += below->item >= 0 ? 1 : below->nitems;
	}
	if (nitems == 0)
		return;

	node->items = palloc(nitems * sizeof(int));
	for (int i = 0; i < node->nreads; i++)
	{
		DependNode *below = depend_node(graph, node->reads[i]);

		if (below->item >= 0)
			node->items[node->nitems++] = below->item;
		else if (below->nitems > 0)
		{
			memcpy(node->items + node->nitems, below->items,
				   below->nitems * sizeof(int));
			node->nitems += below->nitems;
		}
	}
	qsort(node->items, node->nitems, sizeof(int), depend_compare_ints);
	node->nitems = qunique(node->items, node->nitems, sizeof(int),
						   depend_compare_ints);
}

static int
depend_compare_oids(const void *a, const void *b)
{
	Oid			left = *(const Oid *) a;
	Oid			right = *(const Oid *) b;

	return left < right ? -1 : left > right;
}

static int
depend_compare_ints(const void *a, const void *b)
{
	int			left = *(const int *) a;
	int			right = *(const int *) b;

	return left < right ? -1 : left > right;
}
