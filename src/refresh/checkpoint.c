/*-------------------------------------------------------------------------
 *
 * checkpoint.c
 *	  Where the last window of a target ended: a row of the table "windows".
 *
 * The row is written in the transaction of the window, as the owner of the
 * table (see guarded.c).  It says which transaction wrote it.  From its xmin,
 * which the server sets, we can tell whether that is true.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "src/common/guarded.h"
#include "src/plan/target.h"
#include "src/refresh/checkpoint.h"

/* The row of a target, to be read or written */
typedef struct CheckpointRow
{
	const char *target;
	MemoryContext context;		/* for the results */
	Checkpoint	checkpoint;
	bool		found;			/* or written */
} CheckpointRow;

static const Oid checkpoint_types[] = {
	TEXTOID, TEXTOID, TEXTOID, XID8OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	XIDARRAYOID, TIMESTAMPTZARRAYOID
};

#define CHECKPOINT_SELECT \
	"SELECT w.kind, w.until, w.written_by, w.xmin, w.looked_at, w.prepared," \
	" w.prepared_since" \
	" FROM bigbrotr_refresher.windows AS w" \
	" WHERE w.target OPERATOR(pg_catalog.=) $1"

static GuardedStatement checkpoint_select = {
	.sql = CHECKPOINT_SELECT,
	.nargs = 1,
	.types = checkpoint_types,
	.expected = SPI_OK_SELECT,
};

static GuardedStatement checkpoint_select_for_update = {
	.sql = CHECKPOINT_SELECT " FOR UPDATE",
	.nargs = 1,
	.types = checkpoint_types,
	.expected = SPI_OK_SELECT,
};

/* How many of the first columns must not be null */
#define CHECKPOINT_NOT_NULL_COLS	4

static const GuardedColumn checkpoint_columns[] = {
	{"kind", TEXTOID},
	{"until", TEXTOID},
	{"written_by", XID8OID},
	{"xmin", XIDOID},
	{"looked_at", TIMESTAMPTZOID},
	{"prepared", XIDARRAYOID},
	{"prepared_since", TIMESTAMPTZARRAYOID}
};

#define CHECKPOINT_INSERT \
	"INSERT INTO bigbrotr_refresher.windows" \
	" (target, kind, until, written_by, folded_at, looked_at, prepared," \
	" prepared_since)" \
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"

static GuardedStatement checkpoint_insert = {
	.sql = CHECKPOINT_INSERT " ON CONFLICT DO NOTHING",
	.nargs = lengthof(checkpoint_types),
	.types = checkpoint_types,
	.expected = SPI_OK_INSERT,
};

static GuardedStatement checkpoint_upsert = {
	.sql = CHECKPOINT_INSERT " ON CONFLICT (target) DO UPDATE SET"
	" kind = excluded.kind,"
	" until = excluded.until,"
	" written_by = excluded.written_by,"
	" folded_at = excluded.folded_at,"
	" looked_at = excluded.looked_at,"
	" prepared = excluded.prepared,"
	" prepared_since = excluded.prepared_since",
	.nargs = lengthof(checkpoint_types),
	.types = checkpoint_types,
	.expected = SPI_OK_INSERT,
};

static CheckpointRow checkpoint_row(const char *target);
static void checkpoint_get(void *arg);
static void checkpoint_get_locked(void *arg);
static void checkpoint_get_row(CheckpointRow *row);
static void checkpoint_get_prepared(Datum xids, Datum times, WindowLook *look);
static void checkpoint_put_first(void *arg);
static void checkpoint_put(void *arg);
static void checkpoint_put_row(CheckpointRow *row,
							   GuardedStatement *statement);
static Datum checkpoint_array(const WindowLook *look, bool times);

/*
 * Lock and read the checkpoint of a target, given by its qualified name.
 * Returns false if there is none; then everything in *checkpoint is unknown.
 *
 * The result is allocated in the current memory context.
 */
bool
checkpoint_lock(const char *target, Checkpoint *checkpoint)
{
	CheckpointRow row = checkpoint_row(target);

	guarded_require(GUARDED_WINDOWS, RowExclusiveLock, checkpoint_get_locked,
					&row);
	*checkpoint = row.checkpoint;
	return row.found;
}

/*
 * Same, but does not lock the row, and reports trouble with the table as a
 * WARNING.
 */
