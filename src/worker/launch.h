/*-------------------------------------------------------------------------
 *
 * launch.h
 *	  For which databases workers are to start: a pure function of facts.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef LAUNCH_H
#define LAUNCH_H

#include "src/record/claim.h"

/* Microseconds; a worker that has not come by then will not come any more */
#define LAUNCH_PATIENCE		(60 * USECS_PER_SEC)

#define LAUNCH_NEVER		PG_INT64_MAX

/* What the launcher shall do */
typedef struct LaunchDecision
{
	int			nstarts;		/* the first so many of "order" start now */
	int		   *order;			/* of facts, those that are due first first */
	int			nwaiting;		/* the next so many are due, but have to wait */
	bool		starting;		/* one that was asked for is to come yet */
	int64		pause;			/* microseconds until the next is due;
								 * LAUNCH_NEVER: not before there are news */
} LaunchDecision;

extern int64 launch_wait(const ClaimFacts *facts);
extern void launch_decide(const ClaimFacts *facts, int n, int limit,
						  LaunchDecision *decision);

#endif							/* LAUNCH_H */
