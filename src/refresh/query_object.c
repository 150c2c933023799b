/*-------------------------------------------------------------------------
 *
 * query_object.c
 *	  What a query uses: functions, operators, types and collations.
 *
 * Each is harmless only if it is the server's own and nobody can alter its
 * results.  Some things can change in spite of that, such as the version of a
 * collation; those are added to the facts as bytes.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "src/refresh/query_object.h"

/*
 * Immutable functions of the server that look something up by an OID.
 */
static const Oid query_lookups[] = {
	F_PG_INDEXAM_PROGRESS_PHASENAME,
	F_SATISFIES_HASH_PARTITION,
	F_TS_PARSE_OID_TEXT,
	F_TS_TOKEN_TYPE_OID,
};

static const char *query_function_name(const QueryFacts *facts, Oid funcid);
static bool query_is_lookup(Oid funcid);
static void query_check_type_form(QueryFacts *facts, Form_pg_type form);
static void query_check_base_type(QueryFacts *facts, Form_pg_type form);
static void query_check_comparison(QueryFacts *facts, Oid type);
static const char *query_foreign_comparison(const TypeCacheEntry *entry);
static bool query_is_new(QueryFacts *facts, List **known, Oid oid);
static void query_append(QueryFacts *facts, const void *data, int size);

/*
 * Check a function; InvalidOid passes.  Returns true if there is a reason
 * against the query.
 *
 * A superuser can replace or alter even the server's own functions, so the
 * xmin of their rows in pg_proc is added to the facts.
 */
bool
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
		query_fail(facts, QUERY_HINT_AGAIN,
				   "function with OID %u in its query was dropped", funcid);
		return true;
	}
	form = (Form_pg_proc) GETSTRUCT(tuple);
	xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	if (!query_is_own(funcid) ||
		(form->prolang != INTERNALlanguageId &&
		 form->prolang != SQLlanguageId))
		query_fail(facts, QUERY_HINT_VIEW,
				   "function %s is not the server's own",
				   query_function_name(facts, funcid));
	else if (form->provolatile != PROVOLATILE_IMMUTABLE)
		query_fail(facts, QUERY_HINT_READERS,
				   "function %s is not immutable",
				   query_function_name(facts, funcid));
	else if (query_is_lookup(funcid))
		query_fail(facts, QUERY_HINT_READERS,
				   "function %s reads the catalogs",
				   query_function_name(facts, funcid));
	ReleaseSysCache(tuple);

	query_append(facts, &funcid, sizeof(funcid));
	query_append(facts, &xmin, sizeof(xmin));
	return facts->reason != NULL;
}

/*
 * The name of a function, and the operator or cast that calls it, if any.
 */
static const char *
query_function_name(const QueryFacts *facts, Oid funcid)
{
	const char *name = format_procedure(funcid);

	if (OidIsValid(facts->operator))
		return psprintf("%s of operator %s", name,
						format_operator(facts->operator));
	if (facts->cast != NULL)
		return psprintf("%s of the cast from %s to %s", name,
						format_type_be(exprType((Node *) facts->cast->arg)),
						format_type_be(facts->cast->resulttype));
	return name;
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
 * Check an operator; InvalidOid passes.  A user-defined one does not, even if
 * its function is the server's: the planner may put its negator or its
 * commutator in its place.
 */
void
query_check_operator(QueryFacts *facts, Oid operator)
{
	if (!OidIsValid(operator))
		return;
	if (!query_is_own(operator))
		query_fail(facts, QUERY_HINT_VIEW,
				   "operator %s is not the server's own",
				   format_operator(operator));
	if (facts->reason != NULL)
		return;
	facts->operator = operator;
	(void) query_check_function(get_opcode(operator), facts);
	facts->operator = InvalidOid;
}

void
query_check_types(QueryFacts *facts, List *types)
{
	ListCell   *cell;

	foreach(cell, types)
		query_check_type(facts, lfirst_oid(cell));
}

/*
 * Check a type: nobody must be able to alter its values, or how they are
 * compared.
 *
 * The values of an enum keep their order, whatever is added to it.  A record
 * has no definition that could be altered; its columns come from expressions
 * that are checked.  A literal of type unknown stays as it was written.
 */
void
query_check_type(QueryFacts *facts, Oid type)
{
	HeapTuple	tuple;

	if (!OidIsValid(type) || type == RECORDOID || type == RECORDARRAYOID ||
		type == UNKNOWNOID || facts->reason != NULL || !query_is_new(facts, &facts->types, type))
		return;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
	{
		query_fail(facts, QUERY_HINT_AGAIN,
				   "type with OID %u in its query was dropped", type);
		return;
	}
	query_check_type_form(facts, (Form_pg_type) GETSTRUCT(tuple));
	ReleaseSysCache(tuple);
}

static void
query_check_type_form(QueryFacts *facts, Form_pg_type form)
{
	const char *name = format_type_be(form->oid);

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
				query_fail(facts, QUERY_HINT_VIEW,
						   "type %s is not the server's own", name);
			break;
		case TYPTYPE_DOMAIN:
			query_fail(facts,
					   psprintf("What a domain checks can change. Use its base type, %s.",
								format_type_be(getBaseType(form->oid))),
					   "type %s is a domain", name);
			break;
		case TYPTYPE_COMPOSITE:
			query_fail(facts,
					   "Its columns can change. Use columns of their own in its place.",
					   "type %s is a row type", name);
			break;
		default:
			query_fail(facts, QUERY_HINT_VIEW,
					   "type %s is not known to be unchanged", name);
	}
	query_check_comparison(facts, form->oid);
}

