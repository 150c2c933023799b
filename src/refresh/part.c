/*-------------------------------------------------------------------------
 *
 * part.c
 *	  The rows of a view, and of its query, for which a condition holds.
 *
 * The query becomes a subquery, with the condition outside of it.  The
 * planner pushes the condition down as far as it may, to the indexes of the
 * tables.
 *
 * It also pushes conditions on the columns of GROUP BY, DISTINCT, UNION and
 * PARTITION BY below these, which combine equal values.  If equal values need
 * not be the same (numeric 1.0 and 1.00, text in a case-insensitive
 * collation), and the condition holds for only one of them, that can give
 * other rows than the whole query has.  In that case we fence the query off
 * by OFFSET 0: it is run as a whole, and the condition filters its rows.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/sysattr.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "src/common/compat.h"
#include "src/refresh/part.h"
#include "src/refresh/query.h"

/* The walk over a query */
typedef struct PartWalk
{
	Relation	relation;
	bool		fence;			/* the condition must stay outside */
} PartWalk;

static void part_check_top(Relation relation, const Query *query,
						   const Condition *condition);
static bool part_refuse_volatile(Node *node, void *relation);
static bool part_is_volatile(Oid function, void *found);
static void part_refuse(Relation relation, const char *reason);
static bool part_is_sorted_by(const Query *query, List *clauses,
							  AttrNumber column);
static bool part_is_top_exact(const Query *query, const Condition *condition);
static bool part_walk(Node *node, void *arg);
static bool part_is_exact(const Query *query, List *clauses,
						  const Bitmapset *columns);
static bool part_is_set_exact(const SetOperationStmt *node,
							  const Bitmapset *columns);
static bool part_is_type_exact(Oid operator, Oid type, Oid collation);

/*
 * Make a query for the TIDs of the rows of a view for which the condition
 * holds.
 */
Query *
part_of_view(Relation relation, const Condition *condition)
{
	ParseState *pstate = make_parsestate(NULL);
	Query	   *query = makeNode(Query);
	RangeTblRef *reference = makeNode(RangeTblRef);
	Var		   *tid = makeVar(1, SelfItemPointerAttributeNumber, TIDOID, -1,
							  InvalidOid, 0);

	(void) addRangeTableEntryForRelation(pstate, relation, AccessShareLock,
										 NULL, false, true);
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->stmt_location = -1;

	/* The owner need not have SELECT on the view. */
	compat_set_range_table(query, pstate);
	reference->rtindex = 1;
	query->jointree = makeFromExpr(list_make1(reference),
								   copyObject(condition->expression));
	query->targetList = list_make1(makeTargetEntry((Expr *) tid, 1, "ctid",
												   false));
	free_parsestate(pstate);
	return query;
}

/*
 * Make a query for the rows of the view's query for which the condition
 * holds.  The view's query, which must be rewritten, becomes a part of it.
 *
 * Raises an ERROR if the query cannot be restricted to these rows.
 */
Query *
part_of_query(Relation relation, Query *query, const Condition *condition)
{
	TupleDesc	desc = RelationGetDescr(relation);
	PartWalk	walk = {relation, false};
	Query	   *outer = makeNode(Query);
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	RangeTblRef *reference = makeNode(RangeTblRef);

	part_check_top(relation, query, condition);
	walk.fence = !part_is_top_exact(query, condition);
	(void) query_tree_walker(query, part_walk, &walk, 0);
	if (walk.fence)
		query->limitOffset = (Node *) makeConst(INT8OID, -1, InvalidOid,
												sizeof(int64),
												Int64GetDatum(0), false,
												FLOAT8PASSBYVAL);

	entry->rtekind = RTE_SUBQUERY;
	entry->subquery = query;
	entry->eref = makeAlias(RelationGetRelationName(relation), NIL);
	entry->inFromCl = true;
	outer->commandType = CMD_SELECT;
	outer->canSetTag = true;
	outer->stmt_location = -1;
	outer->rtable = list_make1(entry);
	reference->rtindex = 1;
	outer->jointree = makeFromExpr(list_make1(reference),
								   copyObject(condition->expression));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Var		   *var = makeVar(1, i + 1, attribute->atttypid,
								  attribute->atttypmod,
								  attribute->attcollation, 0);

		entry->eref->colnames = lappend(entry->eref->colnames,
										makeString(pstrdup(NameStr(attribute->attname))));
		outer->targetList = lappend(outer->targetList,
									makeTargetEntry((Expr *) var, i + 1,
													pstrdup(NameStr(attribute->attname)),
													false));
	}
	return outer;
}

/*
 * Refuse a view that cannot be refreshed in part, since its rows depend on
 * rows outside of the part, or on chance.
 *
 * This checks only the outermost level.  In subqueries, the planner makes
 * sure that what is below such things is computed as a whole.
 */
static void
part_check_top(Relation relation, const Query *query,
			   const Condition *condition)
{
	ListCell   *cell;

	(void) part_refuse_volatile((Node *) unconstify(Query *, query),
								relation);
	if (query->limitCount != NULL || query->limitOffset != NULL)
		part_refuse(relation, "Its query has LIMIT or OFFSET, so that which rows it has depends on all of them.");
	if (!query->hasWindowFuncs)
		return;
	foreach(cell, query->windowClause)
	{
		WindowClause *window = lfirst_node(WindowClause, cell);
		int			column = -1;

		while ((column = bms_next_member(condition->columns, column)) >= 0)
		{
			if (!part_is_sorted_by(query, window->partitionClause, column))
				part_refuse(relation,
							psprintf("Its query has window functions, and column \"%s\" of the condition is not in PARTITION BY of each of them.",
									 NameStr(TupleDescAttr(RelationGetDescr(relation), column - 1)->attname)));
		}
	}
}

