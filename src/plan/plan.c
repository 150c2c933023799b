/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  From the list and the catalogs to a plan: what to refresh after what.
 *
 * Three steps, each linear (but for sorting) in views and dependencies:
 *
 * 1. Turn the specifications into items, and expand wildcards.
 * 2. Find out which other items each item reads.  An item fails if its query
 *	  is too complex or cannot be read.
 * 3. Put the items in order: by stage, then as they are listed, but none
 *	  before what it reads.  The last rule wins: such an item is moved behind
 *	  what it reads, into a later stage if necessary.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "lib/binaryheap.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "src/common/log.h"
#include "src/common/attempt.h"
#include "src/plan/depend.h"
#include "src/plan/plan.h"
#include "src/plan/view_settings.h"

/* Identifies what a name stands for; has no padding */
typedef struct PlanKey
{
	Oid			relid;
	Oid			funcid;			/* only if there is no relation */
	uint64		label;			/* a hash of it, only if there is neither */
} PlanKey;

typedef struct PlanEntry
{
	PlanKey		key;			/* must be first */
	int			item;
} PlanEntry;

/* A plan under construction */
typedef struct PlanBuilder
{
	const ViewList *list;
	Oid			role;
	int			nitems;
	int			maxitems;
	PlanItem   *items;
	HTAB	   *entries;		/* the items by what they stand for */

	/* For plan_order() */
	int		   *nwaits;			/* how many items each still waits for */
	List	  **readers;		/* the items that read each item */
} PlanBuilder;

/* The argument of functions that plan_protect() calls */
typedef struct PlanStep
{
	PlanBuilder *builder;
	PlanItem   *item;
	bool		wildcard;		/* added by a wildcard */
	DependGraph *graph;
	int			index;			/* of the item */
} PlanStep;

static void plan_expand(PlanBuilder *builder);
static void plan_expand_wildcards(PlanBuilder *builder, bool qualified);
static void plan_expand_wildcard(PlanBuilder *builder, const ViewSpec *spec);
static void plan_add(PlanBuilder *builder, const ViewSpec *spec,
					 const char *schema, const char *name);
static PlanKey plan_key(const PlanItem *item);
static void plan_read_settings(void *arg);
static void plan_look_up(void *arg);
static void plan_connect(PlanBuilder *builder);
static void plan_connect_item(void *arg);
static void plan_protect(PlanItem *item, void (*function) (void *),
						 PlanStep *step);
static void plan_fail(PlanItem *item, const ErrorData *error);
static RefreshPlan *plan_order(PlanBuilder *builder);
static int	plan_break_circle(PlanBuilder *builder, int from, int nleft);
static int	plan_awaited(PlanBuilder *builder, int waiting);
static void plan_note_moved(PlanBuilder *builder, PlanItem *item);
static RefreshPlan *plan_arrange(PlanBuilder *builder, const int *order);
static int	plan_compare_listed(const void *a, const void *b);
static int	plan_compare_indexes(const void *a, const void *b);
static int	plan_compare_ready(Datum a, Datum b, void *arg);

/*
 * Make a plan to refresh what a list names.  "role" is the role that will
 * call functions.
 *
 * What cannot be refreshed is in the plan, too, with the reason, which may be
 * an ERROR that was raised while we read the catalogs.  The plan is allocated
 * in the current memory context, and does not point into the list.  Needs a
 * transaction and a snapshot.
 */
RefreshPlan *
plan_make(const ViewList *list, Oid role)
{
	PlanBuilder builder = {0};

	builder.list = list;
	builder.role = role;
	plan_expand(&builder);
	plan_connect(&builder);
	return plan_order(&builder);
}

/*
 * The label that a materialized view has in the plan; NULL if the list does
 * not name it.  *settings is set to what the list sets for it, as in ViewSpec.
 * Cheaper than making the plan.
 */
