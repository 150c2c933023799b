/*-------------------------------------------------------------------------
 *
 * window_look.c
 *	  Which transactions are running, and since when?
 *
 * Rows that are stamped by a clock become visible when their transaction
 * commits.  So which rows may still come depends on when the running
 * transactions began.  The server publishes that for each process, for
 * pg_stat_activity.
 *
 * Where it does not, we take a time that is certainly not later.  A session
 * that has track_activities turned off hides its transactions, so they count
 * from the start of the session.  A prepared transaction has no process any
 * more.  If the previous look did not see it, it was in a process then, or
 * had not begun, so it began no earlier than anything that look saw.  It
 * keeps this bound for as long as it is prepared.
 *
 * We ignore autovacuum, and parallel workers (we look at their leaders).  We
 * ignore walsenders that stream: they write nothing, and their transactions
 * seem to be as old as the stream.  But a client of a walsender may also send
 * SQL.  We also ignore processes of ours that do nothing but refresh a
 * materialized view.  These hold a lock on an object that nobody else knows,
 * so the lock table tells which they are, until the end of their transaction.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "tcop/cmdtag.h"
#include "utils/backend_status.h"
#include "utils/evtcache.h"
#include "utils/timestamp.h"

#include "src/common/compat.h"
#include "src/common/settings.h"
#include "src/refresh/window_look.h"

/* Tells our lock from those on our schema itself, which have 0 there */
#define WINDOW_LOOK_LOCK	1

/* Transactions, as of before we read the backend entries */
typedef struct WindowTransactions
{
	int			nrunning;
	VirtualTransactionId *running;
	int			nignored;
	VirtualTransactionId *ignored;
} WindowTransactions;

static bool window_look_fires_triggers(void);
static void window_look_at_processes(WindowLook *look);
static bool window_look_streams(const PgBackendStatus *entry);
static TimestampTz window_look_at_process(const PgBackendStatus *entry,
										  const WindowTransactions *before);
static bool window_look_finds(const VirtualTransactionId *vxids, int nvxids,
							  VirtualTransactionId vxid);
static bool window_look_lock_tag(LOCKTAG *tag);
static void window_look_at_prepared(const WindowLook *last, WindowLook *look);
static int	window_look_prepared(WindowPrepared **prepared);
static void window_look_hold(WindowLook *look, int pid, TimestampTz since);

/*
 * Look at all transactions of this database; at our own only if "own".
 *
 * "last" is what the previous look saw.  The prepared transactions are
 * allocated in the current memory context.  To read the rows that a look
 * allows, take a snapshot after it.
 */
void
window_look(const WindowLook *last, bool own, WindowLook *look)
{
	memset(look, 0, sizeof(WindowLook));

	/* Whatever begins after this begins later than now. */
	look->unseen = look->safe = GetCurrentTimestamp();
	window_look_at_processes(look);
	if (own)
		window_look_hold(look, MyProcPid, GetCurrentTransactionStartTimestamp());
	look->unseen = look->safe;

	/* One that is prepared meanwhile is seen twice, rather than never. */
	if (max_prepared_xacts > 0)
		window_look_at_prepared(last, look);
}

/*
 * Who has this transaction ID, and since when?  If the transaction is over,
 * the look says that nobody holds us back.
 */
void
window_look_for_xid(TransactionId xid, WindowLook *look)
{
	WindowPrepared *prepared;
	int			nprepared;

	memset(look, 0, sizeof(WindowLook));
	pgstat_clear_backend_activity_snapshot();
	for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++)
	{
		const LocalPgBackendStatus *local = compat_backend_entry(i);
		const PgBackendStatus *entry = &local->backendStatus;

		if (entry->st_procpid == 0 || local->backend_xid != xid)
			continue;
		look->held = true;
		look->pid = entry->st_procpid;
		look->since = entry->st_xact_start_timestamp != 0 ?
			entry->st_xact_start_timestamp : entry->st_proc_start_timestamp;
	}
	pgstat_clear_backend_activity_snapshot();
	if (look->held || max_prepared_xacts == 0)
		return;

	/* It may be of another database. */
	nprepared = window_look_prepared(&prepared);
	for (int i = 0; i < nprepared; i++)
	{
		if (prepared[i].xid != xid)
			continue;
		look->held = true;
		look->since = prepared[i].since;
	}
}

/*
 * Let looks by other processes ignore this process until the end of the
 * transaction, in which it only refreshes a materialized view.  That writes
 * nothing that anybody could fold, unless it fires an event trigger.
 */
void
window_look_past_me(void)
{
	LOCKTAG		tag;

	if (!window_look_fires_triggers() && window_look_lock_tag(&tag))
		(void) LockAcquire(&tag, ShareLock, false, false);
}

/*
 * Are there event triggers that REFRESH may fire?
 */
static bool
window_look_fires_triggers(void)
{
	static const EventTriggerEvent events[] = {
		EVT_DDLCommandStart, EVT_DDLCommandEnd, EVT_SQLDrop
	};

	for (size_t i = 0; i < lengthof(events); i++)
	{
		ListCell   *cell;

		foreach(cell, EventCacheLookup(events[i]))
		{
			EventTriggerCacheItem *trigger = lfirst(cell);

			if (trigger->tagset == NULL ||
				bms_is_member(CMDTAG_REFRESH_MATERIALIZED_VIEW,
							  trigger->tagset))
				return true;
		}
	}
	return false;
}

