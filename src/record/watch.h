/*-------------------------------------------------------------------------
 *
 * watch.h
 *	  Utility commands that concern the launcher and the workers.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef WATCH_H
#define WATCH_H

extern void watch_install(void);

#endif							/* WATCH_H */
