/*-------------------------------------------------------------------------
 *
 * merge.c
 *	  A refresh that writes only what differs.
 *
 * REFRESH MATERIALIZED VIEW CONCURRENTLY writes the whole result into a
 * temporary table, joins that with the old rows, and deletes and inserts what
 * differs.  We do without the table and the join:
 *
 *	old rows -> hash table (merge_diff.c)
 *							 \
 *	  the view's query, row by row -> deletes, updates, inserts (merge_write.c)
 *
 * Around the query, we do what REFRESH does: the lock, the owner's rights in
 * a security-restricted operation, the checks.  (See the server's matview.c.)
 * We do not require a unique index.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/matview.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "src/common/compat.h"
#include "src/plan/target.h"
#include "src/refresh/merge.h"
#include "src/refresh/merge_query.h"
#include "src/refresh/part.h"

/* Where the old rows come from */
typedef struct MergeSource
{
	Relation	relation;
	Snapshot	snapshot;
	const char *text;
	const Condition *condition; /* NULL: all rows */

	/* While we read the rows for which the condition holds */
	MergeDiff  *diff;
	TupleTableSlot *slot;
	bool		fits;
} MergeSource;

static bool merge_class_can(Form_pg_class class);
static Relation merge_open(RangeVar *name, bool part);
static void merge_check_snapshot(Relation relation, Snapshot snapshot);
static MergeCounts merge_relation(Relation relation, const char *condition,
								  const char *text, uint64 *processed);
static bool merge_scan_view(MergeDiff *diff, void *arg);
static bool merge_scan_part(MergeDiff *diff, void *arg);
static bool merge_add_old(TupleTableSlot *row, void *arg);
static bool merge_add_new(TupleTableSlot *slot, void *arg);

/*
 * Can this relation be merged?  If not, the server refreshes it, or raises
 * its own errors.
 */
bool
merge_can(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		can;

	if (!HeapTupleIsValid(tuple))
		return false;
	can = merge_class_can((Form_pg_class) GETSTRUCT(tuple)) &&
		target_merges_are_safe();
	ReleaseSysCache(tuple);
	return can;
}

static bool
merge_class_can(Form_pg_class class)
{
	return class->relkind == RELKIND_MATVIEW && class->relispopulated &&
		class->relam == HEAP_TABLE_AM_OID && class->relhasrules;
}

/*
 * Execute REFRESH MATERIALIZED VIEW CONCURRENTLY by merging, or refresh only the
 * rows for which a condition holds.
 *
 * Raises the errors of REFRESH.  If a unique index is violated, the error is
 * a unique_violation, also for duplicates that the server's own command would
 * overlook or report in another way.
 */
void
merge_refresh(RefreshMatViewStmt *statement, const char *condition,
			  const char *text, QueryCompletion *completion,
			  MergeResult *result)
{
	MergeCounts *counts = &result->counts;
	Relation	relation = merge_open(statement->relation, condition != NULL);
	Oid			userid;
	int			sec_context;
	int			guc_level;
	uint64		processed;

	result->relid = RelationGetRelid(relation);

	/* Become the owner before anything of the view is evaluated */
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(relation->rd_rel->relowner,
						   sec_context | SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();
	compat_restrict_search_path();
	CheckTableNotInUse(relation, "REFRESH MATERIALIZED VIEW");

	*counts = merge_relation(relation, condition, text, &processed);
	if (merge_sum(counts) > 0)
		SetMatViewPopulatedState(relation, true);
	CommandCounterIncrement();

	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(userid, sec_context);
	table_close(relation, NoLock);
	if (completion != NULL)
		SetQueryCompletion(completion, CMDTAG_REFRESH_MATERIALIZED_VIEW,
						   processed);
}

/*
 * Open the view and lock it until the end of the transaction.
 *
 * Only the owner and members of that role may refresh a part of it, since the
 * condition is evaluated with the owner's rights.
 */
static Relation
merge_open(RangeVar *name, bool part)
{
	Oid			relid = RangeVarGetRelidExtended(name, ExclusiveLock, 0,
												 part ?
												 RangeVarCallbackOwnsRelation :
												 compat_check_maintains,
												 NULL);
	Relation	relation = table_open(relid, NoLock);

	/* It may have been altered or replaced while we waited for the lock. */
	if (relation->rd_rel->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is not a materialized view",
						RelationGetRelationName(relation))));
	if (!RelationIsPopulated(relation) && !part)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("CONCURRENTLY cannot be used when the materialized view is not populated")));
	if (!merge_class_can(relation->rd_rel))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("materialized view \"%s\" was altered while its refresh waited for it",
						RelationGetRelationName(relation)),
				 errhint("Refresh it again.")));
	return relation;
}

