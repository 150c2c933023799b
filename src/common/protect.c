/*-------------------------------------------------------------------------
 *
 * protect.c
 *	  An ERROR that costs no more than what raised it.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "src/common/log.h"
#include "src/common/protect.h"

/* The longest text of an error that is kept, in characters */
#define PROTECT_MAX_TEXT	10000

/*
 * Call a function in a subtransaction, in the caller's memory context.
 *
 * Returns NULL, or the ERROR that the function has raised, as text that is
 * valid in the database's encoding.  A cancel request is passed on: it is
 * meant for the whole statement.
 */
ErrorData *
protect_call(void (*function) (void *), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		function(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		log_clip(error->message, PROTECT_MAX_TEXT);
		log_clip(error->detail, PROTECT_MAX_TEXT);
		log_clip(error->hint, PROTECT_MAX_TEXT);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}
