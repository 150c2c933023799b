/*-------------------------------------------------------------------------
 *
 * deadlock.h
 *	  Detects deadlocks in which this session waits for a cycle, not for a lock.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef DEADLOCK_H
#define DEADLOCK_H

extern void deadlock_check(const int *pids, int npids);

#endif							/* DEADLOCK_H */
