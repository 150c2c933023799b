/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  The differences between the majors of PostgreSQL that we support.
 *
 * Wrappers only, so that no other file asks for the server's version.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef COMPAT_H
#define COMPAT_H

#include "access/htup_details.h"
#include "access/tableam.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_node.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgworker_internals.h"
#include "tcop/tcopprot.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "bigbrotr_refresher needs PostgreSQL 15 or later"
#endif

/*
 * The arguments that one signal handler passes on to another.
 */
#if PG_VERSION_NUM >= 190000
#define COMPAT_SIGNAL_ARGS	postgres_signal_arg, pg_siginfo
#else
#define COMPAT_SIGNAL_ARGS	postgres_signal_arg
#endif

/*
 * Allocate memory that a check hook can return as its "extra".  Returns NULL
 * if there is not enough memory.
 */
static inline void *
compat_guc_malloc(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

static inline void
compat_guc_free(void *memory)
{
#if PG_VERSION_NUM >= 160000
	guc_free(memory);
#else
	free(memory);
#endif
}

/*
 * Does the result of this expression depend on settings such as DateStyle,
 * though its functions do not say so?
 */
static inline bool
compat_depends_on_settings(Node *node)
{
#if PG_VERSION_NUM >= 170000
	if (IsA(node, JsonExpr))
		return true;
#endif
#if PG_VERSION_NUM >= 160000
	if (IsA(node, JsonConstructorExpr))
		return contain_mutable_functions(node);
#endif
	return IsA(node, XmlExpr) || IsA(node, TableFunc);
}

/*
 * The name in SQL of a node that only some majors have, or NULL.
 */
static inline const char *
compat_node_name(Node *node)
{
#if PG_VERSION_NUM >= 170000
	if (IsA(node, JsonExpr))
	{
		switch (((JsonExpr *) node)->op)
		{
			case JSON_EXISTS_OP:
				return "JSON_EXISTS";
			case JSON_QUERY_OP:
				return "JSON_QUERY";
			case JSON_VALUE_OP:
				return "JSON_VALUE";
			case JSON_TABLE_OP:
				return "JSON_TABLE";
		}
	}
	if (IsA(node, TableFunc) &&
		((TableFunc *) node)->functype == TFT_JSON_TABLE)
		return "JSON_TABLE";
#endif
#if PG_VERSION_NUM >= 160000
	if (IsA(node, JsonConstructorExpr))
	{
		switch (((JsonConstructorExpr *) node)->type)
		{
			case JSCTOR_JSON_OBJECT:
				return "JSON_OBJECT";
			case JSCTOR_JSON_ARRAY:
				return "JSON_ARRAY";
			case JSCTOR_JSON_OBJECTAGG:
				return "JSON_OBJECTAGG";
			case JSCTOR_JSON_ARRAYAGG:
				return "JSON_ARRAYAGG";
			default:
				return "JSON";
		}
	}
#endif
	return IsA(node, TableFunc) ? "XMLTABLE" : NULL;
}

/*
 * Is this a kind of node that only some majors have, and that gives the same
 * result for the same input?  (It may still depend on settings, see
 * compat_depends_on_settings().)
 */
static inline bool
compat_node_is_harmless(Node *node)
{
#if PG_VERSION_NUM >= 160000
	return IsA(node, JsonConstructorExpr) || IsA(node, JsonValueExpr) ||
		IsA(node, JsonIsPredicate);
#else
	return false;
#endif
}

/*
 * Is this range table entry a relation, or of a kind whose rows come only
 * from other entries and from expressions?
 */
static inline bool
compat_range_table_is_known(RTEKind kind)
{
#if PG_VERSION_NUM >= 180000
	if (kind == RTE_GROUP)
		return true;
#endif
	return kind == RTE_RELATION || kind == RTE_SUBQUERY || kind == RTE_JOIN ||
		kind == RTE_FUNCTION || kind == RTE_VALUES || kind == RTE_CTE ||
		kind == RTE_RESULT;
}

/*
 * The name of a virtual generated column of this table, or NULL.
 */
static inline char *
compat_virtual_column(Oid relid)
{
#if PG_VERSION_NUM >= 180000
	for (AttrNumber number = 1;; number++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
											Int16GetDatum(number));
		Form_pg_attribute column;
		char	   *name = NULL;

		if (!HeapTupleIsValid(tuple))
			return NULL;
		column = (Form_pg_attribute) GETSTRUCT(tuple);
		if (column->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
			name = pstrdup(NameStr(column->attname));
		ReleaseSysCache(tuple);
		if (name != NULL)
			return name;
	}
#else
	return NULL;
#endif
}

/*
 * Raise an ERROR if the current user may not use a schema.
 */
static inline void
compat_check_schema_usage(Oid namespace)
{
#if PG_VERSION_NUM >= 160000
	AclResult	result = object_aclcheck(NamespaceRelationId, namespace,
										 GetUserId(), ACL_USAGE);
#else
	AclResult	result = pg_namespace_aclcheck(namespace, GetUserId(),
											   ACL_USAGE);
#endif

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_SCHEMA, get_namespace_name(namespace));
}

/*
 * Can we connect to this database?  Not if a DROP DATABASE was interrupted.
 * (The server has a name for this number only since 15.4.)
 */
static inline bool
compat_database_is_valid(Form_pg_database database)
{
	return database->datconnlimit != -2;
}

/*
 * May this role create temporary tables in this database?
 */
static inline bool
compat_may_make_temporary(Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(DatabaseRelationId, MyDatabaseId, role,
						   ACL_CREATE_TEMP) == ACLCHECK_OK;
#else
	return pg_database_aclcheck(MyDatabaseId, role,
								ACL_CREATE_TEMP) == ACLCHECK_OK;
#endif
}

