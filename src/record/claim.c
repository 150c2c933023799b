/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Which process works for which database, and which one is to start.
 *
 * The claim on a database alone decides which worker serves it: a worker that
 * finds it taken exits at once, however many were started.  A worker gives up
 * its claim, publishes when it is next due, and checks that there is nothing
 * else to do, all under one lock.  So a session with a request either finds a
 * worker that will serve it, or wakes the launcher.
 *
 * Nobody waits for a worker to start: if it has not come up after some time,
 * another one may be started.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "src/common/elapsed.h"
#include "src/common/settings.h"
#include "src/record/claim.h"
#include "src/record/slots.h"

/* The longest pause before another worker is started, in microseconds */
#define CLAIM_MAX_PAUSE		(3600 * USECS_PER_SEC)

/* The generation of the configuration that this worker has read */
static uint64 claim_generation;

/* told_settings, when this worker began to connect */
static uint64 claim_settings;

static void claim_read(const Slot *slot, int64 clock, TimestampTz now,
					   ClaimFacts *facts);
static void claim_launcher_detach(int code, Datum arg);
static void claim_detach(int code, Datum arg);
static void claim_release(StatusState state, TimestampTz next_due);
static void claim_count_failure(Slot *slot);
static int64 claim_clock_of(TimestampTz time);

/*
 * Become the launcher.  Nobody has watched the configuration meanwhile, and
 * what the previous launcher was told may be lost.  So every database is
 * looked at, and a new epoch of counted changes begins.
 */
void
claim_launcher_attach(void)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_shared->launcher_pid = MyProcPid;
	slots_shared->launcher_latch = MyLatch;
	slots_shared->places_missing = false;
	slots_shared->generation++;
	slots_shared->counts_epoch++;
	LWLockRelease(slots_shared->lock);
	before_shmem_exit(claim_launcher_detach, (Datum) 0);
}

static void
claim_launcher_detach(int code, Datum arg)
{
	/* An ERROR may have been raised under the lock that we need here. */
	LWLockReleaseAll();

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_shared->launcher_pid = 0;
	slots_shared->launcher_latch = NULL;
	LWLockRelease(slots_shared->lock);
}

/*
 * Set the databases that are to be served.  The slots of others are released
 * as soon as no worker has claimed them.
 */
void
claim_roster(const ClaimDatabase *databases, int ndatabases)
{
	Slot	   *slot;

	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	for (slot = slots_first(); slot != NULL; slot = slots_next(slot))
		slot->found = false;
	for (int i = 0; i < ndatabases; i++)
	{
		if (!OidIsValid(databases[i].oid))
			continue;
		slot = slots_find(databases[i].oid);
		if (slot == NULL)
			slot = slots_add();
		slot->database = databases[i].oid;
		slot->connectable = databases[i].connectable;

		/*
		 * A worker may be about to leave by the old roster: let it look
		 * again.
		 */
		if (!slot->data.listed || slot->named != databases[i].named)
			slot->told++;
		slot->named = databases[i].named;
		strlcpy(slot->data.database, databases[i].name, NAMEDATALEN);
		slot->found = true;
		slot->data.installed = slot->data.installed || databases[i].named;
	}
	for (slot = slots_first(); slot != NULL; slot = slots_next(slot))
	{
		slot->data.listed = slot->found;
		if (!slot->found && slot->data.pid == 0)
			slot->used = false;
		else if (!slot->found && slot->latch != NULL)
			SetLatch(slot->latch);
	}
	LWLockRelease(slots_shared->lock);
	ConditionVariableBroadcast(&slots_shared->served);
}

/*
 * Return a number that changes whenever databases are created, dropped,
 * altered or renamed.
 */
uint64
claim_roster_version(void)
{
	uint64		version;

	LWLockAcquire(slots_shared->lock, LW_SHARED);
	version = slots_shared->roster;
	LWLockRelease(slots_shared->lock);
	return version;
}

/*
 * The configuration was reloaded, so every database must be looked at.  What
 * kept workers from starting may be fixed, so their pauses end.  With
 * "uncounted", changes of tables may not have been counted.
 */
void
claim_reloaded(bool uncounted)
{
	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_shared->generation++;
	slots_shared->counts_epoch += uncounted ? 1 : 0;
	for (Slot *slot = slots_first(); slot != NULL; slot = slots_next(slot))
	{
		slot->failures = 0;
		slot->not_before = 0;
	}
	LWLockRelease(slots_shared->lock);
}

