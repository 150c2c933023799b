/*-------------------------------------------------------------------------
 *
 * request.h
 *	  Requests of sessions to run a cycle now.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef REQUEST_H
#define REQUEST_H

#include "src/record/status.h"

/* For sessions */
extern const char *request_obstacle(const char **hint);
extern void request_run(bool wait, StatusCounts *counts, int64 *duration);

/* For the worker */
extern uint64 request_wanted(void);
extern bool request_insisted(void);
extern void request_done(uint64 request);
extern void request_refuse(void);

#endif							/* REQUEST_H */
