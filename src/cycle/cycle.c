/*-------------------------------------------------------------------------
 *
 * cycle.c
 *	  Runs a plan and collects its results, by one process or by several.
 *
 * With several processes, the queue of the cycle is in dynamic shared memory,
 * and helpers run for the length of the cycle.  They are dynamic background
 * workers that only work on the queue; the worker works on it as well.  So a
 * helper that cannot be started, or that ends early, only costs speed: the
 * worker reports its current view as failed, and the other processes take the
 * rest.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "src/cycle/cycle.h"
#include "src/common/attempt.h"
#include "src/common/process.h"
#include "src/record/claim.h"
#include "src/common/elapsed.h"
#include "src/common/log.h"
#include "src/refresh/refresh.h"
#include "src/common/settings.h"
#include "src/record/status.h"
#include "src/cycle/participant.h"

#define CYCLE_HELPER_TYPE	"bigbrotr_refresher helper"

/* Arguments of a helper, besides the handle of the queue */
typedef struct CycleHelperArgs
{
	dsa_pointer slot;			/* claimed by the worker */
	Oid			database;
	Oid			role;			/* InvalidOid: the bootstrap superuser */
} CycleHelperArgs;

/* The helpers of this cycle, in the worker */
typedef struct CycleTeam
{
	dsm_segment *segment;		/* NULL: the queue is private */
	int			nhelpers;
	BackgroundWorkerHandle *helpers[STATUS_MAX_RUNNING];
} CycleTeam;

static CycleTeam cycle_team;

static Queue *cycle_prepare(const RefreshPlan *plan, const QueueItem *items,
							TimestampTz start, bool forced);
static bool cycle_create_segment(Size size);
static void cycle_try_segment(void *arg);
static void cycle_start_helpers(int wanted);
static bool cycle_start_helper(const CycleHelperArgs *args);
static void cycle_say_missing(int wanted, int started);
static void cycle_end_helpers(void);
static void cycle_terminate_helpers(int code, Datum arg);
static void cycle_collect(const Queue *queue, QueueItem *items,
						  CycleResult *result);
static void cycle_report_start(const CycleResult *result);
static void cycle_report_end(const CycleResult *result);

/*
 * Refresh the views of a plan that are due, in a cycle that started at
 * "start". With "forced", refresh unchanged views, too.
 *
 * Updates the states and outcomes in items[]; the outcome of a view whose turn
 * did not come is REFRESH_PENDING.  Must be called outside of a transaction.
 * A view that fails raises no ERROR.
 */
void
cycle_run(const RefreshPlan *plan, QueueItem *items, TimestampTz start,
		  bool forced, CycleResult *result)
{
	Queue	   *queue = cycle_prepare(plan, items, start, forced);
	bool		shared = cycle_team.segment != NULL;
	int64		begin;

	memset(result, 0, sizeof(CycleResult));
	result->total = queue->nviews;
	cycle_report_start(result);
	status_begin_cycle(start, result->total);
	begin = elapsed_clock();

	if (shared)
	{
		cycle_start_helpers(queue->nprocesses - 1);
		queue_set_processes(queue, claim_queue_lock(),
							1 + cycle_team.nhelpers);
	}
	participant_run(queue, shared ? claim_queue_lock() : NULL, true);

	result->duration = elapsed_since(begin);
	cycle_collect(queue, items, result);
	cycle_report_end(result);
	status_end_cycle(result->duration);

	if (shared)
		cycle_end_helpers();
	else
		pfree(queue);
}

/*
 * Make the queue, in shared memory if helpers would be of use.
 */
static Queue *
cycle_prepare(const RefreshPlan *plan, const QueueItem *items,
			  TimestampTz start, bool forced)
{
	Size		size = queue_size(plan, items, namespace_search_path);
	bool		shared = false;
	int			ndue = 0;
	Queue	   *queue;

	for (int i = 0; i < plan->nitems; i++)
		ndue += items[i].due ? 1 : 0;
	if (refresher_max_workers > 1 && ndue > 1)
		shared = cycle_create_segment(size);
	queue = shared ? dsm_segment_address(cycle_team.segment) :
		palloc_extended(size, MCXT_ALLOC_HUGE);
	queue_init(queue, plan, items, namespace_search_path, start, forced,
			   shared ? Min(refresher_max_workers, ndue) : 1);
	return queue;
}

/*
 * Create the shared memory of the queue.  Returns false if there is none; then
 * the worker works alone.
 */
static bool
cycle_create_segment(Size size)
{
	cycle_team.segment = NULL;
	cycle_team.nhelpers = 0;
	return attempt_or_report(cycle_try_segment, &size) &&
		cycle_team.segment != NULL;
}

