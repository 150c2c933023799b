/*-------------------------------------------------------------------------
 *
 * merge_command.c
 *	  REFRESH MATERIALIZED VIEW CONCURRENTLY, taken over from the server.
 *
 * We do what the server does around a utility command (see utility.c): refuse
 * it in a read-only transaction, in a parallel operation and during recovery,
 * and fire event triggers.
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
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"

#include "src/common/settings.h"
#include "src/refresh/merge.h"
#include "src/refresh/merge_command.h"

/* The innermost refresh of ours that runs in this process */
static MergeScope merge_scope;

/* A command to be executed */
typedef struct MergeCommand
{
	RefreshMatViewStmt *refresh;
	const char *text;
	const char *condition;		/* for which rows; NULL: all */
	QueryCompletion *completion;	/* or NULL */
	MergeResult *result;
} MergeCommand;

static void merge_check_allowed(void);
static void merge_complete(const MergeCommand *command);
static void merge_with_event_triggers(const MergeCommand *command);
static void merge_alone(const MergeCommand *command);

/*
 * Enter a refresh of ours, of a view for which "merge" has this value: from
 * now on, what this process executes belongs to it.  Returns what to pass to
 * merge_scope_leave().
 */
MergeScope
merge_scope_enter(MergeMode mode)
{
	MergeScope	outer = merge_scope;

	merge_scope.entered = true;
	merge_scope.mode = mode;
	return outer;
}

void
merge_scope_leave(MergeScope outer)
{
	merge_scope = outer;
}

bool
merge_in_scope(void)
{
	return merge_scope.entered;
}

/*
 * Leave all refreshes of ours, for example after an ERROR.
 */
void
merge_scope_reset(void)
{
	merge_scope.entered = false;
}

/*
 * Is this a command that we take over?
 */
bool
merge_is_wanted(const PlannedStmt *statement)
{
	const RefreshMatViewStmt *refresh;
	int			mode = merge_scope.entered ? (int) merge_scope.mode :
		refresher_merge;

	if (mode == MERGE_OFF ||
		(mode == MERGE_WORKER && !merge_scope.entered) ||
		!IsA(statement->utilityStmt, RefreshMatViewStmt))
		return false;
	refresh = (const RefreshMatViewStmt *) statement->utilityStmt;
	return refresh->concurrent && !refresh->skipData;
}

/*
 * Execute such a command.  Returns false without doing anything if the server
 * has to execute it.
 */
bool
merge_command(PlannedStmt *statement, const char *text,
			  ProcessUtilityContext context, QueryCompletion *completion,
			  MergeResult *result)
{
	MergeCommand command = {0};

	command.refresh = castNode(RefreshMatViewStmt, statement->utilityStmt);
	command.text = text;

	command.completion = completion;
	command.result = result;

	/* We lock the view later, since an event trigger may refuse the command. */
	if (!merge_can(RangeVarGetRelid(command.refresh->relation, NoLock, true)))
		return false;
	merge_check_allowed();
	if (context == PROCESS_UTILITY_SUBCOMMAND)
		merge_alone(&command);
	else
		merge_complete(&command);
	return true;
}

/*
 * Refresh the rows of a materialized view for which a condition holds, as if
 * SQL had a command for that.  Raises the errors of REFRESH.
 */
void
merge_part(const RefreshTarget *target, const char *condition,
		   MergeResult *result)
{
	RefreshMatViewStmt *refresh = makeNode(RefreshMatViewStmt);
	MergeCommand command = {0};
	Oid			relid = target->relid;
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	if (schema == NULL || name == NULL)
		target_raise_dropped(target);
	refresh->concurrent = true;
	refresh->relation = makeRangeVar(schema, name, -1);
	command.refresh = refresh;
	command.text = command.condition = condition;
	command.result = result;
	merge_check_allowed();
	merge_complete(&command);
	if (result->relid != relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("materialized view \"%s\" was dropped or renamed while its refresh waited for it",
						refresh->relation->relname)));
}

static void
merge_check_allowed(void)
{
	const char *name = GetCommandTagName(CMDTAG_REFRESH_MATERIALIZED_VIEW);

	check_stack_depth();
	PreventCommandIfReadOnly(name);
	PreventCommandIfParallelMode(name);
	PreventCommandDuringRecovery(name);
}

static void
merge_complete(const MergeCommand *command)
{
	bool		cleanup = EventTriggerBeginCompleteQuery();

	PG_TRY();
	{
		merge_with_event_triggers(command);
	}
	PG_FINALLY();
	{
		if (cleanup)
			EventTriggerEndCompleteQuery();
	}
	PG_END_TRY();
}

static void
merge_with_event_triggers(const MergeCommand *command)
{
	Node	   *refresh = (Node *) command->refresh;
	ObjectAddress address;

	EventTriggerDDLCommandStart(refresh);
	merge_alone(command);
	ObjectAddressSet(address, RelationRelationId, command->result->relid);
	EventTriggerCollectSimpleCommand(address, InvalidObjectAddress, refresh);
	EventTriggerSQLDrop(refresh);
	EventTriggerDDLCommandEnd(refresh);
}

/*
 * Event triggers do not see what functions in the view's query execute, as
 * with the server's own command.
 */
static void
merge_alone(const MergeCommand *command)
{
	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		merge_refresh(command->refresh, command->condition, command->text,
					  command->completion, command->result);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
}
