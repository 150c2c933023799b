/*-------------------------------------------------------------------------
 *
 * view_settings.c
 *	  The settings that the list gives to one view.
 *
 * They are parameters of ours, without our prefix, or parameters of the
 * server that the worker's role may set.  Here they are the strings that
 * view_list.c has read, or NULL.  The server parses their values, and raises
 * an ERROR if one is wrong.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "src/plan/view_list.h"
#include "src/plan/view_settings.h"

#define VIEW_SETTINGS_PREFIX REFRESHER_NAME "."

/* The parameters of ours that can be set for one view */
static const char *const view_settings_ours[] = {
	"refresh_timeout",
	"lock_timeout",
	"retry_interval",
	"skip_unchanged",
	"merge",
	"window_delay",
	"max_window",
};

static bool view_settings_is_ours(const char *name);
static void view_settings_refuse(const char *name);
static const char *view_settings_hint(const char *name);
static void view_settings_set(const char *name, const char *value, Oid role,
							  GucAction action, bool change);
static bool view_settings_is_plain(const char *value);

/*
 * The size of settings in bytes, with the empty string at their end.
 */
Size
view_settings_size(const char *settings)
{
	const char *name = settings;

	while (*name != '\0')
		name = view_setting_next(name);
	return name + 1 - settings;
}

/*
 * The value that is given to a parameter, or NULL.
 */
const char *
view_settings_find(const char *settings, const char *name)
{
	if (settings == NULL)
		return NULL;
	for (; *settings != '\0'; settings = view_setting_next(settings))
	{
		if (pg_strcasecmp(settings, name) == 0)
			return view_setting_value(settings);
	}
	return NULL;
}

/*
 * Get the values of our own parameters that apply to a view.
 *
 * If the view has a value of its own, we let the server parse it, by setting
 * the parameter for a moment.  So this needs a transaction, unless there are
 * no settings.
 */
void
view_settings_read(const char *settings, ViewSettings *own)
{
	int			nest_level = 0;

	if (settings != NULL)
	{
		nest_level = NewGUCNestLevel();
		for (const char *name = settings; *name != '\0';
			 name = view_setting_next(name))
		{
			char		full_name[NAMEDATALEN];

			if (!view_settings_is_ours(name))
				continue;
			snprintf(full_name, sizeof(full_name), REFRESHER_NAME ".%s", name);
			(void) set_config_option(full_name, view_setting_value(name),
									 PGC_SIGHUP, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, ERROR, false);
		}
	}
	own->refresh_timeout = refresher_refresh_timeout;
	own->lock_timeout = refresher_lock_timeout;
	own->retry_interval = refresher_retry_interval;
	own->skip_unchanged = refresher_skip_unchanged;
	own->merge = refresher_merge;
	own->window_delay = refresher_window_delay;
	own->max_window = refresher_max_window;
	if (settings != NULL)
		AtEOXact_GUC(true, nest_level);
}

/*
 * Same, but first check that all of the settings are valid, and that this
 * role may set them.
 */
void
view_settings_check(const char *settings, Oid role, ViewSettings *own)
{
	for (const char *name = settings; *name != '\0';
		 name = view_setting_next(name))
	{
		if (!view_settings_is_ours(name))
			view_settings_set(name, view_setting_value(name), role,
							  GUC_ACTION_SET, false);
	}
	view_settings_read(settings, own);
}

/*
 * Set the parameters of the server that a view has its own values for, or
 * only the one of this name, with the rights of this role.  Needs a
 * transaction.
 */
void
view_settings_apply(const char *settings, const char *only, Oid role,
					GucAction action)
{
	for (const char *name = settings; *name != '\0';
		 name = view_setting_next(name))
	{
		if (!view_settings_is_ours(name) &&
			(only == NULL || pg_strcasecmp(name, only) == 0))
			view_settings_set(name, view_setting_value(name), role, action,
							  true);
	}
}

