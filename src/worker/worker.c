/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker that serves one database.
 *
 * The main loop gathers facts, decides (decide.c) and acts.  It sleeps on its
 * latch and wakes up only at a due time, or for a signal, a request, or the
 * postmaster's death.  No other part of the worker reads the clock for the
 * schedule.
 *
 * Each turn of the loop has its own memory context, so that what it allocates
 * is freed with the turn.
 *
 * The launcher starts a worker when there is something to do, and the worker
 * leaves when nothing is due for some time (claim.c).  It stays if there is no
 * history from which another worker could continue.
 *
 * SIGTERM is die(): it aborts a running refresh at once and ends the process
 * with exit code 1, after which the launcher starts another one.  SIGHUP
 * reloads the configuration.  SIGINT cancels the current view.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "src/common/attempt.h"
#include "src/common/compat.h"
#include "src/common/elapsed.h"
#include "src/cycle/cycle.h"
#include "src/record/history.h"
#include "src/common/log.h"
#include "src/common/process.h"
#include "src/worker/decide.h"
#include "src/plan/plan.h"
#include "src/refresh/refresh.h"
#include "src/worker/schedule.h"
#include "src/common/settings.h"
#include "src/record/claim.h"
#include "src/record/request.h"
#include "src/record/status.h"
#include "src/record/told.h"
#include "src/worker/overrides.h"
#include "src/worker/worker.h"

/* The history is pruned at most once in this many seconds */
#define WORKER_PRUNE_INTERVAL 3600

/*
 * A worker older than this, in microseconds, makes way for another one even if
 * something is due: the views' functions make the server's caches grow.
 */
#define WORKER_LIFETIME		(3600 * USECS_PER_SEC)

#define WORKER_MAIN	"bigbrotr_refresher_worker_main"

/* Arguments of the worker's process */
typedef struct WorkerArgs
{
	Oid			database;
	Oid			role;			/* InvalidOid: the bootstrap superuser */
} WorkerArgs;

/* What the worker keeps from one turn of its loop to the next */
typedef struct WorkerState
{
	int64		began;
	Schedule   *schedule;
	MemoryContext turn_context; /* reset with each turn */
	MemoryContext plan_context; /* reset with each plan */
	RefreshPlan *plan;
	TimestampTz planned_at;
	uint64		plan_hash;		/* of the list that was planned */
	int			plan_generation;	/* of the settings */
	uint64		plan_request;	/* it may serve requests up to this one */
	bool		plan_is_new;	/* it was not used yet, and nothing slow was
								 * done since it was made */
	uint64		heard;			/* news from other sessions that we have
								 * processed */
	bool		connected;		/* "overrides" is valid */
	uint64		overrides;		/* settings of the database and the role */
	TimestampTz awaited;		/* the time that it sleeps until; DT_NOEND:
								 * none */
	TimestampTz decided_at;		/* when it decided to sleep until then */
	bool		timed_out;		/* the awaited time has come */
	bool		had_turn;		/* it has run a cycle */
	TimestampTz last_prune;
	bool		prune_unfinished;	/* rows that are too old were left */
	Oid			history;		/* its table; InvalidOid: there is none */
	bool		history_missed; /* it was reported missing */
} WorkerState;

static void worker_begin(WorkerState *state);
static void worker_report_start(const WorkerState *state);
static void worker_plan(WorkerState *state);
static bool worker_plan_serves(const WorkerState *state, uint64 run);
static DecideFacts worker_gather(WorkerState *state);
static bool worker_turn(WorkerState *state);
static void worker_cycle(WorkerState *state, TimestampTz start,
						 TimestampTz now);
static bool worker_prune_pending(const WorkerState *state, TimestampTz now);
static void worker_prune(WorkerState *state, TimestampTz now);
static void worker_prune_batch(void *arg);
static bool worker_leave(WorkerState *state, const Decision *decision);
static void worker_make_way(WorkerState *state);
static bool worker_stays(const WorkerState *state);
static void worker_publish_search_path(void);
static bool worker_check_history(WorkerState *state);
static void worker_sleep(WorkerState *state);

/*
 * Start a worker for a database; in the launcher only.  Returns its handle,
 * allocated in the current memory context, or NULL if no slot is free.
 */
BackgroundWorkerHandle *
worker_start(Oid database, Oid role, const char *name)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	WorkerArgs	args = {database, role};

	process_describe(&worker, WORKER_MAIN, WORKER_TYPE, name);
	memcpy(worker.bgw_extra, &args, sizeof(args));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return NULL;
	return handle;
}

/*
 * Entry point of the worker's process.
 */
