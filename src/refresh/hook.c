/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  Utility commands: what is refreshed, and what is merged.
 *
 * A view's function may return without having refreshed it, and may write the
 * view's row in pg_class in other ways.  So a hook notes each REFRESH
 * MATERIALIZED VIEW of an attempt when it happens.
 *
 * A note belongs to the subtransaction that made it, and is dropped if that
 * is rolled back.  Notes that a procedure has committed stay until the next
 * attempt.  Only processes that make attempts take notes.
 *
 * The same hook hands REFRESH ... CONCURRENTLY to merge_command.c where that
 * is wanted.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/memutils.h"

#include "src/common/settings.h"
#include "src/refresh/hook.h"
#include "src/refresh/merge_command.h"
#include "src/refresh/refresh.h"
#include "src/refresh/state.h"

/* One REFRESH that succeeded */
typedef struct HookNote
{
	Oid			relid;
	SubTransactionId subid;		/* invalid: it was committed */
	uint64		view;			/* the version of its row in pg_class */
	uint64		settings;		/* those that were in force */
	bool		merged;			/* by merge.c, which wrote these rows */
	MergeCounts rows;
	bool		current;		/* did it see all that had been committed? */
	bool		part;			/* only a part was refreshed: of these fields
								 * only "merged" and "rows" are set */
} HookNote;

/* In the order in which the views were refreshed, in TopMemoryContext */
static HookNote *hook_notes = NULL;
static int	hook_nnotes = 0;
static int	hook_size = 0;

/* Does this process make attempts? */
static bool hook_watching = false;

static ProcessUtility_hook_type hook_previous = NULL;

static void hook_utility(PlannedStmt *pstmt, const char *queryString,
						 bool readOnlyTree, ProcessUtilityContext context,
						 ParamListInfo params, QueryEnvironment *queryEnv,
						 DestReceiver *dest, QueryCompletion *qc);
static void hook_run(PlannedStmt *pstmt, const char *queryString,
					 bool readOnlyTree, ProcessUtilityContext context,
					 ParamListInfo params, QueryEnvironment *queryEnv,
					 DestReceiver *dest, QueryCompletion *qc);
static void hook_note(Oid relid, uint64 settings, const MergeCounts *rows);
static void hook_add(const HookNote *note);
static void hook_put(const HookNote *note);
static const HookNote *hook_find(Oid relid);
static void hook_move(SubTransactionId from, SubTransactionId to);
static void hook_drop(SubTransactionId subid);
static void hook_end_transaction(XactEvent event, void *arg);
static void hook_end_subtransaction(SubXactEvent event,
									SubTransactionId subid,
									SubTransactionId parent, void *arg);

/*
 * Install the hook.  Called in the postmaster, when the library is loaded.
 */
void
hook_install(void)
{
	hook_previous = ProcessUtility_hook;
	refresher_is_behind = hook_previous != NULL;
	if (refresher_is_behind)
		ereport(LOG,
				(errmsg(REFRESHER_NAME ": other libraries are listed before it in \"shared_preload_libraries\""),
				 errdetail("They do not see the refreshes that are merged."),
				 errhint("List \"" REFRESHER_NAME "\" first.")));
	ProcessUtility_hook = hook_utility;
}

/*
 * Called at the start of an attempt: forget what was refreshed so far, and
 * take notes from now on.
 */
void
hook_forget_refreshes(void)
{
	if (!hook_watching)
	{
		RegisterXactCallback(hook_end_transaction, NULL);
		RegisterSubXactCallback(hook_end_subtransaction, NULL);
		hook_watching = true;
	}
	hook_nnotes = 0;
}

/*
 * Note that a part of a view was refreshed, by merging.  That does not count
 * as a REFRESH of the view, since the other rows are as old as before.
 */
void
hook_note_part(Oid relid, const MergeCounts *rows)
{
	HookNote	note = {0};

	if (!hook_watching)
		return;
	note.relid = relid;
	note.subid = GetCurrentSubTransactionId();
	note.merged = true;
	note.rows = *rows;
	note.part = true;
	hook_add(&note);
}

/*
 * Has this attempt merged anything?  *rows is set to the rows that it wrote
 * by that.
 */
bool
hook_has_merged(MergeCounts *rows)
{
	bool		merged = false;

	memset(rows, 0, sizeof(MergeCounts));
	for (int i = 0; i < hook_nnotes; i++)
	{
		merged = merged || hook_notes[i].merged;
		merge_add_counts(rows, &hook_notes[i].rows);
	}
	return merged;
}

/*
 * Find out what the last REFRESH of the view in this attempt left: the
 * version of the view's row in pg_class, as in state_view(), and the settings
 * that were in force.
 *
 * Returns false if there was none, or if it may have missed rows that had
 * been committed before the attempt.  Must be called in the attempt's
 * transaction.
 */
bool
hook_refreshed_as(Oid relid, uint64 *view, uint64 *settings)
{
	const HookNote *note = hook_find(relid);

	if (note == NULL || !note->current)
		return false;

	/*
	 * In the transaction of the REFRESH, the view is still locked, so only
	 * this transaction can have written its row since.  After a commit,
	 * others may have refreshed it.
	 */
	*view = note->subid == InvalidSubTransactionId ?
		note->view : state_view(relid);
	*settings = note->settings;
	return true;
}

