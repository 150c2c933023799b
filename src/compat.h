/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the majors of PostgreSQL that we support.
 *
 * Wrappers only, so that no other file asks for the server's version.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef COMPAT_H
#define COMPAT_H

#include "postmaster/bgworker.h"
#include "postmaster/bgworker_internals.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "bigbrotr_refresher needs PostgreSQL 15 or later"
#endif

/*
 * What a signal handler hands on to another one.
 */
#if PG_VERSION_NUM >= 190000
#define COMPAT_SIGNAL_ARGS	postgres_signal_arg, pg_siginfo
#else
#define COMPAT_SIGNAL_ARGS	postgres_signal_arg
#endif

/*
 * Memory that a check hook may hand on as its "extra"; NULL if there is none.
 */
static inline void *
compat_guc_malloc(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

static inline void
compat_guc_free(void *memory)
{
#if PG_VERSION_NUM >= 160000
	guc_free(memory);
#else
	free(memory);
#endif
}

/*
 * The wait event of a process that rests, made on first use.
 */
static inline uint32
compat_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("BigbrotrRefresherMain");
	return event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*
 * In the postmaster: is a worker of this name registered?
 */
#if PG_VERSION_NUM >= 180000
static inline bool
compat_worker_registered(const char *name)
{
	dlist_iter	iter;

	dlist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *worker = dlist_container(RegisteredBgWorker,
													 rw_lnode, iter.cur);

		if (strcmp(worker->rw_worker.bgw_name, name) == 0)
			return true;
	}
	return false;
}
#else
static inline bool
compat_worker_registered(const char *name)
{
	slist_iter	iter;

	slist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *worker = slist_container(RegisteredBgWorker,
													 rw_lnode, iter.cur);

		if (strcmp(worker->rw_worker.bgw_name, name) == 0)
			return true;
	}
	return false;
}
#endif

#endif							/* COMPAT_H */
