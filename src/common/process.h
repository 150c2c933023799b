/*-------------------------------------------------------------------------
 *
 * process.h
 *	  The background processes of this library, as the server registers them.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROCESS_H
#define PROCESS_H

#include "postmaster/bgworker.h"

extern void process_describe(BackgroundWorker *process, const char *function,
							 const char *type, const char *detail);
extern void process_handle_signals(void);
extern void process_catch_up(void);

#endif							/* PROCESS_H */
