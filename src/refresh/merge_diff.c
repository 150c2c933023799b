/*-------------------------------------------------------------------------
 *
 * merge_diff.c
 *	  From old and new rows to what to delete, update and insert.
 *
 * We read the old rows into a hash table: only their hashes and TIDs, not the
 * rows themselves.  For each new row we look for an old one that it can be
 * paired with.  A hash only finds candidates; the old row itself is always
 * compared.  Reading old rows one by one in the order of the query would be
 * slow, so we gather some megabytes of new rows with their candidates, and
 * compare them in the order of the old rows' pages.
 *
 * If the hash table would need more memory than it may have, we divide both
 * sides by their hashes into batches in temporary files, as a hash join does.
 * A batch keeps whole old rows, since they would have to be read at random
 * otherwise.  If the old rows of a batch do not fit into memory, we compare
 * it in several passes: new rows without a partner among the first old rows
 * are compared with the next ones.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "src/refresh/merge_diff.h"
#include "src/refresh/merge_table.h"

/* Shares of the memory: the table, gathered rows, each of three results */
#define MERGE_TABLE_SHARE(memory)	((memory) / 8 * 5)
#define MERGE_GATHER_SHARE(memory)	((memory) / 8)
#define MERGE_RESULT_SHARE(memory)	((memory) / 16)

/* Gathering more rows than this gains nothing, in bytes */
#define MERGE_MOST_GATHERED	((Size) 8 * 1024 * 1024)

/* Each batch has two temporary files, each with a buffer of 8 kB and more */
#define MERGE_BATCH_OVERHEAD	((Size) 32 * 1024)
#define MERGE_MOST_BATCHES		1024

/* A new row with the old one that it may be paired with */
typedef struct MergeCandidate
{
	uint32		entry;
	ItemPointerData tid;		/* of the old one */
	MergeHash	hash;
	MinimalTuple new;
} MergeCandidate;

struct MergeDiff
{
	Relation	relation;
	const MergeShape *shape;
	Snapshot	snapshot;
	Size		memory;
	MemoryContext context;		/* for what lives as long as this */
	MemoryContext row_context;	/* reset for each row */
	TupleTableSlot *old_slot;	/* rows of the relation */
	TupleTableSlot *old_copy_slot;	/* rows of a batch */
	TupleTableSlot *new_slot;
	TupleTableSlot *kept_slot;	/* new rows with values of old ones */

	MergeTable *table;
	BlockNumber last_blocks[2]; /* of the old rows that were found last */

	/* Gathered new rows, to be compared */
	MemoryContext gather_context;
	MergeCandidate *candidates;
	int			ncandidates;
	int			maxcandidates;
	Size		gathered;		/* bytes */

	/* Batches; none if all old rows fit into memory */
	int			nbatches;
	MergeFile **old_batches;
	MergeFile **new_batches;

	MergeFile  *deletes;
	MergeFile  *updates;
	MergeFile  *inserts;
};

static void merge_diff_start_batches(MergeDiff *diff);
static int	merge_diff_batch(const MergeDiff *diff, MergeHash hash);
static bool merge_diff_is_near(MergeDiff *diff, uint32 number);
static void merge_diff_gather(MergeDiff *diff, uint32 number, MergeHash hash,
							  TupleTableSlot *slot);
static void merge_diff_compare_gathered(MergeDiff *diff);
static int	merge_compare_candidates(const void *a, const void *b);
static void merge_diff_fetch(MergeDiff *diff, ItemPointer tid);
static MinimalTuple merge_diff_form_update(MergeDiff *diff,
										   TupleTableSlot *old,
										   TupleTableSlot *new);
static bool merge_diff_pair(MergeDiff *diff, MergeEntry *entry,
							MergeHash hash, TupleTableSlot *new);
static bool merge_diff_search(MergeDiff *diff, MergeHash hash,
							  TupleTableSlot *new);
static void merge_diff_insert(MergeDiff *diff, MergeFile *file,
							  MergeHash hash, TupleTableSlot *new);
static void merge_diff_finish_batch(MergeDiff *diff, int batch);
static bool merge_diff_load(MergeDiff *diff, MergeFile *file, MergeRow *ahead,
							bool *is_ahead);
static void merge_diff_delete_unpaired(MergeDiff *diff);

/*
 * Begin to compare the rows that a relation has in a snapshot with new ones.
 *
 * "memory" is in bytes.  Everything is allocated in the current memory
 * context.  The caller must keep the relation and the snapshot until the end.
 */
