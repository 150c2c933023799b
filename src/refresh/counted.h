/*-------------------------------------------------------------------------
 *
 * counted.h
 *	  Do the server's statistics count all changes of a table?
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef COUNTED_H
#define COUNTED_H

#include "catalog/pg_class.h"

#include "src/refresh/query.h"

/* A schema, and the extension that it belongs to, if any */
typedef struct CountedNamespace
{
	Oid			oid;
	Oid			extension;
} CountedNamespace;

extern void counted_check_settings(QueryFacts *facts);
extern void counted_check_table(QueryFacts *facts, Form_pg_class class,
								CountedNamespace *last);
extern void counted_check_inheritance(QueryFacts *facts, Oid relid);
extern void counted_check_columns(QueryFacts *facts, Oid relid);
extern void counted_fail_kind(QueryFacts *facts, Oid relid, char relkind);
extern const char *counted_name(Oid relid);

#endif							/* COUNTED_H */
