/*-------------------------------------------------------------------------
 *
 * process.c
 *	  The background processes of this library, as the server registers them.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"

#include "src/common/attempt.h"
#include "src/common/process.h"
#include "src/common/settings.h"

/*
 * Fill in a background worker's registration.  It starts in this function of
 * the library and has this type in pg_stat_activity; "detail" tells it from
 * others of its type.  It is not restarted when it ends, unless the caller
 * changes that.
 */
void
process_describe(BackgroundWorker *process, const char *function,
				 const char *type, const char *detail)
{
	memset(process, 0, sizeof(BackgroundWorker));
	process->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	process->bgw_start_time = BgWorkerStart_RecoveryFinished;
	process->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(process->bgw_library_name, REFRESHER_NAME,
			sizeof(process->bgw_library_name));
	strlcpy(process->bgw_function_name, function,
			sizeof(process->bgw_function_name));
	strlcpy(process->bgw_type, type, sizeof(process->bgw_type));
	snprintf(process->bgw_name, sizeof(process->bgw_name),
			 REFRESHER_NAME ": %s", detail);
}

/*
 * Install the signal handlers and unblock signals.  SIGTERM ends the process
 * at once, SIGINT cancels the current view, SIGHUP requests a reload of the
 * configuration.
 */
void
process_handle_signals(void)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, settings_handle_reload);
	pqsignal(SIGINT, attempt_handle_cancel);
	BackgroundWorkerUnblockSignals();
}

/*
 * Read the sinval messages that other backends wait for us to read, if there
 * are such.  Must be called outside of a transaction.
 */
void
process_catch_up(void)
{
	MemoryContext caller = CurrentMemoryContext;

	/* Before 15.8, the server left us in another memory context. */
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	MemoryContextSwitchTo(caller);
}
