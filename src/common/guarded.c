/*-------------------------------------------------------------------------
 *
 * guarded.c
 *	  Use a table of the extension, whatever its owner has done to it.
 *
 * The tables belong to the extension; without it, nothing is kept.  A table
 * of the same name that does not belong to the extension is not touched.
 *
 * We act as the owner of the table, in a security-restricted context.  So the
 * worker's role needs no privileges on the table, nobody else gets any, and a
 * trigger or rule that the owner adds runs with the owner's rights, never
 * with the worker's.
 *
 * We act in a subtransaction.  If the table makes trouble, we lose what we
 * wanted to write, and a WARNING says so, but the refresh goes on.  (The
 * checkpoints of windows are the exception: without them a refresh must
 * fail.)
 *
 * We limit the time.  A refresh holds locks on its view while its row is
 * written, so whoever locks the table, or makes its triggers slow, would hold
 * up the readers of the view.  Each table gets half a second per transaction;
 * then a timer of our own cancels the access.  A cancel request by anybody
 * else is re-thrown.
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
#include "utils/timeout.h"

#include "src/common/compat.h"
#include "src/common/elapsed.h"
#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/common/guarded.h"

/*
 * Time limit for each table in a transaction, in milliseconds.  A build for a
 * tool that slows everything down may set another one.
 */
#ifndef GUARDED_LIMIT
#define GUARDED_LIMIT	500
#endif

/* Shorter accesses are free, since a plan reads many rows; in milliseconds */
#define GUARDED_MOMENT	(GUARDED_LIMIT / 5)

/* What to restore after we have acted as a table's owner */
typedef struct GuardedCaller
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} GuardedCaller;

static const char *const guarded_names[GUARDED_NTABLES] = {
	[GUARDED_HISTORY] = "history",
	[GUARDED_VIEW_STATE] = "view_state",
	[GUARDED_WINDOWS] = "windows",
};

/* Tables that are known to belong to the extension */
static Oid	guarded_relids[GUARDED_NTABLES];

/* Time left for each table in this transaction, in milliseconds */
static LocalTransactionId guarded_lxid = InvalidLocalTransactionId;
static int	guarded_left[GUARDED_NTABLES];

static bool guarded_running = false;
static bool guarded_timer_registered = false;
static TimeoutId guarded_timer;
static volatile sig_atomic_t guarded_overdue = false;

static bool guarded_there(GuardedTable table);
static void guarded_start_timer(GuardedTable table);
static void guarded_stop_timer(GuardedTable table, int64 start);
static void guarded_cancel(void);
static void guarded_report(const ErrorData *error, const char *label);
static void guarded_lock(GuardedTable table, LOCKMODE lock);
static void guarded_refuse_deferred(Relation relation);
static void guarded_enter(GuardedTable table, GuardedCaller *caller);
static void guarded_leave(const GuardedCaller *caller);

/*
 * The OID of a table, or InvalidOid if there is none that belongs to the
 * extension.  Needs a transaction.
 */
Oid
guarded_table(GuardedTable table)
{
	Oid			namespace = get_namespace_oid(REFRESHER_NAME, true);
	Oid			extension = get_extension_oid(REFRESHER_NAME, true);
	Oid			relid = InvalidOid;

	if (OidIsValid(namespace))
		relid = get_relname_relid(guarded_names[table], namespace);
	if (!OidIsValid(relid) || !OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		relid = InvalidOid;
	guarded_relids[table] = relid;
	return relid;
}

/*
 * Does a table exist, and belong to the extension?  We remember the tables
 * that do, so that each access need not look that up in pg_depend.
 */
static bool
guarded_there(GuardedTable table)
{
	Oid			namespace = get_namespace_oid(REFRESHER_NAME, true);
	Oid			relid = guarded_relids[table];

	if (!OidIsValid(namespace))
		return false;
	return (OidIsValid(relid) &&
			get_relname_relid(guarded_names[table], namespace) == relid) ||
		OidIsValid(guarded_table(table));
}

/*
 * Which table of the extension is this?  GUARDED_NTABLES if none.  Needs a
 * transaction.
 */
GuardedTable
guarded_find(Oid relid)
{
	int			table = 0;

	while (table < GUARDED_NTABLES &&
		   !(guarded_there(table) && guarded_relids[table] == relid))
		table++;
	return table;
}

/*
 * Run an action that uses a table, with this lock on it.  "label" is the view
 * that it is done for, or NULL.
 *
 * Returns false if there is no such table, or if the action failed, with a
 * WARNING.  A table that has used up its time is silently left alone for the
 * rest of the transaction.  Raises an ERROR only for a cancel request.
 */
bool
guarded_run(GuardedTable table, LOCKMODE lock, GuardedAction action,
			void *arg, const char *label)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool		outermost = !guarded_running;
	volatile bool done = false;
	int64		start;

	if (guarded_lxid != compat_local_transaction_id())
	{
		guarded_lxid = compat_local_transaction_id();
		for (int i = 0; i < GUARDED_NTABLES; i++)
			guarded_left[i] = GUARDED_LIMIT;
	}
	if (guarded_left[table] <= 0 || !guarded_there(table))
		return false;

	start = elapsed_clock();
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		GuardedCaller caller;

		/* A trigger may refresh a view: then the outer limit applies. */
		if (outermost)
			guarded_start_timer(table);
		guarded_running = true;
		guarded_lock(table, lock);
		guarded_enter(table, &caller);
		action(arg);
		guarded_leave(&caller);
		guarded_running = !outermost;
		if (outermost)
			guarded_stop_timer(table, start);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		bool		overdue = outermost && guarded_overdue;

		guarded_running = !outermost;
		if (outermost)
			guarded_stop_timer(table, start);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		{
			if (!overdue)
				ReThrowError(error);
			guarded_left[table] = 0;
			error->sqlerrcode = ERRCODE_LOCK_NOT_AVAILABLE;
			error->message = psprintf("\"" REFRESHER_NAME ".%s\" was locked or busy for too long",
									  guarded_names[table]);
		}
		guarded_report(error, label);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

/*
 * Same, for a table that the refresh depends on: errors are raised, and only
 * the transaction's own timeouts limit the time.
 */
void
guarded_require(GuardedTable table, LOCKMODE lock, GuardedAction action,
				void *arg)
{
	bool		outermost = !guarded_running;
	GuardedCaller caller;

	if (!guarded_there(table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"" REFRESHER_NAME ".%s\" does not exist",
						guarded_names[table]),
				 errhint("Run CREATE EXTENSION " REFRESHER_NAME " in this database.")));
	PG_TRY();
	{
		guarded_running = true;
		guarded_lock(table, lock);
		guarded_enter(table, &caller);
		action(arg);
		guarded_leave(&caller);
	}
	PG_FINALLY();
	{
		guarded_running = !outermost;
	}
	PG_END_TRY();
}

