/*-------------------------------------------------------------------------
 *
 * view_state.h
 *	  The state of a view after its last attempt.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef VIEW_STATE_H
#define VIEW_STATE_H

#include "datatype/timestamp.h"

#include "src/refresh/change.h"

/*
 * The schedule, the queue and the history share this struct, so that the state
 * of a view is passed on as a whole.  It has a fixed size and no pointers,
 * since it may be in shared memory.  All zeros mean that nothing is known
 * about the view.
 */
typedef struct ViewState
{
	TimestampTz cycle_start;	/* of the last cycle with it; 0: none */
	TimestampTz schedule_start; /* where its schedule counts from; 0: it has
								 * not been in a cycle */
	TimestampTz data_as_of;		/* of its rows; 0: unknown */
	int			failures;		/* in a row */
	int64		duration;		/* of the last successful refresh, in
								 * microseconds; 0: unknown */
	int64		rows_changed;	/* by that refresh, if it was merged; else 0 */
	ChangeMark	mark;			/* of what that refresh read */
} ViewState;

#endif							/* VIEW_STATE_H */
