/*-------------------------------------------------------------------------
 *
 * notify.h
 *	  Notifies listeners of the results of refreshes.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#include "src/refresh/refresh.h"

extern void notify_outcome(const char *label, const RefreshResult *result,
						   int failures);

#endif							/* NOTIFY_H */
