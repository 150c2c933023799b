/*-------------------------------------------------------------------------
 *
 * change.c
 *	  Has anything under a view changed since a given mark?
 *
 * A mark is a fingerprint of everything that a view's query reads: for each
 * table below it, through plain views, with partitions and other children,
 * the cumulative counters of rows inserted, updated and deleted and the file
 * that holds them (TRUNCATE and rewrites change that); the definition of each
 * view in between; and when the counters were last reset.  It also holds the
 * settings that the rows depend on, and what the view itself was after its
 * refresh.  If two marks are equal, nothing has changed as far as the
 * server's statistics know.
 *
 * If we cannot be sure, we return a reason instead of a mark.  query.c says
 * which queries we can be sure of, counted.c which tables.
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
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "rewrite/rewriteSupport.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "src/common/compat.h"
#include "src/common/attempt.h"
#include "src/plan/target_explain.h"
#include "src/refresh/change.h"
#include "src/refresh/counted.h"
#include "src/refresh/hook.h"
#include "src/refresh/query.h"
#include "src/refresh/state.h"

/* Increment this whenever old marks must not be compared with new ones */
#define CHANGE_MARK_VERSION 3

/* The text of a mark: its version, and five numbers of 64 bits */
#define CHANGE_MARK_FORMAT	"%d.%016llx.%016llx.%016llx.%016llx.%llx"
#define CHANGE_MARK_SCAN	"%d.%llx.%llx.%llx.%llx.%llx"

/* Maximum number of names shown of the path to a relation */
#define CHANGE_MAX_NAMES 4

/* Maximum number of relations below a view, children and views included */
#define CHANGE_MAX_RELATIONS 10000

/*
 * A relation that the view reads, directly or through others.  It is listed
 * once for each parent, since what we keep for a child belongs to each of its
 * parents.
 */
typedef struct ChangeRelation
{
	Oid			relid;
	Oid			parent;			/* whose child it is, or invalid */
	bool		children;		/* are its own children read, too? */
} ChangeRelation;

/* A relation that was found, and by which path first */
typedef struct ChangeFound
{
	ChangeRelation relation;
	const struct ChangeFound *through;	/* what reads it; NULL: the view
										 * itself */
} ChangeFound;

/* The argument and the results of change_read() */
typedef struct ChangeCall
{
	Oid			relid;
	ChangeMark *mark;
	const char *reason;
	const char *hint;
} ChangeCall;

/* A mark under construction */
typedef struct ChangeReader
{
	QueryFacts	facts;			/* of all queries; the reason, if any */
	StringInfoData data;		/* what else is hashed */
	HTAB	   *known;			/* set of ChangeRelation: all that are listed */
	List	   *relations;		/* ChangeFound, in the order found */
	const ChangeFound *current; /* the one being read; NULL: the view itself */
	CountedNamespace namespace; /* the last one that was looked up */
} ChangeReader;

/*
 * What a mark holds for a table.  The xmin of a catalog row never comes back,
 * even if the row's old contents do.
 */
typedef struct ChangeTable
{
	Oid			relid;
	Oid			relfilenode;
	TransactionId class_xmin;	/* of its row in pg_class */
	int64		inserted;
	int64		updated;
	int64		deleted;
} ChangeTable;

static void change_read_protected(void *arg);
static void change_read(ChangeCall *call);
static const char *change_check_view(Oid relid, const char **hint);
static void change_hash(ChangeReader *reader, ChangeMark *mark);
static void change_read_server(ChangeReader *reader);
static const char *change_way(const ChangeReader *reader);
static void change_read_query(ChangeReader *reader, Oid view);
static void change_add(ChangeReader *reader, Oid relid, Oid parent,
					   bool children);
static void change_read_relation(ChangeReader *reader,
								 const ChangeRelation *relation);
static bool change_inherits(const ChangeRelation *relation, char relkind);
static void change_read_children(ChangeReader *reader, Oid relid);
static void change_read_table(ChangeReader *reader, Oid relid);
static void change_append(ChangeReader *reader, const void *data, int size);

/*
 * Read the mark of a materialized view.  A refresh that starts after this
 * sees everything that the mark covers, and maybe more.
 *
 * Returns NULL, or the reason why there is no mark; then the view must be
 * considered changed, and *hint says what to do about it, or is NULL if
 * nothing can be done.  Both may be allocated in the current memory context.
 * An ERROR is a reason, too, unless the command was cancelled.  Needs a
 * transaction and a snapshot for catalogs; takes no lock on any table.
 */