MergeDiff *
merge_diff_create(Relation relation, const MergeShape *shape,
				  Snapshot snapshot, Size memory)
{
	MergeDiff  *diff = palloc0(sizeof(MergeDiff));

	diff->relation = relation;
	diff->shape = shape;
	diff->snapshot = snapshot;
	diff->last_blocks[0] = diff->last_blocks[1] = InvalidBlockNumber - 1;
	diff->memory = memory;
	diff->context = CurrentMemoryContext;
	diff->row_context = AllocSetContextCreate(CurrentMemoryContext,
											  "merge row",
											  ALLOCSET_DEFAULT_SIZES);
	diff->table = merge_table_create(MERGE_TABLE_SHARE(memory));
	diff->gather_context = GenerationContextCreate(CurrentMemoryContext,
												   "merge gathered rows",
												   ALLOCSET_DEFAULT_SIZES);
	diff->old_slot = table_slot_create(relation, NULL);
	diff->old_copy_slot = MakeSingleTupleTableSlot(shape->desc,
												   &TTSOpsMinimalTuple);
	diff->new_slot = MakeSingleTupleTableSlot(shape->desc,
											  &TTSOpsMinimalTuple);
	diff->kept_slot = MakeSingleTupleTableSlot(shape->desc, &TTSOpsVirtual);
	diff->deletes = merge_file_create(MERGE_RESULT_SHARE(memory));
	diff->updates = merge_file_create(MERGE_RESULT_SHARE(memory));
	diff->inserts = merge_file_create(MERGE_RESULT_SHARE(memory));
	return diff;
}

/*
 * Read the old rows: into the table if they fit, else into batches.
 */
void
merge_diff_read_old(MergeDiff *diff, MergeOldReader reader, void *arg)
{
	merge_table_reset(diff->table);
	if (reader(diff, arg))
	{
		merge_table_link(diff->table);
		return;
	}
	merge_table_reset(diff->table);
	merge_diff_start_batches(diff);
	(void) reader(diff, arg);
}

/*
 * Add an old row, given in a slot of the relation.  Returns false if the
 * table has no room for it.
 */
