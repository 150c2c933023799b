/*-------------------------------------------------------------------------
 *
 * merge_command.h
 *	  REFRESH MATERIALIZED VIEW CONCURRENTLY, taken over from the server.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MERGE_COMMAND_H
#define MERGE_COMMAND_H

#include "tcop/utility.h"

#include "src/common/settings.h"
#include "src/plan/target.h"
#include "src/refresh/merge.h"

/* A refresh of ours that is running */
typedef struct MergeScope
{
	bool		entered;
	MergeMode	mode;			/* the setting of its view */
} MergeScope;

extern MergeScope merge_scope_enter(MergeMode mode);
extern void merge_scope_leave(MergeScope outer);
extern void merge_scope_reset(void);
extern bool merge_in_scope(void);
extern bool merge_is_wanted(const PlannedStmt *statement);
extern bool merge_command(PlannedStmt *statement, const char *text,
						  ProcessUtilityContext context,
						  QueryCompletion *completion,
						  MergeResult *result);
extern void merge_part(const RefreshTarget *target, const char *condition,
					   MergeResult *result);

#endif							/* MERGE_COMMAND_H */
