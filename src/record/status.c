/*-------------------------------------------------------------------------
 *
 * status.c
 *	  What each worker is doing now, and its totals, in shared memory.
 *
 * There is a slot for each database of the list, fixed for the life of the
 * server.  One LWLock (the first of our tranche) protects them all: whoever
 * writes holds it exclusively, whoever reads copies a whole slot while holding
 * it shared.  It is held for no longer than it takes to copy a few bytes, and
 * never while anything else is done, so that it cannot be what anyone waits
 * for.
 *
 * The condition variable of a slot tells those who wait for a cycle that they
 * had requested that it ended, or that the worker did.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "src/common/compat.h"
#include "src/common/elapsed.h"
#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/record/deadlock.h"
#include "src/record/status.h"

/*
 * How long a worker may take to hear that it is enabled, or to start when it
 * is time to, in microseconds
 */
#define STATUS_PATIENCE		(10 * USECS_PER_SEC)

/* A database's slot */
typedef struct StatusSlot
{
	StatusData	data;
	Latch	   *latch;			/* the worker's; NULL: there is none */
	LWLock	   *queue_lock;		/* for the queue that its processes share */
	bool		retired;		/* another worker will take its place */
	bool		unregistered;	/* there was no free slot for a worker */
	uint64		counts_epoch;	/* changes of tables were counted since */
	uint64		ends;			/* of workers that were not retired */

	/*
	 * Requests are numbered from 1.  A cycle over all views serves each that
	 * was made before it started, so two numbers tell what is still open.
	 */
	uint64		requested;		/* the last request made */
	uint64		served;			/* the last one whose cycle ended */
	uint64		elsewhere;		/* refreshes committed in other sessions */
	StatusCounts served_counts; /* of that cycle */
	int64		served_duration;
	ConditionVariable served_cv;
} StatusSlot;

typedef struct StatusShared
{
	LWLock	   *lock;
	int			nslots;
	StatusSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} StatusShared;

static StatusShared *status_shared;

/* Wanted, before there is shared memory */
static const char (*status_databases)[NAMEDATALEN];
static int	status_nslots;

static const bool *status_registered;

/* This process's slot and place in it */
static StatusSlot *status_mine;
static StatusRunning *status_my_view;

/* Of which worker is to be told at the end of this transaction; -1: none */
static int	status_told_slot = -1;

static shmem_request_hook_type status_prev_shmem_request;
static shmem_startup_hook_type status_prev_shmem_startup;

static void status_shmem_request(void);
static void status_shmem_startup(void);
static Size status_shmem_size(void);
static void status_end_counts_epoch(void);
static void status_detach(int code, Datum arg);
static void status_leave(int code, Datum arg);
static void status_count(StatusCounts *counts, RefreshOutcome outcome);
static void status_refuse_deadlock(StatusSlot *slot);
static void status_tell(XactEvent event, void *arg);
static void status_refreshed_elsewhere(int slot);
static void status_raise_not_running(const StatusSlot *slot, bool disabled);

/*
 * Ask for a slot for each database.  The names must live as long as the
 * process, and so must registered[], which tells by the time that all libraries
 * are loaded which of them has a worker.  In the postmaster, while libraries
 * are preloaded.
 */
void
status_init(const char (*databases)[NAMEDATALEN], const bool *registered,
			int ndatabases)
{
	status_registered = registered;
	status_databases = databases;
	status_nslots = ndatabases;
	status_prev_shmem_request = shmem_request_hook;
	shmem_request_hook = status_shmem_request;
	status_prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = status_shmem_startup;
}

static void
status_shmem_request(void)
{
	if (status_prev_shmem_request)
		status_prev_shmem_request();
	RequestAddinShmemSpace(status_shmem_size());
	RequestNamedLWLockTranche(REFRESHER_NAME, 1 + status_nslots);
}

