/*-------------------------------------------------------------------------
 *
 * launch.h
 *	  Which databases to start workers for: a pure function of facts.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef LAUNCH_H
#define LAUNCH_H

#include "src/record/claim.h"

/* A worker that has not come up after this many microseconds never will */
#define LAUNCH_PATIENCE		(60 * USECS_PER_SEC)

#define LAUNCH_NEVER		PG_INT64_MAX

/* What the launcher should do */
typedef struct LaunchDecision
{
	int			nstarts;		/* start this many now, the first of "order" */
	int		   *order;			/* indexes into the facts, longest due first */
	int			nwaiting;		/* this many more are due, but must wait */
	bool		starting;		/* a worker was started, and is not connected
								 * yet */
	int64		pause;			/* microseconds until the next is due;
								 * LAUNCH_NEVER: not before there is news */
} LaunchDecision;

extern int64 launch_wait(const ClaimFacts *facts);
extern void launch_decide(const ClaimFacts *facts, int n, int limit,
						  LaunchDecision *decision);

#endif							/* LAUNCH_H */
