/*-------------------------------------------------------------------------
 *
 * merge_rows.c
 *	  Rows of a view: hashed, compared, and kept in a file.
 *
 * Two rows are the same if their images are equal, as for the server's
 * operator "*=": 1.0 and 1.00 are not the same, and NULLs are.  How a value
 * is stored (short, compressed, out of line) does not matter.
 *
 * Rows are paired by the columns of one unique index.  Rows that have a NULL
 * there, and all rows if there is no such index, are paired only if they are
 * the same; several of them may be equal.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/tupmacs.h"
#include "catalog/pg_index.h"
#include "commands/tablespace.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "storage/buffile.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "src/refresh/merge_rows.h"

/* The header of each row in a file */
typedef struct MergeRowHeader
{
	MergeHash	hash;
	ItemPointerData tid;
	uint32		size;			/* of the tuple; 0: there is none */
} MergeRowHeader;

#define MERGE_HEADER_SIZE	MAXALIGN(sizeof(MergeRowHeader))

/* The unit in which memory for a file is allocated */
#define MERGE_CHUNK_SIZE	((Size) (32 * 1024))

typedef struct MergeChunk
{
	struct MergeChunk *next;
	Size		size;
	Size		used;
	/* MAXALIGNed data follows */
} MergeChunk;

#define MERGE_CHUNK_DATA(chunk) \
	((char *) (chunk) + MAXALIGN(sizeof(MergeChunk)))

struct MergeFile
{
	MemoryContext context;
	Size		memory;			/* the limit of "taken", in bytes */
	Size		taken;
	MergeChunk *first;
	MergeChunk *last;
	BufFile    *file;			/* NULL: all is in memory */

	/* For reading */
	MergeChunk *chunk;
	Size		offset;
	char	   *buffer;			/* of a row that was read from the file */
	Size		buffer_size;
};

static void merge_shape_add_index(MergeShape *shape, Relation index,
								  const Bitmapset *columns);
static Bitmapset *merge_index_columns(Relation index);
static void merge_shape_add_unique(MergeShape *shape, Relation index);
static Datum merge_stored_value(Form_pg_attribute attribute, Datum value);
static uint64 merge_hash_value(Form_pg_attribute attribute, Datum value);
static void merge_file_put_in_memory(MergeFile *file,
									 const MergeRowHeader *header,
									 MinimalTuple tuple);
static void merge_file_spill(MergeFile *file);

/*
 * Find out how to pair the rows of a relation: by a unique index that has at
 * least these columns.  The result is allocated in the current memory
 * context.  Loading index expressions may run functions in them, so the
 * caller must act as the owner.
 */
MergeShape *
merge_shape_create(Relation relation, const Bitmapset *columns)
{
	MergeShape *shape = palloc0(sizeof(MergeShape));
	List	   *indexes = RelationGetIndexList(relation);
	ListCell   *cell;

	shape->desc = RelationGetDescr(relation);
	shape->is_key = palloc0(shape->desc->natts * sizeof(bool) + 1);
	shape->is_unique = palloc0(shape->desc->natts * sizeof(bool) + 1);
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisunique)
			merge_shape_add_index(shape, index, columns);
		index_close(index, NoLock);
	}
	list_free(indexes);
	return shape;
}

/*
 * The first unique index that is on plain columns, covers all rows and has
 * the wanted columns pairs the rows.
 */
static void
merge_shape_add_index(MergeShape *shape, Relation index,
					  const Bitmapset *columns)
{
	Form_pg_index form = index->rd_index;
	Bitmapset  *key = merge_index_columns(index);

	shape->pairing = bms_add_members(shape->pairing, key);
	if (shape->nkeys > 0 || bms_is_empty(key) || !bms_is_subset(columns, key))
	{
		merge_shape_add_unique(shape, index);
		return;
	}
	shape->nkeys = form->indnkeyatts;
	for (int i = 0; i < form->indnkeyatts; i++)
		shape->is_key[form->indkey.values[i] - 1] = true;
}

/*
 * The numbers of the columns by which a unique index could pair rows; NULL if
 * it cannot.
 */
static Bitmapset *
merge_index_columns(Relation index)
{
	Form_pg_index form = index->rd_index;
	Bitmapset  *columns = NULL;

	if (!form->indisvalid || !form->indimmediate ||
		RelationGetIndexPredicate(index) != NIL ||
		RelationGetIndexExpressions(index) != NIL)
		return NULL;
	for (int i = 0; i < form->indnatts; i++)
	{
		if (form->indkey.values[i] <= 0)
			return NULL;
		if (i < form->indnkeyatts)
			columns = bms_add_member(columns, form->indkey.values[i]);
	}
	return columns;
}

/*
 * Note all columns that another unique index reads.  (The relcache's bitmaps
 * leave out indexes that are not valid yet, and columns that only the
 * predicate reads.)
 */
