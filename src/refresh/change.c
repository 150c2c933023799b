/*-------------------------------------------------------------------------
 *
 * change.c
 *	  Has anything under a view changed since a given mark?
 *
 * A mark stands for all that the query of a materialized view reads: of each
 * table below it, through plain views, with partitions and other children, the
 * cumulative counters of rows inserted, updated and deleted and the file that
 * holds them (TRUNCATE and rewrites change that); the definition of each view
 * in between; and when the counters were last reset.  If two marks are equal,
 * nothing has changed that the server's statistics have heard of.
 *
 * Where that could be wrong there is no mark, but a reason.  Among them is
 * everything that may give another result for the same rows: whatever is not
 * immutable, and whatever is not the server's own, since a function that says
 * it is immutable may still read tables.
 *
 * Materialized views below count as tables: their readers see what is stored.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "rewrite/rewriteSupport.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "src/refresh/change.h"
#include "src/common/compat.h"

/* Changes whenever marks of the past must not be compared with new ones */
#define CHANGE_MARK_VERSION 3

/* A mark in the making */
typedef struct ChangeReader
{
	StringInfoData data;		/* what is hashed at the end */
	List	   *views;			/* plain views that were read, OIDs */
	Oid			view;			/* the view whose query is being walked */
	const char *reason;			/* why there is no mark, or NULL */
} ChangeReader;

/*
 * What is known of a table.  The xmin of a row of a catalog never comes back,
 * not even if what the row says does.
 */
typedef struct ChangeTable
{
	Oid			relid;
	Oid			relfilenode;
	TransactionId class_xmin;	/* of its row in pg_class */
	TransactionId inherits_xmin;	/* of that in pg_inherits, for a child */
	int64		inserted;
	int64		updated;
	int64		deleted;
} ChangeTable;

static void change_read_server(ChangeReader *reader);
static void change_read_query(ChangeReader *reader, Oid view);
static bool change_walk(Node *node, ChangeReader *reader);
static void change_check_node(ChangeReader *reader, Node *node);
static bool change_is_foreign(Oid funcid, void *context);
static void change_check_sort(ChangeReader *reader, Node *node);
static void change_check_type(ChangeReader *reader, Oid type);
static void change_read_entry(ChangeReader *reader, RangeTblEntry *entry);
static void change_read_tables(ChangeReader *reader, Oid relid, bool children);
static void change_read_children(ChangeReader *reader, Oid relid);
static void change_read_table(ChangeReader *reader, Oid relid,
							  TransactionId inherits_xmin);
static uint64 change_refresh_version(Oid relid);
static void change_append(ChangeReader *reader, const void *data, int size);
static void change_fail(ChangeReader *reader, const char *reason);

/*
 * Read the mark of a materialized view: all that a refresh that starts after
 * this sees, and maybe less.
 *
 * Returns NULL with the mark; or else the reason why there is none, and the
 * view must be taken for changed.  The epoch is left to the caller.  Needs a
 * transaction and a snapshot for catalogs; takes no lock on any table.
 */
const char *
change_read_mark(Oid relid, ChangeMark *mark)
{
	ChangeReader reader = {0};
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));

	memset(mark, 0, sizeof(ChangeMark));
	if (!HeapTupleIsValid(tuple) ||
		((Form_pg_class) GETSTRUCT(tuple))->relkind != RELKIND_MATVIEW)
		reader.reason = "it is not a materialized view";
	else if (!((Form_pg_class) GETSTRUCT(tuple))->relispopulated)
		reader.reason = "it is not populated";
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (reader.reason != NULL)
		return reader.reason;

	initStringInfo(&reader.data);
	change_read_server(&reader);
	change_read_query(&reader, relid);
	mark->reads[0] = hash_bytes_extended((unsigned char *) reader.data.data,
										 reader.data.len,
										 UINT64CONST(0x6d61726b2d31));
	mark->reads[1] = hash_bytes_extended((unsigned char *) reader.data.data,
										 reader.data.len,
										 UINT64CONST(0x6d61726b2d32));
	mark->view = change_refresh_version(relid);
	mark->known = reader.reason == NULL;
	pfree(reader.data.data);
	return reader.reason;
}

