/*-------------------------------------------------------------------------
 *
 * work.c
 *	  What one process does of a cycle: view after view, until none is left.
 *
 * Takes views from the queue, refreshes them, and reports each to the server
 * log, to the status and to the history.  Between two views there is no
 * transaction and no snapshot, the configuration is read if it changed, and
 * the cycle ends early if it is to: because the refresher was disabled, or
 * because there is a new list.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "work.h"
#include "history.h"
#include "log.h"
#include "settings.h"
#include "status.h"

/* What is in hand, for what is done before its commit */
typedef struct WorkView
{
	const Queue *queue;
	const QueueView *view;
	TimestampTz data_as_of;		/* once it is refreshed */
} WorkView;

/* For a helper that ends: what it worked on, and the view in hand or -1 */
static Queue *work_shared_queue;
static LWLock *work_shared_lock;
static int	work_in_hand = -1;

static void work_leave(int code, Datum arg);
static bool work_goes_on(uint64 generation);
static void work_refresh(Queue *queue, LWLock *lock, int index, int active);
static int	work_parallel_workers(int active);
static RefreshTarget work_target(const QueueView *view);
static void work_before_commit(const RefreshResult *result, void *arg);
static void work_finish_abandoned(Queue *queue, LWLock *lock, int index);
static void work_keep(const Queue *queue, const QueueView *view,
					  const RefreshResult *result, TimestampTz data_as_of,
					  int failures);
static void work_keep_failure(const Queue *queue, const QueueView *view,
							  const RefreshResult *result);
static void work_report_view(const QueueView *view,
							 const RefreshResult *result);
static void work_report_failure(const QueueView *view,
								const RefreshResult *result);

/*
 * Be a helper: if the process ends with a view in hand, have the leader know.
 */
void
work_join(Queue *queue, LWLock *lock)
{
	work_shared_queue = queue;
	work_shared_lock = lock;
	before_shmem_exit(work_leave, (Datum) 0);
}

static void
work_leave(int code, Datum arg)
{
	if (work_in_hand >= 0)
		queue_abandon(work_shared_queue, work_shared_lock, work_in_hand);
}

/*
 * Work on a cycle until there is nothing left of it to do.  To be called
 * outside of a transaction.  Raises no ERROR for a view's sake.
 *
 * The leader also waits for what others have in hand, and reports what they
 * abandon.
 */
void
work_on(Queue *queue, LWLock *lock, bool leader)
{
	uint64		generation = refresher_view_list_generation;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "bigbrotr_refresher view",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	for (;;)
	{
		int			active;
		int			view;

		if (!work_goes_on(generation))
			queue_stop(queue, lock);
		if (leader && lock != NULL &&
			(view = queue_take_abandoned(queue, lock)) >= 0)
			work_finish_abandoned(queue, lock, view);
		else if ((view = queue_take(queue, lock, &active)) >= 0)
			work_refresh(queue, lock, view, active);
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
work_goes_on(uint64 generation)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	return refresher_enabled &&
		refresher_view_list_generation == generation;
}

/*
 * Refresh one view that was taken from the queue.
 */
static void
work_refresh(Queue *queue, LWLock *lock, int index, int active)
{
	QueueView  *view = &queue->views[index];
	RefreshTarget target = work_target(view);
	RefreshRequest request = {0};
	RefreshResult result;
	WorkView	in_hand = {0};

	in_hand.queue = queue;
	in_hand.view = view;
	request.target = &target;
	request.activity = psprintf("refreshing %s (%d/%d)", view->qualified,
								view->number, queue->nviews);
	request.refresh_timeout = refresher_refresh_timeout;
	request.lock_timeout = refresher_lock_timeout;
	request.parallel_workers = work_parallel_workers(active);
	request.before_commit = work_before_commit;
	request.before_commit_arg = &in_hand;

	work_in_hand = index;
	view->started_at = GetCurrentTimestamp();
	status_begin_view(view->label);
	refresh_view(&request, &result);
	work_report_view(view, &result);
	if (result.outcome == REFRESH_FAILED)
		work_keep_failure(queue, view, &result);
	status_end_view(result.outcome);
	if (result.outcome == REFRESH_FAILED)
		queue_finish(queue, lock, index, &result, view->data_as_of,
					 view->failures + 1);
	else
		queue_finish(queue, lock, index, &result, in_hand.data_as_of, 0);
	work_in_hand = -1;
}

/*
 * How many parallel workers each part of a query may have, while so many views
 * could be refreshed at the same time; -1: as many as it has anyway.
 *
 * Parallel workers of one refresh and other refreshes would fight for the same
 * cores, and a parallel query needs more processor time in all.
 */
static int
work_parallel_workers(int active)
{
	long		cores = sysconf(_SC_NPROCESSORS_ONLN);

	active = Min(active, refresher_max_workers);
	if (active <= 1 || cores <= 0)
		return -1;
	return Max(cores - active, 0) / active;
}

/*
 * The target as it was planned; points into the queue.
 */
static RefreshTarget
work_target(const QueueView *view)
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
work_before_commit(const RefreshResult *result, void *arg)
{
	WorkView   *in_hand = arg;
	TimestampTz reads_as_of = in_hand->view->reads_as_of;

	in_hand->data_as_of = result->started_at;
	if (reads_as_of != 0)
		in_hand->data_as_of = Min(in_hand->data_as_of, reads_as_of);
	work_keep(in_hand->queue, in_hand->view, result, in_hand->data_as_of, 0);
	if (refresher_notify_channel[0])
		Async_Notify(refresher_notify_channel, in_hand->view->label);
}

/*
 * Report and finish a view whose process is gone.
 */
static void
work_finish_abandoned(Queue *queue, LWLock *lock, int index)
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
	work_report_view(view, &result);
	work_keep_failure(queue, view, &result);
	status_end_view(REFRESH_FAILED);
	queue_finish(queue, lock, index, &result, view->data_as_of,
				 view->failures + 1);
}

/*
 * Keep an attempt in the history, in the current transaction.
 */
static void
work_keep(const Queue *queue, const QueueView *view,
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
work_keep_failure(const Queue *queue, const QueueView *view,
				  const RefreshResult *result)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		StartTransactionCommand();
		work_keep(queue, view, result, view->data_as_of, view->failures + 1);
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

static void
work_report_view(const QueueView *view, const RefreshResult *result)
{
	StringInfoData line;

	if (result->outcome == REFRESH_FAILED)
	{
		work_report_failure(view, result);
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
work_report_failure(const QueueView *view, const RefreshResult *result)
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
