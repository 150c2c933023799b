/*-------------------------------------------------------------------------
 *
 * merge_diff.h
 *	  From old and new rows to what to delete, update and insert.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MERGE_DIFF_H
#define MERGE_DIFF_H

#include "utils/snapshot.h"

#include "src/refresh/merge_rows.h"

typedef struct MergeDiff MergeDiff;

/*
 * Adds the old rows.  As soon as merge_diff_add_old() returns false, it may
 * stop, and must return false; then it is called once more.
 */
typedef bool (*MergeOldReader) (MergeDiff *diff, void *arg);

extern MergeDiff *merge_diff_create(Relation relation,
									const MergeShape *shape,
									Snapshot snapshot, Size memory);
extern void merge_diff_read_old(MergeDiff *diff, MergeOldReader reader,
								void *arg);
extern bool merge_diff_add_old(MergeDiff *diff, TupleTableSlot *slot);
extern void merge_diff_add_new(MergeDiff *diff, TupleTableSlot *slot);
extern void merge_diff_finish(MergeDiff *diff);

/* The result: TIDs; TIDs with their new rows; rows */
extern MergeFile *merge_diff_deletes(MergeDiff *diff);
extern MergeFile *merge_diff_updates(MergeDiff *diff);
extern MergeFile *merge_diff_inserts(MergeDiff *diff);

#endif							/* MERGE_DIFF_H */