/*
 * An array depends on its element type.  A regconfig, a regclass and the like
 * stand for what can be altered.
 */
static void
query_check_base_type(QueryFacts *facts, Form_pg_type form)
{
	const char *name = format_type_be(form->oid);

	if (IsTrueArrayType(form))
		query_check_type(facts, form->typelem);
	else if (!query_is_own(form->oid))
		query_fail(facts, QUERY_HINT_VIEW,
				   "type %s is not the server's own", name);
	else if (form->oid == REGCONFIGOID || form->oid == REGDICTIONARYOID)
		query_fail(facts,
				   "Compute what needs a text search configuration in a stored generated column of the table.",
				   "type %s stands for what can be altered", name);
	else if (strncmp(NameStr(form->typname), "reg", 3) == 0)
		query_fail(facts, "Use oid or text in its place.",
				   "type %s stands for what can be altered", name);
}

/*
 * GREATEST, comparisons of arrays and the like use the default comparison of
 * a type, which no node names.
 */
static void
query_check_comparison(QueryFacts *facts, Oid type)
{
	const char *culprit;

	if (facts->reason != NULL)
		return;
	culprit = query_foreign_comparison(lookup_type_cache(type,
														 TYPECACHE_EQ_OPR |
														 TYPECACHE_LT_OPR |
														 TYPECACHE_GT_OPR |
														 TYPECACHE_CMP_PROC |
														 TYPECACHE_HASH_PROC |
														 TYPECACHE_HASH_EXTENDED_PROC));
	if (culprit != NULL)
		query_fail(facts, QUERY_HINT_VIEW,
				   "type %s is compared by %s, which is not the server's own",
				   format_type_be(type), culprit);
}

/*
 * The first operator or function for comparing a type that is not the
 * server's own; NULL if there is none.
 */
static const char *
query_foreign_comparison(const TypeCacheEntry *entry)
{
	Oid			operators[] = {entry->eq_opr, entry->lt_opr, entry->gt_opr};
	Oid			functions[] = {entry->cmp_proc, entry->hash_proc,
	entry->hash_extended_proc};

	for (size_t i = 0; i < lengthof(operators); i++)
	{
		if (!query_is_own(operators[i]))
			return psprintf("operator %s", format_operator(operators[i]));
	}
	for (size_t i = 0; i < lengthof(functions); i++)
	{
		if (!query_is_own(functions[i]))
			return psprintf("function %s", format_procedure(functions[i]));
	}
	return NULL;
}

/*
 * Check an operator family that rows are compared by.
 */
void
query_check_operator_family(QueryFacts *facts, Oid family)
{
	ObjectAddress address;

	if (query_is_own(family))
		return;
	ObjectAddressSet(address, OperatorFamilyRelationId, family);
	query_fail(facts, QUERY_HINT_VIEW,
			   "its query compares rows by %s, which is not the server's own",
			   getObjectDescription(&address, false));
}

void
query_check_collations(QueryFacts *facts, List *collations)
{
	ListCell   *cell;

	foreach(cell, collations)
		query_check_collation(facts, lfirst_oid(cell));
}

/*
 * Add a collation, if there is one, and its version to the facts: the version
 * that the provider has now, not the one recorded in the catalogs.
 *
 * It may be user-defined, since nothing but its row and the provider define
 * it.
 */
void
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
		query_fail(facts, QUERY_HINT_AGAIN,
				   "collation with OID %u in its query was dropped",
				   collation);
		return;
	}
	xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	ReleaseSysCache(tuple);
	query_append(facts, &collation, sizeof(collation));
	query_append(facts, &xmin, sizeof(xmin));

	/* OidFunctionCall1() would fail where there is no version. */
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
 * Was this not checked yet?  Then it is remembered now.
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
 * Does this object come with the server, so that it cannot be dropped?
 * (InvalidOid counts as such.)
 */
bool
query_is_own(Oid oid)
{
	return oid < FirstUnpinnedObjectId;
}
