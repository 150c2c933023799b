/*-------------------------------------------------------------------------
 *
 * cycle.h
 *	  Runs a plan and collects its results, by one process or by several.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef CYCLE_H
#define CYCLE_H

#include "fmgr.h"

#include "src/cycle/queue.h"

/* The result of one cycle */
typedef struct CycleResult
{
	int			total;			/* the views that were due */
	int			refreshed;
	int			failed;
	int			skipped;
	int			dropped;		/* before their turn */
	int64		duration;		/* in microseconds */
} CycleResult;

extern void cycle_run(const RefreshPlan *plan, QueueItem *items,
					  TimestampTz start, bool forced, CycleResult *result);
extern PGDLLEXPORT void bigbrotr_refresher_helper_main(Datum main_arg);

#endif							/* CYCLE_H */