const char *
plan_label(const ViewList *list, Oid relid, const char **settings)
{
	const char *own_name = get_rel_name(relid);
	Oid			own_namespace = get_rel_namespace(relid);
	const ViewSpec *wildcard = NULL;

	*settings = NULL;
	for (int i = 0; i < list->nspecs; i++)
	{
		const ViewSpec *spec = &list->specs[i];
		const char *schema = spec->schema ?
			target_fold(spec->schema, spec->schema_folds) : NULL;
		Oid			namespace = schema ?
			get_namespace_oid(schema, true) : InvalidOid;
		const char *name;

		if (spec->name == NULL)
		{
			/* One of its schema comes before one of all schemas. */
			if (schema == NULL ? wildcard == NULL :
				namespace == own_namespace &&
				(wildcard == NULL || wildcard->schema == NULL))
				wildcard = spec;
			continue;
		}
		name = target_fold(spec->name, spec->name_folds);
		if (schema == NULL ? RelnameGetRelid(name) == relid :
			OidIsValid(namespace) &&
			get_relname_relid(name, namespace) == relid)
		{
			*settings = spec->settings;
			return target_label(schema, name);
		}
	}
	if (wildcard == NULL || own_name == NULL)
		return NULL;
	*settings = wildcard->settings;
	if (RelnameGetRelid(own_name) == relid)
		return target_label(NULL, own_name);
	return target_label(get_namespace_name(own_namespace), own_name);
}

/*
 * Step 1: turn specifications into items.
 *
 * A wildcard adds what is not named elsewhere.  So we take names first, then
 * the wildcards of one schema, then the one of all schemas.  At the end we
 * restore the order of the list.
 */
