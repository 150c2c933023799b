/*-------------------------------------------------------------------------
 *
 * admit.c
 *	  Rows that others than we write to the tables of the extension.
 *
 * A trigger looks at each row before it is written.  Our own rows pass.
 *
 * A row of a dump takes the place of ours with the same key.  The restore of
 * a dump begins with CREATE EXTENSION.  If the database is served, a worker
 * starts at once, and has written rows before those of the dump come.
 *
 * Rows that logical replication brings from another server are dropped.  They
 * are about the refreshes of that server, and their numbers would collide
 * with our own.  (Replicated changes may also start a refresh here; its rows
 * are our own.)
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

#include "src/common/guarded.h"
#include "src/record/told.h"

#define ADMIT_MAX_KEYS	2

/* A table's key, and what deletes the row that has it */
typedef struct AdmitTable
{
	const char *keys[ADMIT_MAX_KEYS];	/* columns, in the order of arguments */
	GuardedStatement delete;
} AdmitTable;

static const Oid admit_types[ADMIT_MAX_KEYS] = {TEXTOID, INT8OID};

static AdmitTable admit_tables[GUARDED_NTABLES] = {
	[GUARDED_HISTORY] = {
		.keys = {"view", "id"},
		.delete = {
			.sql = "DELETE FROM ONLY bigbrotr_refresher.history AS h"
			" WHERE h.view OPERATOR(pg_catalog.=) $1"
			" AND h.id OPERATOR(pg_catalog.=) $2",
			.nargs = 2,
			.types = admit_types,
			.expected = SPI_OK_DELETE,
		},
	},
	[GUARDED_VIEW_STATE] = {
		.keys = {"view"},
		.delete = {
			.sql = "DELETE FROM ONLY bigbrotr_refresher.view_state AS s"
			" WHERE s.view OPERATOR(pg_catalog.=) $1",
			.nargs = 1,
			.types = admit_types,
			.expected = SPI_OK_DELETE,
		},
	},
	[GUARDED_WINDOWS] = {
		.keys = {"target"},
		.delete = {
			.sql = "DELETE FROM ONLY bigbrotr_refresher.windows AS w"
			" WHERE w.target OPERATOR(pg_catalog.=) $1",
			.nargs = 1,
			.types = admit_types,
			.expected = SPI_OK_DELETE,
		},
	},
};

static void admit_insert(const TriggerData *data);
static void admit_delete(AdmitTable *table, HeapTuple row, TupleDesc desc);

PG_FUNCTION_INFO_V1(bigbrotr_refresher_admit_row);

/*
 * Trigger of the tables, before each row is written.
 */
Datum
bigbrotr_refresher_admit_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be used as a trigger before each row")));
	if (!guarded_is_running())
	{
		if (IsLogicalWorker())
			return PointerGetDatum(NULL);
		if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
			admit_insert(data);
	}
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return PointerGetDatum(data->tg_newtuple);
	return PointerGetDatum(data->tg_trigtuple);
}

/*
 * Somebody else inserts a row: delete the one that has its key, with the
 * rights of the current user.
 *
 * We must see the rows of all who are writing now, and nobody must write one
 * between our row and the next.  So we wait for them, and keep them waiting
 * until the transaction ends.
 */
static void
admit_insert(const TriggerData *data)
{
	Relation	relation = data->tg_relation;
	GuardedTable table = guarded_find(RelationGetRelid(relation));

	if (table == GUARDED_NTABLES)
		return;
	LockRelationOid(RelationGetRelid(relation), ShareRowExclusiveLock);
	admit_delete(&admit_tables[table], data->tg_trigtuple,
				 RelationGetDescr(relation));

	/* The worker knows another state of the view. */
	if (table == GUARDED_VIEW_STATE)
		told_at_commit(TOLD_VIEWS);
}

/*
 * Delete the row that has the key of this one.
 */
static void
admit_delete(AdmitTable *table, HeapTuple row, TupleDesc desc)
{
	Datum		values[ADMIT_MAX_KEYS];
	char		nulls[ADMIT_MAX_KEYS];

	for (int i = 0; i < table->delete.nargs; i++)
	{
		bool		isnull;

		values[i] = SPI_getbinval(row, desc,
								  SPI_fnumber(desc, table->keys[i]), &isnull);
		nulls[i] = isnull ? 'n' : ' ';
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	guarded_execute(&table->delete, values, nulls, false);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
}
