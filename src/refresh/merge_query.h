/*-------------------------------------------------------------------------
 *
 * merge_query.h
 *	  The query of a view, planned and run row by row.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MERGE_QUERY_H
#define MERGE_QUERY_H

#include "executor/tuptable.h"
#include "nodes/parsenodes.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Called for each row; returns whether to go on */
typedef bool (*MergeRowFunction) (TupleTableSlot *slot, void *arg);

extern Query *merge_query_read(Relation relation);
extern uint64 merge_query_run(Query *query, const char *text,
							  Snapshot snapshot, MergeRowFunction function,
							  void *arg);

#endif							/* MERGE_QUERY_H */
