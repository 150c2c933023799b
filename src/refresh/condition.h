/*-------------------------------------------------------------------------
 *
 * condition.h
 *	  Which rows of a view: from a text to a checked expression.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONDITION_H
#define CONDITION_H

#include "nodes/bitmapset.h"
#include "nodes/nodes.h"

#include "src/refresh/merge_rows.h"

/* A condition on the rows of a view */
typedef struct Condition
{
	Node	   *expression;		/* the view is the first range table entry */
	Bitmapset  *columns;		/* the numbers of the columns that it reads */
	MergeShape *shape;			/* rows are paired by a unique index that has
								 * all of these columns */
} Condition;

extern Condition *condition_read(Relation relation, const char *text);

#endif							/* CONDITION_H */
