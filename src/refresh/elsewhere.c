/*-------------------------------------------------------------------------
 *
 * elsewhere.c
 *	  Tables whose rows may be kept in other places than in their own files.
 *
 * Some extensions do that: Citus on other servers, TimescaleDB in compressed
 * tables of its own.  The file of such a table, which may be empty, and its
 * counters say nothing about its rows.  We do not know extensions by name,
 * but recognize them by what they leave in the catalogs.
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
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_event_trigger.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "utils/fmgroids.h"

#include "src/refresh/elsewhere.h"

/*
 * The extension that a schema belongs to, or InvalidOid.  An extension that
 * has a schema for tables manages their rows itself: for example,
 * TimescaleDB's chunks may be compressed.
 */
Oid
elsewhere_extension(Oid namespace)
{
	return getExtensionOfObject(NamespaceRelationId, namespace);
}

/*
 * The function that is called by an internal trigger of this table and is not
 * the server's own, and the name of the trigger; InvalidOid if there is none.
 * The server's internal triggers are those of constraints.  Any other shows
 * that an extension watches the table: all kinds of Citus tables have one.
 */
Oid
elsewhere_trigger(Oid relid, NameData *name)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	Oid			function = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL,
							  1, &key);
	while (!OidIsValid(function) &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);

		if (!trigger->tgisinternal ||
			trigger->tgfoid < FirstUnpinnedObjectId)
			continue;
		function = trigger->tgfoid;
		*name = trigger->tgname;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return function;
}

/*
 * An extension that has an event trigger, or InvalidOid.  One that watches
 * commands may make children of tables for parts that it manages itself, in
 * whatever schema: TimescaleDB lets the user choose it.
 */
Oid
elsewhere_watcher(void)
{
	Relation	catalog = table_open(EventTriggerRelationId, AccessShareLock);
	Oid			extension = InvalidOid;
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan(catalog, EventTriggerOidIndexId, true, NULL,
							  0, NULL);
	while (!OidIsValid(extension) &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
		extension =
			getExtensionOfObject(EventTriggerRelationId,
								 ((Form_pg_event_trigger) GETSTRUCT(tuple))->oid);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return extension;
}
