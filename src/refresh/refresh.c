/*-------------------------------------------------------------------------
 *
 * refresh.c
 *	  One view, one attempt, one transaction: a result, never an error.
 *
 * An ERROR while a view is refreshed concerns only that view (see attempt.c).
 * Everything that can take long belongs to the attempt, so that a cancel
 * request and a timeout end it: the refresh, the constraint triggers that it
 * deferred, and the wait for synchronous standbys.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "src/common/attempt.h"
#include "src/common/elapsed.h"
#include "src/common/settings.h"
#include "src/refresh/execute.h"
#include "src/refresh/hook.h"
#include "src/refresh/merge_command.h"
#include "src/refresh/refresh.h"
#include "src/refresh/window_look.h"

/* The role that this process connected as */
static Oid	refresh_role = InvalidOid;

/* The settings of the current view, from refresh_begin() on; NULL: none */
static const char *refresh_settings = NULL;

/* The argument of refresh_apply_settings() */
typedef struct RefreshBeginning
{
	const char *settings;
	ViewSettings *own;
} RefreshBeginning;

/* The counters of this process at the start of an attempt */
typedef struct RefreshMeter
{
	int64		start;
	BufferUsage buffers;
	WalUsage	wal;
} RefreshMeter;

/* A running attempt */
typedef struct RefreshAttempt
{
	const RefreshRequest *request;
	RefreshResult *result;
	RefreshMeter meter;
} RefreshAttempt;

static void refresh_apply_settings(void *arg);
static void refresh_set_limits(const RefreshRequest *request);
static void refresh_limit_parallel(const char *name, int limit, int current);
static void refresh_start_meter(RefreshMeter *meter);
static void refresh_read_meter(const RefreshMeter *meter,
							   RefreshResult *result);
static void refresh_in_transaction(void *arg);
static void refresh_here(const RefreshTarget *target, RefreshResult *result);
static TimestampTz refresh_session_start(void);
static bool refresh_is_gone(const RefreshTarget *target);
static void refresh_look_up(void *arg);
static void refresh_fire_deferred(void);
static RefreshTarget refresh_check(const RefreshTarget *planned,
								   RefreshResult *result);
static void refresh_fold(const RefreshTarget *target, WindowResult *window);
static bool refresh_writes_view(RefreshMethod method);
static void refresh_reset_session(void);
static void refresh_reset_role(void);
static void refresh_drop_temporary(void);

/*
 * Force the settings that a stray default of the role, of the database or of
 * the server must not break.  Called once in a process, outside of a
 * transaction.
 *
 * Among them is the current role.  The owner of the database can let its
 * sessions start with the owner's role, by a default of "role" or
 * "session_authorization".  Then the owner's functions would be trusted, and
 * could return to the role that the process connected as.
 *
 * A view's function can RESET settings only to what is set here.
 */
