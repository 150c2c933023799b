/*-------------------------------------------------------------------------
 *
 * query.c
 *	  Does a query return the same rows as long as its tables do not change?
 *
 * A query passes only if it consists of what is known to be harmless: kinds
 * of nodes, the server's own immutable functions and operators, and types
 * that nobody can alter.  Anything unknown is a reason why the rows may
 * change.  That includes a new major's kinds of nodes, until they are listed
 * here.
 *
 * A user-defined function is not harmless even if it is declared immutable,
 * since it may still read tables.
 *
 * Some things can change in spite of that, such as the version of a
 * collation.  We add those to the facts as bytes, to be compared with the
 * last ones.  (Settings are in state.c.)
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/heap.h"
#include "catalog/pg_collation.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "src/common/compat.h"
#include "src/refresh/query_object.h"

/* The walk over one query */
typedef struct QueryWalk
{
	QueryFacts *facts;
	Oid			view;			/* whose query it is */
	List	   *queries;		/* that the walk is in, the innermost first */
} QueryWalk;

static bool query_walk(Node *node, QueryWalk *walk);
static void query_check_query(QueryWalk *walk, Query *query);
static void query_check_entry(QueryWalk *walk, RangeTblEntry *entry);
static void query_check_node(QueryFacts *facts, Node *node);
static void query_check_expression(QueryFacts *facts, Node *node);
static void query_check_unknown(QueryFacts *facts, Node *node);
static void query_check_settings(QueryFacts *facts, Node *node);
static const char *query_node_name(Node *node);
static const char *query_value_name(const SQLValueFunction *value);
static void query_check_var(QueryWalk *walk, Var *var);
static void query_check_set_operation(QueryFacts *facts,
									  SetOperationStmt *node);
static void query_check_row_compare(QueryFacts *facts, RowCompareExpr *node);
static void query_check_cycle(QueryFacts *facts, CTECycleClause *node);

/*
 * Initialize facts, in the current memory context.
 */
void
query_init_facts(QueryFacts *facts)
{
	memset(facts, 0, sizeof(QueryFacts));
	facts->context = CurrentMemoryContext;
	initStringInfo(&facts->versions);
}

/*
 * Examine the query of a view.  Its relations, and the versions of what it
 * uses, are added to the facts.  If its rows may change for other reasons,
 * the first one is kept.
 *
 * The relations are not examined.  May raise an ERROR, for example if the
 * query is nested too deeply for the stack.
 */
void
query_read(QueryFacts *facts, Query *query, Oid view)
{
	QueryWalk	walk;

	walk.facts = facts;
	walk.view = view;
	walk.queries = NIL;

	/* The database's collation is the default for sorts and comparisons. */
	query_check_collation(facts, DEFAULT_COLLATION_OID);
	(void) query_walk((Node *) query, &walk);
}

/*
 * Examine one node of an expression, of a kind that is known to be harmless:
 * its functions, operators and types, but not what is below it.
 */
void
query_read_expression(QueryFacts *facts, Node *node)
{
	query_check_node(facts, node);
}

/*
 * Set the reason why the rows may change, and what to do about it, unless
 * there is a reason already.
 *
 * The reason must name what is in the way, so that it can be found.
 */
void
query_fail(QueryFacts *facts, const char *hint, const char *format,...)
{
	MemoryContext caller;
	StringInfoData reason;

	if (facts->reason != NULL)
		return;
	caller = MemoryContextSwitchTo(facts->context);
	initStringInfo(&reason);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&reason, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&reason, needed);
	}
	facts->reason = reason.data;
	facts->hint = pstrdup(hint);
	MemoryContextSwitchTo(caller);
}

/*
 * Returns true to end the walk.
 */
static bool
query_walk(Node *node, QueryWalk *walk)
{
	if (node == NULL || walk->facts->reason != NULL)
		return walk->facts->reason != NULL;

	if (IsA(node, Query))
	{
		query_check_query(walk, (Query *) node);
		walk->queries = lcons(node, walk->queries);
		(void) query_tree_walker((Query *) node, query_walk, walk,
								 QTW_EXAMINE_SORTGROUP |
								 QTW_EXAMINE_RTES_BEFORE |
								 QTW_IGNORE_JOINALIASES);
		walk->queries = list_delete_first(walk->queries);
		return walk->facts->reason != NULL;
	}
	if (IsA(node, RangeTblEntry))
	{
		query_check_entry(walk, (RangeTblEntry *) node);
		return false;
	}
	if (IsA(node, Var))
		query_check_var(walk, (Var *) node);
	query_check_node(walk->facts, node);
	if (walk->facts->reason != NULL ||
		expression_tree_walker(node, query_walk, walk))
		return true;

	/* Last, since this looks at what is below the node, too */
	if (compat_depends_on_settings(node))
		query_check_settings(walk->facts, node);
	return walk->facts->reason != NULL;
}

/*
 * Check the parts of a query that are not nodes of their own.
 */
