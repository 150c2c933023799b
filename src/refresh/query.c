/*-------------------------------------------------------------------------
 *
 * query.c
 *	  Does a query return the same rows as long as its tables do not change?
 *
 * A query passes only if it consists of what is known to be harmless: kinds
 * of nodes, the server's own immutable functions and operators, and types
 * that nobody can alter.  Whatever is not known gives a reason why the rows
 * may change, so a new major's kinds of nodes do until they are listed here.
 *
 * A function of a user's is not harmless even if it is declared immutable,
 * since it may still read tables.
 *
 * What can change in spite of that, such as the version of a collation, is
 * added to the facts as bytes, to be compared with those of the last time.
 * (Settings are in state.c.)
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "src/common/compat.h"
#include "src/refresh/query.h"

#define QUERY_DEPENDS_ON_SETTINGS \
	"its query has an XML or JSON expression that depends on settings"

/*
 * Immutable functions of the server's that look something up by the OID that
 * they are given.
 */
static const Oid query_lookups[] = {
	F_PG_INDEXAM_PROGRESS_PHASENAME,
	F_SATISFIES_HASH_PARTITION,
	F_TS_PARSE_OID_TEXT,
	F_TS_TOKEN_TYPE_OID,
};

/* The walk over one query */
typedef struct QueryWalk
{
	QueryFacts *facts;
	Oid			view;			/* whose query it is */
} QueryWalk;

static bool query_walk(Node *node, QueryWalk *walk);
static void query_check_query(QueryWalk *walk, Query *query);
static void query_check_entry(QueryWalk *walk, RangeTblEntry *entry);
static void query_check_node(QueryFacts *facts, Node *node);
static void query_check_expression(QueryFacts *facts, Node *node);
static void query_check_unknown(QueryFacts *facts, Node *node);
static void query_check_var(QueryFacts *facts, Var *var);
static void query_check_set_operation(QueryFacts *facts,
									  SetOperationStmt *node);
static void query_check_row_compare(QueryFacts *facts, RowCompareExpr *node);
static void query_check_cycle(QueryFacts *facts, CTECycleClause *node);
static bool query_check_function(Oid funcid, void *arg);
static bool query_is_lookup(Oid funcid);
static void query_check_operator(QueryFacts *facts, Oid operator);
static void query_check_types(QueryFacts *facts, List *types);
static void query_check_type(QueryFacts *facts, Oid type);
static void query_check_type_form(QueryFacts *facts, Form_pg_type form);
static void query_check_base_type(QueryFacts *facts, Form_pg_type form);
static void query_check_comparison(QueryFacts *facts, Oid type);
static void query_check_collations(QueryFacts *facts, List *collations);
static void query_check_collation(QueryFacts *facts, Oid collation);
static bool query_is_new(QueryFacts *facts, List **known, Oid oid);
static void query_append(QueryFacts *facts, const void *data, int size);

/*
 * Start with nothing, in the current memory context.
 */
void
query_init_facts(QueryFacts *facts)
{
	memset(facts, 0, sizeof(QueryFacts));
	facts->context = CurrentMemoryContext;
	initStringInfo(&facts->versions);
}

/*
 * Look at the query of a view: its relations are added to the facts, and the
 * versions of what it uses; if its rows may change for another reason, the
 * first one that is found is kept.
 *
 * Relations are not looked at.  May raise an ERROR, for example if the query
 * is nested too deeply for the stack.
 */
void
query_read(QueryFacts *facts, Query *query, Oid view)
{
	QueryWalk	walk;

	walk.facts = facts;
	walk.view = view;

	/* What sorts and compares by default does so by the database's. */
	query_check_collation(facts, DEFAULT_COLLATION_OID);
	(void) query_walk((Node *) query, &walk);
}

/*
 * Look at one node of an expression, of a kind that is known to be harmless: at
 * its functions, operators and types, but not at what is below it.
 */
