/*-------------------------------------------------------------------------
 *
 * window_look.h
 *	  Which transactions are running, and since when?
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef WINDOW_LOOK_H
#define WINDOW_LOOK_H

#include "datatype/timestamp.h"

/* A prepared transaction, and the earliest that it can have begun */
typedef struct WindowPrepared
{
	TransactionId xid;
	Oid			database;
	TimestampTz since;
} WindowPrepared;

/* What a look at all transactions of this database saw */
typedef struct WindowLook
{
	TimestampTz unseen;			/* what it did not see begins, or began, no
								 * earlier than this */
	int			nprepared;
	WindowPrepared *prepared;
	TimestampTz safe;			/* no transaction that is running or still to
								 * come began earlier than this */
	bool		held;			/* somebody holds "safe" back: */
	int			pid;			/* 0: a prepared transaction */
	TimestampTz since;			/* DT_NOBEGIN: unknown */
} WindowLook;

extern void window_look(const WindowLook *last, bool own, WindowLook *look);
extern void window_look_for_xid(TransactionId xid, WindowLook *look);
extern void window_look_past_me(void);

#endif							/* WINDOW_LOOK_H */
