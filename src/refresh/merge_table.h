/*-------------------------------------------------------------------------
 *
 * merge_table.h
 *	  The old rows of a merge, found by their hashes.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MERGE_TABLE_H
#define MERGE_TABLE_H

#include "src/refresh/merge_rows.h"

/* Number of entries in a chunk, a power of two */
#define MERGE_ENTRIES_BITS	12
#define MERGE_ENTRIES		(1 << MERGE_ENTRIES_BITS)
#define MERGE_NO_ENTRY		PG_UINT32_MAX

/* A row of a batch, in memory */
typedef struct MergeOldRow
{
	ItemPointerData tid;
	/* MAXALIGNed minimal tuple follows */
} MergeOldRow;

#define MERGE_OLD_TUPLE(row) \
	((MinimalTuple) ((char *) (row) + MAXALIGN(sizeof(MergeOldRow))))

/* An old row in the table */
typedef struct MergeEntry
{
	MergeHash	hash;
	union
	{
		ItemPointerData tid;
		MergeOldRow *row;		/* in batches */
	}			old;
	uint32		next;			/* the next one in its chain */
	bool		linked;			/* it is in its chain */
	bool		claimed;		/* found for a new row, maybe wrongly */
	bool		paired;			/* the row stays, unchanged or updated */
} MergeEntry;

/*
 * Entries are numbered from 0 as they are added.  Those that may be found are
 * in chains, by their hashes.
 */
typedef struct MergeTable
{
	MemoryContext context;
	Size		memory;			/* the limit of "size", in bytes */
	MergeEntry **chunks;
	uint32		nchunks;		/* allocated size of the array */
	uint32		nentries;
	Size		size;			/* the memory used, in bytes */
	uint32	   *heads;
	uint32		mask;
	uint32		expected[2];	/* entries that may be found next */
	char	   *arena;			/* where the next row of a batch goes */
	Size		arena_left;
} MergeTable;

static inline MergeEntry *
merge_entry(const MergeTable *table, uint32 number)
{
	return &table->chunks[number >> MERGE_ENTRIES_BITS]
		[number & (MERGE_ENTRIES - 1)];
}

extern MergeTable *merge_table_create(Size memory);
extern void merge_table_reset(MergeTable *table);
extern bool merge_table_add(MergeTable *table, const MergeEntry *entry,
							Size row_size);
extern void *merge_table_alloc(MergeTable *table, Size size);
extern void merge_table_link(MergeTable *table);
extern uint32 merge_table_find(MergeTable *table, MergeHash hash);
extern uint32 *merge_table_chain(MergeTable *table, MergeHash hash);
extern uint32 *merge_table_skip(MergeTable *table, uint32 *link);
extern void merge_table_return(MergeTable *table, uint32 number);

#endif							/* MERGE_TABLE_H */
