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

/* A fingerprint; without pointers, for it may be in shared memory */
typedef struct ChangeMark
{
	bool		known;			/* if not, the rest means nothing */
	uint64		reads[2];		/* everything that the view's query reads */
	uint64		settings;		/* what its rows depend on beside that */
	uint64		view;			/* the view itself: its row in pg_class */
	uint64		epoch;			/* the caller's: changes were counted since */
} ChangeMark;

extern const char *change_read_mark(Oid relid, ChangeMark *mark,
									const char **hint);
extern void change_mark_settle(ChangeMark *mark, Oid relid);
extern bool change_mark_equal(const ChangeMark *a, const ChangeMark *b);
extern char *change_mark_to_text(const ChangeMark *mark);
extern void change_mark_from_text(const char *text, ChangeMark *mark);

#endif							/* CHANGE_H */