static bool
view_settings_is_ours(const char *name)
{
	for (size_t i = 0; i < lengthof(view_settings_ours); i++)
	{
		if (strcmp(name, view_settings_ours[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Set a parameter of the server, or only check that we could.
 */
static void
view_settings_set(const char *name, const char *value, Oid role,
				  GucAction action, bool change)
{
	view_settings_refuse(name);
	(void) set_config_option_ext(name, value,
								 superuser_arg(role) ? PGC_SUSET : PGC_USERSET,
								 PGC_S_SESSION, role, action, change, ERROR,
								 false);
}

/*
 * Raise an ERROR if this parameter cannot be set for one view.
 *
 * We refuse our other parameters, with our prefix or without.  We refuse
 * those of the server that refresh_force_settings() sets, and those that RESET
 * ALL does not reset (the current role is among them).  We refuse
 * search_path, since the plan looks up names, too; and track_counts, since if
 * a refresh were not counted, the readers of the view would be skipped.
 */
static void
view_settings_refuse(const char *name)
{
	const char *hint;
	bool		refused = strcmp(name, "search_path") == 0 ||
		strcmp(name, "track_counts") == 0 ||
		strncmp(name, VIEW_SETTINGS_PREFIX, strlen(VIEW_SETTINGS_PREFIX)) == 0 ||
		GetConfigOption(psprintf(VIEW_SETTINGS_PREFIX "%s", name),
						true, false) != NULL ||
		(GetConfigOptionFlags(name, true) & GUC_NO_RESET_ALL) != 0;

	for (int i = 0; i < settings_nforced; i++)
		refused = refused || strcmp(name, settings_forced[i].name) == 0;
	if (!refused)
		return;
	hint = view_settings_hint(name);
	ereport(ERROR,
			(errcode(ERRCODE_CANT_CHANGE_RUNTIME_PARAM),
			 errmsg("parameter \"%s\" cannot be set for one view", name),
			 hint != NULL ? errhint("%s", hint) : 0));
}

/*
 * What to write instead of a parameter that was refused, or NULL.
 */
static const char *
view_settings_hint(const char *name)
{
	const char *rest = name + strlen(VIEW_SETTINGS_PREFIX);

	if (strcmp(name, "search_path") == 0)
		return "Give the view's function a \"SET search_path\" of its own.";
	if (strcmp(name, "statement_timeout") == 0)
		return "Set \"refresh_timeout\" instead.";
	if (strncmp(name, VIEW_SETTINGS_PREFIX, strlen(VIEW_SETTINGS_PREFIX)) != 0)
		rest = name;
	else if (view_settings_is_ours(rest))
		return psprintf("Write \"%s\", without the prefix.", rest);
	if (strcmp(rest, "interval") == 0 || strcmp(rest, "start_time") == 0)
		return "Write it after the name of the view, as in \"view @ 1h from 00:15\".";
	return NULL;
}

/*
 * The settings as they are written in the list, or NULL.
 */
char *
view_settings_text(const char *settings)
{
	StringInfoData list;

	if (settings == NULL)
		return NULL;
	initStringInfo(&list);
	for (const char *name = settings; *name != '\0';
		 name = view_setting_next(name))
	{
		const char *value = view_setting_value(name);

		appendStringInfo(&list, "%s%s = ", list.len > 0 ? ", " : "", name);
		if (view_settings_is_plain(value))
		{
			appendStringInfoString(&list, value);
			continue;
		}
		appendStringInfoChar(&list, '\'');
		for (; *value != '\0'; value++)
		{
			if (*value == '\'')
				appendStringInfoChar(&list, '\'');
			appendStringInfoChar(&list, *value);
		}
		appendStringInfoChar(&list, '\'');
	}
	return list.data;
}

/*
 * Does a value need no quotes?
 */
static bool
view_settings_is_plain(const char *value)
{
	return *value != '\0' &&
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			   "0123456789_.:/+-") == strlen(value);
}