static void
query_check_query(QueryWalk *walk, Query *query)
{
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
		query_fail(walk->facts, QUERY_HINT_AGAIN,
				   "its query is not a plain SELECT");
	if (query->rowMarks != NIL)
		query_fail(walk->facts,
				   "Leave FOR UPDATE, FOR SHARE and the like out of it.",
				   "its query locks rows of \"%s\"",
				   rt_fetch(linitial_node(RowMarkClause,
										  query->rowMarks)->rti,
							query->rtable)->eref->aliasname);
}

/*
 * Check a range table entry.  Its contents are walked separately, except for
 * the aliases of a join.
 */
static void
query_check_entry(QueryWalk *walk, RangeTblEntry *entry)
{
	QueryFacts *facts = walk->facts;
	ListCell   *cell;

	if (entry->rtekind == RTE_TABLEFUNC)
		query_check_settings(facts, (Node *) entry->tablefunc);
	else if (!compat_range_table_is_known(entry->rtekind))
		query_fail(facts, QUERY_HINT_VIEW,
				   "\"%s\" in its query is of a kind that is not known to be unchanged",
				   entry->eref->aliasname);
	if (entry->securityQuals != NIL)
		query_fail(facts, QUERY_HINT_VIEW,
				   "its query has row security for \"%s\"",
				   entry->eref->aliasname);

	switch (entry->rtekind)
	{
		case RTE_RELATION:
			if (entry->tablesample != NULL)
				query_fail(facts, QUERY_HINT_VIEW,
						   "its query has TABLESAMPLE for \"%s\"",
						   entry->eref->aliasname);

			/* The rule's own relation is listed as OLD and NEW. */
			if (entry->relid != walk->view)
				facts->relations = lappend(facts->relations, entry);
			break;
		case RTE_JOIN:

			/*
			 * A column that both sides share may be an expression.  Those of
			 * one side are checked where they are used.
			 */
			foreach(cell, entry->joinaliasvars)
			{
				Node	   *alias = lfirst(cell);

				if (alias != NULL && !IsA(alias, Var) &&
					query_walk(alias, walk))
					break;
			}
			break;
		case RTE_FUNCTION:
			foreach(cell, entry->functions)
			{
				RangeTblFunction *function = lfirst_node(RangeTblFunction,
														 cell);

				query_check_types(facts, function->funccoltypes);
				query_check_collations(facts, function->funccolcollations);
			}
			break;
		case RTE_VALUES:
		case RTE_CTE:
			query_check_types(facts, entry->coltypes);
			query_check_collations(facts, entry->colcollations);
			break;
		default:
			break;
	}
}

/*
 * Check a node.  Those that are not expressions are handled here.
 */
static void
query_check_node(QueryFacts *facts, Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_TargetEntry:
		case T_RangeTblRef:
		case T_FromExpr:
		case T_JoinExpr:
		case T_CaseWhen:
		case T_CommonTableExpr:
		case T_CTESearchClause:
		case T_RangeTblFunction:
			break;
		case T_SortGroupClause:
			query_check_operator(facts, ((SortGroupClause *) node)->eqop);
			query_check_operator(facts, ((SortGroupClause *) node)->sortop);
			break;
		case T_WindowClause:
			query_check_function(((WindowClause *) node)->startInRangeFunc,
								 facts);
			query_check_function(((WindowClause *) node)->endInRangeFunc,
								 facts);
			query_check_collation(facts, ((WindowClause *) node)->inRangeColl);
			break;
		case T_SetOperationStmt:
			query_check_set_operation(facts, (SetOperationStmt *) node);
			break;
		case T_CTECycleClause:
			query_check_cycle(facts, (CTECycleClause *) node);
			break;
		default:
			query_check_expression(facts, node);
	}
}

/*
 * Check an expression: its kind, then what all kinds have.
 */
static void
query_check_expression(QueryFacts *facts, Node *node)
{
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Const:
		case T_Param:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
		case T_SubscriptingRef:
		case T_FuncExpr:
		case T_NamedArgExpr:
		case T_BoolExpr:
		case T_SubLink:
		case T_FieldSelect:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_CollateExpr:
		case T_CaseExpr:
		case T_CaseTestExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
			break;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			query_check_operator(facts, ((OpExpr *) node)->opno);
			break;
		case T_ScalarArrayOpExpr:
			query_check_operator(facts, ((ScalarArrayOpExpr *) node)->opno);
			break;
		case T_RowCompareExpr:
			query_check_row_compare(facts, (RowCompareExpr *) node);
			break;
		default:
			if (!compat_node_is_harmless(node))
			{
				query_check_unknown(facts, node);
				return;
			}
	}

	facts->cast = IsA(node, CoerceViaIO) ? (CoerceViaIO *) node : NULL;
	(void) check_functions_in_node(node, query_check_function, facts);
	facts->cast = NULL;
	query_check_type(facts, exprType(node));
	query_check_collation(facts, exprCollation(node));
	query_check_collation(facts, exprInputCollation(node));
}