void
query_read_expression(QueryFacts *facts, Node *node)
{
	query_check_node(facts, node);
}

/*
 * Give a reason why the rows may change, unless there is one already.
 */
void
query_fail(QueryFacts *facts, const char *format,...)
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
		return query_tree_walker((Query *) node, query_walk, walk,
								 QTW_EXAMINE_SORTGROUP |
								 QTW_EXAMINE_RTES_BEFORE |
								 QTW_IGNORE_JOINALIASES);
	}
	if (IsA(node, RangeTblEntry))
	{
		query_check_entry(walk, (RangeTblEntry *) node);
		return false;
	}
	query_check_node(walk->facts, node);
	if (walk->facts->reason != NULL ||
		expression_tree_walker(node, query_walk, walk))
		return true;

	/* Last, since this looks at what is below the node, too */
	if (compat_depends_on_settings(node))
		query_fail(walk->facts, QUERY_DEPENDS_ON_SETTINGS);
	return walk->facts->reason != NULL;
}

/*
 * Check what is not a node of its own in a query.
 */
static void
query_check_query(QueryWalk *walk, Query *query)
{
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
		query_fail(walk->facts, "its query is not a plain SELECT");
	if (query->rowMarks != NIL)
		query_fail(walk->facts, "its query locks rows");
}

/*
 * Check an entry of a range table.  What stands in it is walked by itself,
 * apart from the aliases of a join.
 */
