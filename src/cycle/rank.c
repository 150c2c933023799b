/*-------------------------------------------------------------------------
 *
 * rank.c
 *	  In which order the views of a cycle start, for it to end soonest.
 *
 * To find the best order is hard (it is the problem of the makespan on
 * parallel machines), to find a good one is not.  First comes what has most
 * work behind it: Graham's list scheduling by the critical path.  That leaves
 * some processes without work at the end, while others are at a last view; so
 * when few views are left, exchange the ranks of two of them for as long as
 * the cycle is predicted to end sooner by that.  This is done each time that
 * a view is taken, since by then it is known how long others really took.
 *
 * All of this works on a queue that the caller has locked, or that nobody
 * else knows of yet.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "src/common/elapsed.h"
#include "src/cycle/rank.h"

/*
 * No more views than these are looked at two by two.  With more, there are
 * enough small ones to fill what gap there is, and it would take too long.
 */
#define RANK_MOST_LEFT		24

/* ... and beside them those that are running */
#define RANK_MOST			64

/* A view shorter than this is not worth the search, in microseconds */
#define RANK_WORTHWHILE		50000

/* What an exchange must gain at least, as a part of what is left: 1/this */
#define RANK_LEAST_GAIN		500

/* A view on its way to its rank */
typedef struct RankPath
{
	int			view;
	int			stage;
	int64		length;			/* in microseconds */
} RankPath;

/* A view that is not done, in what is predicted */
typedef struct RankView
{
	int			view;			/* its index in the queue */
	int			rank;
	int			stage;
	int			nwaits;			/* what it reads and is not done */
	int64		duration;		/* or what is left of it, in microseconds */
	uint64		readers;		/* a bit for each that reads it */
} RankView;

/* What is left of a cycle: first the views that have not started, by rank */
typedef struct RankRest
{
	int			nleft;
	int			nviews;			/* with those that are running */
	int			nprocesses;
	RankView	views[RANK_MOST];
} RankRest;

static void rank_set(Queue *queue, int view, int rank);
static int	rank_compare_paths(const void *a, const void *b);
static bool rank_read_rest(Queue *queue, RankRest *rest);
static bool rank_has_started(const QueueView *view);
static void rank_add(Queue *queue, RankRest *rest, int index);
static void rank_add_readers(Queue *queue, RankRest *rest);
static int64 rank_exchange_best(const RankRest *rest, int *order,
								int64 limit);
static int64 rank_predict(const RankRest *rest, const int *order);
static int	rank_first_to_end(int nviews, uint64 running, const int64 *ends);
static int	rank_stage(const RankRest *rest, uint64 left);
static void rank_exchange(int *a, int *b);

/*
 * Rank the views as they are planned.
 */
void
rank_by_plan(Queue *queue)
{
	for (int i = 0; i < queue->nviews; i++)
		rank_set(queue, i, i);
}

static void
rank_set(Queue *queue, int view, int rank)
{
	queue->views[view].rank = rank;
	queue_ranks(queue)[rank] = view;
}

/*
 * Rank the views by what they have behind them: their own time, and that of
 * the longest chain of views that read each other after it.  Those of an
 * unknown duration are expected to take the mean of the others.
 */
void
rank_by_path(Queue *queue)
{
	RankPath   *paths = palloc(queue->nviews * sizeof(RankPath) + 1);
	int64		sum = 0;
	int			known = 0;

	for (int i = 0; i < queue->nviews; i++)
	{
		sum += queue->views[i].expected;
		known += queue->views[i].expected > 0;
	}

	/* Readers stand behind what they read, so theirs are known first. */
	for (int i = queue->nviews - 1; i >= 0; i--)
	{
		QueueView  *view = &queue->views[i];
		const int  *readers = queue_edges(queue) + view->first_reader;
		int64		longest = 0;

		for (int j = 0; j < view->nreaders; j++)
			longest = Max(longest, paths[readers[j]].length);
		if (view->expected == 0 && known > 0)
			view->expected = sum / known;
		paths[i].view = i;
		paths[i].stage = view->stage;
		paths[i].length = view->expected + longest;
	}
	qsort(paths, queue->nviews, sizeof(RankPath), rank_compare_paths);
	for (int i = 0; i < queue->nviews; i++)
		rank_set(queue, paths[i].view, i);
	pfree(paths);
}

static int
rank_compare_paths(const void *a, const void *b)
{
	const RankPath *left = a;
	const RankPath *right = b;

	if (left->stage != right->stage)
		return left->stage < right->stage ? -1 : 1;
	if (left->length != right->length)
		return left->length > right->length ? -1 : 1;
	return left->view < right->view ? -1 : left->view > right->view;
}

/*
 * Exchange ranks of views that have not started, if the cycle is predicted to
 * end sooner by that.
 */
void
rank_improve(Queue *queue)
{
	RankRest	rest;
	int			order[RANK_MOST_LEFT];
	int64		end;
	int64		before;

	if (!rank_read_rest(queue, &rest))
		return;
	for (int i = 0; i < rest.nleft; i++)
		order[i] = i;

	end = rank_predict(&rest, order);
	do
	{
		before = end;
		end = rank_exchange_best(&rest, order, end - end / RANK_LEAST_GAIN);
	} while (end < before);

	/* The ranks that they have together stay the same. */
	for (int i = 0; i < rest.nleft; i++)
		rank_set(queue, rest.views[order[i]].view, rest.views[i].rank);
	queue->first_rank = rest.views[0].rank;
}

