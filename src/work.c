/*-------------------------------------------------------------------------
 *
 * cycle.c
 *	  A plan in, its results out.
 *
 * Refreshes what is due of a plan, and reports each view to the server log,
 * to the status and to the history.  Between two views there is no transaction
 * and no snapshot, the configuration is read if it changed, and the cycle ends
 * early if it is to: because the refresher was disabled, or because there is a
 * new list.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "cycle.h"
#include "history.h"
#include "log.h"
#include "settings.h"
#include "status.h"

/* What is in hand, for what is done before its commit */
typedef struct CycleView
{
	const Queue *queue;
	const QueueView *view;
	TimestampTz data_as_of;		/* once it is refreshed */
} CycleView;

static bool cycle_goes_on(const Queue *queue);
static void cycle_refresh(Queue *queue, LWLock *lock, int index);
static RefreshTarget cycle_target(const QueueView *view);
static void cycle_before_commit(const RefreshResult *result, void *arg);
static void cycle_finish_abandoned(Queue *queue, LWLock *lock, int index);
static void cycle_keep(const Queue *queue, const QueueView *view,
					   const RefreshResult *result, TimestampTz data_as_of,
					   int failures);
static void cycle_keep_failure(const Queue *queue, const QueueView *view,
							   const RefreshResult *result);
static void cycle_collect(const Queue *queue, QueueInput *views,
						  CycleResult *result);
static void cycle_report_start(const CycleResult *result);
static void cycle_report_view(const QueueView *view,
							  const RefreshResult *result);
static void cycle_report_failure(const QueueView *view,
								 const RefreshResult *result);
static void cycle_report_end(const CycleResult *result);

/*
 * Refresh what is due of a plan, in a cycle that started at "start".
 *
 * What is known of the views is brought up to date; the outcome of those that
 * did not have their turn is REFRESH_PENDING.  To be called outside of a
 * transaction.  Raises no ERROR for a view's sake.
 */
void
cycle_run(const RefreshPlan *plan, QueueInput *views, TimestampTz start,
		  CycleResult *result)
{
	Queue	   *queue = palloc_extended(queue_size(plan, views),
										MCXT_ALLOC_HUGE);
	instr_time	begin;
	instr_time	end;

	memset(result, 0, sizeof(CycleResult));
	queue_init(queue, plan, views, start, refresher_view_list_generation,
			   false);
	result->total = queue->nviews;
	cycle_report_start(result);
	status_begin_cycle(start, result->total);
	INSTR_TIME_SET_CURRENT(begin);

	cycle_work(queue, NULL, true);

	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, begin);
	result->duration = INSTR_TIME_GET_MICROSEC(end);
	cycle_collect(queue, views, result);
	cycle_report_end(result);
	status_end_cycle(result->duration);
	pfree(queue);
}

/*
 * Work on a cycle until there is nothing left of it to do.
 *
 * The leader also waits for what others have in hand, and reports what they
 * abandon.
 */
void
cycle_work(Queue *queue, LWLock *lock, bool leader)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "bigbrotr_refresher view",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	for (;;)
	{
		bool		alone;
		int			view;

		if (!cycle_goes_on(queue))
			queue_stop(queue, lock);
		if (leader && lock != NULL &&
			(view = queue_take_abandoned(queue, lock)) >= 0)
			cycle_finish_abandoned(queue, lock, view);
		else if ((view = queue_take(queue, lock, &alone)) >= 0)
			cycle_refresh(queue, lock, view);
		else if (queue_is_over(queue, lock, leader))
			break;
		else
			queue_wait(queue, lock, leader, compat_wait_event());
		MemoryContextReset(context);
	}

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/*
 * May the cycle go on to its next view?
 */
static bool
cycle_goes_on(const Queue *queue)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	return refresher_enabled &&
		refresher_view_list_generation == queue->generation;
}

/*
 * Refresh one view that was taken from the queue.
 */
static void
cycle_refresh(Queue *queue, LWLock *lock, int index)
{
	QueueView  *view = &queue->views[index];
	RefreshTarget target = cycle_target(view);
	RefreshRequest request = {0};
	RefreshResult result;
	CycleView	in_hand = {0};

	in_hand.queue = queue;
	in_hand.view = view;
	request.target = &target;
	request.activity = psprintf("refreshing %s (%d/%d)", view->qualified,
								view->number, queue->nviews);
	request.refresh_timeout = refresher_refresh_timeout;
	request.lock_timeout = refresher_lock_timeout;
	request.before_commit = cycle_before_commit;
	request.before_commit_arg = &in_hand;

	view->started_at = GetCurrentTimestamp();
	status_begin_view(view->label);
	refresh_view(&request, &result);
	cycle_report_view(view, &result);
	if (result.outcome == REFRESH_FAILED)
		cycle_keep_failure(queue, view, &result);
	status_end_view(result.outcome);
	if (result.outcome == REFRESH_FAILED)
		queue_finish(queue, lock, index, &result, view->data_as_of,
					 view->failures + 1);
	else
		queue_finish(queue, lock, index, &result, in_hand.data_as_of, 0);
}

