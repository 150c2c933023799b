/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The views of one cycle: which may start now, which are done.
 *
 * A view may start when all of the stages before its own are done, and all
 * that it reads.  Of those that may, the one of the lowest rank is taken.  For
 * one process, that is the order of the plan; for several, rank.c sees to it
 * that the cycle ends soon.
 *
 * A queue is one block of memory without pointers.  It may be private, or
 * shared by the processes that work on a cycle together; then a lock protects
 * what changes, and the condition variable tells that something did.  A
 * private one has no lock (NULL).
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "src/cycle/queue.h"
#include "src/cycle/rank.h"

static void queue_add_views(Queue *queue, const RefreshPlan *plan,
							const QueueInput *inputs, int *places);
static void queue_add_edges(Queue *queue, const RefreshPlan *plan,
							const QueueInput *inputs, const int *places);
static void queue_open_stage(Queue *queue, int first);
static void queue_make_ready(Queue *queue, QueueView *view);
static void queue_set_done(Queue *queue, QueueView *view);
static bool queue_has_news(Queue *queue, LWLock *lock, bool for_others);
static TimestampTz queue_older(TimestampTz a, TimestampTz b);
static void queue_lock(LWLock *lock);
static void queue_unlock(LWLock *lock);

/*
 * Bytes that a queue needs for what is due of a plan.
 */
Size
queue_size(const RefreshPlan *plan, const QueueInput *inputs)
{
	Size		nviews = 0;
	Size		nedges = 0;

	for (int i = 0; i < plan->nitems; i++)
	{
		if (!inputs[i].due)
			continue;
		nviews++;
		nedges += 2 * plan->items[i].ndepends;
	}
	return MAXALIGN(offsetof(Queue, views) + nviews * sizeof(QueueView)) +
		MAXALIGN(nedges * sizeof(int)) + MAXALIGN(nviews * sizeof(int));
}

/*
 * Make a queue of what is due, in a block of queue_size() bytes.
 *
 * "start" and "forced" are for whoever works on it.  With more than one
 * process, there has to be a lock from now on.
 */
void
queue_init(Queue *queue, const RefreshPlan *plan, const QueueInput *inputs,
		   TimestampTz start, bool forced, int nprocesses)
{
	int		   *places = palloc(plan->nitems * sizeof(int) + 1);

	memset(queue, 0, offsetof(Queue, views));
	queue->start = start;
	queue->forced = forced;
	queue->nprocesses = nprocesses;
	ConditionVariableInit(&queue->changed);
	queue_add_views(queue, plan, inputs, places);
	queue_add_edges(queue, plan, inputs, places);
	if (nprocesses > 1)
		rank_by_path(queue);
	else
		rank_by_plan(queue);
	queue_open_stage(queue, 0);
	pfree(places);
}

/*
 * Fewer processes work on the queue than was thought.
 */
void
queue_set_processes(Queue *queue, LWLock *lock, int nprocesses)
{
	queue_lock(lock);
	queue->nprocesses = nprocesses;
	queue_unlock(lock);
}

/*
 * Add the views that are due, in the order of the plan.  places[] becomes the
 * place in the queue of each item of the plan, or -1.
 */
static void
queue_add_views(Queue *queue, const RefreshPlan *plan,
				const QueueInput *inputs, int *places)
{
	for (int i = 0; i < plan->nitems; i++)
	{
		const PlanItem *item = &plan->items[i];
		QueueView  *view = &queue->views[queue->nviews];

		places[i] = -1;
		if (!inputs[i].due)
			continue;
		memset(view, 0, sizeof(QueueView));
		view->planned = i;
		strlcpy(view->label, item->label, TARGET_LABEL_SIZE);
		strlcpy(view->qualified, item->qualified, TARGET_LABEL_SIZE);
		view->has_schema = item->target.schema != NULL;
		if (view->has_schema)
			strlcpy(view->schema, item->target.schema, NAMEDATALEN);
		strlcpy(view->name, item->target.name, NAMEDATALEN);
		view->relid = item->target.relid;
		view->funcid = item->target.funcid;
		view->schedule_start = inputs[i].schedule_start;
		view->stage = item->stage;
		view->expected = inputs[i].duration;
		view->state = QUEUE_WAITING;
		view->output.outcome = REFRESH_PENDING;
		view->output.duration = inputs[i].duration;
		view->output.data_as_of = inputs[i].data_as_of;
		view->output.failures = inputs[i].failures;
		strlcpy(view->output.mark, inputs[i].mark, CHANGE_MARK_SIZE);
		places[i] = queue->nviews++;
	}
}

