/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The views of one cycle: which may start now, which are done.
 *
 * A view may start when all earlier stages and all views that it reads are
 * done.  Among those that may start, the view of the lowest rank is taken.
 * Ranks follow the order of the plan for one process; for several, rank.c
 * chooses them so that the cycle ends soon.
 *
 * A queue is one block of memory without pointers.  It is private, or shared
 * by the processes that work on a cycle together.  Then a lock protects what
 * changes, and a condition variable is broadcast at changes.  A private queue
 * has no lock (NULL).
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "src/common/elapsed.h"
#include "src/cycle/queue.h"
#include "src/cycle/rank.h"
#include "src/plan/view_settings.h"

static void queue_add_views(Queue *queue, const RefreshPlan *plan,
							const QueueItem *items, int *places);
static void queue_add_edges(Queue *queue, const RefreshPlan *plan,
							const QueueItem *items, const int *places);
static void queue_add_settings(Queue *queue, const RefreshPlan *plan,
							   Size offset);
static void queue_rank(Queue *queue, bool by_path);
static void queue_set_rank(Queue *queue, int view, int rank);
static void queue_improve(Queue *queue);
static bool queue_read_rest(Queue *queue, RankRest *rest);
static bool queue_has_started(const QueueView *view);
static void queue_add_rest(Queue *queue, RankRest *rest, int index);
static void queue_add_rest_readers(Queue *queue, RankRest *rest);
static void queue_open_stage(Queue *queue, int first);
static void queue_set_state(Queue *queue, QueueView *view, QueueState state);
static void queue_set_done(Queue *queue, QueueView *view);
static bool queue_has_news(Queue *queue, LWLock *lock, bool for_others);
static TimestampTz queue_older(TimestampTz a, TimestampTz b);
static void queue_lock(LWLock *lock);
static void queue_unlock(LWLock *lock);

/*
 * Return the size in bytes of a queue for the views of a plan that are due.
 */
Size
queue_size(const RefreshPlan *plan, const QueueItem *items,
		   const char *search_path)
{
	Size		nviews = 0;
	Size		nedges = 0;
	Size		settings = 0;

	for (int i = 0; i < plan->nitems; i++)
	{
		if (!items[i].due)
			continue;
		nviews++;
		nedges += 2 * plan->items[i].ndepends;
		if (plan->items[i].settings != NULL)
			settings += view_settings_size(plan->items[i].settings);
	}
	return MAXALIGN(offsetof(Queue, views) + nviews * sizeof(QueueView)) +
		MAXALIGN(nedges * sizeof(int)) + MAXALIGN(nviews * sizeof(int)) +
		strlen(search_path) + 1 + settings;
}

/*
 * Make a queue of the views that are due, in a block of queue_size() bytes.
 *
 * "search_path", "start" and "forced" are for the processes that work on it.
 * With more than one process, all further calls need a lock.
 */
void
queue_init(Queue *queue, const RefreshPlan *plan, const QueueItem *items,
		   const char *search_path, TimestampTz start, bool forced,
		   int nprocesses)
{
	int		   *places = palloc(plan->nitems * sizeof(int) + 1);

	memset(queue, 0, offsetof(Queue, views));
	queue->start = start;
	queue->forced = forced;
	queue->insisted = forced && !refresher_enabled;
	queue->list_hash = refresher_view_list_hash;
	queue->nprocesses = nprocesses;
	ConditionVariableInit(&queue->changed);
	queue_add_views(queue, plan, items, places);
	queue->whole = queue->nviews == plan->nitems;
	queue_add_edges(queue, plan, items, places);
	strcpy((char *) queue + queue->path_offset, search_path);
	queue_add_settings(queue, plan,
					   queue->path_offset + strlen(search_path) + 1);
	queue_rank(queue, nprocesses > 1);
	queue_open_stage(queue, 0);
	pfree(places);
}

/*
 * Set how many processes really work on the queue.
 */
