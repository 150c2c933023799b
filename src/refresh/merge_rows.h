/*-------------------------------------------------------------------------
 *
 * merge_rows.h
 *	  Rows of a view: hashed, compared, and kept in a file.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MERGE_ROWS_H
#define MERGE_ROWS_H

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "nodes/bitmapset.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

/* How the rows of a view are paired and compared */
typedef struct MergeShape
{
	TupleDesc	desc;
	int			nkeys;			/* columns of the pairing index; 0: rows are
								 * paired by all of their columns */
	bool	   *is_key;			/* by column, from 0 */
	bool	   *is_unique;		/* does another unique index read it? */
	Bitmapset  *pairing;		/* the numbers of all columns of indexes that
								 * could pair rows */
} MergeShape;

/* Rows that can be paired have equal hashes */
typedef uint64 MergeHash;

/* An old row compared with a new one */
typedef enum MergeMatch
{
	MERGE_NO_PAIR,
	MERGE_SAME,
	MERGE_CHANGED,				/* the old one is to be updated */
	MERGE_REPLACED				/* ... or rather deleted, and the new one
								 * inserted, since a column of another unique
								 * index changed */
} MergeMatch;

extern MergeShape *merge_shape_create(Relation relation,
									  const Bitmapset *columns);
extern MergeHash merge_hash(const MergeShape *shape, TupleTableSlot *slot);
extern MergeMatch merge_compare(const MergeShape *shape, TupleTableSlot *old,
								TupleTableSlot *new);

/* A row in a file; its writer decides which parts are set */
typedef struct MergeRow
{
	MergeHash	hash;
	ItemPointerData tid;
	MinimalTuple tuple;			/* or NULL */
} MergeRow;

/* A sequence of rows, in memory up to a limit, then in a temporary file */
typedef struct MergeFile MergeFile;

extern MergeFile *merge_file_create(Size memory);
extern void merge_file_put(MergeFile *file, const MergeRow *row);
extern void merge_file_rewind(MergeFile *file);
extern bool merge_file_get(MergeFile *file, MergeRow *row);
extern void merge_file_close(MergeFile *file);

#endif							/* MERGE_ROWS_H */
