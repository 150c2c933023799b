/*-------------------------------------------------------------------------
 *
 * history.c
 *	  The log of past refreshes, and the state of each view.
 *
 * There are two tables.  "history" is a log with a row for each attempt; it is
 * written and pruned here, but never read.  "view_state" has a row for each
 * view, which each attempt replaces; the schedule continues from it after a
 * restart.
 *
 * The rows of a refresh are written in its own transaction, so that they are
 * committed with it or not at all.
 *
 * guarded.c says how the tables are accessed, and what happens if they cannot
 * be.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "src/common/settings.h"
#include "src/common/guarded.h"
#include "src/record/history.h"

/* Maximum number of rows that one transaction prunes */
#define HISTORY_BATCH	1000

/*
 * A state is pruned if its view was not tried for the retention plus this
 * time, in seconds.  This is longer than the longest interval, so the view is
 * no longer in the list then.
 */
#define HISTORY_MAX_PAUSE	(400 * 24 * 60 * 60)

static const Oid history_insert_types[] = {
	TEXTOID, TIMESTAMPTZOID, INT4OID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	INTERVALOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID,
	INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID,
	TEXTOID, TEXTOID, TEXTOID, INT8OID
};

static GuardedStatement history_insert = {
	.sql = "INSERT INTO bigbrotr_refresher.history"
	" (view, cycle_start, cycle_views, cycle_whole, schedule_start,"
	" started_at, duration, outcome, method, sqlstate, error, failures, wal_bytes, shared_blks_hit,"
	" shared_blks_read, temp_blks_read, temp_blks_written, data_as_of,"
	" rows_inserted, rows_updated, rows_deleted, condition,"
	" window_after, window_until, rows_changed)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,"
	" $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)",
	.nargs = lengthof(history_insert_types),
	.types = history_insert_types,
	.expected = SPI_OK_INSERT,
};

/* The columns of ViewState come first. */
#define HISTORY_STATE_COLS	8

static const Oid history_upsert_types[] = {
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,
	INTERVALOID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID,
	TEXTOID, TEXTOID, TEXTOID
};

/*
 * Values that an attempt does not know stay as they are: refresh() is not part
 * of a cycle, and does not change the schedule.
 */
static GuardedStatement history_upsert = {
	.sql = "INSERT INTO bigbrotr_refresher.view_state AS s"
	" (view, cycle_start, schedule_start, data_as_of, failures,"
	" refresh_duration, rows_changed, change_mark, last_attempt,"
	" last_success, duration, outcome, sqlstate, error)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
	" ON CONFLICT (view) DO UPDATE SET"
	" cycle_start = COALESCE(excluded.cycle_start, s.cycle_start),"
	" schedule_start = COALESCE(excluded.schedule_start, s.schedule_start),"
	" data_as_of = COALESCE(excluded.data_as_of, s.data_as_of),"
	" failures = excluded.failures,"
	" refresh_duration ="
	" COALESCE(excluded.refresh_duration, s.refresh_duration),"
	" rows_changed = COALESCE(excluded.rows_changed, s.rows_changed),"
	" change_mark = excluded.change_mark,"
	" last_attempt = excluded.last_attempt,"
	" last_success = COALESCE(excluded.last_success, s.last_success),"
	" duration = excluded.duration,"
	" outcome = excluded.outcome,"
	" sqlstate = excluded.sqlstate,"
	" error = excluded.error",
	.nargs = lengthof(history_upsert_types),
	.types = history_upsert_types,
	.expected = SPI_OK_INSERT,
};

static GuardedStatement history_add_state = {
	.sql = "INSERT INTO bigbrotr_refresher.view_state"
	" (view, cycle_start, schedule_start, data_as_of, failures,"
	" refresh_duration, rows_changed, change_mark)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
	" ON CONFLICT DO NOTHING",
	.nargs = HISTORY_STATE_COLS,
	.types = history_upsert_types,
	.expected = SPI_OK_INSERT,
};

static GuardedStatement history_select = {
	.sql = "SELECT s.cycle_start, s.schedule_start, s.data_as_of,"
	" s.failures, s.refresh_duration, s.rows_changed, s.change_mark"
	" FROM bigbrotr_refresher.view_state AS s"
	" WHERE s.view OPERATOR(pg_catalog.=) $1",
	.nargs = 1,
	.types = history_upsert_types,
	.expected = SPI_OK_SELECT,
};

