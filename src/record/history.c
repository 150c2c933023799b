/*-------------------------------------------------------------------------
 *
 * history.c
 *	  The table of past refreshes: write, prune, read the last.
 *
 * A row is written in the transaction of the refresh that it tells of, so
 * that the two are committed together or not at all.
 *
 * The table is the extension's; without the extension nothing is kept.  All
 * is done as the owner of the table, in a security-restricted context: so the
 * worker's role needs no rights there, nobody else gets any, and a trigger or
 * rule that the owner adds runs with the owner's rights, never the worker's.
 * A table of that name that does not belong to the extension is not touched.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "src/record/history.h"
#include "src/common/log.h"
#include "src/common/settings.h"

#define HISTORY_TABLE	"history"
#define HISTORY_COLS	17

/* Rows that one transaction prunes at most */
#define HISTORY_BATCH	1000

/* The statements, and their plans once they were used */
typedef enum HistoryStatement
{
	HISTORY_INSERT,
	HISTORY_READ_LAST,
	HISTORY_PRUNE
} HistoryStatement;

static const char *const history_sql[] = {
	[HISTORY_INSERT] =
	"INSERT INTO bigbrotr_refresher.history"
	" (view, cycle_start, schedule_start, started_at, duration, outcome,"
	" method, sqlstate, error, failures, wal_bytes, shared_blks_hit,"
	" shared_blks_read, temp_blks_read, temp_blks_written, data_as_of,"
	" change_mark)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,"
	" $15, $16, $17)",

	[HISTORY_READ_LAST] =
	"SELECT l.failures, l.data_as_of, c.cycle_start, c.schedule_start,"
	" (SELECT r.duration FROM bigbrotr_refresher.history AS r"
	" WHERE r.view OPERATOR(pg_catalog.=) $1"
	" AND r.outcome OPERATOR(pg_catalog.=) 'refreshed'"
	" ORDER BY r.id DESC LIMIT 1), l.change_mark"
	" FROM (SELECT h.failures, h.data_as_of, h.change_mark"
	" FROM bigbrotr_refresher.history AS h"
	" WHERE h.view OPERATOR(pg_catalog.=) $1 ORDER BY h.id DESC LIMIT 1) AS l"
	" LEFT JOIN LATERAL (SELECT h.cycle_start, h.schedule_start"
	" FROM bigbrotr_refresher.history AS h"
	" WHERE h.view OPERATOR(pg_catalog.=) $1 AND h.cycle_start IS NOT NULL"
	" ORDER BY h.id DESC LIMIT 1) AS c ON true",

	/* The newest row of each view stays, and the newest of a success. */
	[HISTORY_PRUNE] =
	"WITH keep AS MATERIALIZED ("
	"SELECT pg_catalog.max(h.id) AS id FROM bigbrotr_refresher.history AS h"
	" GROUP BY h.view"
	" UNION ALL"
	" SELECT pg_catalog.max(h.id) FROM bigbrotr_refresher.history AS h"
	" WHERE h.outcome OPERATOR(pg_catalog.=) 'refreshed' GROUP BY h.view)"
	" DELETE FROM bigbrotr_refresher.history WHERE ctid OPERATOR(pg_catalog.=)"
	" ANY (ARRAY(SELECT h.ctid FROM bigbrotr_refresher.history AS h"
	" WHERE h.started_at OPERATOR(pg_catalog.<) $1"
	" AND NOT EXISTS (SELECT FROM keep AS k"
	" WHERE k.id OPERATOR(pg_catalog.=) h.id)"
	" LIMIT $2))",
};

static SPIPlanPtr history_plans[lengthof(history_sql)];

/* The table that is known to be the extension's */
static Oid	history_relid = InvalidOid;

/* What is to be put back after something was done as the table's owner */
typedef struct HistoryCaller
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} HistoryCaller;

/* Something to be done with the table: its arguments and its results */
typedef struct HistoryCall
{
	void		(*action) (struct HistoryCall *call);
	const char *label;
	const RefreshResult *result;
	ViewState  *state;
	bool		found;
} HistoryCall;

static bool history_there(void);
static bool history_protect(HistoryCall *call);
static void history_insert(HistoryCall *call);
static void history_select(HistoryCall *call);
static void history_refuse_deferred(void);
static void history_enter(HistoryCaller *caller);
static void history_leave(const HistoryCaller *caller);
static Oid	history_owner(void);
static SPIPlanPtr history_plan(HistoryStatement statement, int nargs,
							   Oid *types);
