/*-------------------------------------------------------------------------
 *
 * condition.c
 *	  Which rows of a view: from a text to a checked expression.
 *
 * The text is parsed alone, as one expression, and never becomes a part of
 * other SQL.  It is evaluated with the rights of the view's owner, on the
 * rows of the view and on those of its query, and both sides must agree.  So
 * it may read only the columns by which rows are paired, and may consist only
 * of what is known to be harmless: the server's own immutable functions,
 * operators and types (as query.c knows them).
 *
 * Names are looked up only in pg_catalog, so that nobody can put an operator
 * or a type in front of the server's own.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "src/refresh/condition.h"
#include "src/refresh/query.h"

#define CONDITION_HINT_LITERAL \
	"Compute the value before, and write it into the condition as a literal."

/* The walk over a condition */
typedef struct ConditionWalk
{
	ParseState *pstate;
	Relation	relation;
	QueryFacts	facts;
} ConditionWalk;

static void condition_error_callback(void *arg);
static void condition_restrict_names(void);
static Node *condition_parse(ParseState *pstate);
static int	condition_clause_location(const SelectStmt *select);
static bool condition_check_raw(Node *node, void *arg);
static Node *condition_transform(ParseState *pstate, Relation relation,
								 Node *raw);
static bool condition_walk(Node *node, void *arg);
static Var *condition_any_type(ConditionWalk *walk, Node *node);
static void condition_check_implicit_cast(ConditionWalk *walk,
										  RelabelType *cast);
static bool condition_is_known(Node *node);
static void condition_check_node(ConditionWalk *walk, Node *node);
static void condition_check_var(ConditionWalk *walk, Var *var);
static void condition_refuse(ConditionWalk *walk, Node *node,
							 const char *reason, const char *hint);
static void condition_check_index(ConditionWalk *walk,
								  const Condition *condition);
static char *condition_sentence(const char *reason);

/*
 * Parse and check a condition on the rows of a view.  The result is allocated
 * in the current memory context.
 *
 * The view must be locked.  Input functions of types are called for
 * constants, so the caller must act as the view's owner, with an active
 * snapshot.  Raises an ERROR that says what is not allowed, and where.
 */
Condition *
condition_read(Relation relation, const char *text)
{
	Condition  *condition = palloc0(sizeof(Condition));
	ConditionWalk walk;
	ErrorContextCallback callback;
	int			guc_level = NewGUCNestLevel();
	Bitmapset  *attributes = NULL;
	int			member = -1;

	callback.callback = condition_error_callback;
	callback.arg = unconstify(char *, text);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	condition_restrict_names();

	walk.relation = relation;
	walk.pstate = make_parsestate(NULL);
	walk.pstate->p_sourcetext = text;

	query_init_facts(&walk.facts);
	condition->expression = condition_transform(walk.pstate, relation,
												condition_parse(walk.pstate));
	(void) condition_walk(condition->expression, &walk);
	AtEOXact_GUC(false, guc_level);

	pull_varattnos(condition->expression, 1, &attributes);
	while ((member = bms_next_member(attributes, member)) >= 0)
		condition->columns =
			bms_add_member(condition->columns,
						   member + FirstLowInvalidHeapAttributeNumber);
	condition->shape = merge_shape_create(relation, condition->columns);
	condition_check_index(&walk, condition);

	free_parsestate(walk.pstate);
	error_context_stack = callback.previous;
	return condition;
}

/*
 * A position in the condition is not a position in the statement that called
 * us.
 */
static void
condition_error_callback(void *arg)
{
	const char *text = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(text);
	}
	errcontext("condition of a refresh");
}

/*
 * Name the session's temporary schema last: otherwise it would be searched
 * first.
 */
