/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The process that starts workers when there is something to do.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef LAUNCHER_H
#define LAUNCHER_H

extern bool launcher_register(void);
extern PGDLLEXPORT void bigbrotr_refresher_launcher_main(Datum main_arg);

#endif							/* LAUNCHER_H */
