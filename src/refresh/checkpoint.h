/*-------------------------------------------------------------------------
 *
 * checkpoint.h
 *	  Where the last window of a target ended: a row of the table "windows".
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "access/transam.h"

#include "src/refresh/window_look.h"

/* Size of a bound as text */
#define CHECKPOINT_TEXT_SIZE	64

/*
 * The type is that of the function's arguments.  It says what a bound is: a
 * transaction ID with its epoch, seconds since the Unix epoch, or a
 * TimestampTz.
 */
typedef struct Checkpoint
{
	Oid			type;
	int64		until;
	bool		foreign;		/* not written by the transaction that it
								 * names */
	WindowLook	look;			/* what the last look saw, if by time */
} Checkpoint;

extern bool checkpoint_lock(const char *target, Checkpoint *checkpoint);
extern bool checkpoint_read(const char *target, Checkpoint *checkpoint);
extern bool checkpoint_create(const char *target,
							  const Checkpoint *checkpoint);
extern void checkpoint_write(const char *target,
							 const Checkpoint *checkpoint);
extern const char *checkpoint_kind(Oid type);
extern int64 checkpoint_parse(Oid type, const char *text);
extern void checkpoint_print(Oid type, int64 bound, char *text);
extern FullTransactionId checkpoint_full_xid(TransactionId xid);

#endif							/* CHECKPOINT_H */
