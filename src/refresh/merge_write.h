/*-------------------------------------------------------------------------
 *
 * merge_write.h
 *	  The difference, written to a materialized view.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MERGE_WRITE_H
#define MERGE_WRITE_H

#include "src/refresh/merge_diff.h"

/* Rows that a merge has written */
typedef struct MergeCounts
{
	int64		inserted;
	int64		updated;
	int64		deleted;
} MergeCounts;

static inline void
merge_add_counts(MergeCounts *sum, const MergeCounts *counts)
{
	sum->inserted += counts->inserted;
	sum->updated += counts->updated;
	sum->deleted += counts->deleted;
}

static inline int64
merge_sum(const MergeCounts *counts)
{
	return counts->inserted + counts->updated + counts->deleted;
}

extern MergeCounts merge_write(Relation relation, MergeDiff *diff,
							   Snapshot snapshot);

#endif							/* MERGE_WRITE_H */