static void
window_look_at_processes(WindowLook *look)
{
	WindowTransactions before = {0};
	LOCKTAG		tag;

	if (window_look_lock_tag(&tag))
		before.ignored = GetLockConflicts(&tag, ExclusiveLock,
										  &before.nignored);
	before.running = GetCurrentVirtualXIDs(InvalidTransactionId, false, false,
										   0, &before.nrunning);

	pgstat_clear_backend_activity_snapshot();
	for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++)
	{
		const PgBackendStatus *entry = &compat_backend_entry(i)->backendStatus;

		if (entry->st_procpid != 0 && entry->st_procpid != MyProcPid &&
			entry->st_databaseid == MyDatabaseId &&
			entry->st_backendType != B_AUTOVAC_WORKER &&
			!window_look_streams(entry))
			window_look_hold(look, entry->st_procpid,
							 window_look_at_process(entry, &before));
	}
	pgstat_clear_backend_activity_snapshot();
}

/*
 * Is this a walsender that streams?
 */
static bool
window_look_streams(const PgBackendStatus *entry)
{
	bool		streams = false;

	if (entry->st_backendType != B_WAL_SENDER)
		return false;
	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *sender = &WalSndCtl->walsnds[i];

		SpinLockAcquire(&sender->mutex);
		if (sender->pid == entry->st_procpid)
			streams = sender->state != WALSNDSTATE_STARTUP;
		SpinLockRelease(&sender->mutex);
	}
	return streams;
}

/*
 * When the transaction of a process began, or the one that it is about to
 * begin; DT_NOEND if there is none.
 *
 * If a client sends several statements in one message, all of their
 * transactions begin when the message came, so the process counts between two
 * of them, too.
 */
static TimestampTz
window_look_at_process(const PgBackendStatus *entry,
					   const WindowTransactions *before)
{
	PGPROC	   *process = BackendPidGetProc(entry->st_procpid);
	VirtualTransactionId vxid;

	if (process != NULL)
	{
		PGPROC	   *leader = process->lockGroupLeader;

		GET_VXID_FROM_PGPROC(vxid, *process);
		if ((leader != NULL && leader != process) ||
			window_look_finds(before->ignored, before->nignored, vxid))
			return DT_NOEND;
	}
	if (entry->st_xact_start_timestamp != 0)
		return entry->st_xact_start_timestamp;

	/* If it is the same transaction as before, its start is hidden. */
	if (process != NULL &&
		window_look_finds(before->running, before->nrunning, vxid))
		return entry->st_proc_start_timestamp;
	if ((entry->st_backendType == B_BACKEND ||
		 entry->st_backendType == B_WAL_SENDER) &&
		(entry->st_state == STATE_RUNNING ||
		 entry->st_state == STATE_FASTPATH) &&
		entry->st_activity_start_timestamp != 0)
		return entry->st_activity_start_timestamp;
	return DT_NOEND;
}

static bool
window_look_finds(const VirtualTransactionId *vxids, int nvxids,
				  VirtualTransactionId vxid)
{
	if (!VirtualTransactionIdIsValid(vxid))
		return false;
	for (int i = 0; i < nvxids; i++)
	{
		if (VirtualTransactionIdEquals(vxids[i], vxid))
			return true;
	}
	return false;
}

/*
 * The lock that ignored processes hold.  Returns false if there is no
 * extension, and so nobody looks.
 */
static bool
window_look_lock_tag(LOCKTAG *tag)
{
	Oid			schema = get_namespace_oid(REFRESHER_NAME, true);

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, NamespaceRelationId, schema,
					   WINDOW_LOOK_LOCK);
	return OidIsValid(schema);
}

static void
window_look_at_prepared(const WindowLook *last, WindowLook *look)
{
	int			nprepared = window_look_prepared(&look->prepared);

	for (int i = 0; i < nprepared; i++)
	{
		WindowPrepared *prepared = &look->prepared[look->nprepared];
		TimestampTz prepared_at = look->prepared[i].since;

		if (look->prepared[i].database != MyDatabaseId)
			continue;
		*prepared = look->prepared[i];
		prepared->since = last->unseen;
		for (int j = 0; j < last->nprepared; j++)
		{
			if (last->prepared[j].xid == prepared->xid)
				prepared->since = last->prepared[j].since;
		}
		window_look_hold(look, 0, prepared->since);
		look->nprepared++;

		/* If it is not known when it began, it was there when prepared. */
		if (look->since == DT_NOBEGIN)
			look->since = prepared_at;
	}
}

/*
 * Read the prepared transactions of all databases.  *prepared is allocated in
 * the current memory context; "since" says when they were prepared.  Returns
 * how many there are.
 */
static int
window_look_prepared(WindowPrepared **prepared)
{
	MemoryContext caller = CurrentMemoryContext;
	int			n;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT p.transaction, p.prepared, p.dbid"
					" FROM pg_catalog.pg_prepared_xact() AS p",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the prepared transactions");
	n = (int) SPI_processed;
	*prepared = MemoryContextAlloc(caller, n * sizeof(WindowPrepared) + 1);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		WindowPrepared *one = &(*prepared)[i];
		bool		isnull;

		one->xid = DatumGetTransactionId(SPI_getbinval(row, desc, 1, &isnull));
		one->since = DatumGetTimestampTz(SPI_getbinval(row, desc, 2, &isnull));
		one->database = DatumGetObjectId(SPI_getbinval(row, desc, 3, &isnull));
	}
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	return n;
}

/*
 * Take note of a transaction that began at this time.
 */
static void
window_look_hold(WindowLook *look, int pid, TimestampTz since)
{
	if (since >= look->safe)
		return;
	look->safe = look->since = since;
	look->held = true;
	look->pid = pid;
}
