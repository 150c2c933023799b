/*-------------------------------------------------------------------------
 *
 * participant.h
 *	  One process's part of a cycle: view after view, until none is left.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef PARTICIPANT_H
#define PARTICIPANT_H

#include "src/cycle/queue.h"

extern void participant_join(Queue *queue, LWLock *lock);
extern void participant_run(Queue *queue, LWLock *lock, bool leader);

#endif							/* PARTICIPANT_H */
