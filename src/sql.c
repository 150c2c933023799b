/*-------------------------------------------------------------------------
 *
 * sql.c
 *	  SQL-callable functions that report or request something.
 *
 * The functions that refresh are in sql_refresh.c.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "src/common/elapsed.h"
#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/plan/plan.h"
#include "src/plan/view_settings.h"
#include "src/record/history.h"
#include "src/record/request.h"
#include "src/record/status.h"
#include "src/refresh/change.h"
#include "src/refresh/window.h"
#include "src/advice.h"
#include "src/sql.h"
#include "src/worker/schedule.h"

#define SQL_PLAN_COLS	19
#define SQL_STATUS_COLS 29
#define SQL_RUN_COLS	5

PG_FUNCTION_INFO_V1(bigbrotr_refresher_plan);
PG_FUNCTION_INFO_V1(bigbrotr_refresher_status);
PG_FUNCTION_INFO_V1(bigbrotr_refresher_run);

/* A result row under construction */
typedef struct SqlRow
{
	int			ncols;
	Datum		values[SQL_STATUS_COLS];
	bool		nulls[SQL_STATUS_COLS];
} SqlRow;

/* What to restore after names were looked up as the worker does */
typedef struct SqlCaller
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} SqlCaller;

static void sql_put_window(SqlRow *row, const WindowPreview *window);
static void sql_become_worker(Oid role, SqlCaller *caller);
static void sql_be_caller(const SqlCaller *caller);
static const pg_tz *sql_worker_zone(void);
static bool sql_is_member(List *names, const char *name);
static void sql_put_status(ReturnSetInfo *rsinfo, const StatusReport *report);
static const char *sql_state_name(StatusState state);
static void sql_put_running(SqlRow *row, const StatusReport *report);
static Datum sql_array(Datum *values, bool *nulls, int nvalues, Oid type);
static Datum sql_buckets(const StatusData *data);
static Datum sql_labels(const RefreshPlan *plan, const int *items, int nitems);
static Datum sql_text(const char *value);
static void sql_put(SqlRow *row, Datum value);
static void sql_put_null(SqlRow *row);
static void sql_put_text(SqlRow *row, const char *value);
static void sql_put_time(SqlRow *row, TimestampTz value);
static void sql_put_interval(SqlRow *row, int64 microseconds);
static void sql_put_time_of_day(SqlRow *row, int seconds);

/*
 * plan(): the next cycle, explained.
 */
Datum
bigbrotr_refresher_plan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	RefreshPlan *plan;
	const pg_tz *zone;
	const char *unserved;

	sql_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	plan = sql_plan_as_worker();
	zone = sql_worker_zone();
	unserved = advice_unserved();

	for (int i = 0; i < plan->nitems; i++)
	{
		PlanItem   *item = &plan->items[i];
		SqlRow		row = {0};
		ViewState	known = {0};
		ChangeMark	mark;
		const char *reason;
		const char *hint;
		WindowPreview window = {0};
		bool		has_window;

		CHECK_FOR_INTERRUPTS();
		sql_put(&row, Int32GetDatum(i + 1));
		sql_put(&row, Int32GetDatum(item->stage + 1));
		sql_put_text(&row, item->label);
		sql_put_text(&row, target_method_name(item->target.method));
		sql_put_text(&row, item->target.message);
		sql_put(&row, sql_labels(plan, item->depends, item->ndepends));
		if (schedule_read(item, GetCurrentTimestamp(), &known) &&
			known.schedule_start != 0)
			sql_put_time(&row, schedule_due(&known, item, zone));
		else
			sql_put_null(&row);
		sql_put_interval(&row, USECS_PER_SEC * schedule_interval(item));
		reason = change_read_mark(item->target.relid, &mark, &hint);
		sql_put(&row, BoolGetDatum(reason == NULL));
		sql_put_text(&row, reason);
		sql_put_text(&row, item->target.not_merged);
		has_window = item->target.method == REFRESH_METHOD_WINDOW &&
			window_preview(&item->target, known.failures > 0, &window);
		sql_put_text(&row, advice_text(item, &known, hint, window.advice,
									   unserved));
		sql_put_time_of_day(&row, schedule_start_time(item));
		sql_put_text(&row, view_settings_text(item->settings));
		sql_put_window(&row, has_window ? &window : NULL);
		Assert(row.ncols == SQL_PLAN_COLS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values,
							 row.nulls);
	}
	return (Datum) 0;
}

