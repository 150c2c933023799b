/*-------------------------------------------------------------------------
 *
 * guarded.h
 *	  Use a table of the extension, whatever its owner has done to it.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef GUARDED_H
#define GUARDED_H

#include "executor/spi.h"
#include "storage/lockdefs.h"

/* The tables of the extension */
typedef enum GuardedTable
{
	GUARDED_HISTORY,
	GUARDED_VIEW_STATE,
	GUARDED_WINDOWS
} GuardedTable;

#define GUARDED_NTABLES 3

/* A statement, and its plan after the first use */
typedef struct GuardedStatement
{
	const char *sql;
	int			nargs;
	const Oid  *types;			/* of the arguments */
	int			expected;		/* what SPI returns on success */
	SPIPlanPtr	plan;
} GuardedStatement;

/* A column that a statement returns */
typedef struct GuardedColumn
{
	const char *name;
	Oid			type;
} GuardedColumn;

/*
 * An action that uses a table.  It runs as the owner of the table, connected
 * to SPI.  What it allocates is freed when it returns.
 */
typedef void (*GuardedAction) (void *arg);

extern Oid	guarded_table(GuardedTable table);
extern GuardedTable guarded_find(Oid relid);
extern bool guarded_run(GuardedTable table, LOCKMODE lock,
						GuardedAction action, void *arg, const char *label);
extern void guarded_require(GuardedTable table, LOCKMODE lock,
							GuardedAction action, void *arg);
extern bool guarded_is_running(void);
extern void guarded_execute(GuardedStatement *statement, Datum *values,
							const char *nulls, bool read_only);
extern void guarded_check_columns(const GuardedColumn *columns, int ncolumns);

#endif							/* GUARDED_H */