static void
cycle_try_segment(void *arg)
{
	const Size *size = arg;

	cycle_team.segment = dsm_create(*size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (cycle_team.segment != NULL)
		dsm_pin_mapping(cycle_team.segment);
}

/*
 * Start this many helpers, or as many as there are free worker slots.
 */
static void
cycle_start_helpers(int wanted)
{
	static bool registered = false;
	CycleHelperArgs args;

	/* If we end early, the helpers must end, too. */
	if (!registered)
		before_shmem_exit(cycle_terminate_helpers, (Datum) 0);
	registered = true;

	args.slot = claim_slot();
	args.database = MyDatabaseId;

	/* Connect as the worker did: the bootstrap superuser may lack LOGIN. */
	args.role = GetSessionUserId();
	if (args.role == BOOTSTRAP_SUPERUSERID)
		args.role = InvalidOid;
	while (cycle_team.nhelpers < wanted && cycle_start_helper(&args))
		cycle_team.nhelpers++;
	cycle_say_missing(wanted, cycle_team.nhelpers);
}

static bool
cycle_start_helper(const CycleHelperArgs *args)
{
	BackgroundWorker helper;
	char		detail[64];

	StaticAssertStmt(sizeof(CycleHelperArgs) <= BGW_EXTRALEN,
					 "arguments must fit");
	snprintf(detail, sizeof(detail), "helper of PID %d", MyProcPid);
	process_describe(&helper, "bigbrotr_refresher_helper_main",
					 CYCLE_HELPER_TYPE, detail);
	helper.bgw_main_arg =
		UInt32GetDatum(dsm_segment_handle(cycle_team.segment));
	memcpy(helper.bgw_extra, args, sizeof(CycleHelperArgs));
	helper.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&helper,
										   &cycle_team.helpers[cycle_team.nhelpers]);
}

/*
 * Warn that there are too few helpers: once for each value of max_workers,
 * since free slots come and go with every parallel query.
 */
static void
cycle_say_missing(int wanted, int started)
{
	if (started >= wanted || !claim_missed_helpers(refresher_max_workers))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg_internal(REFRESHER_NAME ": helpers_missing wanted=%d started=%d",
							 wanted, started),
			 errhint("Increase the configuration parameter \"max_worker_processes\", or lower \"" REFRESHER_NAME ".max_workers\".")));
}

/*
 * At the end of the cycle, wait for the helpers to end, so that their slots
 * are free for the next cycle, and release the shared memory.
 */
static void
cycle_end_helpers(void)
{
	for (int i = 0; i < cycle_team.nhelpers; i++)
	{
		(void) WaitForBackgroundWorkerShutdown(cycle_team.helpers[i]);
		pfree(cycle_team.helpers[i]);
	}
	cycle_team.nhelpers = 0;
	dsm_detach(cycle_team.segment);
	cycle_team.segment = NULL;
}

/*
 * Exit callback of the worker, which may be in mid-cycle: terminate the
 * helpers.
 */
static void
cycle_terminate_helpers(int code, Datum arg)
{
	/* The queue and its condition variable will be gone soon. */
	ConditionVariableCancelSleep();

	for (int i = 0; i < cycle_team.nhelpers; i++)
		TerminateBackgroundWorker(cycle_team.helpers[i]);
}

/*
 * Copy the new states and outcomes of the views to items[], and count
 * outcomes.
 */
static void
cycle_collect(const Queue *queue, QueueItem *items, CycleResult *result)
{
	for (int i = 0; i < queue->nviews; i++)
	{
		const QueueView *view = &queue->views[i];
		QueueItem  *item = &items[view->planned];

		item->outcome = view->outcome;
		item->known = view->known;
		result->refreshed += view->outcome == REFRESH_REFRESHED;
		result->failed += view->outcome == REFRESH_FAILED;
		result->skipped += view->outcome == REFRESH_SKIPPED;
		result->dropped += view->outcome == REFRESH_DROPPED;
	}
}

static void
cycle_report_start(const CycleResult *result)
{
	StringInfoData line;

	initStringInfo(&line);
	log_append_int(&line, "views", result->total);
	log_append(&line, "database", status_database());
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": cycle_started%s",
								  line.data)));
	pfree(line.data);
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
	log_append(&line, "database", status_database());
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": cycle_completed%s",
								  line.data)));
	pfree(line.data);
}

/*
 * Entry point of a helper's process.
 */
void
bigbrotr_refresher_helper_main(Datum main_arg)
{
	CycleHelperArgs args;
	dsm_segment *segment;
	Queue	   *queue;

	process_handle_signals();
	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		return;					/* the cycle is over already */
	dsm_pin_mapping(segment);

	/* In this order, exit callbacks run after our transaction has ended. */
	claim_join(args.slot);
	status_join();
	queue = dsm_segment_address(segment);
	participant_join(queue, claim_queue_lock());
	BackgroundWorkerInitializeConnectionByOid(args.database, args.role, 0);
	refresh_force_settings();

	/* Defaults of search_path may have changed since the leader connected. */
	SetConfigOption("search_path", queue_search_path(queue), PGC_USERSET,
					PGC_S_OVERRIDE);

	/*
	 * If the list has changed since it was planned, leave the cycle: the
	 * leader ends it when it hears of that.
	 */
	settings_expect_reload();
	status_reload();
	if (refresher_view_list_hash == queue->list_hash)
		participant_run(queue, claim_queue_lock(), false);
}
