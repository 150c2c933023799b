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

#include "queue.h"

/* What came of one cycle */
typedef struct CycleResult
{
	int			total;			/* the views that were due */
	int			refreshed;
	int			failed;
	int			skipped;
	int64		duration;		/* in microseconds */
} CycleResult;

extern void cycle_run(const RefreshPlan *plan, QueueInput *views,
					  TimestampTz start, CycleResult *result);
extern void cycle_work(Queue *queue, LWLock *lock, bool leader);

#endif							/* CYCLE_H */
