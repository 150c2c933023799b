/*-------------------------------------------------------------------------
 *
 * launch.c
 *	  Which databases to start workers for: a pure function of facts.
 *
 * Nothing here reads the clock, shared memory or a parameter, so that a table
 * of cases can test it (t/unit).
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "src/worker/launch.h"

static int	launch_compare(const void *a, const void *b, void *arg);

/*
 * Return in how many microseconds to start a worker for this database: 0 means
 * now, or that it is overdue; LAUNCH_NEVER means not before there is news.
 *
 * A request waits for the pause after a failure, too.  Otherwise it would make
 * us start again and again a worker that cannot start.
 */
int64
launch_wait(const ClaimFacts *facts)
{
	int64		wait = facts->wanted ? 0 : facts->due_in;

	if (facts->claimed || !facts->connectable)
		return LAUNCH_NEVER;
	if (facts->starting_for >= 0)
		return Max(LAUNCH_PATIENCE - facts->starting_for, 1);
	return Max(Max(wait, facts->pause_left), 0);
}

/*
 * Decide which workers to start: those that left longest ago, up to the limit
 * of workers.  Workers that stay do not count, since they would keep all others
 * out.
 *
 * decision->order must have room for n numbers.
 */
void
launch_decide(const ClaimFacts *facts, int n, int limit,
			  LaunchDecision *decision)
{
	int			ndue = 0;
	int			active = 0;

	decision->pause = LAUNCH_NEVER;
	decision->starting = false;
	for (int i = 0; i < n; i++)
	{
		int64		wait = launch_wait(&facts[i]);

		bool		starting = !facts[i].claimed &&
			facts[i].starting_for >= 0;

		if (starting || (facts[i].claimed && !facts[i].stays))
			active++;
		decision->starting = decision->starting || starting ||
			facts[i].connecting;
		if (wait == 0)
			decision->order[ndue++] = i;
		else
			decision->pause = Min(decision->pause, wait);
	}
	qsort_arg(decision->order, ndue, sizeof(int), launch_compare,
			  unconstify(ClaimFacts *, facts));
	decision->nstarts = Min(ndue, Max(limit - active, 0));
	decision->nwaiting = ndue - decision->nstarts;
}

/*
 * Databases take turns: the one whose last worker left longest ago comes first.
 * Then none waits for ever, whether it is due or only has a request or news,
 * and even if others are due all the time.
 */
static int
launch_compare(const void *a, const void *b, void *arg)
{
	const ClaimFacts *facts = arg;
	const ClaimFacts *one = &facts[*(const int *) a];
	const ClaimFacts *other = &facts[*(const int *) b];

	if (one->left_for != other->left_for)
		return one->left_for > other->left_for ? -1 : 1;
	if (one->due_in != other->due_in)
		return one->due_in < other->due_in ? -1 : 1;
	return one < other ? -1 : 1;
}
