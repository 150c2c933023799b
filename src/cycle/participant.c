/*-------------------------------------------------------------------------
 *
 * participant.c
 *	  One process's part of a cycle: view after view, until none is left.
 *
 * It takes views from the queue, refreshes them, and reports each to the
 * server log, the status and the history.  Between two views there is no
 * transaction and no snapshot.  There we reload the configuration if
 * requested, and end the cycle early if the refresher was disabled, the list
 * has changed, or the database is no longer to be served.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "commands/sequence.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "src/refresh/change.h"
#include "src/common/attempt.h"
#include "src/common/compat.h"
#include "src/common/elapsed.h"
#include "src/record/history.h"
#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/record/claim.h"
#include "src/record/notify.h"
#include "src/record/status.h"
#include "src/cycle/participant.h"

/* The view that this process refreshes */
typedef struct CurrentView
{
	Queue	   *queue;
	const QueueView *view;
	ViewState	known;			/* its state after the attempt */
	ViewSettings own;			/* the settings that apply to it */
	ViewState	before;			/* its state if the attempt fails */
	RefreshResult *result;
} CurrentView;

/*
 * Read by the exit callback: the queue that this helper works on, and its view
 */
static Queue *participant_queue;
static LWLock *participant_lock;
static CurrentView *participant_current;

/* How many cores the machine has; not positive: unknown */
static int	participant_cores;

static void participant_leave(int code, Datum arg);
static bool participant_goes_on(const Queue *queue);
static void participant_refresh(Queue *queue, LWLock *lock, int index,
								int active);
static void participant_attempt(CurrentView *current, int active);
static void participant_fold_backlog(CurrentView *current, int active);
static void participant_finish(CurrentView *current, LWLock *lock);
static bool participant_skip(CurrentView *current);
static void participant_try_to_skip(void *arg);
static int	participant_parallel_workers(int active);
static RefreshTarget participant_target(const QueueView *view,
										const ViewSettings *own);
static void participant_before_commit(const RefreshResult *result, void *arg);
static void participant_set_data_as_of(CurrentView *current);
static void participant_finish_abandoned(Queue *queue, LWLock *lock,
										 int index);
static void participant_keep(void *arg);
static void participant_keep_failure(void *arg);
static void participant_report_view(const QueueView *view,
									const RefreshResult *result);
static void participant_report_failure(const QueueView *view,
									   const RefreshResult *result);

/*
 * Become a helper: if the process ends in the middle of a view, tell the
 * leader.
 */
void
participant_join(Queue *queue, LWLock *lock)
{
	participant_queue = queue;
	participant_lock = lock;
	before_shmem_exit(participant_leave, (Datum) 0);
}

static void
participant_leave(int code, Datum arg)
{
	/* The queue and its condition variable will be gone soon. */
	ConditionVariableCancelSleep();
	if (participant_current == NULL)
		return;
	if (participant_current->result->committed)
		participant_finish(participant_current, participant_lock);
	else
		queue_abandon(participant_queue, participant_lock,
					  participant_current->view - participant_queue->views);
}

/*
 * Work on a cycle until nothing is left to do.  Must be called outside of a
 * transaction.  A view that fails raises no ERROR.
 *
 * The leader also waits for the views of other processes, and reports those
 * that they abandon.
 */