const char *
change_read_mark(Oid relid, ChangeMark *mark, const char **hint)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller,
												  "bigbrotr_refresher mark",
												  ALLOCSET_DEFAULT_SIZES);
	ChangeCall	call = {relid, mark, NULL, NULL};
	const char *reason = NULL;
	ErrorData  *error;

	memset(mark, 0, sizeof(ChangeMark));
	MemoryContextSwitchTo(context);
	error = attempt_part(change_read_protected, &call);
	MemoryContextSwitchTo(caller);
	*hint = NULL;
	if (error != NULL)
	{
		reason = psprintf("its query could not be looked at: %s",
						  error->message ? error->message : "unknown error");
		*hint = pstrdup(error->hint ? error->hint : QUERY_HINT_AGAIN);
	}
	else if (call.reason != NULL)
	{
		reason = pstrdup(call.reason);
		*hint = call.hint != NULL ? pstrdup(call.hint) : NULL;
	}
	MemoryContextDelete(context);
	mark->known = reason == NULL;
	return reason;
}

static void
change_read_protected(void *arg)
{
	change_read(arg);
}

/*
 * Add the state of the view after its refresh to the mark, which was read
 * before the refresh.  Must be called in the transaction of the refresh,
 * after it.
 *
 * The mark becomes unknown if the view was not refreshed at all, or not under
 * the settings of the mark.
 */
void
change_mark_settle(ChangeMark *mark, Oid relid)
{
	uint64		view;
	uint64		settings;

	if (hook_refreshed_as(relid, &view, &settings) &&
		settings == mark->settings)
		mark->view = view;
	else
		mark->known = false;
}

/*
 * Are two marks equal?  An unknown mark is equal to none.
 */
bool
change_mark_equal(const ChangeMark *a, const ChangeMark *b)
{
	return a->known && b->known &&
		a->reads[0] == b->reads[0] && a->reads[1] == b->reads[1] &&
		a->settings == b->settings && a->view == b->view &&
		a->epoch == b->epoch;
}

/*
 * Convert a mark to text, allocated in the current memory context.  Returns
 * NULL if the mark is unknown.
 */
char *
change_mark_to_text(const ChangeMark *mark)
{
	if (!mark->known)
		return NULL;
	return psprintf(CHANGE_MARK_FORMAT, CHANGE_MARK_VERSION,
					(unsigned long long) mark->reads[0],
					(unsigned long long) mark->reads[1],
					(unsigned long long) mark->settings,
					(unsigned long long) mark->view,
					(unsigned long long) mark->epoch);
}

/*
 * Convert a text to a mark.  The mark is unknown if the text is NULL, of
 * another version, or not what change_mark_to_text() writes.
 */
void
change_mark_from_text(const char *text, ChangeMark *mark)
{
	unsigned long long numbers[5];
	int			version;
	char	   *again;

	memset(mark, 0, sizeof(ChangeMark));
	if (text == NULL ||
		sscanf(text, CHANGE_MARK_SCAN, &version, &numbers[0], &numbers[1],
			   &numbers[2], &numbers[3], &numbers[4]) != 6)
		return;
	mark->reads[0] = numbers[0];
	mark->reads[1] = numbers[1];
	mark->settings = numbers[2];
	mark->view = numbers[3];
	mark->epoch = numbers[4];
	mark->known = true;

	/* This checks the version, too. */
	again = change_mark_to_text(mark);
	mark->known = strcmp(text, again) == 0;
	pfree(again);
}

/*
 * Read the mark, or find out why there is none.
 */