bool
checkpoint_read(const char *target, Checkpoint *checkpoint)
{
	CheckpointRow row = checkpoint_row(target);
	bool		done = guarded_run(GUARDED_WINDOWS, AccessShareLock,
								   checkpoint_get, &row, target);

	*checkpoint = row.checkpoint;
	return done && row.found;
}

/*
 * Write the first checkpoint of a target, in the current transaction.
 * Returns false if another session was faster.
 */
bool
checkpoint_create(const char *target, const Checkpoint *checkpoint)
{
	CheckpointRow row = checkpoint_row(target);

	row.checkpoint = *checkpoint;
	guarded_require(GUARDED_WINDOWS, RowExclusiveLock, checkpoint_put_first,
					&row);
	return row.found;
}

/*
 * Write the checkpoint of a target, in the current transaction.
 */
void
checkpoint_write(const char *target, const Checkpoint *checkpoint)
{
	CheckpointRow row = checkpoint_row(target);

	row.checkpoint = *checkpoint;
	guarded_require(GUARDED_WINDOWS, RowExclusiveLock, checkpoint_put, &row);
	if (!row.found)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the checkpoint of %s was not written",
						target_display(target))));
}

/*
 * The name of a type, as the table stores it.
 */
const char *
checkpoint_kind(Oid type)
{
	switch (type)
	{
		case XID8OID:
			return "xid8";
		case INT8OID:
			return "bigint";
		default:
			return "timestamptz";
	}
}

/*
 * Parse a bound.  Raises an ERROR if it is not valid for this type.
 */
int64
checkpoint_parse(Oid type, const char *text)
{
	Oid			input;
	Oid			ioparam;
	Datum		value;

	/* Before 16, the type itself accepts anything. */
	if (type == XID8OID && strspn(text, "0123456789") != Max(strlen(text), 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", "xid8",
						text)));
	getTypeInputInfo(type, &input, &ioparam);
	value = OidInputFunctionCall(input, unconstify(char *, text), ioparam, -1);
	if (type == XID8OID)
		return (int64) U64FromFullTransactionId(DatumGetFullTransactionId(value));
	return DatumGetInt64(value);
}

/*
 * Write a bound as text that does not depend on settings.
 */
void
checkpoint_print(Oid type, int64 bound, char *text)
{
	if (type == TIMESTAMPTZOID)
		strlcpy(text, timestamptz_to_str(bound), CHECKPOINT_TEXT_SIZE);
	else
		snprintf(text, CHECKPOINT_TEXT_SIZE, INT64_FORMAT, bound);
}

/*
 * Add the epoch to a transaction ID that is not later than the next one.
 */
FullTransactionId
checkpoint_full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}

static CheckpointRow
checkpoint_row(const char *target)
{
	CheckpointRow row = {0};

	row.target = target;
	row.context = CurrentMemoryContext;
	row.checkpoint.look.unseen = DT_NOBEGIN;
	return row;
}

static void
checkpoint_get(void *arg)
{
	CheckpointRow *row = arg;
	Datum		values[1];

	values[0] = CStringGetTextDatum(row->target);
	guarded_execute(&checkpoint_select, values, NULL, true);
	checkpoint_get_row(row);
}

static void
checkpoint_get_locked(void *arg)
{
	CheckpointRow *row = arg;
	Datum		values[1];

	values[0] = CStringGetTextDatum(row->target);
	guarded_execute(&checkpoint_select_for_update, values, NULL, false);
	checkpoint_get_row(row);
}