/*
 * Is this process running an action on a table?
 */
bool
guarded_is_running(void)
{
	return guarded_running;
}

static void
guarded_start_timer(GuardedTable table)
{
	if (!guarded_timer_registered)
		guarded_timer = RegisterTimeout(USER_TIMEOUT, guarded_cancel);
	guarded_timer_registered = true;
	guarded_overdue = false;
	enable_timeout_after(guarded_timer, guarded_left[table]);
}

/*
 * Stop the timer, and charge the elapsed time to the table.
 *
 * If a cancel request came while ours was pending, we cannot tell the two
 * apart.  Then the request is lost, as if it had come too late.
 */
static void
guarded_stop_timer(GuardedTable table, int64 start)
{
	int64		elapsed = elapsed_since(start) / 1000;

	disable_timeout(guarded_timer, false);
	if (guarded_overdue)
		QueryCancelPending = false;
	if (elapsed > GUARDED_MOMENT)
		guarded_left[table] -= Min(elapsed, guarded_left[table]);
}

/*
 * Timeout handler: cancel the access.
 */
static void
guarded_cancel(void)
{
	guarded_overdue = true;
	QueryCancelPending = true;
	InterruptPending = true;
}

static void
guarded_report(const ErrorData *error, const char *label)
{
	const char *message = error->message ? error->message : "";
	char	   *line = label ?
		log_event("history_failed", "view", label, "error", message, NULL) :
		log_event("history_failed", "error", message, NULL);

	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg_internal("%s", line),
			 errhint("The views are refreshed all the same, but what \"" REFRESHER_NAME "\" knows of them is not complete.")));
	pfree(line);
}

/*
 * Lock the table until the end of the transaction.
 */
static void
guarded_lock(GuardedTable table, LOCKMODE lock)
{
	Relation	relation = table_open(guarded_relids[table], lock);

	if (lock != AccessShareLock)
		guarded_refuse_deferred(relation);
	table_close(relation, NoLock);
}

/*
 * Raise an ERROR if the table has a deferrable trigger: that could run later,
 * with other rights than those of the table's owner.
 */
static void
guarded_refuse_deferred(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgdeferrable && !trigger->tgisinternal &&
			trigger->tgenabled != TRIGGER_DISABLED)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("trigger \"%s\" of \"%s\" is deferrable",
							trigger->tgname,
							RelationGetRelationName(relation))));
	}
}

/*
 * Become the table's owner, with a safe search_path, a snapshot, and a
 * connection to SPI.  guarded_leave() also restores settings that a trigger
 * changes.
 *
 * After an ERROR in between, the end of the subtransaction restores
 * everything.
 */
static void
guarded_enter(GuardedTable table, GuardedCaller *caller)
{
	Relation	relation = table_open(guarded_relids[table], NoLock);
	Oid			owner = relation->rd_rel->relowner;

	table_close(relation, NoLock);
	GetUserIdAndSecContext(&caller->userid, &caller->sec_context);
	SetUserIdAndSecContext(owner, caller->sec_context |
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
guarded_leave(const GuardedCaller *caller)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	PopActiveSnapshot();
	AtEOXact_GUC(false, caller->guc_level);
	SetUserIdAndSecContext(caller->userid, caller->sec_context);
}

/*
 * Execute a statement, which is prepared on first use; in an action, or
 * wherever else we are connected to SPI.
 */
void
guarded_execute(GuardedStatement *statement, Datum *values,
				const char *nulls, bool read_only)
{
	int			result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->sql, statement->nargs,
									   unconstify(Oid *, statement->types));

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		statement->plan = plan;
	}
	result = SPI_execute_plan(statement->plan, values, nulls, read_only, 0);
	if (result != statement->expected)
		elog(ERROR, "could not execute \"%s\": %s", statement->sql,
			 SPI_result_code_string(result));
}

/*
 * For actions: raise an ERROR unless the columns of the result have these
 * types.  The owner of a table may have replaced its columns.
 */
void
guarded_check_columns(const GuardedColumn *columns, int ncolumns)
{
	for (int i = 0; i < ncolumns; i++)
	{
		Oid			type = SPI_gettypeid(SPI_tuptable->tupdesc, i + 1);

		if (type != columns[i].type)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" is of type %s, not %s",
							columns[i].name, format_type_be(type),
							format_type_be(columns[i].type))));
	}
}
