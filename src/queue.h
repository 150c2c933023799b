/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  The views of one cycle: which may start now, which are done.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_H
#define QUEUE_H

#include "datatype/timestamp.h"
#include "portability/instr_time.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "change.h"
#include "plan.h"
#include "refresh.h"

/* What is known of a view of the plan before a cycle, and after it */
typedef struct QueueInput
{
	bool		due;
	TimestampTz schedule_start; /* where its schedule will count from */
	int64		duration;		/* of its last refresh, in us; 0: unknown */

	/* Before and after */
	TimestampTz data_as_of;		/* of its rows; 0: unknown */
	int			failures;		/* in a row */
	char		mark[CHANGE_MARK_SIZE]; /* of what it read last; "": unknown */

	/* After */
	RefreshOutcome outcome;
} QueueInput;

/* What came of a view */
typedef struct QueueOutput
{
	RefreshOutcome outcome;
	int64		duration;		/* in microseconds */
	TimestampTz data_as_of;
	int			failures;
	char		mark[CHANGE_MARK_SIZE];
} QueueOutput;

typedef enum QueueState
{
	QUEUE_WAITING,				/* for its stage, or for what it reads */
	QUEUE_READY,
	QUEUE_RUNNING,
	QUEUE_ABANDONED,			/* the process that refreshed it is gone */
	QUEUE_DONE
} QueueState;

/* One view of a cycle; without pointers, for it may be in shared memory */
typedef struct QueueView
{
	int			planned;		/* its index in the plan */
	int			number;			/* its turn, from 1 */
	char		label[TARGET_LABEL_SIZE];
	char		qualified[TARGET_LABEL_SIZE];
	bool		has_schema;
	char		schema[NAMEDATALEN];
	char		name[NAMEDATALEN];
	Oid			relid;
	Oid			funcid;
	TimestampTz schedule_start;
	int			stage;
	int			rank;			/* those of lower rank start first */
	int			nreads;			/* the views of this cycle that it reads */
	int			first_read;		/* where they are in the queue's edges */
	int			nreaders;		/* those that read it */
	int			first_reader;

	/* These change */
	QueueState	state;
	int			nwaits;			/* what it reads and is not done */
	TimestampTz reads_as_of;	/* the oldest data that it reads; 0: unknown */
	TimestampTz started_at;
	instr_time	began;			/* likewise, for elapsed_since() */
	QueueOutput output;			/* before it is done: as it was before */
} QueueView;

/* A cycle */
typedef struct Queue
{
	/* These do not change */
	TimestampTz start;
	bool		forced;			/* refresh also what is unchanged */
	int			nviews;
	Size		edges_offset;	/* of an array of int, from the start */
	Size		ranks_offset;	/* likewise: the views by rank */

	/* These do */
	int			stage;			/* later ones must not start */
	int			stage_left;		/* views of it that are not done */
	int			nstarted;
	int			ndone;
	int			nrunning;
	int			nready;
	int			nabandoned;
	int			first_rank;		/* no view of a lower rank is ready */
	bool		stopped;		/* nothing more is to start */
	ConditionVariable changed;
	QueueView	views[FLEXIBLE_ARRAY_MEMBER];
} Queue;

extern Size queue_size(const RefreshPlan *plan, const QueueInput *inputs);
extern void queue_init(Queue *queue, const RefreshPlan *plan,
					   const QueueInput *inputs, TimestampTz start,
					   bool forced, bool by_path);
extern int	queue_take(Queue *queue, LWLock *lock, int *active);
extern void queue_finish(Queue *queue, LWLock *lock, int view,
						 const QueueOutput *output);
extern void queue_abandon(Queue *queue, LWLock *lock, int view);
extern int	queue_take_abandoned(Queue *queue, LWLock *lock);
extern void queue_stop(Queue *queue, LWLock *lock);
extern bool queue_is_over(Queue *queue, LWLock *lock, bool for_others);
extern void queue_wait(Queue *queue, LWLock *lock, bool for_others,
					   uint32 wait_event);

#endif							/* QUEUE_H */
