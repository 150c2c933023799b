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

/* A fingerprint; without pointers, since it may be in shared memory */
typedef struct ChangeMark
{
	bool		known;			/* if not, the rest is meaningless */
	uint64		reads[2];		/* everything that the view's query reads */
	uint64		settings;		/* what else its rows depend on */
	uint64		view;			/* the version of the view's row in pg_class */
	uint64		epoch;			/* set by the caller: all changes were counted
								 * since */
} ChangeMark;

extern const char *change_read_mark(Oid relid, ChangeMark *mark,
									const char **hint);
extern void change_mark_settle(ChangeMark *mark, Oid relid);
extern bool change_mark_equal(const ChangeMark *a, const ChangeMark *b);
extern char *change_mark_to_text(const ChangeMark *mark);
extern void change_mark_from_text(const char *text, ChangeMark *mark);

#endif							/* CHANGE_H */
