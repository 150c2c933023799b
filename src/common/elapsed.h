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

#include <time.h>

/*
 * The monotonic clock in microseconds.  All processes of the machine read the
 * same one.
 *
 * The server's own macros (instr_time) may read another clock, which each
 * session can choose, and which need not keep pace with the time of day.
 */
static inline int64
elapsed_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

/*
 * Microseconds since "then", which is from elapsed_clock().
 */
static inline int64
elapsed_since(int64 then)
{
	return elapsed_clock() - then;
}

#endif							/* ELAPSED_H */
