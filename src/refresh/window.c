/*-------------------------------------------------------------------------
 *
 * window.c
 *	  Tables that a function fills window by window: each row once.
 *
 * A function "<table>_refresh(after, until)" folds the rows of its sources
 * that belong to this window into its table.  The end of the last window is
 * the table's checkpoint: a row of the table "windows", written in the
 * transaction of the window.  So whatever happens, a row was folded if and
 * only if the checkpoint says so.
 *
 * The rows of a window must be complete when it is folded, since later ones
 * would be missed:
 *
 * - By transaction: rows say which transaction wrote them, and a window is
 *	 [after, until).  All transactions below the xmin of a snapshot are over, so
 *	 that is "until".  This is exact, whatever clocks say.
 * - By time: rows say when they were made, and a window is (after, until].
 *	 Rows are stamped no earlier than window_delay before their transaction
 *	 began, so "until" lies that much before the start of all running
 *	 transactions (see window_look.c).
 *
 * The order is the same for both: lock the checkpoint, read it, choose
 * "until", and take a new snapshot for the fold, which sees all transactions
 * that were over by then.  The lock makes sessions take turns.  This is not
 * possible in a transaction whose snapshot is older than the lock.
 *
 * Transaction IDs mean nothing in another cluster.  A checkpoint says which
 * transaction wrote it, and its row has the same ID in its xmin, unless
 * somebody restored it from a dump.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "src/common/settings.h"
#include "src/refresh/checkpoint.h"
#include "src/refresh/elsewhere.h"
#include "src/refresh/window.h"
#include "src/refresh/window_look.h"

/*
 * Minimum size of a window by transaction.  Folding takes some transactions
 * itself, so a backlog could grow if windows were smaller.
 */
#define WINDOW_LEAST_TRANSACTIONS	100

#define WINDOW_HINT \
	"Say where the last window ended, by " REFRESHER_NAME ".set_window()."

/* Seconds from the Unix epoch to that of PostgreSQL */
#define WINDOW_EPOCH \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/* Reads how many rows a function has changed */
typedef struct WindowReceiver
{
	DestReceiver base;
	WindowResult *result;
} WindowReceiver;

static void window_refuse_old_snapshot(void);
static void window_lock(const RefreshTarget *target, const char *name,
						Checkpoint *checkpoint);
static void window_refuse_rows(const RefreshTarget *target);
static void window_check(const RefreshTarget *target,
						 const Checkpoint *checkpoint);
static bool window_is_empty(Oid relid);
static int64 window_limit(const RefreshTarget *target, WindowLook *look,
						  bool own);
static int64 window_limit_by_time(const RefreshTarget *target,
								  TimestampTz safe);
static int64 window_end(const RefreshTarget *target, int64 after,
						int64 limit);
static int64 window_beginning(Oid type);
static FullTransactionId window_xmin(void);
static TimestampTz window_time(Oid type, int64 bound);
static Const *window_constant(Oid type, int64 bound);
static bool window_receive(TupleTableSlot *slot, DestReceiver *self);
static void window_receive_start(DestReceiver *self, int operation,
								 TupleDesc desc);
static void window_receive_end(DestReceiver *self);

/*
 * Open the next window of a target: write its checkpoint, in the current
 * transaction, and return the arguments for its function, which must be
 * called with a snapshot that is taken after this.  Returns NIL if there is
 * nothing to fold.
 *
 * The checkpoint stays locked until the end of the transaction.  Raises an
 * ERROR if there is none and the table has rows.
 */
