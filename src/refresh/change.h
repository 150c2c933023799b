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

/* Two hashes of 64 bits in hexadecimal digits, and a terminating zero */
#define CHANGE_MARK_SIZE	33

extern const char *change_read_mark(Oid relid, char *mark);
extern uint64 change_refresh_version(Oid relid);

#endif							/* CHANGE_H */
