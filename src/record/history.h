/*-------------------------------------------------------------------------
 *
 * history.h
 *	  The table of past refreshes: write, prune, read the last.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "datatype/timestamp.h"

#include "src/refresh/change.h"
#include "src/refresh/refresh.h"

/* What is kept of one attempt, beside its result */
typedef struct HistoryRow
{
	const char *label;
	TimestampTz cycle_start;	/* 0: it was not in a cycle */
	TimestampTz schedule_start; /* where the view's schedule counts from; 0:
								 * nowhere */
	TimestampTz data_as_of;		/* of the view's rows after it; 0: unknown */
	int			failures;		/* in a row, with this one */
	const char *mark;			/* of what it read; "": unknown */
} HistoryRow;

/* The last of a view */
typedef struct HistoryLast
{
	TimestampTz cycle_start;	/* of the last cycle with it; 0: none */
	TimestampTz schedule_start;
	TimestampTz data_as_of;
	int			failures;
	int64		duration;		/* of the last successful refresh, in
								 * microseconds; 0: unknown */
	char		mark[CHANGE_MARK_SIZE]; /* of what it read; "": unknown */
} HistoryLast;

extern bool history_installed(void);
extern void history_write(const HistoryRow *row, const RefreshResult *result);
extern bool history_read_last(const char *label, HistoryLast *last);
extern bool history_prune_batch(int retention);
extern void history_forget_marks(void);

#endif							/* HISTORY_H */
