/*-------------------------------------------------------------------------
 *
 * target.c
 *	  What a name of the list stands for, and how it is refreshed.
 *
 * The method is the first of these that exists: a function "<view>_refresh"
 * without arguments, a procedure of that name, REFRESH for a materialized
 * view; for anything else, a function or procedure of that name that takes a
 * window.
 *
 * A function runs with the rights of the role that calls it.  That role is a
 * powerful one, in a database where weaker roles may create functions, so we
 * call a function only if its owner could do as much anyway.  If the owner
 * could not, a materialized view is refreshed without its function, so that
 * nobody can stop its refreshes by creating one.
 *
 * Everything here reads the catalogs through the system caches and takes no
 * lock on a relation: planning must never wait for somebody's REFRESH.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/scansup.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/evtcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "src/common/compat.h"
#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/plan/target.h"
#include "src/plan/target_explain.h"

static char *target_quote(const char *schema, const char *name);
static void target_find_relation(RefreshTarget *target);
static bool target_use_function(RefreshTarget *target, Oid type, Oid role);
static void target_choose_window(RefreshTarget *target, Oid role);
static HeapTuple target_find_function(RefreshTarget *target, Oid type);
static HeapTuple target_function_in(const char *name, Oid type, Oid namespace);
static bool target_trusts(Form_pg_proc proc, Oid role);
static Oid	target_trigger_in_c(EventTriggerEvent event);
static void target_choose_refresh(RefreshTarget *target);
static bool target_has_full_unique_index(Oid relid);

/*
 * Set the parameters that apply to a target.
 */
void
target_take_settings(RefreshTarget *target, const ViewSettings *own)
{
	target->merge = own->merge;
	target->window_delay = own->window_delay;
	target->max_window = own->max_window;
}

/*
 * Find what target->schema and target->name stand for now, and fill in the
 * rest.  "role" is the role that will call the function.
 *
 * It is not an error here if a target cannot be refreshed; it gets the method
 * NONE and a message.  Strings are allocated in the current memory context.
 * Needs a transaction, and a snapshot for catalogs.
 */
void
target_resolve(RefreshTarget *target, Oid role)
{
	target->relid = InvalidOid;
	target->relkind = 0;
	target->funcid = target->window_type = InvalidOid;
	target->method = REFRESH_METHOD_NONE;
	target->refused = NULL;
	target->not_merged = target->merge_hint = NULL;
	target->sqlerrcode = 0;
	target->message = target->detail = target->hint = NULL;

	if (target_explain_encoding(target))
		return;
	target_find_relation(target);
	if (target->too_complex)
	{
		target_explain_complexity(target);
		return;
	}
	if (target_use_function(target, InvalidOid, role))
		return;
	if (target->relkind == RELKIND_MATVIEW)
	{
		target_choose_refresh(target);
		return;
	}
	target_choose_window(target, role);
	if (target->method == REFRESH_METHOD_NONE && target->message == NULL)
		target_explain_missing(target);
}

/*
 * Raise an ERROR unless "now" is still what was planned.
 *
 * If a name stands for something else than when the plan was made, we do not
 * refresh that, since the order of the plan was not made for it.
 */
void
target_check_unchanged(const RefreshTarget *planned, const RefreshTarget *now)
{
	if (planned->relid == now->relid && planned->funcid == now->funcid)
		return;

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s was dropped, renamed or created anew since the cycle was planned",
					target_display(target_label(planned->schema,
												planned->name))),
			 errhint("The next cycle will find what there is then.")));
}

/*
 * Raise an ERROR if a materialized view is not merged, by whatever function
 * it is refreshed: then no part of it can be refreshed either.
 */
void
target_check_merged(RefreshTarget *target)
{
	HeapTuple	tuple = SearchSysCache1(RELOID,
										ObjectIdGetDatum(target->relid));
	Form_pg_class class;

	if (!HeapTupleIsValid(tuple))
		target_raise_dropped(target);
	class = (Form_pg_class) GETSTRUCT(tuple);
	target_explain_unmerged(target, class);
	if (target->not_merged != NULL)
		target_explain_no_part(target, class);
	ReleaseSysCache(tuple);
	if (target->not_merged != NULL)
		target_raise(target);
}

/*
 * May REFRESH commands be taken over in this database?
 */
bool
target_merges_are_safe(void)
{
	return !OidIsValid(target_unsafe_trigger());
}

/*
 * The function of an event trigger because of which they may not; InvalidOid
 * if there is none.
 *
 * The event trigger of a library such as pgaudit may raise an ERROR if that
 * library has not seen the command before.  A library that was loaded before
 * ours does not see it.
 */
