/*-------------------------------------------------------------------------
 *
 * work.h
 *	  What one process does of a cycle: view after view, until none is left.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef WORK_H
#define WORK_H

#include "src/cycle/queue.h"

extern void work_join(Queue *queue, LWLock *lock);
extern void work_on(Queue *queue, LWLock *lock, bool leader);

#endif							/* WORK_H */