void
participant_run(Queue *queue, LWLock *lock, bool leader)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "bigbrotr_refresher view",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	participant_cores = (int) sysconf(_SC_NPROCESSORS_ONLN);
	for (;;)
	{
		int			active;
		int			view;

		if (!participant_goes_on(queue))
			queue_stop(queue, lock);
		if (leader && lock != NULL &&
			(view = queue_take_abandoned(queue, lock)) >= 0)
			participant_finish_abandoned(queue, lock, view);
		else if ((view = queue_take(queue, lock, &active)) >= 0)
			participant_refresh(queue, lock, view, active);
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
 * May the cycle go on with its next view?
 */
static bool
participant_goes_on(const Queue *queue)
{
	CHECK_FOR_INTERRUPTS();
	status_reload();
	return (refresher_enabled || queue->insisted) &&
		claim_news().served &&
		refresher_view_list_hash == queue->list_hash;
}

/*
 * Refresh one view that was taken from the queue, or skip it.
 */
static void
participant_refresh(Queue *queue, LWLock *lock, int index, int active)
{
	QueueView  *view = &queue->views[index];
	RefreshResult result = {0};
	CurrentView current = {0};

	view->started_at = GetCurrentTimestamp();
	status_begin_view(view->label, view->known.duration);
	current.queue = queue;
	current.view = view;
	current.known = current.before = view->known;
	current.result = &result;
	participant_current = &current;

	if (!refresh_begin(queue_settings(queue, view), &current.own, &result))
		result.duration = elapsed_since(view->began);
	else if (participant_skip(&current))
		refresh_end();
	else
	{
		participant_attempt(&current, active);
		participant_fold_backlog(&current, active);
	}
	participant_finish(&current, lock);
	participant_current = NULL;
}

/*
 * Refresh the current view.  Its settings must be in force; they are reset at
 * the end.
 */
static void
participant_attempt(CurrentView *current, int active)
{
	const QueueView *view = current->view;
	RefreshTarget target = participant_target(view, &current->own);
	RefreshRequest request = {0};

	request.target = &target;
	request.activity = psprintf("refreshing %s (%d/%d)", view->qualified,
								view->number, current->queue->nviews);
	request.refresh_timeout = current->own.refresh_timeout;
	request.lock_timeout = current->own.lock_timeout;
	request.parallel_workers = participant_parallel_workers(active);
	request.before_commit = participant_before_commit;
	request.before_commit_arg = current;
	refresh_view(&request, current->result);
}

/*
 * If only the first window of a backlog was folded, fold the others, each in a
 * refresh of its own.
 */
static void
participant_fold_backlog(CurrentView *current, int active)
{
	RefreshResult *result = current->result;
	int64		backlog = result->window.limit;

	while (result->committed && !result->window.empty &&
		   result->window.end < backlog && participant_goes_on(current->queue))
	{
		participant_report_view(current->view, result);
		current->before = current->known;
		status_begin_view(current->view->label, current->known.duration);
		if (!refresh_begin(queue_settings(current->queue, current->view),
						   &current->own, result))
			break;
		participant_attempt(current, active);
	}
}

/*
 * Log an attempt, write it to the history if it failed (else that has been
 * done), and update the queue.
 */
static void
participant_finish(CurrentView *current, LWLock *lock)
{
	const RefreshResult *result = current->result;
	ViewState  *known = &current->known;

	if (result->outcome == REFRESH_REFRESHED)
		known->duration = result->duration;
	else if (result->outcome == REFRESH_FAILED)
	{
		/* A failed attempt has changed nothing. */
		*known = current->before;
		known->failures++;
		known->mark.known = false;
	}
	participant_report_view(current->view, result);
	if (result->outcome == REFRESH_FAILED)
		(void) attempt_or_report(participant_keep_failure, current);
	status_end_view(result->outcome);
	queue_finish(current->queue, lock,
				 current->view - current->queue->views, result->outcome, known);
}

/*
 * Skip the view if skip_unchanged is on and nothing that it reads has changed.
 * Returns true then, with the result set and written to the history.
 *
 * The current mark is kept for the next cycle; it must be read before the
 * refresh takes its snapshot.  If anything fails here, the view is refreshed.
 */
static bool
participant_skip(CurrentView *current)
{
	RefreshResult *result = current->result;

	current->known.mark.known = false;
	if (!current->own.skip_unchanged)
		return false;
	if (!attempt_or_report(participant_try_to_skip, current))
	{
		current->known = current->view->known;
		current->known.mark.known = false;
		result->outcome = REFRESH_PENDING;
	}
	result->committed = result->outcome == REFRESH_SKIPPED;
	pgstat_report_stat(false);
	return result->committed;
}

static void
participant_try_to_skip(void *arg)
{
	CurrentView *current = arg;
	const QueueView *view = current->view;
	ChangeMark *mark = &current->known.mark;
	uint64		epoch = status_counts_epoch();
	const char *hint;

	PushActiveSnapshot(GetTransactionSnapshot());
	(void) change_read_mark(view->relid, mark, &hint);
	mark->epoch = epoch;
	if (!current->queue->forced && view->known.failures == 0 &&
		change_mark_equal(mark, &view->known.mark))
	{
		current->result->outcome = REFRESH_SKIPPED;
		current->result->started_at = view->started_at;
		current->result->duration = elapsed_since(view->began);
		participant_set_data_as_of(current);
		participant_keep(current);
	}
	PopActiveSnapshot();
}

/*
 * Return how many parallel workers each part of a query may have, while
 * "active" views could be refreshed at the same time; -1 means the usual
 * limit.
 *
 * Parallel workers of one refresh would compete with other refreshes for the
 * same cores, and a parallel query needs more CPU time in total.
 */
static int
participant_parallel_workers(int active)
{
	active = Min(active, refresher_max_workers);
	if (active <= 1 || participant_cores <= 0)
		return -1;
	return Max(participant_cores - active, 0) / active;
}

/*
 * Make the target as it was planned; it points into the queue.
 */
static RefreshTarget
participant_target(const QueueView *view, const ViewSettings *own)
{
	RefreshTarget target = {0};

	target.schema = view->has_schema ? view->schema : NULL;
	target.name = view->name;
	target.wildcard = view->wildcard;
	target.too_complex = view->too_complex;
	target_take_settings(&target, own);
	target.relid = view->relid;
	target.funcid = view->funcid;
	return target;
}

/*
 * Called in the transaction of a refresh that has succeeded so far.
 */
static void
participant_before_commit(const RefreshResult *result, void *arg)
{
	CurrentView *current = arg;

	current->known.failures = 0;
	if (result->outcome == REFRESH_SKIPPED)
	{
		participant_set_data_as_of(current);
		participant_keep(current);
		return;
	}
	current->known.duration = result->duration;
	current->known.rows_changed = result->merged ?
		merge_sum(&result->rows) : result->window.rows;
	change_mark_settle(&current->known.mark, current->view->relid);
	participant_set_data_as_of(current);
	participant_keep(current);
	notify_outcome(current->view->label, result, 0);
}

/*
 * The data of a view is as old as the oldest data that it was computed from.
 */
static void
participant_set_data_as_of(CurrentView *current)
{
	const RefreshResult *result = current->result;
	TimestampTz as_of = result->started_at;
	TimestampTz reads_as_of = current->view->reads_as_of;

	if (result->window.used)
		as_of = result->window.as_of;
	if (as_of != 0 && reads_as_of != 0)
		as_of = Min(as_of, reads_as_of);
	current->known.data_as_of = as_of;
}

/*
 * Finish a view whose process has ended: it has failed.
 */
static void
participant_finish_abandoned(Queue *queue, LWLock *lock, int index)
{
	const QueueView *view = &queue->views[index];
	CurrentView current = {0};
	RefreshResult result = {0};
	ErrorData	error = {0};

	error.sqlerrcode = ERRCODE_ADMIN_SHUTDOWN;
	error.message = "the process that refreshed the view ended";
	error.hint = "The server log says why.";
	current.queue = queue;
	current.view = view;
	current.known = current.before = view->known;
	current.result = &result;
	result.outcome = REFRESH_FAILED;
	result.started_at = view->started_at;
	result.duration = elapsed_since(view->began);
	result.error = &error;
	participant_finish(&current, lock);
}

/*
 * Write an attempt to the history, in the current transaction.
 */
static void
participant_keep(void *arg)
{
	const CurrentView *current = arg;
	HistoryCycle cycle = {current->queue->nviews, current->queue->whole};

	if (refresher_history_retention == 0)
		return;

	/*
	 * If nothing else was written, a crash before the next WAL flush loses
	 * only this row, so we need not wait for the flush.  A refresh is
	 * different: it may have written to other servers, where data may depend
	 * on this COMMIT.
	 */
	if (current->result->outcome != REFRESH_REFRESHED)
		(void) set_config_option("synchronous_commit", "off",
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	history_write(current->view->label, &current->known, &cycle,
				  current->result);

	/* Hide the row's number from currval() and lastval() of the views. */
	ResetSequenceCaches();
}

static void
participant_keep_failure(void *arg)
{
	const CurrentView *current = arg;

	participant_keep(arg);
	notify_outcome(current->view->label, current->result,
				   current->known.failures);
}

static void
participant_report_view(const QueueView *view, const RefreshResult *result)
{
	StringInfoData line;

	if (result->outcome == REFRESH_DROPPED)
		return;
	if (result->outcome == REFRESH_FAILED)
	{
		participant_report_failure(view, result);
		return;
	}
	initStringInfo(&line);
	log_append(&line, "view", view->label);
	if (result->outcome == REFRESH_SKIPPED)
	{
		log_append(&line, "reason",
				   result->window.empty ? "empty_window" : "unchanged");
		log_append(&line, "database", status_database());
		ereport(LOG, (errmsg_internal(REFRESHER_NAME ": view_skipped%s",
									  line.data)));
		return;
	}
	log_append_seconds(&line, "duration", result->duration);
	log_append(&line, "database", status_database());
	if (result->merged)
	{
		log_append_int(&line, "inserted", result->rows.inserted);
		log_append_int(&line, "updated", result->rows.updated);
		log_append_int(&line, "deleted", result->rows.deleted);
	}
	if (result->window.counted)
		log_append_int(&line, "rows", result->window.rows);
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": view_refreshed%s",
								  line.data)));
}

/*
 * Log a failure in one line, with the code, detail, hint and context of the
 * original error.
 */
static void
participant_report_failure(const QueueView *view, const RefreshResult *result)
{
	const ErrorData *error = result->error;
	StringInfoData line;

	initStringInfo(&line);
	log_append(&line, "view", view->label);
	log_append_seconds(&line, "duration", result->duration);
	log_append(&line, "sqlstate", unpack_sql_state(error->sqlerrcode));
	log_append(&line, "error", error->message ? error->message : "");
	log_append(&line, "database", status_database());
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg_internal(REFRESHER_NAME ": view_refresh_failed%s",
							 line.data),
			 error->detail ?
			 errdetail_internal("%s", log_lines(error->detail)) : 0,
			 error->hint ? errhint("%s", log_lines(error->hint)) : 0,
			 error->context ?
			 errcontext("%s", log_lines(error->context)) : 0));
}