static void
change_read(ChangeCall *call)
{
	MemoryContext query_context;
	MemoryContext caller;
	ChangeReader reader;
	HASHCTL		control;

	call->reason = change_check_view(call->relid, &call->hint);
	if (call->reason != NULL)
		return;

	query_context = AllocSetContextCreate(CurrentMemoryContext,
										  "bigbrotr_refresher query",
										  ALLOCSET_DEFAULT_SIZES);
	memset(&reader, 0, sizeof(reader));
	query_init_facts(&reader.facts);
	initStringInfo(&reader.data);
	control.keysize = control.entrysize = sizeof(ChangeRelation);
	control.hcxt = CurrentMemoryContext;
	reader.known = hash_create("bigbrotr_refresher relations", 64, &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	/* Read the view's row first; all of this comes before the refresh. */
	call->mark->view = state_view(call->relid);
	call->mark->settings = state_settings();
	change_read_server(&reader);
	change_read_query(&reader, call->relid);

	/* The list grows as relations are read. */
	for (int i = 0; i < list_length(reader.relations) &&
		 reader.facts.reason == NULL; i++)
	{
		CHECK_FOR_INTERRUPTS();
		reader.current = list_nth(reader.relations, i);
		caller = MemoryContextSwitchTo(query_context);
		change_read_relation(&reader, &reader.current->relation);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(query_context);
	}
	if (reader.facts.reason == NULL)
		change_hash(&reader, call->mark);
	else
	{
		call->reason = psprintf("%s%s", reader.facts.reason,
								change_way(&reader));
		call->hint = reader.facts.hint;
	}
}

/*
 * Can this view have a mark?  Returns NULL, or the reason why not, with a hint
 * if something can be done about it.
 */
static const char *
change_check_view(Oid relid, const char **hint)
{
	HeapTuple	tuple;
	const char *reason = NULL;
	Form_pg_class class;

	if (!OidIsValid(relid))
		return "there is no relation of this name";
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
	{
		*hint = QUERY_HINT_AGAIN;
		return "it was dropped";
	}
	class = (Form_pg_class) GETSTRUCT(tuple);
	if (class->relkind != RELKIND_MATVIEW)
		reason = psprintf("it is a %s, and only of a materialized view it is known what it reads",
						  target_relkind_name(class->relkind));
	else if (!class->relispopulated)
	{
		reason = "it is not populated";
		*hint = "Its next refresh populates it.";
	}
	else if (RecoveryInProgress())
	{
		reason = "the server is in recovery";
		*hint = "Call plan() on the primary.";
	}
	ReleaseSysCache(tuple);
	return reason;
}

/*
 * The path by which the view reads the current relation: the names of plain
 * views and parents, to be appended to a reason.
 */
static const char *
change_way(const ChangeReader *reader)
{
	const ChangeFound *found = reader->current;
	List	   *names = NIL;
	StringInfoData way;
	ListCell   *cell;

	if (found != NULL && (found->relation.relid < FirstNormalObjectId ||
						  get_rel_relkind(found->relation.relid) != RELKIND_VIEW))
		found = found->through;
	if (found == NULL)
		return "";
	for (; found != NULL && list_length(names) < CHANGE_MAX_NAMES;
		 found = found->through)
		names = lcons(unconstify(char *,
								 counted_name(found->relation.relid)), names);
	initStringInfo(&way);
	appendStringInfoString(&way, found != NULL ?
						   " (read through ..., " : " (read through ");
	foreach(cell, names)
		appendStringInfo(&way, "%s%s", cell == list_head(names) ? "" : ", ",
						 (char *) lfirst(cell));
	appendStringInfoChar(&way, ')');
	return way.data;
}

static void
change_hash(ChangeReader *reader, ChangeMark *mark)
{
	StringInfo	versions = &reader->facts.versions;

	change_append(reader, versions->data, versions->len);
	mark->reads[0] =
		hash_bytes_extended((unsigned char *) reader->data.data,
							reader->data.len, UINT64CONST(0x6d61726b2d31));
	mark->reads[1] =
		hash_bytes_extended((unsigned char *) reader->data.data,
							reader->data.len, UINT64CONST(0x6d61726b2d32));
}

/*
 * Read what concerns all counters: which server they belong to, and since
 * when they count.
 *
 * Resetting the counters of a table or of the database stores the time in the
 * database's entry.  After a crash all counters are reset, and the time is
 * stored with the background writer's counters.  A promoted server has a
 * timeline of its own.  While the server was down, the files that describe
 * time zones and locales may have been replaced, so we also keep when it
 * started.
 */
static void
change_read_server(ChangeReader *reader)
{
	PgStat_StatDBEntry *database;
	TimestampTz reset = 0;
	TimeLineID	timeline;

	counted_check_settings(&reader->facts);
	pgstat_clear_snapshot();
	change_append(reader, &MyDatabaseId, sizeof(MyDatabaseId));
	change_append(reader, &PgStartTime, sizeof(PgStartTime));
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
	HeapTuple	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(view),
									   PointerGetDatum(ViewSelectRuleName));
	Datum		action;
	bool		isnull;
	char	   *string;
	uint64		hash;
	TransactionId xmin;
	ListCell   *cell;

	if (!HeapTupleIsValid(rule))
	{
		query_fail(&reader->facts, QUERY_HINT_AGAIN,
				   "the view with OID %u was dropped", view);
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

	foreach(cell, castNode(List, stringToNode(string)))
		query_read(&reader->facts, lfirst_node(Query, cell), view);
	foreach(cell, reader->facts.relations)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		change_add(reader, entry->relid, InvalidOid, entry->inh);
	}
	reader->facts.relations = NIL;
}