bool
merge_diff_add_old(MergeDiff *diff, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(diff->row_context);
	MergeHash	hash = merge_hash(diff->shape, slot);
	bool		fits = true;

	CHECK_FOR_INTERRUPTS();
	if (diff->nbatches == 0)
	{
		MergeEntry	entry = {0};

		entry.hash = hash;
		entry.old.tid = slot->tts_tid;
		fits = merge_table_add(diff->table, &entry, 0);
	}
	else
	{
		MergeRow	row;

		row.hash = hash;
		row.tid = slot->tts_tid;
		row.tuple = ExecCopySlotMinimalTuple(slot);
		merge_file_put(diff->old_batches[merge_diff_batch(diff, hash)], &row);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(diff->row_context);
	return fits;
}

/*
 * Create enough batches for the old rows of each to fit into memory, if
 * possible.
 */
static void
merge_diff_start_batches(MergeDiff *diff)
{
	Size		most = Max(diff->memory / 4 / MERGE_BATCH_OVERHEAD, 2);
	Size		size = (Size) RelationGetNumberOfBlocks(diff->relation) *
		BLCKSZ;
	Size		wanted = 2 * size / MERGE_TABLE_SHARE(diff->memory) + 2;

	diff->nbatches = (int) Min(Min(wanted, most), MERGE_MOST_BATCHES);
	diff->old_batches = palloc(diff->nbatches * sizeof(MergeFile *));
	diff->new_batches = palloc(diff->nbatches * sizeof(MergeFile *));
	for (int i = 0; i < diff->nbatches; i++)
	{
		diff->old_batches[i] = merge_file_create(0);
		diff->new_batches[i] = merge_file_create(0);
	}
}

/*
 * Choose a batch by other bits than those that choose the chain.
 */
static int
merge_diff_batch(const MergeDiff *diff, MergeHash hash)
{
	return (int) ((hash >> 32) * diff->nbatches >> 32);
}

/*
 * Add a new row: pair or insert it at once, gather it to be compared later, or
 * put it into a batch.
 */
void
merge_diff_add_new(MergeDiff *diff, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(diff->row_context);
	MergeHash	hash = merge_hash(diff->shape, slot);
	uint32		number;

	if (diff->nbatches > 0)
		merge_diff_insert(diff,
						  diff->new_batches[merge_diff_batch(diff, hash)],
						  hash, slot);
	else if ((number = merge_table_find(diff->table, hash)) == MERGE_NO_ENTRY)
		merge_diff_insert(diff, diff->inserts, hash, slot);
	else if (!merge_diff_is_near(diff, number))
		merge_diff_gather(diff, number, hash, slot);
	else if (!merge_diff_pair(diff, merge_entry(diff->table, number), hash, slot))
	{
		merge_table_return(diff->table, number);
		if (!merge_diff_search(diff, hash, slot))
			merge_diff_insert(diff, diff->inserts, hash, slot);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(diff->row_context);
}

/*
 * If the query returns rows in the order in which they are stored, we need
 * not gather them: the old row is on the page that was read last, or on the
 * next one.  (Or near the page that was read before, if the last row was out
 * of order.)
 */
static bool
merge_diff_is_near(MergeDiff *diff, uint32 number)
{
	BlockNumber block =
		ItemPointerGetBlockNumber(&merge_entry(diff->table, number)->old.tid);
	BlockNumber *last = diff->last_blocks;
	bool		near = block == last[0] || block == last[0] + 1;

	if (!near)
	{
		near = block == last[1] || block == last[1] + 1;
		last[1] = last[0];
	}
	last[0] = block;
	return near;
}

static void
merge_diff_insert(MergeDiff *diff, MergeFile *file, MergeHash hash,
				  TupleTableSlot *new)
{
	MemoryContext caller = MemoryContextSwitchTo(diff->row_context);
	MergeRow	row;

	row.hash = hash;
	ItemPointerSetInvalid(&row.tid);
	row.tuple = ExecCopySlotMinimalTuple(new);
	merge_file_put(file, &row);
	MemoryContextSwitchTo(caller);
}

static void
merge_diff_gather(MergeDiff *diff, uint32 number, MergeHash hash,
				  TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(diff->gather_context);
	MergeCandidate *candidate;

	if (diff->ncandidates == diff->maxcandidates)
	{
		diff->maxcandidates = Max(2 * diff->maxcandidates, 1024);
		if (diff->candidates == NULL)
			diff->candidates = MemoryContextAlloc(diff->context,
												  diff->maxcandidates *
												  sizeof(MergeCandidate));
		else
			diff->candidates = repalloc_huge(diff->candidates,
											 diff->maxcandidates *
											 sizeof(MergeCandidate));
	}
	candidate = &diff->candidates[diff->ncandidates++];
	candidate->entry = number;
	candidate->tid = merge_entry(diff->table, number)->old.tid;
	candidate->hash = hash;
	candidate->new = ExecCopySlotMinimalTuple(slot);
	diff->gathered += sizeof(MergeCandidate) + candidate->new->t_len + 32;
	MemoryContextSwitchTo(caller);

	if (diff->gathered > Min(MERGE_GATHER_SHARE(diff->memory),
							 MERGE_MOST_GATHERED))
		merge_diff_compare_gathered(diff);
}

/*
 * Compare the gathered rows, page by page of the old rows.
 *
 * The few candidates whose hashes matched only by chance come last: by then
 * the old rows that they had claimed can be found again.
 */
static void
merge_diff_compare_gathered(MergeDiff *diff)
{
	int			nothers = 0;

	qsort(diff->candidates, diff->ncandidates, sizeof(MergeCandidate),
		  merge_compare_candidates);
	for (int i = 0; i < diff->ncandidates; i++)
	{
		MergeCandidate *candidate = &diff->candidates[i];
		MergeEntry *entry = merge_entry(diff->table, candidate->entry);

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(candidate->new, diff->new_slot, false);
		if (!merge_diff_pair(diff, entry, candidate->hash, diff->new_slot))
		{
			merge_table_return(diff->table, candidate->entry);
			diff->candidates[nothers++] = *candidate;
		}
		MemoryContextReset(diff->row_context);
	}
	for (int i = 0; i < nothers; i++)
	{
		MergeCandidate *candidate = &diff->candidates[i];

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(candidate->new, diff->new_slot, false);
		if (!merge_diff_search(diff, candidate->hash, diff->new_slot))
			merge_diff_insert(diff, diff->inserts, candidate->hash,
							  diff->new_slot);
		MemoryContextReset(diff->row_context);
	}
	ExecClearTuple(diff->old_slot);
	ExecClearTuple(diff->new_slot);
	MemoryContextReset(diff->gather_context);
	diff->ncandidates = 0;
	diff->gathered = 0;
}

static int
merge_compare_candidates(const void *a, const void *b)
{
	const ItemPointerData *left = &((const MergeCandidate *) a)->tid;
	const ItemPointerData *right = &((const MergeCandidate *) b)->tid;
	BlockNumber left_block = ItemPointerGetBlockNumber(left);
	BlockNumber right_block = ItemPointerGetBlockNumber(right);

	if (left_block != right_block)
		return left_block < right_block ? -1 : 1;
	return (int) ItemPointerGetOffsetNumber(left) -
		(int) ItemPointerGetOffsetNumber(right);
}

/*
 * Pair an old row with a new one, if the rows themselves match.  Returns
 * false if they do not.
 */
static bool
merge_diff_pair(MergeDiff *diff, MergeEntry *entry, MergeHash hash,
				TupleTableSlot *new)
{
	MemoryContext caller = MemoryContextSwitchTo(diff->row_context);
	TupleTableSlot *old = diff->old_slot;
	MergeRow	row;
	MergeMatch	match;

	row.hash = hash;
	if (diff->nbatches > 0)
	{
		old = diff->old_copy_slot;
		row.tid = entry->old.row->tid;
		ExecStoreMinimalTuple(MERGE_OLD_TUPLE(entry->old.row), old, false);
	}
	else
	{
		row.tid = entry->old.tid;
		merge_diff_fetch(diff, &row.tid);
	}
	match = merge_compare(diff->shape, old, new);
	entry->paired = match == MERGE_SAME || match == MERGE_CHANGED;
	if (match == MERGE_CHANGED)
	{
		row.tuple = merge_diff_form_update(diff, old, new);
		merge_file_put(diff->updates, &row);
	}
	else if (match == MERGE_REPLACED)
		merge_diff_insert(diff, diff->inserts, hash, new);
	MemoryContextSwitchTo(caller);
	return match != MERGE_NO_PAIR;
}

/*
 * Fetch an old row.
 *
 * It was visible when the old rows were read, and the lock keeps all others
 * from writing, so it is still there.  Until its page is pinned, the page may
 * be pruned, which moves rows within it.  The slot keeps the page pinned, so
 * that the next row of the same page is available at once.
 */
static void
merge_diff_fetch(MergeDiff *diff, ItemPointer tid)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) diff->old_slot;
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumber(tid);
	Buffer		buffer = slot->buffer;
	bool		pinned = BufferIsValid(buffer) &&
		BufferGetBlockNumber(buffer) == block;
	HeapTuple	tuple = &slot->base.tupdata;
	Page		page;
	ItemId		item;

	if (!pinned)
	{
		buffer = ReadBuffer(diff->relation, block);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	}
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, offset);
	if (offset > PageGetMaxOffsetNumber(page) || !ItemIdIsNormal(item))
		elog(ERROR, "row (%u,%u) of relation \"%s\" has disappeared",
			 block, offset, RelationGetRelationName(diff->relation));
	tuple->t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple->t_len = ItemIdGetLength(item);
	tuple->t_self = *tid;
	tuple->t_tableOid = RelationGetRelid(diff->relation);
	if (pinned)
		ExecStoreBufferHeapTuple(tuple, &slot->base.base, buffer);
	else
		ExecStorePinnedBufferHeapTuple(tuple, &slot->base.base, buffer);
}

