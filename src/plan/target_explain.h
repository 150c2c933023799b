/*-------------------------------------------------------------------------
 *
 * target_explain.h
 *	  Why a target cannot be refreshed, in words.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef TARGET_EXPLAIN_H
#define TARGET_EXPLAIN_H

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"

#include "src/plan/target.h"

/* The name of a refresh function is the target's, followed by this */
#define TARGET_SUFFIX "_refresh"

extern bool target_explain_encoding(RefreshTarget *target);
extern void target_explain_complexity(RefreshTarget *target);
extern void target_explain_distrust(RefreshTarget *target, Form_pg_proc proc,
									Oid role);
extern void target_explain_ambiguity(RefreshTarget *target, Oid one,
									 Oid other);
extern void target_explain_missing(RefreshTarget *target);
extern void target_explain_unmerged(RefreshTarget *target,
									Form_pg_class class);
extern void target_explain_no_part(RefreshTarget *target,
								   Form_pg_class class);
extern void target_explain_blocking(RefreshTarget *target,
									Form_pg_class class, bool indexed);
extern const char *target_relkind_name(char relkind);
extern const char *target_am_name(Oid method);
extern const char *target_role_name(Oid role);

#endif							/* TARGET_EXPLAIN_H */
