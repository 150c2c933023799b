/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  When the local time reaches a time of a schedule.
 *
 * A schedule that counts from a time of the day is a series of local times
 * that are "interval" apart.  So "every day at 03:00" stays at 03:00 when
 * daylight saving time begins.  A local time that does not exist on a day is
 * skipped; one that occurs twice counts once, the first time.
 *
 * All such series are counted from one day, a Monday, so that they do not
 * depend on when the server was started.
 *
 * Nothing here reads the clock or a parameter, so that a table of cases can
 * test it (t/unit).
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/timestamp.h"

#include "src/worker/clock.h"

/* The days from 1970-01-01 to 2000-01-03, a Monday */
#define CLOCK_FIRST_DAY 10959

/* The seconds from 1970-01-01 to 2000-01-01 */
#define CLOCK_EPOCH \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

static int64 clock_floor(int64 value, int64 divisor);
static bool clock_offset(pg_time_t time, const pg_tz *zone, int64 *offset);
static bool clock_find(int64 wall, const pg_tz *zone, pg_time_t *time);

/*
 * Return the next time of a schedule after a cycle that started at "start";
 * DT_NOEND if there is none.
 *
 * "interval" is in seconds, and divides a day or is whole days; "start_time"
 * is the second of the day that it counts from.  Since clocks are not exact, a
 * cycle that started up to a second too early counts for the time that it was
 * meant for.
 */
TimestampTz
clock_next(TimestampTz start, int interval, int start_time, const pg_tz *zone)
{
	int64		early = Min(USECS_PER_SEC, interval * USECS_PER_SEC / 2);
	pg_time_t	after = clock_floor(start + early, USECS_PER_SEC) + CLOCK_EPOCH;
	int64		first = CLOCK_FIRST_DAY * (int64) SECS_PER_DAY + start_time;
	int64		offset;
	int64		wall;
	pg_time_t	time;

	if (!clock_offset(after, zone, &offset))
		return DT_NOEND;
	wall = after + offset;
	do
	{
		wall = first + (clock_floor(wall - first, interval) + 1) * interval;
		if (wall - after > INT_MAX)
			return DT_NOEND;
	} while (!clock_find(wall, zone, &time) || time <= after);
	return (time - CLOCK_EPOCH) * USECS_PER_SEC;
}

/*
 * Divide, rounding down even if the quotient is negative.
 */
static int64
clock_floor(int64 value, int64 divisor)
{
	int64		quotient = value / divisor;

	return quotient * divisor > value ? quotient - 1 : quotient;
}

/*
 * Find the offset of local time from UTC, in seconds, at a time in seconds
 * since 1970.  Returns false if the time is out of the calendar's range.
 */
static bool
clock_offset(pg_time_t time, const pg_tz *zone, int64 *offset)
{
	const struct pg_tm *local = pg_localtime(&time, zone);

	if (local == NULL)
		return false;
	*offset = local->tm_gmtoff;
	return true;
}

/*
 * Find the first time at which the local time is "wall".  Returns false if
 * there is none.
 *
 * If the offset changes near that time, either the offset of a day before is
 * in force then or that of a day after.  If both fit, the former gives the
 * earlier time.
 */
static bool
clock_find(int64 wall, const pg_tz *zone, pg_time_t *time)
{
	for (int side = -1; side <= 1; side += 2)
	{
		int64		offset;
		int64		found;

		if (!clock_offset(wall + side * SECS_PER_DAY, zone, &offset))
			return false;
		*time = wall - offset;
		if (clock_offset(*time, zone, &found) && found == offset)
			return true;
	}
	return false;
}
