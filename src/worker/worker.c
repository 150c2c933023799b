/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker that serves one database.
 *
 * The main loop, and the only part that looks at the clock: sleep until a view
 * is due, plan, run a cycle, and again.  It sleeps on its latch and wakes up
 * for nothing but the time, a signal, or the death of the postmaster.
 *
 * SIGTERM is die(): it ends a running refresh at once and the process with
 * exit code 1, after which the postmaster starts another one (an exit code of
 * 0 would unregister the worker for good).  SIGHUP has the configuration read
 * anew.  SIGINT cancels the view in hand.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "src/common/compat.h"
#include "src/cycle/cycle.h"
#include "src/record/history.h"
#include "src/common/log.h"
#include "src/worker/memory.h"
#include "src/plan/plan.h"
#include "src/refresh/refresh.h"
#include "src/worker/schedule.h"
#include "src/common/settings.h"
#include "src/record/status.h"
#include "src/worker/worker.h"

/*
 * A cycle that starts later than this after it was due did not start on time:
 * the schedule then goes on from when it really started.
 */
#define WORKER_MAX_LATENESS USECS_PER_SEC

/* The history is pruned at most once in so many seconds */
#define WORKER_PRUNE_INTERVAL 3600

/* ... and not more than so many batches between two cycles */
#define WORKER_PRUNE_BATCHES 20

/* A view that was refreshed so often has all the memory that it needs */
#define WORKER_SETTLED_TRIES 8

/* What the worker knows from one turn of its loop to the next */
typedef struct WorkerState
{
	int			slot;			/* of the database, in the status */
	Schedule   *schedule;
	MemoryContext plan_context; /* reset with each plan */
	MemoryContext cycle_context;	/* reset with each cycle */
	RefreshPlan *plan;
	uint64		plan_hash;		/* of the list that was planned */
	TimestampTz awaited;		/* what it sleeps for; DT_NOEND: nothing */
	TimestampTz decided;		/* when it was decided to sleep for that */
	uint64		elsewhere;		/* refreshes in other sessions so far */
	bool		reread;			/* the history, with the next plan */
	TimestampTz last_prune;
	MemoryWatch memory;
	bool		history_missed; /* and it was said that it is missing */
} WorkerState;

static void worker_connect(const char *database);
static void worker_report_start(const WorkerState *state);
static void worker_plan(WorkerState *state);
static void worker_turn(WorkerState *state, bool timed_out);
static void worker_cycle(WorkerState *state, TimestampTz start,
						 TimestampTz now, uint64 run);
static void worker_prune(WorkerState *state, TimestampTz now);
static void worker_watch_counts(WorkerState *state);
static bool worker_forget_marks(void);
static bool worker_prune_batch(void);
static bool worker_attempt(bool (*action) (void));
static void worker_retire(WorkerState *state, TimestampTz now,
						  TimestampTz next);
static void worker_publish_search_path(void);
static void worker_check_history(WorkerState *state);
static bool worker_sleep(WorkerState *state);

/*
 * Register the worker of a database; in the postmaster only.
 */
void
worker_register(const char *database)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = refresher_restart_interval;
	strlcpy(worker.bgw_library_name, REFRESHER_NAME,
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "bigbrotr_refresher_worker_main",
			sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_type, WORKER_TYPE, sizeof(worker.bgw_type));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name),
			 REFRESHER_NAME ": %s", database);
	strlcpy(worker.bgw_extra, database, sizeof(worker.bgw_extra));
	RegisterBackgroundWorker(&worker);

	if (!compat_worker_registered(worker.bgw_name))
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is left to refresh the views of database \"%s\"",
						database),
				 errhint("Increase the configuration parameter \"max_worker_processes\".")));
}

/*
 * Entry point of the worker's process.
 */
void
bigbrotr_refresher_worker_main(Datum main_arg)
{
	WorkerState state = {0};
	bool		timed_out = false;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, refresh_handle_cancel);
	BackgroundWorkerUnblockSignals();

	worker_connect(MyBgworkerEntry->bgw_extra);
	state.slot = status_attach(MyBgworkerEntry->bgw_extra);

	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext,
												"bigbrotr_refresher worker",
												ALLOCSET_DEFAULT_SIZES));
	state.schedule = schedule_create();
	state.plan_context = AllocSetContextCreate(CurrentMemoryContext,
											   "bigbrotr_refresher plan",
											   ALLOCSET_DEFAULT_SIZES);
	state.cycle_context = AllocSetContextCreate(CurrentMemoryContext,
												"bigbrotr_refresher cycle",
												ALLOCSET_DEFAULT_SIZES);
	state.awaited = DT_NOEND;
	worker_plan(&state);
	worker_report_start(&state);
	worker_watch_counts(&state);

	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		/* Other backends wait for an idle one that is far behind. */
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();

		worker_turn(&state, timed_out);

		/* Whoever waited for a lock meanwhile has reset the latch, too. */
		timed_out = ConfigReloadPending ? false : worker_sleep(&state);
	}
}