/*
 * The target as it was planned; points into the queue.
 */
static RefreshTarget
cycle_target(const QueueView *view)
{
	RefreshTarget target = {0};

	target.schema = view->has_schema ? view->schema : NULL;
	target.name = view->name;
	target.relid = view->relid;
	target.funcid = view->funcid;
	return target;
}

/*
 * In the transaction of a refresh that has gone well so far.
 *
 * The data of a view is as old as the oldest that it was made of.
 */
static void
cycle_before_commit(const RefreshResult *result, void *arg)
{
	CycleView  *in_hand = arg;
	TimestampTz reads_as_of = in_hand->view->reads_as_of;

	in_hand->data_as_of = result->started_at;
	if (reads_as_of != 0)
		in_hand->data_as_of = Min(in_hand->data_as_of, reads_as_of);
	cycle_keep(in_hand->queue, in_hand->view, result, in_hand->data_as_of, 0);
	if (refresher_notify_channel[0])
		Async_Notify(refresher_notify_channel, in_hand->view->label);
}

/*
 * Report and finish a view whose process is gone.
 */
static void
cycle_finish_abandoned(Queue *queue, LWLock *lock, int index)
{
	QueueView  *view = &queue->views[index];
	RefreshResult result = {0};
	ErrorData	error = {0};

	error.sqlerrcode = ERRCODE_ADMIN_SHUTDOWN;
	error.message = "the process that refreshed the view ended";
	error.hint = "The server log says why.";
	result.outcome = REFRESH_FAILED;
	result.started_at = view->started_at;
	result.error = &error;
	cycle_report_view(view, &result);
	cycle_keep_failure(queue, view, &result);
	status_end_view(REFRESH_FAILED);
	queue_finish(queue, lock, index, &result, view->data_as_of,
				 view->failures + 1);
}

/*
 * Keep an attempt in the history, in the current transaction.
 */
static void
cycle_keep(const Queue *queue, const QueueView *view,
		   const RefreshResult *result, TimestampTz data_as_of, int failures)
{
	HistoryRow	row = {0};

	if (refresher_history_retention == 0)
		return;
	row.label = view->label;
	row.cycle_start = queue->start;
	row.schedule_start = view->schedule_start;
	row.data_as_of = data_as_of;
	row.failures = failures;
	history_write(&row, result);
}

/*
 * Keep a failure in the history, in a transaction of its own.  It must not
 * end the cycle, whatever happens.
 */
static void
cycle_keep_failure(const Queue *queue, const QueueView *view,
				   const RefreshResult *result)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		StartTransactionCommand();
		cycle_keep(queue, view, result, view->data_as_of, view->failures + 1);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}

/*
 * Bring what is known of the views up to date, and count the outcomes.
 */
static void
cycle_collect(const Queue *queue, QueueInput *views, CycleResult *result)
{
	for (int i = 0; i < queue->nviews; i++)
	{
		const QueueView *view = &queue->views[i];
		QueueInput *known = &views[view->planned];

		known->outcome = view->outcome;
		known->data_as_of = view->data_as_of;
		known->failures = view->failures;
		if (view->outcome == REFRESH_REFRESHED)
			known->duration = view->duration;
		result->refreshed += view->outcome == REFRESH_REFRESHED;
		result->failed += view->outcome == REFRESH_FAILED;
		result->skipped += view->outcome == REFRESH_SKIPPED;
	}
}

static void
cycle_report_start(const CycleResult *result)
{
	StringInfoData line;

	initStringInfo(&line);
	log_append_int(&line, "views", result->total);
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": cycle_started%s",
								  line.data)));
	pfree(line.data);
}

static void
cycle_report_view(const QueueView *view, const RefreshResult *result)
{
	StringInfoData line;

	if (result->outcome == REFRESH_FAILED)
	{
		cycle_report_failure(view, result);
		return;
	}
	initStringInfo(&line);
	log_append(&line, "view", view->label);
	log_append_seconds(&line, "duration", result->duration);
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": view_refreshed%s",
								  line.data)));
}

/*
 * A failure is reported in one line, with the original's code, detail, hint
 * and context.
 */
static void
cycle_report_failure(const QueueView *view, const RefreshResult *result)
{
	const ErrorData *error = result->error;
	StringInfoData line;

	initStringInfo(&line);
	log_append(&line, "view", view->label);
	log_append_seconds(&line, "duration", result->duration);
	log_append(&line, "sqlstate", unpack_sql_state(error->sqlerrcode));
	log_append(&line, "error", error->message ? error->message : "");
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg_internal(REFRESHER_NAME ": view_refresh_failed%s",
							 line.data),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0,
			 error->context ? errcontext("%s", error->context) : 0));
}

static void
cycle_report_end(const CycleResult *result)
{
	StringInfoData line;

	initStringInfo(&line);
	log_append_int(&line, "refreshed", result->refreshed);
	log_append_int(&line, "failed", result->failed);
	log_append_int(&line, "skipped", result->skipped);
	log_append_seconds(&line, "duration", result->duration);
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": cycle_completed%s",
								  line.data)));
	pfree(line.data);
}
