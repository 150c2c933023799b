/*-------------------------------------------------------------------------
 *
 * bigbrotr_refresher.c
 *	  Keeps materialized views fresh from inside the server.
 *
 * A launcher starts a background worker for a configured database whenever
 * something is due there.  The worker refreshes that database's materialized
 * views in the order of their dependencies, each in its own transaction, on a
 * fixed schedule, and reports to the server log.
 *
 * This file defines the parameters and registers the launcher.  The rest is in
 * src/; see ARCHITECTURE.md for an overview.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/guc.h"

#include "src/common/compat.h"
#include "src/common/settings.h"
#include "src/record/slots.h"
#include "src/record/watch.h"
#include "src/refresh/hook.h"
#include "src/plan/view_list.h"
#include "src/worker/launcher.h"

PG_MODULE_MAGIC;

/* BigBrotr's views, in its order */
#define DEFAULT_VIEWS \
	"relay_metadata_latest, event_stats, relay_stats, kind_counts, " \
	"kind_counts_by_relay, pubkey_counts, pubkey_counts_by_relay, " \
	"network_stats, event_daily_counts, events_replaceable_latest, " \
	"events_addressable_latest, relay_software_counts, " \
	"supported_nip_counts"

char	   *refresher_role;
int			refresher_restart_interval;
bool		refresher_enabled;
int			refresher_interval;
int			refresher_start_time = -1;
int			refresher_refresh_timeout;
int			refresher_lock_timeout;
int			refresher_max_workers;
int			refresher_merge;
bool		refresher_skip_unchanged;
int			refresher_retry_interval;
int			refresher_history_retention;
int			refresher_window_delay;
int			refresher_max_window;
char	   *refresher_notify_channel;
int			refresher_notify_payload;
const DatabaseList *refresher_database_list;
const ViewList *refresher_view_list;
uint64		refresher_view_list_hash;