/*
 * Collect what the launcher needs to know about all databases that are served.
 * Returns their number, and a palloc'd array in *facts.  Wakes up the workers
 * if there is news for all.
 */
int
claim_read_all(ClaimFacts **facts)
{
	int64		clock = elapsed_clock();
	TimestampTz now = GetCurrentTimestamp();
	int			size = 64;
	int			n = 0;
	bool		spread;

	*facts = palloc(size * sizeof(ClaimFacts));
	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	spread = slots_shared->told_all_spread != slots_shared->told_all;
	for (Slot *slot = slots_first(); slot != NULL; slot = slots_next(slot))
	{
		if (!slot->used)
			continue;
		if (slot->latch != NULL && spread)
			SetLatch(slot->latch);
		if (n == size)
		{
			size *= 2;
			*facts = repalloc_huge(*facts, size * sizeof(ClaimFacts));
		}
		claim_read(slot, clock, now, &(*facts)[n++]);
	}
	slots_shared->told_all_spread = slots_shared->told_all;
	LWLockRelease(slots_shared->lock);
	return n;
}

static void
claim_read(const Slot *slot, int64 clock, TimestampTz now, ClaimFacts *facts)
{
	memset(facts, 0, sizeof(ClaimFacts));
	facts->slot = slot->self;
	facts->database = slot->database;
	strlcpy(facts->name, slot->data.database, NAMEDATALEN);
	facts->connectable = slot->connectable && slot->data.listed;
	facts->claimed = slot->data.pid != 0;
	facts->connecting = facts->claimed && !slot->connected;
	facts->stays = slot->stays;
	facts->wanted = slot->generation != slots_shared->generation ||
		slots_news(slot) != slot->heard ||
		slot->requested > Max(slot->served, slot->refused);
	facts->starting_for = slot->starting == 0 ? -1 : clock - slot->starting;
	facts->left_for = slot->left == 0 ? PG_INT64_MAX : clock - slot->left;
	facts->pause_left = slot->not_before - clock;
	facts->unreachable = slot->unreachable && !slot->unreachable_reported;
	if (slot->data.next_due == DT_NOEND)
		facts->due_in = PG_INT64_MAX;
	else
		facts->due_in = Min(slot->due - clock, slot->data.next_due - now);
}

/*
 * A worker is about to be started for this database.
 */
void
claim_starting(dsa_pointer pointer)
{
	Slot	   *slot = dsa_get_address(slots_area(), pointer);

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slot->starting = elapsed_clock();
	LWLockRelease(slots_shared->lock);
}

/*
 * ... but could not be, since no worker slot was free.
 */
void
claim_not_started(dsa_pointer pointer)
{
	Slot	   *slot = dsa_get_address(slots_area(), pointer);

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slot->starting = 0;
	LWLockRelease(slots_shared->lock);
}

/*
 * ... but has not come up in time, or has ended.  The slot may belong to
 * another database by now.
 */
void
claim_lapsed(dsa_pointer pointer, Oid database)
{
	Slot	   *slot = dsa_get_address(slots_area(), pointer);

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database && slot->starting != 0)
	{
		slot->starting = 0;
		claim_count_failure(slot);
	}
	LWLockRelease(slots_shared->lock);
	ConditionVariableBroadcast(&slots_shared->served);
}

/*
 * It was logged that no worker can connect to this database.
 */
void
claim_reported(dsa_pointer pointer)
{
	Slot	   *slot = dsa_get_address(slots_area(), pointer);

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slot->unreachable_reported = true;
	LWLockRelease(slots_shared->lock);
}

/*
 * Set whether databases wait because the limit of workers is reached, so that
 * idle workers leave; and whether no worker slot is free.
 */
void
claim_waiting(bool others_wait, bool places_missing)
{
	bool		began;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	began = others_wait && !slots_shared->others_wait;
	slots_shared->others_wait = others_wait;
	slots_shared->places_missing = places_missing;
	for (Slot *slot = slots_first(); slot != NULL; slot = slots_next(slot))
	{
		if (began && slot->latch != NULL && slot->data.state == STATUS_IDLE)
			SetLatch(slot->latch);
	}
	LWLockRelease(slots_shared->lock);
	if (places_missing)
		ConditionVariableBroadcast(&slots_shared->served);
}

/*
 * Become the worker of a database.  Returns false if there is one already, or
 * if the database is no longer to be served; then there is nothing to do.
 */
