/*-------------------------------------------------------------------------
 *
 * launch.c
 *	  A table of databases and of what the launcher is to do for them.
 *
 * A program of its own, compiled by t/010_decide.pl together with
 * src/worker/launch.c.  Prints what Perl's test harness reads.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdio.h>
#include <stdlib.h>

#include "utils/timestamp.h"

#include "src/worker/launch.h"

/* The server's own is in a library that this program does without. */
#undef printf

#define MAX_DATABASES	5
#define NEVER			LAUNCH_NEVER
#define SECONDS(n)		((n) * USECS_PER_SEC)

/* connectable, claimed, stays, wanted, starting for, due in, pause left */
#define DB(connect, claimed, stays, wanted, starting, due, pause) \
	{0, 1, "", connect, claimed, stays, wanted, starting, NEVER, due, pause, false}
#define DUE(in)			DB(1, 0, 0, 0, -1, in, 0)
#define LEFT(ago, wanted, due) \
	{0, 1, "", 1, 0, 0, wanted, -1, ago, due, 0, false}
#define BUSY			DB(1, 1, 0, 0, -1, 0, 0)
#define STAYS			DB(1, 1, 1, 0, -1, 0, 0)

typedef struct Case
{
	const char *name;
	int			n;
	ClaimFacts	facts[MAX_DATABASES];
	const char *starts;			/* which start, in order, of a limit of 2 */
	int			nwaiting;
	int64		pause;
}			Case;

static const Case cases[] = {
	{"none at all", 0, {{0}}, "", 0, NEVER},
	{"nothing is due", 2, {DUE(SECONDS(5)), DUE(SECONDS(3))}, "", 0, SECONDS(3)},
	{"never due", 1, {DUE(NEVER)}, "", 0, NEVER},
	{"due", 1, {DUE(-1)}, "0", 0, NEVER},
	{"the longest due first", 3, {DUE(-1), DUE(SECONDS(9)), DUE(-3)}, "20", 0, SECONDS(9)},
	{"more than there may be", 4, {DUE(-1), DUE(-2), DUE(-4), DUE(-3)}, "23", 2, NEVER},
	{"those at work count", 3, {BUSY, DUE(-1), DUE(-2)}, "2", 1, NEVER},
	{"those that stay do not", 4, {STAYS, STAYS, DUE(-1), DUE(-2)}, "32", 0, NEVER},
	{"those that start count", 3, {DB(1, 0, 0, 0, SECONDS(1), -1, 0), DUE(-1), DUE(-2)},
	"2", 1, LAUNCH_PATIENCE - SECONDS(1)},
	{"one at work is not started again", 1, {BUSY}, "", 0, NEVER},
	{"wanted, not due", 1, {DB(1, 0, 0, 1, -1, NEVER, 0)}, "0", 0, NEVER},
	{"wanted, at work", 1, {DB(1, 1, 0, 1, -1, NEVER, 0)}, "", 0, NEVER},
	{"wanted comes after due", 2, {DB(1, 0, 0, 1, -1, SECONDS(9), 0), DUE(-1)}, "10", 0, NEVER},
	{"... unless that had its turn later", 2,
	{LEFT(1, 0, -9), LEFT(2, 1, NEVER)}, "10", 0, NEVER},
	{"what had no turn yet comes first", 3,
	{LEFT(1, 0, -9), LEFT(2, 0, -5), DUE(-1)}, "21", 1, NEVER},
	{"a pause after a failure", 1, {DB(1, 0, 0, 0, -1, -1, SECONDS(4))}, "", 0, SECONDS(4)},
	{"... also if it is wanted", 1, {DB(1, 0, 0, 1, -1, -1, SECONDS(4))}, "", 0, SECONDS(4)},
	{"the pause is over", 1, {DB(1, 0, 0, 0, -1, -1, -5)}, "0", 0, NEVER},
	{"no connections", 2, {DB(0, 0, 0, 1, -1, -1, 0), DUE(-1)}, "1", 0, NEVER},
};

int
main(void)
{
	printf("1..%d\n", (int) lengthof(cases));
	for (int i = 0; i < (int) lengthof(cases); i++)
	{
		const		Case *test = &cases[i];
		int			order[MAX_DATABASES];
		char		starts[MAX_DATABASES + 1] = "";
		LaunchDecision decision = {.order = order};
		bool		good;

		launch_decide(test->facts, test->n, 2, &decision);
		for (int j = 0; j < decision.nstarts; j++)
			starts[j] = '0' + decision.order[j];
		good = strcmp(starts, test->starts) == 0 &&
			decision.nwaiting == test->nwaiting &&
			decision.pause == test->pause;
		printf("%sok %d - %s\n", good ? "" : "not ", i + 1, test->name);
		if (!good)
			printf("# starts \"%s\", %d wait, pause " INT64_FORMAT "\n",
				   starts, decision.nwaiting, decision.pause);
	}
	return 0;
}

/* The server's own is in a library that this program does without. */
void
qsort_arg(void *base, size_t n, size_t size, qsort_arg_comparator compare,
		  void *arg)
{
	qsort_r(base, n, size, compare, arg);
}
