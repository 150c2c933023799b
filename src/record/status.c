/*-------------------------------------------------------------------------
 *
 * status.c
 *	  What each worker is doing now, and its totals.
 *
 * It is in shared memory (slots.c): written by workers and their helpers, read
 * by everybody.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "src/common/elapsed.h"
#include "src/common/settings.h"
#include "src/record/claim.h"
#include "src/record/slots.h"
#include "src/record/status.h"

/* The view that this process refreshes now, or NULL */
static StatusRunning *status_my_view = NULL;

static void status_leave(int code, Datum arg);
static void status_count(StatusCounts *counts, RefreshOutcome outcome);
static void status_report(const Slot *slot, StatusReport *report);

/*
 * Begin to work for a database: if the process ends in the middle of a view,
 * clear that from the status.
 */
void
status_join(void)
{
	before_shmem_exit(status_leave, (Datum) 0);
}

/*
 * Reload the configuration if that was requested.  All loops of workers and
 * helpers call this.
 */
void
status_reload(void)
{
	bool		pending = settings_reload_pending();

	if (settings_reload())
	{
		LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
		slots_shared->counts_epoch++;
		LWLockRelease(slots_shared->lock);
	}
	if (pending)
		claim_followed();
}

/*
 * Return the epoch of counted changes.  Counters of changes can be compared
 * only if changes were counted all the time in between, which is true as long
 * as this number stays the same.
 */
uint64
status_counts_epoch(void)
{
	uint64		epoch;

	LWLockAcquire(slots_shared->lock, LW_SHARED);
	epoch = slots_shared->counts_epoch;
	LWLockRelease(slots_shared->lock);
	return epoch;
}

/*
 * The name of the database that this process works for.
 */
const char *
status_database(void)
{
	return slots_mine->data.database;
}

/*
 * Set the state between cycles, and when the next view is due (0: unknown).
 */
void
status_set_state(StatusState state, TimestampTz next_due)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_mine->data.state = state;
	slots_mine->data.next_due = next_due;
	slots_mine->data.installed = true;
	LWLockRelease(slots_shared->lock);
}

/*
 * Publish the worker's search_path, unless it is too long.
 */
void
status_set_search_path(const char *path)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	if (strlen(path) < STATUS_PATH_SIZE)
		strcpy(slots_mine->data.names.search_path, path);
	else
		slots_mine->data.names.search_path[0] = '\0';
	LWLockRelease(slots_shared->lock);
}

/*
 * Publish the worker's time zone.
 */
void
status_set_time_zone(const char *name)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	strlcpy(slots_mine->data.names.time_zone, name,
			sizeof(slots_mine->data.names.time_zone));
	LWLockRelease(slots_shared->lock);
}

void
status_begin_cycle(TimestampTz start, int total)
{
	StatusData *data = &slots_mine->data;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	data->state = STATUS_REFRESHING;
	data->next_due = 0;
	data->installed = true;
	data->cycle_start = start;
	data->cycle_duration = -1;
	memset(&data->cycle, 0, sizeof(StatusCounts));
	data->cycle.total = total;
	LWLockRelease(slots_shared->lock);
}

/*
 * This process begins to refresh a view, or its next window.  "usual" is how
 * long that usually takes, in microseconds; 0: unknown.
 */
void
status_begin_view(const char *label, int64 usual)
{
	TimestampTz since = GetCurrentTimestamp();
	int64		began = elapsed_clock();

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < slots_shared->nrunning && status_my_view == NULL; i++)
	{
		StatusRunning *running = &slots_shared->running[i];

		if (running->pid == 0)
		{
			running->pid = MyProcPid;
			running->database = slots_mine->database;
			strlcpy(running->label, label, TARGET_LABEL_SIZE);
			status_my_view = running;
		}
	}
	if (status_my_view != NULL)
	{
		status_my_view->since = since;
		status_my_view->began = began;
		status_my_view->usual = usual;
	}
	LWLockRelease(slots_shared->lock);
}

/*
 * Exit callback: the process may be in the middle of a view.
 */
static void
status_leave(int code, Datum arg)
{
	if (status_my_view == NULL)
		return;
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	status_my_view->pid = 0;
	LWLockRelease(slots_shared->lock);
	status_my_view = NULL;
}

/*
 * This process is done with its view.
 */
void
status_end_view(RefreshOutcome outcome)
{
	StatusData *data = &slots_mine->data;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	if (status_my_view != NULL)
		status_my_view->pid = 0;
	if (outcome == REFRESH_DROPPED)
		data->cycle.total--;
	else
	{
		status_count(&data->cycle, outcome);
		data->totals.total++;
		status_count(&data->totals, outcome);
	}
	LWLockRelease(slots_shared->lock);
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
 * A cycle has ended, after "duration" microseconds.  It has failed if views
 * failed and none was refreshed.
 */
void
status_end_cycle(int64 duration)
{
	static const int bounds[STATUS_NBUCKETS] = STATUS_BUCKET_BOUNDS;
	StatusData *data = &slots_mine->data;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
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

	/* After a whole cycle, failures of workers are no longer in a row. */
	slots_mine->failures = 0;
	LWLockRelease(slots_shared->lock);
}

/*
 * Was the library preloaded, so that there is shared memory?
 */
bool
status_available(void)
{
	return slots_shared != NULL;
}

/*
 * Copy the status of the next database that is served.  *cursor is 0 at the
 * start.  Returns false if there is none left.
 */
bool
status_read_next(uint64 *cursor, StatusReport *report)
{
	Slot	   *slot;
	bool		found = false;

	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_SHARED);
	slot = *cursor == 0 ? slots_first() :
		slots_next(dsa_get_address(slots_area(), *cursor));
	while (slot != NULL && !found)
	{
		*cursor = slot->self;
		found = slot->used && slot->data.listed && slot->data.installed;
		if (found)
			status_report(slot, report);
		slot = slots_next(slot);
	}
	LWLockRelease(slots_shared->lock);
	return found;
}

static void
status_report(const Slot *slot, StatusReport *report)
{
	report->data = slot->data;
	report->nrunning = 0;
	for (int i = 0; i < slots_shared->nrunning; i++)
	{
		const StatusRunning *running = &slots_shared->running[i];

		if (running->pid != 0 && running->database == slot->database &&
			report->nrunning < STATUS_MAX_RUNNING)
			report->running[report->nrunning++] = *running;
	}
}

/*
 * Read the search_path and the time zone of a database's worker.  Returns
 * false, with empty names, if they are unknown.
 */
bool
status_read_names(Oid database, StatusNames *names)
{
	Slot	   *slot;

	memset(names, 0, sizeof(StatusNames));
	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_SHARED);
	slot = slots_find(database);
	if (slot != NULL)
		*names = slot->data.names;
	LWLockRelease(slots_shared->lock);
	return slot != NULL;
}