/*
 * Read what is left of the cycle; false if the search would not be worth it.
 */
static bool
rank_read_rest(Queue *queue, RankRest *rest)
{
	int64		longest = 0;
	int			nleft = queue->nviews - queue->nstarted;

	/* There is a choice only among views that may start. */
	if (queue->nprocesses < 2 || queue->nready < 2 ||
		nleft > RANK_MOST_LEFT || nleft + queue->nrunning > RANK_MOST)
		return false;
	rest->nleft = nleft;
	rest->nviews = 0;
	rest->nprocesses = queue->nprocesses;
	for (int i = 0; i < queue->nviews; i++)
	{
		int			view = queue_ranks(queue)[i];

		if (rank_has_started(&queue->views[view]))
			continue;
		rank_add(queue, rest, view);
		longest = Max(longest, queue->views[view].expected);
	}
	if (longest < RANK_WORTHWHILE)
		return false;
	for (int i = 0; i < queue->nviews; i++)
	{
		if (rank_has_started(&queue->views[i]) &&
			queue->views[i].state != QUEUE_DONE)
			rank_add(queue, rest, i);
	}
	rank_add_readers(queue, rest);
	return true;
}

static bool
rank_has_started(const QueueView *view)
{
	return view->state != QUEUE_WAITING && view->state != QUEUE_READY;
}

static void
rank_add(Queue *queue, RankRest *rest, int index)
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
rank_add_readers(Queue *queue, RankRest *rest)
{
	for (int i = 0; i < rest->nviews; i++)
	{
		const QueueView *view = &queue->views[rest->views[i].view];
		const int  *readers = queue_edges(queue) + view->first_reader;

		for (int j = 0; j < view->nreaders; j++)
		{
			/* What reads a view that is not done has not started. */
			for (int k = 0; k < rest->nleft; k++)
			{
				if (rest->views[k].view == readers[j])
					rest->views[i].readers |= UINT64CONST(1) << k;
			}
		}
	}
}

/*
 * Make the exchange of two views of the order that ends the cycle soonest, if
 * that is before the limit.  Returns when it ends then; else the greatest
 * time there is.
 */
static int64
rank_exchange_best(const RankRest *rest, int *order, int64 limit)
{
	int64		best = limit;
	int			first = -1;
	int			second = -1;

	for (int i = 0; i < rest->nleft; i++)
	{
		for (int j = i + 1; j < rest->nleft; j++)
		{
			int64		end;

			rank_exchange(&order[i], &order[j]);
			end = rank_predict(rest, order);
			rank_exchange(&order[i], &order[j]);
			if (end < best)
			{
				best = end;
				first = i;
				second = j;
			}
		}
	}
	if (first < 0)
		return PG_INT64_MAX;
	rank_exchange(&order[first], &order[second]);
	return best;
}

/*
 * In how many microseconds from now the cycle ends, if whichever process is
 * free takes the first view of this order that may start.
 */
static int64
rank_predict(const RankRest *rest, const int *order)
{
	uint64		left = (UINT64CONST(1) << rest->nleft) - 1;
	uint64		running = 0;
	int64		ends[RANK_MOST];
	int			nwaits[RANK_MOST_LEFT];
	int			nrunning = 0;
	int64		now = 0;

	for (int i = 0; i < rest->nleft; i++)
		nwaits[i] = rest->views[i].nwaits;
	for (int i = rest->nleft; i < rest->nviews; i++)
	{
		ends[i] = rest->views[i].duration;
		running |= UINT64CONST(1) << i;
		nrunning++;
	}

	while (left != 0 || running != 0)
	{
		int			stage = rank_stage(rest, left | running);
		int			ended;

		for (int i = 0; i < rest->nleft && nrunning < rest->nprocesses; i++)
		{
			int			view = order[i];
			uint64		bit = UINT64CONST(1) << view;

			if ((left & bit) == 0 || nwaits[view] > 0 ||
				rest->views[view].stage != stage)
				continue;
			ends[view] = now + rest->views[view].duration;
			left &= ~bit;
			running |= bit;
			nrunning++;
		}
		if (running == 0)
			break;				/* cannot happen */

		ended = rank_first_to_end(rest->nviews, running, ends);
		now = ends[ended];
		running &= ~(UINT64CONST(1) << ended);
		nrunning--;
		for (int i = 0; i < rest->nleft; i++)
			nwaits[i] -= (rest->views[ended].readers >> i) & 1;
	}
	return now;
}

static int
rank_first_to_end(int nviews, uint64 running, const int64 *ends)
{
	int			first = -1;

	for (int i = 0; i < nviews; i++)
	{
		if ((running >> i & 1) != 0 && (first < 0 || ends[i] < ends[first]))
			first = i;
	}
	return first;
}

/*
 * The first stage that has views which are not done.
 */
static int
rank_stage(const RankRest *rest, uint64 undone)
{
	int			stage = INT_MAX;

	for (int i = 0; i < rest->nviews; i++)
	{
		if ((undone >> i & 1) != 0)
			stage = Min(stage, rest->views[i].stage);
	}
	return stage;
}

static void
rank_exchange(int *a, int *b)
{
	int			was = *a;

	*a = *b;
	*b = was;
}
