/*-------------------------------------------------------------------------
 *
 * merge_command.c
 *	  REFRESH MATERIALIZED VIEW CONCURRENTLY, taken over from the server.
 *
 * What the server does around a utility command (utility.c) is done here as
 * well: a read-only transaction, a parallel operation and a server in recovery
 * refuse it, and event triggers fire.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "commands/event_trigger.h"
#include "miscadmin.h"

#include "src/common/settings.h"
#include "src/refresh/merge.h"
#include "src/refresh/merge_command.h"

/* How many refreshes of ours are on their way in this process */
static int	merge_scope = 0;

static void merge_with_event_triggers(RefreshMatViewStmt *refresh,
									  const char *text,
									  QueryCompletion *completion,
									  MergeResult *result);
static void merge_alone(RefreshMatViewStmt *refresh, const char *text,
						QueryCompletion *completion, MergeResult *result);

/*
 * From here on, what this process executes belongs to a refresh of ours, so
 * that it is merged if the parameter "merge" says "worker".
 */
void
merge_scope_enter(void)
{
	merge_scope++;
}

void
merge_scope_leave(void)
{
	merge_scope--;
}

bool
merge_in_scope(void)
{
	return merge_scope > 0;
}

/*
 * After an ERROR, none is on its way.
 */
void
merge_scope_reset(void)
{
	merge_scope = 0;
}

/*
 * Is this a command that is to be taken over?
 */
bool
merge_is_wanted(const PlannedStmt *statement)
{
	const RefreshMatViewStmt *refresh;

	if (refresher_merge == MERGE_OFF ||
		(refresher_merge == MERGE_WORKER && merge_scope == 0) ||
		!IsA(statement->utilityStmt, RefreshMatViewStmt))
		return false;
	refresh = (const RefreshMatViewStmt *) statement->utilityStmt;
	return refresh->concurrent && !refresh->skipData;
}

/*
 * Execute such a command.  Returns false, having done nothing, if the server
 * has to execute it.
 */
bool
merge_command(PlannedStmt *statement, const char *text,
			  ProcessUtilityContext context, QueryCompletion *completion,
			  MergeResult *result)
{
	RefreshMatViewStmt *refresh =
		castNode(RefreshMatViewStmt, statement->utilityStmt);
	const char *name = GetCommandTagName(CMDTAG_REFRESH_MATERIALIZED_VIEW);
	bool		complete = context != PROCESS_UTILITY_SUBCOMMAND;
	bool		cleanup;

	/* The view is locked later: an event trigger may refuse the command. */
	if (!merge_can(RangeVarGetRelid(refresh->relation, NoLock, true)))
		return false;

	check_stack_depth();
	PreventCommandIfReadOnly(name);
	PreventCommandIfParallelMode(name);
	PreventCommandDuringRecovery(name);
	if (!complete)
	{
		merge_alone(refresh, text, completion, result);
		return true;
	}
	cleanup = EventTriggerBeginCompleteQuery();
	PG_TRY();
	{
		merge_with_event_triggers(refresh, text, completion, result);
	}
	PG_FINALLY();
	{
		if (cleanup)
			EventTriggerEndCompleteQuery();
	}
	PG_END_TRY();
	return true;
}

static void
merge_with_event_triggers(RefreshMatViewStmt *refresh, const char *text,
						  QueryCompletion *completion, MergeResult *result)
{
	ObjectAddress address;

	EventTriggerDDLCommandStart((Node *) refresh);
	merge_alone(refresh, text, completion, result);
	ObjectAddressSet(address, RelationRelationId, result->relid);
	EventTriggerCollectSimpleCommand(address, InvalidObjectAddress,
									 (Node *) refresh);
	EventTriggerSQLDrop((Node *) refresh);
	EventTriggerDDLCommandEnd((Node *) refresh);
}

/*
 * What functions of the view's query execute is not shown to event triggers, as
 * with the server's own.
 */
static void
merge_alone(RefreshMatViewStmt *refresh, const char *text,
			QueryCompletion *completion, MergeResult *result)
{
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		merge_refresh(refresh, text, completion, result);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
}
