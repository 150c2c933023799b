/*-------------------------------------------------------------------------
 *
 * sql.c
 *	  The functions of the extension's schema.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "plan.h"
#include "settings.h"

#define SQL_PLAN_COLS	7

PG_FUNCTION_INFO_V1(bigbrotr_refresher_plan);

static void sql_require_preload(void);
static Oid	sql_worker_role(void);
static Datum sql_labels(const RefreshPlan *plan, const int *items, int nitems);

/*
 * plan(): the next cycle, explained.
 *
 * Names are resolved by the search_path of the worker if it runs, else by the
 * caller's; functions are judged by the worker's role.
 */
Datum
bigbrotr_refresher_plan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	RefreshPlan *plan;

	sql_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	plan = plan_make(refresher_view_list, sql_worker_role());

	for (int i = 0; i < plan->nitems; i++)
	{
		PlanItem   *item = &plan->items[i];
		Datum		values[SQL_PLAN_COLS];
		bool		nulls[SQL_PLAN_COLS] = {0};
		int			col = 0;

		values[col++] = Int32GetDatum(i + 1);
		values[col++] = Int32GetDatum(item->stage + 1);
		values[col++] = CStringGetTextDatum(item->label);
		if (item->target.method != REFRESH_METHOD_NONE)
			values[col++] = CStringGetTextDatum(target_method_name(item->target.method));
		else
			nulls[col++] = true;
		if (item->target.message != NULL)
			values[col++] = CStringGetTextDatum(item->target.message);
		else
			nulls[col++] = true;
		values[col++] = sql_labels(plan, item->depends, item->ndepends);
		nulls[col++] = true;
		Assert(col == SQL_PLAN_COLS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}

/*
 * Raise an ERROR if the server was started without the library: then there
 * are neither parameters nor workers.
 */
static void
sql_require_preload(void)
{
	if (refresher_view_list == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(REFRESHER_NAME " must be loaded via \"shared_preload_libraries\""),
				 errhint("Add it to \"shared_preload_libraries\" in postgresql.conf and restart the server.")));
}

/*
 * The role that the worker connects as, or would.
 */
static Oid
sql_worker_role(void)
{
	return refresher_role[0] ? get_role_oid(refresher_role, false) :
		BOOTSTRAP_SUPERUSERID;
}

/*
 * The labels of some items, as an array of text.
 */
static Datum
sql_labels(const RefreshPlan *plan, const int *items, int nitems)
{
	Datum	   *labels = palloc(nitems * sizeof(Datum) + 1);

	for (int i = 0; i < nitems; i++)
		labels[i] = CStringGetTextDatum(plan->items[items[i]].label);
	return PointerGetDatum(construct_array(labels, nitems, TEXTOID, -1, false,
										   TYPALIGN_INT));
}
