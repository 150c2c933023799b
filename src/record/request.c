/*-------------------------------------------------------------------------
 *
 * request.c
 *	  Requests of sessions to run a cycle now.
 *
 * A request is a number in the slot of the database.  A session that waits for
 * its cycle sleeps on a condition variable, which is broadcast when a
 * requested cycle or a worker ends.  It also looks from time to time, since
 * nobody broadcasts when the launcher ends.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "src/common/compat.h"
#include "src/common/elapsed.h"
#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/record/deadlock.h"
#include "src/record/request.h"
#include "src/record/slots.h"

/*
 * How long a worker may take to hear that it is enabled, the launcher to come
 * back once its restart is due, or a worker slot to become free, in
 * microseconds
 */
#define REQUEST_PATIENCE	(10 * USECS_PER_SEC)

/* A request, and the situation when it was made */
typedef struct Request
{
	uint64		number;
	uint64		ends;			/* how often workers had ended by then */
	bool		disabled;		/* the worker was */
	bool		insists;		/* serve it even then */
} Request;

/* The state of a request */
typedef struct RequestView
{
	bool		served;
	bool		refused;		/* because the worker is disabled */
	bool		failed;			/* a worker has ended meanwhile */
	bool		gone;			/* the database is not served any more */
	bool		closed;			/* it refuses the worker that would start */
	bool		orphaned;		/* there is neither worker nor launcher */
	bool		no_place;		/* no worker slot is free */
	StatusCounts counts;
	int64		duration;
} RequestView;

static bool request_is_listed(const char *name);
static bool request_is_stopped(void);
static bool request_is_closed(void);
static bool request_may_enable(void);
static Slot *request_find(void);
static void request_make(Slot *slot, Request *request);
static void request_wait(Slot *slot, Request *request, StatusCounts *counts,
						 int64 *duration);
static void request_look(const Slot *slot, const Request *request,
						 RequestView *view);
static void request_give_up(const RequestView *view, bool impatient,
							bool disabled);
static void request_refuse_deadlock(const Slot *slot);
static bool request_is_gone(const Slot *slot);
static void request_raise_gone(void);
static void request_raise_closed(void);
static void request_raise_disabled(void);
static void request_raise_not_running(const char *detail, const char *hint);

/*
 * Return why no worker refreshes the views of this database by their schedule,
 * and in *hint what to do about it, as sentences; NULL if, as far as we know,
 * a worker does.
 */
const char *
request_obstacle(const char **hint)
{
	const char *name = get_database_name(MyDatabaseId);

	if (RecoveryInProgress())
	{
		*hint = "It gets what the primary refreshes.";
		return "the server is in recovery.";
	}
	if (request_is_closed())
	{
		*hint = "Allow them by ALTER DATABASE.";
		return "the database does not accept connections.";
	}
	if (!slots_shared->registered)
	{
		*hint = "Increase \"max_worker_processes\", and restart the server.";
		return "when the server started, no background worker was left.";
	}
	if (!request_is_listed(name))
	{
		*hint = "Add the database to it, and reload the configuration.";
		return "\"" REFRESHER_NAME ".databases\" does not name this database.";
	}
	if (!refresher_enabled)
	{
		*hint = "Set it to \"on\", and reload the configuration.";
		return "\"" REFRESHER_NAME ".enabled\" is off.";
	}
	*hint = "The server log says why.";
	return request_is_stopped() ? "the last one has failed, or could not start." :
		NULL;
}

/*
 * Is this database, which has this name, to be served?  "*" does not include
 * templates.
 */
static bool
request_is_listed(const char *name)
{
	HeapTuple	tuple;
	bool		template;

	if (!refresher_database_list->all)
		return settings_database_is_listed(name);
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	if (!HeapTupleIsValid(tuple))
		return false;
	template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return !template;
}

/*
 * Is there no worker because the last one has failed?
 */
static bool
request_is_stopped(void)
{
	Slot	   *slot;
	bool		stopped;

	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_SHARED);
	slot = slots_find(MyDatabaseId);
	stopped = slot != NULL && slot->data.listed && slot->data.pid == 0 &&
		slot->failures > 0;
	LWLockRelease(slots_shared->lock);
	return stopped;
}

/*
 * Is there no worker, and does this database not let one connect?  The catalog
 * is asked, since the launcher may not have heard yet.
 */
static bool
request_is_closed(void)
{
	HeapTuple	tuple;
	Slot	   *slot;
	bool		closed;

	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_SHARED);
	slot = slots_find(MyDatabaseId);
	closed = slot == NULL || slot->data.pid == 0;
	LWLockRelease(slots_shared->lock);
	if (!closed)
		return false;
	AcceptInvalidationMessages();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	if (!HeapTupleIsValid(tuple))
		return false;
	closed = !((Form_pg_database) GETSTRUCT(tuple))->datallowconn;
	ReleaseSysCache(tuple);
	return closed;
}

