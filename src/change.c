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

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "rewrite/rewriteSupport.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "change.h"

/* Changes whenever marks of the past must not be compared with new ones */
#define CHANGE_MARK_VERSION 1

/* A mark in the making */
typedef struct ChangeReader
{
	StringInfoData data;		/* what is hashed at the end */
	List	   *views;			/* plain views that were read, OIDs */
	Oid			view;			/* the view whose query is being walked */
	const char *reason;			/* why there is no mark, or NULL */
} ChangeReader;

/* What is known of a table */
typedef struct ChangeTable
{
	Oid			relid;
	Oid			relfilenode;
	int64		inserted;
	int64		updated;
	int64		deleted;
} ChangeTable;

static void change_read_server(ChangeReader *reader);
static void change_read_query(ChangeReader *reader, Oid view);
static bool change_walk(Node *node, ChangeReader *reader);
static bool change_is_foreign(Oid funcid, void *context);
static void change_read_entry(ChangeReader *reader, RangeTblEntry *entry);
static void change_read_tables(ChangeReader *reader, Oid relid, bool children);
static void change_read_table(ChangeReader *reader, Oid relid);
static void change_fail(ChangeReader *reader, const char *reason);

/*
 * Read the mark of a materialized view: all that a refresh that starts after
 * this sees, and maybe less.
 *
 * Returns NULL, with the mark in a buffer of CHANGE_MARK_SIZE bytes; or else
 * the reason why there is none, and the view must be taken for changed.  Needs
 * a transaction and a snapshot for catalogs; takes no lock on any table.
 */
const char *
change_read_mark(Oid relid, char *mark)
{
	ChangeReader reader = {0};
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	uint64		high;
	uint64		low;

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

	high = hash_bytes_extended((unsigned char *) reader.data.data,
							   reader.data.len, UINT64CONST(0x6d61726b2d31));
	low = hash_bytes_extended((unsigned char *) reader.data.data,
							  reader.data.len, UINT64CONST(0x6d61726b2d32));
	snprintf(mark, CHANGE_MARK_SIZE, "%016llx%016llx",
			 (unsigned long long) high, (unsigned long long) low);
	pfree(reader.data.data);
	return reader.reason;
}

/*
 * What holds for all counters: since when they count.
 *
 * A reset of a table or of the database leaves its time in the database's
 * entry.  After a crash, all is reset, and the time is left with the
 * background writer's counters; they are another server's on a standby.
 */
static void
change_read_server(ChangeReader *reader)
{
	PgStat_StatDBEntry *database;
	TimestampTz reset = 0;
	int			version = CHANGE_MARK_VERSION;

	if (!pgstat_track_counts)
		change_fail(reader, "track_counts is off");

	pgstat_clear_snapshot();
	appendBinaryStringInfo(&reader->data, (char *) &version, sizeof(version));
	database = pgstat_fetch_stat_dbentry(MyDatabaseId);
	if (database != NULL)
		reset = database->stat_reset_timestamp;
	appendBinaryStringInfo(&reader->data, (char *) &reset, sizeof(reset));
	reset = pgstat_fetch_stat_bgwriter()->stat_reset_timestamp;
	appendBinaryStringInfo(&reader->data, (char *) &reset, sizeof(reset));
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
	ReleaseSysCache(rule);

	hash = hash_bytes_extended((unsigned char *) string, strlen(string), 0);
	appendBinaryStringInfo(&reader->data, (char *) &view, sizeof(view));
	appendBinaryStringInfo(&reader->data, (char *) &hash, sizeof(hash));

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
		return query_tree_walker(query, change_walk, reader, 0);
	}

	if (check_functions_in_node(node, change_is_foreign, NULL))
		change_fail(reader, "a function in its query is not the server's own");
	else if (IsA(node, CoerceToDomain))
		change_fail(reader, "its query converts to a domain");
	else if (IsA(node, Var) && ((Var *) node)->varattno == 0)
		change_fail(reader, "its query refers to a whole row");
	return expression_tree_walker(node, change_walk, reader);
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
 * Read an entry of a query's range table.  (Subqueries, functions and the like
 * are walked elsewhere.)
 */
static void
change_read_entry(ChangeReader *reader, RangeTblEntry *entry)
{
	char		relkind;

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
	List	   *tables;
	ListCell   *cell;

	if (!children || !has_subclass(relid))
	{
		change_read_table(reader, relid);
		return;
	}
	tables = find_all_inheritors(relid, NoLock, NULL);
	foreach(cell, tables)
		change_read_table(reader, lfirst_oid(cell));
	list_free(tables);
}

static void
change_read_table(ChangeReader *reader, Oid relid)
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
	if (class->relrowsecurity)
		change_fail(reader, "its query reads a table with row security");
	else if (class->relkind == RELKIND_FOREIGN_TABLE)
		change_fail(reader, "its query reads a foreign table");
	ReleaseSysCache(tuple);

	counters = pgstat_fetch_stat_tabentry(relid);
	if (counters != NULL)
	{
		table.inserted = counters->tuples_inserted;
		table.updated = counters->tuples_updated;
		table.deleted = counters->tuples_deleted;
	}
	appendBinaryStringInfo(&reader->data, (char *) &table, sizeof(table));
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