void
bigbrotr_refresher_worker_main(Datum main_arg)
{
	WorkerState state = {0};

	process_handle_signals();
	worker_begin(&state);
	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		process_catch_up();

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
 * Claim the database, connect to it, and plan.
 *
 * We claim first, so that the exit callbacks give up the claim only after the
 * transaction has ended and its locks are released.  If the process cannot
 * connect, it ends with FATAL, and the launcher tries again later.
 */
static void
worker_begin(WorkerState *state)
{
	WorkerArgs	args;
	ClaimStart	start;
	MemoryContext context;
	uint32	   *said;
	int			nsaid;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	if (!claim_take(args.database, &start))
		proc_exit(0);
	status_join();
	BackgroundWorkerInitializeConnectionByOid(args.database, args.role, 0);
	refresh_force_settings();
	claim_connected();
	settings_expect_reload();
	status_reload();
	state->began = elapsed_clock();

	context = AllocSetContextCreate(TopMemoryContext,
									"bigbrotr_refresher worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	nsaid = claim_read_notes(&said);
	state->schedule = schedule_create(said, nsaid);
	state->plan_context = AllocSetContextCreate(context,
												"bigbrotr_refresher plan",
												ALLOCSET_DEFAULT_SIZES);
	state->turn_context = AllocSetContextCreate(context,
												"bigbrotr_refresher turn",
												ALLOCSET_DEFAULT_SIZES);
	state->awaited = start.due;
	state->timed_out = start.has_come && start.due != DT_NOEND;
	state->last_prune = start.last_prune;
	MemoryContextSwitchTo(state->turn_context);
	worker_plan(state);
	if (state->plan != NULL && !start.announced)
	{
		worker_report_start(state);
		claim_announced();
	}
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
 * Make a new plan from the current list and catalogs.
 */
static void
worker_plan(WorkerState *state)
{
	MemoryContext caller = CurrentMemoryContext;
	int			generation = settings_generation();
	uint64		heard = told_heard();
	uint64		request = request_wanted();
	uint64		overrides;

	Assert(CurrentMemoryContext == state->turn_context);
	MemoryContextReset(state->plan_context);
	state->plan = NULL;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "planning");
	MemoryContextSwitchTo(state->plan_context);
	if (!SearchSysCacheExists1(AUTHOID,
							   ObjectIdGetDatum(GetSessionUserId())))
		ereport(FATAL,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role of the worker was dropped")));
	overrides = overrides_hash();
	if (state->connected ? overrides != state->overrides :
		claim_settings_changed())
		worker_make_way(state);
	state->overrides = overrides;
	state->connected = true;
	if (!claim_news().named && !OidIsValid(history_installed()))
	{
		/* Served only because of "*", and without the extension */
		state->history = InvalidOid;
		state->heard = heard;
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
		return;
	}
	state->plan = plan_make(refresher_view_list, GetUserId());
	state->plan_hash = refresher_view_list_hash;
	state->planned_at = GetCurrentTimestamp();
	ereport(DEBUG1,
			(errmsg_internal(REFRESHER_NAME ": planned %d views",
							 state->plan->nitems)));
	MemoryContextSwitchTo(caller);

	/* Other sessions or a restored dump may have changed the states. */
	schedule_follow(state->schedule, state->plan,
					worker_check_history(state) ||
					generation != state->plan_generation ||
					heard != state->heard,
					state->planned_at);
	state->plan_generation = generation;
	state->plan_request = request;
	state->plan_is_new = true;
	state->heard = heard;
	claim_stay(worker_stays(state));
	worker_publish_search_path();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Can the plan be used for a cycle that starts now and serves the requests up
 * to "run"?  It can if it was made a moment ago, by a worker that has just
 * started or after a reload.
 *
 * A requested cycle must see everything that was there at the request.
 */
static bool
worker_plan_serves(const WorkerState *state, uint64 run)
{
	return state->plan_is_new && state->plan != NULL &&
		run <= state->plan_request &&
		state->plan_generation == settings_generation() &&
		state->heard == told_heard();
}

/*
 * Exit, since there is nothing to do until decision->until.  Returns false if
 * there is something to do now; otherwise does not return.
 */
static bool
worker_leave(WorkerState *state, const Decision *decision)
{
	ClaimLeave	leave = {0};
	uint32	   *said;
	int			nsaid;

	if (settings_reload_pending())
		return false;
	leave.due = decision->until;
	leave.disabled = !refresher_enabled;
	leave.installed = OidIsValid(state->history);
	leave.heard = state->heard;
	nsaid = schedule_said(state->schedule, &said);
	claim_write_notes(said, nsaid);
	if (!claim_leave(&leave))
		return false;
	proc_exit(0);
}

/*
 * Exit to make way for a worker with the current settings.
 */
static void
worker_make_way(WorkerState *state)
{
	uint32	   *said;
	int			nsaid;

	/* Before the first plan, the notes of the last worker are still valid. */
	if (state->connected)
	{
		nsaid = schedule_said(state->schedule, &said);
		claim_write_notes(said, nsaid);
	}
	claim_hand_over();
	proc_exit(0);
}

/*
 * Is there no history from which another worker could continue?
 */
static bool
worker_stays(const WorkerState *state)
{
	return !OidIsValid(state->history) || refresher_history_retention == 0;
}

/*
 * Publish our search_path, for plan().  Needs a transaction.
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

	/* An empty path is known, too: it names no schema that can exist. */
	if (names.len == 0)
		appendStringInfoString(&names, "\"\"");
	status_set_search_path(names.data);
	pfree(names.data);
	list_free(path);
}

/*
 * Log once if the history should be kept but has no table.  Returns whether
 * there is a new table.  Needs a transaction.
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
	ClaimNews	news;

	/*
	 * Look for a request first.  What was set before a cycle was asked for
	 * holds for that cycle.
	 */
	facts.run_requested = request_wanted() != 0;
	status_reload();
	status_set_time_zone(pg_get_timezone_name(session_timezone));
	news = claim_news();
	facts.served = news.served && (state->plan != NULL || news.named ||
								   state->heard != told_heard());
	facts.enabled = refresher_enabled || request_insisted();
	facts.stays = worker_stays(state);
	facts.others_wait = news.others_wait ||
		elapsed_since(state->began) > WORKER_LIFETIME;
	facts.had_turn = state->had_turn;
	facts.plan_outdated = state->plan == NULL ||
		state->plan_hash != refresher_view_list_hash ||
		state->heard != told_heard();
	facts.clock = GetCurrentTimestamp();
	facts.awaited = state->awaited;
	facts.timed_out = state->timed_out;
	facts.planned_at = state->planned_at;
	facts.interval = refresher_interval;
	facts.next_due = state->plan == NULL ? DT_NOEND :
		schedule_next(state->schedule, state->plan, decide_now(&facts));
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
			if (facts.run_requested)
				request_refuse();
			return true;
		case DECIDE_REST:
			state->awaited = decision.until;
			state->decided_at = decide_now(&facts);
			state->timed_out = false;
			status_set_state(STATUS_IDLE, decision.until);
			return true;
		case DECIDE_LEAVE:
			return worker_leave(state, &decision);
		case DECIDE_PLAN:
			worker_plan(state);
			return false;
		case DECIDE_CYCLE:
			state->awaited = DT_NOEND;
			state->timed_out = false;
			worker_cycle(state, decision.start, decide_now(&facts));
			state->had_turn = true;

			/* Prune a batch even if the next cycle is already due. */
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
 * Run a cycle over the views that are due now; over all views, if one was
 * requested.
 */
static void
worker_cycle(WorkerState *state, TimestampTz start, TimestampTz now)
{
	uint64		run = request_wanted();
	CycleResult result;
	QueueItem  *items;

	if (!worker_plan_serves(state, run))
		worker_plan(state);
	if (state->plan == NULL)
		return;
	state->plan_is_new = false;
	items = palloc_extended(state->plan->nitems * sizeof(QueueItem) + 1,
							MCXT_ALLOC_HUGE);
	if (schedule_take_due(state->schedule, state->plan, start, now, run != 0,
						  items) > 0 || run != 0)
	{
		cycle_run(state->plan, items, start, run != 0, &result);
		schedule_record(state->schedule, state->plan, items);
		if (run != 0 &&
			result.refreshed + result.failed + result.skipped +
			result.dropped == result.total)
			request_done(run);
	}
}

/*
 * Is it time to prune the history?
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
 * Delete some rows of the history that are too old: so few that nothing waits
 * for long.
 */
static void
worker_prune(WorkerState *state, TimestampTz now)
{
	bool		more = false;

	state->plan_is_new = false;
	pgstat_report_activity(STATE_RUNNING, "pruning history");
	state->prune_unfinished =
		attempt_or_report(worker_prune_batch, &more) && more;
	state->last_prune = now;
	claim_pruned(now);
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
 * Sleep until the awaited time, or until the latch is set.
 */
static void
worker_sleep(WorkerState *state)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;

	state->plan_is_new = false;

	/* If we waited for a lock, that may have reset the latch. */
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

		/* If the clock was set back since we decided, do not sleep longer. */
		now = Max(GetCurrentTimestamp(), state->decided_at);
		timeout = TimestampDifferenceMilliseconds(now, state->awaited);
		events |= WL_TIMEOUT;
	}

	/* A latch can wait for up to 24 days only; we then sleep again. */
	timeout = Min(timeout, INT_MAX);
	state->timed_out = (WaitLatch(MyLatch, events, timeout,
								  compat_wait_event()) & WL_TIMEOUT) != 0 &&
		timeout < INT_MAX;
}