List *
window_open(const RefreshTarget *target, WindowResult *result)
{
	Oid			type = target->window_type;
	const char *name = target_qualified_name(target);
	Checkpoint	checkpoint;
	TimestampTz now;
	int64		after;
	int64		limit;

	memset(result, 0, sizeof(WindowResult));
	window_refuse_old_snapshot();
	window_lock(target, name, &checkpoint);
	now = GetCurrentTimestamp();
	after = checkpoint.until;
	limit = window_limit(target, &checkpoint.look, true);
	checkpoint.until = window_end(target, after, limit);

	/*
	 * What we know about prepared transactions must be kept, or the next look
	 * would take those that it sees for the ones that this look has seen.
	 */
	if (checkpoint.until > after || checkpoint.look.nprepared > 0)
		checkpoint_write(name, &checkpoint);

	result->used = true;
	result->empty = checkpoint.until == after;
	result->end = checkpoint.until;
	result->limit = limit;
	checkpoint_print(type, after, result->after);
	checkpoint_print(type, checkpoint.until, result->until);
	if (type != XID8OID)
		result->as_of = window_time(type, checkpoint.until);
	else if (checkpoint.until == limit)
		result->as_of = now;
	if (result->empty)
		return NIL;
	return list_make2(window_constant(type, after),
					  window_constant(type, checkpoint.until));
}

/*
 * Find out what the next window of a target would be, if it were folded now.
 * Returns false if there is no checkpoint.  Needs a snapshot.
 *
 * We do not look whether a target without a checkpoint is empty, since that
 * might wait for a lock.  It is not if its last attempt has "failed".
 */
bool
window_preview(const RefreshTarget *target, bool failed,
			   WindowPreview *preview)
{
	Oid			type = target->window_type;
	Checkpoint	checkpoint;
	int64		limit;

	memset(preview, 0, sizeof(WindowPreview));
	if (!checkpoint_read(target_qualified_name(target), &checkpoint))
	{
		if (failed)
			preview->advice = "No checkpoint of it was found. " WINDOW_HINT;
		return false;
	}
	if (checkpoint.type != type)
	{
		preview->advice = "Its checkpoint is of another type than its function takes. " WINDOW_HINT;
		return false;
	}
	if (type == XID8OID && checkpoint.foreign)
		preview->advice = "Its checkpoint was not written by this server. " WINDOW_HINT;

	limit = Max(window_limit(target, &checkpoint.look, false),
				checkpoint.until);
	checkpoint_print(type, checkpoint.until, preview->after);
	checkpoint_print(type, window_end(target, checkpoint.until, limit),
					 preview->until);
	preview->backlog = -1;
	if (checkpoint.until > window_beginning(type) || type == XID8OID)
		preview->backlog = limit - checkpoint.until;
	if (preview->backlog > 0 && type == TIMESTAMPTZOID)
		preview->backlog /= USECS_PER_SEC;
	preview->held = checkpoint.look.held;
	preview->pid = checkpoint.look.pid;
	preview->since = checkpoint.look.since;
	return true;
}

/*
 * Set the checkpoint of a target by hand, in the current transaction.
 */
void
window_set(const RefreshTarget *target, const char *until)
{
	Oid			type = target->window_type;
	Checkpoint	checkpoint = {0};
	int64		most;
	char		limit[CHECKPOINT_TEXT_SIZE];

	if (type == XID8OID)
		most = (int64) U64FromFullTransactionId(window_xmin());
	else if (type == INT8OID)
		most = GetCurrentTimestamp() / USECS_PER_SEC + WINDOW_EPOCH;
	else
		most = GetCurrentTimestamp();
	checkpoint.type = type;
	checkpoint.until = checkpoint_parse(type, until);
	checkpoint.look.unseen = DT_NOBEGIN;

	/* Transaction IDs are unsigned. */
	checkpoint_print(type, most, limit);
	if (checkpoint.until > most || (type == XID8OID && checkpoint.until < 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the last window cannot have ended in the future"),
				 type == XID8OID ?
				 errdetail("The oldest transaction that is not over is %s.",
						   limit) :
				 errdetail("Now is %s.", limit)));
	checkpoint_write(target_qualified_name(target), &checkpoint);
}

/*
 * If the whole transaction has one snapshot, it may be older than the
 * checkpoint.
 */
static void
window_refuse_old_snapshot(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a window cannot be folded in a repeatable read or serializable transaction"),
				 errhint("Use the isolation level \"read committed\".")));
}

/*
 * Lock and read the checkpoint of a target; create one if there is none.
 */