/*
 * In the transaction of a refresh, after it: the mark that was read before it
 * is now that of the refreshed view.
 */
void
change_mark_settle(ChangeMark *mark, Oid relid)
{
	uint64		now = change_refresh_version(relid);

	/* Its function may have returned without a refresh. */
	if (now == mark->view)
		mark->known = false;
	mark->view = now;
}

/*
 * Are both known, and the same?
 */
bool
change_mark_equal(const ChangeMark *a, const ChangeMark *b)
{
	return a->known && b->known && a->reads[0] == b->reads[0] &&
		a->reads[1] == b->reads[1] && a->view == b->view &&
		a->epoch == b->epoch;
}

/*
 * The mark as the history keeps it, in the current memory context; NULL if it
 * is not known.
 */
char *
change_mark_to_text(const ChangeMark *mark)
{
	if (!mark->known)
		return NULL;
	return psprintf("%d:%016llx%016llx:%016llx:%llx", CHANGE_MARK_VERSION,
					(unsigned long long) mark->reads[0],
					(unsigned long long) mark->reads[1],
					(unsigned long long) mark->view,
					(unsigned long long) mark->epoch);
}

/*
 * Read it back.  What is not a mark of this version is not known.
 */
void
change_mark_from_text(const char *text, ChangeMark *mark)
{
	unsigned long long reads[2];
	unsigned long long view;
	unsigned long long epoch;
	int			version;

	memset(mark, 0, sizeof(ChangeMark));
	if (sscanf(text, "%d:%16llx%16llx:%16llx:%llx", &version, &reads[0],
			   &reads[1], &view, &epoch) != 5 ||
		version != CHANGE_MARK_VERSION)
		return;
	mark->known = true;
	mark->reads[0] = reads[0];
	mark->reads[1] = reads[1];
	mark->view = view;
	mark->epoch = epoch;
}

/*
 * What holds for all counters: which server's they are, and since when they
 * count.
 *
 * A reset of a table or of the database leaves its time in the database's
 * entry.  After a crash, all is reset, and the time is left with the
 * background writer's counters.  A server that was promoted has a timeline of
 * its own.
 */
static void
change_read_server(ChangeReader *reader)
{
	PgStat_StatDBEntry *database;
	TimestampTz reset = 0;
	TimeLineID	timeline;
	int			version = CHANGE_MARK_VERSION;

	if (RecoveryInProgress())
	{
		change_fail(reader, "the server is in recovery");
		return;
	}
	if (!pgstat_track_counts)
		change_fail(reader, "track_counts is off");

	pgstat_clear_snapshot();
	change_append(reader, &version, sizeof(version));
	change_append(reader, &MyDatabaseId, sizeof(MyDatabaseId));
	timeline = GetWALInsertionTimeLine();
	change_append(reader, &timeline, sizeof(timeline));
	database = pgstat_fetch_stat_dbentry(MyDatabaseId);
	if (database != NULL)
		reset = database->stat_reset_timestamp;
	change_append(reader, &reset, sizeof(reset));
	reset = pgstat_fetch_stat_bgwriter()->stat_reset_timestamp;
	change_append(reader, &reset, sizeof(reset));
}

/*
 * Read the query of a view, which is the action of its rule.
 */
static void
change_read_query(ChangeReader *reader, Oid view)
{
	Oid			caller = reader->view;
	HeapTuple	rule;
	Datum		action;
	bool		isnull;
	char	   *string;
	uint64		hash;
	TransactionId xmin;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(view),
						   PointerGetDatum(ViewSelectRuleName));
	if (!HeapTupleIsValid(rule))
	{
		change_fail(reader, "a view below it was dropped");
		return;
	}
	action = SysCacheGetAttr(RULERELNAME, rule, Anum_pg_rewrite_ev_action,
							 &isnull);
	Assert(!isnull);
	string = TextDatumGetCString(action);
	xmin = HeapTupleHeaderGetRawXmin(rule->t_data);
	ReleaseSysCache(rule);

	hash = hash_bytes_extended((unsigned char *) string, strlen(string), 0);
	change_append(reader, &view, sizeof(view));
	change_append(reader, &hash, sizeof(hash));
	change_append(reader, &xmin, sizeof(xmin));

	reader->view = view;
	(void) change_walk(stringToNode(string), reader);
	reader->view = caller;
	pfree(string);
}