static void
condition_restrict_names(void)
{
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Parse the text as one expression.
 *
 * The grammar has a rule for PL/pgSQL expressions, which accepts whatever may
 * follow SELECT.  We accept only a single target without a name.
 */
static Node *
condition_parse(ParseState *pstate)
{
	List	   *list = raw_parser(pstate->p_sourcetext, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = castNode(SelectStmt,
								  linitial_node(RawStmt, list)->stmt);
	List	   *targets = select->targetList;
	ResTarget  *target = targets != NIL ? linitial_node(ResTarget, targets) :
		NULL;
	int			location;

	select->targetList = NIL;
	if (!equal(select, makeNode(SelectStmt)))
		location = condition_clause_location(select);
	else if (list_length(targets) > 1)
		location = exprLocation(lsecond(targets));
	else if (target != NULL && target->name == NULL &&
			 target->indirection == NIL &&
			 !(IsA(target->val, ColumnRef) &&
			   IsA(linitial(((ColumnRef *) target->val)->fields), A_Star)))
	{
		(void) condition_check_raw(target->val, pstate);
		return target->val;
	}
	else
		location = target != NULL ? exprLocation((Node *) target) : -1;
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("condition of a refresh is not a single expression"),
			 errhint("Write what could stand after WHERE, and nothing else."),
			 parser_errposition(pstate, location)));
}

/*
 * The location of what does not belong to an expression; -1 if unknown.
 */
static int
condition_clause_location(const SelectStmt *select)
{
	Node	   *clauses[] = {
		(Node *) select->distinctClause,
		(Node *) select->fromClause,
		select->whereClause,
		(Node *) select->groupClause,
		select->havingClause,
		(Node *) select->windowClause,
		(Node *) select->sortClause,
		select->limitOffset,
		select->limitCount,
		(Node *) select->lockingClause,
	};

	for (size_t i = 0; i < lengthof(clauses); i++)
	{
		int			location = exprLocation(clauses[i]);

		if (location >= 0)
			return location;
	}
	return -1;
}

/*
 * Refuse subqueries, before any name is looked up.
 */
static bool
condition_check_raw(Node *node, void *arg)
{
	ParseState *pstate = arg;

	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot use subquery in the condition of a refresh"),
				 errhint(CONDITION_HINT_LITERAL),
				 parser_errposition(pstate, ((SubLink *) node)->location)));
	return raw_expression_tree_walker(node, condition_check_raw, arg);
}

/*
 * Analyze the expression as one on the rows of the view.  The server refuses
 * what WHERE cannot have, such as an aggregate.
 */
static Node *
condition_transform(ParseState *pstate, Relation relation, Node *raw)
{
	ParseNamespaceItem *item =
		addRangeTableEntryForRelation(pstate, relation, AccessShareLock,
									  NULL, false, true);
	Node	   *expression;

	addNSItemToQuery(pstate, item, false, true, true);
	expression = transformExpr(pstate, raw, EXPR_KIND_WHERE);
	expression = coerce_to_boolean(pstate, expression, "condition");
	assign_expr_collations(pstate, expression);
	return expression;
}

/*
 * Refuse what is not known to be harmless.
 */
static bool
condition_walk(Node *node, void *arg)
{
	ConditionWalk *walk = arg;
	Var		   *var;

	if (node == NULL)
		return false;
	if (!IsA(node, List))
		condition_check_node(walk, node);
	var = condition_any_type(walk, node);
	if (var != NULL)
	{
		condition_check_var(walk, var);
		return false;
	}
	return expression_tree_walker(node, condition_walk, arg);
}

/*
 * If this node accepts a column of any type, since it runs no user-defined
 * code, return that column, else NULL.
 */
static Var *
condition_any_type(ConditionWalk *walk, Node *node)
{
	Node	   *arg = NULL;

	if (IsA(node, NullTest))
		arg = (Node *) ((NullTest *) node)->arg;
	else if (IsA(node, RelabelType))
		arg = (Node *) ((RelabelType *) node)->arg;
	if (arg == NULL || !IsA(arg, Var))
		return NULL;
	if (IsA(node, RelabelType))
		condition_check_implicit_cast(walk, (RelabelType *) node);
	return (Var *) arg;
}

/*
 * Refuse an implicit cast of a type that is not the server's own.
 *
 * The type's own operators are not found in pg_catalog.  Those of another
 * type could be used instead, such as that of text for citext, which does not
 * compare as the user expects.
 */