static void
window_lock(const RefreshTarget *target, const char *name,
			Checkpoint *checkpoint)
{
	if (checkpoint_lock(name, checkpoint))
	{
		window_check(target, checkpoint);
		return;
	}
	window_refuse_rows(target);
	checkpoint->type = target->window_type;
	checkpoint->until = window_beginning(target->window_type);
	if (checkpoint_create(name, checkpoint))
		return;

	/* Another session was faster. */
	if (!checkpoint_lock(name, checkpoint))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the checkpoint of %s was not written",
						target_display(name))));
	window_check(target, checkpoint);
}

/*
 * Without a checkpoint, the first window starts at the beginning, so raise an
 * ERROR if anything may have been folded already.
 */
static void
window_refuse_rows(const RefreshTarget *target)
{
	if ((target->relkind == RELKIND_RELATION ||
		 target->relkind == RELKIND_PARTITIONED_TABLE) &&
		window_is_empty(target->relid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there is no checkpoint of %s",
					target_display(target_qualified_name(target))),
			 OidIsValid(target->relid) ?
			 errdetail("It is not known to be empty, so windows may have been folded into it before.") :
			 errdetail("There is no table of this name, so nobody knows whether windows were folded before."),
			 errhint(WINDOW_HINT)));
}

static void
window_check(const RefreshTarget *target, const Checkpoint *checkpoint)
{
	const char *name = target_display(target_qualified_name(target));
	const char *kind = checkpoint_kind(target->window_type);

	if (checkpoint->type != target->window_type)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the checkpoint of %s is of type %s, but its refresh function takes %s",
						name, checkpoint_kind(checkpoint->type), kind),
				 errhint(WINDOW_HINT)));
	if (checkpoint->type == XID8OID && checkpoint->foreign)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the checkpoint of %s was not written by this server",
						name),
				 errdetail("It was restored from a dump or changed by hand. Transaction numbers mean nothing in another cluster."),
				 errhint(WINDOW_HINT)));
}

/*
 * Is a table, with all of its partitions and children, certainly empty?  No
 * user-defined code is run to find out.
 */
