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
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "src/plan/plan.h"
#include "src/record/view_state.h"
#include "src/refresh/refresh.h"

/* A view of the plan, before a cycle and after it */
typedef struct QueueItem
{
	bool		due;
	RefreshOutcome outcome;		/* pending, until its turn */
	ViewState	known;			/* before the cycle: the old state, but with
								 * the new start times; after it: the new
								 * state */
} QueueItem;

typedef enum QueueState
{
	QUEUE_WAITING,				/* for its stage, or for what it reads */
	QUEUE_READY,
	QUEUE_RUNNING,
	QUEUE_ABANDONED,			/* the process that refreshed it is gone */
	QUEUE_DONE
} QueueState;

#define QUEUE_NSTATES (QUEUE_DONE + 1)

/* One view of a cycle; without pointers, since it may be in shared memory */
typedef struct QueueView
{
	int			planned;		/* its index in the plan */
	int			number;			/* its turn, from 1 */
	char		label[TARGET_LABEL_SIZE];
	char		qualified[TARGET_LABEL_SIZE];
	bool		has_schema;
	char		schema[NAMEDATALEN];
	char		name[NAMEDATALEN];
	bool		too_complex;
	Oid			relid;
	Oid			funcid;
	bool		wildcard;		/* a "*" of the list stands for it */
	Size		settings_offset;	/* as in PlanItem, from the queue's start;
									 * 0: none */
	int			stage;
	int64		expected;		/* duration, in us; 0: unknown */
	int			nreads;			/* the views of this cycle that it reads */
	int			first_read;		/* where they are in the queue's edges */
	int			nreaders;		/* the views of this cycle that read it */
	int			first_reader;

	/* These change */
	QueueState	state;
	int			rank;			/* those of lower rank start first */
	int			nwaits;			/* the views it reads that are not done */
	TimestampTz reads_as_of;	/* the oldest data that it reads; 0: unknown */
	int64		began;			/* when it was taken, by the monotonic clock */
	TimestampTz started_at;		/* likewise, by the clock */
	RefreshOutcome outcome;		/* pending, until it is done */
	ViewState	known;			/* until it is done: as in its QueueItem */
} QueueView;

/* A cycle */
typedef struct Queue
{
	/* These do not change */
	TimestampTz start;
	bool		forced;			/* refresh unchanged views, too */
	bool		whole;			/* all views of the list are due */
	bool		insisted;		/* go on even if the worker is disabled */
	uint64		list_hash;		/* of the list that was planned */
	int			nviews;
	Size		edges_offset;	/* of an array of int, from the start */
	Size		ranks_offset;	/* likewise: the views by rank, which change */
	Size		path_offset;	/* of a string: the leader's search_path */

	/* These do */
	int			nprocesses;		/* that work on it, as far as we know */
	int			stage;			/* later ones must not start */
	int			stage_left;		/* views of it that are not done */
	int			nstarted;
	int			nviews_in[QUEUE_NSTATES];	/* how many are in each state */
	int			first_rank;		/* no view of a lower rank is ready */
	bool		stopped;		/* no more views may start */
	ConditionVariable changed;
	QueueView	views[FLEXIBLE_ARRAY_MEMBER];
} Queue;

/*
 * The views that each view reads and those that read it, as places in the
 * queue.
 */
static inline int *
queue_edges(Queue *queue)
{
	return (int *) ((char *) queue + queue->edges_offset);
}

/*
 * The place in the queue of the view of each rank.
 */
static inline int *
queue_ranks(Queue *queue)
{
	return (int *) ((char *) queue + queue->ranks_offset);
}

/*
 * The view's own settings, or NULL.
 */
static inline const char *
queue_settings(const Queue *queue, const QueueView *view)
{
	return view->settings_offset == 0 ? NULL :
		(const char *) queue + view->settings_offset;
}

/*
 * The leader's search_path, which all processes that work on the queue use.
 */
static inline const char *
queue_search_path(const Queue *queue)
{
	return (const char *) queue + queue->path_offset;
}

extern Size queue_size(const RefreshPlan *plan, const QueueItem *items,
					   const char *search_path);
extern void queue_init(Queue *queue, const RefreshPlan *plan,
					   const QueueItem *items, const char *search_path,
					   TimestampTz start, bool forced, int nprocesses);
extern void queue_set_processes(Queue *queue, LWLock *lock, int nprocesses);
extern int	queue_take(Queue *queue, LWLock *lock, int *active);
extern void queue_finish(Queue *queue, LWLock *lock, int view,
						 RefreshOutcome outcome, const ViewState *known);
extern void queue_abandon(Queue *queue, LWLock *lock, int view);
extern int	queue_take_abandoned(Queue *queue, LWLock *lock);
extern void queue_stop(Queue *queue, LWLock *lock);
extern bool queue_is_over(Queue *queue, LWLock *lock, bool for_others);
extern void queue_wait(Queue *queue, LWLock *lock, bool for_others,
					   uint32 wait_event);

#endif							/* QUEUE_H */
