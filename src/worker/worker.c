/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker that serves one database.
 *
 * The main loop: gather facts, decide (decide.c), act.  It sleeps on its latch
 * and wakes up for nothing but the time, a signal, a request, or the death of
 * the postmaster.  It is the only part that looks at the clock.
 *
 * Each turn of the loop has a memory context of its own, so that what is
 * allocated on the way is gone with the turn.
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

#include "src/common/attempt.h"
#include "src/common/compat.h"
#include "src/cycle/cycle.h"
#include "src/record/history.h"
#include "src/common/log.h"
#include "src/worker/decide.h"
#include "src/worker/memory.h"
#include "src/plan/plan.h"
#include "src/refresh/refresh.h"
#include "src/worker/schedule.h"
#include "src/common/settings.h"
#include "src/record/status.h"
#include "src/worker/worker.h"

/* The history is pruned at most once in so many seconds */
#define WORKER_PRUNE_INTERVAL 3600

/* A view that was refreshed so often has all the memory that it needs */
#define WORKER_SETTLED_TRIES 8

/* What the worker knows from one turn of its loop to the next */
typedef struct WorkerState
{
	int			slot;			/* of the database, in the status */
	Schedule   *schedule;
	MemoryContext turn_context; /* reset with each turn */
	MemoryContext plan_context; /* reset with each plan */
	RefreshPlan *plan;
	TimestampTz planned_at;
	uint64		plan_hash;		/* of the list that was planned */
	int			plan_generation;	/* of the settings */
	uint64		elsewhere;		/* refreshes by other sessions until then */
	TimestampTz awaited;		/* what it sleeps for; DT_NOEND: nothing */
	TimestampTz decided_at;		/* when it was decided to sleep for that */
	bool		timed_out;		/* what it slept for has come */
	TimestampTz last_prune;
	bool		prune_unfinished;	/* too old rows were left */
	MemoryWatch memory;
	Oid			history;		/* its table; InvalidOid: there is none */
	bool		history_missed; /* and it was said that it is missing */
} WorkerState;

static void worker_connect(const char *database);
static void worker_report_start(const WorkerState *state);
static void worker_plan(WorkerState *state);
static DecideFacts worker_gather(WorkerState *state);
static bool worker_turn(WorkerState *state);
static void worker_cycle(WorkerState *state, TimestampTz start,
						 TimestampTz now);
static bool worker_prune_pending(const WorkerState *state, TimestampTz now);
static void worker_prune(WorkerState *state, TimestampTz now);
static void worker_prune_batch(void *arg);
static void worker_retire(WorkerState *state, TimestampTz now,
						  TimestampTz next);
static void worker_publish_search_path(void);
static bool worker_check_history(WorkerState *state);
static void worker_sleep(WorkerState *state);

/*
 * Register the worker of a database; in the postmaster only.  Returns false,
 * after a WARNING, if there is no slot left for it.
 */
bool
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

	if (compat_worker_registered(worker.bgw_name))
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("no background worker is left to refresh the views of database \"%s\"",
					database),
			 errhint("Increase the configuration parameter \"max_worker_processes\".")));
	return false;
}

/*
 * Entry point of the worker's process.
 */
void
bigbrotr_refresher_worker_main(Datum main_arg)
{
	WorkerState state = {0};

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, settings_handle_reload);
	pqsignal(SIGINT, attempt_handle_cancel);
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
	state.turn_context = AllocSetContextCreate(CurrentMemoryContext,
											   "bigbrotr_refresher turn",
											   ALLOCSET_DEFAULT_SIZES);
	state.awaited = DT_NOEND;
	MemoryContextSwitchTo(state.turn_context);
	worker_plan(&state);
	worker_report_start(&state);

	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		/* Other backends wait for an idle one that is far behind. */
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();

		while (!worker_turn(&state))
		{
			CHECK_FOR_INTERRUPTS();
			MemoryContextReset(state.turn_context);
		}
		MemoryContextReset(state.turn_context);
		worker_sleep(&state);
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
	int			generation = settings_generation();
	uint64		elsewhere = status_elsewhere();

	Assert(CurrentMemoryContext == state->turn_context);
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
	state->planned_at = GetCurrentTimestamp();
	MemoryContextSwitchTo(caller);

	/* Other sessions, or a dump that was restored, may know more than we. */
	schedule_follow(state->schedule, state->plan,
					worker_check_history(state) ||
					generation != state->plan_generation ||
					elsewhere != state->elsewhere,
					state->planned_at);
	state->plan_generation = generation;
	state->elsewhere = elsewhere;
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
 * Say once that the history is not kept, if it should be.  Returns whether
 * there is another one than before.  Needs a transaction.
 */
