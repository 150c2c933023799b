/*-------------------------------------------------------------------------
 *
 * sql_refresh.c
 *	  SQL-callable functions that refresh in the caller's transaction.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "src/common/compat.h"
#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/plan/plan.h"
#include "src/plan/target_explain.h"
#include "src/plan/view_settings.h"
#include "src/record/history.h"
#include "src/record/notify.h"
#include "src/record/told.h"
#include "src/refresh/refresh.h"
#include "src/refresh/window.h"
#include "src/sql.h"

PG_FUNCTION_INFO_V1(bigbrotr_refresher_refresh);
PG_FUNCTION_INFO_V1(bigbrotr_refresher_refresh_part);
PG_FUNCTION_INFO_V1(bigbrotr_refresher_set_window);

static RefreshTarget sql_target(const char *name, Oid role);
static int	sql_apply_settings(const char *settings, RefreshTarget *target);
static TimestampTz sql_data_as_of(const RefreshPlan *plan,
								  const PlanItem *item,
								  const RefreshResult *result);
static const PlanItem *sql_find_item(const RefreshPlan *plan,
									 const RefreshTarget *target);
static void sql_check_owner(const RefreshTarget *target, const char *hint);

/*
 * refresh(view): refresh one view here, with the caller's rights.
 *
 * The name has the grammar of the list, and is looked up in the caller's
 * search_path.  It need not be in the list.
 */
Datum
bigbrotr_refresher_refresh(PG_FUNCTION_ARGS)
{
	RefreshTarget target;
	RefreshResult result;
	const PlanItem *item;
	RefreshPlan *plan;
	const char *label;
	ViewState	known = {0};
	int			nest_level;
	int			nwindows = 0;
	int64		backlog = 0;

	sql_require_preload();
	sql_refuse_null(fcinfo, 0, "refresh(view)",
					"Pass the name of the view to refresh.");
	target = sql_target(text_to_cstring(PG_GETARG_TEXT_PP(0)), GetUserId());
	if (target.method == REFRESH_METHOD_WINDOW)
		sql_check_owner(&target,
						"What is folded counts as folded for everybody. Let the owner do it, or the worker, by " REFRESHER_NAME ".run().");
	plan = sql_plan_as_worker();
	item = sql_find_item(plan, &target);
	if (target.refused != NULL)
		ereport(NOTICE,
				(errmsg("the refresh function of %s is not called, since role \"%s\", to which it belongs, is not trusted",
						target_display(target_qualified_name(&target)),
						target.refused)));

	/* A view that is not listed must not look like one that is. */
	label = item ? item->label : target_qualified_name(&target);
	do
	{
		nest_level = sql_apply_settings(item ? item->settings : NULL,
										&target);
		refresh_in_session(&target, &result);
		AtEOXact_GUC(true, nest_level);
		known.duration = result.outcome == REFRESH_SKIPPED ?
			0 : result.duration;
		known.data_as_of = sql_data_as_of(plan, item, &result);
		history_write(label, &known, NULL, &result);
		if (nwindows++ == 0)
			backlog = result.window.limit;
	} while (!result.window.empty && result.window.end < backlog);
	notify_outcome(label, &result, 0);
	told_at_commit(TOLD_VIEWS);
	PG_RETURN_VOID();
}

/*
 * refresh(view, condition): refresh the rows of one materialized view for which
 * the condition holds.
 *
 * This always merges, even if the view has a refresh function.  The worker is
 * not told, since the schedule does not change.
 */
Datum
bigbrotr_refresher_refresh_part(PG_FUNCTION_ARGS)
{
	RefreshTarget target;
	RefreshResult result;
	const char *label;
	const char *settings;
	int			nest_level;
	ViewState	known;
	ViewState	state = {0};

	sql_require_preload();
	sql_refuse_null(fcinfo, 0, "refresh(view, condition)",
					"Pass the name of the view to refresh.");
	sql_refuse_null(fcinfo, 1, "refresh(view, condition)",
					"Pass a condition on columns of a unique index of the view.");
	target = sql_target(text_to_cstring(PG_GETARG_TEXT_PP(0)), GetUserId());
	if (!OidIsValid(target.relid) && target.method == REFRESH_METHOD_NONE)
		target_raise(&target);
	if (target.relkind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a materialized view",
						target_display(target_qualified_name(&target))),
				 errhint("Only materialized views can be refreshed in part.")));
	label = sql_label_as_worker(&target, &settings);
	nest_level = sql_apply_settings(settings, &target);
	target_check_merged(&target);
	refresh_part_in_session(&target, text_to_cstring(PG_GETARG_TEXT_PP(1)),
							&result);
	AtEOXact_GUC(true, nest_level);

	(void) history_read_last(label, &known);
	state.failures = known.failures;
	history_write(label, &state, NULL, &result);
	notify_outcome(label, &result, 0);
	PG_RETURN_VOID();
}