bool
claim_take(Oid database, ClaimStart *start)
{
	Slot	   *slot;

	memset(start, 0, sizeof(ClaimStart));
	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slot = slots_find(database);
	if (slot == NULL || !slot->data.listed || slot->data.pid != 0)
	{
		LWLockRelease(slots_shared->lock);
		return false;
	}
	slot->data.pid = MyProcPid;
	slot->data.state = STATUS_IDLE;
	slot->data.worker_start = GetCurrentTimestamp();
	slot->latch = MyLatch;
	slot->starting = 0;
	slot->connected = false;
	slot->stays = false;

	start->due = slot->data.next_due == 0 ? DT_NOEND : slot->data.next_due;
	start->has_come = slot->due <= elapsed_clock();
	start->announced = slot->announced;
	start->last_prune = slot->last_prune;
	slot->data.next_due = 0;
	claim_generation = slots_shared->generation;
	claim_settings = slots_shared->told_settings;
	LWLockRelease(slots_shared->lock);

	slots_mine = slot;
	before_shmem_exit(claim_detach, (Datum) 0);
	return true;
}

/*
 * The worker is connected to its database.
 */
void
claim_connected(void)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_mine->connected = true;
	slots_mine->unreachable = false;
	slots_mine->unreachable_reported = false;
	if (slots_shared->launcher_latch != NULL)
		SetLatch(slots_shared->launcher_latch);
	LWLockRelease(slots_shared->lock);
}

/*
 * Were settings of databases or roles changed while this worker connected, so
 * that it may have old ones?  Never true twice in a row: otherwise somebody
 * who keeps changing settings would keep all workers from their work.
 */
bool
claim_settings_changed(void)
{
	bool		changed;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	changed = claim_settings != slots_shared->told_settings &&
		!slots_mine->gave_way;
	slots_mine->gave_way = changed;
	LWLockRelease(slots_shared->lock);
	return changed;
}

/*
 * Return what this worker, or the worker of this helper, is told.  It may
 * change while the worker runs.
 */
ClaimNews
claim_news(void)
{
	ClaimNews	news;

	LWLockAcquire(slots_shared->lock, LW_SHARED);
	news.served = slots_mine->data.listed;
	news.named = slots_mine->named;
	news.others_wait = slots_shared->others_wait;
	LWLockRelease(slots_shared->lock);
	return news;
}

/*
 * The worker has reloaded its configuration.
 */
void
claim_followed(void)
{
	LWLockAcquire(slots_shared->lock, LW_SHARED);
	claim_generation = slots_shared->generation;
	LWLockRelease(slots_shared->lock);
}

/*
 * It was logged that this database is served.
 */
void
claim_announced(void)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_mine->announced = true;
	LWLockRelease(slots_shared->lock);
}

/*
 * Set whether the worker stays even if nothing is due.
 */
void
claim_stay(bool stays)
{
	if (slots_mine->stays == stays)
		return;
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_mine->stays = stays;
	if (slots_shared->launcher_latch != NULL)
		SetLatch(slots_shared->launcher_latch);
	LWLockRelease(slots_shared->lock);
}

/*
 * The worker has pruned the history.
 */
void
claim_pruned(TimestampTz now)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	slots_mine->last_prune = now;
	LWLockRelease(slots_shared->lock);
}

/*
 * There are fewer helpers than max_workers asks for.  Returns whether this is
 * new for this value.
 */
bool
claim_missed_helpers(int max_workers)
{
	bool		new;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	new = slots_mine->helpers_missed != max_workers;
	slots_mine->helpers_missed = max_workers;
	LWLockRelease(slots_shared->lock);
	return new;
}

/*
 * Read the notes of the last worker: hashes of what it logged about views.
 * Returns their number, and a palloc'd array in *notes.
 */
int
claim_read_notes(uint32 **notes)
{
	int			nnotes = slots_mine->nnotes;

	*notes = palloc_extended(nnotes * sizeof(uint32) + 1, MCXT_ALLOC_HUGE);
	if (nnotes > 0)
		memcpy(*notes, dsa_get_address(slots_area(), slots_mine->notes),
			   nnotes * sizeof(uint32));
	return nnotes;
}

/*
 * Leave notes for the next worker.  Only workers of this database use them, so
 * no lock is needed.  Raises an ERROR if out of memory.
 */
