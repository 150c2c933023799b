/*-------------------------------------------------------------------------
 *
 * cycle.c
 *	  A plan in, its results out.
 *
 * Refreshes what is due of a plan, one view after the other in the plan's
 * order, and reports each to the server log.  Between two views there is no
 * transaction and no snapshot, the configuration is read if it changed, and
 * the cycle ends early if it is to: because the refresher was disabled, or
 * because there is a new list.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "cycle.h"
#include "log.h"
#include "settings.h"

static RefreshOutcome cycle_refresh(const PlanItem *item, int number,
									int total);
static void cycle_count(CycleResult *result, int item, RefreshOutcome outcome);
static bool cycle_goes_on(uint64 generation);
static void cycle_report_view(const PlanItem *item,
							  const RefreshResult *result);
static void cycle_report_failure(const PlanItem *item,
								 const RefreshResult *result);
static void cycle_report_end(const CycleResult *result);

/*
 * Refresh the items of a plan for which "due" is true.
 *
 * The result's outcomes are allocated in the current memory context; those of
 * items that did not have their turn are REFRESH_PENDING.  To be called
 * outside of a transaction.  Raises no ERROR for a view's sake.
 */
void
cycle_run(const RefreshPlan *plan, const bool *due, CycleResult *result)
{
	uint64		generation = refresher_view_list_generation;
	MemoryContext view_context = AllocSetContextCreate(CurrentMemoryContext,
													   "bigbrotr_refresher view",
													   ALLOCSET_DEFAULT_SIZES);
	instr_time	start;
	instr_time	end;
	StringInfoData line;
	int			number = 0;

	memset(result, 0, sizeof(CycleResult));
	result->outcomes = palloc0(plan->nitems * sizeof(RefreshOutcome) + 1);
	for (int i = 0; i < plan->nitems; i++)
		result->total += due[i] ? 1 : 0;

	initStringInfo(&line);
	log_append_int(&line, "views", result->total);
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": cycle_started%s",
								  line.data)));
	INSTR_TIME_SET_CURRENT(start);

	for (int i = 0; i < plan->nitems && cycle_goes_on(generation); i++)
	{
		MemoryContext caller;

		if (!due[i])
			continue;
		caller = MemoryContextSwitchTo(view_context);
		cycle_count(result, i, cycle_refresh(&plan->items[i], ++number,
											 result->total));
		MemoryContextSwitchTo(caller);
		MemoryContextReset(view_context);
	}

	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	result->duration = INSTR_TIME_GET_MICROSEC(end);
	cycle_report_end(result);
	MemoryContextDelete(view_context);
}

/*
 * May the cycle go on to its next view?
 */
static bool
cycle_goes_on(uint64 generation)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	return refresher_enabled && refresher_view_list_generation == generation;
}

/*
 * Refresh one view and report it.
 */
static RefreshOutcome
cycle_refresh(const PlanItem *item, int number, int total)
{
	RefreshRequest request = {0};
	RefreshResult result;

	request.target = &item->target;
	request.activity = psprintf("refreshing %s (%d/%d)", item->qualified,
								number, total);
	request.refresh_timeout = refresher_refresh_timeout;
	request.lock_timeout = refresher_lock_timeout;
	refresh_view(&request, &result);
	cycle_report_view(item, &result);
	return result.outcome;
}

static void
cycle_count(CycleResult *result, int item, RefreshOutcome outcome)
{
	result->outcomes[item] = outcome;
	switch (outcome)
	{
		case REFRESH_PENDING:
			break;
		case REFRESH_REFRESHED:
			result->refreshed++;
			break;
		case REFRESH_FAILED:
			result->failed++;
			break;
		case REFRESH_SKIPPED:
			result->skipped++;
			break;
	}
}

static void
cycle_report_view(const PlanItem *item, const RefreshResult *result)
{
	StringInfoData line;

	if (result->outcome == REFRESH_FAILED)
	{
		cycle_report_failure(item, result);
		return;
	}
	initStringInfo(&line);
	log_append(&line, "view", item->label);
	log_append_seconds(&line, "duration", result->duration);
	ereport(LOG, (errmsg_internal(REFRESHER_NAME ": view_refreshed%s",
								  line.data)));
}

/*
 * A failure is reported in one line, with the original's code, detail, hint
 * and context.
 */
static void
cycle_report_failure(const PlanItem *item, const RefreshResult *result)
{
	const ErrorData *error = result->error;
	StringInfoData line;

	initStringInfo(&line);
	log_append(&line, "view", item->label);
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
