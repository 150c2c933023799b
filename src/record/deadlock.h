/*-------------------------------------------------------------------------
 *
 * deadlock.h
 *	  Do processes that this session waits for wait for this session?
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef DEADLOCK_H
#define DEADLOCK_H

extern void deadlock_check(const int *pids, int npids);

#endif							/* DEADLOCK_H */
