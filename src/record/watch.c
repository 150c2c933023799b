/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  Utility commands that concern the launcher and the workers.
 *
 * When a session changes databases, settings of databases or roles, or the
 * extension itself, it reports this at commit.  A prepared transaction is
 * committed by another session, which then reports it.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "src/common/settings.h"
#include "src/record/told.h"
#include "src/record/watch.h"

static ProcessUtility_hook_type watch_previous = NULL;

static void watch_utility(PlannedStmt *pstmt, const char *queryString,
						  bool readOnlyTree, ProcessUtilityContext context,
						  ParamListInfo params, QueryEnvironment *queryEnv,
						  DestReceiver *dest, QueryCompletion *qc);
static int	watch_news(const Node *statement);
static bool watch_may_create_or_drop(const Node *statement);
static int	watch_settings(const VariableSetStmt *set, const RoleSpec *role);
static bool watch_is_ours(const RoleSpec *role);

/*
 * Watch utility commands; in the postmaster, when the library is loaded.
 */
void
watch_install(void)
{
	watch_previous = ProcessUtility_hook;
	ProcessUtility_hook = watch_utility;
}

static void
watch_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *queryEnv, DestReceiver *dest,
			  QueryCompletion *qc)
{
	const Node *statement = pstmt->utilityStmt;
	int			news = watch_news(statement);
	bool		looks = watch_may_create_or_drop(statement);
	Oid			extension = InvalidOid;
	TransactionStmtKind kind = TRANS_STMT_BEGIN;
	const char *gid = NULL;

	if (IsA(statement, TransactionStmt))
	{
		kind = ((const TransactionStmt *) statement)->kind;
		gid = ((const TransactionStmt *) statement)->gid;
	}
	if (kind == TRANS_STMT_PREPARE)
		told_preparing(gid);
	else if (kind == TRANS_STMT_COMMIT_PREPARED ||
			 kind == TRANS_STMT_ROLLBACK_PREPARED)
		gid = pstrdup(gid);

	if (looks)
		extension = get_extension_oid(REFRESHER_NAME, true);
	if (watch_previous != NULL)
		watch_previous(pstmt, queryString, readOnlyTree, context, params,
					   queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
	if (looks && get_extension_oid(REFRESHER_NAME, true) != extension)
		news |= TOLD_EXTENSION;
	if (news != 0)
		told_at_commit(news);
	if (kind == TRANS_STMT_COMMIT_PREPARED ||
		kind == TRANS_STMT_ROLLBACK_PREPARED)
		told_finished(gid, kind == TRANS_STMT_COMMIT_PREPARED);
}

/*
 * Return the news that a statement causes (ToldNews), but for an extension
 * that it creates or drops; 0 if there is none.
 *
 * Must be called before the statement is executed, which may free it.
 */
static int
watch_news(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterExtensionStmt:
			return strcmp(((const AlterExtensionStmt *) statement)->extname,
						  REFRESHER_NAME) == 0 ? TOLD_EXTENSION : 0;
		case T_AlterDatabaseSetStmt:
			return watch_settings(((const AlterDatabaseSetStmt *) statement)->setstmt,
								  NULL);
		case T_AlterRoleSetStmt:
			return watch_settings(((const AlterRoleSetStmt *) statement)->setstmt,
								  ((const AlterRoleSetStmt *) statement)->role);
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
			return TOLD_DATABASES;
		case T_RenameStmt:
			return ((const RenameStmt *) statement)->renameType ==
				OBJECT_DATABASE ? TOLD_DATABASES : 0;
		default:
			return 0;
	}
}

/*
 * May this create our extension or drop it, directly or by CASCADE?
 *
 * Everybody may drop what is theirs, or nothing.  So whoever asks must look
 * whether the extension is there, before and after.
 */
static bool
watch_may_create_or_drop(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateExtensionStmt:
		case T_DropOwnedStmt:
			return true;
		case T_DropStmt:
			return ((const DropStmt *) statement)->removeType ==
				OBJECT_EXTENSION ||
				((const DropStmt *) statement)->behavior == DROP_CASCADE;
		default:
			return false;
	}
}

/*
 * Return the news that changed settings of a role cause; with NULL, of a
 * database or of all roles.
 *
 * Everybody may change the settings of their own role.  That must not keep the
 * workers of all databases busy, nor make them refresh what has not changed.
 */
static int
watch_settings(const VariableSetStmt *set, const RoleSpec *role)
{
	int			news = 0;

	if ((set->kind == VAR_RESET_ALL && superuser()) ||
		(set->name != NULL && pg_strcasecmp(set->name, "track_counts") == 0))
		news |= TOLD_COUNTS;
	if (role == NULL || watch_is_ours(role))
		news |= TOLD_SETTINGS;
	return news;
}

/*
 * Is this the role of the workers?
 */
static bool
watch_is_ours(const RoleSpec *role)
{
	return get_rolespec_oid(role, true) == settings_role();
}
