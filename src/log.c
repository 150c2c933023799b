/*-------------------------------------------------------------------------
 *
 * log.c
 *	  Lines of key=value for the server log.
 *
 * A value that holds blanks, '=' or '"' is quoted; whatever could end a line
 * or hide in it is escaped, so that neither a name nor the text of an error
 * can forge a line.  Long values are cut.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "log.h"
#include "settings.h"

/* The longest value, in characters, before it is quoted */
#define LOG_MAX_VALUE	1000

static bool log_needs_quotes(const char *value);
static int	log_clip(const char *value);

/*
 * Make a line of an event and pairs of key and value, ended by a NULL.
 * Allocated in the current memory context.
 */
char *
log_event(const char *event,...)
{
	StringInfoData line;
	va_list		args;
	const char *key;

	initStringInfo(&line);
	appendStringInfo(&line, REFRESHER_NAME ": %s", event);
	va_start(args, event);
	while ((key = va_arg(args, const char *)) != NULL)
		log_append(&line, key, va_arg(args, const char *));
	va_end(args);
	return line.data;
}

/*
 * Append a blank, the key, '=', and the value, quoted if it must be.
 */
void
log_append(StringInfo line, const char *key, const char *value)
{
	const char *end = value + log_clip(value);
	bool		quote = log_needs_quotes(value);

	appendStringInfo(line, " %s=", key);
	if (quote)
		appendStringInfoChar(line, '"');
	for (; value < end; value++)
	{
		switch (*value)
		{
			case '"':
			case '\\':
				appendStringInfoChar(line, '\\');
				appendStringInfoChar(line, *value);
				break;
			case '\n':
				appendStringInfoString(line, "\\n");
				break;
			case '\r':
				appendStringInfoString(line, "\\r");
				break;
			case '\t':
				appendStringInfoString(line, "\\t");
				break;
			default:
				if ((unsigned char) *value < ' ' || *value == 0x7f)
					appendStringInfo(line, "\\x%02x", (unsigned char) *value);
				else
					appendStringInfoChar(line, *value);
		}
	}
	if (quote)
		appendStringInfoChar(line, '"');
}

void
log_append_int(StringInfo line, const char *key, int64 value)
{
	appendStringInfo(line, " %s=" INT64_FORMAT, key, value);
}

/*
 * Append a duration as seconds with two decimals.
 */
void
log_append_seconds(StringInfo line, const char *key, int64 microseconds)
{
	appendStringInfo(line, " %s=%.2f", key, microseconds / 1000000.0);
}

/*
 * The empty value is quoted too, so that it is seen.
 */
static bool
log_needs_quotes(const char *value)
{
	if (*value == '\0')
		return true;
	for (; *value; value++)
	{
		if ((unsigned char) *value <= ' ' || *value == 0x7f ||
			strchr("=\"\\", *value) != NULL)
			return true;
	}
	return false;
}

/*
 * Bytes of the value that are shown.
 */
static int
log_clip(const char *value)
{
	return pg_mbcharcliplen(value, strlen(value), LOG_MAX_VALUE);
}
