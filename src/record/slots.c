/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  Shared memory: a slot for each database that is served.
 *
 * There is room for any number of databases: the slots are in an area of
 * dynamic shared memory, whose first part is in the server's main shared
 * memory.
 *
 * One LWLock (the first of our tranche) protects everything: writers hold it
 * exclusively, readers copy what they need.  It is held no longer than that
 * takes, and never while anything else is done.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "src/common/settings.h"
#include "src/record/slots.h"

/* Room for some slots, in the server's main shared memory */
#define SLOTS_AREA_SIZE		(256 * 1024)

SlotsShared *slots_shared = NULL;
Slot	   *slots_mine = NULL;

static const bool *slots_registered;
static dsa_area *slots_attached = NULL;

static shmem_request_hook_type slots_prev_shmem_request;
static shmem_startup_hook_type slots_prev_shmem_startup;

static void slots_shmem_request(void);
static void slots_shmem_startup(void);
static Size slots_fixed_size(void);
static Size slots_prepared_size(void);
static Size slots_shmem_size(void);
static void *slots_place(void);

/*
 * Request shared memory; in the postmaster, while libraries are preloaded.
 * *registered must say whether there is a launcher when all libraries have
 * been loaded.
 */
void
slots_init(const bool *registered)
{
	slots_registered = registered;
	slots_prev_shmem_request = shmem_request_hook;
	shmem_request_hook = slots_shmem_request;
	slots_prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = slots_shmem_startup;
}

static void
slots_shmem_request(void)
{
	if (slots_prev_shmem_request)
		slots_prev_shmem_request();
	RequestAddinShmemSpace(slots_shmem_size());
	RequestNamedLWLockTranche(REFRESHER_NAME, 1);
}

static void
slots_shmem_startup(void)
{
	bool		found;

	if (slots_prev_shmem_startup)
		slots_prev_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	slots_shared = ShmemInitStruct(REFRESHER_NAME, slots_shmem_size(),
								   &found);
	if (!found)
	{
		dsa_area   *area;

		memset(slots_shared, 0, slots_fixed_size());
		slots_shared->prepared = (SlotsPrepared *)
			((char *) slots_place() - slots_prepared_size());
		slots_shared->lock = &GetNamedLWLockTranche(REFRESHER_NAME)->lock;
		ConditionVariableInit(&slots_shared->served);
		slots_shared->registered = *slots_registered;
		slots_shared->generation = 1;
		slots_shared->nrunning = max_worker_processes;

		/* An epoch from before a crash must not come again. */
		slots_shared->counts_epoch = GetCurrentTimestamp();

		/* The area lives as long as the server, but our mapping must not. */
		area = dsa_create_in_place(slots_place(), SLOTS_AREA_SIZE,
								   slots_shared->lock->tranche, NULL);
		dsa_pin(area);
		dsa_detach(area);
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * The size of all that comes before the area; at its end are the prepared
 * transactions.
 */
static Size
slots_fixed_size(void)
{
	return add_size(MAXALIGN(add_size(offsetof(SlotsShared, running),
									  mul_size(max_worker_processes,
											   sizeof(StatusRunning)))),
					slots_prepared_size());
}

static Size
slots_prepared_size(void)
{
	return MAXALIGN(mul_size(max_prepared_xacts, sizeof(SlotsPrepared)));
}

static Size
slots_shmem_size(void)
{
	return add_size(slots_fixed_size(), SLOTS_AREA_SIZE);
}

static void *
slots_place(void)
{
	return (char *) slots_shared + slots_fixed_size();
}

/*
 * Return the area, attaching to it on first use.
 */
dsa_area *
slots_area(void)
{
	if (slots_attached == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		slots_attached = dsa_attach_in_place(slots_place(), NULL);
		dsa_pin_mapping(slots_attached);
		MemoryContextSwitchTo(caller);
	}
	return slots_attached;
}

/*
 * Return the slots one after another, used or not; NULL at the end.  The lock
 * must be held.
 */
Slot *
slots_first(void)
{
	return dsa_get_address(slots_area(), slots_shared->first);
}

Slot *
slots_next(const Slot *slot)
{
	return dsa_get_address(slots_area(), slot->next);
}

/*
 * Return the slot of a database, or NULL.  The lock must be held.
 */
Slot *
slots_find(Oid database)
{
	for (Slot *slot = slots_first(); slot != NULL; slot = slots_next(slot))
	{
		if (slot->used && slot->database == database)
			return slot;
	}
	return NULL;
}

/*
 * Return a number that changes whenever there is news for a database.  The
 * lock must be held.
 */
uint64
slots_news(const Slot *slot)
{
	return slot->told + slots_shared->told_all;
}

/*
 * Is there a request that is to be served even if the worker is disabled?  The
 * lock must be held.
 */
bool
slots_insisted(const Slot *slot)
{
	return slot->insisted > Max(slot->served, slot->refused);
}

/*
 * Return a slot that is no longer used, or add one at the end.  The lock must
 * be held exclusively.  Raises an ERROR if out of memory.
 *
 * A session that still waits for the slot's former database will find that its
 * worker has ended, even if this is the same database.
 */
Slot *
slots_add(void)
{
	Slot	   *last = NULL;
	Slot	   *slot;
	dsa_pointer self;

	for (slot = slots_first(); slot != NULL; slot = slots_next(slot))
	{
		if (!slot->used && slot->data.pid == 0)
			break;
		last = slot;
	}
	if (slot != NULL)
	{
		if (DsaPointerIsValid(slot->notes))
			dsa_free(slots_area(), slot->notes);
	}
	else
	{
		self = dsa_allocate(slots_area(), sizeof(Slot));
		slot = dsa_get_address(slots_area(), self);
		memset(slot, 0, sizeof(Slot));
		slot->self = self;
		LWLockInitialize(&slot->queue_lock, slots_shared->lock->tranche);
		if (last != NULL)
			last->next = self;
		else
			slots_shared->first = self;
	}
	slot->ends++;
	memset((char *) slot + offsetof(Slot, used), 0,
		   sizeof(Slot) - offsetof(Slot, used));
	slot->used = true;
	return slot;
}
