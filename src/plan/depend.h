/*-------------------------------------------------------------------------
 *
 * depend.h
 *	  What the queries of views read, by the catalogs.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef DEPEND_H
#define DEPEND_H

#include "postgres_ext.h"

/*
 * A query beyond these is not refreshed: the server would expand it for
 * minutes, or until there is no memory left.
 */
#define DEPEND_MAX_DEPTH		1000	/* views below views */
#define DEPEND_MAX_REFERENCES	10000	/* to relations, views expanded */

/* What reads what, as far as it was asked for */
typedef struct DependGraph DependGraph;

extern DependGraph *depend_create(int nitems);
extern int	depend_add_item(DependGraph *graph, Oid relid, int item);
extern bool depend_items_read(DependGraph *graph, Oid relid, Oid funcid,
							  int **items, int *nitems);

#endif							/* DEPEND_H */
