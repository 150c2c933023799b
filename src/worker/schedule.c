/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  Which views are due when.
 *
 * A view that took part in a cycle is next due at the start of that cycle plus
 * its interval, no matter how late in the cycle its turn came, so that views
 * with different intervals stay aligned.  A view that was never in a cycle is
 * due at once.  If an interval counts from a time of the day, the view is due
 * at the next time of that series (clock.c) after the start of the cycle.
 *
 * A view that failed is due again earlier, after the retry interval, which
 * doubles with each failure in a row.  Such a retry includes the views that
 * read the failed one, and does not change the schedule of any of them.
 * Otherwise each failure would split one cycle into two for good.
 *
 * Nothing here reads the clock; the caller passes the time.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "src/worker/clock.h"
#include "src/worker/schedule.h"
#include "src/common/settings.h"

/* A view of the plan */
typedef struct ScheduleEntry
{
	char		label[TARGET_LABEL_SIZE];	/* the key; must be first */
	ViewState	known;
	uint32		notes[PLAN_NNOTES]; /* hashes of the last messages about it */
	bool		planned;		/* it is in the current plan */
} ScheduleEntry;

struct Schedule
{
	HTAB	   *entries;
	const uint32 *said;			/* hashes of the last worker's messages */
	int			nsaid;
	uint32		misfit;			/* hash of the interval that start_time was
								 * last reported not to fit; 0: none */
};

static ScheduleEntry *schedule_entry(Schedule *schedule, const PlanItem *item);
static void schedule_say_misfit(Schedule *schedule);
static void schedule_say_notes(const Schedule *schedule, ScheduleEntry *entry,
							   const PlanItem *item);
static bool schedule_was_said(const Schedule *schedule, uint32 note);
static TimestampTz schedule_regular(const ViewState *known,
									const PlanItem *item, const pg_tz *zone);
static void schedule_forget_future(ViewState *known, int interval,
								   TimestampTz now);

/*
 * Make an empty schedule in the current memory context.  "said" are hashes of
 * the messages that the last worker logged about views; it must live as long
 * as the schedule.
 */