/*
 * Add who reads whom.  Of what is read but not due, only the age of the data
 * matters.
 */
static void
queue_add_edges(Queue *queue, const RefreshPlan *plan,
				const QueueInput *inputs, const int *places)
{
	int		   *edges;
	int			nedges = 0;

	queue->edges_offset = MAXALIGN(offsetof(Queue, views) +
								   queue->nviews * sizeof(QueueView));
	edges = queue_edges(queue);
	for (int i = 0; i < queue->nviews; i++)
	{
		QueueView  *view = &queue->views[i];
		const PlanItem *item = &plan->items[view->planned];

		view->first_read = nedges;
		for (int j = 0; j < item->ndepends; j++)
		{
			int			read = item->depends[j];

			if (places[read] < 0)
				view->reads_as_of = queue_older(view->reads_as_of,
												inputs[read].data_as_of);
			else
			{
				edges[nedges++] = places[read];
				queue->views[places[read]].nreaders++;
			}
		}
		view->nreads = view->nwaits = nedges - view->first_read;
	}

	for (int i = 0; i < queue->nviews; i++)
	{
		queue->views[i].first_reader = nedges;
		nedges += queue->views[i].nreaders;
		queue->views[i].nreaders = 0;	/* counted again below */
	}
	for (int i = 0; i < queue->nviews; i++)
	{
		QueueView  *view = &queue->views[i];

		for (int j = 0; j < view->nreads; j++)
		{
			QueueView  *read = &queue->views[edges[view->first_read + j]];

			edges[read->first_reader + read->nreaders++] = i;
		}
	}
	queue->ranks_offset = queue->edges_offset +
		MAXALIGN(nedges * sizeof(int));
}

/*
 * Let the views of the stage start that the view at this place belongs to.
 */
static void
queue_open_stage(Queue *queue, int first)
{
	if (first >= queue->nviews)
		return;
	queue->stage = queue->views[first].stage;
	queue->stage_left = 0;
	for (int i = first;
		 i < queue->nviews && queue->views[i].stage == queue->stage; i++)
	{
		queue->stage_left++;
		if (queue->views[i].nwaits == 0)
			queue_make_ready(queue, &queue->views[i]);
	}
}

static void
queue_make_ready(Queue *queue, QueueView *view)
{
	Assert(view->state == QUEUE_WAITING);
	view->state = QUEUE_READY;
	queue->nready++;
	queue->first_rank = Min(queue->first_rank, view->rank);
}

/*
 * Take the view that is to be refreshed next; -1 if none may start now.
 *
 * *active: how many views, with this one, are being refreshed or could be.
 */
int
queue_take(Queue *queue, LWLock *lock, int *active)
{
	int			taken = -1;

	queue_lock(lock);
	if (!queue->stopped && queue->nready > 0)
	{
		const int  *ranks = queue_ranks(queue);
		QueueView  *view;

		rank_improve(queue);
		while (queue->views[ranks[queue->first_rank]].state != QUEUE_READY)
			queue->first_rank++;
		taken = ranks[queue->first_rank];
		view = &queue->views[taken];
		view->state = QUEUE_RUNNING;
		INSTR_TIME_SET_CURRENT(view->began);
		view->number = ++queue->nstarted;
		queue->nready--;
		queue->nrunning++;
		*active = queue->nready + queue->nrunning;
	}
	queue_unlock(lock);
	return taken;
}

/*
 * A view that was taken is done.
 */
