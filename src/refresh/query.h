/*-------------------------------------------------------------------------
 *
 * query.h
 *	  Does a query return the same rows as long as its tables do not change?
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUERY_H
#define QUERY_H

#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"

/* What is found out about one query or several, one after another */
typedef struct QueryFacts
{
	StringInfoData versions;	/* of what the queries use, as bytes */
	const char *reason;			/* why their rows may change, or NULL */
	List	   *relations;		/* range table entries, in the queries */

	/* What was looked at already: OIDs, in the memory of "versions" */
	MemoryContext context;
	List	   *functions;
	List	   *types;
	List	   *collations;
} QueryFacts;

extern void query_init_facts(QueryFacts *facts);
extern void query_read(QueryFacts *facts, Query *query, Oid view);
extern void query_read_expression(QueryFacts *facts, Node *node);
extern bool query_is_own(Oid oid);
extern void query_fail(QueryFacts *facts, const char *format,...) pg_attribute_printf(2, 3);

#endif							/* QUERY_H */
