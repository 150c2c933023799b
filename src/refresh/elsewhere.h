/*-------------------------------------------------------------------------
 *
 * elsewhere.h
 *	  Tables whose rows may be kept in other places than in their own files.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef ELSEWHERE_H
#define ELSEWHERE_H

extern Oid	elsewhere_extension(Oid namespace);
extern Oid	elsewhere_trigger(Oid relid, NameData *name);
extern Oid	elsewhere_watcher(void);

#endif							/* ELSEWHERE_H */