/*
 * set_window(target, until): set where the last window of a target ended.
 */
Datum
bigbrotr_refresher_set_window(PG_FUNCTION_ARGS)
{
	RefreshTarget target;

	sql_require_preload();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("arguments of function %s must not be null",
						"set_window(target, until)")));
	target = sql_target(text_to_cstring(PG_GETARG_TEXT_PP(0)),
						sql_worker_role());
	if (target.method == REFRESH_METHOD_NONE)
		target_raise(&target);
	if (target.method != REFRESH_METHOD_WINDOW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not refreshed by windows",
						target_display(target_qualified_name(&target))),
				 errdetail("Its method is \"%s\".",
						   target_method_name(target.method))));
	sql_check_owner(&target, NULL);
	window_set(&target, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/*
 * Resolve the name of one view, which has the grammar of the list, in the
 * caller's search_path.  "role" is the role that would call its function.
 * Raises an ERROR if the name is invalid.
 */
static RefreshTarget
sql_target(const char *name, Oid role)
{
	ViewList   *list = palloc(view_list_size(name));
	ViewListError error;
	ViewSettings own;
	RefreshTarget target = {0};

	if (!view_list_parse(name, list, &error))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a view: \"%s\"", name),
				 errdetail("At character %d: %s.", error.position,
						   log_valid(error.reason))));
	if (list->nspecs != 1 || list->specs[0].name == NULL ||
		list->specs[0].interval != 0 || list->specs[0].settings != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a view: \"%s\"", name),
				 errdetail("Exactly one view can be named, without an interval or settings.")));

	if (list->specs[0].schema != NULL)
		target.schema = target_fold(list->specs[0].schema,
									list->specs[0].schema_folds);
	target.name = target_fold(list->specs[0].name, list->specs[0].name_folds);
	view_settings_read(NULL, &own);
	target_take_settings(&target, &own);
	target_resolve(&target, role);
	return target;
}

/*
 * Apply the settings that the list gives to a view (NULL: none), as far as the
 * caller may set them.  They hold until the returned GUC nest level is left.
 *
 * Timeouts are not applied: the caller's own limits hold for the caller's
 * statement.
 */
static int
sql_apply_settings(const char *settings, RefreshTarget *target)
{
	int			nest_level = NewGUCNestLevel();
	ViewSettings own;

	if (settings == NULL)
		return nest_level;
	view_settings_apply(settings, NULL, GetUserId(), GUC_ACTION_SAVE);
	view_settings_read(settings, &own);
	target_take_settings(target, &own);
	return nest_level;
}

/*
 * Return the time of the data after a refresh outside of a cycle: the time of
 * the oldest data that it was computed from; 0 if unknown.
 */
static TimestampTz
sql_data_as_of(const RefreshPlan *plan, const PlanItem *item,
			   const RefreshResult *result)
{
	TimestampTz data_as_of = result->window.used ?
		result->window.as_of : result->started_at;

	for (int i = 0; item != NULL && i < item->ndepends; i++)
	{
		ViewState	known;

		if (history_read_last(plan->items[item->depends[i]].label, &known) &&
			known.data_as_of != 0 && data_as_of != 0)
			data_as_of = Min(data_as_of, known.data_as_of);
	}
	return data_as_of;
}

/*
 * Return the plan's item for the same relation or function, or NULL.
 */
static const PlanItem *
sql_find_item(const RefreshPlan *plan, const RefreshTarget *target)
{
	for (int i = 0; i < plan->nitems; i++)
	{
		const RefreshTarget *other = &plan->items[i].target;

		if (other->relid == target->relid &&
			(OidIsValid(target->relid) || other->funcid == target->funcid))
			return &plan->items[i];
	}
	return NULL;
}

/*
 * Raise an ERROR unless the current user owns the target: the table, or the
 * function if there is no table.  "hint" may be NULL.
 *
 * Only the owner may move a checkpoint.  The windows before it are never
 * folded again, whatever the rights, row security and search_path of the
 * caller have let their function see.
 */
static void
sql_check_owner(const RefreshTarget *target, const char *hint)
{
	if (OidIsValid(target->relid) ? compat_owns_relation(target->relid) :
		compat_owns_function(target->funcid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of %s %s",
					OidIsValid(target->relid) ?
					target_relkind_name(target->relkind) : "function",
					target_qualified_name(target)),
			 hint != NULL ? errhint("%s", hint) : 0));
}
