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
#include "pgtime.h"

#include "src/record/history.h"
#include "src/cycle/queue.h"

/* What a process remembers about views, from one plan to the next */
typedef struct Schedule Schedule;

extern Schedule *schedule_create(const uint32 *said, int nsaid);
extern void schedule_follow(Schedule *schedule, const RefreshPlan *plan,
							bool reread, TimestampTz now);
extern TimestampTz schedule_next(Schedule *schedule, const RefreshPlan *plan,
								 TimestampTz now);
extern int	schedule_take_due(Schedule *schedule, const RefreshPlan *plan,
							  TimestampTz start, TimestampTz now, bool all,
							  QueueItem *items);
extern void schedule_record(Schedule *schedule, const RefreshPlan *plan,
							const QueueItem *items);
extern int	schedule_said(Schedule *schedule, uint32 **said);
extern bool schedule_read(const PlanItem *item, TimestampTz now,
						  ViewState *known);
extern TimestampTz schedule_due(const ViewState *known, const PlanItem *item,
								const pg_tz *zone);
extern int	schedule_interval(const PlanItem *item);
extern int	schedule_start_time(const PlanItem *item);

#endif							/* SCHEDULE_H */