static void history_set_text(Datum *values, char *nulls, int col,
							 const char *value);
static void history_set_time(Datum *values, char *nulls, int col,
							 TimestampTz value);
static Datum history_interval(int64 microseconds);
static TimestampTz history_get_time(int col);

/*
 * Is there a table to keep history in?  Needs a transaction.
 */
bool
history_installed(void)
{
	Oid			namespace = get_namespace_oid(REFRESHER_NAME, true);
	Oid			extension = get_extension_oid(REFRESHER_NAME, true);
	Oid			relid = InvalidOid;

	if (OidIsValid(namespace))
		relid = get_relname_relid(HISTORY_TABLE, namespace);
	history_relid = InvalidOid;
	if (!OidIsValid(relid) || !OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		return false;
	history_relid = relid;
	return true;
}

/*
 * The same for each row: a table that is known to be the extension's is not
 * asked again whose it is.
 */
static bool
history_there(void)
{
	Oid			namespace = get_namespace_oid(REFRESHER_NAME, true);

	if (!OidIsValid(namespace))
		return false;
	return (OidIsValid(history_relid) &&
			get_relname_relid(HISTORY_TABLE, namespace) == history_relid) ||
		history_installed();
}

/*
 * Write the row of an attempt, with the state that it leaves the view in, in
 * the current transaction.
 *
 * Trouble with the table must not undo a refresh: then a WARNING says that the
 * row is lost, and the transaction goes on without it.  Does nothing if there
 * is no table.
 */
void
history_write(const char *label, const ViewState *state,
			  const RefreshResult *result)
{
	ViewState	copy = *state;
	HistoryCall call = {0};

	call.action = history_insert;
	call.label = label;
	call.state = &copy;
	call.result = result;
	if (history_there())
		history_protect(&call);
}

/*
 * Read the last state of a view; false if nothing is known of it, or if there is
 * trouble with the table, as a WARNING then says.  Needs a transaction.
 */
bool
history_read_last(const char *label, ViewState *state)
{
	HistoryCall call = {0};

	memset(state, 0, sizeof(ViewState));
	call.action = history_select;
	call.label = label;
	call.state = state;
	return history_there() && history_protect(&call) && call.found;
}

/*
 * Do something with the table in a subtransaction; false if that failed, which
 * is reported.
 */
static bool
history_protect(HistoryCall *call)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		call->action(call);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg_internal("%s", log_event("history_failed",
												 "view", call->label,
												 "error", error->message ?
												 error->message : "", NULL)),
				 errhint("The view is refreshed all the same, but \"" REFRESHER_NAME "." HISTORY_TABLE "\" is not complete.")));
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return done;
}