/*
 * Merge into a view that is locked, as its owner.  *processed is set to the
 * number of rows of the query.
 *
 * One snapshot serves the scan of the old rows, the query and the comparison.
 * It is taken after the lock, so that it sees the last refresh, and stays
 * active until everything is written, since rows of the query may point to
 * values that are stored out of line in the tables that it reads.
 */
static MergeCounts
merge_relation(Relation relation, const char *condition, const char *text,
			   uint64 *processed)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "merge",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	MergeSource source = {0};
	MergeShape *shape;
	Query	   *query;
	MergeDiff  *diff;
	MergeCounts counts;

	CommandCounterIncrement();
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	source.relation = relation;
	source.snapshot = GetActiveSnapshot();
	source.text = text;

	merge_check_snapshot(relation, source.snapshot);

	if (condition != NULL)
		source.condition = condition_read(relation, condition);
	shape = source.condition != NULL ? source.condition->shape :
		merge_shape_create(relation, NULL);
	query = merge_query_read(relation);
	if (source.condition != NULL)
		query = part_of_query(relation, query, source.condition);

	diff = merge_diff_create(relation, shape, source.snapshot,
							 (Size) maintenance_work_mem * 1024);
	merge_diff_read_old(diff,
						source.condition != NULL ? merge_scan_part :
						merge_scan_view, &source);
	*processed = merge_query_run(query, text, source.snapshot, merge_add_new,
								 diff);
	merge_diff_finish(diff);
	counts = merge_write(relation, diff, source.snapshot);

	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return counts;
}

/*
 * Raise an ERROR if the snapshot is older than the last refresh, as it may be
 * in a repeatable read or serializable transaction.  Otherwise rows that it
 * does not see would be inserted a second time.
 *
 * A refresh that changes anything writes the view's row in pg_class.  This
 * transaction may have written it since, so we look at all versions of the
 * row: those that this transaction has replaced are still there.
 */
static void
merge_check_snapshot(Relation relation, Snapshot snapshot)
{
	Relation	catalog;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!IsolationUsesXactSnapshot())
		return;
	catalog = table_open(RelationRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(relation)));
	scan = systable_beginscan(catalog, ClassOidIndexId, true, SnapshotAny,
							  1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

		if (TransactionIdIsNormal(xmin) &&
			!TransactionIdIsCurrentTransactionId(xmin) &&
			XidInMVCCSnapshot(xmin, snapshot) &&
			TransactionIdDidCommit(xmin))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("Materialized view \"%s\" was refreshed or altered after this transaction began.",
							   RelationGetRelationName(relation))));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/*
 * Read the old rows of the whole view.
 */
static bool
merge_scan_view(MergeDiff *diff, void *arg)
{
	const MergeSource *source = arg;
	TableScanDesc scan = table_beginscan_strat(source->relation,
											   source->snapshot, 0, NULL,
											   true, false);
	TupleTableSlot *slot = table_slot_create(source->relation, NULL);
	bool		fits = true;

	while (fits && table_scan_getnextslot(scan, ForwardScanDirection, slot))
		fits = merge_diff_add_old(diff, slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return fits;
}

/*
 * Read those for which the condition holds, by an index if there is one for
 * it.
 */
static bool
merge_scan_part(MergeDiff *diff, void *arg)
{
	MergeSource *source = arg;

	source->diff = diff;
	source->fits = true;
	source->slot = table_slot_create(source->relation, NULL);
	(void) merge_query_run(part_of_view(source->relation, source->condition),
						   source->text, source->snapshot, merge_add_old,
						   source);
	ExecDropSingleTupleTableSlot(source->slot);
	return source->fits;
}

/*
 * "row" has only the TID.
 */
static bool
merge_add_old(TupleTableSlot *row, void *arg)
{
	MergeSource *source = arg;
	bool		isnull;
	Datum		tid = slot_getattr(row, 1, &isnull);

	if (!table_tuple_fetch_row_version(source->relation,
									   (ItemPointer) DatumGetPointer(tid),
									   source->snapshot, source->slot))
		elog(ERROR, "row of relation \"%s\" has disappeared",
			 RelationGetRelationName(source->relation));
	source->fits = merge_diff_add_old(source->diff, source->slot);
	return source->fits;
}

static bool
merge_add_new(TupleTableSlot *slot, void *arg)
{
	merge_diff_add_new((MergeDiff *) arg, slot);
	return true;
}
