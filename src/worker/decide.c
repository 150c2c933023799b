/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  What the worker does next: a pure function of facts and time.
 *
 * The worker gathers facts, decides and acts, in a loop.  The decision is
 * separate so that a table of cases can test it (t/unit).  Hence nothing here
 * reads the clock, shared memory or a parameter.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "src/worker/decide.h"

/*
 * A cycle that starts later than this after it was due is late: the schedule
 * then continues from its actual start.
 */
#define DECIDE_MAX_LATENESS USECS_PER_SEC

/*
 * A worker leaves if nothing is due for this long.  A start costs only some
 * milliseconds, while a worker that stays connected is in the way of others.
 */
#define DECIDE_SOON (60 * USECS_PER_SEC)

static Decision decide_work(const DecideFacts *facts);
static bool decide_leaves(const DecideFacts *facts, const Decision *decision);
static TimestampTz decide_start(const DecideFacts *facts);

/*
 * Return the current time for the decision.  A sleep is measured by the
 * monotonic clock: if it timed out, the awaited time has come even if the wall
 * clock is behind.
 */
TimestampTz
decide_now(const DecideFacts *facts)
{
	return facts->timed_out ? Max(facts->clock, facts->awaited) :
		facts->clock;
}

/*
 * Work comes first.  Without any, or if others wait, the worker leaves if it
 * can.
 */
Decision
decide(const DecideFacts *facts)
{
	Decision	decision = {DECIDE_LEAVE, DT_NOEND, 0};

	if (!facts->served)
		return decision;
	if (!facts->enabled)
	{
		if (facts->stays)
			decision.action = DECIDE_REST_DISABLED;
		else if (facts->plan_outdated)
			decision.action = DECIDE_PLAN;	/* process all news before leaving */
		return decision;
	}
	decision = decide_work(facts);
	if (!facts->stays && decide_leaves(facts, &decision))
	{
		decision.action = DECIDE_LEAVE;
		if (decision.until == DT_NOBEGIN)
			decision.until = decide_now(facts);
	}
	return decision;
}

/*
 * Requests and views that are due come first, then pruning, then rest.
 */
static Decision
decide_work(const DecideFacts *facts)
{
	TimestampTz now = decide_now(facts);
	Decision	decision = {DECIDE_REST, facts->next_due, 0};
	bool		due = facts->next_due <= now;

	/*
	 * If the plan is empty, plan again once per interval, however often
	 * something else wakes us up.  A plan that was made in the future shows
	 * that the clock was set back.
	 */
	if (facts->next_due == DT_NOEND)
	{
		decision.until = facts->planned_at +
			facts->interval * USECS_PER_SEC;
		due = false;
		if (decision.until <= now || facts->planned_at > now)
			decision.action = DECIDE_PLAN;
	}

	if (facts->plan_outdated)
		decision.action = DECIDE_PLAN;
	else if (facts->run_requested || due)
	{
		decision.action = DECIDE_CYCLE;
		decision.start = decide_start(facts);
	}
	else if (facts->prune_pending && decision.action == DECIDE_REST)
		decision.action = DECIDE_PRUNE;
	return decision;
}

/*
 * Does the worker leave instead?  A worker that always has something due would
 * never rest, so it makes way for others after a cycle, and has its turn again
 * after them.  A request is served first, and so is what is due by the length
 * of the sleep alone, since the next worker would not know that.
 */
static bool
decide_leaves(const DecideFacts *facts, const Decision *decision)
{
	if (decision->action == DECIDE_CYCLE)
		return facts->others_wait && facts->had_turn &&
			!facts->run_requested && facts->next_due <= facts->clock;
	return decision->action == DECIDE_REST &&
		(facts->others_wait ||
		 decision->until - decide_now(facts) >= DECIDE_SOON);
}

/*
 * Return the start that the schedule counts from, for a cycle that starts
 * now.  If the cycle is on time, this is when it was due, so that the schedule
 * does not drift.  If it is late or the clock was set back, it is the current
 * time.
 */
static TimestampTz
decide_start(const DecideFacts *facts)
{
	TimestampTz due = facts->next_due;

	if (due == facts->awaited && due <= decide_now(facts) &&
		facts->clock - due < DECIDE_MAX_LATENESS &&
		due - facts->clock < DECIDE_MAX_LATENESS)
		return due;
	return facts->clock;
}
