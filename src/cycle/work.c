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
#include "src/cycle/work.h"

/* The view in hand */
typedef struct WorkView
{
	Queue	   *queue;
	const QueueView *view;
	ViewState	known;			/* what will be known of it at the end */
	ViewSettings own;			/* what holds for it */
	ViewState	before;			/* if it fails, this is */
	RefreshResult *result;
} WorkView;

/* For a helper that ends: what it worked on, and what it has in hand, if any */
static Queue *work_shared_queue;
static LWLock *work_shared_lock;
static WorkView *work_in_hand;

/* The list that the cycle follows */
static uint64 work_list_hash;

/* How many cores the machine has, if that is known */
static int	work_cores;

static void work_leave(int code, Datum arg);
static bool work_goes_on(const Queue *queue);
static void work_refresh(Queue *queue, LWLock *lock, int index, int active);
static void work_attempt(WorkView *in_hand, int active);
static void work_fold_backlog(WorkView *in_hand, int active);
static void work_finish(WorkView *in_hand, LWLock *lock);
static bool work_skip(WorkView *in_hand);
static void work_try_to_skip(void *arg);
static int	work_parallel_workers(int active);
static RefreshTarget work_target(const QueueView *view,
								 const ViewSettings *own);
static void work_before_commit(const RefreshResult *result, void *arg);
static void work_set_data_as_of(WorkView *in_hand);
static void work_finish_abandoned(Queue *queue, LWLock *lock, int index);
static void work_keep(void *arg);
static void work_keep_failure(void *arg);
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
	/* The queue, and what we may wait for in it, will be gone soon. */
	ConditionVariableCancelSleep();
	if (work_in_hand == NULL)
		return;
	if (work_in_hand->result->committed)
		work_finish(work_in_hand, work_shared_lock);
	else
		queue_abandon(work_shared_queue, work_shared_lock,
					  work_in_hand->view - work_shared_queue->views);
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
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "bigbrotr_refresher view",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	work_list_hash = refresher_view_list_hash;
	work_cores = (int) sysconf(_SC_NPROCESSORS_ONLN);
	for (;;)
	{
		int			active;
		int			view;

		if (!work_goes_on(queue))
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
work_goes_on(const Queue *queue)
{
	CHECK_FOR_INTERRUPTS();
	status_reload();
	return (refresher_enabled || queue->insisted) &&
		claim_news().served &&
		refresher_view_list_hash == work_list_hash;
}

/*
 * Refresh one view that was taken from the queue, or skip it.
 */
static void
work_refresh(Queue *queue, LWLock *lock, int index, int active)
{
	QueueView  *view = &queue->views[index];
	RefreshResult result = {0};
	WorkView	in_hand = {0};

	view->started_at = GetCurrentTimestamp();
	status_begin_view(view->label, view->known.duration);
	in_hand.queue = queue;
	in_hand.view = view;
	in_hand.known = in_hand.before = view->known;
	in_hand.result = &result;
	work_in_hand = &in_hand;

	if (!refresh_begin(queue_settings(queue, view), &in_hand.own, &result))
		result.duration = elapsed_since(view->began);
	else if (work_skip(&in_hand))
		refresh_end();
	else
	{
		work_attempt(&in_hand, active);
		work_fold_backlog(&in_hand, active);
	}
	work_finish(&in_hand, lock);
	work_in_hand = NULL;
}

/*
 * Refresh the view in hand.  Its settings are in force, until the end of this.
 */
static void
work_attempt(WorkView *in_hand, int active)
{
	const QueueView *view = in_hand->view;
	RefreshTarget target = work_target(view, &in_hand->own);
	RefreshRequest request = {0};

	request.target = &target;
	request.activity = psprintf("refreshing %s (%d/%d)", view->qualified,
								view->number, in_hand->queue->nviews);
	request.refresh_timeout = in_hand->own.refresh_timeout;
	request.lock_timeout = in_hand->own.lock_timeout;
	request.parallel_workers = work_parallel_workers(active);
	request.before_commit = work_before_commit;
	request.before_commit_arg = in_hand;
	refresh_view(&request, in_hand->result);
}

/*
 * If what was folded was only the first window of a backlog, fold the others,
 * each as a refresh of its own.
 */
static void
work_fold_backlog(WorkView *in_hand, int active)
{
	RefreshResult *result = in_hand->result;
	int64		backlog = result->window.limit;

	while (result->committed && !result->window.empty &&
		   result->window.end < backlog && work_goes_on(in_hand->queue))
	{
		work_report_view(in_hand->view, result);
		in_hand->before = in_hand->known;
		status_begin_view(in_hand->view->label, in_hand->known.duration);
		if (!refresh_begin(queue_settings(in_hand->queue, in_hand->view),
						   &in_hand->own, result))
			break;
		work_attempt(in_hand, active);
	}
}

/*
 * Report an attempt, keep it if it failed (else it was kept already), and let
 * the queue know.
 */
static void
work_finish(WorkView *in_hand, LWLock *lock)
{
	const RefreshResult *result = in_hand->result;
	ViewState  *known = &in_hand->known;

	if (result->outcome == REFRESH_REFRESHED)
		known->duration = result->duration;
	else if (result->outcome == REFRESH_FAILED)
	{
		/* What was not committed has changed nothing. */
		*known = in_hand->before;
		known->failures++;
		known->mark.known = false;
	}
	work_report_view(in_hand->view, result);
	if (result->outcome == REFRESH_FAILED)
		(void) attempt_or_report(work_keep_failure, in_hand);
	status_end_view(result->outcome);
	queue_finish(in_hand->queue, lock,
				 in_hand->view - in_hand->queue->views, result->outcome, known);
}

/*
 * Skip the view if that is wanted and nothing that it reads has changed; the
 * result then says so, and is in the history.
 *
 * The mark of what there is now is kept for the next cycle: it must be read
 * before the refresh takes its snapshot.  If anything fails here, the view is
 * refreshed.
 */
static bool
work_skip(WorkView *in_hand)
{
	RefreshResult *result = in_hand->result;

	in_hand->known.mark.known = false;
	if (!in_hand->own.skip_unchanged)
		return false;
	if (!attempt_or_report(work_try_to_skip, in_hand))
	{
		in_hand->known = in_hand->view->known;
		in_hand->known.mark.known = false;
		result->outcome = REFRESH_PENDING;
	}
	result->committed = result->outcome == REFRESH_SKIPPED;
	pgstat_report_stat(false);
	return result->committed;
}

static void
work_try_to_skip(void *arg)
{
	WorkView   *in_hand = arg;
	const QueueView *view = in_hand->view;
	ChangeMark *mark = &in_hand->known.mark;
	uint64		epoch = status_counts_epoch();
	const char *hint;

	PushActiveSnapshot(GetTransactionSnapshot());
	(void) change_read_mark(view->relid, mark, &hint);
	mark->epoch = epoch;
	if (!in_hand->queue->forced && view->known.failures == 0 &&
		change_mark_equal(mark, &view->known.mark))
	{
		in_hand->result->outcome = REFRESH_SKIPPED;
		in_hand->result->started_at = view->started_at;
		in_hand->result->duration = elapsed_since(view->began);
		work_set_data_as_of(in_hand);
		work_keep(in_hand);
	}
	PopActiveSnapshot();
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
	active = Min(active, refresher_max_workers);
	if (active <= 1 || work_cores <= 0)
		return -1;
	return Max(work_cores - active, 0) / active;
}

/*
 * The target as it was planned; points into the queue.
 */
static RefreshTarget
work_target(const QueueView *view, const ViewSettings *own)
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
 * In the transaction of a refresh that has gone well so far.
 */
static void
work_before_commit(const RefreshResult *result, void *arg)
{
	WorkView   *in_hand = arg;

	in_hand->known.failures = 0;
	if (result->outcome == REFRESH_SKIPPED)
	{
		work_set_data_as_of(in_hand);
		work_keep(in_hand);
		return;
	}
	in_hand->known.duration = result->duration;
	in_hand->known.rows_changed = result->merged ?
		merge_sum(&result->rows) : result->window.rows;
	change_mark_settle(&in_hand->known.mark, in_hand->view->relid);
	work_set_data_as_of(in_hand);
	work_keep(in_hand);
	notify_outcome(in_hand->view->label, result, 0);
}

/*
 * The data of a view is as old as the oldest that it was made of.
 */
static void
work_set_data_as_of(WorkView *in_hand)
{
	const RefreshResult *result = in_hand->result;
	TimestampTz as_of = result->started_at;
	TimestampTz reads_as_of = in_hand->view->reads_as_of;

	if (result->window.used)
		as_of = result->window.as_of;
	if (as_of != 0 && reads_as_of != 0)
		as_of = Min(as_of, reads_as_of);
	in_hand->known.data_as_of = as_of;
}

/*
 * Report and finish a view whose process is gone.
 */
static void
work_finish_abandoned(Queue *queue, LWLock *lock, int index)
{
	const QueueView *view = &queue->views[index];
	WorkView	in_hand = {0};
	RefreshResult result = {0};
	ErrorData	error = {0};

	error.sqlerrcode = ERRCODE_ADMIN_SHUTDOWN;
	error.message = "the process that refreshed the view ended";
	error.hint = "The server log says why.";
	in_hand.queue = queue;
	in_hand.view = view;
	in_hand.known = in_hand.before = view->known;
	in_hand.result = &result;
	result.outcome = REFRESH_FAILED;
	result.started_at = view->started_at;
	result.duration = elapsed_since(view->began);
	result.error = &error;
	work_finish(&in_hand, lock);
}

/*
 * Keep an attempt in the history, in the current transaction.
 */
static void
work_keep(void *arg)
{
	const WorkView *in_hand = arg;
	HistoryCycle cycle = {in_hand->queue->nviews, in_hand->queue->whole};

	if (refresher_history_retention == 0)
		return;

	/*
	 * Where nothing else was written, nothing is lost with the row in a crash
	 * that comes before the next flush, so we need not wait for one.  Of a
	 * refresh we cannot know that: what it has written on other servers may
	 * depend on this COMMIT.
	 */
	if (in_hand->result->outcome != REFRESH_REFRESHED)
		(void) set_config_option("synchronous_commit", "off",
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	history_write(in_hand->view->label, &in_hand->known, &cycle,
				  in_hand->result);

	/* What number it has is nothing for the views' functions to see. */
	ResetSequenceCaches();
}

static void
work_keep_failure(void *arg)
{
	const WorkView *in_hand = arg;

	work_keep(arg);
	notify_outcome(in_hand->view->label, in_hand->result,
				   in_hand->known.failures);
}

static void
work_report_view(const QueueView *view, const RefreshResult *result)
{
	StringInfoData line;

	if (result->outcome == REFRESH_DROPPED)
		return;
	if (result->outcome == REFRESH_FAILED)
	{
		work_report_failure(view, result);
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
