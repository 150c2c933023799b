/*-------------------------------------------------------------------------
 *
 * query_object.h
 *	  What a query uses: functions, operators, types and collations.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUERY_OBJECT_H
#define QUERY_OBJECT_H

#include "src/refresh/query.h"

extern bool query_check_function(Oid funcid, void *facts);
extern void query_check_operator(QueryFacts *facts, Oid operator);
extern void query_check_operator_family(QueryFacts *facts, Oid family);
extern void query_check_type(QueryFacts *facts, Oid type);
extern void query_check_types(QueryFacts *facts, List *types);
extern void query_check_collation(QueryFacts *facts, Oid collation);
extern void query_check_collations(QueryFacts *facts, List *collations);

#endif							/* QUERY_OBJECT_H */