/*
 * Refuse volatile functions.  Always returns false.
 */
static bool
part_refuse_volatile(Node *node, void *relation)
{
	Oid			function;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, part_is_volatile, &function))
		part_refuse(relation,
					psprintf("Its query has volatile function %s.",
							 format_procedure(function)));
	if (IsA(node, NextValueExpr))
		part_refuse(relation, "Its query takes values from a sequence.");
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, part_refuse_volatile,
								 relation, 0);
	return expression_tree_walker(node, part_refuse_volatile, relation);
}

static bool
part_is_volatile(Oid function, void *found)
{
	*(Oid *) found = function;
	return func_volatile(function) == PROVOLATILE_VOLATILE;
}

static void
part_refuse(Relation relation, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot refresh materialized view \"%s\" in part",
					RelationGetRelationName(relation)),
			 errdetail_internal("%s", reason),
			 errhint("Refresh the whole view.")));
}

/*
 * Is this column of the query in a list of GROUP BY, DISTINCT or PARTITION
 * BY?
 */
static bool
part_is_sorted_by(const Query *query, List *clauses, AttrNumber column)
{
	TargetEntry *target = get_tle_by_resno(query->targetList, column);

	return target != NULL && target->ressortgroupref != 0 &&
		get_sortgroupref_clause_noerr(target->ressortgroupref,
									  clauses) != NULL;
}

/*
 * Are equal values that the outermost level combines always the same, in the
 * columns that the condition reads?
 */
static bool
part_is_top_exact(const Query *query, const Condition *condition)
{
	ListCell   *cell;

	if (query->groupingSets != NIL || query->hasTargetSRFs ||
		query->rowMarks != NIL ||
		!part_is_exact(query, query->groupClause, condition->columns) ||
		!part_is_exact(query, query->distinctClause, condition->columns))
		return false;
	foreach(cell, query->windowClause)
	{
		if (!part_is_exact(query,
						   lfirst_node(WindowClause, cell)->partitionClause,
						   condition->columns))
			return false;
	}
	return query->setOperations == NULL ||
		!IsA(query->setOperations, SetOperationStmt) ||
		part_is_set_exact((SetOperationStmt *) query->setOperations,
						  condition->columns);
}

/*
 * Below the outermost level, we do not trace which columns the condition
 * reaches, so we check all of them.
 */
static bool
part_walk(Node *node, void *arg)
{
	PartWalk   *walk = arg;

	if (node == NULL)
		return false;
	if (IsA(node, TableSampleClause))
		part_refuse(walk->relation, "Its query has TABLESAMPLE.");
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		Condition	all = {0};

		if (!part_is_top_exact(query, &all))
			walk->fence = true;
		return query_tree_walker(query, part_walk, walk, 0);
	}
	return expression_tree_walker(node, part_walk, walk);
}

/*
 * Are equal values always the same, in the columns of GROUP BY, DISTINCT or
 * PARTITION BY?  If all of the given columns are among these, only the given
 * ones matter: of rows that are combined, all are in the part, or none.
 */
static bool
part_is_exact(const Query *query, List *clauses, const Bitmapset *columns)
{
	bool		all = bms_is_empty(columns);
	int			column = -1;
	ListCell   *cell;

	while ((column = bms_next_member(columns, column)) >= 0)
		all = all || !part_is_sorted_by(query, clauses, column);
	foreach(cell, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
		TargetEntry *target = get_sortgroupclause_tle(clause,
													  query->targetList);

		if ((all || bms_is_member(target->resno, columns)) &&
			!part_is_type_exact(clause->eqop,
								exprType((Node *) target->expr),
								exprCollation((Node *) target->expr)))
			return false;
	}
	return true;
}

/*
 * Same for UNION, INTERSECT and EXCEPT, and what is below them.
 */
static bool
part_is_set_exact(const SetOperationStmt *node, const Bitmapset *columns)
{
	ListCell   *clause;
	ListCell   *type;
	ListCell   *collation;
	int			column = 0;

	if (node->groupClauses != NIL)
	{
		forthree(clause, node->groupClauses, type, node->colTypes,
				 collation, node->colCollations)
		{
			column++;
			if ((bms_is_empty(columns) || bms_is_member(column, columns)) &&
				!part_is_type_exact(lfirst_node(SortGroupClause, clause)->eqop,
									lfirst_oid(type), lfirst_oid(collation)))
				return false;
		}
	}
	return (!IsA(node->larg, SetOperationStmt) ||
			part_is_set_exact((SetOperationStmt *) node->larg, columns)) &&
		(!IsA(node->rarg, SetOperationStmt) ||
		 part_is_set_exact((SetOperationStmt *) node->rarg, columns));
}

/*
 * Are equal values of a type always the same, byte by byte?  B-trees ask the
 * same before they deduplicate values.
 *
 * (Those of bpchar without a length need not be, whatever its operator class
 * says.)
 */
static bool
part_is_type_exact(Oid operator, Oid type, Oid collation)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	Oid			equalimage;

	if (!query_is_own(operator) || getBaseType(type) == BPCHAROID ||
		!OidIsValid(entry->btree_opf))
		return false;
	if (OidIsValid(collation) ?
		!get_collation_isdeterministic(collation) : type_is_collatable(type))
		return false;
	equalimage = get_opfamily_proc(entry->btree_opf, entry->btree_opintype,
								   entry->btree_opintype, BTEQUALIMAGE_PROC);
	return OidIsValid(equalimage) && query_is_own(equalimage) &&
		DatumGetBool(OidFunctionCall1Coll(equalimage, collation,
										  ObjectIdGetDatum(entry->btree_opintype)));
}