static const GuardedColumn history_columns[] = {
	{"cycle_start", TIMESTAMPTZOID},
	{"schedule_start", TIMESTAMPTZOID},
	{"data_as_of", TIMESTAMPTZOID},
	{"failures", INT4OID},
	{"refresh_duration", INTERVALOID},
	{"rows_changed", INT8OID},
	{"change_mark", TEXTOID}
};

static const Oid history_prune_types[] = {
	TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID
};

/*
 * This uses the index on started_at.  As long as somebody holds an old
 * snapshot, the index still has the rows that were pruned, so each batch
 * starts where the last one ended.
 */
static GuardedStatement history_prune = {
	.sql = "WITH old AS MATERIALIZED ("
	"SELECT h.ctid AS place, h.started_at"
	" FROM ONLY bigbrotr_refresher.history AS h"
	" WHERE h.started_at OPERATOR(pg_catalog.>=) $1"
	" AND h.started_at OPERATOR(pg_catalog.<) $2"
	" ORDER BY h.started_at LIMIT $3),"
	" pruned AS (DELETE FROM ONLY bigbrotr_refresher.history"
	" WHERE ctid OPERATOR(pg_catalog.=)"
	" ANY (ARRAY(SELECT old.place FROM old)) RETURNING 1)"
	" SELECT (SELECT pg_catalog.count(*) FROM pruned),"
	" pg_catalog.max(old.started_at) FROM old",
	.nargs = lengthof(history_prune_types),
	.types = history_prune_types,
	.expected = SPI_OK_SELECT,
};

static const GuardedColumn history_prune_columns[] = {
	{"count", INT8OID},
	{"started_at", TIMESTAMPTZOID}
};

static GuardedStatement history_prune_states = {
	.sql = "DELETE FROM bigbrotr_refresher.view_state AS s"
	" WHERE GREATEST(s.last_attempt, s.cycle_start)"
	" OPERATOR(pg_catalog.<) $1",
	.nargs = 1,
	.types = history_prune_types,
	.expected = SPI_OK_DELETE,
};

/* An attempt to write */
typedef struct HistoryAttempt
{
	const char *label;
	const ViewState *state;
	const HistoryCycle *cycle;	/* NULL: none */
	const RefreshResult *result;	/* NULL: unknown */
} HistoryAttempt;

/* A state to read */
typedef struct HistoryReading
{
	const char *label;
	ViewState	state;
	bool		found;
} HistoryReading;

/* A batch of rows to prune */
typedef struct HistoryPruning
{
	TimestampTz before;
	TimestampTz from;			/* where the last batch ended */
	int64		limit;
	bool		full;			/* there may be more */
} HistoryPruning;

static void history_put_row(void *arg);
static void history_put_state(void *arg);
static void history_put_state_values(const HistoryAttempt *attempt,
									 Datum *values, char *nulls);
static void history_get_state(void *arg);
static void history_delete(void *arg);
static void history_delete_states(void *arg);
static void history_set_text(Datum *values, char *nulls, int col,
							 const char *value);
static void history_set_time(Datum *values, char *nulls, int col,
							 TimestampTz value);
static Datum history_interval(int64 microseconds);
static TimestampTz history_get_time(int col);

/*
 * Return the table of the history, or InvalidOid if there is none.  Needs a
 * transaction.
 */
Oid
history_installed(void)
{
	return guarded_table(GUARDED_HISTORY);
}

/*
 * Return a hint that says what to do if there is none.  Needs a transaction.
 */
const char *
history_missing_hint(void)
{
	if (OidIsValid(get_extension_oid(REFRESHER_NAME, true)))
		return "The extension is there, but its schema is not called \"" REFRESHER_NAME "\" any more: rename it back.";
	return "Run CREATE EXTENSION " REFRESHER_NAME " in this database to have a history, and what is shown of it.";
}

/*
 * Write the result of an attempt and the new state of its view, in the current
 * transaction.  "cycle" is NULL outside of a cycle.  Does nothing if no
 * history is kept.
 *
 * The two rows are independent.  In a session with an old snapshot, writing
 * the state fails if it was updated since (40001); the history's row is
 * written all the same.  A state that is lost does not lead to a wrong skip,
 * because the mark that stays there includes what the view itself was before
 * this refresh.
 *
 * The refresh of a part does not change the state: the other rows are as old
 * as before, and no schedule counts from it.
 */
