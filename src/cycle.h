/*-------------------------------------------------------------------------
 *
 * cycle.h
 *	  A plan in, its results out.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef CYCLE_H
#define CYCLE_H

#include "plan.h"
#include "refresh.h"

/* What came of one cycle */
typedef struct CycleResult
{
	int			total;			/* the views that were due */
	int			refreshed;
	int			failed;
	int			skipped;
	int64		duration;		/* in microseconds */
	RefreshOutcome *outcomes;	/* of each item of the plan */
} CycleResult;

extern void cycle_run(const RefreshPlan *plan, const bool *due, CycleResult *result);

#endif							/* CYCLE_H */
