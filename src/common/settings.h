/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The current values of the parameters.
 *
 * They are defined, checked and described in bigbrotr_refresher.c.  They may
 * change whenever a process reloads its configuration, so code that needs one
 * value throughout keeps a copy.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef SETTINGS_H
#define SETTINGS_H

/* The prefix of the parameters, and of the messages in the log */
#define REFRESHER_NAME	"bigbrotr_refresher"

/* In which sessions we take over REFRESH MATERIALIZED VIEW CONCURRENTLY */
typedef enum MergeMode
{
	MERGE_OFF,
	MERGE_WORKER,				/* in our own refreshes */
	MERGE_ALL					/* in every session */
} MergeMode;

/*
 * A shorter timeout, in milliseconds, was almost certainly meant to be in
 * seconds.
 */
#define SETTINGS_MIN_TIMEOUT	1000

/* The payload of our notifications */
typedef enum NotifyPayload
{
	NOTIFY_VIEW,				/* the name of each view that was refreshed */
	NOTIFY_JSON					/* a JSON object, for failures, too */
} NotifyPayload;

/* The databases that are served */
typedef struct DatabaseList
{
	bool		all;			/* all that have the extension */
	int			nnames;
	char		names[FLEXIBLE_ARRAY_MEMBER][NAMEDATALEN];
} DatabaseList;

/* Set for the whole server; they may change with a reload */
extern const DatabaseList *refresher_database_list;
extern char *refresher_role;
extern int	refresher_restart_interval; /* in seconds */

/* Were other libraries loaded before this one, so that they do not see the
 * commands that it takes over? */
extern bool refresher_is_behind;

/* May be set for a database or a role as well */
extern bool refresher_enabled;
extern int	refresher_interval; /* in seconds */
extern int	refresher_start_time;	/* the second of the day that it counts
									 * from; -1: none */
extern int	refresher_refresh_timeout;	/* in milliseconds; 0: none */
extern int	refresher_lock_timeout; /* in milliseconds; 0: none */

extern int	refresher_merge;	/* a MergeMode */
extern int	refresher_max_workers;	/* processes that refresh at once */
extern bool refresher_skip_unchanged;
extern int	refresher_retry_interval;	/* in seconds; 0: none */
extern int	refresher_history_retention;	/* in seconds; 0: keep none */
extern int	refresher_window_delay; /* in seconds */
extern int	refresher_max_window;	/* in seconds, or transactions; 0: none */
extern char *refresher_notify_channel;	/* empty: none */
extern int	refresher_notify_payload;	/* a NotifyPayload */

/* The parsed list of views, and a hash of its text */
extern const struct ViewList *refresher_view_list;
extern uint64 refresher_view_list_hash;

/* Server parameters that must have a certain value in every refresh */
typedef struct ForcedSetting
{
	const char *name;			/* some majors do not have it */
	const char *value;
} ForcedSetting;

extern const ForcedSetting settings_forced[];
extern const int settings_nforced;

extern void settings_handle_reload(SIGNAL_ARGS);
extern void settings_expect_reload(void);
extern bool settings_reload_pending(void);
extern bool settings_reload(void);
extern int	settings_generation(void);
extern bool settings_database_is_listed(const char *name);
extern Oid	settings_role(void);

#endif							/* SETTINGS_H */
