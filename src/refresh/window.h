/*-------------------------------------------------------------------------
 *
 * window.h
 *	  Tables that a function fills window by window: each row once.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef WINDOW_H
#define WINDOW_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "tcop/dest.h"

#include "src/plan/target.h"
#include "src/refresh/checkpoint.h"

/* The result of one window */
typedef struct WindowResult
{
	bool		used;			/* the method is window, and it got so far */
	bool		empty;			/* there was nothing to fold */
	int64		end;			/* "until" as a number */
	int64		limit;			/* what "end" could be without max_window */
	char		after[CHECKPOINT_TEXT_SIZE];
	char		until[CHECKPOINT_TEXT_SIZE];
	TimestampTz as_of;			/* time of the target's data after it; 0:
								 * unknown */
	bool		counted;		/* did the function return "rows"? */
	int64		rows;			/* how many rows it says it has changed */
} WindowResult;

/* What the next window would be */
typedef struct WindowPreview
{
	char		after[CHECKPOINT_TEXT_SIZE];
	char		until[CHECKPOINT_TEXT_SIZE];
	int64		backlog;		/* how much could be folded now: in seconds or
								 * transactions; -1: from the beginning */
	bool		held;			/* somebody holds it back: */
	int			pid;			/* 0: a prepared transaction */
	TimestampTz since;			/* when that began, or was prepared */
	const char *advice;			/* what to do first, or NULL */
} WindowPreview;

extern List *window_open(const RefreshTarget *target, WindowResult *result);
extern DestReceiver *window_receiver(WindowResult *result);
extern bool window_preview(const RefreshTarget *target, bool failed,
						   WindowPreview *preview);
extern void window_set(const RefreshTarget *target, const char *until);

#endif							/* WINDOW_H */