static bool
window_is_empty(Oid relid)
{
	List	   *relids;
	bool		empty;
	ListCell   *cell;

	/* The next call locks only the children. */
	LockRelationOid(relid, AccessShareLock);
	relids = find_all_inheritors(relid, AccessShareLock, NULL);
	empty = list_length(relids) == 1 ||
		get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ||
		!OidIsValid(elsewhere_watcher());

	foreach(cell, relids)
	{
		Relation	relation;
		NameData	trigger;

		if (!empty)
			break;
		relation = table_open(lfirst_oid(cell), NoLock);
		if (OidIsValid(elsewhere_extension(RelationGetNamespace(relation))) ||
			OidIsValid(elsewhere_trigger(RelationGetRelid(relation), &trigger)))
			empty = false;		/* its own file says nothing */
		else if (relation->rd_rel->relkind == RELKIND_RELATION)
		{
			Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
			TupleTableSlot *slot = table_slot_create(relation, NULL);
			TableScanDesc scan = table_beginscan_strat(relation, snapshot, 0,
													   NULL, true, false);

			empty = !table_scan_getnextslot(scan, ForwardScanDirection, slot);
			table_endscan(scan);
			ExecDropSingleTupleTableSlot(slot);
			UnregisterSnapshot(snapshot);
		}
		else if (relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
			empty = false;		/* we cannot know */
		table_close(relation, NoLock);
	}
	return empty;
}

/*
 * How far windows may reach now.  "look" is what the last look saw, and is
 * set to what this one sees.
 */
static int64
window_limit(const RefreshTarget *target, WindowLook *look, bool own)
{
	WindowLook	last = *look;
	int64		limit;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (target->window_type != XID8OID)
	{
		window_look(&last, own, look);
		limit = window_limit_by_time(target, look->safe);
	}
	else
	{
		FullTransactionId xmin = window_xmin();

		memset(look, 0, sizeof(WindowLook));
		if (!own && FullTransactionIdPrecedes(xmin,
											  ReadNextFullTransactionId()))
			window_look_for_xid(XidFromFullTransactionId(xmin), look);
		limit = (int64) U64FromFullTransactionId(xmin);
	}
	PopActiveSnapshot();
	return limit;
}

/*
 * The bound up to which no row can be stamped any more, if no running
 * transaction began before "safe".
 */
static int64
window_limit_by_time(const RefreshTarget *target, TimestampTz safe)
{
	TimestampTz first;
	int64		second;

	if (TIMESTAMP_IS_NOBEGIN(safe))
		return PG_INT64_MIN;
	first = safe - target->window_delay * USECS_PER_SEC;
	if (target->window_type == TIMESTAMPTZOID)
		return first - 1;
	second = first / USECS_PER_SEC;
	if (second * USECS_PER_SEC > first)
		second--;				/* before the year 2000 */
	return second + WINDOW_EPOCH - 1;
}

/*
 * Where a window that starts at "after" ends, if it may reach to "limit".
 * One that starts at the beginning is not cut, since we do not know where
 * rows begin.
 */
static int64
window_end(const RefreshTarget *target, int64 after, int64 limit)
{
	Oid			type = target->window_type;
	int64		most = target->max_window;

	if (type == TIMESTAMPTZOID)
		most *= USECS_PER_SEC;
	else if (type == XID8OID && most > 0)
		most = Max(most, WINDOW_LEAST_TRANSACTIONS);
	if (limit <= after)
		return after;
	if (most == 0 || after <= window_beginning(type))
		return limit;
	return Min(limit, after + most);
}

/*
 * Where the first window starts.
 */
static int64
window_beginning(Oid type)
{
	return type == TIMESTAMPTZOID ? DT_NOBEGIN : 0;
}

/*
 * All transactions before this are over, and every new snapshot sees their
 * results.
 */
static FullTransactionId
window_xmin(void)
{
	return checkpoint_full_xid(GetLatestSnapshot()->xmin);
}

/*
 * A bound as a time; 0 if it is not a finite time.
 */
static TimestampTz
window_time(Oid type, int64 bound)
{
	if (type == TIMESTAMPTZOID)
		return TIMESTAMP_NOT_FINITE(bound) ? 0 : bound;
	bound -= WINDOW_EPOCH;
	if (bound <= MIN_TIMESTAMP / USECS_PER_SEC ||
		bound >= END_TIMESTAMP / USECS_PER_SEC)
		return 0;
	return bound * USECS_PER_SEC;
}

static Const *
window_constant(Oid type, int64 bound)
{
	Datum		value = Int64GetDatum(bound);

	if (type == XID8OID)
		value = FullTransactionIdGetDatum(FullTransactionIdFromU64(bound));
	return makeConst(type, -1, InvalidOid, 8, value, false, FLOAT8PASSBYVAL);
}

/*
 * Make a receiver for the rows that the function returns: they may say how
 * many rows it has changed.
 */
DestReceiver *
window_receiver(WindowResult *result)
{
	WindowReceiver *receiver = palloc0(sizeof(WindowReceiver));

	receiver->base.receiveSlot = window_receive;
	receiver->base.rStartup = window_receive_start;
	receiver->base.rShutdown = window_receive_end;
	receiver->base.rDestroy = window_receive_end;
	receiver->base.mydest = DestNone;
	receiver->result = result;
	return &receiver->base;
}

static bool
window_receive(TupleTableSlot *slot, DestReceiver *self)
{
	WindowResult *result = ((WindowReceiver *) self)->result;
	Oid			type = TupleDescAttr(slot->tts_tupleDescriptor, 0)->atttypid;
	bool		isnull;
	Datum		value = slot_getattr(slot, 1, &isnull);

	if (type != INT2OID && type != INT4OID && type != INT8OID)
		return true;
	result->counted = true;
	if (isnull)
		return true;
	result->rows += type == INT2OID ? DatumGetInt16(value) :
		type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
	return true;
}

static void
window_receive_start(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
window_receive_end(DestReceiver *self)
{
}
