/*-------------------------------------------------------------------------
 *
 * state.h
 *	  The settings that a REFRESH depends on, and what it leaves behind.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef STATE_H
#define STATE_H

#include "postgres_ext.h"

extern uint64 state_settings(void);
extern uint64 state_view(Oid relid);

#endif							/* STATE_H */
