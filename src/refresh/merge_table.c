/*-------------------------------------------------------------------------
 *
 * merge_table.c
 *	  The old rows of a merge, found by their hashes.
 *
 * An entry has the hash of a row and its TID, or, in a batch, the row itself.
 * Finding an entry claims it, so that it is not found again.  A claimed entry
 * is removed from its chain when the chain is next walked, so that many equal
 * rows take no more time than others.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "src/refresh/merge_table.h"

/* The unit in which memory for rows of a batch is allocated */
#define MERGE_ARENA_SIZE	((Size) 64 * 1024)

/* How many entries we try before we look up the hash */
#define MERGE_AHEAD			4

static uint32 merge_table_expect(MergeTable *table, MergeHash hash);

/*
 * Create an empty table of up to "memory" bytes, in the current memory
 * context.
 */
MergeTable *
merge_table_create(Size memory)
{
	MergeTable *table = palloc0(sizeof(MergeTable));

	table->context = AllocSetContextCreate(CurrentMemoryContext,
										   "merge table",
										   ALLOCSET_DEFAULT_SIZES);
	table->memory = memory;
	return table;
}

/*
 * Remove all entries.
 */
void
merge_table_reset(MergeTable *table)
{
	MemoryContextReset(table->context);
	table->chunks = NULL;
	table->heads = NULL;
	table->nchunks = table->nentries = 0;
	table->size = table->arena_left = 0;
}

/*
 * Allocate memory for a row of a batch.  The size must be MAXALIGNed.  We
 * take it from larger pieces, so that none is wasted between the rows.
 */
void *
merge_table_alloc(MergeTable *table, Size size)
{
	char	   *row;

	if (size > table->arena_left)
	{
		table->arena_left = Max(size, MERGE_ARENA_SIZE);
		table->arena = MemoryContextAllocHuge(table->context,
											  table->arena_left);
	}
	row = table->arena;
	table->arena += size;
	table->arena_left -= size;
	return row;
}

/*
 * Add an entry, without linking it.  Returns false if there is no room for it
 * and for "row_size" bytes of its row.
 */
bool
merge_table_add(MergeTable *table, const MergeEntry *entry, Size row_size)
{
	uint32		chunk = table->nentries >> MERGE_ENTRIES_BITS;
	Size		size = sizeof(MergeEntry) + 2 * sizeof(uint32) + row_size;

	if (table->nentries > 0 &&
		(table->size + size > table->memory ||
		 table->nentries == MERGE_NO_ENTRY - 1))
		return false;
	table->size += size;
	if (chunk == table->nchunks)
	{
		uint32		wanted = Max(2 * table->nchunks, 64);
		MergeEntry **chunks = MemoryContextAllocZero(table->context,
													 wanted * sizeof(MergeEntry *));

		if (table->chunks != NULL)
		{
			memcpy(chunks, table->chunks, table->nchunks * sizeof(MergeEntry *));
			pfree(table->chunks);
		}
		table->chunks = chunks;
		table->nchunks = wanted;
	}
	if (table->chunks[chunk] == NULL)
		table->chunks[chunk] = MemoryContextAlloc(table->context,
												  MERGE_ENTRIES *
												  sizeof(MergeEntry));
	*merge_entry(table, table->nentries++) = *entry;
	return true;
}

/*
 * Link the entries into chains, so that those that were added first are found
 * first.
 */
void
merge_table_link(MergeTable *table)
{
	uint32		nheads = 1024;

	while (nheads < table->nentries && nheads < (1U << 31))
		nheads *= 2;
	table->mask = nheads - 1;
	table->heads = MemoryContextAllocHuge(table->context,
										  nheads * sizeof(uint32));
	memset(table->heads, 0xff, nheads * sizeof(uint32));
	for (uint32 i = table->nentries; i-- > 0;)
	{
		MergeEntry *entry = merge_entry(table, i);
		uint32	   *head = &table->heads[(uint32) entry->hash & table->mask];

		CHECK_FOR_INTERRUPTS();
		entry->next = *head;
		entry->linked = true;
		*head = i;
	}
	table->expected[0] = table->expected[1] = 0;
}

/*
 * Find an old row that may be paired with a new one of this hash, and claim
 * it, so that no other new row finds it.  Returns MERGE_NO_ENTRY if there is
 * none.
 */
uint32
merge_table_find(MergeTable *table, MergeHash hash)
{
	uint32		found = merge_table_expect(table, hash);
	uint32	   *link = NULL;

	if (found == MERGE_NO_ENTRY)
	{
		link = merge_table_chain(table, hash);
		while (link != NULL && merge_entry(table, *link)->hash != hash)
			link = merge_table_skip(table, &merge_entry(table, *link)->next);
		if (link == NULL)
			return MERGE_NO_ENTRY;
		found = *link;
		table->expected[1] = table->expected[0];
	}
	merge_entry(table, found)->claimed = true;
	table->expected[0] = found + 1;
	return found;
}

/*
 * Rows usually come in the order in which they are stored.  Then the next one
 * is among the first after the last one found, or, if that was out of order,
 * after the one before it.
 */
static uint32
merge_table_expect(MergeTable *table, MergeHash hash)
{
	for (int i = 0; i < (int) lengthof(table->expected); i++)
	{
		uint32		first = table->expected[i];
		uint32		end = Min(first + MERGE_AHEAD, table->nentries);

		for (uint32 number = first; number < end; number++)
		{
			MergeEntry *entry = merge_entry(table, number);

			if (entry->hash != hash || entry->claimed)
				continue;
			if (i > 0)
				table->expected[1] = table->expected[0];
			return number;
		}
	}
	return MERGE_NO_ENTRY;
}

/*
 * Find the first link to an unclaimed entry, starting at this link.  Returns
 * NULL if there is none.  Claimed entries on the way are removed from the
 * chain.
 */
uint32 *
merge_table_skip(MergeTable *table, uint32 *link)
{
	while (*link != MERGE_NO_ENTRY)
	{
		MergeEntry *entry = merge_entry(table, *link);

		if (!entry->claimed)
			return link;
		entry->linked = false;
		*link = entry->next;
	}
	return NULL;
}

/*
 * Release a claimed entry, so that it may be found again.
 */
void
merge_table_return(MergeTable *table, uint32 number)
{
	MergeEntry *entry = merge_entry(table, number);

	entry->claimed = false;
	if (!entry->linked)
	{
		uint32	   *head = &table->heads[(uint32) entry->hash & table->mask];

		entry->next = *head;
		entry->linked = true;
		*head = number;
	}
}

/*
 * The first link to an unclaimed entry in the chain of this hash; NULL if
 * there is none.
 */
uint32 *
merge_table_chain(MergeTable *table, MergeHash hash)
{
	return merge_table_skip(table, &table->heads[(uint32) hash & table->mask]);
}
