/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  From the list and the catalogs to a plan: what to refresh after what.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef PLAN_H
#define PLAN_H

#include "src/plan/target.h"
#include "src/plan/view_list.h"

/* Notes on an item: lines to be logged once */
typedef enum PlanNote
{
	PLAN_NOTE_REPEATED,			/* two names in the list stand for it */
	PLAN_NOTE_REFUSED,			/* its function is not called */
	PLAN_NOTE_CIRCLE,			/* it goes first in a circle */
	PLAN_NOTE_MOVED				/* it is listed before what it reads */
} PlanNote;

#define PLAN_NNOTES		(PLAN_NOTE_MOVED + 1)

/* One view to be refreshed */
typedef struct PlanItem
{
	RefreshTarget target;
	const char *label;			/* its name in log, history and NOTIFY */
	const char *qualified;		/* its name with the schema */
	int			spec;			/* the entry of the list that it comes from */
	int			listed;			/* its place in the list, with wildcards
								 * expanded */
	int			stage;			/* from 0; never before that of what it reads */
	int			interval;		/* in seconds; 0: the default */
	int			start_time;		/* of that interval, as in ViewSpec */
	const char *settings;		/* likewise */
	int			retry_interval; /* in seconds; -1: the default */
	int			ndepends;
	int		   *depends;		/* the items that it reads: indexes, all
								 * smaller than its own, ascending */
	const char *notes[PLAN_NNOTES]; /* by PlanNote; NULL: none */
} PlanItem;

/* All views, in an order in which they can be refreshed one by one */
typedef struct RefreshPlan
{
	int			nitems;
	PlanItem   *items;
} RefreshPlan;

extern RefreshPlan *plan_make(const ViewList *list, Oid role);
extern const char *plan_label(const ViewList *list, Oid relid,
							  const char **settings);

#endif							/* PLAN_H */