void
queue_set_processes(Queue *queue, LWLock *lock, int nprocesses)
{
	queue_lock(lock);
	queue->nprocesses = nprocesses;
	queue_unlock(lock);
}

/*
 * Add the views that are due, in the order of the plan.  Sets places[] to the
 * place in the queue of each item of the plan, or -1.
 */
static void
queue_add_views(Queue *queue, const RefreshPlan *plan,
				const QueueItem *items, int *places)
{
	for (int i = 0; i < plan->nitems; i++)
	{
		const PlanItem *item = &plan->items[i];
		QueueView  *view = &queue->views[queue->nviews];

		places[i] = -1;
		if (!items[i].due)
			continue;
		memset(view, 0, sizeof(QueueView));
		view->planned = i;
		strlcpy(view->label, item->label, TARGET_LABEL_SIZE);
		strlcpy(view->qualified, item->qualified, TARGET_LABEL_SIZE);
		view->has_schema = item->target.schema != NULL;
		if (view->has_schema)
			strlcpy(view->schema, item->target.schema, NAMEDATALEN);
		strlcpy(view->name, item->target.name, NAMEDATALEN);
		view->too_complex = item->target.too_complex;
		view->relid = item->target.relid;
		view->funcid = item->target.funcid;
		view->wildcard = item->target.wildcard;
		view->stage = item->stage;
		view->expected = items[i].known.duration;
		view->state = QUEUE_WAITING;
		queue->nviews_in[QUEUE_WAITING]++;
		view->outcome = REFRESH_PENDING;
		view->known = items[i].known;
		places[i] = queue->nviews++;
	}
}

/*
 * Add the edges: which view reads which.  If a view is read but not due, only
 * the age of its data matters.
 */
static void
queue_add_edges(Queue *queue, const RefreshPlan *plan,
				const QueueItem *items, const int *places)
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
												items[read].known.data_as_of);
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
	queue->path_offset = queue->ranks_offset +
		MAXALIGN(queue->nviews * sizeof(int));
}

/*
 * Copy the views' own settings, from this offset on.
 */
static void
queue_add_settings(Queue *queue, const RefreshPlan *plan, Size offset)
{
	for (int i = 0; i < queue->nviews; i++)
	{
		QueueView  *view = &queue->views[i];
		const char *settings = plan->items[view->planned].settings;
		Size		size;

		if (settings == NULL)
			continue;
		size = view_settings_size(settings);
		memcpy((char *) queue + offset, settings, size);
		view->settings_offset = offset;
		offset += size;
	}
}

/*
 * Rank the views in the order of the plan; or, for several processes, by the
 * work that depends on them.
 */
static void
queue_rank(Queue *queue, bool by_path)
{
	RankPath   *paths = palloc_extended(queue->nviews * sizeof(RankPath) + 1,
										MCXT_ALLOC_HUGE);

	for (int i = 0; i < queue->nviews; i++)
	{
		const QueueView *view = &queue->views[i];

		paths[i].view = i;
		paths[i].stage = view->stage;
		paths[i].nreaders = view->nreaders;
		paths[i].readers = queue_edges(queue) + view->first_reader;
		paths[i].duration = view->expected;
	}
	if (by_path)
		rank_by_path(paths, queue->nviews);
	for (int i = 0; i < queue->nviews; i++)
	{
		queue->views[paths[i].view].expected = paths[i].duration;
		queue_set_rank(queue, paths[i].view, i);
	}
	pfree(paths);
}

static void
queue_set_rank(Queue *queue, int view, int rank)
{
	queue->views[view].rank = rank;
	queue_ranks(queue)[rank] = view;
}

/*
 * Exchange the ranks of views that have not started, if the cycle is predicted
 * to end sooner then.
 */
static void
queue_improve(Queue *queue)
{
	RankRest	rest;
	int			order[RANK_MOST_LEFT];

	if (!queue_read_rest(queue, &rest) || !rank_improve(&rest, order))
		return;

	/* The set of their ranks stays the same. */
	for (int i = 0; i < rest.nleft; i++)
		queue_set_rank(queue, rest.views[order[i]].view, rest.views[i].rank);
	queue->first_rank = rest.views[0].rank;
}

