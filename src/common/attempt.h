/*-------------------------------------------------------------------------
 *
 * attempt.h
 *	  Do something in a (sub)transaction of its own, and survive its errors.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef ATTEMPT_H
#define ATTEMPT_H

#include "utils/elog.h"

typedef void (*AttemptAction) (void *arg);

extern ErrorData *attempt(AttemptAction action, void *arg, int timeout);
extern bool attempt_or_report(AttemptAction action, void *arg);
extern ErrorData *attempt_part(AttemptAction action, void *arg);
extern void attempt_handle_cancel(SIGNAL_ARGS);

#endif							/* ATTEMPT_H */
