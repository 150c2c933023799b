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

#include "src/plan/target.h"
#include "src/plan/view_settings.h"
#include "src/refresh/merge_write.h"
#include "src/refresh/window.h"

typedef enum RefreshOutcome
{
	REFRESH_PENDING,			/* its turn has not come */
	REFRESH_REFRESHED,
	REFRESH_FAILED,
	REFRESH_SKIPPED,
	REFRESH_DROPPED				/* added by a wildcard, then dropped */
} RefreshOutcome;

/* What an attempt used, according to the server's counters */
typedef struct RefreshUsage
{
	int64		wal_bytes;
	int64		shared_blks_hit;
	int64		shared_blks_read;
	int64		temp_blks_read;
	int64		temp_blks_written;
} RefreshUsage;

/* The result of one attempt */
typedef struct RefreshResult
{
	RefreshOutcome outcome;
	RefreshMethod method;		/* if it got that far */
	TimestampTz started_at;
	int64		duration;		/* in microseconds */
	RefreshUsage usage;
	bool		merged;			/* these rows were written by merging */
	MergeCounts rows;
	const char *condition;		/* only these rows were refreshed; NULL: all */
	WindowResult window;		/* if the method is a window */
	bool		committed;		/* it cannot be undone */
	ErrorData  *error;			/* if it failed */
} RefreshResult;

/*
 * Called in the transaction of the refresh, before the commit, with the
 * result as it will be if the commit succeeds.
 */
typedef void (*RefreshBeforeCommit) (const RefreshResult *result, void *arg);

/* What to refresh, and how */
typedef struct RefreshRequest
{
	const RefreshTarget *target;
	const char *activity;		/* for pg_stat_activity */
	int			refresh_timeout;	/* in milliseconds; 0: none */
	int			lock_timeout;	/* in milliseconds; 0: none */
	int			parallel_workers;	/* the limit for each part of a query; -1:
									 * as it is set */
	RefreshBeforeCommit before_commit;	/* or NULL */
	void	   *before_commit_arg;
} RefreshRequest;

struct VariableSetStmt;

extern void refresh_force_settings(void);
extern bool refresh_begin(const char *settings, ViewSettings *own,
						  RefreshResult *result);
extern void refresh_end(void);
extern void refresh_after_set(const struct VariableSetStmt *statement);
extern const char *refresh_outcome_name(RefreshOutcome outcome);
extern void refresh_in_session(const RefreshTarget *target,
							   RefreshResult *result);
extern void refresh_part_in_session(const RefreshTarget *target,
									const char *condition,
									RefreshResult *result);
extern void refresh_view(const RefreshRequest *request,
						 RefreshResult *result);

#endif							/* REFRESH_H */
