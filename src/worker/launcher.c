/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The process that starts workers when there is something to do.
 *
 * It is not connected to a database.  For each database that is served it
 * knows when something is due there.  It sleeps until then and starts a
 * worker, which does what is due, publishes when the next view is due, and
 * leaves.  Sessions tell the launcher at commit when they change something
 * that concerns it (told.c), so it does not poll.
 *
 * All of its knowledge is in shared memory: a new launcher continues where the
 * last one ended, and finds running workers by their claims.  It never waits
 * for a worker to start or end.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "src/common/compat.h"
#include "src/common/elapsed.h"
#include "src/common/log.h"
#include "src/common/process.h"
#include "src/common/settings.h"
#include "src/record/claim.h"
#include "src/refresh/refresh.h"
#include "src/worker/launch.h"
#include "src/worker/launcher.h"
#include "src/worker/roster.h"
#include "src/worker/worker.h"

#define LAUNCHER_TYPE	"bigbrotr_refresher launcher"
#define LAUNCHER_MAIN	"bigbrotr_refresher_launcher_main"

/* How often to retry while no worker slot is free, in microseconds */
#define LAUNCHER_RETRY	(1 * USECS_PER_SEC)

/* ... and when to warn: worker slots come and go with parallel queries */
#define LAUNCHER_PATIENCE	(5 * USECS_PER_SEC)

/* A worker that this launcher has started, and that has not ended yet */
typedef struct LauncherWorker
{
	Oid			database;
	dsa_pointer slot;
	BackgroundWorkerHandle *handle;
} LauncherWorker;

/* What the launcher keeps from one turn of its loop to the next */
typedef struct LauncherState
{
	MemoryContext turn_context; /* reset with each turn */
	List	   *workers;		/* of LauncherWorker, in TopMemoryContext */
	uint64		roster;			/* version of the roster that it has read */
	bool		roster_outdated;
	bool		empty_reported; /* that there is nothing to serve */
	int64		full_since;		/* monotonic: since when no worker slot is
								 * free; 0: one is */
	bool		full_reported;
	bool		role_reported;	/* that the role does not exist */
} LauncherState;

static int64 launcher_turn(LauncherState *state);
static void launcher_read_roster(LauncherState *state);
static void launcher_report_missing(const ClaimDatabase *databases, int n);
static void launcher_report_unreachable(const ClaimFacts *facts);
static int	launcher_limit(void);
static bool launcher_start_workers(LauncherState *state,
								   const ClaimFacts *facts,
								   const LaunchDecision *decision);
static bool launcher_start_worker(LauncherState *state,
								  const ClaimFacts *database, Oid role);
static void launcher_forget_workers(LauncherState *state);
static bool launcher_has_worker(const LauncherState *state, Oid database);
static bool launcher_find_role(LauncherState *state, Oid *role);
static void launcher_report_full(LauncherState *state, bool full);
static void launcher_sleep(int64 pause);

/*
 * Register the launcher; in the postmaster only.  Returns false, after a
 * WARNING, if there is no slot for it.
 */
bool
launcher_register(void)
{
	BackgroundWorker launcher;

	/* There are no background workers in single-user mode. */
	if (!IsPostmasterEnvironment)
		return false;

	process_describe(&launcher, LAUNCHER_MAIN, LAUNCHER_TYPE, "launcher");
	launcher.bgw_restart_time = refresher_restart_interval;
	RegisterBackgroundWorker(&launcher);
	if (compat_worker_registered(launcher.bgw_name))
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("no background worker is left for " REFRESHER_NAME),
			 errdetail("No views are refreshed."),
			 errhint("Increase the configuration parameter \"max_worker_processes\".")));
	return false;
}

/*
 * Entry point of the launcher's process.  It never exits with 0, which would
 * unregister it.
 */
void
bigbrotr_refresher_launcher_main(Datum main_arg)
{
	LauncherState state = {0};

	process_handle_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	refresh_force_settings();
	settings_expect_reload();
	(void) settings_reload();
	claim_launcher_attach();
	state.turn_context = AllocSetContextCreate(TopMemoryContext,
											   "bigbrotr_refresher launcher",
											   ALLOCSET_DEFAULT_SIZES);
	state.roster_outdated = true;
	MemoryContextSwitchTo(state.turn_context);
	for (;;)
	{
		int64		pause;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		process_catch_up();

		if (settings_reload_pending())
		{
			claim_reloaded(settings_reload());
			state.roster_outdated = true;
			state.role_reported = false;
		}
		pause = launcher_turn(&state);
		MemoryContextReset(state.turn_context);
		launcher_sleep(pause);
	}
}

