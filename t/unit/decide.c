/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  A table of facts and of what the worker is to decide by them.
 *
 * A program of its own, compiled by t/010_decide.pl together with
 * src/worker/decide.c.  Prints what Perl's test harness reads.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdio.h>

#include "utils/timestamp.h"

#include "src/worker/decide.h"

/* The server's own is in a library that this program does without. */
#undef printf

/* Seconds of some day; the interval of all cases is an hour */
#define AT(seconds)		(INT64CONST(800000000000000) + (seconds) * USECS_PER_SEC)
#define NEVER			DT_NOEND
#define HOUR			3600

typedef struct Case
{
	const char *name;
	DecideFacts facts;
	DecideAction action;
	TimestampTz when;			/* start of a cycle, or end of the rest */
}			Case;

/* enabled, outdated, requested, prune, clock, awaited, timed out, planned, next */
#define FACTS(e, o, r, p, clock, awaited, t, planned, next) \
	{true, e, true, false, false, o, r, p, clock, awaited, t, planned, next, HOUR}

/* served, enabled, stays, others wait; at ten seconds, the next at "next" */
#define LEAVING(s, e, stays, others, next) \
	{s, e, stays, others, false, 0, 0, 0, AT(10), NEVER, 0, AT(0), next, HOUR}

/* the same after a cycle: stays, others wait, requested */
#define AGAIN(stays, others, r, next) \
	{true, true, stays, others, true, 0, r, 0, AT(10), NEVER, 0, AT(0), next, HOUR}

