/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The background worker that serves one database.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef WORKER_H
#define WORKER_H

#include "postmaster/bgworker.h"

/* The worker's type in pg_stat_activity, and the library it is in */
#define WORKER_TYPE "bigbrotr_refresher"

extern BackgroundWorkerHandle *worker_start(Oid database, Oid role,
											const char *name);
extern PGDLLEXPORT void bigbrotr_refresher_worker_main(Datum main_arg);

#endif							/* WORKER_H */