static void
status_shmem_startup(void)
{
	LWLockPadded *locks;
	bool		found;

	if (status_prev_shmem_startup)
		status_prev_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	status_shared = ShmemInitStruct(REFRESHER_NAME, status_shmem_size(),
									&found);
	if (!found)
	{
		memset(status_shared, 0, status_shmem_size());
		locks = GetNamedLWLockTranche(REFRESHER_NAME);
		status_shared->lock = &locks[0].lock;
		status_shared->nslots = status_nslots;
		for (int i = 0; i < status_nslots; i++)
		{
			StatusSlot *slot = &status_shared->slots[i];

			slot->queue_lock = &locks[1 + i].lock;
			slot->unregistered = !status_registered[i];
			strlcpy(slot->data.database, status_databases[i], NAMEDATALEN);
			ConditionVariableInit(&slot->served_cv);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

static Size
status_shmem_size(void)
{
	return add_size(offsetof(StatusShared, slots),
					mul_size(status_nslots, sizeof(StatusSlot)));
}

/*
 * Become the worker of a database.  Returns the number of its slot.
 */
int
status_attach(const char *database)
{
	int			slot = status_find(database);

	if (slot < 0)
		elog(ERROR, "database \"%s\" has no slot", database);
	status_mine = &status_shared->slots[slot];

	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	status_mine->data.pid = MyProcPid;
	status_mine->data.state = STATUS_IDLE;
	status_mine->data.worker_start = GetCurrentTimestamp();
	status_mine->data.next_due = 0;
	status_mine->latch = MyLatch;
	status_mine->retired = false;

	/* Nobody has watched the configuration meanwhile. */
	status_mine->counts_epoch++;
	LWLockRelease(status_shared->lock);

	before_shmem_exit(status_detach, (Datum) 0);
	return slot;
}

/*
 * The worker is going to end, for another one to take its place: who waits for
 * a cycle waits for that one.
 */
void
status_retire(void)
{
	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	status_mine->retired = true;
	LWLockRelease(status_shared->lock);
}

/*
 * Read the configuration anew if that was requested, wherever the process is.
 */
void
status_reload(void)
{
	if (settings_reload())
		status_end_counts_epoch();
}

/*
 * Counters of changes can be compared only if changes were counted all the
 * time in between.  For as long as this number stays the same, they were.
 */
uint64
status_counts_epoch(void)
{
	uint64		epoch;

	LWLockAcquire(status_shared->lock, LW_SHARED);
	epoch = status_mine->counts_epoch;
	LWLockRelease(status_shared->lock);
	return epoch;
}

static void
status_end_counts_epoch(void)
{
	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	status_mine->counts_epoch++;
	LWLockRelease(status_shared->lock);
}

/*
 * The name of the database that this process works for.
 */
const char *
status_database(void)
{
	return status_mine->data.database;
}

/*
 * Become a helper of the worker that has this slot.
 */
void
status_join(int slot)
{
	status_mine = &status_shared->slots[slot];
	before_shmem_exit(status_leave, (Datum) 0);
}

/*
 * The worker ends, for whatever reason.
 */
static void
status_detach(int code, Datum arg)
{
	status_leave(code, arg);

	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	status_mine->data.pid = 0;
	status_mine->data.state = STATUS_STOPPED;
	status_mine->data.next_due = 0;
	status_mine->latch = NULL;
	status_mine->ends += status_mine->retired ? 0 : 1;
	LWLockRelease(status_shared->lock);
	ConditionVariableBroadcast(&status_mine->served_cv);
}

/*
 * A process that may have a view in hand ends.
 */
static void
status_leave(int code, Datum arg)
{
	if (status_my_view == NULL)
		return;
	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	status_my_view->pid = 0;
	LWLockRelease(status_shared->lock);
	status_my_view = NULL;
}

/*
 * The lock for a queue that the processes of this slot share.
 */
LWLock *
status_queue_lock(void)
{
	return status_mine->queue_lock;
}

/*
 * The state between cycles, and when the next view is due (0: not known).
 */
void
status_set_state(StatusState state, TimestampTz next_due)
{
	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	status_mine->data.state = state;
	status_mine->data.next_due = next_due;
	LWLockRelease(status_shared->lock);
	if (state == STATUS_DISABLED)
		ConditionVariableBroadcast(&status_mine->served_cv);
}

/*
 * Publish where the worker looks names up.
 */
void
status_set_search_path(const char *path)
{
	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	if (strlen(path) < STATUS_PATH_SIZE)
		strcpy(status_mine->data.search_path, path);
	else
		status_mine->data.search_path[0] = '\0';
	LWLockRelease(status_shared->lock);
}

void
status_begin_cycle(TimestampTz start, int total)
{
	StatusData *data = &status_mine->data;

	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	data->state = STATUS_REFRESHING;
	data->next_due = 0;
	data->cycle_start = start;
	data->cycle_duration = -1;
	memset(&data->cycle, 0, sizeof(StatusCounts));
	data->cycle.total = total;
	LWLockRelease(status_shared->lock);
}

/*
 * This process begins to refresh a view.
 */
void
status_begin_view(const char *label)
{
	StatusRunning *running = status_mine->data.running;

	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < STATUS_MAX_RUNNING && status_my_view == NULL; i++)
	{
		if (running[i].pid == 0)
		{
			running[i].pid = MyProcPid;
			strlcpy(running[i].label, label, TARGET_LABEL_SIZE);
			status_my_view = &running[i];
		}
	}
	LWLockRelease(status_shared->lock);
}

/*
 * ... and is done with it.
 */
void
status_end_view(RefreshOutcome outcome)
{
	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	if (status_my_view != NULL)
		status_my_view->pid = 0;
	if (outcome == REFRESH_DROPPED)
		status_mine->data.cycle.total--;
	else
	{
		status_count(&status_mine->data.cycle, outcome);
		status_mine->data.totals.total++;
		status_count(&status_mine->data.totals, outcome);
	}
	LWLockRelease(status_shared->lock);
	status_my_view = NULL;
}

static void
status_count(StatusCounts *counts, RefreshOutcome outcome)
{
	counts->refreshed += outcome == REFRESH_REFRESHED;
	counts->failed += outcome == REFRESH_FAILED;
	counts->skipped += outcome == REFRESH_SKIPPED;
}

/*
 * A cycle ended, after so many microseconds.  It failed if views failed and
 * none was refreshed.
 */
void
status_end_cycle(int64 duration)
{
	static const int bounds[STATUS_NBUCKETS] = STATUS_BUCKET_BOUNDS;
	StatusData *data = &status_mine->data;

	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	data->state = STATUS_IDLE;
	data->cycle_duration = duration;
	data->last_start = data->cycle_start;
	data->last_duration = duration;
	data->last = data->cycle;
	data->duration_sum += duration;
	for (int i = 0; i < STATUS_NBUCKETS; i++)
	{
		if (duration <= bounds[i] * USECS_PER_SEC)
			data->buckets[i]++;
	}
	if (data->cycle.failed > 0 && data->cycle.refreshed == 0)
	{
		data->cycles_failed++;
		data->consecutive_failures++;
	}
	else
	{
		data->cycles_success++;
		data->consecutive_failures = 0;
	}
	LWLockRelease(status_shared->lock);
}

/*
 * The last request to run a cycle that no cycle has served yet; 0 if there is
 * none.
 */
uint64
status_run_wanted(void)
{
	uint64		wanted = 0;

	LWLockAcquire(status_shared->lock, LW_SHARED);
	if (status_mine->requested > status_mine->served)
		wanted = status_mine->requested;
	LWLockRelease(status_shared->lock);
	return wanted;
}

/*
 * The last cycle was one over all views that started after this request.
 */
void
status_run_done(uint64 request)
{
	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	status_mine->served = request;
	status_mine->served_counts = status_mine->data.cycle;
	status_mine->served_duration = status_mine->data.cycle_duration;
	LWLockRelease(status_shared->lock);
	ConditionVariableBroadcast(&status_mine->served_cv);
}

/*
 * Have the worker of a database run a cycle over all views now; with "wait",
 * return what came of it when it ends.
 *
 * Raises an ERROR if there is no worker or it is disabled, at the start or
 * while we wait.  Can be cancelled.
 */
void
status_run(const char *database, bool wait, StatusCounts *counts,
		   int64 *duration)
{
	int			number = status_find(database);
	bool		patient = false;
	StatusSlot *slot;
	uint64		request = 0;
	uint64		ends;
	instr_time	begin;

	if (number < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no worker refreshes the views of database \"%s\"",
						log_valid(database)),
				 errhint("Add the database to \"" REFRESHER_NAME ".databases\" and restart the server.")));
	if (wait && status_mine != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a cycle cannot be waited for by a view that is refreshed in one")));
	slot = &status_shared->slots[number];

	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	if (refresher_enabled && (slot->data.pid != 0 || slot->retired))
	{
		request = ++slot->requested;
		if (slot->latch != NULL)
			SetLatch(slot->latch);

		/* It may not have heard yet that it is enabled. */
		patient = slot->data.state == STATUS_DISABLED;
	}
	ends = slot->ends;
	LWLockRelease(status_shared->lock);
	if (request == 0)
		status_raise_not_running(slot, !refresher_enabled);
	if (!wait)
		return;

	INSTR_TIME_SET_CURRENT(begin);
	for (;;)
	{
		bool		served;
		bool		stopped;
		bool		disabled;
		bool		late;

		LWLockAcquire(status_shared->lock, LW_SHARED);
		served = slot->served >= request;
		disabled = slot->data.state == STATUS_DISABLED;
		patient = patient && disabled &&
			elapsed_since(begin) < STATUS_PATIENCE;
		if (patient)
			disabled = false;

		/* No worker retires while it is wanted, so it did as we began. */
		late = slot->retired && elapsed_since(begin) >=
			refresher_restart_interval * USECS_PER_SEC + STATUS_PATIENCE;
		stopped = disabled || late || slot->ends != ends;
		*counts = slot->served_counts;
		*duration = slot->served_duration;
		LWLockRelease(status_shared->lock);
		if (served || stopped)
		{
			ConditionVariableCancelSleep();
			if (served)
				return;
			status_raise_not_running(slot, disabled);
		}
		if (ConditionVariableTimedSleep(&slot->served_cv,
										patient ? 1000 : DeadlockTimeout,
										compat_wait_event()))
			status_refuse_deadlock(slot);
	}
}

/*
 * Raise an ERROR if a refresh of the cycle that we wait for waits for us.  The
 * server's deadlock detector cannot know, since we wait for no lock; so this is
 * asked as often as that would look.
 */
static void
status_refuse_deadlock(StatusSlot *slot)
{
	int			pids[STATUS_MAX_RUNNING];
	int			npids = 0;

	LWLockAcquire(status_shared->lock, LW_SHARED);
	for (int i = 0; i < STATUS_MAX_RUNNING; i++)
	{
		if (slot->data.running[i].pid != 0)
			pids[npids++] = slot->data.running[i].pid;
	}
	LWLockRelease(status_shared->lock);
	deadlock_check(pids, npids);
}

/*
 * If this transaction commits, have the worker of this database told of what
 * the transaction has changed: it has refreshed views, or the extension is
 * there now.
 */
void
status_tell_at_commit(void)
{
	static bool registered = false;

	if (status_shared == NULL)
		return;
	if (!registered)
		RegisterXactCallback(status_tell, NULL);
	registered = true;
	status_told_slot = status_find(get_database_name(MyDatabaseId));
}

static void
status_tell(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && status_told_slot >= 0)
		status_refreshed_elsewhere(status_told_slot);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		status_told_slot = -1;
}