/*
 * Read the rest of the cycle.  Returns false if there is nothing to choose, or
 * too much.
 */
static bool
queue_read_rest(Queue *queue, RankRest *rest)
{
	int			nleft = queue->nviews - queue->nstarted;

	/* There is a choice only among views that may start. */
	if (queue->nprocesses < 2 || queue->nviews_in[QUEUE_READY] < 2 ||
		nleft > RANK_MOST_LEFT ||
		queue->nviews - queue->nviews_in[QUEUE_DONE] > RANK_MOST)
		return false;
	rest->nleft = nleft;
	rest->nviews = 0;
	rest->nprocesses = queue->nprocesses;
	for (int i = 0; i < queue->nviews; i++)
	{
		int			view = queue_ranks(queue)[i];

		if (!queue_has_started(&queue->views[view]))
			queue_add_rest(queue, rest, view);
	}
	for (int i = 0; i < queue->nviews; i++)
	{
		if (queue_has_started(&queue->views[i]) &&
			queue->views[i].state != QUEUE_DONE)
			queue_add_rest(queue, rest, i);
	}
	queue_add_rest_readers(queue, rest);
	return true;
}

static bool
queue_has_started(const QueueView *view)
{
	return view->state != QUEUE_WAITING && view->state != QUEUE_READY;
}

static void
queue_add_rest(Queue *queue, RankRest *rest, int index)
{
	const QueueView *view = &queue->views[index];
	RankView   *added = &rest->views[rest->nviews++];

	added->view = index;
	added->rank = view->rank;
	added->stage = view->stage;
	added->nwaits = view->nwaits;
	added->duration = view->expected;
	added->readers = 0;
	if (view->state == QUEUE_RUNNING)
		added->duration -= elapsed_since(view->began);
	if (view->state == QUEUE_ABANDONED || added->duration < 0)
		added->duration = 0;
}

static void
queue_add_rest_readers(Queue *queue, RankRest *rest)
{
	for (int i = 0; i < rest->nviews; i++)
	{
		const QueueView *view = &queue->views[rest->views[i].view];
		const int  *readers = queue_edges(queue) + view->first_reader;

		for (int j = 0; j < view->nreaders; j++)
		{
			/* Readers of a view that is not done have not started. */
			for (int k = 0; k < rest->nleft; k++)
			{
				if (rest->views[k].view == readers[j])
					rest->views[i].readers |= UINT64CONST(1) << k;
			}
		}
	}
}

/*
 * Open a stage, whose first view is at this place: let its views start.
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
			queue_set_state(queue, &queue->views[i], QUEUE_READY);
	}
}

/*
 * Change the state of a view.  All changes must go through here.
 */
static void
queue_set_state(Queue *queue, QueueView *view, QueueState state)
{
	static const bool allowed[QUEUE_NSTATES][QUEUE_NSTATES] = {
		[QUEUE_WAITING] = {[QUEUE_READY] = true},
		[QUEUE_READY] = {[QUEUE_RUNNING] = true},
		[QUEUE_RUNNING] = {[QUEUE_DONE] = true,[QUEUE_ABANDONED] = true},
		/* the leader takes it over, to finish it as failed */
		[QUEUE_ABANDONED] = {[QUEUE_RUNNING] = true},
	};

	if (!allowed[view->state][state])
		elog(FATAL, "view in state %d of the queue cannot get to state %d",
			 view->state, state);
	queue->nviews_in[view->state]--;
	queue->nviews_in[state]++;
	view->state = state;
	if (state == QUEUE_READY)
		queue->first_rank = Min(queue->first_rank, view->rank);
}

/*
 * Take the next view to refresh.  Returns -1 if none may start now.
 *
 * *active: how many views, including this one, are being refreshed or could
 * be.
 */