/*
 * Add a relation to those to be read, unless it is there already.
 */
static void
change_add(ChangeReader *reader, Oid relid, Oid parent, bool children)
{
	MemoryContext caller;
	ChangeRelation relation;
	ChangeFound *added;
	bool		found;

	/* The key may have padding. */
	memset(&relation, 0, sizeof(relation));
	relation.relid = relid;
	relation.parent = parent;
	relation.children = children;
	(void) hash_search(reader->known, &relation, HASH_ENTER, &found);
	if (found)
		return;

	if (list_length(reader->relations) >= CHANGE_MAX_RELATIONS)
	{
		query_fail(&reader->facts, QUERY_HINT_VIEW,
				   "it reads more than %d relations", CHANGE_MAX_RELATIONS);
		reader->current = NULL; /* it does not matter which is the last */
		return;
	}
	caller = MemoryContextSwitchTo(reader->facts.context);
	added = palloc(sizeof(ChangeFound));
	added->relation = relation;
	added->through = reader->current;
	reader->relations = lappend(reader->relations, added);
	MemoryContextSwitchTo(caller);
}

/*
 * Read a relation; what it reads in turn is added to the list.
 */
static void
change_read_relation(ChangeReader *reader, const ChangeRelation *relation)
{
	Oid			relid = relation->relid;
	char		relkind = get_rel_relkind(relid);

	if (relid < FirstNormalObjectId)
	{
		query_fail(&reader->facts, QUERY_HINT_VIEW, "%s is a system %s",
				   counted_name(relid),
				   relkind == RELKIND_VIEW ? "view" : "catalog");
		return;
	}
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
			change_read_table(reader, relid);
			if (!OidIsValid(relation->parent))
				counted_check_columns(&reader->facts, relid);
			if (change_inherits(relation, relkind))
				counted_check_inheritance(&reader->facts, relid);
			if (relation->children && has_subclass(relid))
				change_read_children(reader, relid);
			break;
		case RELKIND_VIEW:
			change_read_query(reader, relid);
			break;
		case '\0':
			query_fail(&reader->facts, QUERY_HINT_AGAIN,
					   "the table with OID %u was dropped", relid);
			break;
		default:
			counted_fail_kind(&reader->facts, relid, relkind);
	}
}

/*
 * Has a relation children that are read, or is it a child itself, other than by
 * partitions?  What is read as a child was found by its parent.
 */
static bool
change_inherits(const ChangeRelation *relation, char relkind)
{
	Oid			relid = relation->relid;

	if (relkind != RELKIND_RELATION)
		return false;
	return (relation->children && has_subclass(relid)) ||
		(!OidIsValid(relation->parent) && has_superclass(relid) &&
		 !get_rel_relispartition(relid));
}

/*
 * Add the children of a table to the relations to be read.
 */
static void
change_read_children(ChangeReader *reader, Oid relid)
{
	Relation	catalog = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, InheritsParentIndexId, true, NULL,
							  1, &key);
	while (reader->facts.reason == NULL &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			child = ((Form_pg_inherits) GETSTRUCT(tuple))->inhrelid;
		TransactionId xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);

		change_append(reader, &child, sizeof(child));
		change_append(reader, &xmin, sizeof(xmin));
		change_add(reader, child, relid, true);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
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
		query_fail(&reader->facts, QUERY_HINT_AGAIN,
				   "the table with OID %u was dropped", relid);
		return;
	}
	class = (Form_pg_class) GETSTRUCT(tuple);
	memset(&table, 0, sizeof(table));
	table.relid = relid;
	table.relfilenode = class->relfilenode;

	/* A refresh writes the row of a materialized view, changed or not. */
	if (class->relkind != RELKIND_MATVIEW)
		table.class_xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	counted_check_table(&reader->facts, class, &reader->namespace);
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

static void
change_append(ChangeReader *reader, const void *data, int size)
{
	appendBinaryStringInfo(&reader->data, data, size);
}