/*
 * Put the window that would be folded now: five columns, null if there is
 * none (NULL).
 */
static void
sql_put_window(SqlRow *row, const WindowPreview *window)
{
	if (window == NULL)
	{
		for (int i = 0; i < 5; i++)
			sql_put_null(row);
		return;
	}
	sql_put_text(row, window->after);
	sql_put_text(row, window->until);
	if (window->backlog >= 0)
		sql_put(row, Int64GetDatum(window->backlog));
	else
		sql_put_null(row);
	if (window->held)
	{
		sql_put(row, Int32GetDatum(window->pid));
		sql_put(row, TimestampTzGetDatum(window->since));
	}
	else
	{
		sql_put_null(row);
		sql_put_null(row);
	}
}

/*
 * Make the plan that the worker would make.  Names are looked up in the
 * worker's search_path if it is known, else in the caller's; functions are
 * judged by the worker's role.
 */
RefreshPlan *
sql_plan_as_worker(void)
{
	Oid			role = sql_worker_role();
	SqlCaller	caller;
	RefreshPlan *plan;

	sql_become_worker(role, &caller);
	plan = plan_make(refresher_view_list, role);
	sql_be_caller(&caller);
	return plan;
}

/*
 * Return the label of a materialized view in the worker's plan.  *settings is
 * set to what the list sets for it.
 *
 * A view that is not listed gets its qualified name, so that it cannot be
 * taken for one that is.
 */
const char *
sql_label_as_worker(const RefreshTarget *target, const char **settings)
{
	SqlCaller	caller;
	const char *label;

	sql_become_worker(settings_role(), &caller);
	label = plan_label(refresher_view_list, target->relid, settings);
	sql_be_caller(&caller);
	return label ? label : target_qualified_name(target);
}

/*
 * Take the worker's role, if it exists, and its search_path, if it is known.
 * Only to look up names: schemas that the caller may not use are not in the
 * caller's path.
 */
static void
sql_become_worker(Oid role, SqlCaller *caller)
{
	StatusNames names;

	GetUserIdAndSecContext(&caller->userid, &caller->sec_context);
	caller->guc_level = NewGUCNestLevel();
	if (OidIsValid(role))
		SetUserIdAndSecContext(role, caller->sec_context |
							   SECURITY_LOCAL_USERID_CHANGE);
	if (status_read_names(MyDatabaseId, &names) && names.search_path[0])
	{
		/* The worker cannot see the caller's temporary tables. */
		char	   *path = psprintf("%s, pg_temp", names.search_path);

		(void) set_config_option("search_path", path,
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		pfree(path);
	}
}

static void
sql_be_caller(const SqlCaller *caller)
{
	AtEOXact_GUC(true, caller->guc_level);
	SetUserIdAndSecContext(caller->userid, caller->sec_context);
}

/*
 * Return the worker's time zone, or the caller's if there was no worker yet.
 */
static const pg_tz *
sql_worker_zone(void)
{
	const pg_tz *zone = NULL;
	StatusNames names;

	if (status_read_names(MyDatabaseId, &names) && names.time_zone[0])
		zone = pg_tzset(names.time_zone);
	return zone != NULL ? zone : session_timezone;
}

/*
 * Return the role that the worker connects as.  Raises an ERROR if it does not
 * exist.
 */
Oid
sql_worker_role(void)
{
	Oid			role = settings_role();

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist",
						log_valid(refresher_role)),
				 errhint("Create it, or correct \"" REFRESHER_NAME ".role\" and reload the configuration.")));
	return role;
}

/*
 * status(): what each worker is doing.
 */
Datum
bigbrotr_refresher_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	StatusReport *report = palloc(sizeof(StatusReport));
	uint64		cursor = 0;
	List	   *seen = NIL;

	sql_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	while (status_read_next(&cursor, report))
	{
		sql_put_status(rsinfo, report);
		seen = lappend(seen, pstrdup(report->data.database));
	}

	/* Databases that do not exist, or that no launcher has looked up yet */
	for (int i = 0; i < refresher_database_list->nnames; i++)
	{
		const char *name = refresher_database_list->names[i];

		memset(report, 0, sizeof(StatusReport));
		strlcpy(report->data.database, name, NAMEDATALEN);
		if (!sql_is_member(seen, name))
			sql_put_status(rsinfo, report);
	}
	return (Datum) 0;
}

