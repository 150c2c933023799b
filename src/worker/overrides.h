/*-------------------------------------------------------------------------
 *
 * overrides.h
 *	  ALTER DATABASE and ALTER ROLE settings that apply to this process.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef OVERRIDES_H
#define OVERRIDES_H

extern uint64 overrides_hash(void);

#endif							/* OVERRIDES_H */