static void
merge_shape_add_unique(MergeShape *shape, Relation index)
{
	Form_pg_index form = index->rd_index;
	Bitmapset  *reads = NULL;
	int			member = -1;

	pull_varattnos((Node *) RelationGetIndexExpressions(index), 1, &reads);
	pull_varattnos((Node *) RelationGetIndexPredicate(index), 1, &reads);
	for (int i = 0; i < form->indnatts; i++)
	{
		if (form->indkey.values[i] != 0)
			reads = bms_add_member(reads, form->indkey.values[i] -
								   FirstLowInvalidHeapAttributeNumber);
	}
	while ((member = bms_next_member(reads, member)) >= 0)
	{
		int			number = member + FirstLowInvalidHeapAttributeNumber;

		/* The whole row, or a system column, stands for all columns. */
		for (int i = 0; i < shape->desc->natts; i++)
		{
			if (number <= 0 || number == i + 1)
				shape->is_unique[i] = true;
		}
	}
	bms_free(reads);
}

/*
 * Hash the columns by which a row is paired.  May leak memory in the current
 * context.
 */
MergeHash
merge_hash(const MergeShape *shape, TupleTableSlot *slot)
{
	MergeHash	hash = 0;
	bool		by_key = shape->nkeys > 0;

	for (int i = 0; by_key && i < shape->desc->natts; i++)
	{
		if (shape->is_key[i] && slot_attisnull(slot, i + 1))
			by_key = false;
	}
	for (int i = 0; i < shape->desc->natts; i++)
	{
		uint64		hashed = UINT64CONST(0x6e756c6c);
		Datum		value;
		bool		isnull;

		if (by_key && !shape->is_key[i])
			continue;
		value = slot_getattr(slot, i + 1, &isnull);
		if (!isnull)
			hashed = merge_hash_value(TupleDescAttr(shape->desc, i), value);
		hash = hash_combine64(hash, hashed);
	}
	return hash;
}

/*
 * Convert a value to what it is after it was stored.
 *
 * A value that is passed by value and narrower than a Datum may have anything
 * in the bits that it does not use, and functions differ in that: hashtext()
 * leaves them zero, while a stored negative integer has them set.
 */
static Datum
merge_stored_value(Form_pg_attribute attribute, Datum value)
{
	Datum		room = 0;

	if (!attribute->attbyval)
		return value;
	store_att_byval(&room, value, attribute->attlen);
	return fetch_att(&room, true, attribute->attlen);
}

static uint64
merge_hash_value(Form_pg_attribute attribute, Datum value)
{
	struct varlena *packed;
	uint64		hash;

	value = merge_stored_value(attribute, value);
	if (attribute->attbyval)
		return hash_bytes_extended((unsigned char *) &value, sizeof(Datum), 0);
	if (attribute->attlen > 0)
		return hash_bytes_extended((unsigned char *) DatumGetPointer(value),
								   attribute->attlen, 0);
	if (attribute->attlen == -2)
		return hash_bytes_extended((unsigned char *) DatumGetCString(value),
								   strlen(DatumGetCString(value)), 0);
	packed = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(value));
	hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(packed),
							   VARSIZE_ANY_EXHDR(packed), 0);
	if ((Pointer) packed != DatumGetPointer(value))
		pfree(packed);
	return hash;
}

/*
 * Compare an old row with a new one.  May leak memory in the current context.
 */
MergeMatch
merge_compare(const MergeShape *shape, TupleTableSlot *old,
			  TupleTableSlot *new)
{
	MergeMatch	match = MERGE_SAME;
	bool		null_key = false;

	slot_getallattrs(old);
	slot_getallattrs(new);
	for (int i = 0; i < shape->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(shape->desc, i);
		bool		isnull = new->tts_isnull[i];
		bool		same = isnull == old->tts_isnull[i];

		if (same && !isnull)
			same = datum_image_eq(old->tts_values[i],
								  merge_stored_value(attribute,
													 new->tts_values[i]),
								  attribute->attbyval, attribute->attlen);
		if (shape->is_key[i] && isnull)
			null_key = true;
		if (same)
			continue;
		if (shape->nkeys == 0 || shape->is_key[i])
			return MERGE_NO_PAIR;
		if (shape->is_unique[i])
			match = MERGE_REPLACED;
		else if (match == MERGE_SAME)
			match = MERGE_CHANGED;
	}
	return null_key && match != MERGE_SAME ? MERGE_NO_PAIR : match;
}

/*
 * Create an empty file, in the current memory context.  It uses up to about
 * "memory" bytes of memory, then a temporary file.
 */
MergeFile *
merge_file_create(Size memory)
{
	MergeFile  *file = palloc0(sizeof(MergeFile));

	file->context = CurrentMemoryContext;
	file->memory = memory;
	return file;
}

/*
 * Append a copy of a row.
 */
