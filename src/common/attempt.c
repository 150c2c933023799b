/*-------------------------------------------------------------------------
 *
 * attempt.c
 *	  Do something in a (sub)transaction of its own, and survive its errors.
 *
 * An ERROR is caught, the transaction is aborted, and the error is returned.
 * (The loop over tables in the server's autovacuum.c does the same.)  FATAL is
 * not caught, so a terminated process ends at once.
 *
 * A cancel request (SIGINT) and a timeout end an attempt up to the end of its
 * COMMIT: the deferred triggers that run there, and the wait for a
 * synchronous standby.  Between attempts a cancel request is ignored, so that
 * a late one does not hit anything else.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/timeout.h"

#include "src/common/attempt.h"
#include "src/common/compat.h"
#include "src/common/log.h"

/* Maximum length of each text of an error, in characters */
#define ATTEMPT_MAX_TEXT	10000

/* Is there anything that a cancel request may cancel? */
static volatile sig_atomic_t attempt_cancellable = false;

static void attempt_arm(int timeout);
static void attempt_disarm(void);
static ErrorData *attempt_take_error(void);

/*
 * Handler of SIGINT, for processes that make attempts.
 *
 * The server's own handler would also cancel what runs between two attempts,
 * and so end an idle worker.
 */
void
attempt_handle_cancel(SIGNAL_ARGS)
{
	if (attempt_cancellable)
		StatementCancelHandler(COMPAT_SIGNAL_ARGS);
}

/*
 * Run action(arg) in a transaction of its own, and commit that.  "timeout" is
 * in milliseconds; 0 means none.
 *
 * Returns NULL on success.  Otherwise nothing was committed, and the result
 * is the error, allocated in the current memory context.  Must be called
 * outside of a transaction.
 */
ErrorData *
attempt(AttemptAction action, void *arg, int timeout)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	/* Let now() return the current time */
	SetCurrentStatementStartTimestamp();
	PG_TRY();
	{
		attempt_arm(timeout);
		StartTransactionCommand();
		action(arg);
		CommitTransactionCommand();
		attempt_disarm();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		attempt_disarm();
		MemoryContextSwitchTo(caller);
		error = attempt_take_error();
		AbortOutOfAnyTransaction();
		PortalErrorCleanup();
		if (MyReplicationSlot != NULL)
			ReplicationSlotRelease();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return error;
}

/*
 * Same, without a timeout, for work that nothing depends on: an ERROR is
 * logged as a WARNING.  Returns true on success.
 */
bool
attempt_or_report(AttemptAction action, void *arg)
{
	ErrorData  *error = attempt(action, arg, 0);

	if (error == NULL)
		return true;
	error->elevel = WARNING;
	ThrowErrorData(error);
	FreeErrorData(error);
	return false;
}

/*
 * Run action(arg) in a subtransaction, in the caller's memory context.
 *
 * Returns NULL, or the ERROR that was raised.  A cancel request is re-thrown,
 * since it is meant for the whole statement.
 */
ErrorData *
attempt_part(AttemptAction action, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		action(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = attempt_take_error();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;

	/* Only now: whoever catches it must be outside of our subtransaction. */
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error;
}

/*
 * Accept cancel requests, and arm a timeout in milliseconds (0: none).
 *
 * The server arms statement_timeout only for commands that a client sends.
 */
static void
attempt_arm(int timeout)
{
	QueryCancelPending = false;
	attempt_cancellable = true;
	if (timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, timeout);
}

static void
attempt_disarm(void)
{
	attempt_cancellable = false;
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
}

/*
 * Copy the error that was caught into the current memory context.  Its texts
 * may be of any length and may hold names from databases of other encodings,
 * so they are truncated and made valid, for the log and the history.
 */
static ErrorData *
attempt_take_error(void)
{
	ErrorData  *error = CopyErrorData();

	FlushErrorState();
	log_clip(error->message, ATTEMPT_MAX_TEXT);
	log_clip(error->detail, ATTEMPT_MAX_TEXT);
	log_clip(error->hint, ATTEMPT_MAX_TEXT);
	log_clip(error->context, ATTEMPT_MAX_TEXT);
	return error;
}
