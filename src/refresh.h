/*-------------------------------------------------------------------------
 *
 * refresh.h
 *	  One view, one attempt, one transaction: a result, never an error.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef REFRESH_H
#define REFRESH_H

#include "datatype/timestamp.h"
#include "utils/elog.h"

#include "target.h"

typedef enum RefreshOutcome
{
	REFRESH_PENDING,			/* its turn has not come */
	REFRESH_REFRESHED,
	REFRESH_FAILED,
	REFRESH_SKIPPED
} RefreshOutcome;

/* What came of one attempt */
typedef struct RefreshResult
{
	RefreshOutcome outcome;
	RefreshMethod method;		/* as far as it got */
	TimestampTz started_at;
	int64		duration;		/* in microseconds */
	ErrorData  *error;			/* if it failed */
} RefreshResult;

/*
 * Called within the transaction of the refresh, after it and before the
 * commit, with the result as it will be if that succeeds.
 */
typedef void (*RefreshBeforeCommit) (const RefreshResult *result, void *arg);

/* What to refresh, and how */
typedef struct RefreshRequest
{
	const RefreshTarget *target;
	const char *activity;		/* for pg_stat_activity */
	int			refresh_timeout;	/* in milliseconds; 0: none */
	int			lock_timeout;	/* in milliseconds; 0: none */
	RefreshBeforeCommit before_commit;	/* or NULL */
	void	   *before_commit_arg;
} RefreshRequest;

extern void refresh_handle_cancel(SIGNAL_ARGS);
extern void refresh_force_settings(void);
extern void refresh_view(const RefreshRequest *request,
						 RefreshResult *result);

#endif							/* REFRESH_H */
