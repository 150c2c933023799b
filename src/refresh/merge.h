/*-------------------------------------------------------------------------
 *
 * merge.h
 *	  A refresh that writes only what differs.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MERGE_H
#define MERGE_H

#include "nodes/parsenodes.h"
#include "tcop/cmdtag.h"

#include "src/refresh/merge_write.h"

/* What a merge has done */
typedef struct MergeResult
{
	Oid			relid;
	MergeCounts counts;
} MergeResult;

extern bool merge_can(Oid relid);
extern void merge_refresh(RefreshMatViewStmt *statement,
						  const char *condition, const char *text,
						  QueryCompletion *completion, MergeResult *result);

#endif							/* MERGE_H */
