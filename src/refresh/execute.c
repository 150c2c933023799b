/*-------------------------------------------------------------------------
 *
 * execute.c
 *	  The command that refreshes a target, or the call of its function.
 *
 * Functions are called by their OIDs: a name could stand for something else by
 * then (see target_call()).
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "parser/parse_node.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "src/refresh/execute.h"

static void execute_setup_parser(ParseState *pstate, void *arg);
static Node *execute_parse_name(ParseState *pstate, ColumnRef *name);
static void execute_call(const RefreshTarget *target, List *args,
						 const char *text, ProcessUtilityContext context);
static void execute_context(void *arg);

/*
 * Run the command of a target by SPI, for all targets but procedures.  If it
 * calls a function, "args" are the arguments.  Its rows go to "dest".
 */
void
execute_query(const RefreshTarget *target, List *args, DestReceiver *dest)
{
	const char *command = target_command(target);
	SPIPrepareOptions parsing = {0};
	SPIExecuteOptions execution = {0};
	SPIPlanPtr	plan;
	int			code;

	if (OidIsValid(target->funcid))
	{
		parsing.parserSetup = execute_setup_parser;
		parsing.parserSetupArg = target_call(target, args);
	}
	execution.dest = dest;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	plan = SPI_prepare_extended(command, &parsing);
	code = plan ? SPI_execute_plan_extended(plan, &execution) : SPI_result;
	if (code < 0)
		elog(ERROR, "could not execute \"%s\": %s",
			 command, SPI_result_code_string(code));
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	PopActiveSnapshot();
}

/*
 * Let the parser turn a command "SELECT name" into the call of a function.
 */
static void
execute_setup_parser(ParseState *pstate, void *arg)
{
	pstate->p_pre_columnref_hook = execute_parse_name;
	pstate->p_ref_hook_state = arg;
}

static Node *
execute_parse_name(ParseState *pstate, ColumnRef *name)
{
	const FuncExpr *call = pstate->p_ref_hook_state;

	if (call->funcretset)
		pstate->p_hasTargetSRFs = true;
	return copyObject((Node *) call);
}

/*
 * Call a procedure so that it may COMMIT.
 *
 * Code that runs after a COMMIT needs a snapshot that belongs to a portal,
 * since any other is gone with its transaction.  A background worker has no
 * portal, so we create one that has nothing to run but is active during the
 * call.
 */
void
execute_procedure(const RefreshTarget *target)
{
	Portal		caller_portal = ActivePortal;
	MemoryContext caller_context = PortalContext;
	Portal		portal = CreatePortal("", true, true);
	const char *text;

	/* A COMMIT deletes the current context, but not the portal's. */
	MemoryContextSwitchTo(portal->portalContext);
	text = target_command(target);

	portal->visible = false;
	PortalDefineQuery(portal, NULL, text, CMDTAG_CALL, NIL, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	MarkPortalActive(portal);

	PG_TRY();
	{
		ActivePortal = portal;
		PortalContext = portal->portalContext;
		EnsurePortalSnapshotExists();
		execute_call(target, NIL, text, PROCESS_UTILITY_QUERY_NONATOMIC);
		if (portal->portalSnapshot != NULL && ActiveSnapshotSet())
			PopActiveSnapshot();
		portal->portalSnapshot = NULL;
	}
	PG_CATCH();
	{
		MarkPortalFailed(portal);
		ActivePortal = caller_portal;
		PortalContext = caller_context;
		PG_RE_THROW();
	}
	PG_END_TRY();

	ActivePortal = caller_portal;
	PortalContext = caller_context;
	MemoryContextSwitchTo(TopTransactionContext);
	MarkPortalDone(portal);
	PortalDrop(portal, false);
}

/*
 * Call a procedure so that it cannot COMMIT.
 */
void
execute_procedure_atomically(const RefreshTarget *target, List *args)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	execute_call(target, args, target_command(target),
				 PROCESS_UTILITY_QUERY);
	PopActiveSnapshot();
}

/*
 * Call a procedure by its OID.  We set a query ID, so that extensions that
 * watch statements see the CALL as they would see one that was parsed.
 */
static void
execute_call(const RefreshTarget *target, List *args, const char *text,
			 ProcessUtilityContext context)
{
	PlannedStmt *statement = makeNode(PlannedStmt);
	CallStmt   *call = makeNode(CallStmt);
	ErrorContextCallback callback;

	call->funcexpr = target_call(target, args);
	statement->commandType = CMD_UTILITY;
	statement->queryId = hash_bytes_extended((const unsigned char *) text,
											 strlen(text), 0);
	statement->canSetTag = true;
	statement->utilityStmt = (Node *) call;
	statement->stmt_location = -1;

	callback.callback = execute_context;
	callback.arg = unconstify(char *, text);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	ProcessUtility(statement, text, false, context, NULL, NULL,
				   CreateDestReceiver(DestNone), NULL);
	error_context_stack = callback.previous;
	CommandCounterIncrement();
}

static void
execute_context(void *arg)
{
	errcontext("SQL statement \"%s\"", (const char *) arg);
}