static void
query_check_entry(QueryWalk *walk, RangeTblEntry *entry)
{
	QueryFacts *facts = walk->facts;
	ListCell   *cell;

	if (!compat_range_table_is_known(entry->rtekind))
		query_fail(facts, entry->rtekind == RTE_TABLEFUNC ?
				   QUERY_DEPENDS_ON_SETTINGS :
				   "its query reads what is not known to be unchanged");
	if (entry->securityQuals != NIL)
		query_fail(facts, "its query has row security");

	switch (entry->rtekind)
	{
		case RTE_RELATION:
			if (entry->tablesample != NULL)
				query_fail(facts, "its query has TABLESAMPLE");

			/* The rule's own relation stands there as OLD and NEW. */
			if (entry->relid != walk->view)
				facts->relations = lappend(facts->relations, entry);
			break;
		case RTE_JOIN:

			/*
			 * A column of both sides may be an expression.  Those of one side
			 * are checked where they are used.
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
 * Check a node: first those that are no expressions.
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
		case T_Var:
			query_check_var(facts, (Var *) node);
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

	(void) check_functions_in_node(node, query_check_function, facts);
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
		query_fail(facts, QUERY_DEPENDS_ON_SETTINGS);
	switch (nodeTag(node))
	{
		case T_SQLValueFunction:
			query_fail(facts, "its query depends on the time or the user");
			break;
		case T_NextValueExpr:
			query_fail(facts, "its query takes values from a sequence");
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
	query_fail(facts, "its query has an expression that is not known to be unchanged");
}

static void
query_check_var(QueryFacts *facts, Var *var)
{
	if (var->varattno == InvalidAttrNumber)
		query_fail(facts, "its query refers to a whole row");
	else if (var->varattno < 0 && var->varattno != TableOidAttributeNumber)
		query_fail(facts, "its query refers to a system column");
}

/*
 * The operators of UNION and its like stand in lists that are not walked.
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
	{
		if (!query_is_own(lfirst_oid(cell)))
			query_fail(facts, "its query compares rows by an operator family that is not the server's own");
	}
	query_check_collations(facts, node->inputcollids);
}

static void
query_check_cycle(QueryFacts *facts, CTECycleClause *node)
{
	query_check_type(facts, node->cycle_mark_type);
	query_check_collation(facts, node->cycle_mark_collation);
	query_check_operator(facts, node->cycle_mark_neop);
}

/*
 * Check a function; without one, there is nothing to check.  Returns true if
 * it rules the query out.
 *
 * A superuser can replace or alter even the server's own functions, so their
 * rows in pg_proc are kept.
 */
static bool
query_check_function(Oid funcid, void *arg)
{
	QueryFacts *facts = arg;
	HeapTuple	tuple;
	Form_pg_proc form;
	TransactionId xmin;

	if (!OidIsValid(funcid) ||
		!query_is_new(facts, &facts->functions, funcid))
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
	{
		query_fail(facts, "a function in its query was dropped");
		return true;
	}
	form = (Form_pg_proc) GETSTRUCT(tuple);
	xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	if (!query_is_own(funcid) ||
		(form->prolang != INTERNALlanguageId &&
		 form->prolang != SQLlanguageId))
		query_fail(facts, "function %s is not the server's own",
				   format_procedure(funcid));
	else if (form->provolatile != PROVOLATILE_IMMUTABLE)
		query_fail(facts, "function %s is not immutable",
				   format_procedure(funcid));
	else if (query_is_lookup(funcid))
		query_fail(facts, "function %s reads the catalogs",
				   format_procedure(funcid));
	ReleaseSysCache(tuple);

	query_append(facts, &funcid, sizeof(funcid));
	query_append(facts, &xmin, sizeof(xmin));
	return facts->reason != NULL;
}

static bool
query_is_lookup(Oid funcid)
{
	for (size_t i = 0; i < lengthof(query_lookups); i++)
	{
		if (query_lookups[i] == funcid)
			return true;
	}
	return false;
}

/*
 * Check an operator, if there is one.  One of a user's does not pass even if
 * its function is the server's: the planner may put its negator or its
 * commutator in its place.
 */
static void
query_check_operator(QueryFacts *facts, Oid operator)
{
	if (OidIsValid(operator) && !query_is_own(operator))
		query_fail(facts, "operator %s is not the server's own",
				   format_operator(operator));
	if (OidIsValid(operator) && facts->reason == NULL)
		(void) query_check_function(get_opcode(operator), facts);
}

static void
query_check_types(QueryFacts *facts, List *types)
{
	ListCell   *cell;

	foreach(cell, types)
		query_check_type(facts, lfirst_oid(cell));
}

/*
 * Check a type: nobody may be able to alter what its values are, nor how they
 * are compared.
 *
 * The values of an enum keep their order, whatever is added to it.  A record
 * has no definition that could be altered; its columns come from expressions
 * that are checked.  A literal of an unknown type is as it was written.
 */
static void
query_check_type(QueryFacts *facts, Oid type)
{
	HeapTuple	tuple;

	if (!OidIsValid(type) || type == RECORDOID || type == RECORDARRAYOID ||
		type == UNKNOWNOID || facts->reason != NULL || !query_is_new(facts, &facts->types, type))
		return;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
	{
		query_fail(facts, "a type in its query was dropped");
		return;
	}
	query_check_type_form(facts, (Form_pg_type) GETSTRUCT(tuple));
	ReleaseSysCache(tuple);
}

static void
query_check_type_form(QueryFacts *facts, Form_pg_type form)
{
	const char *fault = NULL;

	switch (form->typtype)
	{
		case TYPTYPE_BASE:
			query_check_base_type(facts, form);
			break;
		case TYPTYPE_ENUM:
			break;
		case TYPTYPE_RANGE:
		case TYPTYPE_MULTIRANGE:
			if (!query_is_own(form->oid))
				fault = "is not the server's own";
			break;
		case TYPTYPE_DOMAIN:
			fault = "is a domain";
			break;
		case TYPTYPE_COMPOSITE:
			fault = "is a row type";
			break;
		default:
			fault = "is not known to be unchanged";
	}
	if (fault != NULL)
		query_fail(facts, "type %s %s", format_type_be(form->oid), fault);
	query_check_comparison(facts, form->oid);
}

/*
 * An array is what its elements are.  A regconfig, a regclass and their like
 * stand for what can be altered.
 */
static void
query_check_base_type(QueryFacts *facts, Form_pg_type form)
{
	if (IsTrueArrayType(form))
		query_check_type(facts, form->typelem);
	else if (!query_is_own(form->oid))
		query_fail(facts, "type %s is not the server's own",
				   format_type_be(form->oid));
	else if (strncmp(NameStr(form->typname), "reg", 3) == 0)
		query_fail(facts, "type %s stands for what can be altered",
				   format_type_be(form->oid));
}

/*
 * GREATEST, comparisons of arrays and the like use what a type is compared by
 * by default, and no node names that.
 */
static void
query_check_comparison(QueryFacts *facts, Oid type)
{
	TypeCacheEntry *entry;

	if (facts->reason != NULL)
		return;
	entry = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR |
							  TYPECACHE_GT_OPR | TYPECACHE_CMP_PROC |
							  TYPECACHE_HASH_PROC |
							  TYPECACHE_HASH_EXTENDED_PROC);
	if (!query_is_own(entry->eq_opr) || !query_is_own(entry->lt_opr) ||
		!query_is_own(entry->gt_opr) || !query_is_own(entry->cmp_proc) ||
		!query_is_own(entry->hash_proc) ||
		!query_is_own(entry->hash_extended_proc))
		query_fail(facts, "type %s is compared by functions that are not the server's own",
				   format_type_be(type));
}

static void
query_check_collations(QueryFacts *facts, List *collations)
{
	ListCell   *cell;

	foreach(cell, collations)
		query_check_collation(facts, lfirst_oid(cell));
}

/*
 * Keep what a collation, if there is one, is and which version of it there
 * is: the provider's, not the one that the catalogs have noted.
 *
 * It may be a user's, since it is all in its row and in the provider.
 */
static void
query_check_collation(QueryFacts *facts, Oid collation)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	function;
	HeapTuple	tuple;
	TransactionId xmin;
	Datum		version;

	if (!OidIsValid(collation) ||
		!query_is_new(facts, &facts->collations, collation))
		return;
	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	if (!HeapTupleIsValid(tuple))
	{
		query_fail(facts, "a collation in its query was dropped");
		return;
	}
	xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	ReleaseSysCache(tuple);
	query_append(facts, &collation, sizeof(collation));
	query_append(facts, &xmin, sizeof(xmin));

	/* Not by OidFunctionCall1(), since there may be no version. */
	if (collation == DEFAULT_COLLATION_OID)
		fmgr_info(F_PG_DATABASE_COLLATION_ACTUAL_VERSION, &function);
	else
		fmgr_info(F_PG_COLLATION_ACTUAL_VERSION, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value =
		ObjectIdGetDatum(collation == DEFAULT_COLLATION_OID ?
						 MyDatabaseId : collation);
	fcinfo->args[0].isnull = false;
	version = FunctionCallInvoke(fcinfo);
	if (!fcinfo->isnull)
	{
		char	   *string = TextDatumGetCString(version);

		query_append(facts, string, strlen(string) + 1);
	}
}

/*
 * Is this not yet among those that were looked at?  Then it is now.
 */
static bool
query_is_new(QueryFacts *facts, List **known, Oid oid)
{
	MemoryContext caller;

	if (list_member_oid(*known, oid))
		return false;
	caller = MemoryContextSwitchTo(facts->context);
	*known = lappend_oid(*known, oid);
	MemoryContextSwitchTo(caller);
	return true;
}

static void
query_append(QueryFacts *facts, const void *data, int size)
{
	appendBinaryStringInfo(&facts->versions, data, size);
}

/*
 * Did the server come with this, so that it cannot be dropped?  (Nothing at
 * all counts as such.)
 */
bool
query_is_own(Oid oid)
{
	return oid < FirstUnpinnedObjectId;
}