void
history_write(const char *label, const ViewState *state,
			  const HistoryCycle *cycle, const RefreshResult *result)
{
	HistoryAttempt attempt = {label, state, cycle, result};

	if (refresher_history_retention == 0)
		return;
	if (result->condition == NULL)
		(void) guarded_run(GUARDED_VIEW_STATE, RowExclusiveLock,
						   history_put_state, &attempt, label);
	(void) guarded_run(GUARDED_HISTORY, RowExclusiveLock,
					   history_put_row, &attempt, label);
}

/*
 * Write the state of a view that has no row, in the current transaction.
 */
void
history_write_state(const char *label, const ViewState *state)
{
	HistoryAttempt attempt = {label, state, NULL, NULL};

	if (refresher_history_retention == 0)
		return;
	(void) guarded_run(GUARDED_VIEW_STATE, RowExclusiveLock,
					   history_put_state, &attempt, label);
}

/*
 * Read the last state of a view.  Returns false, with a state of zeros, if
 * there is none or if the table cannot be read (after a WARNING).  Needs a
 * transaction.
 */
bool
history_read_last(const char *label, ViewState *state)
{
	HistoryReading reading = {0};
	bool		done;

	reading.label = label;
	done = guarded_run(GUARDED_VIEW_STATE, AccessShareLock,
					   history_get_state, &reading, label);
	if (done)
		*state = reading.state;
	else
		memset(state, 0, sizeof(ViewState));
	return done && reading.found;
}

/*
 * Delete up to a batch of rows that are older than "retention" seconds, in the
 * current transaction.  Returns whether there may be more of them.  If the
 * retention is 0, no history is kept, and existing rows stay.
 *
 * After the last batch, delete the states of views that are no longer
 * refreshed.
 */