/*
 * Connect to the database.  Where that cannot be done (there is no such
 * database or role, say), the process ends with FATAL and the postmaster tries
 * again after restart_interval.
 */
static void
worker_connect(const char *database)
{
	BackgroundWorkerInitializeConnection(database,
										 refresher_role[0] ? refresher_role : NULL,
										 0);
	refresh_force_settings();
}

static void
worker_report_start(const WorkerState *state)
{
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData line;

	StartTransactionCommand();
	initStringInfo(&line);
	log_append(&line, "database", get_database_name(MyDatabaseId));
	log_append(&line, "role", GetUserNameFromId(GetUserId(), false));
	log_append_int(&line, "views", state->plan->nitems);
	log_append_int(&line, "interval", refresher_interval);
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": worker_started%s",
								  line.data)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/*
 * Plan anew, by the list and the catalogs as they are now.
 */
static void
worker_plan(WorkerState *state)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64		elsewhere = status_elsewhere();

	MemoryContextReset(state->plan_context);
	state->plan = NULL;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	memory_trim_caches(&state->memory);
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "planning");
	MemoryContextSwitchTo(state->plan_context);
	if (!SearchSysCacheExists1(AUTHOID,
							   ObjectIdGetDatum(GetSessionUserId())))
		ereport(FATAL,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role of the worker was dropped")));
	state->plan = plan_make(refresher_view_list, GetUserId());
	state->plan_hash = refresher_view_list_hash;
	MemoryContextSwitchTo(caller);
	worker_check_history(state);
	schedule_follow(state->schedule, state->plan,
					state->reread || elsewhere != state->elsewhere,
					GetCurrentTimestamp());
	state->reread = false;
	state->elsewhere = elsewhere;
	MemoryContextSwitchTo(CurTransactionContext);
	worker_publish_search_path();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * With nothing due until "next", end if the process has grown too large; the
 * postmaster starts another one, which goes on by the history.  While there is
 * no pause to do it in, or no history, that is put off for some time.
 */
static void
worker_retire(WorkerState *state, TimestampTz now, TimestampTz next)
{
	Size		used = memory_used();
	bool		convenient = !state->history_missed &&
		refresher_history_retention > 0 &&
		next - now > (refresher_restart_interval + 1) * USECS_PER_SEC;

	if (!memory_is_excessive(&state->memory, used, convenient))
		return;
	ereport(LOG,
			(errmsg_internal("%s",
							 log_event("worker_retired", "database",
									   MyBgworkerEntry->bgw_extra, "memory",
									   psprintf("%zu", used), NULL)),
			 errdetail_internal("It has grown too large; another one will replace it.")));
	status_retire();
	proc_exit(1);
}

/*
 * Publish where names are looked up, for plan().  Needs a transaction.
 */
static void
worker_publish_search_path(void)
{
	List	   *path = fetch_search_path(false);
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, path)
	{
		const char *name = get_namespace_name(lfirst_oid(cell));

		if (name != NULL)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 quote_identifier(name));
	}
	status_set_search_path(names.data);
	pfree(names.data);
	list_free(path);
}

/*
 * Say once that the history is not kept, if it should be.  Needs a
 * transaction.
 */
static void
worker_check_history(WorkerState *state)
{
	bool		missed = refresher_history_retention > 0 &&
		!history_installed();

	if (missed && !state->history_missed)
		ereport(LOG,
				(errmsg_internal("%s",
								 log_event("history_missing", "database",
										   get_database_name(MyDatabaseId),
										   NULL)),
				 errhint("Run CREATE EXTENSION " REFRESHER_NAME " in this database to have a history, and what is shown of it.")));

	/* If it was restored from a dump, it knows more than we do. */
	if (!missed && state->history_missed)
		state->reread = true;
	state->history_missed = missed;
}

/*
 * Run cycles for as long as there is something due, then set what to sleep
 * for.  "timed_out": what was slept for has come.
 */