/*
 * Copy the new row, but take the values from the old one that are stored out
 * of line and have not changed, so that they need not be written again.
 */
static MinimalTuple
merge_diff_form_update(MergeDiff *diff, TupleTableSlot *old,
					   TupleTableSlot *new)
{
	TupleTableSlot *kept = diff->kept_slot;
	TupleDesc	desc = diff->shape->desc;
	bool		keeps = false;

	ExecClearTuple(kept);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		kept->tts_values[i] = new->tts_values[i];
		kept->tts_isnull[i] = new->tts_isnull[i];
		if (attribute->attlen == -1 && !old->tts_isnull[i] &&
			!new->tts_isnull[i] &&
			VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(old->tts_values[i])) &&
			datum_image_eq(old->tts_values[i], new->tts_values[i], false, -1))
		{
			kept->tts_values[i] = old->tts_values[i];
			keeps = true;
		}
	}
	ExecStoreVirtualTuple(kept);
	return ExecCopySlotMinimalTuple(keeps ? kept : new);
}

/*
 * Pair a new row with the first old one in its chain that matches.  Returns
 * false if there is none.
 */
static bool
merge_diff_search(MergeDiff *diff, MergeHash hash, TupleTableSlot *new)
{
	for (uint32 *link = merge_table_chain(diff->table, hash); link != NULL;)
	{
		MergeEntry *entry = merge_entry(diff->table, *link);

		CHECK_FOR_INTERRUPTS();
		if (entry->hash == hash && merge_diff_pair(diff, entry, hash, new))
		{
			entry->claimed = true;
			return true;
		}
		link = merge_table_skip(diff->table, &entry->next);
	}
	return false;
}

