/*-------------------------------------------------------------------------
 *
 * merge_write.c
 *	  The difference, written to a materialized view.
 *
 * All deletes come first, then updates in place, then inserts: so a row can
 * take the value of a unique column that another row gives up.  Index entries
 * are made as the executor makes them, outside of a plan (the server's
 * execReplication.c does the same).
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/rel.h"

#include "src/common/compat.h"
#include "src/refresh/merge_write.h"

/* What rows are written with */
typedef struct MergeWriter
{
	Relation	relation;
	Snapshot	snapshot;
	EState	   *estate;
	ResultRelInfo *indexes;
	TupleTableSlot *slot;
	TupleTableSlot *old_slot;	/* rows as they were, and with the new values */
	TupleTableSlot *new_slot;
} MergeWriter;

static int64 merge_write_deletes(MergeWriter *writer, MergeFile *rows);
static int64 merge_write_updates(MergeWriter *writer, MergeFile *rows);
static TupleTableSlot *merge_keep_values(MergeWriter *writer,
										 ItemPointer tid);
static int64 merge_write_inserts(MergeWriter *writer, MergeFile *rows);

/*
 * Write what is to be deleted, updated and inserted, and return how much that
 * was.
 *
 * The relation is locked such that nobody else writes to it, and the snapshot
 * is that in which its rows were compared.  Index expressions run, so the
 * caller must have taken the owner's rights.
 */
MergeCounts
merge_write(Relation relation, MergeDiff *diff, Snapshot snapshot)
{
	MergeWriter writer = {0};
	MergeCounts counts;

	writer.relation = relation;
	writer.snapshot = snapshot;
	writer.estate = CreateExecutorState();
	writer.indexes = makeNode(ResultRelInfo);
	InitResultRelInfo(writer.indexes, relation, 0, NULL, 0);
	ExecOpenIndices(writer.indexes, false);
	writer.slot = MakeSingleTupleTableSlot(RelationGetDescr(relation),
										   &TTSOpsMinimalTuple);
	writer.old_slot = table_slot_create(relation, NULL);
	writer.new_slot = MakeSingleTupleTableSlot(RelationGetDescr(relation),
											   &TTSOpsVirtual);

	counts.deleted = merge_write_deletes(&writer, merge_diff_deletes(diff));
	counts.updated = merge_write_updates(&writer, merge_diff_updates(diff));
	counts.inserted = merge_write_inserts(&writer, merge_diff_inserts(diff));

	ExecDropSingleTupleTableSlot(writer.slot);
	ExecDropSingleTupleTableSlot(writer.old_slot);
	ExecDropSingleTupleTableSlot(writer.new_slot);
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

static int64
merge_write_updates(MergeWriter *writer, MergeFile *rows)
{
	MemoryContext caller;
	int64		count = 0;
	MergeRow	row;

	while (merge_file_get(rows, &row))
	{
		CHECK_FOR_INTERRUPTS();
		caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));
		ExecStoreMinimalTuple(row.tuple, writer->slot, false);
		compat_update(writer->relation, &row.tid,
					  merge_keep_values(writer, &row.tid),
					  writer->snapshot, writer->indexes, writer->estate);
		MemoryContextSwitchTo(caller);
		ExecClearTuple(writer->new_slot);
		ResetPerTupleExprContext(writer->estate);
		count++;
	}
	merge_file_close(rows);
	return count;
}

/*
 * The new row, with those values of the old one that are stored out of line and
 * have not changed: these need not be written again.
 */
static TupleTableSlot *
merge_keep_values(MergeWriter *writer, ItemPointer tid)
{
	TupleTableSlot *old = writer->old_slot;
	TupleTableSlot *new = writer->new_slot;
	TupleDesc	desc = new->tts_tupleDescriptor;
	bool		kept = false;

	if (!OidIsValid(writer->relation->rd_rel->reltoastrelid) ||
		!table_tuple_fetch_row_version(writer->relation, tid,
									   writer->snapshot, old))
		return writer->slot;
	slot_getallattrs(old);
	slot_getallattrs(writer->slot);
	ExecClearTuple(new);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		new->tts_values[i] = writer->slot->tts_values[i];
		new->tts_isnull[i] = writer->slot->tts_isnull[i];
		if (attribute->attlen == -1 && !old->tts_isnull[i] &&
			!new->tts_isnull[i] &&
			VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(old->tts_values[i])) &&
			datum_image_eq(old->tts_values[i], new->tts_values[i], false, -1))
		{
			new->tts_values[i] = old->tts_values[i];
			kept = true;
		}
	}
	ExecStoreVirtualTuple(new);
	return kept ? new : writer->slot;
}

static int64
merge_write_inserts(MergeWriter *writer, MergeFile *rows)
{
	BulkInsertState bulk = GetBulkInsertState();
	CommandId	command = GetCurrentCommandId(true);
	int64		count = 0;
	MergeRow	row;

	while (merge_file_get(rows, &row))
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(row.tuple, writer->slot, false);
		table_tuple_insert(writer->relation, writer->slot, command, 0, bulk);
		if (writer->indexes->ri_NumIndices > 0)
			compat_insert_index_entries(writer->indexes, writer->slot,
										writer->estate);
		ResetPerTupleExprContext(writer->estate);
		count++;
	}
	FreeBulkInsertState(bulk);
	merge_file_close(rows);
	return count;
}
