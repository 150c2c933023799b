/*-------------------------------------------------------------------------
 *
 * rank.c
 *	  In which order to start the views of a cycle, so that it ends soonest.
 *
 * It is hard to find the best order (this is makespan scheduling on parallel
 * machines), but not to find a good one.  We start with the view that has the
 * most work depending on it: Graham's list scheduling by the critical path.
 * This leaves some processes without work at the end, while others refresh a
 * last view.  So when few views are left, we exchange the ranks of two of them
 * as long as the cycle is predicted to end sooner then.  We do this each time
 * that a view is taken, since by then we know how long others really took.
 *
 * Nothing here depends on queues or processes: paths or predictions in, an
 * order out.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "src/cycle/rank.h"

/* Views shorter than this are not worth the search, in microseconds */
#define RANK_WORTHWHILE		50000

/* An exchange must gain at least 1/this of the time that is left */
#define RANK_LEAST_GAIN		500

static int	rank_compare_paths(const void *a, const void *b);
static int64 rank_exchange_best(const RankRest *rest, int *order,
								int64 limit);
static int64 rank_predict(const RankRest *rest, const int *order);
static int	rank_first_to_end(int nviews, uint64 running, const int64 *ends);
static int	rank_stage(const RankRest *rest, uint64 left);
static void rank_exchange(int *a, int *b);

/*
 * Sort the views by stage, then by the time that depends on them: their own
 * duration, and that of the longest chain of readers after them.
 *
 * On entry paths[i] is the view of index i.  An unknown duration is set to the
 * mean of the known ones.
 */
void
rank_by_path(RankPath *paths, int nviews)
{
	int64		sum = 0;
	int			known = 0;

	for (int i = 0; i < nviews; i++)
	{
		sum += paths[i].duration;
		known += paths[i].duration > 0;
	}

	/* Readers come after what they read, so theirs are known first. */
	for (int i = nviews - 1; i >= 0; i--)
	{
		int64		longest = 0;

		for (int j = 0; j < paths[i].nreaders; j++)
			longest = Max(longest, paths[paths[i].readers[j]].length);
		if (paths[i].duration == 0 && known > 0)
			paths[i].duration = sum / known;
		paths[i].length = paths[i].duration + longest;
	}
	qsort(paths, nviews, sizeof(RankPath), rank_compare_paths);
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
 * Find a better order for the views that have not started: order[i] becomes
 * the place in "rest" of the view that gets the rank of rest->views[i].
 * order[] must have room for RANK_MOST_LEFT elements.
 *
 * Returns false if all of them are so short that the search is not worth it.
 */
bool
rank_improve(const RankRest *rest, int *order)
{
	int64		longest = 0;
	int64		end;
	int64		before;

	for (int i = 0; i < rest->nleft; i++)
	{
		order[i] = i;
		longest = Max(longest, rest->views[i].duration);
	}
	if (longest < RANK_WORTHWHILE)
		return false;

	end = rank_predict(rest, order);
	do
	{
		before = end;
		end = rank_exchange_best(rest, order, end - end / RANK_LEAST_GAIN);
	} while (end < before);
	return true;
}

/*
 * Make the exchange of two views of the order that ends the cycle soonest, if
 * that is before the limit.  Returns when the cycle ends then, or PG_INT64_MAX
 * if nothing was exchanged.
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
 * Predict in how many microseconds from now the cycle ends, if each free
 * process takes the first view of this order that may start.
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
 * Return the first stage with views that are not done.
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
