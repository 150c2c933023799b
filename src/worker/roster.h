/*-------------------------------------------------------------------------
 *
 * roster.h
 *	  The databases that are to be served, as found in the catalogs.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef ROSTER_H
#define ROSTER_H

#include "src/record/claim.h"

extern int	roster_read(ClaimDatabase **databases);
extern bool roster_role(Oid *role);

#endif							/* ROSTER_H */
