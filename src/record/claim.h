/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  Which process works for which database, and which one is to start.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef CLAIM_H
#define CLAIM_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

/* A database of the roster */
typedef struct ClaimDatabase
{
	Oid			oid;			/* InvalidOid: there is none of this name */
	char		name[NAMEDATALEN];
	bool		connectable;
	bool		named;			/* by the parameter, not only as one of "*" */
} ClaimDatabase;

/* What the launcher sees of a database */
typedef struct ClaimFacts
{
	dsa_pointer slot;
	Oid			database;
	char		name[NAMEDATALEN];
	bool		connectable;
	bool		claimed;		/* a worker has it */
	bool		stays;			/* ... which does not leave */
	bool		wanted;			/* there is a request, or news */
	int64		starting_for;	/* microseconds since a worker was started;
								 * -1: none is starting */
	int64		left_for;		/* since a worker left; INT64_MAX: none has */
	int64		due_in;			/* until it is due; INT64_MAX: never */
	int64		pause_left;		/* until a worker may start */
	bool		unreachable;	/* no worker could connect, which is not
								 * logged yet */
	bool		connecting;		/* the worker that has it has not connected
								 * yet */
} ClaimFacts;

/* What a worker begins with */
typedef struct ClaimStart
{
	TimestampTz due;			/* when what it was started for is due;
								 * DT_NOEND: unknown */
	bool		has_come;		/* by the monotonic clock */
	bool		announced;		/* it was logged that the database is served */
	TimestampTz last_prune;
} ClaimStart;

/* What a worker is told while it works */
typedef struct ClaimNews
{
	bool		served;			/* the database is still to be served */
	bool		named;			/* by its name, so it is served even without
								 * the extension */
	bool		others_wait;	/* other databases wait for a worker to leave */
} ClaimNews;

/* What a worker says when it leaves */
typedef struct ClaimLeave
{
	TimestampTz due;			/* next; DT_NOEND: not before there is news */
	bool		disabled;
	bool		installed;		/* the extension is there */
	uint64		heard;			/* the news that it has heard */
} ClaimLeave;

/* For the launcher */
extern void claim_launcher_attach(void);
extern uint64 claim_roster_version(void);
extern void claim_roster(const ClaimDatabase *databases, int ndatabases);
extern void claim_reloaded(bool uncounted);
extern int	claim_read_all(ClaimFacts **facts);
extern void claim_starting(dsa_pointer slot);
extern void claim_not_started(dsa_pointer slot);
extern void claim_lapsed(dsa_pointer slot, Oid database);
extern void claim_reported(dsa_pointer slot);
extern void claim_waiting(bool others_wait, bool places_missing);

/* For a worker */
extern bool claim_take(Oid database, ClaimStart *start);
extern void claim_connected(void);
extern bool claim_settings_changed(void);
extern ClaimNews claim_news(void);
extern void claim_followed(void);
extern void claim_announced(void);
extern void claim_stay(bool stays);
extern void claim_pruned(TimestampTz now);
extern bool claim_missed_helpers(int max_workers);
extern int	claim_read_notes(uint32 **notes);
extern void claim_write_notes(const uint32 *notes, int nnotes);
extern bool claim_leave(const ClaimLeave *leave);
extern void claim_hand_over(void);

/* For a worker's helpers */
extern dsa_pointer claim_slot(void);
extern void claim_join(dsa_pointer slot);
extern LWLock *claim_queue_lock(void);

#endif							/* CLAIM_H */
