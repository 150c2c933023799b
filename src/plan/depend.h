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

/* What reads what, as far as it was asked for */
typedef struct DependGraph DependGraph;

extern Oid *depend_direct_reads(Oid relid, int *nreads);

extern DependGraph *depend_create(int nitems);
extern int	depend_add_item(DependGraph *graph, Oid relid, int item);
extern const int *depend_items_read(DependGraph *graph, Oid relid, int *nitems);

#endif							/* DEPEND_H */
