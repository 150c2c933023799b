/*-------------------------------------------------------------------------
 *
 * status.h
 *	  What each worker is doing now, and its totals, in shared memory.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef STATUS_H
#define STATUS_H

#include "datatype/timestamp.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "src/refresh/refresh.h"

/* Room for the worker's search_path; a longer one is not published */
#define STATUS_PATH_SIZE	1024

/* The most processes that refresh views of one database at once */
#define STATUS_MAX_RUNNING	64

/* Upper bounds of the histogram of cycles' durations, in seconds */
#define STATUS_BUCKET_BOUNDS {1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
#define STATUS_NBUCKETS		10

typedef enum StatusState
{
	STATUS_STOPPED,				/* there is no worker */
	STATUS_IDLE,				/* it waits for the next view to be due */
	STATUS_REFRESHING,
	STATUS_DISABLED
} StatusState;

/* A view that is being refreshed */
typedef struct StatusRunning
{
	int			pid;			/* 0: this place is free */
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

/* What is known of one database */
typedef struct StatusData
{
	char		database[NAMEDATALEN];
	int			pid;			/* of the worker; 0: there is none */
	StatusState state;
	TimestampTz worker_start;
	TimestampTz next_due;		/* 0: unknown */
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
	char		search_path[STATUS_PATH_SIZE];	/* the worker's; "": unknown */
	StatusRunning running[STATUS_MAX_RUNNING];
} StatusData;

/* In the postmaster, and at the start of each process */
extern void status_init(const char (*databases)[NAMEDATALEN],
						const bool *registered, int ndatabases);

/* For the worker and its helpers */
extern int	status_attach(const char *database);
extern void status_retire(void);
extern void status_join(int slot);
extern void status_reload(void);
extern uint64 status_counts_epoch(void);
extern const char *status_database(void);
extern LWLock *status_queue_lock(void);
extern void status_set_state(StatusState state, TimestampTz next_due);
extern void status_set_search_path(const char *path);
extern void status_begin_cycle(TimestampTz start, int total);
extern void status_begin_view(const char *label);
extern void status_end_view(RefreshOutcome outcome);
extern void status_end_cycle(int64 duration);

/* Requests to run a cycle now */
extern uint64 status_run_wanted(void);
extern void status_run_done(uint64 request);
extern void status_run(const char *database, bool wait, StatusCounts *counts,
					   int64 *duration);

/* What other sessions have done */
extern void status_tell_at_commit(void);
extern uint64 status_elsewhere(void);

/* For everybody */
extern bool status_available(void);
extern int	status_ndatabases(void);
extern void status_read(int slot, StatusData *data);
extern int	status_find(const char *database);

#endif							/* STATUS_H */
