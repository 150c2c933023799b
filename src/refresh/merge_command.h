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

#include "src/refresh/merge.h"

extern void merge_scope_enter(void);
extern void merge_scope_leave(void);
extern void merge_scope_reset(void);
extern bool merge_in_scope(void);
extern bool merge_is_wanted(const PlannedStmt *statement);
extern bool merge_command(PlannedStmt *statement, const char *text,
						  ProcessUtilityContext context,
						  QueryCompletion *completion,
						  MergeResult *result);
extern void merge_part(Oid relid, const char *condition, MergeResult *result);

#endif							/* MERGE_COMMAND_H */