int
queue_take(Queue *queue, LWLock *lock, int *active)
{
	int			taken = -1;

	queue_lock(lock);
	if (!queue->stopped && queue->nviews_in[QUEUE_READY] > 0)
	{
		const int  *ranks = queue_ranks(queue);
		QueueView  *view;

		queue_improve(queue);
		while (queue->views[ranks[queue->first_rank]].state != QUEUE_READY)
			queue->first_rank++;
		taken = ranks[queue->first_rank];
		view = &queue->views[taken];
		queue_set_state(queue, view, QUEUE_RUNNING);
		view->began = elapsed_clock();
		view->number = ++queue->nstarted;
		*active = queue->nviews_in[QUEUE_READY] +
			queue->nviews_in[QUEUE_RUNNING] +
			queue->nviews_in[QUEUE_ABANDONED];
	}
	queue_unlock(lock);
	return taken;
}

/*
 * Mark a view that was taken as done, with its outcome and its new state.
 */
void
queue_finish(Queue *queue, LWLock *lock, int view, RefreshOutcome outcome,
			 const ViewState *known)
{
	queue_lock(lock);
	queue->views[view].outcome = outcome;
	queue->views[view].known = *known;
	queue_set_done(queue, &queue->views[view]);
	queue_unlock(lock);
	if (lock != NULL)
		ConditionVariableBroadcast(&queue->changed);
}

static void
queue_set_done(Queue *queue, QueueView *view)
{
	const int  *readers = queue_edges(queue) + view->first_reader;

	queue_set_state(queue, view, QUEUE_DONE);
	queue->stage_left--;
	for (int i = 0; i < view->nreaders; i++)
	{
		QueueView  *reader = &queue->views[readers[i]];

		reader->reads_as_of = queue_older(reader->reads_as_of,
										  view->known.data_as_of);
		if (--reader->nwaits == 0 && reader->stage == queue->stage)
			queue_set_state(queue, reader, QUEUE_READY);
	}

	/* Stages are done one by one, so the next one follows the done views. */
	if (queue->stage_left == 0)
		queue_open_stage(queue, queue->nviews_in[QUEUE_DONE]);
}

/*
 * Give up a view: its process ends without having finished it.
 */
void
queue_abandon(Queue *queue, LWLock *lock, int view)
{
	queue_lock(lock);
	queue_set_state(queue, &queue->views[view], QUEUE_ABANDONED);
	queue_unlock(lock);
	ConditionVariableBroadcast(&queue->changed);
}

/*
 * Take over an abandoned view, to finish it as failed.  Returns -1 if there is
 * none.
 */
int
queue_take_abandoned(Queue *queue, LWLock *lock)
{
	int			taken = -1;

	queue_lock(lock);
	if (queue->nviews_in[QUEUE_ABANDONED] > 0)
	{
		taken = 0;
		while (queue->views[taken].state != QUEUE_ABANDONED)
			taken++;
		queue_set_state(queue, &queue->views[taken], QUEUE_RUNNING);
	}
	queue_unlock(lock);
	return taken;
}

/*
 * Let no more views start.
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
 * Wait until there may be a view to take, or there will never be one again.
 *
 * "for_others": also wait for the views of other processes, and for those that
 * they abandon.
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
		news = !for_others || queue->nviews_in[QUEUE_RUNNING] == 0 ||
			queue->nviews_in[QUEUE_ABANDONED] > 0;
	else
		news = queue->nviews_in[QUEUE_READY] > 0 || (for_others && queue->nviews_in[QUEUE_ABANDONED] > 0);
	queue_unlock(lock);
	return news;
}

/*
 * Is there nothing left to start, nor (with "for_others") to wait for?
 */
bool
queue_is_over(Queue *queue, LWLock *lock, bool for_others)
{
	bool		over;

	queue_lock(lock);
	over = (queue->stopped || queue->nstarted == queue->nviews) &&
		(!for_others || queue->nviews_in[QUEUE_RUNNING] +
		 queue->nviews_in[QUEUE_ABANDONED] == 0);
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
