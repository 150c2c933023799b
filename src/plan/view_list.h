/*-------------------------------------------------------------------------
 *
 * view_list.h
 *	  The grammar of the list of views: from a string to specifications.
 *
 *		list  := stage { ';' stage }
 *		stage := item { ',' item }
 *		item  := name [ '@' when ] [ '(' setting { ',' setting } ')' ]
 *		name  := [ schema '.' ] view | [ schema '.' ] '*'
 *		when  := interval [ 'from' time ]
 *		setting := parameter '=' value
 *
 * Identifiers are folded and quoted as in SQL; values are written as in
 * postgresql.conf.  This code reads no catalogs and allocates no memory,
 * since a check hook runs it in the postmaster, where there is neither a
 * transaction nor a memory context to rely on.  The encoding of a database is
 * not known there either, so target_fold() folds letters that are not ASCII
 * later, if the list says that the name was not quoted.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef VIEW_LIST_H
#define VIEW_LIST_H

/* Bounds of an interval in seconds, for the list and for the default */
#define VIEW_LIST_DAY			(24 * 60 * 60)
#define VIEW_LIST_MIN_INTERVAL	1
#define VIEW_LIST_MAX_INTERVAL	(366 * VIEW_LIST_DAY)

/* Maximum number of settings of one view */
#define VIEW_LIST_MAX_SETTINGS	100

/* One item of the list */
typedef struct ViewSpec
{
	const char *schema;			/* NULL if the name is not qualified */
	const char *name;			/* NULL if it is '*' */
	bool		schema_folds;	/* not quoted, and not all ASCII */
	bool		name_folds;
	int			stage;			/* from 0 */
	int			interval;		/* in seconds; 0 if the item names none */
	int			start_time;		/* the second of the day that the interval
								 * counts from; -1: none */
	const char *settings;		/* see view_setting_next(); NULL if none */
} ViewSpec;

/* The whole list, in the order in which it was written */
typedef struct ViewList
{
	int			nspecs;
	ViewSpec	specs[FLEXIBLE_ARRAY_MEMBER];
} ViewList;

/* Where and why a string is not a valid list */
typedef struct ViewListError
{
	int			position;		/* of the character, from 1 */
	char		reason[256];	/* a clause, without a full stop */
} ViewListError;

/*
 * The settings of an item are consecutive strings: a name, its value, the
 * next name, and so on, terminated by an empty name.
 */
static inline const char *
view_setting_value(const char *name)
{
	return name + strlen(name) + 1;
}

static inline const char *
view_setting_next(const char *name)
{
	const char *value = view_setting_value(name);

	return value + strlen(value) + 1;
}

/*
 * May this interval, in seconds, count from a time of the day?
 */
static inline bool
view_list_interval_fits(int interval)
{
	return VIEW_LIST_DAY % interval == 0 || interval % VIEW_LIST_DAY == 0;
}

extern size_t view_list_size(const char *string);
extern bool view_list_parse(const char *string, ViewList *list,
							ViewListError *error);
extern bool view_list_names(const char *string, char (*names)[NAMEDATALEN],
							int *nnames, ViewListError *error);
extern bool view_list_time(const char *string, int *time,
						   ViewListError *error);

#endif							/* VIEW_LIST_H */