static void
hook_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *queryEnv, DestReceiver *dest,
			 QueryCompletion *qc)
{
	RefreshMatViewStmt *refresh = NULL;
	VariableSetStmt *set = NULL;
	MergeResult merge;
	bool		merged = false;
	Oid			relid = InvalidOid;
	uint64		settings = 0;

	if (hook_watching && IsA(pstmt->utilityStmt, RefreshMatViewStmt))
		refresh = (RefreshMatViewStmt *) pstmt->utilityStmt;
	if (refresh != NULL && !refresh->skipData)
	{
		relid = RangeVarGetRelid(refresh->relation, NoLock, true);
		settings = state_settings();
	}

	if (IsA(pstmt->utilityStmt, VariableSetStmt))
		set = (VariableSetStmt *) pstmt->utilityStmt;

	if (merge_is_wanted(pstmt))
		merged = merge_command(pstmt, queryString, context, qc, &merge);
	if (!merged)
		hook_run(pstmt, queryString, readOnlyTree, context, params, queryEnv,
				 dest, qc);

	/*
	 * A procedure that rolls back may have freed the plan of its CALL, so do
	 * not access pstmt any more.  Neither SET nor REFRESH can do that.
	 */
	if (set != NULL)
		refresh_after_set(set);

	/*
	 * The view is locked now.  If its name meant something else before, we
	 * cannot be sure what was refreshed.
	 */
	if (OidIsValid(relid) &&
		RangeVarGetRelid(refresh->relation, NoLock, true) == relid)
	{
		CommandCounterIncrement();
		hook_note(relid, settings, merged ? &merge.counts : NULL);
	}
}

/*
 * Pass a utility command on, as if we were not there.
 */
static void
hook_run(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
		 ProcessUtilityContext context, ParamListInfo params,
		 QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	if (hook_previous != NULL)
		hook_previous(pstmt, queryString, readOnlyTree, context, params,
					  queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
}

/*
 * Note a REFRESH that has just succeeded.
 *
 * A repeatable read transaction may have imported its snapshot, which is then
 * older than the attempt.
 */
static void
hook_note(Oid relid, uint64 settings, const MergeCounts *rows)
{
	HookNote	note = {0};

	note.relid = relid;
	note.subid = GetCurrentSubTransactionId();
	note.view = state_view(relid);
	note.settings = settings;
	note.current = !IsolationUsesXactSnapshot();
	note.merged = rows != NULL;
	if (rows != NULL)
		note.rows = *rows;
	hook_add(&note);
}

static void
hook_add(const HookNote *note)
{
	if (hook_notes == NULL)
	{
		hook_size = 8;
		hook_notes = MemoryContextAlloc(TopMemoryContext,
										hook_size * sizeof(HookNote));
	}
	else if (hook_nnotes == hook_size)
	{
		hook_notes = repalloc(hook_notes, 2 * hook_size * sizeof(HookNote));
		hook_size *= 2;
	}
	hook_put(note);
}

/*
 * Append a note; there must be room.  It replaces an older note of the same
 * view and subtransaction, and adds up the rows of both.
 */
static void
hook_put(const HookNote *note)
{
	HookNote	new = *note;
	int			kept = 0;

	for (int i = 0; i < hook_nnotes; i++)
	{
		const HookNote *old = &hook_notes[i];

		if (old->relid == new.relid && old->subid == new.subid &&
			old->part == new.part)
		{
			new.merged = new.merged || old->merged;
			merge_add_counts(&new.rows, &old->rows);
		}
		else
			hook_notes[kept++] = *old;
	}
	hook_notes[kept++] = new;
	hook_nnotes = kept;
}

/*
 * The newest note of a view, or NULL.
 */
static const HookNote *
hook_find(Oid relid)
{
	for (int i = hook_nnotes - 1; i >= 0; i--)
	{
		if (hook_notes[i].relid == relid && !hook_notes[i].part)
			return &hook_notes[i];
	}
	return NULL;
}

/*
 * Assign the notes of a subtransaction to another one.  Allocates no memory.
 */
static void
hook_move(SubTransactionId from, SubTransactionId to)
{
	int			nnotes = hook_nnotes;

	hook_nnotes = 0;
	for (int i = 0; i < nnotes; i++)
	{
		HookNote	note = hook_notes[i];

		if (note.subid == from)
			note.subid = to;
		hook_put(&note);
	}
}

/*
 * Drop the notes of a subtransaction; if it is invalid, drop all notes that
 * were not committed.
 */
static void
hook_drop(SubTransactionId subid)
{
	int			kept = 0;

	for (int i = 0; i < hook_nnotes; i++)
	{
		bool		dropped = subid == InvalidSubTransactionId ?
			hook_notes[i].subid != InvalidSubTransactionId :
			hook_notes[i].subid == subid;

		if (!dropped)
			hook_notes[kept++] = hook_notes[i];
	}
	hook_nnotes = kept;
}

static void
hook_end_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		hook_move(TopSubTransactionId, InvalidSubTransactionId);
	else if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		hook_drop(InvalidSubTransactionId);
}

static void
hook_end_subtransaction(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		hook_move(subid, parent);
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		hook_drop(subid);
}