/*
 * Say what is wrong with a node that is not known to be harmless.
 */
static void
query_check_unknown(QueryFacts *facts, Node *node)
{
	if (compat_depends_on_settings(node))
		query_check_settings(facts, node);
	switch (nodeTag(node))
	{
		case T_SQLValueFunction:
			query_fail(facts, QUERY_HINT_READERS,
					   "%s is not immutable",
					   query_value_name((SQLValueFunction *) node));
			break;
		case T_NextValueExpr:
			query_fail(facts, QUERY_HINT_READERS,
					   "its query takes values from sequence %s",
					   get_rel_name(((NextValueExpr *) node)->seqid));
			break;
		case T_CoerceToDomain:
			query_check_type(facts, ((CoerceToDomain *) node)->resulttype);
			break;
		case T_ConvertRowtypeExpr:
			query_check_type(facts, ((ConvertRowtypeExpr *) node)->resulttype);
			break;
		default:
			break;
	}
	query_fail(facts, QUERY_HINT_VIEW,
			   "its query has an expression of a kind that is not known to be unchanged, %s",
			   query_node_name(node));
}

/*
 * Fail since the result of an expression depends on settings.
 */
static void
query_check_settings(QueryFacts *facts, Node *node)
{
	query_fail(facts, QUERY_HINT_VIEW, "the result of %s depends on settings",
			   query_node_name(node));
}

/*
 * What a node is called in SQL, or, if we do not know that, in the server's
 * source.
 */
static const char *
query_node_name(Node *node)
{
	static const char *const xml[] = {
		"XMLCONCAT", "XMLELEMENT", "XMLFOREST", "XMLPARSE", "XMLPI",
		"XMLROOT", "XMLSERIALIZE", "IS DOCUMENT"
	};
	const char *name = compat_node_name(node);

	if (name != NULL)
		return name;
	if (IsA(node, XmlExpr) && ((XmlExpr *) node)->op < lengthof(xml))
		return xml[((XmlExpr *) node)->op];

	/* This begins with a brace and the name. */
	name = nodeToString(node) + 1;
	return pnstrdup(name, strcspn(name, " }"));
}

static const char *
query_value_name(const SQLValueFunction *value)
{
	switch (value->op)
	{
		case SVFOP_CURRENT_DATE:
			return "CURRENT_DATE";
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			return "CURRENT_TIME";
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			return "CURRENT_TIMESTAMP";
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			return "LOCALTIME";
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return "LOCALTIMESTAMP";
		case SVFOP_CURRENT_ROLE:
			return "CURRENT_ROLE";
		case SVFOP_CURRENT_USER:
			return "CURRENT_USER";
		case SVFOP_USER:
			return "USER";
		case SVFOP_SESSION_USER:
			return "SESSION_USER";
		case SVFOP_CURRENT_CATALOG:
			return "CURRENT_CATALOG";
		case SVFOP_CURRENT_SCHEMA:
			return "CURRENT_SCHEMA";
	}
	return "a function of SQL";
}

static void
query_check_var(QueryWalk *walk, Var *var)
{
	const char *name = "";

	if (var->varattno > 0 || var->varattno == TableOidAttributeNumber)
		return;
	if ((int) var->varlevelsup < list_length(walk->queries))
	{
		Query	   *query = list_nth_node(Query, walk->queries,
										  var->varlevelsup);

		if (var->varno > 0 && (int) var->varno <= list_length(query->rtable))
			name = rt_fetch(var->varno, query->rtable)->eref->aliasname;
	}
	if (var->varattno == InvalidAttrNumber)
		query_fail(walk->facts, "Name the columns.",
				   "its query refers to whole rows of \"%s\"", name);
	else
		query_fail(walk->facts, QUERY_HINT_VIEW,
				   "its query refers to system column \"%s\" of \"%s\"",
				   NameStr(SystemAttributeDefinition(var->varattno)->attname),
				   name);
}

/*
 * The operators of UNION and the like are in lists that are not walked.
 */
static void
query_check_set_operation(QueryFacts *facts, SetOperationStmt *node)
{
	ListCell   *cell;

	foreach(cell, node->groupClauses)
		query_check_node(facts, lfirst(cell));
	query_check_types(facts, node->colTypes);
	query_check_collations(facts, node->colCollations);
}

static void
query_check_row_compare(QueryFacts *facts, RowCompareExpr *node)
{
	ListCell   *cell;

	foreach(cell, node->opnos)
		query_check_operator(facts, lfirst_oid(cell));
	foreach(cell, node->opfamilies)
		query_check_operator_family(facts, lfirst_oid(cell));
	query_check_collations(facts, node->inputcollids);
}

static void
query_check_cycle(QueryFacts *facts, CTECycleClause *node)
{
	query_check_type(facts, node->cycle_mark_type);
	query_check_collation(facts, node->cycle_mark_collation);
	query_check_operator(facts, node->cycle_mark_neop);
}