static const Case cases[] = {
	{"nothing is due", FACTS(1, 0, 0, 0, AT(10), NEVER, 0, AT(0), AT(HOUR)),
	DECIDE_REST, AT(HOUR)},
	{"disabled: whatever is due", FACTS(0, 1, 1, 1, AT(10), NEVER, 0, AT(0), AT(0)),
	DECIDE_REST_DISABLED, NEVER},
	{"the plan comes before the cycle", FACTS(1, 1, 1, 1, AT(10), NEVER, 0, AT(0), AT(0)),
	DECIDE_PLAN, 0},
	{"the plan comes before the rest", FACTS(1, 1, 0, 1, AT(10), NEVER, 0, AT(0), AT(HOUR)),
	DECIDE_PLAN, 0},
	{"never refreshed: due at once", FACTS(1, 0, 0, 0, AT(10), NEVER, 0, AT(0), DT_NOBEGIN),
	DECIDE_CYCLE, AT(10)},
	{"overdue: counts from now", FACTS(1, 0, 0, 0, AT(10), NEVER, 0, AT(0), AT(1)),
	DECIDE_CYCLE, AT(10)},
	{"on time: counts from when it was due", FACTS(1, 0, 0, 0, AT(HOUR) + 5, AT(HOUR), 1, AT(0), AT(HOUR)),
	DECIDE_CYCLE, AT(HOUR)},
	{"woken on time by something else", FACTS(1, 0, 0, 0, AT(HOUR) + 5, AT(HOUR), 0, AT(0), AT(HOUR)),
	DECIDE_CYCLE, AT(HOUR)},
	{"late: counts from now", FACTS(1, 0, 0, 0, AT(HOUR + 2), AT(HOUR), 1, AT(0), AT(HOUR)),
	DECIDE_CYCLE, AT(HOUR + 2)},
	{"the clock is a little behind the sleep", FACTS(1, 0, 0, 0, AT(HOUR) - 5, AT(HOUR), 1, AT(0), AT(HOUR)),
	DECIDE_CYCLE, AT(HOUR)},
	{"the clock was set back during the sleep", FACTS(1, 0, 0, 0, AT(HOUR - 100), AT(HOUR), 1, AT(0), AT(HOUR)),
	DECIDE_CYCLE, AT(HOUR - 100)},
	{"woken before it is due", FACTS(1, 0, 0, 0, AT(HOUR) - 5, AT(HOUR), 0, AT(0), AT(HOUR)),
	DECIDE_REST, AT(HOUR)},
	{"requested, nothing due", FACTS(1, 0, 1, 0, AT(10), AT(HOUR), 0, AT(0), AT(HOUR)),
	DECIDE_CYCLE, AT(10)},
	{"requested, no views at all", FACTS(1, 0, 1, 0, AT(10), AT(HOUR), 0, AT(0), NEVER),
	DECIDE_CYCLE, AT(10)},
	{"prune while nothing is due", FACTS(1, 0, 0, 1, AT(10), NEVER, 0, AT(0), AT(HOUR)),
	DECIDE_PRUNE, 0},
	{"a cycle comes before pruning", FACTS(1, 0, 0, 1, AT(10), NEVER, 0, AT(0), AT(0)),
	DECIDE_CYCLE, AT(10)},
	{"a request comes before pruning", FACTS(1, 0, 1, 1, AT(10), NEVER, 0, AT(0), AT(HOUR)),
	DECIDE_CYCLE, AT(10)},
	{"no views: rest for an interval", FACTS(1, 0, 0, 0, AT(10), NEVER, 0, AT(0), NEVER),
	DECIDE_REST, AT(HOUR)},
	{"no views, woken often: the rest does not move", FACTS(1, 0, 0, 0, AT(HOUR - 1), AT(HOUR), 0, AT(0), NEVER),
	DECIDE_REST, AT(HOUR)},
	{"no views, an interval after the plan", FACTS(1, 0, 0, 0, AT(HOUR), NEVER, 0, AT(0), NEVER),
	DECIDE_PLAN, 0},
	{"no views, the sleep is over, the clock behind", FACTS(1, 0, 0, 0, AT(HOUR) - 5, AT(HOUR), 1, AT(0), NEVER),
	DECIDE_PLAN, 0},
	{"no views, the clock was set back", FACTS(1, 0, 0, 0, AT(-HOUR), NEVER, 0, AT(0), NEVER),
	DECIDE_PLAN, 0},
	{"no views: prune before the rest", FACTS(1, 0, 0, 1, AT(10), NEVER, 0, AT(0), NEVER),
	DECIDE_PRUNE, 0},
	{"nothing is due for a minute: leave", LEAVING(1, 1, 0, 0, AT(70)),
	DECIDE_LEAVE, AT(70)},
	{"due within a minute: rest", LEAVING(1, 1, 0, 0, AT(69)),
	DECIDE_REST, AT(69)},
	{"due within a minute, others wait: leave", LEAVING(1, 1, 0, 1, AT(69)),
	DECIDE_LEAVE, AT(69)},
	{"due now, others wait: work", LEAVING(1, 1, 0, 1, AT(10)),
	DECIDE_CYCLE, AT(10)},
	{"due again, others wait: leave", AGAIN(0, 1, 0, AT(9)),
	DECIDE_LEAVE, AT(9)},
	{"a new view, others wait: leave", AGAIN(0, 1, 0, DT_NOBEGIN),
	DECIDE_LEAVE, AT(10)},
	{"due again, but the clock was set back: work",
		{true, true, false, true, true, 0, 0, 0, AT(10), AT(20), 1, AT(0), AT(20), HOUR},
	DECIDE_CYCLE, AT(10)},
	{"due again, nobody waits: work", AGAIN(0, 0, 0, AT(9)),
	DECIDE_CYCLE, AT(10)},
	{"requested, others wait: work", AGAIN(0, 1, 1, AT(9)),
	DECIDE_CYCLE, AT(10)},
	{"due again, others wait, no history: work", AGAIN(1, 1, 0, AT(9)),
	DECIDE_CYCLE, AT(10)},
	{"others wait, no history: rest", LEAVING(1, 1, 1, 1, AT(HOUR)),
	DECIDE_REST, AT(HOUR)},
	{"disabled: leave", LEAVING(1, 0, 0, 0, AT(10)),
	DECIDE_LEAVE, NEVER},
	{"disabled, with news: hear them", {true, false, false, false, false, 1, 0, 0, AT(10), NEVER, 0, AT(0), AT(10), HOUR},
	DECIDE_PLAN, 0},
	{"disabled, no history: rest", LEAVING(1, 0, 1, 0, AT(10)),
	DECIDE_REST_DISABLED, NEVER},
	{"not served: leave, whatever is due", LEAVING(0, 1, 1, 0, AT(10)),
	DECIDE_LEAVE, NEVER},
	{"no views: leave for an interval", LEAVING(1, 1, 0, 0, NEVER),
	DECIDE_LEAVE, AT(HOUR)},
};

int
main(void)
{
	printf("1..%d\n", (int) lengthof(cases));
	for (int i = 0; i < (int) lengthof(cases); i++)
	{
		const		Case *test = &cases[i];
		Decision	decision = decide(&test->facts);
		bool		good = decision.action == test->action;

		if (decision.action == DECIDE_CYCLE)
			good = good && decision.start == test->when;
		else if (decision.action == DECIDE_REST ||
				 decision.action == DECIDE_LEAVE ||
				 decision.action == DECIDE_REST_DISABLED)
			good = good && decision.until == test->when;
		printf("%sok %d - %s\n", good ? "" : "not ", i + 1, test->name);
		if (!good)
			printf("# action %d, start " INT64_FORMAT ", until " INT64_FORMAT "\n",
				   decision.action, decision.start, decision.until);
	}
	return 0;
}