/*
 * Start the workers that are due.  Returns how long to sleep, in microseconds.
 */
static int64
launcher_turn(LauncherState *state)
{
	ClaimFacts *facts;
	LaunchDecision decision;
	bool		full = false;
	int			n;

	if (state->roster_outdated || state->roster != claim_roster_version())
		launcher_read_roster(state);

	launcher_forget_workers(state);
	n = claim_read_all(&facts);
	for (int i = 0; i < n; i++)
	{
		if (facts[i].unreachable)
			launcher_report_unreachable(&facts[i]);
		if (facts[i].starting_for >= LAUNCH_PATIENCE)
		{
			claim_lapsed(facts[i].slot, facts[i].database);
			return 0;
		}
	}
	decision.order = palloc_extended(n * sizeof(int) + 1, MCXT_ALLOC_HUGE);
	launch_decide(facts, n, launcher_limit(), &decision);
	if (decision.nstarts > 0 || decision.nwaiting > 0 || decision.starting)
		pgstat_report_activity(STATE_RUNNING, "starting workers");
	else
		pgstat_report_activity(STATE_IDLE, NULL);
	if (decision.nstarts > 0)
		full = !launcher_start_workers(state, facts, &decision);
	launcher_report_full(state, full);
	claim_waiting(full || decision.nwaiting > 0, state->full_reported);
	return full ? Min(decision.pause, LAUNCHER_RETRY) : decision.pause;
}

/*
 * Read which databases are to be served.
 */
static void
launcher_read_roster(LauncherState *state)
{
	ClaimDatabase *databases;
	MemoryContext caller = CurrentMemoryContext;
	int			n;

	/* Changes from here on are read in the next turn. */
	state->roster = claim_roster_version();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	n = roster_read(&databases);
	claim_roster(databases, n);
	if (state->roster_outdated)
		launcher_report_missing(databases, n);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);

	if (n == 0 && !state->empty_reported && !refresher_database_list->all)
		ereport(LOG,
				(errmsg(REFRESHER_NAME ": no views are refreshed, because \"" REFRESHER_NAME ".databases\" is empty")));
	state->empty_reported = n == 0;
	state->roster_outdated = false;
}

/*
 * Warn about databases that do not exist or do not accept connections: once
 * for each configuration.
 */
static void
launcher_report_missing(const ClaimDatabase *databases, int n)
{
	for (int i = 0; i < n; i++)
	{
		const char *name = databases[i].name;

		if (!OidIsValid(databases[i].oid))
			ereport(WARNING,
					(errcode(ERRCODE_UNDEFINED_DATABASE),
					 errmsg_internal("%s",
									 log_event("database_missing", "database",
											   name, NULL)),
					 errhint("Create the database, or correct \"" REFRESHER_NAME ".databases\" and reload the configuration.")));
		else if (!databases[i].connectable)
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg_internal("%s",
									 log_event("database_refuses", "database",
											   name, NULL)),
					 errdetail("The database does not accept connections."),
					 errhint("Allow connections to the database, or correct \"" REFRESHER_NAME ".databases\" and reload the configuration.")));
	}
}

/*
 * Warn that no worker could connect to this database: once, until one can.
 */
static void
launcher_report_unreachable(const ClaimFacts *facts)
{
	ereport(WARNING,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg_internal("%s",
							 log_event("worker_not_connected", "database",
									   facts->name, NULL)),
			 errdetail("The lines before say why. It is tried again at growing intervals."),
			 errhint("See \"" REFRESHER_NAME ".role\" and \"" REFRESHER_NAME ".databases\".")));
	claim_reported(facts->slot);
}

/*
 * Return how many workers may run at once.  The other background worker slots
 * are left to helpers and parallel queries.
 */
static int
launcher_limit(void)
{
	return Max(max_worker_processes / 2, 1);
}

/*
 * Start workers.  Returns false if there was no free slot for one of them.
 */
