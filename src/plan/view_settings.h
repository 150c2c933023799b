/*-------------------------------------------------------------------------
 *
 * view_settings.h
 *	  The settings that the list gives to one view.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef VIEW_SETTINGS_H
#define VIEW_SETTINGS_H

#include "utils/guc.h"

#include "src/common/settings.h"

/* The values of our own parameters that apply to a view */
typedef struct ViewSettings
{
	int			refresh_timeout;	/* in milliseconds; 0: none */
	int			lock_timeout;	/* in milliseconds; 0: none */
	int			retry_interval; /* in seconds; 0: none */
	bool		skip_unchanged;
	MergeMode	merge;
	int			window_delay;	/* in seconds */
	int			max_window;		/* in seconds, or transactions; 0: none */
} ViewSettings;

extern Size view_settings_size(const char *settings);
extern const char *view_settings_find(const char *settings, const char *name);
extern void view_settings_read(const char *settings, ViewSettings *own);
extern void view_settings_check(const char *settings, Oid role,
								ViewSettings *own);
extern void view_settings_apply(const char *settings, const char *name,
								Oid role, GucAction action);
extern char *view_settings_text(const char *settings);

#endif							/* VIEW_SETTINGS_H */
