/*-------------------------------------------------------------------------
 *
 * window_look.h
 *	  Which transactions are on their way, and since when?
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

/* What a look at all transactions of this database has seen */
typedef struct WindowLook
{
	TimestampTz unseen;			/* whatever it has not seen begins, or has
								 * begun, no earlier than this */
	int			nprepared;
	WindowPrepared *prepared;
	TimestampTz safe;			/* no transaction on its way, nor any that is
								 * to come, began earlier than this */
	bool		held;			/* somebody keeps "safe" from being now: */
	int			pid;			/* 0: a prepared transaction */
	TimestampTz since;			/* DT_NOBEGIN: unknown */
} WindowLook;

extern void window_look(const WindowLook *last, bool own, WindowLook *look);
extern void window_look_for_xid(TransactionId xid, WindowLook *look);
extern void window_look_past_me(void);

#endif							/* WINDOW_LOOK_H */
