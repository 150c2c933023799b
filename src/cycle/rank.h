/*-------------------------------------------------------------------------
 *
 * rank.h
 *	  In which order the views of a cycle start, for it to end soonest.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef RANK_H
#define RANK_H

#include "src/cycle/queue.h"

extern void rank_by_plan(Queue *queue);
extern void rank_by_path(Queue *queue);
extern void rank_improve(Queue *queue);

#endif							/* RANK_H */
