/*-------------------------------------------------------------------------
 *
 * merge_query.c
 *	  The query of a view, planned and run row by row.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "utils/rel.h"

#include "src/common/compat.h"
#include "src/refresh/merge_query.h"

/* Receives the rows of a query */
typedef struct MergeReceiver
{
	DestReceiver pub;			/* must be first */
	MergeRowFunction function;
	void	   *arg;
} MergeReceiver;

static void merge_receiver_start(DestReceiver *self, int operation,
								 TupleDesc desc);
static bool merge_receive(TupleTableSlot *slot, DestReceiver *self);
static void merge_receiver_end(DestReceiver *self);

/*
 * Get a rewritten copy of a materialized view's query, with its relations
 * locked.
 */
Query *
merge_query_read(Relation relation)
{
	RuleLock   *rules = relation->rd_rules;
	Query	   *query;
	List	   *rewritten;

	if (rules == NULL || rules->numLocks != 1 ||
		rules->rules[0]->event != CMD_SELECT ||
		!rules->rules[0]->isInstead ||
		list_length(rules->rules[0]->actions) != 1)
		elog(ERROR, "the rule for materialized view \"%s\" is not a SELECT INSTEAD OF rule",
			 RelationGetRelationName(relation));
	query = copyObject(linitial_node(Query, rules->rules[0]->actions));

	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite result for REFRESH MATERIALIZED VIEW");
	return linitial_node(Query, rewritten);
}

/*
 * Plan and run a rewritten query, and call a function for each of its rows.
 * Returns the number of rows.
 */
uint64
merge_query_run(Query *query, const char *text, Snapshot snapshot,
				MergeRowFunction function, void *arg)
{
	MergeReceiver receiver;
	QueryDesc  *desc;
	uint64		processed;

	CHECK_FOR_INTERRUPTS();
	memset(&receiver, 0, sizeof(receiver));
	receiver.pub.receiveSlot = merge_receive;
	receiver.pub.rStartup = merge_receiver_start;
	receiver.pub.rShutdown = merge_receiver_end;
	receiver.pub.rDestroy = merge_receiver_end;
	receiver.pub.mydest = DestTransientRel;
	receiver.function = function;
	receiver.arg = arg;
	desc = CreateQueryDesc(compat_plan_query(query, text), text, snapshot,
						   InvalidSnapshot, &receiver.pub, NULL, NULL, 0);
	ExecutorStart(desc, 0);
	compat_executor_run(desc);
	processed = desc->estate->es_processed;
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	return processed;
}

static void
merge_receiver_start(DestReceiver *self, int operation, TupleDesc desc)
{
}

static bool
merge_receive(TupleTableSlot *slot, DestReceiver *self)
{
	MergeReceiver *receiver = (MergeReceiver *) self;

	return receiver->function(slot, receiver->arg);
}

static void
merge_receiver_end(DestReceiver *self)
{
}