/*
 * A session of this database has committed refreshes of its own, of which the
 * history tells: the worker shall know.  Never raises an ERROR.
 */
static void
status_refreshed_elsewhere(int slot)
{
	StatusSlot *other = &status_shared->slots[slot];

	LWLockAcquire(status_shared->lock, LW_EXCLUSIVE);
	other->elsewhere++;
	if (other->latch != NULL)
		SetLatch(other->latch);
	LWLockRelease(status_shared->lock);
}

/*
 * A number that changes whenever there were such refreshes.
 */
uint64
status_elsewhere(void)
{
	uint64		elsewhere;

	LWLockAcquire(status_shared->lock, LW_SHARED);
	elsewhere = status_mine->elsewhere;
	LWLockRelease(status_shared->lock);
	return elsewhere;
}

static void
status_raise_not_running(const StatusSlot *slot, bool disabled)
{
	const char *name = log_valid(slot->data.database);

	if (disabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the worker of database \"%s\" is disabled", name),
				 errhint("Set \"" REFRESHER_NAME ".enabled\" to \"on\" and reload the configuration.")));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the worker of database \"%s\" is not running", name),
				 errdetail("Nothing is refreshed during recovery."),
				 errhint("Call it on the primary; a standby has a worker once it is promoted.")));
	if (slot->unregistered)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the worker of database \"%s\" is not running", name),
				 errdetail("When the server started, no background worker was left for it."),
				 errhint("Increase the configuration parameter \"max_worker_processes\", and restart the server.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the worker of database \"%s\" is not running", name),
			 errhint("The server log says why; it is started again after \"" REFRESHER_NAME ".restart_interval\".")));
}

/*
 * Was the library preloaded, so that there is shared memory?
 */
bool
status_available(void)
{
	return status_shared != NULL;
}

/*
 * The number of slots.
 */
int
status_ndatabases(void)
{
	return status_shared->nslots;
}

/*
 * Copy what a slot holds.
 */
void
status_read(int slot, StatusData *data)
{
	LWLockAcquire(status_shared->lock, LW_SHARED);
	memcpy(data, &status_shared->slots[slot].data, sizeof(StatusData));
	LWLockRelease(status_shared->lock);
}

/*
 * The slot of a database, or -1.  (Names of databases do not change.)
 */
int
status_find(const char *database)
{
	for (int i = 0; i < status_shared->nslots; i++)
	{
		if (strcmp(status_shared->slots[i].data.database, database) == 0)
			return i;
	}
	return -1;
}