static bool
sql_is_member(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

static void
sql_put_status(ReturnSetInfo *rsinfo, const StatusReport *report)
{
	const StatusData *data = &report->data;
	SqlRow		row = {0};

	sql_put_text(&row, data->database);
	if (data->pid != 0)
		sql_put(&row, Int32GetDatum(data->pid));
	else
		sql_put_null(&row);
	sql_put_text(&row, sql_state_name(data->state));
	sql_put_time(&row, data->pid != 0 ? data->worker_start : 0);
	sql_put_time(&row, data->cycle_start);
	if (data->cycle_start != 0 && data->cycle_duration >= 0)
		sql_put_interval(&row, data->cycle_duration);
	else
		sql_put_null(&row);
	sql_put_time(&row, data->next_due);
	sql_put(&row, Int32GetDatum(data->cycle.total));
	sql_put(&row, Int32GetDatum(data->cycle.refreshed));
	sql_put(&row, Int32GetDatum(data->cycle.failed));
	sql_put(&row, Int32GetDatum(data->cycle.skipped));
	sql_put_running(&row, report);
	sql_put(&row, Int64GetDatum(data->totals.refreshed));
	sql_put(&row, Int64GetDatum(data->totals.failed));
	sql_put(&row, Int64GetDatum(data->totals.skipped));
	sql_put(&row, Int64GetDatum(data->cycles_success));
	sql_put(&row, Int64GetDatum(data->cycles_failed));
	sql_put(&row, Int32GetDatum(data->consecutive_failures));
	sql_put(&row, sql_buckets(data));
	sql_put(&row, Float8GetDatum(data->duration_sum / 1000000.0));
	sql_put(&row, Int64GetDatum(data->cycles_success + data->cycles_failed));
	sql_put_time(&row, data->last_start);
	if (data->last_start != 0)
	{
		sql_put_interval(&row, data->last_duration);
		sql_put(&row, Int32GetDatum(data->last.total));
		sql_put(&row, Int32GetDatum(data->last.refreshed));
		sql_put(&row, Int32GetDatum(data->last.failed));
		sql_put(&row, Int32GetDatum(data->last.skipped));
	}
	while (row.ncols < SQL_STATUS_COLS)
		sql_put_null(&row);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row.values,
						 row.nulls);
}

static const char *
sql_state_name(StatusState state)
{
	switch (state)
	{
		case STATUS_STOPPED:
			return "stopped";
		case STATUS_RESTING:
			return "resting";
		case STATUS_IDLE:
			return "idle";
		case STATUS_REFRESHING:
			return "refreshing";
		case STATUS_DISABLED:
			return "disabled";
	}
	return NULL;
}

/*
 * Put the views that are being refreshed, since when, and the elapsed share of
 * their usual duration.
 */
static void
sql_put_running(SqlRow *row, const StatusReport *report)
{
	int64		now = elapsed_clock();
	Datum		labels[STATUS_MAX_RUNNING];
	Datum		since[STATUS_MAX_RUNNING];
	Datum		shares[STATUS_MAX_RUNNING];
	bool		unknown[STATUS_MAX_RUNNING];

	for (int i = 0; i < report->nrunning; i++)
	{
		const StatusRunning *running = &report->running[i];

		labels[i] = sql_text(running->label);
		since[i] = TimestampTzGetDatum(running->since);
		unknown[i] = running->usual == 0;
		shares[i] = unknown[i] ? (Datum) 0 :
			Float8GetDatum((double) (now - running->began) / running->usual);
	}
	sql_put(row, sql_array(labels, NULL, report->nrunning, TEXTOID));
	sql_put(row, sql_array(since, NULL, report->nrunning, TIMESTAMPTZOID));
	sql_put(row, sql_array(shares, unknown, report->nrunning, FLOAT8OID));
}

/*
 * Return how many cycles took no longer than each bound of the histogram.
 */
