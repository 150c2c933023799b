/*-------------------------------------------------------------------------
 *
 * elapsed.h
 *	  How long something takes, by the monotonic clock.
 *
 * We cannot use the time of day, since somebody may set the clock meanwhile.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef ELAPSED_H
#define ELAPSED_H

#include "portability/instr_time.h"

/*
 * The monotonic clock in microseconds.  All processes of the machine read the
 * same one.
 */
static inline int64
elapsed_clock(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MICROSEC(now);
}

/*
 * Microseconds since "then".
 */
static inline int64
elapsed_since(instr_time then)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, then);
	return INSTR_TIME_GET_MICROSEC(now);
}

#endif							/* ELAPSED_H */
