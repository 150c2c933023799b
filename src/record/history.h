/*-------------------------------------------------------------------------
 *
 * history.h
 *	  The log of past refreshes, and the state of each view.
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

/* The cycle that an attempt is a part of */
typedef struct HistoryCycle
{
	int			views;			/* that were due in it */
	bool		whole;			/* these were all views of the list */
} HistoryCycle;

extern Oid	history_installed(void);
extern const char *history_missing_hint(void);
extern void history_write(const char *label, const ViewState *state,
						  const HistoryCycle *cycle,
						  const RefreshResult *result);
extern void history_write_state(const char *label, const ViewState *state);
extern bool history_read_last(const char *label, ViewState *state);
extern bool history_prune_batch(int retention);

#endif							/* HISTORY_H */