static void
plan_expand(PlanBuilder *builder)
{
	HASHCTL		control;

	control.keysize = sizeof(PlanKey);
	control.entrysize = sizeof(PlanEntry);
	control.hcxt = CurrentMemoryContext;
	builder->entries = hash_create("bigbrotr_refresher plan",
								   Max(builder->list->nspecs, 64), &control,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	builder->maxitems = Max(builder->list->nspecs, 16);
	builder->items = palloc(builder->maxitems * sizeof(PlanItem));

	for (int i = 0; i < builder->list->nspecs; i++)
	{
		const ViewSpec *spec = &builder->list->specs[i];

		if (spec->name != NULL)
			plan_add(builder, spec,
					 spec->schema ?
					 target_fold(spec->schema, spec->schema_folds) : NULL,
					 target_fold(spec->name, spec->name_folds));
	}
	plan_expand_wildcards(builder, true);
	plan_expand_wildcards(builder, false);

	qsort(builder->items, builder->nitems, sizeof(PlanItem),
		  plan_compare_listed);
	for (int i = 0; i < builder->nitems; i++)
		builder->items[i].listed = i;
}

static void
plan_expand_wildcards(PlanBuilder *builder, bool qualified)
{
	for (int i = 0; i < builder->list->nspecs; i++)
	{
		const ViewSpec *spec = &builder->list->specs[i];

		if (spec->name == NULL && (spec->schema != NULL) == qualified)
			plan_expand_wildcard(builder, spec);
	}
}

/*
 * Add the materialized views of one schema or of all.
 *
 * If a schema does not exist, we add an item that fails for that reason.  A
 * schema without materialized views is fine.
 */
static void
plan_expand_wildcard(PlanBuilder *builder, const ViewSpec *spec)
{
	Oid			namespace = InvalidOid;
	Relation	catalog;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (spec->schema != NULL)
	{
		char	   *name = target_fold(spec->schema, spec->schema_folds);

		namespace = get_namespace_oid(name, true);
		if (!OidIsValid(namespace))
		{
			plan_add(builder, spec, name, "*");
			return;
		}
	}

	catalog = table_open(RelationRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class class = (Form_pg_class) GETSTRUCT(tuple);
		PlanKey		key = {class->oid, InvalidOid, 0};
		char	   *schema;

		if (class->relkind != RELKIND_MATVIEW ||
			(OidIsValid(namespace) && class->relnamespace != namespace) ||
			hash_search(builder->entries, &key, HASH_FIND, NULL) != NULL)
			continue;

		/* The scan's snapshot may still see a view that is gone. */
		schema = get_namespace_name(class->relnamespace);
		if (schema != NULL &&
			get_relname_relid(NameStr(class->relname),
							  class->relnamespace) == class->oid)
			plan_add(builder, spec, schema, NameStr(class->relname));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/*
 * Add an item, unless another name for the same thing was added before.  Then
 * that item gets a note.
 */
static void
plan_add(PlanBuilder *builder, const ViewSpec *spec, const char *schema,
		 const char *name)
{
	PlanItem	item = {0};
	PlanStep	step = {0};
	ViewSettings own;
	ErrorData  *wrong = NULL;
	PlanKey		key;
	PlanEntry  *entry;
	bool		found = false;

	CHECK_FOR_INTERRUPTS();
	item.target.schema = schema ? pstrdup(schema) : NULL;
	item.target.name = pstrdup(name);
	item.target.wildcard = spec->name == NULL;
	view_settings_read(NULL, &own);
	target_take_settings(&item.target, &own);
	item.spec = spec - builder->list->specs;
	item.stage = spec->stage;
	item.interval = spec->interval;
	item.start_time = spec->start_time;
	item.retry_interval = -1;
	item.label = item.qualified = target_label(schema, name);
	step.builder = builder;
	step.item = &item;
	step.wildcard = spec->name == NULL;
	if (spec->settings != NULL)
	{
		Size		size = view_settings_size(spec->settings);

		item.settings = memcpy(palloc(size), spec->settings, size);
		wrong = attempt_part(plan_read_settings, &step);
	}
	plan_protect(&item, plan_look_up, &step);
	if (wrong != NULL)
		plan_fail(&item, wrong);

	key = plan_key(&item);
	entry = hash_search(builder->entries, &key, HASH_ENTER, &found);
	if (found)
	{
		PlanItem   *first = &builder->items[entry->item];

		if (first->notes[PLAN_NOTE_REPEATED] == NULL)
			first->notes[PLAN_NOTE_REPEATED] =
				log_event("name_repeated", "view", first->label,
						  "also", item.label, NULL);
		return;
	}
	entry->item = builder->nitems;

	if (builder->nitems == builder->maxitems)
	{
		builder->maxitems *= 2;
		builder->items = repalloc_huge(builder->items,
									   builder->maxitems * sizeof(PlanItem));
	}
	builder->items[builder->nitems++] = item;
}

static PlanKey
plan_key(const PlanItem *item)
{
	PlanKey		key = {item->target.relid, InvalidOid, 0};

	if (!OidIsValid(key.relid))
		key.funcid = item->target.funcid;
	if (!OidIsValid(key.relid) && !OidIsValid(key.funcid))
		key.label = hash_bytes_extended((const unsigned char *) item->label,
										strlen(item->label), 0);
	return key;
}

/*
 * Check the settings of an item, and read those that the plan depends on.
 */
static void
plan_read_settings(void *arg)
{
	PlanStep   *step = arg;
	PlanItem   *item = step->item;
	ViewSettings own;

	view_settings_check(item->settings, step->builder->role, &own);
	target_take_settings(&item->target, &own);
	if (view_settings_find(item->settings, "retry_interval") != NULL)
		item->retry_interval = own.retry_interval;
}

/*
 * Look up what an item stands for, and set its label.
 */
static void
plan_look_up(void *arg)
{
	PlanStep   *step = arg;
	PlanItem   *item = step->item;
	RefreshTarget *target = &item->target;

	target_resolve(target, step->builder->role);

	/* A wildcard's view gets the short name if that means the same. */
	if (step->wildcard && !OidIsValid(target->relid))
		item->label = psprintf("%s.*", target_label(NULL, target->schema));
	else if (step->wildcard && RelnameGetRelid(target->name) == target->relid)
		item->label = target_label(NULL, target->name);
	item->qualified = target_qualified_name(target);

	if (target->refused != NULL)
		item->notes[PLAN_NOTE_REFUSED] =
			log_event("function_refused", "view", item->label,
					  "owner", target->refused, NULL);
}

/*
 * Step 2: find out which items read which.
 */
static void
plan_connect(PlanBuilder *builder)
{
	PlanStep	step = {0};

	step.builder = builder;
	step.graph = depend_create(builder->nitems);
	for (int i = 0; i < builder->nitems; i++)
	{
		if (OidIsValid(builder->items[i].target.relid))
			depend_add_item(step.graph, builder->items[i].target.relid, i);
	}

	builder->nwaits = palloc0(builder->nitems * sizeof(int) + 1);
	builder->readers = palloc0(builder->nitems * sizeof(List *) + 1);
	for (int i = 0; i < builder->nitems; i++)
	{
		step.item = &builder->items[i];
		step.index = i;
		plan_protect(step.item, plan_connect_item, &step);
	}
}

static void
plan_connect_item(void *arg)
{
	PlanStep   *step = arg;
	PlanBuilder *builder = step->builder;
	PlanItem   *item = step->item;
	int		   *reads;
	int			nreads;

	if (!depend_items_read(step->graph, item->target.relid,
						   item->target.funcid, &reads, &nreads))
	{
		item->target.too_complex = true;
		target_resolve(&item->target, builder->role);
	}

	item->depends = reads;
	for (int i = 0; i < nreads; i++)
	{
		if (reads[i] == step->index)
			continue;			/* it reads its own old rows */
		builder->readers[reads[i]] = lappend_int(builder->readers[reads[i]],
												 step->index);
		item->depends[item->ndepends++] = reads[i];
	}
	builder->nwaits[step->index] = item->ndepends;
}

/*
 * Call a function for an item.  If that raises an ERROR, it becomes the
 * reason why the item cannot be refreshed.
 */
static void
plan_protect(PlanItem *item, void (*function) (void *), PlanStep *step)
{
	ErrorData  *error = attempt_part(function, step);

	if (error != NULL)
		plan_fail(item, error);
}

static void
plan_fail(PlanItem *item, const ErrorData *error)
{
	item->target.method = REFRESH_METHOD_NONE;
	item->target.sqlerrcode = error->sqlerrcode;
	item->target.message = error->message;
	item->target.detail = error->detail;
	item->target.hint = error->hint;
}

/*
 * Step 3: put the items in order.
 *
 * Among the items that wait for no other, always take the one with the
 * earliest stage, then place.  (This is Kahn's algorithm with a heap.)  An
 * item's stage is final once it waits for no other, and is never before the
 * stages of what it reads, so stages come in order, too.
 */
static RefreshPlan *
plan_order(PlanBuilder *builder)
{
	binaryheap *ready = binaryheap_allocate(Max(builder->nitems, 1),
											plan_compare_ready,
											builder->items);
	int		   *order = palloc(builder->nitems * sizeof(int) + 1);
	int			nordered = 0;
	int			stuck = 0;

	for (int i = 0; i < builder->nitems; i++)
	{
		if (builder->nwaits[i] == 0)
			binaryheap_add_unordered(ready, Int32GetDatum(i));
	}
	binaryheap_build(ready);

	while (nordered < builder->nitems)
	{
		ListCell   *cell;
		int			current;

		CHECK_FOR_INTERRUPTS();
		if (binaryheap_empty(ready))
		{
			while (builder->nwaits[stuck] < 0)
				stuck++;
			binaryheap_add(ready,
						   Int32GetDatum(plan_break_circle(builder, stuck,
														   builder->nitems - nordered)));
		}
		current = DatumGetInt32(binaryheap_remove_first(ready));

		/* Only an item freed from a circle can have an earlier stage. */
		if (nordered > 0)
			builder->items[current].stage =
				Max(builder->items[current].stage,
					builder->items[order[nordered - 1]].stage);
		builder->nwaits[current] = -1;	/* done */
		order[nordered++] = current;
		plan_note_moved(builder, &builder->items[current]);

		foreach(cell, builder->readers[current])
		{
			int			reader = lfirst_int(cell);
			PlanItem   *item = &builder->items[reader];

			if (builder->nwaits[reader] <= 0)
				continue;		/* freed from a circle */
			item->stage = Max(item->stage, builder->items[current].stage);
			if (--builder->nwaits[reader] == 0)
				binaryheap_add(ready, Int32GetDatum(reader));
		}
	}
	return plan_arrange(builder, order);
}

/*
 * Choose an item that need not wait, when all wait for each other.
 *
 * Materialized views cannot be created in a circle, but a plain view between
 * them can be replaced by one that closes it.  Then the item of the circle
 * that is listed first goes first, and reads the old rows of the others.
 * "from" is any item that still waits, and "nleft" is how many do.  Returns
 * the index of the chosen item.
 */
static int
plan_break_circle(PlanBuilder *builder, int from, int nleft)
{
	PlanItem   *item;
	int			chosen;
	int			kept = 0;

	/* After "nleft" steps we are in a circle, wherever we started. */
	for (int i = 0; i < nleft; i++)
		from = plan_awaited(builder, from);
	chosen = from;
	for (int i = plan_awaited(builder, from); i != from;
		 i = plan_awaited(builder, i))
		chosen = Min(chosen, i);

	item = &builder->items[chosen];
	for (int i = 0; i < item->ndepends; i++)
	{
		if (builder->nwaits[item->depends[i]] < 0)
			item->depends[kept++] = item->depends[i];
	}
	item->ndepends = kept;
	builder->nwaits[chosen] = 0;
	item->notes[PLAN_NOTE_CIRCLE] = log_event("circular_dependency",
											  "view", item->label, NULL);
	return chosen;
}

/*
 * The first item that this one still waits for.
 */
static int
plan_awaited(PlanBuilder *builder, int waiting)
{
	PlanItem   *item = &builder->items[waiting];

	for (int i = 0; i < item->ndepends; i++)
	{
		if (builder->nwaits[item->depends[i]] >= 0)
			return item->depends[i];
	}
	elog(ERROR, "view %d waits for nothing", waiting);
	return -1;					/* keep compiler quiet */
}

/*
 * If an item is listed before something that it reads, add a note.
 */
static void
plan_note_moved(PlanBuilder *builder, PlanItem *item)
{
	StringInfoData after;

	initStringInfo(&after);
	for (int i = 0; i < item->ndepends; i++)
	{
		PlanItem   *read = &builder->items[item->depends[i]];

		/* Items of the same wildcard are not listed in any order. */
		if (read->spec > item->spec)
			appendStringInfo(&after, "%s%s", after.len > 0 ? "," : "",
							 read->label);
	}
	if (after.len > 0)
		item->notes[PLAN_NOTE_MOVED] =
			log_event("order_corrected", "view", item->label,
					  "after", after.data, NULL);
	pfree(after.data);
}

/*
 * Build the plan: the items in their new order, and indexes to match.
 */
static RefreshPlan *
plan_arrange(PlanBuilder *builder, const int *order)
{
	RefreshPlan *plan = palloc(sizeof(RefreshPlan));
	int		   *places = palloc(builder->nitems * sizeof(int) + 1);

	plan->nitems = builder->nitems;
	plan->items = palloc_extended(builder->nitems * sizeof(PlanItem) + 1,
								  MCXT_ALLOC_HUGE);
	for (int i = 0; i < plan->nitems; i++)
	{
		plan->items[i] = builder->items[order[i]];
		places[order[i]] = i;
	}
	for (int i = 0; i < plan->nitems; i++)
	{
		PlanItem   *item = &plan->items[i];

		for (int j = 0; j < item->ndepends; j++)
			item->depends[j] = places[item->depends[j]];
		if (item->ndepends > 1)
			qsort(item->depends, item->ndepends, sizeof(int),
				  plan_compare_indexes);
	}
	return plan;
}

/*
 * Compare by place in the list, or by name within one wildcard.
 */
static int
plan_compare_listed(const void *a, const void *b)
{
	const PlanItem *left = a;
	const PlanItem *right = b;
	int			result;

	if (left->spec != right->spec)
		return left->spec < right->spec ? -1 : 1;
	result = strcmp(left->target.schema, right->target.schema);
	if (result == 0)
		result = strcmp(left->target.name, right->target.name);
	return result;
}

static int
plan_compare_indexes(const void *a, const void *b)
{
	int			left = *(const int *) a;
	int			right = *(const int *) b;

	return left < right ? -1 : left > right;
}

/*
 * The heap returns the greatest item first, so the earlier one is the
 * greater.
 */
static int
plan_compare_ready(Datum a, Datum b, void *arg)
{
	const PlanItem *left = (const PlanItem *) arg + DatumGetInt32(a);
	const PlanItem *right = (const PlanItem *) arg + DatumGetInt32(b);

	if (left->stage != right->stage)
		return left->stage < right->stage ? 1 : -1;
	if (left->listed != right->listed)
		return left->listed < right->listed ? 1 : -1;
	return 0;
}