static bool
launcher_start_workers(LauncherState *state, const ClaimFacts *facts,
					   const LaunchDecision *decision)
{
	Oid			role;
	bool		found = launcher_find_role(state, &role);

	/*
	 * If we waited for a lock, that may have reset the latch, and a worker
	 * may have ended meanwhile.  Nothing would wake us up for it again.
	 */
	launcher_forget_workers(state);
	if (!found)
	{
		for (int i = 0; i < decision->nstarts; i++)
		{
			const ClaimFacts *database = &facts[decision->order[i]];

			claim_starting(database->slot);
			claim_lapsed(database->slot, database->database);
		}
		SetLatch(MyLatch);
		return true;
	}
	for (int i = 0; i < decision->nstarts; i++)
	{
		if (!launcher_start_worker(state, &facts[decision->order[i]], role))
			return false;
	}
	return true;
}

/*
 * Start a worker for this database, unless the last one has not quite ended:
 * it holds a slot that the helpers of the next one may need.  When it ends,
 * the postmaster wakes us up.  Returns false if no slot was free.
 */
static bool
launcher_start_worker(LauncherState *state, const ClaimFacts *database,
					  Oid role)
{
	MemoryContext caller;
	LauncherWorker *worker;
	BackgroundWorkerHandle *handle;

	if (launcher_has_worker(state, database->database))
		return true;
	claim_starting(database->slot);
	caller = MemoryContextSwitchTo(TopMemoryContext);
	handle = worker_start(database->database, role, database->name);
	if (handle == NULL)
		claim_not_started(database->slot);
	else
	{
		worker = palloc(sizeof(LauncherWorker));
		worker->database = database->database;
		worker->slot = database->slot;
		worker->handle = handle;
		state->workers = lappend(state->workers, worker);
	}
	MemoryContextSwitchTo(caller);
	return handle != NULL;
}

/*
 * Forget the workers that have ended.  One that never took its claim has
 * failed.
 */
static void
launcher_forget_workers(LauncherState *state)
{
	ListCell   *cell;

	foreach(cell, state->workers)
	{
		LauncherWorker *worker = lfirst(cell);
		pid_t		pid;

		if (GetBackgroundWorkerPid(worker->handle, &pid) != BGWH_STOPPED)
			continue;
		claim_lapsed(worker->slot, worker->database);
		state->workers = foreach_delete_current(state->workers, cell);
		pfree(worker->handle);
		pfree(worker);
	}
}

static bool
launcher_has_worker(const LauncherState *state, Oid database)
{
	ListCell   *cell;

	foreach(cell, state->workers)
	{
		const LauncherWorker *worker = lfirst(cell);

		if (worker->database == database)
			return true;
	}
	return false;
}

/*
 * Find the role that workers connect as.  Returns false if it does not exist,
 * and warns about that once.
 */
static bool
launcher_find_role(LauncherState *state, Oid *role)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		found;

	StartTransactionCommand();
	found = roster_role(role);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	if (!found && !state->role_reported)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg_internal("%s",
								 log_event("role_missing", "role",
										   refresher_role, NULL)),
				 errhint("Create the role, or correct \"" REFRESHER_NAME ".role\" and reload the configuration.")));
	state->role_reported = !found;
	return found;
}

/*
 * Warn once if no worker slot has been free for some time.
 */
static void
launcher_report_full(LauncherState *state, bool full)
{
	if (!full)
	{
		state->full_since = 0;
		state->full_reported = false;
		return;
	}
	if (state->full_since == 0)
		state->full_since = elapsed_clock();
	if (state->full_reported ||
		elapsed_clock() - state->full_since < LAUNCHER_PATIENCE)
		return;
	state->full_reported = true;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg_internal("%s",
							 log_event("worker_places_missing", NULL)),
			 errdetail("Views are due, and no background worker is free to refresh them."),
			 errhint("Increase the configuration parameter \"max_worker_processes\".")));
}

/*
 * Sleep for "pause" microseconds, or until the latch is set.
 */
static void
launcher_sleep(int64 pause)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;

	/* If we waited for a lock, that may have reset the latch. */
	if (settings_reload_pending())
		return;
	if (pause != LAUNCH_NEVER)
	{
		timeout = (long) Min((pause + 999) / 1000, INT_MAX);
		events |= WL_TIMEOUT;
	}
	(void) WaitLatch(MyLatch, events, timeout, compat_wait_event());
}