void
refresh_force_settings(void)
{
	refresh_role = GetAuthenticatedUserId();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SetConfigOption("session_authorization",
					GetUserNameFromId(refresh_role, false),
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	for (int i = 0; i < settings_nforced; i++)
	{
		const ForcedSetting *forced = &settings_forced[i];

		if (GetConfigOption(forced->name, true, false) != NULL)
			SetConfigOption(forced->name, forced->value,
							PGC_SUSET, PGC_S_OVERRIDE);
	}
	CommitTransactionCommand();
}

/*
 * Put the settings of one view in force.  *own is set to the values of our
 * own parameters that apply to it.
 *
 * Returns false if a setting is wrong, with a result that says so, as from
 * refresh_view().  The settings stay in force until the end of
 * refresh_view(), or until refresh_end(), even if the view's function resets
 * them meanwhile.  Must be called outside of a transaction.
 */
bool
refresh_begin(const char *settings, ViewSettings *own, RefreshResult *result)
{
	RefreshBeginning beginning = {settings, own};

	memset(result, 0, sizeof(RefreshResult));
	view_settings_read(NULL, own);
	if (settings == NULL)
		return true;
	result->started_at = GetCurrentTimestamp();
	result->error = attempt(refresh_apply_settings, &beginning, 0);
	if (result->error != NULL)
		result->outcome = REFRESH_FAILED;
	else
		refresh_settings = settings;
	return result->error == NULL;
}

/*
 * What is set in a transaction of its own stays after its commit, even if a
 * procedure rolls back a later transaction.
 */
static void
refresh_apply_settings(void *arg)
{
	RefreshBeginning *beginning = arg;

	view_settings_apply(beginning->settings, NULL, refresh_role,
						GUC_ACTION_SET);
	view_settings_read(beginning->settings, beginning->own);
}

/*
 * Called in place of refresh_view() if the view is not refreshed after all.
 */
void
refresh_end(void)
{
	if (refresh_settings == NULL)
		return;
	refresh_settings = NULL;
	ResetAllOptions();
}

/*
 * Called after a command has set a parameter.  If it was reset to its
 * default, the setting of the current view is the default, like that of a
 * role for its sessions.
 */
void
refresh_after_set(const VariableSetStmt *statement)
{
	if (refresh_settings == NULL ||
		(statement->kind != VAR_RESET && statement->kind != VAR_RESET_ALL &&
		 statement->kind != VAR_SET_DEFAULT))
		return;
	view_settings_apply(refresh_settings,
						statement->kind == VAR_RESET_ALL ? NULL :
						statement->name, refresh_role,
						statement->is_local ? GUC_ACTION_LOCAL :
						GUC_ACTION_SET);
}

/*
 * Refresh one view in a transaction of its own.
 *
 * Never raises an ERROR, but returns it in *result, allocated in the current
 * memory context.  Must be called outside of a transaction.
 */
void
refresh_view(const RefreshRequest *request, RefreshResult *result)
{
	RefreshAttempt now = {0};

	memset(result, 0, sizeof(RefreshResult));
	now.request = request;
	now.result = result;
	hook_forget_refreshes();
	merge_scope_reset();
	refresh_set_limits(request);

	result->started_at = GetCurrentTimestamp();
	pgstat_report_activity(STATE_RUNNING, request->activity);
	refresh_start_meter(&now.meter);
	result->error = attempt(refresh_in_transaction, &now,
							request->refresh_timeout);

	/* The commit is a part of the refresh. */
	refresh_read_meter(&now.meter, result);
	result->committed = result->error == NULL;
	if (result->error != NULL)
		result->outcome = refresh_is_gone(request->target) ?
			REFRESH_DROPPED : REFRESH_FAILED;

	refresh_reset_session();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Refresh one view in the caller's transaction, with the caller's rights.
 *
 * Raises any ERROR.  A procedure cannot COMMIT here.
 */
void
refresh_in_session(const RefreshTarget *target, RefreshResult *result)
{
	RefreshMeter meter;
	MergeScope	outer;

	memset(result, 0, sizeof(RefreshResult));
	result->started_at = refresh_session_start();
	refresh_start_meter(&meter);
	if (!merge_in_scope())
		hook_forget_refreshes();
	outer = merge_scope_enter(target->merge);
	PG_TRY();
	{
		refresh_here(target, result);
	}
	PG_FINALLY();
	{
		merge_scope_leave(outer);
	}
	PG_END_TRY();
	result->merged = hook_has_merged(&result->rows);
	refresh_read_meter(&meter, result);
	result->outcome = result->window.empty ?
		REFRESH_SKIPPED : REFRESH_REFRESHED;
}

static void
refresh_here(const RefreshTarget *target, RefreshResult *result)
{
	RefreshTarget now = refresh_check(target, result);

	if (now.method == REFRESH_METHOD_WINDOW)
		refresh_fold(&now, &result->window);
	else if (now.method == REFRESH_METHOD_PROCEDURE)
		execute_procedure_atomically(&now, NIL);
	else
		execute_query(&now, NIL, None_Receiver);
}

/*
 * Refresh the rows of a materialized view for which a condition holds, in the
 * caller's transaction.  The view's function, if there is one, is not called.
 *
 * Raises any ERROR.
 */
void
refresh_part_in_session(const RefreshTarget *target, const char *condition,
						RefreshResult *result)
{
	RefreshMeter meter;
	MergeResult merge;

	memset(result, 0, sizeof(RefreshResult));
	result->started_at = refresh_session_start();
	result->method = REFRESH_METHOD_MERGE;
	result->condition = condition;
	refresh_start_meter(&meter);
	merge_part(target, condition, &merge);
	hook_note_part(merge.relid, &merge.counts);
	result->merged = true;
	result->rows = merge.counts;
	refresh_read_meter(&meter, result);
	result->outcome = REFRESH_REFRESHED;
}

/*
 * The time as of which a session sees data.
 */
static TimestampTz
refresh_session_start(void)
{
	return IsolationUsesXactSnapshot() ?
		GetCurrentTransactionStartTimestamp() : GetCurrentTimestamp();
}

/*
 * The name of an outcome, as the history stores it.
 */
const char *
refresh_outcome_name(RefreshOutcome outcome)
{
	switch (outcome)
	{
		case REFRESH_PENDING:
			break;
		case REFRESH_REFRESHED:
			return "refreshed";
		case REFRESH_FAILED:
			return "failed";
		case REFRESH_SKIPPED:
			return "skipped";
		case REFRESH_DROPPED:
			break;
	}
	return "pending";
}

/*
 * Set those parts of a request that are parameters of the server.  The limits
 * of parallel query last until refresh_reset_session().
 */
static void
refresh_set_limits(const RefreshRequest *request)
{
	char		value[32];

	snprintf(value, sizeof(value), "%d", request->lock_timeout);
	SetConfigOption("lock_timeout", value, PGC_SUSET, PGC_S_OVERRIDE);

	if (request->parallel_workers < 0)
		return;
	refresh_limit_parallel("max_parallel_workers_per_gather",
						   request->parallel_workers,
						   max_parallel_workers_per_gather);
	refresh_limit_parallel("max_parallel_maintenance_workers",
						   request->parallel_workers,
						   max_parallel_maintenance_workers);
}

/*
 * Set a limit, unless a lower one is set, or the view has one of its own.
 */
static void
refresh_limit_parallel(const char *name, int limit, int current)
{
	char		value[32];

	if (limit >= current || view_settings_find(refresh_settings, name) != NULL)
		return;
	snprintf(value, sizeof(value), "%d", limit);
	SetConfigOption(name, value, PGC_USERSET, PGC_S_SESSION);
}

static void
refresh_start_meter(RefreshMeter *meter)
{
	meter->start = elapsed_clock();
	meter->buffers = pgBufferUsage;
	meter->wal = pgWalUsage;
}

/*
 * Get what was used since the meter was started.  (Parallel workers add what
 * they used to their leader's counters.)
 */
static void
refresh_read_meter(const RefreshMeter *meter, RefreshResult *result)
{
	RefreshUsage *usage = &result->usage;

	result->duration = elapsed_since(meter->start);
	usage->wal_bytes = pgWalUsage.wal_bytes - meter->wal.wal_bytes;
	usage->shared_blks_hit =
		pgBufferUsage.shared_blks_hit - meter->buffers.shared_blks_hit;
	usage->shared_blks_read =
		pgBufferUsage.shared_blks_read - meter->buffers.shared_blks_read;
	usage->temp_blks_read =
		pgBufferUsage.temp_blks_read - meter->buffers.temp_blks_read;
	usage->temp_blks_written =
		pgBufferUsage.temp_blks_written - meter->buffers.temp_blks_written;
}

/*
 * Everything of a refresh except its COMMIT.
 */
static void
refresh_in_transaction(void *arg)
{
	RefreshAttempt *own = arg;
	const RefreshRequest *request = own->request;
	RefreshResult *result = own->result;
	RefreshTarget now;

	result->started_at = GetCurrentStatementStartTimestamp();
	now = refresh_check(request->target, result);
	(void) merge_scope_enter(now.merge);
	if (refresh_writes_view(now.method))
		window_look_past_me();
	if (now.method == REFRESH_METHOD_WINDOW)
		refresh_fold(&now, &result->window);
	else if (now.method == REFRESH_METHOD_PROCEDURE)
		execute_procedure(&now);
	else
		execute_query(&now, NIL, None_Receiver);
	refresh_fire_deferred();
	merge_scope_reset();
	result->merged = hook_has_merged(&result->rows);
	refresh_read_meter(&own->meter, result);
	result->outcome = result->window.empty ?
		REFRESH_SKIPPED : REFRESH_REFRESHED;
	if (request->before_commit)
		request->before_commit(result, request->before_commit_arg);
}

/*
 * After a failure: was this view added to the plan by a wildcard, and dropped
 * since?  Nobody has named it, so nobody misses it.
 */
static bool
refresh_is_gone(const RefreshTarget *target)
{
	Oid			relid = target->relid;

	return target->wildcard && OidIsValid(relid) &&
		attempt_or_report(refresh_look_up, &relid) && !OidIsValid(relid);
}

static void
refresh_look_up(void *arg)
{
	Oid		   *relid = arg;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(*relid)))
		*relid = InvalidOid;
}