void
claim_write_notes(const uint32 *notes, int nnotes)
{
	if (nnotes > slots_mine->notes_size)
	{
		slots_mine->nnotes = 0;
		slots_mine->notes_size = 0;
		if (DsaPointerIsValid(slots_mine->notes))
			dsa_free(slots_area(), slots_mine->notes);
		slots_mine->notes = InvalidDsaPointer;
		slots_mine->notes = dsa_allocate(slots_area(),
										 nnotes * sizeof(uint32));
		slots_mine->notes_size = nnotes;
	}
	if (nnotes > 0)
		memcpy(dsa_get_address(slots_area(), slots_mine->notes), notes,
			   nnotes * sizeof(uint32));
	slots_mine->nnotes = nnotes;
}

/*
 * Give up the claim, since there is nothing to do until leave->due.  Returns
 * false if there is something to do now: a request, or news that we have not
 * heard.  For a database that is no longer to be served there never is.
 */
bool
claim_leave(const ClaimLeave *leave)
{
	Slot	   *slot = slots_mine;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	if ((leave->disabled && !slots_insisted(slot)) ||
		(!leave->installed && !slot->named))
		slot->refused = slot->requested;
	if (slot->data.listed &&
		(slots_news(slot) != leave->heard ||
		 slot->requested > Max(slot->served, slot->refused)))
	{
		LWLockRelease(slots_shared->lock);
		return false;
	}
	slot->heard = leave->heard;
	slot->generation = claim_generation;
	slot->failures = 0;
	slot->data.installed = leave->installed || slot->named;
	slot->due = claim_clock_of(leave->due);
	claim_release(leave->disabled ? STATUS_DISABLED : STATUS_RESTING,
				  leave->due);
	LWLockRelease(slots_shared->lock);
	ConditionVariableBroadcast(&slots_shared->served);
	return true;
}

/*
 * Give up the claim to another worker, which starts now.
 */
void
claim_hand_over(void)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	claim_release(STATUS_RESTING, 0);
	LWLockRelease(slots_shared->lock);
}

/*
 * Convert a time to one of the monotonic clock.
 */
static int64
claim_clock_of(TimestampTz time)
{
	return time == DT_NOEND ? PG_INT64_MAX :
		elapsed_clock() + (time - GetCurrentTimestamp());
}

static void
claim_release(StatusState state, TimestampTz next_due)
{
	Slot	   *slot = slots_mine;

	slot->data.pid = 0;
	slot->data.state = state;
	slot->data.next_due = next_due;
	slot->latch = NULL;
	slot->stays = false;
	slot->left = elapsed_clock();
	if (!slot->data.listed)
		slot->used = false;
	if (slots_shared->launcher_latch != NULL)
		SetLatch(slots_shared->launcher_latch);
}

/*
 * Exit callback.  If the process still has its claim, it has failed.
 */
static void
claim_detach(int code, Datum arg)
{
	Slot	   *slot = slots_mine;
	bool		failed;

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	failed = slot->data.pid == MyProcPid;
	if (failed)
	{
		slot->unreachable = !slot->connected;
		slot->due = 0;
		slot->announced = false;

		/* While disabled, what has ended it is not to end the next one. */
		if (slot->connected)
			slot->insisted = 0;
		claim_count_failure(slot);
		claim_release(STATUS_STOPPED, 0);
	}
	LWLockRelease(slots_shared->lock);
	if (failed)
		ConditionVariableBroadcast(&slots_shared->served);
}

/*
 * A worker has failed: the next one starts after restart_interval, which
 * doubles with each failure in a row.
 */
static void
claim_count_failure(Slot *slot)
{
	int64		pause = refresher_restart_interval * USECS_PER_SEC;

	for (int i = 0; i < slot->failures && pause < CLAIM_MAX_PAUSE; i++)
		pause *= 2;
	slot->failures++;
	slot->ends++;
	slot->not_before = elapsed_clock() + Min(pause, CLAIM_MAX_PAUSE);
}

/*
 * The slot that this worker has claimed, for its helpers.
 */
dsa_pointer
claim_slot(void)
{
	return slots_mine->self;
}

/*
 * Become a helper of the worker that has this slot.
 */
void
claim_join(dsa_pointer slot)
{
	slots_mine = dsa_get_address(slots_area(), slot);
}

/*
 * The lock for a queue that the processes of this slot share.
 */
LWLock *
claim_queue_lock(void)
{
	return &slots_mine->queue_lock;
}