static void
history_insert(HistoryCall *call)
{
	static Oid	types[HISTORY_COLS] = {
		TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID,
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID, INT8OID,
		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID
	};
	const ViewState *state = call->state;
	const RefreshResult *result = call->result;
	const RefreshUsage *usage = &result->usage;
	const ErrorData *error = result->error;
	HistoryCaller caller;
	Datum		values[HISTORY_COLS];
	char		nulls[HISTORY_COLS];
	int			col = 0;

	memset(nulls, ' ', sizeof(nulls));
	history_set_text(values, nulls, col++, call->label);
	history_set_time(values, nulls, col++, state->cycle_start);
	history_set_time(values, nulls, col++, state->schedule_start);
	history_set_time(values, nulls, col++, result->started_at);
	values[col++] = history_interval(result->duration);
	history_set_text(values, nulls, col++,
					 refresh_outcome_name(result->outcome));
	history_set_text(values, nulls, col++,
					 target_method_name(result->method));
	history_set_text(values, nulls, col++,
					 error ? unpack_sql_state(error->sqlerrcode) : NULL);
	history_set_text(values, nulls, col++, error ? error->message : NULL);
	values[col++] = Int32GetDatum(state->failures);
	values[col++] = Int64GetDatum(usage->wal_bytes);
	values[col++] = Int64GetDatum(usage->shared_blks_hit);
	values[col++] = Int64GetDatum(usage->shared_blks_read);
	values[col++] = Int64GetDatum(usage->temp_blks_read);
	values[col++] = Int64GetDatum(usage->temp_blks_written);
	history_set_time(values, nulls, col++, state->data_as_of);
	history_set_text(values, nulls, col++, change_mark_to_text(&state->mark));
	Assert(col == HISTORY_COLS);

	history_refuse_deferred();
	history_enter(&caller);
	if (SPI_execute_plan(history_plan(HISTORY_INSERT, HISTORY_COLS, types),
						 values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into the history");
	history_leave(&caller);
}

static void
history_select(HistoryCall *call)
{
	static Oid	types[] = {TEXTOID};
	ViewState  *state = call->state;
	HistoryCaller caller;
	Datum		values[1];

	values[0] = CStringGetTextDatum(call->label);
	history_enter(&caller);
	if (SPI_execute_plan(history_plan(HISTORY_READ_LAST, 1, types),
						 values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the history");
	call->found = SPI_processed > 0;
	if (call->found)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		value = SPI_getbinval(tuple, desc, 1, &isnull);

		state->failures = isnull ? 0 : DatumGetInt32(value);
		state->data_as_of = history_get_time(2);
		state->cycle_start = history_get_time(3);
		state->schedule_start = history_get_time(4);
		value = SPI_getbinval(tuple, desc, 5, &isnull);
		if (!isnull)
			state->duration = DatumGetIntervalP(value)->time;
		value = SPI_getbinval(tuple, desc, 6, &isnull);
		if (!isnull)
			change_mark_from_text(TextDatumGetCString(value), &state->mark);
	}
	history_leave(&caller);
}

/*
 * Delete up to a batch of rows that are older than so many seconds, in the
 * current transaction.  Returns whether the batch was full, so that there may
 * be more.
 */
bool
history_prune_batch(int retention)
{
	static Oid	types[] = {TIMESTAMPTZOID, INT8OID};
	Datum		values[2];
	HistoryCaller caller;
	bool		full;

	if (!history_there())
		return false;

	values[0] = TimestampTzGetDatum(GetCurrentTimestamp() -
									retention * USECS_PER_SEC);
	values[1] = Int64GetDatum(HISTORY_BATCH);
	history_refuse_deferred();
	history_enter(&caller);
	if (SPI_execute_plan(history_plan(HISTORY_PRUNE, 2, types),
						 values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not prune the history");
	full = SPI_processed == HISTORY_BATCH;
	history_leave(&caller);
	return full;
}

/*
 * Raise an ERROR if a trigger of the table could run later than now: then it
 * would run with other rights than its owner's.
 */
static void
history_refuse_deferred(void)
{
	Relation	history = table_open(history_relid, RowExclusiveLock);
	TriggerDesc *triggers = history->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgdeferrable && !trigger->tgisinternal &&
			trigger->tgenabled != TRIGGER_DISABLED)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("trigger \"%s\" of the history is deferrable",
							trigger->tgname)));
	}
	table_close(history, NoLock);
}

/*
 * Go on as the table's owner, with a safe search_path, a snapshot, and
 * connected to SPI.  Settings that a trigger changes are put back at the end.
 *
 * After an ERROR in between, the end of the (sub)transaction puts everything
 * back.
 */
static void
history_enter(HistoryCaller *caller)
{
	GetUserIdAndSecContext(&caller->userid, &caller->sec_context);
	SetUserIdAndSecContext(history_owner(), caller->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	caller->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

static void
history_leave(const HistoryCaller *caller)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	PopActiveSnapshot();
	AtEOXact_GUC(false, caller->guc_level);
	SetUserIdAndSecContext(caller->userid, caller->sec_context);
}

static Oid
history_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID,
										ObjectIdGetDatum(history_relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", history_relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * The plan of a statement, made on first use.  Needs SPI.
 */
static SPIPlanPtr
history_plan(HistoryStatement statement, int nargs, Oid *types)
{
	if (history_plans[statement] == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(history_sql[statement], nargs, types);

		if (plan == NULL)
			elog(ERROR, "could not prepare a statement on the history: %s",
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		history_plans[statement] = plan;
	}
	return history_plans[statement];
}

static void
history_set_text(Datum *values, char *nulls, int col, const char *value)
{
	if (value != NULL)
		values[col] = CStringGetTextDatum(value);
	else
		nulls[col] = 'n';
}

static void
history_set_time(Datum *values, char *nulls, int col, TimestampTz value)
{
	if (value != 0)
		values[col] = TimestampTzGetDatum(value);
	else
		nulls[col] = 'n';
}

static Datum
history_interval(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

/*
 * A time in a column of the only row that was read; 0 if it is null.
 */
static TimestampTz
history_get_time(int col)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc, col, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}
