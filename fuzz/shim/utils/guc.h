/*-------------------------------------------------------------------------
 *
 * guc.h
 *	  A stand-in for the server's reader of parameters: see shim.c.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef GUC_H
#define GUC_H

#define GUC_UNIT_S 1			/* the only unit that is asked for */

extern bool parse_int(const char *value, int *result, int flags,
					  const char **hint);

#endif							/* GUC_H */
