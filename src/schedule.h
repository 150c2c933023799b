/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  Which views are due when.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "datatype/timestamp.h"

#include "cycle.h"
#include "plan.h"

/* What a process remembers of the views, from one plan to the next */
typedef struct Schedule Schedule;

extern Schedule *schedule_create(void);
extern void schedule_follow(Schedule *schedule, const RefreshPlan *plan);
extern TimestampTz schedule_next(Schedule *schedule, const RefreshPlan *plan,
								 TimestampTz now);
extern int	schedule_take_due(Schedule *schedule, const RefreshPlan *plan,
							  TimestampTz now, bool *due);
extern void schedule_record(Schedule *schedule, const RefreshPlan *plan,
							TimestampTz start, const CycleResult *result);

#endif							/* SCHEDULE_H */
