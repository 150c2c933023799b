/*-------------------------------------------------------------------------
 *
 * overrides.c
 *	  ALTER DATABASE and ALTER ROLE settings that apply to this process.
 *
 * The server applies them only when a process connects.  By a hash of them, a
 * process that stays connected learns that it should make way for one with the
 * new settings.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_db_role_setting.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/rel.h"

#include "src/worker/overrides.h"

/*
 * Return a hash of the settings by ALTER DATABASE and ALTER ROLE ... SET that
 * apply to this database and the session user.  Needs a transaction.
 */
uint64
overrides_hash(void)
{
	Relation	relation = table_open(DbRoleSettingRelationId,
									  AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0,
										  NULL);
	Oid			role = GetSessionUserId();
	uint64		hash = 0;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_db_role_setting form =
			(Form_pg_db_role_setting) GETSTRUCT(tuple);

		/* Add them up: the order of the scan must not matter. */
		if ((form->setdatabase == InvalidOid ||
			 form->setdatabase == MyDatabaseId) &&
			(form->setrole == InvalidOid || form->setrole == role))
			hash += hash_bytes_extended((const unsigned char *) tuple->t_data +
										tuple->t_data->t_hoff,
										tuple->t_len - tuple->t_data->t_hoff,
										0);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return hash;
}
