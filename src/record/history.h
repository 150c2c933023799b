/*-------------------------------------------------------------------------
 *
 * history.h
 *	  The table of past refreshes: write, prune, read the last.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "datatype/timestamp.h"

#include "src/record/view_state.h"
#include "src/refresh/refresh.h"

extern bool history_installed(void);
extern void history_write(const char *label, const ViewState *state,
						  const RefreshResult *result);
extern bool history_read_last(const char *label, ViewState *state);
extern bool history_prune_batch(int retention);

#endif							/* HISTORY_H */