static Datum
sql_buckets(const StatusData *data)
{
	Datum		buckets[STATUS_NBUCKETS];

	for (int i = 0; i < STATUS_NBUCKETS; i++)
		buckets[i] = Int64GetDatum(data->buckets[i]);
	return sql_array(buckets, NULL, STATUS_NBUCKETS, INT8OID);
}

/*
 * run(wait): have the worker run a cycle of all views now.
 */
Datum
bigbrotr_refresher_run(PG_FUNCTION_ARGS)
{
	bool		wait;
	TupleDesc	desc;
	SqlRow		row = {0};
	StatusCounts counts;
	int64		duration;

	sql_require_preload();
	sql_refuse_null(fcinfo, 0, "run(wait)",
					"Pass \"true\" to wait for the end of the cycle, or \"false\".");
	wait = PG_GETARG_BOOL(0);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	request_run(wait, &counts, &duration);
	if (wait)
	{
		sql_put(&row, Int32GetDatum(counts.total));
		sql_put(&row, Int32GetDatum(counts.refreshed));
		sql_put(&row, Int32GetDatum(counts.failed));
		sql_put(&row, Int32GetDatum(counts.skipped));
		sql_put_interval(&row, duration);
	}
	while (row.ncols < SQL_RUN_COLS)
		sql_put_null(&row);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  row.values,
													  row.nulls)));
}

/*
 * Raise an ERROR if the library was not preloaded: there are neither
 * parameters nor workers then.
 */
void
sql_require_preload(void)
{
	if (!status_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(REFRESHER_NAME " must be loaded via \"shared_preload_libraries\""),
				 errhint("Add it to \"shared_preload_libraries\" in postgresql.conf and restart the server.")));
}

/*
 * The labels of some items, as an array of text.
 */
static Datum
sql_labels(const RefreshPlan *plan, const int *items, int nitems)
{
	Datum	   *labels = palloc(nitems * sizeof(Datum) + 1);

	for (int i = 0; i < nitems; i++)
		labels[i] = sql_text(plan->items[items[i]].label);
	return sql_array(labels, NULL, nitems, TEXTOID);
}

/*
 * An array of these values.  "nulls" may be NULL.
 */
static Datum
sql_array(Datum *values, bool *nulls, int nvalues, Oid type)
{
	int			lower = 1;
	int16		length;
	bool		by_value;
	char		align;

	if (nvalues == 0)
		return PointerGetDatum(construct_empty_array(type));
	get_typlenbyvalalign(type, &length, &by_value, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &nvalues,
											  &lower, type, length, by_value,
											  align));
}

/*
 * Raise an ERROR if this argument, counted from 0, is null.
 */
void
sql_refuse_null(FunctionCallInfo fcinfo, int number, const char *function,
				const char *hint)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument of function %s must not be null", function),
				 errhint("%s", hint)));
}

/*
 * Make a text of a string that may come from another database, valid in this
 * database's encoding.
 */
static Datum
sql_text(const char *value)
{
	return CStringGetTextDatum(log_valid(value));
}

static void
sql_put(SqlRow *row, Datum value)
{
	row->nulls[row->ncols] = false;
	row->values[row->ncols++] = value;
}

static void
sql_put_null(SqlRow *row)
{
	row->nulls[row->ncols] = true;
	row->values[row->ncols++] = (Datum) 0;
}

/*
 * Put a text; NULL becomes null.
 */
static void
sql_put_text(SqlRow *row, const char *value)
{
	if (value != NULL)
		sql_put(row, sql_text(value));
	else
		sql_put_null(row);
}

/*
 * Put a time; 0 (unknown) and DT_NOEND (never) become null.
 */
static void
sql_put_time(SqlRow *row, TimestampTz value)
{
	if (value != 0 && value != DT_NOEND)
		sql_put(row, TimestampTzGetDatum(value));
	else
		sql_put_null(row);
}

static void
sql_put_interval(SqlRow *row, int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	sql_put(row, IntervalPGetDatum(interval));
}

/*
 * Put a time of day; -1 becomes null.
 */
static void
sql_put_time_of_day(SqlRow *row, int seconds)
{
	if (seconds >= 0)
		sql_put(row, TimeADTGetDatum(seconds * USECS_PER_SEC));
	else
		sql_put_null(row);
}
