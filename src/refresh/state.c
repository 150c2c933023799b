/*-------------------------------------------------------------------------
 *
 * state.c
 *	  The settings that a REFRESH depends on, and what it leaves behind.
 *
 * The rows of a view depend on some settings, even if all functions in its
 * query are immutable.  And each REFRESH writes the view's row in pg_class,
 * so the version of that row tells one REFRESH from the next.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "src/refresh/state.h"

/*
 * Settings that the server's own immutable functions, casts and operators
 * read, and some that are read by functions that should be marked stable.  A
 * name that this server does not know counts as unset.
 *
 * search_path is not among them: functions that set one are common, and all
 * names in a stored query are resolved.
 */
static const char *const state_setting_names[] = {
	"server_version",			/* what the functions themselves do */

	/* Output of types, which casts to text use */
	"bytea_output",
	"DateStyle",
	"extra_float_digits",
	"IntervalStyle",
	"lc_monetary",
	"lc_numeric",
	"lc_time",
	"quote_all_identifiers",
	"standard_conforming_strings",
	"TimeZone",
	"xmlbinary",

	/* Input of types, and AT TIME ZONE */
	"array_nulls",
	"timezone_abbreviations",
	"xmloption",

	/* Comparison, and text search */
	"default_text_search_config",
	"lc_collate",				/* until 15 */
	"lc_ctype",					/* likewise */

	/* Which rows a scan returns */
	"gin_fuzzy_search_limit",
	"ignore_checksum_failure",
	"zero_damaged_pages",
};

/*
 * A hash of the settings that the rows of a view may depend on, with their
 * current values in this process.
 */
uint64
state_settings(void)
{
	StringInfoData data;
	uint64		hash;

	initStringInfo(&data);
	for (size_t i = 0; i < lengthof(state_setting_names); i++)
	{
		const char *value = GetConfigOption(state_setting_names[i], true,
											false);

		/* The terminating zero separates values. */
		appendStringInfoChar(&data, value != NULL ? '=' : '-');
		if (value != NULL)
			appendBinaryStringInfo(&data, value, strlen(value) + 1);
	}
	hash = hash_bytes_extended((unsigned char *) data.data, data.len, 0);
	pfree(data.data);
	return hash;
}

/*
 * A number for the version of a relation's row in pg_class: it changes
 * whenever the row is written, as by REFRESH.  Returns 0 if there is no such
 * relation.
 *
 * The xmin of a catalog row never comes back, even if the row's old contents
 * do.
 */
uint64
state_view(Oid relid)
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