/*
 * Look for relations, and for what rules a mark out.  Returns true to end the
 * walk.
 */
static bool
change_walk(Node *node, ChangeReader *reader)
{
	if (node == NULL || reader->reason != NULL)
		return reader->reason != NULL;

	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *cell;

		if (contain_mutable_functions(node))
		{
			change_fail(reader, "a function in its query is not immutable");
			return true;
		}
		foreach(cell, query->rtable)
			change_read_entry(reader, lfirst_node(RangeTblEntry, cell));
		return query_tree_walker(query, change_walk, reader,
								 QTW_EXAMINE_SORTGROUP);
	}
	change_check_node(reader, node);
	return expression_tree_walker(node, change_walk, reader);
}

/*
 * Does this node of an expression rule a mark out?
 */
static void
change_check_node(ChangeReader *reader, Node *node)
{
	ListCell   *cell;

	if (check_functions_in_node(node, change_is_foreign, NULL))
		change_fail(reader, "a function in its query is not the server's own");
	if (compat_depends_on_settings(node))
		change_fail(reader, "its query has an XML or JSON expression that depends on settings");

	switch (nodeTag(node))
	{
		case T_CoerceToDomain:
			change_fail(reader, "its query converts to a domain");
			break;
		case T_Var:
			if (((Var *) node)->varattno == 0)
				change_fail(reader, "its query refers to a whole row");
			else if (((Var *) node)->varattno < 0 &&
					 ((Var *) node)->varattno != TableOidAttributeNumber)
				change_fail(reader, "its query refers to a system column");
			change_check_type(reader, ((Var *) node)->vartype);
			break;
		case T_Const:
			change_check_type(reader, ((Const *) node)->consttype);
			break;
		case T_FuncExpr:
			change_check_type(reader, ((FuncExpr *) node)->funcresulttype);
			break;
		case T_RelabelType:
			change_check_type(reader, ((RelabelType *) node)->resulttype);
			break;
		case T_CoerceViaIO:
			change_check_type(reader, ((CoerceViaIO *) node)->resulttype);
			break;
		case T_SortGroupClause:
			change_check_sort(reader, node);
			break;
		case T_SetOperationStmt:
			foreach(cell, ((SetOperationStmt *) node)->groupClauses)
				change_check_sort(reader, lfirst(cell));
			break;
		default:
			break;
	}
}

/*
 * Is this a function that the server did not come with?
 */
static bool
change_is_foreign(Oid funcid, void *context)
{
	return funcid >= FirstNormalObjectId;
}

/*
 * Rows are sorted and grouped by operators, too.
 */
static void
change_check_sort(ChangeReader *reader, Node *node)
{
	SortGroupClause *clause = castNode(SortGroupClause, node);

	if (clause->eqop >= FirstNormalObjectId ||
		clause->sortop >= FirstNormalObjectId)
		change_fail(reader, "an operator in its query is not the server's own");
}

/*
 * What a text search configuration does can be altered.
 */
static void
change_check_type(ChangeReader *reader, Oid type)
{
	if (type == REGCONFIGOID || type == REGDICTIONARYOID)
		change_fail(reader, "its query uses a text search configuration");
}

/*
 * Read an entry of a query's range table.  (Subqueries, functions and the like
 * are walked elsewhere.)
 */
