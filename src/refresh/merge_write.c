/*-------------------------------------------------------------------------
 *
 * merge_write.c
 *	  The difference, written to a materialized view.
 *
 * All deletes come first, then updates in place, then inserts, so that a row
 * can take the value of a unique column that another row gives up.  If the
 * page of an updated row has no room for it, we delete and insert it, too.
 * We insert index entries with the executor's functions, outside of a plan,
 * as the server's execReplication.c does.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "utils/rel.h"

#include "src/common/compat.h"
#include "src/refresh/merge_write.h"

/* Limits for the rows inserted at a time */
#define MERGE_MOST_SLOTS	500
#define MERGE_MOST_BYTES	((Size) 64 * 1024)

/* The state of writing */
typedef struct MergeWriter
{
	Relation	relation;
	Snapshot	snapshot;
	EState	   *estate;
	ResultRelInfo *indexes;
	TupleDesc	desc;			/* a copy, since counting references takes
								 * time */
	Buffer		buffer;			/* of the row that was last updated */
	TupleTableSlot *slot;
	TupleTableSlot *slots[MERGE_MOST_SLOTS];	/* to be inserted */
} MergeWriter;

static int64 merge_write_deletes(MergeWriter *writer, MergeFile *rows);
static int64 merge_write_updates(MergeWriter *writer, MergeFile *rows,
								 MergeFile *moved);
static bool merge_stays(MergeWriter *writer, const MergeRow *row);
static int64 merge_write_inserts(MergeWriter *writer, MergeFile *rows);
static void merge_insert_slots(MergeWriter *writer, int nslots);

/*
 * Write the deletes, updates and inserts, and return how many they were.
 *
 * The relation must be locked so that nobody else writes to it, and the
 * snapshot must be the one in which its rows were compared.  Index
 * expressions run, so the caller must act as the owner.
 */
MergeCounts
merge_write(Relation relation, MergeDiff *diff, Snapshot snapshot)
{
	MergeWriter writer = {0};
	MergeFile  *moved;
	MergeCounts counts;

	writer.relation = relation;
	writer.snapshot = snapshot;
	writer.estate = CreateExecutorState();
	writer.indexes = makeNode(ResultRelInfo);
	InitResultRelInfo(writer.indexes, relation, 0, NULL, 0);
	ExecOpenIndices(writer.indexes, false);
	writer.slot = MakeSingleTupleTableSlot(RelationGetDescr(relation),
										   &TTSOpsMinimalTuple);
	writer.desc = CreateTupleDescCopy(RelationGetDescr(relation));
	moved = merge_file_create((Size) maintenance_work_mem * 1024 / 2);

	counts.deleted = merge_write_deletes(&writer, merge_diff_deletes(diff));
	counts.updated = merge_write_updates(&writer, merge_diff_updates(diff),
										 moved);
	merge_file_rewind(moved);
	(void) merge_write_inserts(&writer, moved);
	counts.inserted = merge_write_inserts(&writer, merge_diff_inserts(diff));

	ExecDropSingleTupleTableSlot(writer.slot);
	for (int i = 0; i < MERGE_MOST_SLOTS && writer.slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(writer.slots[i]);
	ExecCloseIndices(writer.indexes);
	FreeExecutorState(writer.estate);
	return counts;
}

static int64
merge_write_deletes(MergeWriter *writer, MergeFile *rows)
{
	int64		count = 0;
	MergeRow	row;

	while (merge_file_get(rows, &row))
	{
		CHECK_FOR_INTERRUPTS();
		simple_table_tuple_delete(writer->relation, &row.tid,
								  writer->snapshot);
		count++;
	}
	merge_file_close(rows);
	return count;
}

/*
 * Update rows.  Those whose page has no room for them are deleted and
 * appended to *moved, to be inserted elsewhere.
 *
 * That costs less than an update that leaves the page, and pages keep their
 * room for updates that can stay on them, which usually need no index
 * entries.
 */
static int64
merge_write_updates(MergeWriter *writer, MergeFile *rows, MergeFile *moved)
{
	int64		count = 0;
	MergeRow	row;

	while (merge_file_get(rows, &row))
	{
		CHECK_FOR_INTERRUPTS();
		if (merge_stays(writer, &row))
		{
			MemoryContext caller =
				MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));

			ExecStoreMinimalTuple(row.tuple, writer->slot, false);
			compat_update(writer->relation, &row.tid, writer->slot,
						  writer->snapshot, writer->indexes, writer->estate);
			MemoryContextSwitchTo(caller);
			ResetPerTupleExprContext(writer->estate);
		}
		else
		{
			simple_table_tuple_delete(writer->relation, &row.tid,
									  writer->snapshot);
			merge_file_put(moved, &row);
		}
		count++;
	}
	if (BufferIsValid(writer->buffer))
		ReleaseBuffer(writer->buffer);
	merge_file_close(rows);
	return count;
}

/*
 * Should a row be updated, rather than deleted and inserted?  Also if it has
 * values that are stored out of line, since only an update keeps them.
 */
static bool
merge_stays(MergeWriter *writer, const MergeRow *row)
{
	Size		size = row->tuple->t_len + MINIMAL_TUPLE_OFFSET;
	Size		room;

	if ((row->tuple->t_infomask & HEAP_HASEXTERNAL) != 0 ||
		size > TOAST_TUPLE_THRESHOLD)
		return true;
	writer->buffer = ReleaseAndReadBuffer(writer->buffer, writer->relation,
										  ItemPointerGetBlockNumber(&row->tid));
	LockBuffer(writer->buffer, BUFFER_LOCK_SHARE);
	room = PageGetHeapFreeSpace(BufferGetPage(writer->buffer));
	LockBuffer(writer->buffer, BUFFER_LOCK_UNLOCK);
	return MAXALIGN(size) <= room;
}

/*
 * Insert rows, some pages of them at a time.
 */
static int64
merge_write_inserts(MergeWriter *writer, MergeFile *rows)
{
	int64		count = 0;
	MergeRow	row;
	int			nslots = 0;
	Size		size = 0;

	while (merge_file_get(rows, &row))
	{
		CHECK_FOR_INTERRUPTS();
		if (writer->slots[nslots] == NULL)
			writer->slots[nslots] =
				MakeSingleTupleTableSlot(writer->desc, &TTSOpsHeapTuple);
		ExecStoreMinimalTuple(row.tuple, writer->slot, false);
		ExecCopySlot(writer->slots[nslots++], writer->slot);
		size += row.tuple->t_len;
		if (nslots == MERGE_MOST_SLOTS || size > MERGE_MOST_BYTES)
		{
			merge_insert_slots(writer, nslots);
			nslots = 0;
			size = 0;
		}
		count++;
	}
	merge_insert_slots(writer, nslots);
	merge_file_close(rows);
	return count;
}

static void
merge_insert_slots(MergeWriter *writer, int nslots)
{
	MemoryContext caller =
		MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));

	if (nslots > 0)
		table_multi_insert(writer->relation, writer->slots, nslots,
						   GetCurrentCommandId(true), 0, NULL);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < nslots; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (writer->indexes->ri_NumIndices > 0)
			compat_insert_index_entries(writer->indexes, writer->slots[i],
										writer->estate);
		ResetPerTupleExprContext(writer->estate);
		ExecClearTuple(writer->slots[i]);
	}
}