/*
 * Fire the constraint triggers that were deferred to the end of the
 * transaction, so that the history counts their time as part of the refresh.
 */
static void
refresh_fire_deferred(void)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	/* As SET CONSTRAINTS ALL IMMEDIATE does */
	AfterTriggerSetState(immediate);
}

/*
 * Resolve the target again.  Raises an ERROR if it cannot be refreshed, or
 * stands for something else than was planned.
 *
 * We check what a function's owner may do while the function is locked, so
 * that it cannot change its owner before it is called.
 */
static RefreshTarget
refresh_check(const RefreshTarget *planned, RefreshResult *result)
{
	RefreshTarget now = *planned;

	target_lock(planned);
	target_resolve(&now, GetUserId());
	result->method = now.method;
	if (now.method == REFRESH_METHOD_NONE)
		target_raise(&now);
	target_check_unchanged(planned, &now);
	return now;
}

/*
 * Fold the next window of a target into it, if there is anything to fold.
 *
 * Its checkpoint is a part of this transaction, so a procedure cannot COMMIT.
 */
static void
refresh_fold(const RefreshTarget *target, WindowResult *window)
{
	List	   *args = window_open(target, window);

	if (args == NIL)
		return;
	if (get_func_prokind(target->funcid) == PROKIND_PROCEDURE)
		execute_procedure_atomically(target, args);
	else
		execute_query(target, args, window_receiver(window));
}