void
queue_finish(Queue *queue, LWLock *lock, int view, const QueueOutput *output)
{
	queue_lock(lock);
	queue->views[view].output = *output;
	queue->nrunning--;
	queue_set_done(queue, &queue->views[view]);
	queue_unlock(lock);
	if (lock != NULL)
		ConditionVariableBroadcast(&queue->changed);
}

static void
queue_set_done(Queue *queue, QueueView *view)
{
	const int  *readers = queue_edges(queue) + view->first_reader;

	view->state = QUEUE_DONE;
	queue->ndone++;
	queue->stage_left--;
	for (int i = 0; i < view->nreaders; i++)
	{
		QueueView  *reader = &queue->views[readers[i]];

		reader->reads_as_of = queue_older(reader->reads_as_of,
										  view->output.data_as_of);
		if (--reader->nwaits == 0 && reader->stage == queue->stage)
			queue_make_ready(queue, reader);
	}

	/* Stages are done one by one, so as many views stand before the next. */
	if (queue->stage_left == 0)
		queue_open_stage(queue, queue->ndone);
}

/*
 * The process that refreshes a view ends without having finished it.
 */
void
queue_abandon(Queue *queue, LWLock *lock, int view)
{
	queue_lock(lock);
	queue->views[view].state = QUEUE_ABANDONED;
	queue->nabandoned++;
	queue_unlock(lock);
	ConditionVariableBroadcast(&queue->changed);
}

/*
 * Take over a view that was abandoned, to be finished as failed; -1 if there
 * is none.
 */
int
queue_take_abandoned(Queue *queue, LWLock *lock)
{
	int			taken = -1;

	queue_lock(lock);
	for (int i = 0; queue->nabandoned > 0 && taken < 0; i++)
	{
		if (queue->views[i].state == QUEUE_ABANDONED)
		{
			queue->views[i].state = QUEUE_RUNNING;
			queue->nabandoned--;
			taken = i;
		}
	}
	queue_unlock(lock);
	return taken;
}

/*
 * Let nothing more start.
 */
void
queue_stop(Queue *queue, LWLock *lock)
{
	queue_lock(lock);
	queue->stopped = true;
	queue_unlock(lock);
	if (lock != NULL)
		ConditionVariableBroadcast(&queue->changed);
}

/*
 * Wait until there may be something to take, or nothing will be any more.
 *
 * "for_others": wait also for what others have in hand, and for what they
 * abandon.
 */
void
queue_wait(Queue *queue, LWLock *lock, bool for_others, uint32 wait_event)
{
	ConditionVariablePrepareToSleep(&queue->changed);
	while (!queue_has_news(queue, lock, for_others))
		ConditionVariableSleep(&queue->changed, wait_event);
	ConditionVariableCancelSleep();
}

static bool
queue_has_news(Queue *queue, LWLock *lock, bool for_others)
{
	bool		news;

	queue_lock(lock);
	if (queue->stopped || queue->nstarted == queue->nviews)
		news = !for_others || queue->nrunning == 0 || queue->nabandoned > 0;
	else
		news = queue->nready > 0 || (for_others && queue->nabandoned > 0);
	queue_unlock(lock);
	return news;
}

/*
 * Is there anything left, to start or to wait for?
 */
bool
queue_is_over(Queue *queue, LWLock *lock, bool for_others)
{
	bool		over;

	queue_lock(lock);
	over = (queue->stopped || queue->nstarted == queue->nviews) &&
		(!for_others || queue->nrunning == 0);
	queue_unlock(lock);
	return over;
}

static TimestampTz
queue_older(TimestampTz a, TimestampTz b)
{
	if (a == 0 || b == 0)
		return a == 0 ? b : a;
	return Min(a, b);
}

static void
queue_lock(LWLock *lock)
{
	if (lock != NULL)
		LWLockAcquire(lock, LW_EXCLUSIVE);
}

static void
queue_unlock(LWLock *lock)
{
	if (lock != NULL)
		LWLockRelease(lock);
}
