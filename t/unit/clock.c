/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  A table of schedules that count from a time of the day, and of when they
 *	  are next due.
 *
 * A program of its own, compiled by t/010_decide.pl together with
 * src/worker/clock.c.  Prints what Perl's test harness reads.  The time zones
 * are those of the C library, which has the same data as the server.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdio.h>
#include <time.h>

#include "utils/timestamp.h"

#include "src/worker/clock.h"

/* The server's own are in a library that this program does without. */
#undef printf
#undef snprintf

#define EPOCH ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY)

#define MINUTE	60
#define HOUR	(60 * MINUTE)
#define DAY		(24 * HOUR)
#define FROM(hour, minute) ((hour) * HOUR + (minute) * MINUTE)

/* The server's time zones are somebody else's. */
struct pg_tz
{
	const char *name;
};

typedef struct Case
{
	const char *name;
	const char *zone;
	int			interval;
	int			start_time;
	const char *starts[4];		/* of cycles, by the clock of the zone with
								 * its offset; each is the next one after that
								 * before */
}			Case;

static const Case cases[] = {
	{"every night", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-06-01 03:00:00 +0200", "2026-06-02 03:00:00 +0200", "2026-06-03 03:00:00 +0200"}},
	{"run() at noon does not move it", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-06-01 12:34:56 +0200", "2026-06-02 03:00:00 +0200"}},
	{"refreshed for the first time before it", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-06-01 02:10:00 +0200", "2026-06-01 03:00:00 +0200"}},
	{"a little too early", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-06-01 02:59:59 +0200", "2026-06-02 03:00:00 +0200"}},
	{"too early by more than that", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-06-01 02:59:58 +0200", "2026-06-01 03:00:00 +0200"}},
	{"late", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-06-01 03:00:01 +0200", "2026-06-02 03:00:00 +0200"}},
	{"midnight", "Europe/Berlin", DAY, 0,
	{"2026-06-01 00:00:00 +0200", "2026-06-02 00:00:00 +0200"}},
	{"the last second of the day", "Europe/Berlin", DAY, DAY - 1,
	{"2026-06-01 23:59:59 +0200", "2026-06-02 23:59:59 +0200"}},
	{"at a quarter past each hour", "Europe/Berlin", HOUR, FROM(0, 15),
	{"2026-06-01 22:15:00 +0200", "2026-06-01 23:15:00 +0200", "2026-06-02 00:15:00 +0200", "2026-06-02 01:15:00 +0200"}},
	{"counted back from that time too", "Europe/Berlin", 6 * HOUR, FROM(23, 30),
	{"2026-06-01 00:00:00 +0200", "2026-06-01 05:30:00 +0200", "2026-06-01 11:30:00 +0200", "2026-06-01 17:30:00 +0200"}},
	{"overrun: only the next one", "Europe/Berlin", HOUR, FROM(0, 15),
	{"2026-06-01 05:20:00 +0200", "2026-06-01 06:15:00 +0200"}},
	{"each second", "Europe/Berlin", 1, 0,
	{"2026-06-01 05:20:00 +0200", "2026-06-01 05:20:01 +0200", "2026-06-01 05:20:02 +0200"}},

	/* Whole days count from a Monday. */
	{"weekly", "Europe/Berlin", 7 * DAY, FROM(3, 0),
	{"2026-11-28 12:00:00 +0100", "2026-11-30 03:00:00 +0100", "2026-12-07 03:00:00 +0100"}},
	{"every other day, over the end of a month", "Europe/Berlin", 2 * DAY, FROM(3, 0),
	{"2026-11-28 12:00:00 +0100", "2026-11-30 03:00:00 +0100", "2026-12-02 03:00:00 +0100"}},
	{"the longest interval", "UTC", 366 * DAY, FROM(3, 0),
	{"2026-11-28 12:00:00 +0000", "2027-01-23 03:00:00 +0000", "2028-01-24 03:00:00 +0000"}},
	{"before the day that is counted from", "UTC", 7 * DAY, FROM(3, 0),
	{"1999-12-26 03:00:00 +0000", "1999-12-27 03:00:00 +0000", "2000-01-03 03:00:00 +0000"}},
	{"in 1970", "UTC", DAY, FROM(3, 0),
	{"1970-01-01 00:00:00 +0000", "1970-01-01 03:00:00 +0000"}},
	{"before 1970", "UTC", DAY, FROM(3, 0),
	{"1969-12-31 02:00:00 +0000", "1969-12-31 03:00:00 +0000", "1970-01-01 03:00:00 +0000"}},

	/* Berlin: 02:00 to 03:00 on 2026-03-29, and back on 2026-10-25 */
	{"Berlin in spring: 03:00 is what the wall says", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-03-28 03:00:00 +0100", "2026-03-29 03:00:00 +0200", "2026-03-30 03:00:00 +0200"}},
	{"Berlin in spring: what does not exist is passed over", "Europe/Berlin", DAY, FROM(2, 30),
	{"2026-03-28 02:30:00 +0100", "2026-03-30 02:30:00 +0200"}},
	{"Berlin in spring: an hour is missing", "Europe/Berlin", HOUR, FROM(0, 15),
	{"2026-03-29 00:15:00 +0100", "2026-03-29 01:15:00 +0100", "2026-03-29 03:15:00 +0200", "2026-03-29 04:15:00 +0200"}},
	{"Berlin in spring: four hours before", "Europe/Berlin", 4 * HOUR, FROM(2, 0),
	{"2026-03-28 22:00:00 +0100", "2026-03-29 06:00:00 +0200"}},
	{"Berlin in autumn: 03:00 is what the wall says", "Europe/Berlin", DAY, FROM(3, 0),
	{"2026-10-24 03:00:00 +0200", "2026-10-25 03:00:00 +0100", "2026-10-26 03:00:00 +0100"}},
	{"Berlin in autumn: what comes twice counts once", "Europe/Berlin", DAY, FROM(2, 30),
	{"2026-10-24 02:30:00 +0200", "2026-10-25 02:30:00 +0200", "2026-10-26 02:30:00 +0100"}},
	{"Berlin in autumn: an hour counts once", "Europe/Berlin", HOUR, FROM(0, 15),
	{"2026-10-25 01:15:00 +0200", "2026-10-25 02:15:00 +0200", "2026-10-25 03:15:00 +0100", "2026-10-25 04:15:00 +0100"}},
	{"Berlin in autumn: restarted within the second one", "Europe/Berlin", 15 * MINUTE, 0,
	{"2026-10-25 02:10:00 +0100", "2026-10-25 03:00:00 +0100"}},
	{"Berlin in autumn: run() within the first one", "Europe/Berlin", DAY, FROM(2, 30),
	{"2026-10-25 02:40:00 +0200", "2026-10-26 02:30:00 +0100"}},

	/* New York: 02:00 to 03:00 on 2026-03-08, and back on 2026-11-01 */
	{"New York in spring", "America/New_York", DAY, FROM(2, 0),
	{"2026-03-07 02:00:00 -0500", "2026-03-09 02:00:00 -0400"}},
	{"New York in spring, the end of the gap", "America/New_York", DAY, FROM(3, 0),
	{"2026-03-07 03:00:00 -0500", "2026-03-08 03:00:00 -0400"}},
	{"New York in autumn", "America/New_York", DAY, FROM(1, 30),
	{"2026-10-31 01:30:00 -0400", "2026-11-01 01:30:00 -0400", "2026-11-02 01:30:00 -0500"}},
	{"New York in autumn, weekly", "America/New_York", 7 * DAY, FROM(3, 0),
	{"2026-10-26 03:00:00 -0400", "2026-11-02 03:00:00 -0500"}},

	/* Lord Howe: 02:00 to 02:30 on 2026-10-04, and back on 2026-04-05 */
	{"Lord Howe in spring", "Australia/Lord_Howe", DAY, FROM(2, 15),
	{"2026-10-03 02:15:00 +1030", "2026-10-05 02:15:00 +1100"}},
	{"Lord Howe in spring, after it", "Australia/Lord_Howe", HOUR, FROM(0, 30),
	{"2026-10-04 01:30:00 +1030", "2026-10-04 02:30:00 +1100", "2026-10-04 03:30:00 +1100"}},
	{"Lord Howe in autumn", "Australia/Lord_Howe", 15 * MINUTE, 0,
	{"2026-04-05 01:30:00 +1100", "2026-04-05 01:45:00 +1100", "2026-04-05 02:00:00 +1030", "2026-04-05 02:15:00 +1030"}},

	/* Offsets that are no whole hours, large ones, and odd changes */
	{"Kathmandu", "Asia/Kathmandu", HOUR, FROM(0, 15),
	{"2026-06-01 03:00:00 +0545", "2026-06-01 03:15:00 +0545", "2026-06-01 04:15:00 +0545"}},
	{"Kathmandu, daily", "Asia/Kathmandu", DAY, FROM(3, 0),
	{"2026-06-01 03:00:00 +0545", "2026-06-02 03:00:00 +0545"}},
	{"Kiritimati", "Pacific/Kiritimati", DAY, FROM(3, 0),
	{"2026-06-01 03:00:00 +1400", "2026-06-02 03:00:00 +1400"}},
	{"Apia, where a day was left out", "Pacific/Apia", DAY, FROM(3, 0),
	{"2011-12-29 03:00:00 -1000", "2011-12-31 03:00:00 +1400"}},
	{"Cairo, where midnight is left out", "Africa/Cairo", DAY, 0,
	{"2026-04-23 00:00:00 +0200", "2026-04-25 00:00:00 +0300"}},

	/* The same cycle, and another zone from then on */
	{"the zone was changed to the west", "America/New_York", DAY, FROM(3, 0),
	{"2026-05-31 21:00:00 -0400", "2026-06-01 03:00:00 -0400"}},
	{"the zone was changed to the east", "Asia/Tokyo", DAY, FROM(3, 0),
	{"2026-06-01 10:00:00 +0900", "2026-06-02 03:00:00 +0900"}},

	/* 30 years ahead */
	{"30 years ahead, spring", "Europe/Berlin", DAY, FROM(2, 30),
	{"2056-03-25 02:30:00 +0100", "2056-03-27 02:30:00 +0200"}},
	{"30 years ahead, autumn", "America/New_York", HOUR, FROM(0, 30),
	{"2056-11-05 00:30:00 -0400", "2056-11-05 01:30:00 -0400", "2056-11-05 02:30:00 -0500"}},
	{"30 years ahead, weekly", "Europe/Berlin", 7 * DAY, FROM(3, 0),
	{"2056-10-29 12:00:00 +0100", "2056-10-30 03:00:00 +0100"}},
};

/* Where all times of 40 days are tried */
static const struct
{
	const char *zone;
	const char *from;
}			scans[] = {
	{"Europe/Berlin", "2026-03-01 00:00:00 +0000"},
	{"Europe/Berlin", "2026-10-05 00:00:00 +0000"},
	{"America/New_York", "2026-02-20 00:00:00 +0000"},
	{"America/New_York", "2056-10-10 00:00:00 +0000"},
	{"Australia/Lord_Howe", "2026-03-10 00:00:00 +0000"},
	{"Australia/Lord_Howe", "2026-09-10 00:00:00 +0000"},
	{"Africa/Casablanca", "2026-01-25 00:00:00 +0000"},
	{"Pacific/Apia", "2011-12-01 00:00:00 +0000"},
	{"Asia/Kathmandu", "1985-12-01 00:00:00 +0000"},
};

#define SCAN_MINUTES (40 * DAY / MINUTE)

static const struct
{
	int			interval;
	int			start_time;
}			schedules[] = {
	{15 * MINUTE, FROM(0, 5)}, {HOUR, FROM(0, 15)}, {6 * HOUR, FROM(2, 30)},
	{DAY, FROM(2, 0)}, {DAY, FROM(2, 30)}, {DAY, FROM(3, 0)}, {DAY, 0},
	{2 * DAY, FROM(2, 10)}, {7 * DAY, FROM(1, 30)}
};

static pg_time_t parse_time(const char *stamp);
static void print_time(const char *what, TimestampTz time,
					   const pg_tz *zone);
static bool run_case(const Case * test);
static int64 offset_at(pg_time_t time, const pg_tz *zone);
static bool run_scan(const char *zone_name, const char *from, int interval,
					 int start_time);

/*
 * In the place of the server's.
 */
struct pg_tm *
pg_localtime(const pg_time_t *timep, const pg_tz *zone)
{
	static struct pg_tm result;
	static const char *current = "";
	time_t		time = *timep;
	struct tm	local;

	if (strcmp(current, zone->name) != 0)
	{
		setenv("TZ", zone->name, 1);
		tzset();
		current = zone->name;
	}
	if (localtime_r(&time, &local) == NULL)
		return NULL;
	result.tm_gmtoff = local.tm_gmtoff;
	return &result;
}

static pg_time_t
parse_time(const char *stamp)
{
	struct tm	parts = {0};
	int			offset;

	if (sscanf(stamp, "%d-%d-%d %d:%d:%d %d", &parts.tm_year, &parts.tm_mon,
			   &parts.tm_mday, &parts.tm_hour, &parts.tm_min, &parts.tm_sec,
			   &offset) != 7)
		abort();
	parts.tm_year -= 1900;
	parts.tm_mon -= 1;
	return timegm(&parts) - (offset / 100 * HOUR + offset % 100 * MINUTE);
}

static void
print_time(const char *what, TimestampTz time, const pg_tz *zone)
{
	pg_time_t	seconds = time / USECS_PER_SEC + EPOCH;
	time_t		wall = seconds + offset_at(seconds, zone);
	struct tm	parts;
	char		stamp[64];

	gmtime_r(&wall, &parts);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &parts);
	printf("# %s %s, " INT64_FORMAT " s ahead of UTC\n", what, stamp,
		   offset_at(seconds, zone));
}

static bool
run_case(const Case * test)
{
	pg_tz		zone = {test->zone};

	for (int i = 1; i < (int) lengthof(test->starts) && test->starts[i]; i++)
	{
		pg_time_t	start = parse_time(test->starts[i - 1]);
		TimestampTz expected =
			(parse_time(test->starts[i]) - EPOCH) * USECS_PER_SEC;
		TimestampTz next = clock_next((start - EPOCH) * USECS_PER_SEC,
									  test->interval, test->start_time, &zone);

		if (next != expected)
		{
			printf("# after %s\n", test->starts[i - 1]);
			print_time("expected", expected, &zone);
			print_time("got", next, &zone);
			return false;
		}
	}
	return true;
}

static int64
offset_at(pg_time_t time, const pg_tz *zone)
{
	return pg_localtime(&time, zone)->tm_gmtoff;
}

/*
 * After each third minute, the next time must be the next minute at which the clock
 * on the wall shows a time of the schedule for the first time.
 */
static bool
run_scan(const char *zone_name, const char *from, int interval, int start_time)
{
	static bool seen[SCAN_MINUTES + 4 * DAY / MINUTE];
	static bool due[SCAN_MINUTES];
	pg_tz		zone = {zone_name};
	pg_time_t	begin = parse_time(from);
	pg_time_t	monday = parse_time("2000-01-03 00:00:00 +0000");
	int			next = -1;

	memset(seen, 0, sizeof(seen));
	for (int i = 0; i < SCAN_MINUTES; i++)
	{
		pg_time_t	time = begin + i * MINUTE;
		int64		wall = time + offset_at(time, &zone);
		bool	   *before = &seen[(wall - begin + 2 * DAY) / MINUTE];

		due[i] = !*before && (wall - monday - start_time) % interval == 0;
		*before = true;
	}
	for (int i = SCAN_MINUTES - 1; i >= 0; i--)
	{
		TimestampTz start = (begin + i * MINUTE - EPOCH) * USECS_PER_SEC;
		TimestampTz found;

		if (next >= 0 && i % 3 == 0)
		{
			found = clock_next(start + 123456, interval, start_time, &zone);
			if (found != start + (next - i) * MINUTE * USECS_PER_SEC)
			{
				print_time("after", start, &zone);
				print_time("got", found, &zone);
				return false;
			}
		}
		if (due[i])
			next = i;
	}
	return next >= 0;
}

int
main(void)
{
	int			ncases = lengthof(cases);
	int			nscans = lengthof(scans);
	pg_tz		utc = {"UTC"};

	printf("1..%d\n", ncases + nscans + 1);
	for (int i = 0; i < ncases; i++)
		printf("%sok %d - %s\n", run_case(&cases[i]) ? "" : "not ", i + 1,
			   cases[i].name);
	for (int i = 0; i < nscans; i++)
	{
		bool		good = true;

		for (int j = 0; j < (int) lengthof(schedules); j++)
			good = run_scan(scans[i].zone, scans[i].from,
							schedules[j].interval,
							schedules[j].start_time) && good;
		printf("%sok %d - at any time in %s from %s\n", good ? "" : "not ",
			   ncases + i + 1, scans[i].zone, scans[i].from);
	}
	printf("%sok %d - the end of all calendars\n",
		   clock_next(PG_INT64_MAX - USECS_PER_DAY, DAY, FROM(3, 0),
					  &utc) > 0 ? "" : "not ",
		   ncases + nscans + 1);
	return 0;
}