Schedule *
schedule_create(const uint32 *said, int nsaid)
{
	Schedule   *schedule = palloc0(sizeof(Schedule));
	HASHCTL		control;

	schedule->said = said;
	schedule->nsaid = nsaid;
	control.keysize = TARGET_LABEL_SIZE;
	control.entrysize = sizeof(ScheduleEntry);
	control.hcxt = CurrentMemoryContext;
	schedule->entries = hash_create("bigbrotr_refresher schedule", 64,
									&control,
									HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	return schedule;
}

/*
 * Switch to a new plan: read the history of new views (of all views, with
 * "reread"), forget views that are no longer planned, and log the notes of
 * each item unless they were logged before.  Needs a transaction.
 *
 * A state that we reread but do not find is written: the extension was created
 * after the view had been refreshed.
 */
void
schedule_follow(Schedule *schedule, const RefreshPlan *plan, bool reread,
				TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	ScheduleEntry *entry;
	ViewState	known;

	hash_seq_init(&scan, schedule->entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->planned = false;

	for (int i = 0; i < plan->nitems; i++)
	{
		bool		found;

		CHECK_FOR_INTERRUPTS();
		entry = hash_search(schedule->entries, plan->items[i].label,
							HASH_ENTER, &found);
		if (!found)
		{
			memset(entry->notes, 0, sizeof(entry->notes));
			memset(&entry->known, 0, sizeof(ViewState));
		}
		if (!found || reread)
		{
			if (schedule_read(&plan->items[i], now, &known))
				entry->known = known;
			else if (entry->known.cycle_start != 0)
				history_write_state(entry->label, &entry->known);
		}
		entry->planned = true;
		schedule_say_notes(schedule, entry, &plan->items[i]);
	}

	hash_seq_init(&scan, schedule->entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!entry->planned)
			hash_search(schedule->entries, entry->label, HASH_REMOVE, NULL);
	}
}

/*
 * Return when the next view is due: never later than the longest interval from
 * now; DT_NOEND if the plan is empty.  If start_time cannot be followed, logs
 * that once.
 */
TimestampTz
schedule_next(Schedule *schedule, const RefreshPlan *plan, TimestampTz now)
{
	TimestampTz next = DT_NOEND;

	schedule_say_misfit(schedule);
	for (int i = 0; i < plan->nitems; i++)
	{
		PlanItem   *item = &plan->items[i];
		ScheduleEntry *entry = schedule_entry(schedule, item);

		schedule_forget_future(&entry->known, schedule_interval(item), now);
		next = Min(next, schedule_due(&entry->known, item, session_timezone));
	}
	return next;
}

/*
 * Choose the views of a cycle that starts at "start" (which may be a little
 * before now): all of them, or those that are due now.  Fills in items[], with
 * the state of all views.  Returns how many are due.
 *
 * A retry includes all views that read the failed one, directly or through
 * other views of the plan, even if they are not due themselves.
 */
int
schedule_take_due(Schedule *schedule, const RefreshPlan *plan,
				  TimestampTz start, TimestampTz now, bool all,
				  QueueItem *items)
{
	bool	   *retried = palloc0(plan->nitems * sizeof(bool) + 1);
	int			ndue = 0;

	for (int i = 0; i < plan->nitems; i++)
	{
		const PlanItem *planned = &plan->items[i];
		ViewState  *known = &schedule_entry(schedule, planned)->known;
		bool		regular;

		schedule_forget_future(known, schedule_interval(planned), now);
		regular = all ||
			schedule_regular(known, planned, session_timezone) <= now;
		retried[i] = !regular &&
			schedule_due(known, planned, session_timezone) <= now;
		for (int j = 0; j < planned->ndepends; j++)
			retried[i] = retried[i] || retried[planned->depends[j]];

		items[i].due = regular || retried[i];
		items[i].outcome = REFRESH_PENDING;
		items[i].known = *known;
		items[i].known.cycle_start = start;
		if (regular)
			items[i].known.schedule_start = start;
		ndue += items[i].due ? 1 : 0;
	}
	pfree(retried);
	return ndue;
}

/*
 * Remember the results of a cycle.  Views whose turn did not come stay due.
 */
void
schedule_record(Schedule *schedule, const RefreshPlan *plan,
				const QueueItem *items)
{
	for (int i = 0; i < plan->nitems; i++)
	{
		ScheduleEntry *entry = schedule_entry(schedule, &plan->items[i]);

		if (items[i].outcome != REFRESH_PENDING)
			entry->known = items[i].known;
	}
}

/*
 * Return the number of messages logged about planned views, and a palloc'd
 * array of their hashes in *said.
 */
int
schedule_said(Schedule *schedule, uint32 **said)
{
	HASH_SEQ_STATUS scan;
	ScheduleEntry *entry;
	int			n = 0;

	*said = palloc_extended(hash_get_num_entries(schedule->entries) *
							PLAN_NNOTES * sizeof(uint32) + sizeof(uint32),
							MCXT_ALLOC_HUGE);
	if (schedule->misfit != 0)
		(*said)[n++] = schedule->misfit;
	hash_seq_init(&scan, schedule->entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		for (int i = 0; i < PLAN_NNOTES; i++)
		{
			if (entry->notes[i] != 0)
				(*said)[n++] = entry->notes[i];
		}
	}
	return n;
}

/*
 * Read the state of a view from the history, correcting times in the future.
 * Returns false if there is none.  Needs a transaction.
 */
bool
schedule_read(const PlanItem *item, TimestampTz now, ViewState *known)
{
	if (!history_read_last(item->label, known))
		return false;
	schedule_forget_future(known, schedule_interval(item), now);
	return true;
}

/*
 * Return when a view in this state is due; DT_NOBEGIN if it was never in a
 * cycle.  "zone" is the time zone of start_time.
 */
TimestampTz
schedule_due(const ViewState *known, const PlanItem *item, const pg_tz *zone)
{
	TimestampTz due = schedule_regular(known, item, zone);
	int			interval = schedule_interval(item);
	int64		retry = item->retry_interval >= 0 ? item->retry_interval :
		refresher_retry_interval;

	if (known->schedule_start == 0 || known->failures == 0 || retry == 0)
		return due;
	for (int i = 1; i < known->failures && retry < interval; i++)
		retry *= 2;
	return Min(due, known->cycle_start + retry * USECS_PER_SEC);
}

/*
 * The same, without retries after a failure.
 */
static TimestampTz
schedule_regular(const ViewState *known, const PlanItem *item,
				 const pg_tz *zone)
{
	int			interval = schedule_interval(item);
	int			start_time = schedule_start_time(item);

	if (known->schedule_start == 0)
		return DT_NOBEGIN;
	if (start_time < 0)
		return known->schedule_start + interval * USECS_PER_SEC;
	return clock_next(known->schedule_start, interval, start_time, zone);
}

/*
 * Return the interval of a view, in seconds.
 */
int
schedule_interval(const PlanItem *item)
{
	return item->interval != 0 ? item->interval : refresher_interval;
}

/*
 * Return the second of the day that the interval of a view counts from, or -1.
 *
 * The parser of the list checks that such an interval fits.  The parameters
 * "interval" and "start_time" are set one by one, so start_time is ignored
 * while they do not fit.
 */
int
schedule_start_time(const PlanItem *item)
{
	if (item->interval != 0)
		return item->start_time;
	return view_list_interval_fits(refresher_interval) ?
		refresher_start_time : -1;
}

static ScheduleEntry *
schedule_entry(Schedule *schedule, const PlanItem *item)
{
	ScheduleEntry *entry = hash_search(schedule->entries, item->label,
									   HASH_FIND, NULL);

	if (entry == NULL)
		elog(ERROR, "view \"%s\" is not scheduled", item->label);
	return entry;
}

/*
 * A cycle in the future shows that the clock was set back.  We treat it as if
 * it had started now, so that no view waits for longer than one interval.
 *
 * If it is in the future by more than the interval, we ignore it: the view is
 * due at once, which corrects the history.  Otherwise the wait would start
 * over each time that the history is read, until the clock catches up.
 */
static void
schedule_forget_future(ViewState *known, int interval, TimestampTz now)
{
	if (known->schedule_start > now + interval * USECS_PER_SEC)
		known->schedule_start = 0;
	else
		known->schedule_start = Min(known->schedule_start, now);
	known->cycle_start = Min(known->cycle_start, now);
}

/*
 * Warn once if start_time cannot be followed.
 */
static void
schedule_say_misfit(Schedule *schedule)
{
	uint32		misfit = 0;

	if (refresher_start_time >= 0 &&
		!view_list_interval_fits(refresher_interval))
		misfit = hash_bytes_uint32(refresher_interval) | 1;
	if (misfit != 0 && misfit != schedule->misfit &&
		!schedule_was_said(schedule, misfit))
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg_internal(REFRESHER_NAME ": start_time_ignored interval=%d",
								 refresher_interval),
				 errdetail("An interval that counts from a time of the day must divide a day, or be whole days."),
				 errhint("Change \"" REFRESHER_NAME ".interval\", or reset \"" REFRESHER_NAME ".start_time\".")));
	schedule->misfit = misfit;
}

static void
schedule_say_notes(const Schedule *schedule, ScheduleEntry *entry,
				   const PlanItem *item)
{
	for (int i = 0; i < PLAN_NNOTES; i++)
	{
		const char *line = item->notes[i];
		uint32		note = 0;

		if (line != NULL)
			note = hash_bytes((const unsigned char *) line, strlen(line));
		if (note != 0 && note != entry->notes[i] &&
			!schedule_was_said(schedule, note))
			ereport(LOG, (errmsg_internal("%s", line)));
		entry->notes[i] = note;
	}
}

/*
 * Did the last worker log this?  There are few such notes.
 */
static bool
schedule_was_said(const Schedule *schedule, uint32 note)
{
	for (int i = 0; i < schedule->nsaid; i++)
	{
		if (schedule->said[i] == note)
			return true;
	}
	return false;
}