/*
 * Called after all new rows were added: compute the result.
 */
void
merge_diff_finish(MergeDiff *diff)
{
	if (diff->nbatches == 0)
	{
		merge_diff_compare_gathered(diff);
		merge_diff_delete_unpaired(diff);
	}
	for (int i = 0; i < diff->nbatches; i++)
		merge_diff_finish_batch(diff, i);
	merge_table_reset(diff->table);
	ExecDropSingleTupleTableSlot(diff->old_slot);
	ExecDropSingleTupleTableSlot(diff->old_copy_slot);
	ExecDropSingleTupleTableSlot(diff->new_slot);
	ExecDropSingleTupleTableSlot(diff->kept_slot);
	merge_file_rewind(diff->deletes);
	merge_file_rewind(diff->updates);
	merge_file_rewind(diff->inserts);
}

/*
 * Compare the old and the new rows of a batch, in as many passes as the old
 * ones need.
 */
static void
merge_diff_finish_batch(MergeDiff *diff, int batch)
{
	MergeFile  *old = diff->old_batches[batch];
	MergeFile  *new = diff->new_batches[batch];
	MergeRow	ahead;
	bool		more = true;
	bool		is_ahead = false;

	merge_file_rewind(old);
	while (more)
	{
		MergeFile  *rest = NULL;
		MergeRow	row;

		more = merge_diff_load(diff, old, &ahead, &is_ahead);
		if (more)
			rest = merge_file_create(0);
		merge_file_rewind(new);
		while (merge_file_get(new, &row))
		{
			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(row.tuple, diff->new_slot, false);
			if (!merge_diff_search(diff, row.hash, diff->new_slot))
				merge_file_put(more ? rest : diff->inserts, &row);
			MemoryContextReset(diff->row_context);
		}
		merge_diff_delete_unpaired(diff);
		merge_file_close(new);
		new = rest;
	}
	merge_file_close(old);
}

/*
 * Load as many old rows of a batch as fit into memory.  Returns true if some
 * are left; then *ahead is the next one.
 */
static bool
merge_diff_load(MergeDiff *diff, MergeFile *file, MergeRow *ahead,
				bool *is_ahead)
{
	bool		fits = true;

	merge_table_reset(diff->table);
	while (fits && (*is_ahead || merge_file_get(file, ahead)))
	{
		Size		size = MAXALIGN(sizeof(MergeOldRow)) +
			MAXALIGN(ahead->tuple->t_len);
		MergeEntry	entry = {0};

		CHECK_FOR_INTERRUPTS();
		*is_ahead = true;
		entry.hash = ahead->hash;
		fits = merge_table_add(diff->table, &entry, size);
		if (fits)
		{
			MergeOldRow *row = merge_table_alloc(diff->table, size);

			row->tid = ahead->tid;
			memcpy(MERGE_OLD_TUPLE(row), ahead->tuple, ahead->tuple->t_len);
			merge_entry(diff->table, diff->table->nentries - 1)->old.row = row;
			*is_ahead = false;
		}
	}
	merge_table_link(diff->table);
	return !fits;
}

/*
 * Add the old rows without a partner to those to be deleted.
 */
static void
merge_diff_delete_unpaired(MergeDiff *diff)
{
	for (uint32 i = 0; i < diff->table->nentries; i++)
	{
		MergeEntry *entry = merge_entry(diff->table, i);
		MergeRow	row;

		CHECK_FOR_INTERRUPTS();
		if (entry->paired)
			continue;
		row.hash = entry->hash;
		row.tid = diff->nbatches > 0 ? entry->old.row->tid : entry->old.tid;
		row.tuple = NULL;
		merge_file_put(diff->deletes, &row);
	}
}

MergeFile *
merge_diff_deletes(MergeDiff *diff)
{
	return diff->deletes;
}

MergeFile *
merge_diff_updates(MergeDiff *diff)
{
	return diff->updates;
}

MergeFile *
merge_diff_inserts(MergeDiff *diff)
{
	return diff->inserts;
}
