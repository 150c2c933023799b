/*-------------------------------------------------------------------------
 *
 * memory.h
 *	  How much memory the process has, and when that has become too much.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef MEMORY_H
#define MEMORY_H

/* What a process remembers of its memory, in bytes; 0: not known yet */
typedef struct MemoryWatch
{
	Size		caches;			/* the server's, soon after they were empty */
	Size		first;			/* all, after the first cycle */
	Size		settled;		/* all, since when it should stay the same */
} MemoryWatch;

extern void memory_trim_caches(MemoryWatch *watch);
extern void memory_after_cycle(MemoryWatch *watch, bool settled);
extern Size memory_used(void);
extern bool memory_is_excessive(const MemoryWatch *watch, Size used,
								bool convenient);

#endif							/* MEMORY_H */