Oid
target_unsafe_trigger(void)
{
	static const EventTriggerEvent events[] = {
		EVT_DDLCommandStart, EVT_DDLCommandEnd, EVT_SQLDrop
	};
	Oid			function = InvalidOid;

	for (size_t i = 0; i < lengthof(events) && refresher_is_behind &&
		 !OidIsValid(function); i++)
		function = target_trigger_in_c(events[i]);
	return function;
}

static Oid
target_trigger_in_c(EventTriggerEvent event)
{
	List	   *functions = NIL;
	ListCell   *cell;
	Oid			found = InvalidOid;

	/* The cache's list may be freed when we read catalogs. */
	foreach(cell, EventCacheLookup(event))
		functions = lappend_oid(functions,
								((EventTriggerCacheItem *) lfirst(cell))->fnoid);
	foreach(cell, functions)
	{
		HeapTuple	tuple = SearchSysCache1(PROCOID,
											ObjectIdGetDatum(lfirst_oid(cell)));

		if (!HeapTupleIsValid(tuple))
			continue;
		if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
			found = lfirst_oid(cell);
		ReleaseSysCache(tuple);
	}
	list_free(functions);
	return found;
}

/*
 * Raise the ERROR that says why a target cannot be refreshed.
 */
void
target_raise(const RefreshTarget *target)
{
	Assert(target->method == REFRESH_METHOD_NONE);

	ereport(ERROR,
			(errcode(target->sqlerrcode),
			 errmsg_internal("%s", target->message),
			 target->detail ? errdetail_internal("%s", target->detail) : 0,
			 target->hint ? errhint("%s", target->hint) : 0));
}

/*
 * Raise the ERROR that says that a target was dropped.
 *
 * Looking a relation up does not lock it, so its name and its schema may be
 * gone whenever they are read again.
 */