static void
worker_turn(WorkerState *state, bool timed_out)
{
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz start = now;
		TimestampTz next;
		uint64		run;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			worker_watch_counts(state);
			state->reread = true;
		}
		if (!refresher_enabled)
		{
			state->awaited = DT_NOEND;
			status_set_state(STATUS_DISABLED, 0);
			return;
		}
		if (state->plan_hash != refresher_view_list_hash ||
			state->elsewhere != status_elsewhere())
			worker_plan(state);

		/* The sleep went by the monotonic clock; the other may be behind. */
		if (timed_out)
			now = Max(now, state->awaited);

		/* Nothing at all to refresh: look again after one interval. */
		if (state->plan->nitems == 0 && timed_out)
			worker_plan(state);
		timed_out = false;

		next = schedule_next(state->schedule, state->plan, now);
		if (next == DT_NOEND)
			next = now + refresher_interval * USECS_PER_SEC;
		run = status_run_wanted();
		if (run == 0 && next > now)
		{
			state->awaited = next;
			state->decided = now;
			status_set_state(STATUS_IDLE, next);
			worker_retire(state, now, next);
			return;
		}

		/*
		 * On time: count from when it was due, so that the schedule does not
		 * drift.  By the clock: if that was set back, then from what it says.
		 */
		if (next == state->awaited && next <= now &&
			start - next < WORKER_MAX_LATENESS &&
			next - start < WORKER_MAX_LATENESS)
			start = next;
		state->awaited = DT_NOEND;
		worker_cycle(state, start, now, run);
		worker_prune(state, now);
		memory_after_cycle(&state->memory,
						   schedule_least_tries(state->schedule) >=
						   WORKER_SETTLED_TRIES);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Run one cycle over all that is due now; over everything, if a request to do
 * so is to be served.
 */
static void
worker_cycle(WorkerState *state, TimestampTz start, TimestampTz now,
			 uint64 run)
{
	MemoryContext caller;
	CycleResult result;
	QueueInput *views;

	worker_plan(state);

	caller = MemoryContextSwitchTo(state->cycle_context);
	views = palloc_extended(state->plan->nitems * sizeof(QueueInput) + 1,
							MCXT_ALLOC_HUGE);
	if (schedule_take_due(state->schedule, state->plan, start, now, run != 0,
						  views) > 0 || run != 0)
	{
		cycle_run(state->plan, views, start, run != 0, state->slot, &result);
		schedule_record(state->schedule, state->plan, start, views);
		if (run != 0 &&
			result.refreshed + result.failed + result.skipped == result.total)
			status_run_done(run);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(state->cycle_context);
}

/*
 * Delete what is too old of the history, if it is time to.  Each batch is a
 * transaction of its own, so that nothing is locked for long.
 */
static void
worker_prune(WorkerState *state, TimestampTz now)
{
	int64		pause = Min(WORKER_PRUNE_INTERVAL, refresher_history_retention);

	if (state->last_prune != 0 && state->last_prune <= now &&
		now - state->last_prune < pause * USECS_PER_SEC)
		return;
	state->last_prune = now;
	pgstat_report_activity(STATE_RUNNING, "pruning history");
	for (int i = 0;
		 i < WORKER_PRUNE_BATCHES && worker_attempt(worker_prune_batch); i++)
	{
		/* After the last, the rest is left to the next cycle. */
		if (i == WORKER_PRUNE_BATCHES - 1)
			state->last_prune = 0;
		CHECK_FOR_INTERRUPTS();
	}
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Changes that are not counted cannot be seen later: while track_counts is
 * off, forget what the views read.
 */
static void
worker_watch_counts(WorkerState *state)
{
	if (pgstat_track_counts)
		return;
	schedule_forget_marks(state->schedule);
	(void) worker_attempt(worker_forget_marks);
}

static bool
worker_forget_marks(void)
{
	history_forget_marks();
	return true;
}

static bool
worker_prune_batch(void)
{
	return history_prune_batch(refresher_history_retention);
}

/*
 * Do something with the history in a transaction of its own, and return what
 * that returns.  Trouble with the table is reported, and returns false.
 */
static bool
worker_attempt(bool (*action) (void))
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool result = false;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		result = action();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		result = false;
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return result;
}

/*
 * Sleep until what is awaited, or until there is another reason to wake up.
 * Returns whether the time has come.
 */
static bool
worker_sleep(WorkerState *state)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;

	if (state->awaited == DT_NOEND)
		pgstat_report_activity(STATE_IDLE, "disabled");
	else
	{
		char		activity[MAXDATELEN + 32];
		TimestampTz now;

		snprintf(activity, sizeof(activity), "next refresh due at %s",
				 timestamptz_to_str(state->awaited));
		pgstat_report_activity(STATE_IDLE, activity);

		/* If the clock was set back since that was decided, no longer. */
		now = Max(GetCurrentTimestamp(), state->decided);
		timeout = TimestampDifferenceMilliseconds(now, state->awaited);
		events |= WL_TIMEOUT;
	}
	return (WaitLatch(MyLatch, events, timeout,
					  compat_wait_event()) & WL_TIMEOUT) != 0;
}
