/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  When the local time reaches a time of a schedule.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef CLOCK_H
#define CLOCK_H

#include "datatype/timestamp.h"
#include "pgtime.h"

extern TimestampTz clock_next(TimestampTz start, int interval, int start_time,
							  const pg_tz *zone);

#endif							/* CLOCK_H */
