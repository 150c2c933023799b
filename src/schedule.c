/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  Which views are due when.
 *
 * A view that took part in a cycle is next due at that cycle's start plus its
 * interval, wherever in the cycle its turn came, so that views of different
 * intervals stay aligned.  What was never in a cycle is due at once.  Nothing
 * here looks at the clock: the caller says what time it is.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "schedule.h"
#include "settings.h"

/* Room for a label: two names of which every byte may be a doubled quote */
#define SCHEDULE_LABEL_SIZE (4 * NAMEDATALEN)

/* A view that the plan names */
typedef struct ScheduleEntry
{
	char		label[SCHEDULE_LABEL_SIZE]; /* the key; must be first */
	TimestampTz last_start;		/* of the last cycle with it; 0: none */
	uint32		note;			/* hash of what was last said of it, or 0 */
	bool		planned;		/* it is in the plan that is followed */
} ScheduleEntry;

struct Schedule
{
	HTAB	   *entries;
};

static ScheduleEntry *schedule_entry(Schedule *schedule, const PlanItem *item,
									 bool *found);
static TimestampTz schedule_due(ScheduleEntry *entry, const PlanItem *item,
								TimestampTz now);
static void schedule_say_note(ScheduleEntry *entry, const PlanItem *item);

/*
 * Make an empty schedule, in a memory context of its own below the current.
 */
Schedule *
schedule_create(void)
{
	Schedule   *schedule = palloc(sizeof(Schedule));
	HASHCTL		control;

	control.keysize = SCHEDULE_LABEL_SIZE;
	control.entrysize = sizeof(ScheduleEntry);
	control.hcxt = CurrentMemoryContext;
	schedule->entries = hash_create("bigbrotr_refresher schedule", 64,
									&control,
									HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	return schedule;
}

/*
 * Follow a new plan: forget what it does not name, and log what is to be said
 * of an item unless it was said already.
 */
void
schedule_follow(Schedule *schedule, const RefreshPlan *plan)
{
	HASH_SEQ_STATUS scan;
	ScheduleEntry *entry;

	hash_seq_init(&scan, schedule->entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->planned = false;

	for (int i = 0; i < plan->nitems; i++)
	{
		bool		found;

		entry = schedule_entry(schedule, &plan->items[i], &found);
		if (!found)
		{
			entry->last_start = 0;
			entry->note = 0;
		}
		entry->planned = true;
		schedule_say_note(entry, &plan->items[i]);
	}

	hash_seq_init(&scan, schedule->entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!entry->planned)
			hash_search(schedule->entries, entry->label, HASH_REMOVE, NULL);
	}
}

/*
 * When the next view is due: never later than the longest interval from now;
 * DT_NOEND if the plan is empty.
 */
TimestampTz
schedule_next(Schedule *schedule, const RefreshPlan *plan, TimestampTz now)
{
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < plan->nitems; i++)
	{
		PlanItem   *item = &plan->items[i];
		ScheduleEntry *entry = schedule_entry(schedule, item, NULL);

		next = Min(next, schedule_due(entry, item, now));
	}
	return next;
}

/*
 * Mark what is due.  Returns how many that are.
 */
int
schedule_take_due(Schedule *schedule, const RefreshPlan *plan, TimestampTz now,
				  bool *due)
{
	int			ndue = 0;

	for (int i = 0; i < plan->nitems; i++)
	{
		PlanItem   *item = &plan->items[i];
		ScheduleEntry *entry = schedule_entry(schedule, item, NULL);

		due[i] = schedule_due(entry, item, now) <= now;
		ndue += due[i] ? 1 : 0;
	}
	return ndue;
}

/*
 * Remember a cycle that started at "start".  Views whose turn did not come
 * stay due.
 */
void
schedule_record(Schedule *schedule, const RefreshPlan *plan, TimestampTz start,
				const CycleResult *result)
{
	for (int i = 0; i < plan->nitems; i++)
	{
		if (result->outcomes[i] != REFRESH_PENDING)
			schedule_entry(schedule, &plan->items[i], NULL)->last_start = start;
	}
}

/*
 * The entry of an item; made if "found" is given, else it must be there.
 */
static ScheduleEntry *
schedule_entry(Schedule *schedule, const PlanItem *item, bool *found)
{
	ScheduleEntry *entry = hash_search(schedule->entries, item->label,
									   found ? HASH_ENTER : HASH_FIND, found);

	if (entry == NULL)
		elog(ERROR, "view \"%s\" is not scheduled", item->label);
	return entry;
}

/*
 * When a view is due.
 *
 * If its last cycle lies in the future, the clock was set back; then it is as
 * if that cycle had started now, so that nobody waits for longer than one
 * interval.
 */
static TimestampTz
schedule_due(ScheduleEntry *entry, const PlanItem *item, TimestampTz now)
{
	int			interval = item->interval ? item->interval : refresher_interval;

	if (entry->last_start == 0)
		return DT_NOBEGIN;
	if (entry->last_start > now)
		entry->last_start = now;
	return entry->last_start + interval * USECS_PER_SEC;
}

static void
schedule_say_note(ScheduleEntry *entry, const PlanItem *item)
{
	uint32		note = 0;

	if (item->note != NULL)
		note = hash_bytes((const unsigned char *) item->note,
						  strlen(item->note));
	if (note != 0 && note != entry->note)
		ereport(LOG, (errmsg_internal("%s", item->note)));
	entry->note = note;
}