/*
 * Request a cycle over all views of this database now; with "wait", wait for
 * its end, and return its counts and its duration in microseconds.
 *
 * "enabled" is about the schedule.  A role that may turn it on may also
 * request one cycle while it is off, which leaves it off; other roles may not,
 * and neither may a view that is refreshed in a cycle, or cycles would never
 * end.
 *
 * Raises an ERROR if nothing will run the cycle, at once or while we wait.
 * Can be cancelled.
 */
void
request_run(bool wait, StatusCounts *counts, int64 *duration)
{
	Slot	   *slot;
	Request		request = {0};

	if (wait && slots_mine != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a cycle cannot be waited for by a view that is refreshed in one")));
	if (RecoveryInProgress())
		request_raise_not_running("Nothing is refreshed during recovery.",
								  "Call it on the primary; a standby has a worker once it is promoted.");
	if (!slots_shared->registered)
		request_raise_not_running("When the server started, no background worker was left for it.",
								  "Increase the configuration parameter \"max_worker_processes\", and restart the server.");
	if (request_is_closed())
		request_raise_closed();
	slot = request_find();
	request.insists = !refresher_enabled && slots_mine == NULL;
	if (request.insists && !request_may_enable())
		request_raise_disabled();
	request_make(slot, &request);
	if (wait)
		request_wait(slot, &request, counts, duration);
}

/*
 * May the current user turn "enabled" on?
 */
static bool
request_may_enable(void)
{
	return pg_parameter_aclcheck(REFRESHER_NAME ".enabled", GetUserId(),
								 ACL_SET) == ACLCHECK_OK;
}

/*
 * Find the slot of this database.  If it has none yet, wait for some time,
 * since it may just have been created or listed.  Raises an ERROR if there is
 * none.
 */
static Slot *
request_find(void)
{
	const char *name = get_database_name(MyDatabaseId);
	bool		listed = settings_database_is_listed(name);
	Slot	   *slot;
	int64		begin;

	begin = elapsed_clock();
	(void) slots_area();
	for (;;)
	{
		LWLockAcquire(slots_shared->lock, LW_SHARED);
		slot = slots_find(MyDatabaseId);
		if (slot != NULL && !slot->data.listed)
			slot = NULL;
		LWLockRelease(slots_shared->lock);
		if (slot != NULL || !listed ||
			elapsed_since(begin) > REQUEST_PATIENCE)
			break;
		(void) ConditionVariableTimedSleep(&slots_shared->served, 100,
										   compat_wait_event());
	}
	ConditionVariableCancelSleep();
	if (slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no worker refreshes the views of database \"%s\"",
						log_valid(name)),
				 errhint("Add the database to \"" REFRESHER_NAME ".databases\" and reload the configuration.")));
	return slot;
}

/*
 * Make a request, and wake the process that will serve it.
 *
 * If no worker could start in this database, shorten the pause before the next
 * try to restart_interval.  Raises an ERROR if the slot no longer belongs to
 * this database.
 */
static void
request_make(Slot *slot, Request *request)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	if (request_is_gone(slot))
	{
		LWLockRelease(slots_shared->lock);
		request_raise_gone();
	}
	request->number = ++slot->requested;
	if (request->insists)
		slot->insisted = request->number;
	request->ends = slot->ends;
	request->disabled = slot->data.state == STATUS_DISABLED;
	slot->not_before = Min(slot->not_before, elapsed_clock() +
						   refresher_restart_interval * USECS_PER_SEC);
	if (slot->latch != NULL)
		SetLatch(slot->latch);
	else if (slots_shared->launcher_latch != NULL)
		SetLatch(slots_shared->launcher_latch);
	LWLockRelease(slots_shared->lock);
}

static void
request_wait(Slot *slot, Request *request, StatusCounts *counts,
			 int64 *duration)
{
	bool		disabled = request->disabled;
	RequestView view;
	int64		good;			/* when there was last no trouble */

	good = elapsed_clock();
	for (;;)
	{
		int64		patience = REQUEST_PATIENCE;
		bool		troubled;

		request_look(slot, request, &view);
		if (view.served)
			break;
		troubled = view.orphaned || view.no_place || disabled;
		if (!troubled)
			good = elapsed_clock();
		if (view.orphaned)
			patience += refresher_restart_interval * USECS_PER_SEC;
		request_give_up(&view, elapsed_since(good) > patience, disabled);

		/* The worker may not have heard yet that it is enabled. */
		if (view.refused)
			request_make(slot, request);
		if (ConditionVariableTimedSleep(&slots_shared->served,
										troubled ? 1000 : DeadlockTimeout,
										compat_wait_event()))
			request_refuse_deadlock(slot);
	}
	ConditionVariableCancelSleep();
	*counts = view.counts;
	*duration = view.duration;
}

