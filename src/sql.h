/*-------------------------------------------------------------------------
 *
 * sql.h
 *	  What the SQL-callable functions share.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQL_H
#define SQL_H

#include "fmgr.h"

#include "src/plan/plan.h"

extern void sql_require_preload(void);
extern void sql_refuse_null(FunctionCallInfo fcinfo, int number,
							const char *function, const char *hint);
extern RefreshPlan *sql_plan_as_worker(void);
extern const char *sql_label_as_worker(const RefreshTarget *target,
									   const char **settings);
extern Oid	sql_worker_role(void);

#endif							/* SQL_H */