static bool
worker_check_history(WorkerState *state)
{
	Oid			history = history_installed();
	bool		missed = refresher_history_retention > 0 &&
		!OidIsValid(history);
	bool		appeared = OidIsValid(history) && history != state->history;

	if (missed && !state->history_missed)
		ereport(LOG,
				(errmsg_internal("%s",
								 log_event("history_missing", "database",
										   status_database(), NULL)),
				 errhint("%s", history_missing_hint())));
	state->history = history;
	state->history_missed = missed;
	return appeared;
}

/*
 * Gather the facts for the next decision.
 */
static DecideFacts
worker_gather(WorkerState *state)
{
	DecideFacts facts = {0};

	status_reload();
	facts.enabled = refresher_enabled;
	facts.plan_outdated = state->plan_hash != refresher_view_list_hash ||
		state->elsewhere != status_elsewhere();
	facts.run_requested = status_run_wanted() != 0;
	facts.clock = GetCurrentTimestamp();
	facts.awaited = state->awaited;
	facts.timed_out = state->timed_out;
	facts.planned_at = state->planned_at;
	facts.interval = refresher_interval;
	facts.next_due = schedule_next(state->schedule, state->plan,
								   decide_now(&facts));
	facts.prune_pending = worker_prune_pending(state, facts.clock);
	return facts;
}

/*
 * Decide what to do, and do it.  Returns true if the worker is to rest.
 */
static bool
worker_turn(WorkerState *state)
{
	DecideFacts facts = worker_gather(state);
	Decision	decision = decide(&facts);

	switch (decision.action)
	{
		case DECIDE_REST_DISABLED:
			state->awaited = DT_NOEND;
			status_set_state(STATUS_DISABLED, 0);
			return true;
		case DECIDE_REST:
			state->awaited = decision.until;
			state->decided_at = decide_now(&facts);
			state->timed_out = false;
			status_set_state(STATUS_IDLE, decision.until);
			worker_retire(state, state->decided_at, decision.until);
			return true;
		case DECIDE_PLAN:
			worker_plan(state);
			return false;
		case DECIDE_CYCLE:
			state->awaited = DT_NOEND;
			state->timed_out = false;
			worker_cycle(state, decision.start, decide_now(&facts));

			/* However late the next cycle is, there is a step of this. */
			if (worker_prune_pending(state, facts.clock))
				worker_prune(state, facts.clock);
			return false;
		case DECIDE_PRUNE:
			worker_prune(state, facts.clock);
			return false;
	}
	return false;
}

/*
 * Run one cycle over all that is due now; over everything, if a request to do
 * so is to be served.
 */
static void
worker_cycle(WorkerState *state, TimestampTz start, TimestampTz now)
{
	uint64		run = status_run_wanted();
	CycleResult result;
	QueueItem  *items;

	worker_plan(state);
	items = palloc_extended(state->plan->nitems * sizeof(QueueItem) + 1,
							MCXT_ALLOC_HUGE);
	if (schedule_take_due(state->schedule, state->plan, start, now, run != 0,
						  items) > 0 || run != 0)
	{
		cycle_run(state->plan, items, start, run != 0, state->slot, &result);
		schedule_record(state->schedule, state->plan, items);
		if (run != 0 &&
			result.refreshed + result.failed + result.skipped +
			result.dropped == result.total)
			status_run_done(run);
		memory_after_cycle(&state->memory,
						   schedule_least_tries(state->schedule) >=
						   WORKER_SETTLED_TRIES);
	}
}

/*
 * Is it time to look for rows of the history that are too old?
 */
static bool
worker_prune_pending(const WorkerState *state, TimestampTz now)
{
	int64		pause = Min(WORKER_PRUNE_INTERVAL, refresher_history_retention);

	return pause > 0 &&
		(state->prune_unfinished || state->last_prune == 0 ||
		 state->last_prune > now ||
		 now - state->last_prune >= pause * USECS_PER_SEC);
}

/*
 * Delete some of what is too old of the history: so little that nothing waits
 * for it for long.
 */
static void
worker_prune(WorkerState *state, TimestampTz now)
{
	bool		more = false;

	pgstat_report_activity(STATE_RUNNING, "pruning history");
	state->prune_unfinished =
		attempt_or_report(worker_prune_batch, &more) && more;
	state->last_prune = now;
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
worker_prune_batch(void *arg)
{
	bool	   *more = arg;

	*more = history_prune_batch(refresher_history_retention);
}

/*
 * Sleep until what is awaited, or until there is another reason to wake up.
 */
static void
worker_sleep(WorkerState *state)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;

	/* Whoever waited for a lock meanwhile has reset the latch, too. */
	if (settings_reload_pending())
		return;
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
		now = Max(GetCurrentTimestamp(), state->decided_at);
		timeout = TimestampDifferenceMilliseconds(now, state->awaited);
		events |= WL_TIMEOUT;
	}
	state->timed_out = (WaitLatch(MyLatch, events, timeout,
								  compat_wait_event()) & WL_TIMEOUT) != 0;
}
