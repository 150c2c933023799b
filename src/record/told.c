/*-------------------------------------------------------------------------
 *
 * told.c
 *	  Tells workers and the launcher at commit what sessions have changed.
 *
 * Because of this, nobody has to poll the catalogs.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "src/record/slots.h"
#include "src/record/told.h"

/*
 * The news to deliver at the end of this transaction, and its database's slot
 */
static int	told_news = 0;
static Slot *told_slot = NULL;
static bool told_committed = false;

/* The name of the transaction, if it is prepared */
static char told_gid[GIDSIZE];

static void told_register(void);
static void told_end_transaction(XactEvent event, void *arg);
static void told_release(ResourceReleasePhase phase, bool isCommit,
						 bool isTopLevel, void *arg);
static void told_keep(void);
static void told_deliver(void);

/*
 * If the current transaction commits, deliver this news.
 *
 * We find the slot now, because nothing may fail at the end of the
 * transaction.
 */
void
told_at_commit(int news)
{
	if (slots_shared == NULL)
		return;
	told_register();
	(void) slots_area();
	LWLockAcquire(slots_shared->lock, LW_SHARED);
	told_slot = slots_find(MyDatabaseId);
	LWLockRelease(slots_shared->lock);
	told_news |= news;
}

/*
 * This transaction is going to be prepared under this name.
 */
void
told_preparing(const char *gid)
{
	strlcpy(told_gid, gid, GIDSIZE);
}

/*
 * A prepared transaction of this database has ended.
 */
void
told_finished(const char *gid, bool committed)
{
	int			news = 0;

	if (slots_shared == NULL)
		return;
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		SlotsPrepared *prepared = &slots_shared->prepared[i];

		if (prepared->news != 0 && strcmp(prepared->gid, gid) == 0)
		{
			news = prepared->news;
			prepared->news = 0;
		}
	}
	LWLockRelease(slots_shared->lock);
	if (committed && news != 0)
		told_at_commit(news);
}

static void
told_register(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(told_end_transaction, NULL);
	RegisterResourceReleaseCallback(told_release, NULL);
	registered = true;
}

static void
told_end_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		told_committed = told_news != 0;
	else if (event == XACT_EVENT_PREPARE)
	{
		if (told_news != 0)
			told_keep();
		told_news = 0;
	}
	else if (event == XACT_EVENT_ABORT)
		told_news = 0;
}

/*
 * Deliver the news as the very last step of a transaction's end.  Transaction
 * callbacks would come too early: the messages that invalidate caches are sent
 * after them, so a process that hears the news then may still find the old
 * rows in its caches.
 */
static void
told_release(ResourceReleasePhase phase, bool isCommit, bool isTopLevel,
			 void *arg)
{
	if (!told_committed || !isTopLevel ||
		phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	told_deliver();
	told_committed = false;
	told_news = 0;
}

/*
 * Keep the news for the session that will commit the prepared transaction.
 *
 * There is a place for each prepared transaction.  So none is free only if we
 * did not see how some of them ended, because no command did that.  Then any
 * place will do.
 */
static void
told_keep(void)
{
	SlotsPrepared *place = &slots_shared->prepared[0];

	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		SlotsPrepared *prepared = &slots_shared->prepared[i];

		if (strcmp(prepared->gid, told_gid) == 0)
		{
			place = prepared;
			break;
		}
		if (prepared->news == 0)
			place = prepared;
	}
	place->news = told_news;
	strlcpy(place->gid, told_gid, GIDSIZE);
	LWLockRelease(slots_shared->lock);
}

/*
 * Deliver the news.  Without a slot, the launcher has not found the database
 * yet, or it is not to be served.  Raises no ERROR.
 */
static void
told_deliver(void)
{
	LWLockAcquire(slots_shared->lock, LW_EXCLUSIVE);
	if (told_slot != NULL && told_slot->database != MyDatabaseId)
		told_slot = NULL;
	if (told_news & (TOLD_VIEWS | TOLD_EXTENSION) && told_slot != NULL)
	{
		told_slot->told++;
		if (told_slot->latch != NULL)
			SetLatch(told_slot->latch);
	}
	if (told_news & TOLD_EXTENSION && told_slot == NULL)
		slots_shared->told_all++;
	if (told_news & TOLD_DATABASES)
		slots_shared->roster++;
	if (told_news & TOLD_SETTINGS)
	{
		slots_shared->told_settings++;
		slots_shared->told_all++;
	}
	if (told_news & TOLD_COUNTS)
		slots_shared->counts_epoch++;
	if (slots_shared->launcher_latch != NULL)
		SetLatch(slots_shared->launcher_latch);
	LWLockRelease(slots_shared->lock);
}

/*
 * Return a number that changes whenever there is news for the database of this
 * process.
 */
uint64
told_heard(void)
{
	uint64		news;

	LWLockAcquire(slots_shared->lock, LW_SHARED);
	news = slots_news(slots_mine);
	LWLockRelease(slots_shared->lock);
	return news;
}
