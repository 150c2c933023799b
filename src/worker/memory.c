/*-------------------------------------------------------------------------
 *
 * memory.c
 *	  How much memory the process has, and when that has become too much.
 *
 * The server's caches are made for sessions that end at some time, and the
 * worker's does not.  What a REFRESH CONCURRENTLY leaves of its temporary
 * table in the caches of the catalogs can be thrown away with all else that is
 * there.  The half of a kilobyte in the cache of types cannot, nor can what
 * other things that a view's function uses may leave behind.  That goes with
 * the process, so it has to be known when it is time for another one.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/inval.h"
#include "utils/memutils.h"

#include "src/worker/memory.h"

#define MEMORY_MB			((Size) (1024 * 1024))

/* By how much the caches may grow, beside a half of what they were */
#define MEMORY_CACHES_SLACK (MEMORY_MB / 2)

/* By how much all may grow, beside a half, once it should not grow any more */
#define MEMORY_SETTLED_SLACK MEMORY_MB

/* ... and beside as much again, if it is not known whether it should */
#define MEMORY_GROWTH		(32 * MEMORY_MB)

/* ... and how much more if the process is wanted at the moment */
#define MEMORY_PATIENCE		(96 * MEMORY_MB)

/*
 * Empty the server's caches if they have grown by half since they were first
 * looked at after they were empty.  Needs a transaction.
 *
 * What counts is the memory in use, for what was freed within a block stays
 * with its context.
 */
void
memory_trim_caches(MemoryWatch *watch)
{
	MemoryContextCounters counters = {0};
	Size		used;

	CacheMemoryContext->methods->stats(CacheMemoryContext, NULL, NULL,
									   &counters, false);
	used = counters.totalspace - counters.freespace;
	if (watch->caches == 0)
		watch->caches = used;
	else if (used > watch->caches + watch->caches / 2 + MEMORY_CACHES_SLACK)
	{
		InvalidateSystemCaches();
		watch->caches = 0;
	}
}

/*
 * To be called after each cycle.
 *
 * "settled": all views have been refreshed so often that the process should
 * have what it needs for them.
 */
void
memory_after_cycle(MemoryWatch *watch, bool settled)
{
	if (watch->first == 0)
		watch->first = memory_used();
	if (!settled)
		watch->settled = 0;
	else if (watch->settled == 0)
		watch->settled = memory_used();
}

/*
 * The bytes that the process has allocated, but for the buffers of temporary
 * tables: these are filled once, up to temp_buffers, and used again.
 */
Size
memory_used(void)
{
	Size		used = MemoryContextMemAllocated(TopMemoryContext, false);

	for (MemoryContext child = TopMemoryContext->firstchild;
		 child != NULL; child = child->nextchild)
	{
		if (strcmp(child->name, "LocalBufferContext") != 0)
			used += MemoryContextMemAllocated(child, true);
	}
	return used;
}

/*
 * Has the process grown so much that another one should replace it?
 *
 * "convenient": it would not be missed now.  Else it is given more time.
 */
bool
memory_is_excessive(const MemoryWatch *watch, Size used, bool convenient)
{
	Size		limit = 2 * watch->first + MEMORY_GROWTH;

	if (watch->first == 0)
		return false;
	if (!convenient)
		return used > limit + MEMORY_PATIENCE;
	if (watch->settled > 0)
		limit = Min(limit,
					watch->settled + watch->settled / 2 + MEMORY_SETTLED_SLACK);
	return used > limit;
}
