/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  Advice about a view, in sentences.
 *
 * This is the column "advice" of plan().  It is null if there is nothing to
 * do.  It says nothing about deliberate choices: only if skip_unchanged is on
 * does it say how a view could be skipped.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "src/advice.h"
#include "src/common/settings.h"
#include "src/record/request.h"

/* How smaller views are refreshed does not matter. */
#define ADVICE_MIN_ROWS 1000

static void advice_add(StringInfo advice, const char *sentences);
static void advice_add_failure(StringInfo advice, const RefreshTarget *target);
static void advice_add_timeout(StringInfo advice, const PlanItem *item,
							   const char *name, int value);
static void advice_add_changes(StringInfo advice, const RefreshTarget *target,
							   const ViewState *known);

/*
 * Return why no worker refreshes the views of this database, and what to do
 * about it; NULL if a worker does.
 */
const char *
advice_unserved(void)
{
	const char *hint;
	const char *reason = request_obstacle(&hint);

	return reason != NULL ?
		psprintf("No worker refreshes it: %s %s", reason, hint) : NULL;
}

/*
 * Return the advice for a view, or NULL.  "known" is its state after the last
 * attempt, "skip_hint" says how to make it skippable, "window_advice" what
 * its windows need, and "unserved" is the result of advice_unserved().
 */
const char *
advice_text(const PlanItem *item, const ViewState *known,
			const char *skip_hint, const char *window_advice,
			const char *unserved)
{
	const RefreshTarget *target = &item->target;
	StringInfoData advice;

	initStringInfo(&advice);
	advice_add(&advice, unserved);
	if (target->method == REFRESH_METHOD_NONE)
		advice_add_failure(&advice, target);
	else
	{
		ViewSettings own;

		view_settings_read(item->settings, &own);
		advice_add_timeout(&advice, item, "refresh_timeout",
						   own.refresh_timeout);
		advice_add_timeout(&advice, item, "lock_timeout", own.lock_timeout);
		if (target->refused != NULL)
			advice_add(&advice,
					   psprintf("Its refresh function is not called, since it belongs to role \"%s\", which is not trusted: change the owner of the function, or drop it.",
								target->refused));
		advice_add(&advice, target->merge_hint);
		advice_add(&advice, window_advice);
		if (own.skip_unchanged)
			advice_add(&advice, skip_hint);
		advice_add_changes(&advice, target, known);
	}
	return advice.len > 0 ? advice.data : NULL;
}

/*
 * Append sentences; NULL adds nothing.
 */
static void
advice_add(StringInfo advice, const char *sentences)
{
	if (sentences == NULL)
		return;
	if (advice->len > 0)
		appendStringInfoChar(advice, ' ');
	appendStringInfoString(advice, sentences);
}

static void
advice_add_failure(StringInfo advice, const RefreshTarget *target)
{
	advice_add(advice, target->detail);
	advice_add(advice, target->hint);
}

/*
 * Warn about a timeout that was almost certainly meant to be in seconds.
 *
 * The list has it as text.  With a unit, it is meant as it is; without one, a
 * fraction may have been rounded to 0, which means no timeout.
 */
static void
advice_add_timeout(StringInfo advice, const PlanItem *item, const char *name,
				   int value)
{
	const char *text = view_settings_find(item->settings, name);

	if (value >= SETTINGS_MIN_TIMEOUT)
		return;
	if (text == NULL)
		text = psprintf("%d", value);

	if (text[strspn(text, "0123456789.")] != '\0' || strtod(text, NULL) == 0)
		return;
	advice_add(advice,
			   psprintf("\"%s\" is %d ms: if seconds are meant, write \"%ss\".",
						name, value, text));
}

static void
advice_add_changes(StringInfo advice, const RefreshTarget *target,
				   const ViewState *known)
{
	HeapTuple	tuple;
	float4		rows;

	if (target->method != REFRESH_METHOD_MERGE)
		return;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(target->relid));
	if (!HeapTupleIsValid(tuple))
		return;
	rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
	ReleaseSysCache(tuple);
	if (rows < ADVICE_MIN_ROWS || known->rows_changed < rows / 2)
		return;
	advice_add(advice,
			   psprintf("The last merge has changed " INT64_FORMAT " of about %.0f rows: where readers may wait, a function that executes a plain REFRESH would be cheaper.",
						known->rows_changed, rows));
}
