/*-------------------------------------------------------------------------
 *
 * told.h
 *	  Tells workers and the launcher at commit what sessions have changed.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef TOLD_H
#define TOLD_H

/* What a transaction has changed */
typedef enum ToldNews
{
	TOLD_VIEWS = 1,				/* views of this database were refreshed */
	TOLD_EXTENSION = 2,			/* the extension was created, altered or
								 * dropped */
	TOLD_SETTINGS = 4,			/* settings of databases or of the workers'
								 * role */
	TOLD_DATABASES = 8,			/* databases were created, dropped or altered */
	TOLD_COUNTS = 16			/* changes of tables are counted from now on,
								 * or no longer */
} ToldNews;

extern void told_at_commit(int news);
extern void told_preparing(const char *gid);
extern void told_finished(const char *gid, bool committed);
extern uint64 told_heard(void);

#endif							/* TOLD_H */
