/*-------------------------------------------------------------------------
 *
 * slots.h
 *	  Shared memory: a slot for each database that is served.
 *
 * This header is private to this folder, except for slots_init().  Other code
 * sees of a slot what claim.h, request.h, status.h and told.h offer.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef SLOTS_H
#define SLOTS_H

#include "access/xact.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

#include "src/record/status.h"

/*
 * A database.  Slots are never freed, only reused, so a pointer to one stays
 * valid; but its database may change whenever the lock is not held.
 */
typedef struct Slot
{
	/* These stay when another database gets the slot */
	dsa_pointer self;
	dsa_pointer next;			/* of all slots, in no order */
	LWLock		queue_lock;		/* for the queue that its processes share; a
								 * helper that is about to end may hold it */
	uint64		ends;			/* how many workers failed, or databases left */

	/* The database, as the launcher has found it */
	bool		used;
	Oid			database;
	bool		connectable;
	bool		named;			/* by the parameter, not only as one of "*" */
	bool		found;			/* it is in the roster that is being read */

	/* Its worker */
	Latch	   *latch;			/* NULL: there is none */
	bool		connected;		/* it could connect */
	bool		stays;			/* it does not leave, since nothing else knows
								 * when views are due */
	int64		starting;		/* monotonic: when its start was requested; 0:
								 * it was not */
	int64		left;			/* monotonic: when the last one left; 0: there
								 * was none */
	int64		not_before;		/* monotonic: no other one is started before
								 * that */
	int			failures;		/* of workers in a row */
	bool		unreachable;	/* the last one could not connect */
	bool		unreachable_reported;
	bool		announced;		/* it was logged that it is served */
	bool		gave_way;		/* the last one left, since settings had
								 * changed while it connected */

	/* What is to be done */
	int64		due;			/* monotonic: when next_due comes */
	uint64		generation;		/* of the configuration that a worker has read */
	uint64		told;			/* how often sessions had news for it */
	uint64		heard;			/* ... and for all, as far as a worker has
								 * heard */

	/*
	 * Requests are numbered from 1.  A cycle over all views serves each that
	 * was made before it started.
	 */
	uint64		requested;		/* the last request made */
	uint64		served;			/* the last one whose cycle ended */
	uint64		refused;		/* the last one that came while disabled */
	uint64		insisted;		/* the last one that is served even then */
	StatusCounts served_counts; /* of that cycle */
	int64		served_duration;

	/* What a worker leaves to the next one */
	TimestampTz last_prune;
	int			helpers_missed; /* max_workers, when there were too few */
	dsa_pointer notes;			/* hashes of the last messages about views */
	int			nnotes;
	int			notes_size;

	StatusData	data;
} Slot;

/* A prepared transaction, and the news to tell when it commits */
typedef struct SlotsPrepared
{
	int			news;			/* of ToldNews; 0: this place is free */
	char		gid[GIDSIZE];
} SlotsPrepared;

/* What all databases share */
typedef struct SlotsShared
{
	LWLock	   *lock;			/* for all of this, and for the slots */
	ConditionVariable served;	/* a cycle that was requested has ended, or a
								 * worker has */
	bool		registered;		/* the postmaster has registered the launcher */
	int			launcher_pid;	/* 0: there is none */
	Latch	   *launcher_latch;
	bool		places_missing; /* no worker slot is free */
	bool		others_wait;	/* databases wait, as the limit of workers is
								 * reached */
	uint64		roster;			/* how often databases were changed */
	uint64		generation;		/* of the configuration */
	uint64		told_all;		/* how often sessions had news for all */
	uint64		told_settings;	/* how often settings of databases or roles
								 * were changed */
	uint64		told_all_spread;	/* told_all, when workers were last woken
									 * up */
	uint64		counts_epoch;	/* changes of tables were counted since */
	SlotsPrepared *prepared;	/* max_prepared_transactions of them */
	dsa_pointer first;			/* slot */
	int			nrunning;
	StatusRunning running[FLEXIBLE_ARRAY_MEMBER];
} SlotsShared;

extern SlotsShared *slots_shared;
extern Slot *slots_mine;		/* of the worker or helper; else NULL */

extern void slots_init(const bool *registered);
extern Slot *slots_first(void);
extern Slot *slots_next(const Slot *slot);
extern Slot *slots_find(Oid database);
extern Slot *slots_add(void);
extern uint64 slots_news(const Slot *slot);
extern bool slots_insisted(const Slot *slot);
extern dsa_area *slots_area(void);

#endif							/* SLOTS_H */
