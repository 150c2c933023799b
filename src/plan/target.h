/*-------------------------------------------------------------------------
 *
 * target.h
 *	  What a name of the list stands for, and how it is refreshed.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef TARGET_H
#define TARGET_H

#include "nodes/primnodes.h"

#include "src/common/settings.h"
#include "src/plan/view_settings.h"

/* Size of a label: two names with each byte written as \xNN */
#define TARGET_LABEL_SIZE	(8 * NAMEDATALEN + 8)

/* How a target is refreshed */
typedef enum RefreshMethod
{
	REFRESH_METHOD_NONE,		/* it cannot be, see RefreshTarget.message */
	REFRESH_METHOD_FUNCTION,	/* SELECT view_refresh() */
	REFRESH_METHOD_PROCEDURE,	/* CALL view_refresh() */
	REFRESH_METHOD_PLAIN,		/* REFRESH MATERIALIZED VIEW */
	REFRESH_METHOD_CONCURRENTLY,	/* REFRESH MATERIALIZED VIEW CONCURRENTLY */
	REFRESH_METHOD_MERGE,		/* the same command, taken over by merge.c */
	REFRESH_METHOD_WINDOW		/* table_refresh(after, until), see window.c */
} RefreshMethod;

/*
 * A name, and what the catalogs say about it.  A target need not be a
 * relation: there may be only a function, and then relid is invalid.  The
 * first part is the input of target_resolve().
 */
typedef struct RefreshTarget
{
	const char *schema;			/* NULL: look the name up by search_path */
	const char *name;
	bool		wildcard;		/* added by a "*" of the list */
	bool		too_complex;	/* its query is, as depend.c has found */
	MergeMode	merge;			/* the parameters that apply to this view */
	int			window_delay;
	int			max_window;

	Oid			relid;			/* the relation, if there is one */
	char		relkind;		/* its kind, or 0 */
	Oid			funcid;			/* the function or procedure, if used */
	Oid			window_type;	/* of its two arguments; invalid: none */
	RefreshMethod method;
	const char *refused;		/* the owner of a function that is not
								 * trusted, so that the materialized view is
								 * refreshed without it, or NULL */

	/* For a materialized view that is refreshed by REFRESH: */
	const char *not_merged;		/* why it is not merged, or NULL */
	const char *merge_hint;		/* what to do about that, or NULL */

	/* Why there is no method: the parts of an error message */
	int			sqlerrcode;
	const char *message;
	const char *detail;			/* or NULL */
	const char *hint;			/* or NULL */
} RefreshTarget;

extern void target_take_settings(RefreshTarget *target,
								 const ViewSettings *own);
extern void target_resolve(RefreshTarget *target, Oid role);
extern void target_check_unchanged(const RefreshTarget *planned,
								   const RefreshTarget *now);
extern void target_check_merged(RefreshTarget *target);
extern bool target_merges_are_safe(void);
extern Oid	target_unsafe_trigger(void);
extern void target_raise(const RefreshTarget *target);
extern void target_raise_dropped(const RefreshTarget *target);
extern void target_lock(const RefreshTarget *target);
extern FuncExpr *target_call(const RefreshTarget *target, List *args);
extern char *target_command(const RefreshTarget *target);
extern const char *target_qualified_name(const RefreshTarget *target);
extern char *target_fold(const char *name, bool folds);
extern const char *target_label(const char *schema, const char *name);
extern const char *target_display(const char *label);
extern const char *target_method_name(RefreshMethod method);

#endif							/* TARGET_H */
