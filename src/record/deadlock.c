/*-------------------------------------------------------------------------
 *
 * deadlock.c
 *	  Detects deadlocks in which this session waits for a cycle, not for a lock.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"

#include "src/record/deadlock.h"

static List *deadlock_blockers(int pid);

/*
 * Raise an ERROR if one of these processes waits for a lock of this session,
 * directly or through other sessions.
 */
void
deadlock_check(const int *pids, int npids)
{
	List	   *waiting = NIL;

	for (int i = 0; i < npids; i++)
		waiting = lappend_int(waiting, pids[i]);

	/* Processes that block one of them are added at the end. */
	for (int i = 0; i < list_length(waiting); i++)
	{
		int			pid = list_nth_int(waiting, i);
		List	   *blockers = deadlock_blockers(pid);

		CHECK_FOR_INTERRUPTS();
		if (list_member_int(blockers, MyProcPid))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
					 errmsg("deadlock detected"),
					 i < npids ?
					 errdetail("This session waits for a cycle, in which process %d waits for a lock of this session.",
							   pid) :
					 errdetail("This session waits for a cycle, which waits for process %d, which waits for a lock of this session.",
							   pid),
					 errhint("Wait for a cycle in a transaction that has used none of the views.")));
		waiting = list_concat_unique_int(waiting, blockers);
		list_free(blockers);
	}
	list_free(waiting);
}

/*
 * Return the processes that hold a lock that this one waits for, or that are
 * ahead of it in the queue of that lock.
 */
static List *
deadlock_blockers(int pid)
{
	Datum		array = DirectFunctionCall1(pg_blocking_pids,
											Int32GetDatum(pid));
	List	   *blockers = NIL;
	Datum	   *values;
	int			nvalues;

	deconstruct_array(DatumGetArrayTypeP(array), INT4OID, sizeof(int32), true,
					  TYPALIGN_INT, &values, NULL, &nvalues);
	for (int i = 0; i < nvalues; i++)
		blockers = lappend_int(blockers, DatumGetInt32(values[i]));
	pfree(values);
	pfree(DatumGetPointer(array));
	return blockers;
}
