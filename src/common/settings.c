/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The parameters: reloading the configuration, and what they name.
 *
 * All of our processes do that here, from whichever loop they are in.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/guc.h"

#include "src/common/settings.h"

bool		refresher_is_behind = false;
const ForcedSetting settings_forced[] = {
	{"exit_on_error", "off"},
	{"quote_all_identifiers", "off"},	/* "on" breaks CONCURRENTLY */
	{"statement_timeout", "0"},
	{"transaction_timeout", "0"},	/* since 17 */
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"default_transaction_isolation", "read committed"},
};

const int	settings_nforced = lengthof(settings_forced);

/* Reload requests: received, and carried out */
static volatile sig_atomic_t settings_requested = 0;
static sig_atomic_t settings_followed = 0;

/*
 * SIGHUP handler.
 *
 * We count the requests, since a configuration between two of them may have
 * been in force in other sessions without our having seen it.
 */
void
settings_handle_reload(SIGNAL_ARGS)
{
	int			save_errno = errno;

	settings_requested++;
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * Reload the configuration at the next opportunity, even if nobody asks: a
 * request that came before this process installed its handler is lost.
 */
void
settings_expect_reload(void)
{
	settings_requested++;
}

/*
 * Is there a request that we have not carried out yet?
 */
bool
settings_reload_pending(void)
{
	return settings_requested != settings_followed;
}

/*
 * Reload the configuration, if that was requested.
 *
 * Returns true if sessions may have changed tables meanwhile without counting
 * the changes (track_counts).
 */
bool
settings_reload(void)
{
	sig_atomic_t requested = settings_requested;
	bool		uncounted;

	if (requested == settings_followed)
		return false;
	uncounted = requested - settings_followed > 1 || !pgstat_track_counts;
	settings_followed = requested;
	ProcessConfigFile(PGC_SIGHUP);
	return uncounted || !pgstat_track_counts;
}

/*
 * A number that changes with each reload: how many requests this process has
 * carried out.
 */
int
settings_generation(void)
{
	return settings_followed;
}

/*
 * Is a database of this name one of those that are served?
 */
bool
settings_database_is_listed(const char *name)
{
	const DatabaseList *list = refresher_database_list;
	bool		listed = list->all;

	for (int i = 0; i < list->nnames && !listed; i++)
		listed = strcmp(list->names[i], name) == 0;
	return listed;
}

/*
 * The role of the workers, or InvalidOid if it does not exist.  Needs a
 * transaction.
 */
Oid
settings_role(void)
{
	return refresher_role[0] ? get_role_oid(refresher_role, true) :
		BOOTSTRAP_SUPERUSERID;
}