/*
 * Does this method write a materialized view and nothing else?
 */
static bool
refresh_writes_view(RefreshMethod method)
{
	return method == REFRESH_METHOD_PLAIN ||
		method == REFRESH_METHOD_CONCURRENTLY ||
		method == REFRESH_METHOD_MERGE;
}

/*
 * Clean up after a view's function, so that nothing is left to the next one:
 * no cursors, role, settings, prepared statements, locks, sequence values or
 * temporary objects.  (A connection pool resets its connections in the same
 * way.)
 *
 * The next function may belong to a stronger role.  Wherever it names a table
 * or a type without a schema, a temporary object comes first, so one that a
 * weaker role has created would be a trap.  So an ERROR here, which nobody
 * catches, rightly ends the process.
 */
static void
refresh_reset_session(void)
{
	refresh_settings = NULL;
	PortalHashTableDeleteAll();
	refresh_reset_role();
	ResetAllOptions();
	DropAllPreparedStatements();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetSequenceCaches();
	refresh_drop_temporary();
}

/*
 * Restore the role that this process connected as.
 */
static void
refresh_reset_role(void)
{
	if (GetSessionUserId() != refresh_role)
	{
		StartTransactionCommand();
		SetConfigOption("session_authorization",
						GetUserNameFromId(refresh_role, false),
						PGC_SUSET, PGC_S_SESSION);
		CommitTransactionCommand();
	}
	if (OidIsValid(GetCurrentRoleId()))
		SetConfigOption("role", "none", PGC_SUSET, PGC_S_SESSION);
}

/*
 * Drop the contents of this session's temporary schema, if it has one.
 */
static void
refresh_drop_temporary(void)
{
	Oid			schema;
	Oid			toast_schema;

	GetTempNamespaceState(&schema, &toast_schema);
	if (!OidIsValid(schema))
		return;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ResetTempTableNamespace();
	PopActiveSnapshot();
	CommitTransactionCommand();
}
