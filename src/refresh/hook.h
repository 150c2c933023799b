/*-------------------------------------------------------------------------
 *
 * hook.h
 *	  Which views has this process refreshed?
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef HOOK_H
#define HOOK_H

#include "src/refresh/merge_write.h"

extern void hook_install(void);
extern void hook_forget_refreshes(void);
extern void hook_note_part(Oid relid, const MergeCounts *rows);
extern bool hook_has_merged(MergeCounts *rows);
extern bool hook_refreshed_as(Oid relid, uint64 *view, uint64 *settings);

#endif							/* HOOK_H */
