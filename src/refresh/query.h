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

/* Hints that several reasons share */
#define QUERY_HINT_VIEW \
	"Move the part that needs it to a materialized view of its own: views that read that one can be skipped."
#define QUERY_HINT_READERS \
	"Leave it out of the view, and compute it where the view is read."
#define QUERY_HINT_AGAIN "Call plan() again."

/* What was found out about one query, or about several in turn */
typedef struct QueryFacts
{
	StringInfoData versions;	/* of what the queries use, as bytes */
	const char *reason;			/* why their rows may change, or NULL */
	const char *hint;			/* what to do about that */
	List	   *relations;		/* range table entries, in the queries */

	/* What uses the function that is checked, for the reason */
	Oid			operator;
	const CoerceViaIO *cast;

	/* What was checked already: OIDs, in this memory context */
	MemoryContext context;
	List	   *functions;
	List	   *types;
	List	   *collations;
} QueryFacts;

extern void query_init_facts(QueryFacts *facts);
extern void query_read(QueryFacts *facts, Query *query, Oid view);
extern void query_read_expression(QueryFacts *facts, Node *node);
extern bool query_is_own(Oid oid);
extern void query_fail(QueryFacts *facts, const char *hint,
					   const char *format,...) pg_attribute_printf(3, 4);

#endif							/* QUERY_H */