static void
condition_check_implicit_cast(ConditionWalk *walk, RelabelType *cast)
{
	Oid			type = getBaseType(exprType((Node *) cast->arg));

	if (cast->relabelformat != COERCE_IMPLICIT_CAST ||
		query_is_own(type))
		return;
	condition_refuse(walk, (Node *) cast->arg,
					 psprintf("values of type %s would be compared as those of type %s",
							  format_type_be(type),
							  format_type_be(cast->resulttype)),
					 "If that is meant, cast the column explicitly.");
}

/*
 * Check a node, but not what is below it.
 */
static void
condition_check_node(ConditionWalk *walk, Node *node)
{
	if (!condition_is_known(node))
		condition_refuse(walk, node,
						 "it is not known to depend on the columns alone",
						 CONDITION_HINT_LITERAL);
	if (IsA(node, Var))
		condition_check_var(walk, (Var *) node);
	query_read_expression(&walk->facts, node);
	if (walk->facts.reason != NULL)
		condition_refuse(walk, node, walk->facts.reason,
						 "Only immutable functions, operators and types of pg_catalog can be used. What depends on anything else can be computed before, and written as a literal.");
}

static bool
condition_is_known(Node *node)
{
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Const:
		case T_FuncExpr:
		case T_NamedArgExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_BoolExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_CollateExpr:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_CaseTestExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_RowCompareExpr:
		case T_CoalesceExpr:
		case T_MinMaxExpr:
		case T_NullTest:
		case T_BooleanTest:
		case T_SubscriptingRef:
			return true;
		default:
			return false;
	}
}

static void
condition_check_var(ConditionWalk *walk, Var *var)
{
	if (var->varattno == InvalidAttrNumber)
		condition_refuse(walk, (Node *) var,
						 "it refers to whole rows of the view",
						 "Name the columns.");
	if (var->varattno < 0)
		condition_refuse(walk, (Node *) var, "it refers to a system column",
						 "Use columns of a unique index of the view.");
}

static void
condition_refuse(ConditionWalk *walk, Node *node, const char *reason,
				 const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot use this expression in the condition of a refresh"),
			 errdetail_internal("%s", condition_sentence(reason)),
			 errhint("%s", hint),
			 parser_errposition(walk->pstate, exprLocation(node))));
}

/*
 * Raise an ERROR if no unique index has all columns of the condition.
 *
 * The condition must hold for both an old row and the new row that it is
 * paired with, or for neither.
 */
static void
condition_check_index(ConditionWalk *walk, const Condition *condition)
{
	List	   *vars;
	ListCell   *cell;
	Var		   *culprit = NULL;

	if (condition->shape->nkeys > 0)
		return;
	vars = pull_var_clause(condition->expression, 0);
	foreach(cell, vars)
	{
		Var		   *var = lfirst_node(Var, cell);

		if (culprit == NULL ||
			(bms_is_member(culprit->varattno, condition->shape->pairing) &&
			 !bms_is_member(var->varattno, condition->shape->pairing)))
			culprit = var;
	}
	if (bms_is_empty(condition->shape->pairing) || culprit == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot refresh materialized view \"%s\" in part",
						RelationGetRelationName(walk->relation)),
				 errdetail("It has no unique index to pair its old rows with the new ones by."),
				 errhint("Create a unique index on columns of the view, without a WHERE clause, that has the columns of the condition.")));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot use column \"%s\" in the condition of a refresh",
					NameStr(TupleDescAttr(RelationGetDescr(walk->relation),
										  culprit->varattno - 1)->attname)),
			 bms_is_member(culprit->varattno, condition->shape->pairing) ?
			 errdetail("No unique index of materialized view \"%s\" has all columns of the condition.",
					   RelationGetRelationName(walk->relation)) :
			 errdetail("It is not in a unique index of materialized view \"%s\" by which old rows could be paired with new ones.",
					   RelationGetRelationName(walk->relation)),
			 errhint("Create a unique index on columns of the view, without a WHERE clause, that has the columns of the condition."),
			 parser_errposition(walk->pstate, culprit->location)));
}

/*
 * A reason as a full sentence.
 */
static char *
condition_sentence(const char *reason)
{
	char	   *sentence = psprintf("%s.", reason);

	sentence[0] = pg_toupper((unsigned char) sentence[0]);
	return sentence;
}
