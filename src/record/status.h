/*-------------------------------------------------------------------------
 *
 * status.h
 *	  What each worker is doing now, and its totals.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef STATUS_H
#define STATUS_H

#include "datatype/timestamp.h"
#include "pgtime.h"

#include "src/refresh/refresh.h"

/* Room for the worker's search_path; a longer one is not published */
#define STATUS_PATH_SIZE	1024

/* Maximum number of processes that refresh views of one database */
#define STATUS_MAX_RUNNING	64

/* Upper bounds of the histogram of cycles' durations, in seconds */
#define STATUS_BUCKET_BOUNDS {1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
#define STATUS_NBUCKETS		10

typedef enum StatusState
{
	STATUS_STOPPED,				/* there is no worker, as the last one failed
								 * or none was started yet */
	STATUS_RESTING,				/* ... as nothing is due */
	STATUS_IDLE,				/* it waits for the next view to be due */
	STATUS_REFRESHING,
	STATUS_DISABLED
} StatusState;

/* A view that is being refreshed */
typedef struct StatusRunning
{
	int			pid;			/* 0: this place is free */
	Oid			database;
	TimestampTz since;
	int64		began;			/* likewise, by the monotonic clock */
	int64		usual;			/* how long it took last time, in
								 * microseconds; 0: unknown */
	char		label[TARGET_LABEL_SIZE];
} StatusRunning;

/* Counts of views, of one cycle or of all */
typedef struct StatusCounts
{
	int64		total;
	int64		refreshed;
	int64		failed;
	int64		skipped;
} StatusCounts;

/* The search_path and the time zone of a worker; "": unknown */
typedef struct StatusNames
{
	char		search_path[STATUS_PATH_SIZE];
	char		time_zone[TZ_STRLEN_MAX + 1];
} StatusNames;

/* The status of one database */
typedef struct StatusData
{
	char		database[NAMEDATALEN];
	bool		listed;			/* it is to be served */
	bool		installed;		/* the extension is there, as far as we know */
	int			pid;			/* of the worker; 0: there is none */
	StatusState state;
	TimestampTz worker_start;
	TimestampTz next_due;		/* 0: unknown; DT_NOEND: never */
	TimestampTz cycle_start;	/* of this or the last cycle; 0: none yet */
	int64		cycle_duration; /* in microseconds; -1: it is not over */
	StatusCounts cycle;			/* of this or the last cycle */
	TimestampTz last_start;		/* of the last cycle that ended; 0: none yet */
	int64		last_duration;	/* in microseconds */
	StatusCounts last;			/* of the last cycle that ended */
	StatusCounts totals;		/* since the server started */
	int64		cycles_success;
	int64		cycles_failed;
	int			consecutive_failures;	/* of cycles */
	int64		buckets[STATUS_NBUCKETS];	/* cycles not longer than that */
	int64		duration_sum;	/* of all cycles, in microseconds */
	StatusNames names;
} StatusData;

/* A copy of that, with what is being refreshed now */
typedef struct StatusReport
{
	StatusData	data;
	int			nrunning;
	StatusRunning running[STATUS_MAX_RUNNING];
} StatusReport;

/* For the worker and its helpers */
extern void status_join(void);
extern void status_reload(void);
extern uint64 status_counts_epoch(void);
extern const char *status_database(void);
extern void status_set_state(StatusState state, TimestampTz next_due);
extern void status_set_search_path(const char *path);
extern void status_set_time_zone(const char *name);
extern void status_begin_cycle(TimestampTz start, int total);
extern void status_begin_view(const char *label, int64 usual);
extern void status_end_view(RefreshOutcome outcome);
extern void status_end_cycle(int64 duration);

/* For everybody */
extern bool status_available(void);
extern bool status_read_next(uint64 *cursor, StatusReport *report);
extern bool status_read_names(Oid database, StatusNames *names);

#endif							/* STATUS_H */
