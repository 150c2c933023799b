/*-------------------------------------------------------------------------
 *
 * roster.c
 *	  The databases that are to be served, as found in the catalogs.
 *
 * Only shared catalogs are read here.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "utils/acl.h"
#include "utils/rel.h"

#include "src/common/compat.h"
#include "src/common/settings.h"
#include "src/worker/roster.h"

/*
 * Read the databases that the parameter "databases" names, including those
 * that do not exist; or all that accept connections and are not templates.
 * Returns their number, and a palloc'd array in *databases.  Needs a
 * transaction and a snapshot.
 */
int
roster_read(ClaimDatabase **databases)
{
	const DatabaseList *list = refresher_database_list;
	Relation	relation = table_open(DatabaseRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(relation, 0, NULL);
	int			size = Max(list->nnames, 64);
	int			n = list->nnames;
	HeapTuple	tuple;

	*databases = palloc0(size * sizeof(ClaimDatabase));
	for (int i = 0; i < list->nnames; i++)
	{
		strlcpy((*databases)[i].name, list->names[i], NAMEDATALEN);
		(*databases)[i].named = true;
	}
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		ClaimDatabase *database = NULL;

		for (int i = 0; i < list->nnames && database == NULL; i++)
		{
			if (strcmp(NameStr(form->datname), list->names[i]) == 0)
				database = &(*databases)[i];
		}
		if (database == NULL)
		{
			if (!list->all || form->datistemplate || !form->datallowconn)
				continue;
			if (n == size)
			{
				*databases = repalloc_huge(*databases, 2 * size *
										   sizeof(ClaimDatabase));
				memset(*databases + size, 0, size * sizeof(ClaimDatabase));
				size *= 2;
			}
			database = &(*databases)[n++];
			strlcpy(database->name, NameStr(form->datname), NAMEDATALEN);
		}
		database->oid = form->oid;
		database->connectable = form->datallowconn &&
			compat_database_is_valid(form);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	return n;
}

/*
 * Find the role that workers connect as; InvalidOid means the bootstrap
 * superuser.  Returns false if the role does not exist.  Needs a transaction.
 */
bool
roster_role(Oid *role)
{
	*role = InvalidOid;
	if (refresher_role[0] == '\0')
		return true;
	*role = get_role_oid(refresher_role, true);
	return OidIsValid(*role);
}