/*
 * The wait event of an idle process, created on first use.
 */
static inline uint32
compat_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("BigbrotrRefresherMain");
	return event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*
 * A number that identifies the current transaction within this process.
 */
static inline LocalTransactionId
compat_local_transaction_id(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/*
 * The entry of a backend in this session's copy of the backend status array,
 * by its index there, from 1.
 */
static inline LocalPgBackendStatus *
compat_backend_entry(int place)
{
#if PG_VERSION_NUM >= 160000
	return pgstat_get_local_beentry_by_index(place);
#else
	return pgstat_fetch_stat_local_beentry(place);
#endif
}

/*
 * Does the current user own this relation, or this function?
 */
static inline bool
compat_owns_relation(Oid relid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, GetUserId());
#else
	return pg_class_ownercheck(relid, GetUserId());
#endif
}

static inline bool
compat_owns_function(Oid funcid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(ProcedureRelationId, funcid, GetUserId());
#else
	return pg_proc_ownercheck(funcid, GetUserId());
#endif
}

/*
 * In the postmaster: is a worker of this name registered?
 */
#if PG_VERSION_NUM >= 180000
static inline bool
compat_worker_registered(const char *name)
{
	dlist_iter	iter;

	dlist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *worker = dlist_container(RegisteredBgWorker,
													 rw_lnode, iter.cur);

		if (strcmp(worker->rw_worker.bgw_name, name) == 0)
			return true;
	}
	return false;
}
#else
static inline bool
compat_worker_registered(const char *name)
{
	slist_iter	iter;

	slist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *worker = slist_container(RegisteredBgWorker,
													 rw_lnode, iter.cur);

		if (strcmp(worker->rw_worker.bgw_name, name) == 0)
			return true;
	}
	return false;
}
#endif

/*
 * Is the current user allowed to refresh this relation?  A callback for
 * RangeVarGetRelidExtended().
 */
#if PG_VERSION_NUM >= 170000
#define compat_check_maintains RangeVarCallbackMaintainsTable
#else
#define compat_check_maintains RangeVarCallbackOwnsTable
#endif

/*
 * Set the search_path for code that runs with the rights of a relation's
 * owner.
 */
static inline void
compat_restrict_search_path(void)
{
#if PG_VERSION_NUM >= 170000
	RestrictSearchPath();
#endif
}

/*
 * Give a query the range table of a ParseState, without permission checks on
 * its relations.
 */
static inline void
compat_set_range_table(Query *query, ParseState *pstate)
{
	ListCell   *cell;

	query->rtable = pstate->p_rtable;
#if PG_VERSION_NUM >= 160000
	query->rteperminfos = pstate->p_rteperminfos;
	foreach(cell, query->rteperminfos)
		lfirst_node(RTEPermissionInfo, cell)->requiredPerms = 0;
#else
	foreach(cell, query->rtable)
		lfirst_node(RangeTblEntry, cell)->requiredPerms = 0;
#endif
}

/*
 * Plan a query; the plan may be a parallel one.
 */
static inline PlannedStmt *
compat_plan_query(Query *query, const char *text)
{
#if PG_VERSION_NUM >= 190000
	return pg_plan_query(query, text, CURSOR_OPT_PARALLEL_OK, NULL, NULL);
#else
	return pg_plan_query(query, text, CURSOR_OPT_PARALLEL_OK, NULL);
#endif
}

/*
 * Run a query to completion.
 */
static inline void
compat_executor_run(QueryDesc *query)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(query, ForwardScanDirection, 0);
#else
	ExecutorRun(query, ForwardScanDirection, 0, true);
#endif
}

/*
 * Insert the index entries of a row that was inserted.
 */
static inline void
compat_insert_index_entries(ResultRelInfo *indexes, TupleTableSlot *slot,
							EState *estate)
{
#if PG_VERSION_NUM >= 190000
	List	   *rechecks = ExecInsertIndexTuples(indexes, estate, 0, slot, NIL,
												 NULL);
#elif PG_VERSION_NUM >= 160000
	List	   *rechecks = ExecInsertIndexTuples(indexes, slot, estate, false,
												 false, NULL, NIL, false);
#else
	List	   *rechecks = ExecInsertIndexTuples(indexes, slot, estate, false,
												 false, NULL, NIL);
#endif

	list_free(rechecks);
}

/*
 * Update a row and insert the index entries that it needs.  "tid" is the TID
 * of the old row.
 *
 * We do not tell index access methods that an update left the indexed columns
 * unchanged, since that hint needs a range table.
 */
static inline void
compat_update(Relation relation, ItemPointer tid, TupleTableSlot *slot,
			  Snapshot snapshot, ResultRelInfo *indexes, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update;
#else
	bool		update;
#endif

	simple_table_tuple_update(relation, tid, slot, snapshot, &update);
	if (indexes->ri_NumIndices == 0)
		return;
#if PG_VERSION_NUM >= 190000
	if (update != TU_None)
		(void) ExecInsertIndexTuples(indexes, estate,
									 update == TU_Summarizing ?
									 EIIT_ONLY_SUMMARIZING : 0,
									 slot, NIL, NULL);
#elif PG_VERSION_NUM >= 160000
	if (update != TU_None)
		(void) ExecInsertIndexTuples(indexes, slot, estate, false, false, NULL,
									 NIL, update == TU_Summarizing);
#else
	if (update)
		compat_insert_index_entries(indexes, slot, estate);
#endif
}

#endif							/* COMPAT_H */
