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
	bool		stays;			/* there is no history from which another
								 * worker could continue */
	bool		others_wait;	/* other databases wait for a worker, or this
								 * worker is too old */
	bool		had_turn;		/* this worker has run a cycle */
	bool		plan_outdated;	/* a new plan must be made first */
	bool		run_requested;	/* a cycle over all views */
	bool		prune_pending;	/* the history has rows that are too old */
	TimestampTz clock;			/* the wall clock */
	TimestampTz awaited;		/* the time that the worker slept until;
								 * DT_NOEND: none */
	bool		timed_out;		/* ... which has come, by the monotonic clock */
	TimestampTz planned_at;		/* when the plan was made */
	TimestampTz next_due;		/* of the plan's views; DT_NOEND: there are
								 * none */
	int			interval;		/* in seconds */
} DecideFacts;

typedef enum DecideAction
{
	DECIDE_REST_DISABLED,		/* until there is a signal */
	DECIDE_REST,				/* until "until", or a signal or request */
	DECIDE_LEAVE,				/* let another worker start at "until" */
	DECIDE_PLAN,
	DECIDE_CYCLE,				/* whose schedule counts from "start" */
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
