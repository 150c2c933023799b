/*-------------------------------------------------------------------------
 *
 * depend.h
 *	  What the queries of views read, according to the catalogs.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef DEPEND_H
#define DEPEND_H

#include "postgres_ext.h"

/*
 * We do not refresh a view whose query exceeds these limits: the server would
 * expand it for minutes, or until it runs out of memory.
 */
#define DEPEND_MAX_DEPTH		1000	/* views below views */
#define DEPEND_MAX_REFERENCES	10000	/* to relations, with views expanded */

/* What reads what, as far as it was looked up */
typedef struct DependGraph DependGraph;

extern DependGraph *depend_create(int nitems);
extern int	depend_add_item(DependGraph *graph, Oid relid, int item);
extern bool depend_items_read(DependGraph *graph, Oid relid, Oid funcid,
							  int **items, int *nitems);

#endif							/* DEPEND_H */
