/*-------------------------------------------------------------------------
 *
 * execute.h
 *	  The command that refreshes a target, or the call of its function.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef EXECUTE_H
#define EXECUTE_H

#include "nodes/pg_list.h"
#include "tcop/dest.h"

#include "src/plan/target.h"

extern void execute_query(const RefreshTarget *target, List *args,
						  DestReceiver *dest);
extern void execute_procedure(const RefreshTarget *target);
extern void execute_procedure_atomically(const RefreshTarget *target,
										 List *args);

#endif							/* EXECUTE_H */
