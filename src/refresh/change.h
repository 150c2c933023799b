/*-------------------------------------------------------------------------
 *
 * change.h
 *	  Has anything under a view changed since a given mark?
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef CHANGE_H
#define CHANGE_H

#include "postgres_ext.h"

/*
 * A fingerprint of everything that a view's query reads, and of the view
 * itself.  It has a fixed size and no pointers, for it may be in shared
 * memory.
 */
typedef struct ChangeMark
{
	bool		known;			/* else the view must be taken for changed */
	uint64		reads[2];		/* what the query reads */
	uint64		view;			/* what the view was after its refresh */
	uint64		epoch;			/* the caller's: changes were counted since */
} ChangeMark;

extern const char *change_read_mark(Oid relid, ChangeMark *mark);
extern void change_mark_settle(ChangeMark *mark, Oid relid);
extern bool change_mark_equal(const ChangeMark *a, const ChangeMark *b);
extern char *change_mark_to_text(const ChangeMark *mark);
extern void change_mark_from_text(const char *text, ChangeMark *mark);

#endif							/* CHANGE_H */
