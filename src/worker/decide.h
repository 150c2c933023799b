/*-------------------------------------------------------------------------
 *
 * decide.h
 *	  What the worker does next: a pure function of facts and time.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef DECIDE_H
#define DECIDE_H

#include "datatype/timestamp.h"

/* Everything that the decision depends on */
typedef struct DecideFacts
{
	bool		served;			/* the database is to be served */
	bool		enabled;
	bool		stays;			/* there is no history that another worker
								 * could go on by */
	bool		others_wait;	/* other databases, or another worker is due
								 * to take over */
	bool		plan_outdated;	/* it must be made anew before it is used */
	bool		run_requested;	/* a cycle over all views */
	bool		prune_pending;	/* the history has rows that are too old */
	TimestampTz clock;			/* the time of the day */
	TimestampTz awaited;		/* what the worker slept for; DT_NOEND:
								 * nothing */
	bool		timed_out;		/* ... and by the monotonic clock, it has come */
	TimestampTz planned_at;		/* when the plan was made */
	TimestampTz next_due;		/* of the plan's views; DT_NOEND: it has none */
	int			interval;		/* in seconds */
} DecideFacts;

typedef enum DecideAction
{
	DECIDE_REST_DISABLED,		/* until there is a signal */
	DECIDE_REST,				/* until "until", or a signal or request */
	DECIDE_LEAVE,				/* ... and another worker will go on then */
	DECIDE_PLAN,
	DECIDE_CYCLE,				/* one that counts from "start" */
	DECIDE_PRUNE				/* a bounded step, then decide again */
} DecideAction;

typedef struct Decision
{
	DecideAction action;
	TimestampTz until;
	TimestampTz start;
} Decision;

extern TimestampTz decide_now(const DecideFacts *facts);
extern Decision decide(const DecideFacts *facts);

#endif							/* DECIDE_H */
