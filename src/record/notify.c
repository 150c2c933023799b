/*-------------------------------------------------------------------------
 *
 * notify.c
 *	  Notifies listeners of the results of refreshes.
 *
 * Listeners are notified of a refresh in its own transaction, so that nobody
 * hears of one that was not committed.  A failed refresh was rolled back; they
 * are notified of it in the transaction that writes its row of the history.
 *
 * The notification must not make that transaction fail.  So a payload that is
 * too long is cut.  When the server's queue is full, because a listener does
 * not end its transaction, every COMMIT after a NOTIFY fails; so we stop
 * sending shortly before that.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "fmgr.h"
#include "utils/fmgroids.h"
#include "utils/json.h"

#include "src/common/log.h"
#include "src/common/settings.h"
#include "src/record/notify.h"

/*
 * The longest error or condition in a payload, in characters.  A payload must
 * be shorter than about 7900 bytes.  A character takes at most 6 bytes, and
 * the name of a view less than TARGET_LABEL_SIZE.
 */
#define NOTIFY_MAX_TEXT		500

/* How full the server's queue may be for us to send */
#define NOTIFY_MAX_USAGE	0.9

static char *notify_json(const char *label, const RefreshResult *result,
						 int failures);
static void notify_append(StringInfo json, const char *key, const char *value);
static bool notify_has_room(const char *label);

/*
 * Notify listeners of the result of a refresh when the current transaction
 * commits.
 *
 * "failures" is how often the view has failed in a row.
 */
void
notify_outcome(const char *label, const RefreshResult *result, int failures)
{
	bool		json = refresher_notify_payload == NOTIFY_JSON;

	if (refresher_notify_channel[0] == '\0' ||
		(result->outcome != REFRESH_REFRESHED &&
		 !(json && result->outcome == REFRESH_FAILED)) ||
		!notify_has_room(label))
		return;
	Async_Notify(refresher_notify_channel,
				 json ? notify_json(label, result, failures) : label);
}

/*
 * Make the payload as a JSON object.
 */
static char *
notify_json(const char *label, const RefreshResult *result, int failures)
{
	const ErrorData *error = result->error;
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"view\": ");
	escape_json(&json, label);
	appendStringInfo(&json, ", \"outcome\": \"%s\", \"duration\": %.6f",
					 refresh_outcome_name(result->outcome),
					 result->duration / 1000000.0);
	if (result->condition != NULL)
		notify_append(&json, "condition", result->condition);
	if (error != NULL)
	{
		notify_append(&json, "sqlstate",
					  unpack_sql_state(error->sqlerrcode));
		notify_append(&json, "error", error->message ? error->message : "");
		appendStringInfo(&json, ", \"failures\": %d", failures);
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
notify_append(StringInfo json, const char *key, const char *value)
{
	char	   *text = pstrdup(value);

	log_clip(text, NOTIFY_MAX_TEXT);
	appendStringInfo(json, ", \"%s\": ", key);
	escape_json(json, text);
}

/*
 * Is there room in the server's queue?  If not, log what is lost.
 */
static bool
notify_has_room(const char *label)
{
	Datum		usage = OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE);

	if (DatumGetFloat8(usage) < NOTIFY_MAX_USAGE)
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg_internal("%s",
							 log_event("notify_failed", "view", label, "error",
									   "the server's queue of notifications is almost full",
									   NULL)),
			 errhint("It is emptied when the sessions that listen have ended their transactions.")));
	return false;
}