void
target_raise_dropped(const RefreshTarget *target)
{
	ereport(ERROR,
			(errcode(OidIsValid(target->relid) ? ERRCODE_UNDEFINED_TABLE :
					 ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("%s was dropped in this moment",
					target_display(target_label(target->schema,
												target->name)))));
}

/*
 * Lock the function that a target was planned with until the end of the
 * transaction.
 *
 * Then nobody can drop or rename it or change its owner, so the function that
 * target_resolve() finds after this is the one that we call.  We do not lock
 * a relation: REFRESH takes the lock that it needs, and holding a weaker one
 * before would invite deadlocks.
 */
void
target_lock(const RefreshTarget *target)
{
	if (OidIsValid(target->funcid))
		LockDatabaseObject(ProcedureRelationId, target->funcid, 0,
						   AccessShareLock);
}

/*
 * Build the call of a target's function with these arguments.  The function
 * must be locked.
 *
 * We do not look up its name again: somebody could have renamed the schema
 * meanwhile and put another one in its place, and another function of this
 * name whose arguments have defaults would make the name ambiguous.  Raises
 * an ERROR if the current user may not use the schema, as looking up the name
 * would.
 */
FuncExpr *
target_call(const RefreshTarget *target, List *args)
{
	FuncExpr   *call = makeFuncExpr(target->funcid,
									get_func_rettype(target->funcid), args,
									InvalidOid, InvalidOid,
									COERCE_EXPLICIT_CALL);

	compat_check_schema_usage(get_func_namespace(target->funcid));
	call->funcretset = get_func_retset(target->funcid);
	return call;
}

/*
 * Build the command that refreshes a target, with the current names of its
 * OIDs.
 *
 * In "SELECT name" and "CALL name()", the name is only there for readers:
 * what is executed is the call that target_call() builds.  Raises an ERROR if
 * the object was dropped.
 */
char *
target_command(const RefreshTarget *target)
{
	char	   *name;
	char	   *schema;
	const char *format = NULL;

	if (OidIsValid(target->funcid))
	{
		name = get_func_name(target->funcid);
		schema = get_namespace_name(get_func_namespace(target->funcid));
	}
	else
	{
		name = get_rel_name(target->relid);
		schema = get_namespace_name(get_rel_namespace(target->relid));
	}

	switch (target->method)
	{
		case REFRESH_METHOD_NONE:
			target_raise(target);
			break;
		case REFRESH_METHOD_FUNCTION:
			format = "SELECT %s";
			break;
		case REFRESH_METHOD_PROCEDURE:
			format = "CALL %s()";
			break;
		case REFRESH_METHOD_WINDOW:
			format = get_func_prokind(target->funcid) == PROKIND_PROCEDURE ?
				"CALL %s()" : "SELECT %s";
			break;
		case REFRESH_METHOD_PLAIN:
			format = "REFRESH MATERIALIZED VIEW %s";
			break;
		case REFRESH_METHOD_CONCURRENTLY:
		case REFRESH_METHOD_MERGE:
			format = "REFRESH MATERIALIZED VIEW CONCURRENTLY %s";
			break;
	}

	if (name == NULL || schema == NULL)
		target_raise_dropped(target);
	return psprintf(format, target_quote(schema, name));
}

/*
 * The label of a name with its schema, if there is one.
 */
const char *
target_qualified_name(const RefreshTarget *target)
{
	Oid			namespace = InvalidOid;

	if (target->schema != NULL)
		return target_label(target->schema, target->name);
	if (OidIsValid(target->relid))
		namespace = get_rel_namespace(target->relid);
	else if (OidIsValid(target->funcid))
		namespace = get_func_namespace(target->funcid);
	return target_label(OidIsValid(namespace) ?
						get_namespace_name(namespace) : NULL, target->name);
}

/*
 * Fold a name of the list as SQL would in this database: if it was not
 * quoted, it is folded to lower case in single-byte encodings.  (The list's
 * parser has folded ASCII letters already.)  The result is a copy.
 */
char *
target_fold(const char *name, bool folds)
{
	return folds ? downcase_identifier(name, strlen(name), false, false) :
		pstrdup(name);
}

/*
 * The label of a name, for the log and the history: it is quoted where SQL
 * requires it, so that two names never look the same.
 *
 * A label is a key, so it does not depend on settings of the session.  It is
 * valid text, even if the name is not.
 */
const char *
target_label(const char *schema, const char *name)
{
	return log_valid(target_quote(schema, name));
}

/*
 * A label for messages: in double quotes, unless it has them already.
 */
const char *
target_display(const char *label)
{
	return strchr(label, '"') != NULL ? label : psprintf("\"%s\"", label);
}

static char *
target_quote(const char *schema, const char *name)
{
	bool		quote_all = quote_all_identifiers;
	char	   *quoted;

	quote_all_identifiers = false;
	quoted = quote_qualified_identifier(schema, name);
	quote_all_identifiers = quote_all;
	return quoted;
}

const char *
target_method_name(RefreshMethod method)
{
	switch (method)
	{
		case REFRESH_METHOD_NONE:
			break;
		case REFRESH_METHOD_FUNCTION:
			return "function";
		case REFRESH_METHOD_PROCEDURE:
			return "procedure";
		case REFRESH_METHOD_PLAIN:
			return "refresh";
		case REFRESH_METHOD_CONCURRENTLY:
			return "refresh concurrently";
		case REFRESH_METHOD_MERGE:
			return "merge";
		case REFRESH_METHOD_WINDOW:
			return "window";
	}
	return NULL;
}

static void
target_find_relation(RefreshTarget *target)
{
	if (target->schema == NULL)
		target->relid = RelnameGetRelid(target->name);
	else
	{
		Oid			namespace = get_namespace_oid(target->schema, true);

		if (OidIsValid(namespace))
			target->relid = get_relname_relid(target->name, namespace);
	}
	if (OidIsValid(target->relid))
		target->relkind = get_rel_relkind(target->relid);
}

/*
 * Use the function with two arguments of this type (InvalidOid: without
 * arguments), if it exists and its owner is trusted.  Otherwise returns
 * false; if the owner is not trusted, the target says so.
 */
static bool
target_use_function(RefreshTarget *target, Oid type, Oid role)
{
	HeapTuple	tuple = target_find_function(target, type);
	Form_pg_proc proc;
	bool		trusted;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	trusted = target_trusts(proc, role);
	if (trusted)
	{
		target->funcid = proc->oid;
		target->window_type = type;
		target->message = target->detail = target->hint = NULL;
		if (OidIsValid(type))
			target->method = REFRESH_METHOD_WINDOW;
		else
			target->method = proc->prokind == PROKIND_PROCEDURE ?
				REFRESH_METHOD_PROCEDURE : REFRESH_METHOD_FUNCTION;
	}
	else if (target->relkind == RELKIND_MATVIEW)
		target->refused = target_role_name(proc->proowner);
	else if (target->method == REFRESH_METHOD_NONE)
		target_explain_distrust(target, proc, role);
	ReleaseSysCache(tuple);
	return trusted;
}

/*
 * Look for a function that takes a window.  If there are several, we use
 * none, since we would have to guess which one made the target's rows.
 */
static void
target_choose_window(RefreshTarget *target, Oid role)
{
	static const Oid types[] = {XID8OID, INT8OID, TIMESTAMPTZOID};

	for (size_t i = 0; i < lengthof(types); i++)
	{
		Oid			before = target->window_type;

		if (!target_use_function(target, types[i], role) ||
			!OidIsValid(before))
			continue;
		target_explain_ambiguity(target, before, types[i]);
		return;
	}
}

/*
 * Look for the function with two arguments of this type (InvalidOid: without
 * arguments): in the schema of the relation if there is one, else in the
 * schema that was named, else along search_path.
 *
 * It must have exactly these arguments, so that a function with defaults or a
 * VARIADIC argument cannot slip in.  A name that leaves no room for the
 * suffix has no such function: a truncated name might be that of something
 * else.
 */
static HeapTuple
target_find_function(RefreshTarget *target, Oid type)
{
	char		name[NAMEDATALEN + sizeof(TARGET_SUFFIX)];
	HeapTuple	tuple = NULL;
	List	   *path;
	ListCell   *cell;

	snprintf(name, sizeof(name), "%s" TARGET_SUFFIX, target->name);
	if (strlen(name) >= NAMEDATALEN)
		return NULL;

	if (OidIsValid(target->relid))
		return target_function_in(name, type,
								  get_rel_namespace(target->relid));
	if (target->schema != NULL)
	{
		Oid			namespace = get_namespace_oid(target->schema, true);

		return OidIsValid(namespace) ?
			target_function_in(name, type, namespace) : NULL;
	}

	path = fetch_search_path(false);
	foreach(cell, path)
	{
		tuple = target_function_in(name, type, lfirst_oid(cell));
		if (HeapTupleIsValid(tuple))
			break;
	}
	list_free(path);
	return tuple;
}

/*
 * The function or procedure of this name and these arguments, or NULL.
 * Functions of temporary schemas are never called by name, so they do not
 * count.
 */
static HeapTuple
target_function_in(const char *name, Oid type, Oid namespace)
{
	Oid			types[2] = {type, type};
	HeapTuple	tuple;
	Form_pg_proc proc;

	if (isAnyTempNamespace(namespace))
		return NULL;
	tuple = SearchSysCache3(PROCNAMEARGSNSP, PointerGetDatum(name),
							PointerGetDatum(buildoidvector(types,
														   OidIsValid(type) ? 2 : 0)),
							ObjectIdGetDatum(namespace));
	if (!HeapTupleIsValid(tuple))
		return NULL;
	proc = (Form_pg_proc) GETSTRUCT(tuple);

	/* A trigger function cannot be called. */
	if (proc->prokind == PROKIND_FUNCTION &&
		proc->prorettype != TRIGGEROID &&
		proc->prorettype != EVENT_TRIGGEROID)
		return tuple;

	/* CALL wants the output arguments of a procedure, too; SELECT does not. */
	if (proc->prokind == PROKIND_PROCEDURE &&
		heap_attisnull(tuple, Anum_pg_proc_proallargtypes, NULL))
		return tuple;
	ReleaseSysCache(tuple);
	return NULL;
}

/*
 * May "role" call this function?  Only if the function's owner could do all
 * that the role can.
 */
static bool
target_trusts(Form_pg_proc proc, Oid role)
{
	return superuser_arg(proc->proowner) ||
		has_privs_of_role(proc->proowner, role);
}

/*
 * Choose between merging, REFRESH CONCURRENTLY and REFRESH, by what each
 * requires.  (merge.c and the server's matview.c have the same rules.)
 */
static void
target_choose_refresh(RefreshTarget *target)
{
	HeapTuple	tuple = SearchSysCache1(RELOID,
										ObjectIdGetDatum(target->relid));
	Form_pg_class class;

	target->method = REFRESH_METHOD_PLAIN;
	if (!HeapTupleIsValid(tuple))
		return;
	class = (Form_pg_class) GETSTRUCT(tuple);
	target_explain_unmerged(target, class);
	if (target->not_merged == NULL)
		target->method = REFRESH_METHOD_MERGE;
	else if (class->relispopulated)
	{
		bool		indexed = target_has_full_unique_index(target->relid);

		if (indexed && compat_may_make_temporary(class->relowner))
			target->method = REFRESH_METHOD_CONCURRENTLY;
		else
			target_explain_blocking(target, class, indexed);
	}
	ReleaseSysCache(tuple);
}

/*
 * Is there a unique index on plain columns over all rows?
 */
static bool
target_has_full_unique_index(Oid relid)
{
	Relation	catalog = table_open(IndexRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, IndexIndrelidIndexId, true, NULL,
							  1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		if (!index->indisunique || !index->indimmediate ||
			!index->indisvalid || index->indnatts == 0 ||
			!heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
			continue;

		found = true;
		for (int i = 0; i < index->indnatts; i++)
		{
			/* Zero stands for an expression. */
			if (index->indkey.values[i] <= 0)
				found = false;
		}
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}
