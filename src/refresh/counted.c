/*-------------------------------------------------------------------------
 *
 * counted.c
 *	  Do the server's statistics count all changes of a table?
 *
 * If not, the query facts get the reason.
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
#include "catalog/pg_am.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"

#include "src/common/compat.h"
#include "src/plan/target_explain.h"
#include "src/refresh/counted.h"
#include "src/refresh/elsewhere.h"

static void counted_check_setting(QueryFacts *facts, Oid database);
static bool counted_is_off(Datum settings);
static void counted_check_namespace(QueryFacts *facts, Form_pg_class class,
									CountedNamespace *last);
static void counted_check_trigger(QueryFacts *facts, Form_pg_class class);
static const char *counted_extension_name(Oid extension);

/*
 * Do all sessions count their changes, according to the settings?
 */
void
counted_check_settings(QueryFacts *facts)
{
	if (!pgstat_track_counts)
		query_fail(facts,
				   "Set it to \"on\", for what is changed is not counted.",
				   "track_counts is off");
	counted_check_setting(facts, InvalidOid);
	counted_check_setting(facts, MyDatabaseId);
}

/*
 * Is track_counts set to off for any role, in this database or (InvalidOid)
 * in all databases?  Then the changes of its sessions are not counted.
 */
static void
counted_check_setting(QueryFacts *facts, Oid database)
{
	Relation	catalog = table_open(DbRoleSettingRelationId,
									 AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_db_role_setting_setdatabase,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(database));
	scan = systable_beginscan(catalog, DbRoleSettingDatidRolidIndexId, true,
							  NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			role = ((Form_pg_db_role_setting) GETSTRUCT(tuple))->setrole;
		bool		isnull;
		Datum		settings = heap_getattr(tuple,
											Anum_pg_db_role_setting_setconfig,
											RelationGetDescr(catalog),
											&isnull);

		if (isnull || !counted_is_off(settings))
			continue;
		if (OidIsValid(role))
			query_fail(facts,
					   "Reset it by ALTER ROLE, for what that role's sessions change is not counted.",
					   "track_counts is off for role %s",
					   quote_identifier(target_role_name(role)));
		else if (OidIsValid(database))
			query_fail(facts,
					   "Reset it by ALTER DATABASE, for what is changed is not counted.",
					   "track_counts is off for the database");
		else
			query_fail(facts,
					   "Reset it by ALTER ROLE ALL, for what is changed is not counted.",
					   "track_counts is off for all roles");
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/*
 * Is track_counts off in an array of settings?
 */
static bool
counted_is_off(Datum settings)
{
	static const char name[] = "track_counts=";
	Datum	   *elements;
	bool	   *nulls;
	int			nelements;
	bool		off = false;

	deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &nelements);
	for (int i = 0; i < nelements; i++)
	{
		const char *setting = nulls[i] ? "" : TextDatumGetCString(elements[i]);
		bool		value;

		if (pg_strncasecmp(setting, name, strlen(name)) == 0)
			off = !parse_bool(setting + strlen(name), &value) || !value;
	}
	return off;
}

/*
 * Do the counters of a table count all changes of the rows that are read from
 * it?  "last" is what was found out about the last schema.
 */
void
counted_check_table(QueryFacts *facts, Form_pg_class class,
					CountedNamespace *last)
{
	if (class->relrowsecurity)
		query_fail(facts, QUERY_HINT_VIEW,
				   "table %s has row security", counted_name(class->oid));
	else if (class->relkind != RELKIND_PARTITIONED_TABLE &&
			 class->relam != HEAP_TABLE_AM_OID)
		query_fail(facts, QUERY_HINT_VIEW,
				   "table %s is stored by access method %s, not heap",
				   counted_name(class->oid), target_am_name(class->relam));
	else
	{
		counted_check_namespace(facts, class, last);
		counted_check_trigger(facts, class);
	}
}

static void
counted_check_namespace(QueryFacts *facts, Form_pg_class class,
						CountedNamespace *last)
{
	if (class->relnamespace != last->oid)
	{
		last->oid = class->relnamespace;
		last->extension = elsewhere_extension(class->relnamespace);
	}
	if (OidIsValid(last->extension))
		query_fail(facts, QUERY_HINT_VIEW,
				   "the rows of table %s may be kept elsewhere: its schema belongs to extension %s",
				   counted_name(class->oid),
				   counted_extension_name(last->extension));
}

static void
counted_check_trigger(QueryFacts *facts, Form_pg_class class)
{
	NameData	name;
	Oid			function = InvalidOid;

	if (class->relhastriggers)
		function = elsewhere_trigger(class->oid, &name);
	if (OidIsValid(function))
		query_fail(facts, QUERY_HINT_VIEW,
				   "the rows of table %s may be kept elsewhere: it has internal trigger %s, which calls %s",
				   counted_name(class->oid),
				   quote_identifier(NameStr(name)),
				   format_procedure(function));
}

/*
 * A table that has children which are no partitions, or is such a child, may be
 * managed by an extension.
 */
void
counted_check_inheritance(QueryFacts *facts, Oid relid)
{
	Oid			extension = elsewhere_watcher();

	if (OidIsValid(extension))
		query_fail(facts, QUERY_HINT_VIEW,
				   "the rows of table %s may be kept elsewhere: it takes part in inheritance, and extension %s has an event trigger",
				   counted_name(relid),
				   counted_extension_name(extension));
}

/*
 * The name of an extension, which may be dropped meanwhile.
 */
static const char *
counted_extension_name(Oid extension)
{
	const char *name = get_extension_name(extension);

	return name != NULL ? quote_identifier(name) : "(dropped)";
}

/*
 * A virtual generated column may use anything.
 */
void
counted_check_columns(QueryFacts *facts, Oid relid)
{
	const char *column = compat_virtual_column(relid);

	if (column != NULL)
		query_fail(facts, "Make it STORED.",
				   "column %s of table %s is generated when it is read",
				   quote_identifier(column), counted_name(relid));
}

/*
 * Fail for a relation of a kind that has no counters.
 */
void
counted_fail_kind(QueryFacts *facts, Oid relid, char relkind)
{
	if (relkind == RELKIND_FOREIGN_TABLE)
		query_fail(facts, QUERY_HINT_VIEW,
				   "the rows of %s are kept elsewhere: it is a foreign table of server %s",
				   counted_name(relid),
				   quote_identifier(GetForeignServer(GetForeignTable(relid)->serverid)->servername));
	else
		query_fail(facts, QUERY_HINT_VIEW,
				   "%s is a %s, whose changes are not counted",
				   counted_name(relid), target_relkind_name(relkind));
}

/*
 * The full name of a relation, for a reason.
 */
const char *
counted_name(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	if (schema == NULL || name == NULL)
		return psprintf("(dropped, with OID %u)", relid);
	return quote_qualified_identifier(schema, name);
}
