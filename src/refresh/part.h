/*-------------------------------------------------------------------------
 *
 * part.h
 *	  The rows of a view, and of its query, for which a condition holds.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef PART_H
#define PART_H

#include "nodes/parsenodes.h"

#include "src/refresh/condition.h"

extern Query *part_of_view(Relation relation, const Condition *condition);
extern Query *part_of_query(Relation relation, Query *query,
							const Condition *condition);

#endif							/* PART_H */
