/*-------------------------------------------------------------------------
 *
 * protect.h
 *	  An ERROR that costs no more than what raised it.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTECT_H
#define PROTECT_H

extern ErrorData *protect_call(void (*function) (void *), void *arg);

#endif							/* PROTECT_H */