void
merge_file_put(MergeFile *file, const MergeRow *row)
{
	MergeRowHeader header;
	Size		size = MERGE_HEADER_SIZE;

	memset(&header, 0, sizeof(header));
	header.hash = row->hash;
	header.tid = row->tid;
	header.size = row->tuple ? row->tuple->t_len : 0;
	size += MAXALIGN(header.size);

	if (file->file == NULL && (file->last == NULL ||
							   file->last->used + size > file->last->size) &&
		file->taken + Max(size, MERGE_CHUNK_SIZE) > file->memory)
		merge_file_spill(file);
	if (file->file == NULL)
		merge_file_put_in_memory(file, &header, row->tuple);
	else
	{
		BufFileWrite(file->file, &header, sizeof(header));
		if (header.size > 0)
			BufFileWrite(file->file, row->tuple, header.size);
	}
}

static void
merge_file_put_in_memory(MergeFile *file, const MergeRowHeader *header,
						 MinimalTuple tuple)
{
	Size		size = MERGE_HEADER_SIZE + MAXALIGN(header->size);
	MergeChunk *chunk = file->last;
	char	   *data;

	if (chunk == NULL || chunk->used + size > chunk->size)
	{
		Size		room = Max(size, MERGE_CHUNK_SIZE);

		chunk = MemoryContextAllocHuge(file->context,
									   MAXALIGN(sizeof(MergeChunk)) + room);
		chunk->next = NULL;
		chunk->size = room;
		chunk->used = 0;
		file->taken += room;
		if (file->last != NULL)
			file->last->next = chunk;
		else
			file->first = chunk;
		file->last = chunk;
	}
	data = MERGE_CHUNK_DATA(chunk) + chunk->used;
	memcpy(data, header, sizeof(MergeRowHeader));
	if (header->size > 0)
		memcpy(data + MERGE_HEADER_SIZE, tuple, header->size);
	chunk->used += size;
}

/*
 * Write what is in memory to a temporary file, and continue there.
 */
static void
merge_file_spill(MergeFile *file)
{
	MemoryContext caller = MemoryContextSwitchTo(file->context);
	MergeChunk *chunk = file->first;

	PrepareTempTablespaces();
	file->file = BufFileCreateTemp(false);
	MemoryContextSwitchTo(caller);
	file->first = file->last = NULL;
	file->taken = 0;
	while (chunk != NULL)
	{
		MergeChunk *next = chunk->next;

		for (Size offset = 0; offset < chunk->used;)
		{
			char	   *data = MERGE_CHUNK_DATA(chunk) + offset;
			MergeRowHeader *header = (MergeRowHeader *) data;

			BufFileWrite(file->file, header, sizeof(MergeRowHeader));
			if (header->size > 0)
				BufFileWrite(file->file, data + MERGE_HEADER_SIZE,
							 header->size);
			offset += MERGE_HEADER_SIZE + MAXALIGN(header->size);
		}
		pfree(chunk);
		chunk = next;
	}
}

/*
 * Continue reading at the first row.
 */
void
merge_file_rewind(MergeFile *file)
{
	file->chunk = file->first;
	file->offset = 0;
	if (file->file != NULL && BufFileSeek(file->file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rewind temporary file of a refresh: %m")));
}

/*
 * Read the next row.  Returns false if there is none.  The tuple is valid
 * until the next call.
 */
bool
merge_file_get(MergeFile *file, MergeRow *row)
{
	MergeRowHeader header;

	if (file->file == NULL)
	{
		char	   *data;

		if (file->chunk != NULL && file->offset == file->chunk->used)
		{
			file->chunk = file->chunk->next;
			file->offset = 0;
		}
		if (file->chunk == NULL)
			return false;
		data = MERGE_CHUNK_DATA(file->chunk) + file->offset;
		memcpy(&header, data, sizeof(header));
		row->tuple = (MinimalTuple) (data + MERGE_HEADER_SIZE);
		file->offset += MERGE_HEADER_SIZE + MAXALIGN(header.size);
	}
	else
	{
		size_t		got = BufFileRead(file->file, &header, sizeof(header));

		if (got == 0)
			return false;
		if (file->buffer_size < header.size)
		{
			if (file->buffer != NULL)
				pfree(file->buffer);
			file->buffer_size = header.size + header.size / 2;
			file->buffer = MemoryContextAllocHuge(file->context,
												  file->buffer_size);
		}
		if (got != sizeof(header) ||
			(header.size > 0 &&
			 BufFileRead(file->file, file->buffer, header.size) != header.size))
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from temporary file of a refresh")));
		row->tuple = (MinimalTuple) file->buffer;
	}
	row->hash = header.hash;
	row->tid = header.tid;
	if (header.size == 0)
		row->tuple = NULL;
	return true;
}

/*
 * Free a file's memory, and its temporary file if there is one.
 */
void
merge_file_close(MergeFile *file)
{
	MergeChunk *chunk = file->first;

	while (chunk != NULL)
	{
		MergeChunk *next = chunk->next;

		pfree(chunk);
		chunk = next;
	}
	if (file->file != NULL)
		BufFileClose(file->file);
	if (file->buffer != NULL)
		pfree(file->buffer);
	pfree(file);
}