bool
history_prune_batch(int retention)
{
	static TimestampTz from = DT_NOBEGIN;
	static int	limit = HISTORY_BATCH;
	HistoryPruning pruning = {0};

	if (retention == 0)
		return false;

	/* If a crash loses this, the rows are pruned later. */
	(void) set_config_option("synchronous_commit", "off",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	pruning.before = GetCurrentTimestamp() - retention * USECS_PER_SEC;
	pruning.from = from;
	pruning.limit = limit;
	if (!guarded_run(GUARDED_HISTORY, RowExclusiveLock,
					 history_delete, &pruning, NULL))
	{
		/* A trigger may have made it slow, so try fewer rows next time. */
		limit = Max(limit / 10, 1);
		return false;
	}
	from = pruning.full ? pruning.from : DT_NOBEGIN;
	if (pruning.full)
		return true;
	limit = HISTORY_BATCH;
	pruning.before -= HISTORY_MAX_PAUSE * USECS_PER_SEC;
	(void) guarded_run(GUARDED_VIEW_STATE, RowExclusiveLock,
					   history_delete_states, &pruning, NULL);
	return false;
}

static void
history_put_row(void *arg)
{
	const HistoryAttempt *attempt = arg;
	const ViewState *state = attempt->state;
	const HistoryCycle *cycle = attempt->cycle;
	const RefreshResult *result = attempt->result;
	const RefreshUsage *usage = &result->usage;
	const ErrorData *error = result->error;
	Datum		values[lengthof(history_insert_types)];
	char		nulls[lengthof(history_insert_types)];
	int			col = 0;

	memset(nulls, ' ', sizeof(nulls));
	history_set_text(values, nulls, col++, attempt->label);
	history_set_time(values, nulls, col++, state->cycle_start);
	memset(nulls + col, cycle ? ' ' : 'n', 2);
	values[col++] = Int32GetDatum(cycle ? cycle->views : 0);
	values[col++] = BoolGetDatum(cycle && cycle->whole);
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
	memset(nulls + col, result->merged ? ' ' : 'n', 3);
	values[col++] = Int64GetDatum(result->rows.inserted);
	values[col++] = Int64GetDatum(result->rows.updated);
	values[col++] = Int64GetDatum(result->rows.deleted);
	history_set_text(values, nulls, col++, result->condition);
	history_set_text(values, nulls, col++,
					 result->window.used ? result->window.after : NULL);
	history_set_text(values, nulls, col++,
					 result->window.used ? result->window.until : NULL);
	nulls[col] = result->window.counted ? ' ' : 'n';
	values[col++] = Int64GetDatum(result->window.rows);
	Assert(col == lengthof(history_insert_types));
	guarded_execute(&history_insert, values, nulls, false);
}

static void
history_put_state(void *arg)
{
	const HistoryAttempt *attempt = arg;
	const RefreshResult *result = attempt->result;
	const ErrorData *error;
	Datum		values[lengthof(history_upsert_types)];
	char		nulls[lengthof(history_upsert_types)];
	int			col = HISTORY_STATE_COLS;

	memset(nulls, ' ', sizeof(nulls));
	history_put_state_values(attempt, values, nulls);
	if (result == NULL)
	{
		guarded_execute(&history_add_state, values, nulls, false);
		return;
	}

	error = result->error;
	history_set_time(values, nulls, col++, result->started_at);
	history_set_time(values, nulls, col++,
					 result->outcome == REFRESH_REFRESHED ?
					 result->started_at : 0);
	values[col++] = history_interval(result->duration);
	history_set_text(values, nulls, col++,
					 refresh_outcome_name(result->outcome));
	history_set_text(values, nulls, col++,
					 error ? unpack_sql_state(error->sqlerrcode) : NULL);
	history_set_text(values, nulls, col++, error ? error->message : NULL);
	Assert(col == lengthof(history_upsert_types));
	guarded_execute(&history_upsert, values, nulls, false);
}

static void
history_put_state_values(const HistoryAttempt *attempt, Datum *values,
						 char *nulls)
{
	const ViewState *state = attempt->state;
	int			col = 0;

	history_set_text(values, nulls, col++, attempt->label);
	history_set_time(values, nulls, col++, state->cycle_start);
	history_set_time(values, nulls, col++, state->schedule_start);
	history_set_time(values, nulls, col++, state->data_as_of);
	values[col++] = Int32GetDatum(state->failures);
	values[col] = history_interval(state->duration);
	nulls[col++] = state->duration == 0 ? 'n' : ' ';
	values[col] = Int64GetDatum(state->rows_changed);
	nulls[col++] = state->duration == 0 ? 'n' : ' ';
	history_set_text(values, nulls, col++, change_mark_to_text(&state->mark));
	Assert(col == HISTORY_STATE_COLS);
}

static void
history_get_state(void *arg)
{
	HistoryReading *reading = arg;
	ViewState  *state = &reading->state;
	Datum		values[1];
	Datum		value;
	bool		isnull;

	values[0] = CStringGetTextDatum(reading->label);
	guarded_execute(&history_select, values, NULL, true);
	guarded_check_columns(history_columns, lengthof(history_columns));
	if (SPI_processed == 0)
		return;

	reading->found = true;
	state->cycle_start = history_get_time(1);
	state->schedule_start = history_get_time(2);
	state->data_as_of = history_get_time(3);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4,
						  &isnull);
	state->failures = isnull ? 0 : DatumGetInt32(value);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5,
						  &isnull);
	if (!isnull)
		state->duration = DatumGetIntervalP(value)->time;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 6,
						  &isnull);
	state->rows_changed = isnull ? 0 : DatumGetInt64(value);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 7,
						  &isnull);
	if (!isnull)
		change_mark_from_text(TextDatumGetCString(value), &state->mark);
}

static void
history_delete(void *arg)
{
	HistoryPruning *pruning = arg;
	Datum		values[lengthof(history_prune_types)];
	int64		count;
	bool		isnull;

	values[0] = TimestampTzGetDatum(pruning->from);
	values[1] = TimestampTzGetDatum(pruning->before);
	values[2] = Int64GetDatum(pruning->limit);
	guarded_execute(&history_prune, values, NULL, false);
	guarded_check_columns(history_prune_columns,
						  lengthof(history_prune_columns));
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										SPI_tuptable->tupdesc, 1, &isnull));
	pruning->full = count == pruning->limit;
	pruning->from = history_get_time(2);
}

static void
history_delete_states(void *arg)
{
	const HistoryPruning *pruning = arg;
	Datum		values[1];

	values[0] = TimestampTzGetDatum(pruning->before);
	guarded_execute(&history_prune_states, values, NULL, false);
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
 * Return a time in a column of the only row that was read; 0 if it is null.
 */
static TimestampTz
history_get_time(int col)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc, col, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}