static void
checkpoint_get_row(CheckpointRow *row)
{
	Checkpoint *checkpoint = &row->checkpoint;
	Datum		values[lengthof(checkpoint_columns)];
	bool		nulls[lengthof(checkpoint_columns)];
	MemoryContext caller;

	guarded_check_columns(checkpoint_columns, lengthof(checkpoint_columns));
	if (SPI_processed == 0)
		return;
	for (size_t i = 0; i < lengthof(checkpoint_columns); i++)
		values[i] = SPI_getbinval(SPI_tuptable->vals[0],
								  SPI_tuptable->tupdesc, i + 1, &nulls[i]);
	for (int i = 0; i < CHECKPOINT_NOT_NULL_COLS; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("column \"%s\" of the checkpoint of %s is null",
							checkpoint_columns[i].name,
							target_display(row->target))));
	}

	row->found = true;
	for (size_t i = 0; i < 3; i++)
	{
		static const Oid types[] = {XID8OID, INT8OID, TIMESTAMPTZOID};

		if (strcmp(checkpoint_kind(types[i]), TextDatumGetCString(values[0])) == 0)
			checkpoint->type = types[i];
	}
	if (!OidIsValid(checkpoint->type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the checkpoint of %s is of an unknown kind",
						target_display(row->target))));
	checkpoint->until = checkpoint_parse(checkpoint->type,
										 TextDatumGetCString(values[1]));
	checkpoint->foreign =
		XidFromFullTransactionId(DatumGetFullTransactionId(values[2])) !=
		DatumGetTransactionId(values[3]);
	if (!nulls[4])
		checkpoint->look.unseen = DatumGetTimestampTz(values[4]);
	if (nulls[5] || nulls[6])
		return;
	caller = MemoryContextSwitchTo(row->context);
	checkpoint_get_prepared(values[5], values[6], &checkpoint->look);
	MemoryContextSwitchTo(caller);
}

static void
checkpoint_get_prepared(Datum xids, Datum times, WindowLook *look)
{
	Datum	   *xid;
	Datum	   *time;
	bool	   *nulls;
	int			nxids;
	int			ntimes;

	deconstruct_array(DatumGetArrayTypeP(xids), XIDOID, 4, true, TYPALIGN_INT,
					  &xid, &nulls, &nxids);
	for (int i = 0; i < nxids; i++)
		nxids = nulls[i] ? i : nxids;
	deconstruct_array(DatumGetArrayTypeP(times), TIMESTAMPTZOID, 8,
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &time, &nulls, &ntimes);
	for (int i = 0; i < ntimes; i++)
		ntimes = nulls[i] ? i : ntimes;
	look->nprepared = Min(nxids, ntimes);
	look->prepared = palloc(look->nprepared * sizeof(WindowPrepared) + 1);
	for (int i = 0; i < look->nprepared; i++)
	{
		look->prepared[i].xid = DatumGetTransactionId(xid[i]);
		look->prepared[i].since = DatumGetTimestampTz(time[i]);
	}
}

static void
checkpoint_put_first(void *arg)
{
	checkpoint_put_row(arg, &checkpoint_insert);
}

static void
checkpoint_put(void *arg)
{
	checkpoint_put_row(arg, &checkpoint_upsert);
}

static void
checkpoint_put_row(CheckpointRow *row, GuardedStatement *statement)
{
	const Checkpoint *checkpoint = &row->checkpoint;
	const WindowLook *look = &checkpoint->look;
	char		until[CHECKPOINT_TEXT_SIZE];
	char		nulls[lengthof(checkpoint_types)];
	Datum		values[lengthof(checkpoint_types)] = {0};

	memset(nulls, ' ', sizeof(nulls));
	checkpoint_print(checkpoint->type, checkpoint->until, until);
	values[0] = CStringGetTextDatum(row->target);
	values[1] = CStringGetTextDatum(checkpoint_kind(checkpoint->type));
	values[2] = CStringGetTextDatum(until);
	values[3] = FullTransactionIdGetDatum(checkpoint_full_xid(GetCurrentTransactionId()));
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (checkpoint->type != XID8OID && !TIMESTAMP_IS_NOBEGIN(look->unseen))
		values[5] = TimestampTzGetDatum(look->unseen);
	else
		nulls[5] = 'n';
	if (look->nprepared > 0)
	{
		values[6] = checkpoint_array(look, false);
		values[7] = checkpoint_array(look, true);
	}
	else
		nulls[6] = nulls[7] = 'n';
	guarded_execute(statement, values, nulls, false);
	row->found = SPI_processed == 1;
}

/*
 * The prepared transactions of a look as an array: their IDs, or their times.
 */
static Datum
checkpoint_array(const WindowLook *look, bool times)
{
	Datum	   *values = palloc(look->nprepared * sizeof(Datum));

	for (int i = 0; i < look->nprepared; i++)
		values[i] = times ? TimestampTzGetDatum(look->prepared[i].since) :
			TransactionIdGetDatum(look->prepared[i].xid);
	return PointerGetDatum(times ?
						   construct_array(values, look->nprepared,
										   TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE) :
						   construct_array(values, look->nprepared, XIDOID, 4,
										   true, TYPALIGN_INT));
}