static void
request_look(const Slot *slot, const Request *request, RequestView *view)
{
	LWLockAcquire(slots_shared->lock, LW_SHARED);
	view->gone = request_is_gone(slot);
	view->closed = !slot->connectable && slot->data.pid == 0;
	view->served = !view->gone && slot->served >= request->number;
	view->refused = slot->refused >= request->number;
	view->failed = slot->ends != request->ends;
	view->orphaned = slot->data.pid == 0 && slots_shared->launcher_pid == 0;
	view->no_place = slot->data.pid == 0 && slots_shared->places_missing;
	view->counts = slot->served_counts;
	view->duration = slot->served_duration;
	LWLockRelease(slots_shared->lock);
}

/*
 * Raise an ERROR if the request will not be served; if that is not certain,
 * only if we have waited long enough ("impatient").  "disabled": the worker
 * was disabled at the request, and may not have heard yet that it no longer
 * is.
 */
static void
request_give_up(const RequestView *view, bool impatient, bool disabled)
{
	if (view->gone)
		request_raise_gone();
	if (view->closed && request_is_closed())
		request_raise_closed();
	if (view->refused && (impatient || !disabled))
		request_raise_disabled();
	if (view->failed)
		request_raise_not_running("It has ended, or could not start.",
								  "The server log says why; it is started again after \"" REFRESHER_NAME ".restart_interval\".");
	if (view->orphaned && impatient)
		request_raise_not_running("The process that starts it is not running either.",
								  "The server log says why.");
	if (view->no_place && impatient)
		request_raise_not_running("No background worker is left for it.",
								  "Increase the configuration parameter \"max_worker_processes\", and restart the server.");
}

/*
 * Raise an ERROR if the cycle that we wait for waits for us: a refresh, the
 * worker while it plans, or the launcher that is to start it.  The server's
 * deadlock detector cannot know, since we do not wait for a lock.  So we check
 * this as often as it would.
 */
static void
request_refuse_deadlock(const Slot *slot)
{
	int			pids[STATUS_MAX_RUNNING + 1];
	int			npids = 0;

	LWLockAcquire(slots_shared->lock, LW_SHARED);
	pids[npids++] = slot->data.pid != 0 && !request_is_gone(slot) ?
		slot->data.pid : slots_shared->launcher_pid;
	for (int i = 0; i < slots_shared->nrunning; i++)
	{
		const StatusRunning *running = &slots_shared->running[i];

		if (running->pid != 0 && running->database == MyDatabaseId &&
			npids <= STATUS_MAX_RUNNING)
			pids[npids++] = running->pid;
	}
	LWLockRelease(slots_shared->lock);
	deadlock_check(pids, npids);
}

/*
 * Is this no longer the slot of this database?  The lock must be held.
 */
static bool
request_is_gone(const Slot *slot)
{
	return slot->database != MyDatabaseId || !slot->used ||
		!slot->data.listed;
}

static void
request_raise_gone(void)
{
	request_raise_not_running("The database is not to be served any more.",
							  "See \"" REFRESHER_NAME ".databases\".");
}

static void
request_raise_closed(void)
{
	request_raise_not_running("The database does not accept connections.",
							  "Allow them by ALTER DATABASE.");
}

static void
request_raise_disabled(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the worker of database \"%s\" is disabled",
					log_valid(get_database_name(MyDatabaseId))),
			 errhint("Set \"" REFRESHER_NAME ".enabled\" to \"on\" and reload the configuration, or have a role run the cycle that may set it.")));
}

static void
request_raise_not_running(const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the worker of database \"%s\" is not running",
					log_valid(get_database_name(MyDatabaseId))),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint)));
}

/*
 * Return the last request that no cycle has served yet; 0 if there is none.
 */
uint64
request_wanted(void)
{
	uint64		wanted = 0;

	LWLockAcquire(slots_shared->lock, LW_SHARED);
	if (slots_mine->requested > Max(slots_mine->served, slots_mine->refused))
		wanted = slots_mine->requested;
	LWLockRelease(slots_shared->lock);
	return wanted;
}

/*
 * Is there a request that is to be served even if the worker is disabled?
 */
bool
request_insisted(void)
{
	bool		insisted;

	LWLockAcquire(slots_shared->lock, LW_SHARED);
	insisted = slots_insisted(slots_mine);
	LWLockRelease(slots_shared->lock);
	return insisted;
}

/*
 * The last cycle has served this request: it was over all views, and started
 * after the request.
 */
void
request_done(uint64 request)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_mine->served = request;
	slots_mine->served_counts = slots_mine->data.cycle;
	slots_mine->served_duration = slots_mine->data.cycle_duration;
	LWLockRelease(slots_shared->lock);
	ConditionVariableBroadcast(&slots_shared->served);
}

/*
 * The worker is disabled: refuse all requests, unless one has just come that
 * insists.
 */
void
request_refuse(void)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	if (slots_insisted(slots_mine))
		SetLatch(MyLatch);
	else
		slots_mine->refused = slots_mine->requested;
	LWLockRelease(slots_shared->lock);
	ConditionVariableBroadcast(&slots_shared->served);
}