static void
change_read_entry(ChangeReader *reader, RangeTblEntry *entry)
{
	char		relkind;

	if (!compat_range_table_is_known(entry->rtekind))
		change_fail(reader, "its query reads what is not known to be unchanged");

	/* The rule's own relation stands there as OLD and NEW. */
	if (entry->rtekind != RTE_RELATION || entry->relid == reader->view ||
		reader->reason != NULL)
		return;
	if (entry->tablesample != NULL)
	{
		change_fail(reader, "its query has TABLESAMPLE");
		return;
	}
	if (entry->relid < FirstNormalObjectId)
	{
		change_fail(reader, "its query reads a system catalog");
		return;
	}

	relkind = get_rel_relkind(entry->relid);
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
			change_read_tables(reader, entry->relid, entry->inh);
			break;
		case RELKIND_VIEW:
			if (list_member_oid(reader->views, entry->relid))
				break;
			reader->views = lappend_oid(reader->views, entry->relid);
			change_read_query(reader, entry->relid);
			break;
		case RELKIND_FOREIGN_TABLE:
			change_fail(reader, "its query reads a foreign table");
			break;
		default:
			change_fail(reader, "its query reads what has no counters");
	}
}

/*
 * Read a table, and its partitions and other children if they are read too.
 */
static void
change_read_tables(ChangeReader *reader, Oid relid, bool children)
{
	if (compat_has_virtual_columns(relid))
		change_fail(reader, "its query reads a table with virtual generated columns");
	change_read_table(reader, relid, InvalidTransactionId);
	if (children && has_subclass(relid))
		change_read_children(reader, relid);
}

/*
 * Read the children of a table, and theirs.
 */
static void
change_read_children(ChangeReader *reader, Oid relid)
{
	Relation	catalog;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	check_stack_depth();
	catalog = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, InheritsParentIndexId, true, NULL,
							  1, &key);
	while (reader->reason == NULL &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			child = ((Form_pg_inherits) GETSTRUCT(tuple))->inhrelid;

		change_read_table(reader, child,
						  HeapTupleHeaderGetRawXmin(tuple->t_data));
		if (has_subclass(child))
			change_read_children(reader, child);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

static void
change_read_table(ChangeReader *reader, Oid relid, TransactionId inherits_xmin)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	PgStat_StatTabEntry *counters;
	Form_pg_class class;
	ChangeTable table;

	if (!HeapTupleIsValid(tuple))
	{
		change_fail(reader, "a table below it was dropped");
		return;
	}
	class = (Form_pg_class) GETSTRUCT(tuple);
	memset(&table, 0, sizeof(table));
	table.relid = relid;
	table.relfilenode = class->relfilenode;
	table.inherits_xmin = inherits_xmin;

	/* A refresh writes the row of a materialized view, changed or not. */
	if (class->relkind != RELKIND_MATVIEW)
		table.class_xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);

	if (class->relrowsecurity)
		change_fail(reader, "its query reads a table with row security");
	else if (class->relkind == RELKIND_FOREIGN_TABLE)
		change_fail(reader, "its query reads a foreign table");
	else if (class->relkind != RELKIND_PARTITIONED_TABLE &&
			 class->relam != HEAP_TABLE_AM_OID)
		change_fail(reader, "its query reads a table of another access method");
	ReleaseSysCache(tuple);

	counters = pgstat_fetch_stat_tabentry(relid);
	if (counters != NULL)
	{
		table.inserted = counters->tuples_inserted;
		table.updated = counters->tuples_updated;
		table.deleted = counters->tuples_deleted;
	}
	change_append(reader, &table, sizeof(table));
}

/*
 * A number that changes with each refresh of a materialized view that is done
 * in earnest: REFRESH always writes the view's row in pg_class.
 */
static uint64
change_refresh_version(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	uint64		version = 0;

	if (HeapTupleIsValid(tuple))
	{
		version = ((uint64) HeapTupleHeaderGetRawXmin(tuple->t_data)) << 32 |
			((ItemPointerGetBlockNumber(&tuple->t_self) & 0xFFFF) << 16) |
			ItemPointerGetOffsetNumber(&tuple->t_self);
		ReleaseSysCache(tuple);
	}
	return version;
}

static void
change_append(ChangeReader *reader, const void *data, int size)
{
	appendBinaryStringInfo(&reader->data, data, size);
}

/*
 * There will be no mark; the first reason is the one that is told.
 */
static void
change_fail(ChangeReader *reader, const char *reason)
{
	if (reader->reason == NULL)
		reader->reason = reason;
}