static const struct config_enum_entry merge_modes[] = {
	{"off", MERGE_OFF, false},
	{"worker", MERGE_WORKER, false},
	{"all", MERGE_ALL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry notify_payloads[] = {
	{"view", NOTIFY_VIEW, false},
	{"json", NOTIFY_JSON, false},
	{NULL, 0, false}
};

/* Is the launcher registered with the postmaster? */
static bool launcher_registered = false;

/* The value of "databases"; only its parsed form is used elsewhere */
static char *refresher_databases;

/* The values of "views" and "start_time"; likewise */
static char *refresher_views;
static char *refresher_start_time_text;

extern PGDLLEXPORT void _PG_init(void);

static void define_server_parameters(void);
static void define_parameters(void);
static void define_limits(void);
static bool check_databases(char **newval, void **extra, GucSource source);
static bool is_star(const char *string);
static void assign_databases(const char *newval, void *extra);
static bool check_name(char **newval, void **extra, GucSource source);
static bool check_views(char **newval, void **extra, GucSource source);
static void assign_views(const char *newval, void *extra);
static bool check_start_time(char **newval, void **extra, GucSource source);
static void assign_start_time(const char *newval, void *extra);
static bool check_refresh_timeout(int *newval, void **extra,
								  GucSource source);
static bool check_lock_timeout(int *newval, void **extra, GucSource source);
static void warn_of_timeout(const char *name, int value, int current,
							GucSource source);
static void report_place(const ViewListError *error);

/*
 * Entry point of the library.
 *
 * If the library is not loaded by shared_preload_libraries there will be no
 * workers, so we do not define any parameters.
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	define_server_parameters();
	define_parameters();
	define_limits();
	MarkGUCPrefixReserved(REFRESHER_NAME);
	slots_init(&launcher_registered);

	/* During pg_upgrade, nothing else may change the cluster. */
	if (IsBinaryUpgrade)
		return;
	hook_install();
	watch_install();
	launcher_registered = launcher_register();
}

/*
 * Server-wide parameters: which databases have workers, and how these connect
 * and restart.
 */
static void
define_server_parameters(void)
{
	DefineCustomStringVariable(REFRESHER_NAME ".databases",
							   "Databases whose views are refreshed.",
							   "A list of names separated by commas, or \"*\" for all databases that have the extension.",
							   &refresher_databases, "bigbrotr",
							   PGC_SIGHUP, 0,
							   check_databases, assign_databases, NULL);
	DefineCustomStringVariable(REFRESHER_NAME ".role",
							   "Role that the workers connect as.",
							   "Empty: the bootstrap superuser.",
							   &refresher_role, "",
							   PGC_SIGHUP, 0,
							   check_name, NULL, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".restart_interval",
							"Time after which a worker that ended is started again.",
							NULL,
							&refresher_restart_interval, 10, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
}

/*
 * Parameters that may also be set for a database or a role: what is refreshed,
 * when and how.
 */
static void
define_parameters(void)
{
	DefineCustomBoolVariable(REFRESHER_NAME ".enabled",
							 "Refreshes views.",
							 "When turned off, the current view is finished and no other is begun.",
							 &refresher_enabled, true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable(REFRESHER_NAME ".views",
							   "Views to refresh, in this order.",
							   "Items are separated by \",\" or by \";\", which waits for all items before it to finish. An item may have an interval and settings of its own, as in \"event_stats @ 1d from 03:00 (work_mem = 256MB)\".",
							   &refresher_views, DEFAULT_VIEWS,
							   PGC_SUSET, 0,
							   check_views, assign_views, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".interval",
							"Time from the start of one cycle to the start of the next.",
							NULL,
							&refresher_interval, 24 * 60 * 60,
							VIEW_LIST_MIN_INTERVAL, VIEW_LIST_MAX_INTERVAL,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomStringVariable(REFRESHER_NAME ".start_time",
							   "Time of the day that \"interval\" counts from.",
							   "If empty, it counts from the last cycle. Otherwise, \"interval\" must divide a day or be a number of whole days.",
							   &refresher_start_time_text, "",
							   PGC_SUSET, 0,
							   check_start_time, assign_start_time, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".retry_interval",
							"Time after which a view that failed is due again.",
							"It doubles with each failure in a row, up to the view's interval. 0 means that it is due at its interval only.",
							&refresher_retry_interval, 5 * 60,
							0, VIEW_LIST_MAX_INTERVAL,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
}

/*
 * Likewise: how a refresh is done and limited, and what is recorded about it.
 */
static void
define_limits(void)
{
	DefineCustomIntVariable(REFRESHER_NAME ".refresh_timeout",
							"Maximum time that the refresh of one view may take.",
							"0 means no limit.",
							&refresher_refresh_timeout, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS,
							check_refresh_timeout, NULL, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".lock_timeout",
							"Maximum time that a refresh may wait for one lock.",
							"0 means no limit.",
							&refresher_lock_timeout, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS,
							check_lock_timeout, NULL, NULL);
	DefineCustomEnumVariable(REFRESHER_NAME ".merge",
							 "Where refreshes write only the rows that differ.",
							 "In the refreshes of the workers and of refresh(), or in all sessions that execute REFRESH MATERIALIZED VIEW CONCURRENTLY.",
							 &refresher_merge, MERGE_WORKER, merge_modes,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable(REFRESHER_NAME ".skip_unchanged",
							 "Skips views whose source tables have not changed since the last refresh.",
							 NULL,
							 &refresher_skip_unchanged, false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".max_workers",
							"How many views of a database are refreshed at once.",
							"The worker itself takes part; the others are background processes for the length of a cycle.",
							&refresher_max_workers, 1, 1, STATUS_MAX_RUNNING,
							PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".history_retention",
							"Time for which the history of refreshes is kept.",
							"0 means that none is written.",
							&refresher_history_retention, 30 * 24 * 60 * 60,
							0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".window_delay",
							"Time by which rows may be stamped before their transaction began.",
							"Windows by time end this much before the oldest transaction that is on its way.",
							&refresher_window_delay, 60, 5, INT_MAX,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable(REFRESHER_NAME ".max_window",
							"Largest window that is folded at once.",
							"By transaction, it is a number of transactions. 0 means no limit.",
							&refresher_max_window, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomStringVariable(REFRESHER_NAME ".notify_channel",
							   "Channel that is notified of each refresh.",
							   "Empty: none.",
							   &refresher_notify_channel, "",
							   PGC_SUSET, 0,
							   check_name, NULL, NULL);
	DefineCustomEnumVariable(REFRESHER_NAME ".notify_payload",
							 "What the channel is told.",
							 "The name of a view that was refreshed; or as JSON, what came of a refresh, failures included.",
							 &refresher_notify_payload, NOTIFY_VIEW,
							 notify_payloads,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
}

/*
 * Check a list of database names, which may be empty, and convert it to an
 * array.
 */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	ViewListError error;
	DatabaseList *list;
	int			nnames = 1;

	for (const char *c = *newval; *c; c++)
		nnames += (*c == ',') ? 1 : 0;
	list = compat_guc_malloc(offsetof(DatabaseList, names) +
							 nnames * NAMEDATALEN);
	if (list == NULL)
		return false;
	list->all = is_star(*newval);
	list->nnames = 0;
	if (!list->all &&
		!view_list_names(*newval, list->names, &list->nnames, &error))
	{
		report_place(&error);
		compat_guc_free(list);
		return false;
	}
	*extra = list;
	return true;
}

/*
 * Is this "*", with nothing but blanks around it?
 */
static bool
is_star(const char *string)
{
	static const char blanks[] = " \t\n\r\f";

	string += strspn(string, blanks);
	return string[0] == '*' && string[1 + strspn(string + 1, blanks)] == '\0';
}

static void
assign_databases(const char *newval, void *extra)
{
	refresher_database_list = extra;
}

static bool
check_name(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < NAMEDATALEN)
		return true;
	GUC_check_errdetail("The name is longer than %d bytes.", NAMEDATALEN - 1);
	return false;
}

/*
 * Check the list of views, and parse it.
 */
static bool
check_views(char **newval, void **extra, GucSource source)
{
	ViewListError error;
	ViewList   *list = compat_guc_malloc(view_list_size(*newval));

	if (list == NULL)
		return false;
	if (!view_list_parse(*newval, list, &error))
	{
		report_place(&error);
		compat_guc_free(list);
		return false;
	}
	*extra = list;
	return true;
}

/*
 * A reload assigns the list again even if it has not changed, so others
 * compare its hash.  We must not read the old value here: in a parallel worker
 * it is already freed when the server restores the leader's parameters.
 */
static void
assign_views(const char *newval, void *extra)
{
	refresher_view_list = extra;
	refresher_view_list_hash =
		hash_bytes_extended((const unsigned char *) newval,
							(int) strlen(newval), 0);
}

static bool
check_start_time(char **newval, void **extra, GucSource source)
{
	ViewListError error;
	int		   *time = compat_guc_malloc(sizeof(int));

	if (time == NULL)
		return false;
	if (!view_list_time(*newval, time, &error))
	{
		report_place(&error);
		compat_guc_free(time);
		return false;
	}
	*extra = time;
	return true;
}

static void
assign_start_time(const char *newval, void *extra)
{
	refresher_start_time = *(int *) extra;
}

static bool
check_refresh_timeout(int *newval, void **extra, GucSource source)
{
	warn_of_timeout("refresh_timeout", *newval, refresher_refresh_timeout,
					source);
	return true;
}

static bool
check_lock_timeout(int *newval, void **extra, GucSource source)
{
	warn_of_timeout("lock_timeout", *newval, refresher_lock_timeout, source);
	return true;
}

/*
 * Warn about a timeout that was almost certainly meant to be in seconds.
 *
 * The warning goes to the user of ALTER DATABASE, ROLE or SYSTEM, and to the
 * log when the postmaster (and no other process) reads a new value.  ALTER
 * SYSTEM checks a value as if it came from a file; so does a query of
 * pg_file_settings, which must not warn.
 */
static void
warn_of_timeout(const char *name, int value, int current, GucSource source)
{
	bool		commanded = source == PGC_S_TEST ||
		(source == PGC_S_FILE && IsUnderPostmaster && ActivePortal != NULL &&
		 ActivePortal->commandTag == CMDTAG_ALTER_SYSTEM);
	bool		read = !IsUnderPostmaster && value != current;

	if (value == 0 || value >= SETTINGS_MIN_TIMEOUT || !(commanded || read))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"" REFRESHER_NAME ".%s\" is %d ms", name, value),
			 errdetail("A number without a unit is milliseconds."),
			 errhint("If seconds are meant, set it to \"%ds\".", value)));
}

/*
 * Report where a list is invalid, and why.
 */
static void
report_place(const ViewListError *error)
{
	GUC_check_errcode(ERRCODE_SYNTAX_ERROR);
	GUC_check_errdetail("At character %d: %s.", error->position,
						error->reason);
}
