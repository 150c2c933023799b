/*-------------------------------------------------------------------------
 *
 * merge.c
 *	  A refresh that writes only what differs.
 *
 * REFRESH MATERIALIZED VIEW CONCURRENTLY writes the whole result into a
 * temporary table, joins that with the old rows, and deletes and inserts what
 * differs.  This does without the table and the join:
 *
 *	old rows -> hash table (merge_diff.c)
 *							 \
 *	  the view's query, row by row -> deletes, updates, inserts (merge_write.c)
 *
 * What REFRESH does around its query, this does as well: the lock, the owner's
 * rights in a security-restricted operation, the checks.  (See the server's
 * matview.c.)  It asks for no unique index.
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
#include "rewrite/rewriteHandler.h"
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

/* Receives the rows of the query */
typedef struct MergeReceiver
{
	DestReceiver pub;			/* must be first */
	MergeDiff  *diff;
} MergeReceiver;

static bool merge_class_can(Form_pg_class class);
static void merge_check_snapshot(Relation relation, Snapshot snapshot);
static MergeCounts merge_relation(Relation relation, const char *text,
								  uint64 *processed);
static uint64 merge_run_query(Relation relation, const char *text,
							  Snapshot snapshot, MergeDiff *diff);
static PlannedStmt *merge_plan_query(Relation relation, const char *text);
static void merge_receiver_start(DestReceiver *self, int operation,
								 TupleDesc desc);
static bool merge_receive(TupleTableSlot *slot, DestReceiver *self);
static void merge_receiver_end(DestReceiver *self);

/*
 * Can this relation be merged?  What cannot gets the server's own errors, or
 * its own way.
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
 * Execute REFRESH MATERIALIZED VIEW CONCURRENTLY by merging.
 *
 * Raises the errors of REFRESH.  Where a unique index is violated, that is a
 * unique_violation, also for duplicates that the server's own would overlook
 * or report in another way.
 */
void
merge_refresh(RefreshMatViewStmt *statement, const char *text,
			  QueryCompletion *completion, MergeResult *result)
{
	MergeCounts *counts = &result->counts;
	Relation	relation;
	Oid			userid;
	int			sec_context;
	int			guc_level;
	uint64		processed;

	result->relid = RangeVarGetRelidExtended(statement->relation,
											 ExclusiveLock, 0,
											 compat_check_maintains, NULL);
	relation = table_open(result->relid, NoLock);

	/* It may have been altered, or replaced, while this waited for the lock. */
	if (relation->rd_rel->relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is not a materialized view",
						RelationGetRelationName(relation))));
	if (!RelationIsPopulated(relation))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("CONCURRENTLY cannot be used when the materialized view is not populated")));
	if (!merge_class_can(relation->rd_rel))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("materialized view \"%s\" was altered while its refresh waited for it",
						RelationGetRelationName(relation)),
				 errhint("Refresh it again.")));

	/* Before anything of the view is evaluated */
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(relation->rd_rel->relowner,
						   sec_context | SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();
	compat_restrict_search_path();
	CheckTableNotInUse(relation, "REFRESH MATERIALIZED VIEW");

	*counts = merge_relation(relation, text, &processed);
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
 * Merge into a view that is locked, with the owner's rights.  *processed: the
 * rows of the query.
 *
 * One snapshot serves the scan of the old rows, the query and the comparison.
 * It is taken after the lock, so that it sees the last refresh, and is active
 * until all is written, for the rows of the query may point to values that are
 * stored out of line in the tables below.
 */
static MergeCounts
merge_relation(Relation relation, const char *text, uint64 *processed)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "merge",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Snapshot	snapshot;
	MergeDiff  *diff;
	MergeCounts counts;

	CommandCounterIncrement();
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	snapshot = GetActiveSnapshot();
	merge_check_snapshot(relation, snapshot);

	diff = merge_diff_create(relation, merge_shape_create(relation), snapshot,
							 (Size) maintenance_work_mem * 1024);
	merge_diff_read_old(diff);
	*processed = merge_run_query(relation, text, snapshot, diff);
	merge_diff_finish(diff);
	counts = merge_write(relation, diff, snapshot);

	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return counts;
}

/*
 * In a repeatable read or serializable transaction, the snapshot may be older
 * than the last refresh.  Then rows that it does not see would be inserted a
 * second time.
 *
 * A refresh that changes anything writes the view's row in pg_class.  This
 * transaction may have written it since, so all of its versions are looked at:
 * what this transaction has replaced is still there.
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
 * Run the view's query, and have each of its rows compared.  Returns how many
 * there were.
 */
static uint64
merge_run_query(Relation relation, const char *text, Snapshot snapshot,
				MergeDiff *diff)
{
	PlannedStmt *plan = merge_plan_query(relation, text);
	MergeReceiver receiver;
	QueryDesc  *query;
	uint64		processed;

	memset(&receiver, 0, sizeof(receiver));
	receiver.pub.receiveSlot = merge_receive;
	receiver.pub.rStartup = merge_receiver_start;
	receiver.pub.rShutdown = merge_receiver_end;
	receiver.pub.rDestroy = merge_receiver_end;
	receiver.pub.mydest = DestTransientRel;
	receiver.diff = diff;
	query = CreateQueryDesc(plan, text, snapshot, InvalidSnapshot,
							&receiver.pub, NULL, NULL, 0);
	ExecutorStart(query, 0);
	compat_executor_run(query);
	processed = query->estate->es_processed;
	ExecutorFinish(query);
	ExecutorEnd(query);
	FreeQueryDesc(query);
	return processed;
}

static PlannedStmt *
merge_plan_query(Relation relation, const char *text)
{
	RuleLock   *rules = relation->rd_rules;
	Query	   *query;
	List	   *rewritten;

	if (rules == NULL || rules->numLocks != 1 ||
		rules->rules[0]->event != CMD_SELECT ||
		!rules->rules[0]->isInstead ||
		list_length(rules->rules[0]->actions) != 1)
		elog(ERROR, "the rule for materialized view \"%s\" is not a SELECT INSTEAD OF rule",
			 RelationGetRelationName(relation));
	query = copyObject(linitial_node(Query, rules->rules[0]->actions));

	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite result for REFRESH MATERIALIZED VIEW");
	CHECK_FOR_INTERRUPTS();
	return compat_plan_query(linitial_node(Query, rewritten), text);
}

static void
merge_receiver_start(DestReceiver *self, int operation, TupleDesc desc)
{
}

static bool
merge_receive(TupleTableSlot *slot, DestReceiver *self)
{
	merge_diff_add_new(((MergeReceiver *) self)->diff, slot);
	return true;
}

static void
merge_receiver_end(DestReceiver *self)
{
}
