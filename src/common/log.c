/*-------------------------------------------------------------------------
 *
 * log.c
 *	  Lines of key=value for the server log.
 *
 * A value that holds blanks, '=' or '"' is quoted; whatever could end a line
 * or hide in it is escaped, so that neither a name nor the text of an error
 * can forge a line.  Long values are cut.
 *
 * Readers of the log differ in what they take for the end of a line: ASCII
 * control characters, those of Unicode, or parts of a text in another
 * encoding.  (Names of databases and roles may be in any encoding.)  So we
 * write bytes as they are only if they are a character of the database's
 * encoding, and not a control character.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "src/common/log.h"
#include "src/common/settings.h"

/* Maximum length of a value before quoting, in characters */
#define LOG_MAX_VALUE	1000

static const char *log_end(const char *value, int limit, int encoding);
static void log_escape(StringInfo text, const char *from, const char *end,
					   bool lines);
static bool log_is_plain(const char *character, int length);
static int	log_encoding(void);

/*
 * Build a line from an event and pairs of key and value, terminated by a
 * NULL.  The line is allocated in the current memory context.
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
 * Append a blank, the key, '=', and the value, quoted if necessary.
 */
void
log_append(StringInfo line, const char *key, const char *value)
{
	const char *end = log_end(value, LOG_MAX_VALUE, log_encoding());
	StringInfoData text;
	bool		quote;

	initStringInfo(&text);
	log_escape(&text, value, end, false);

	/* Also if it is empty, to be seen, or was escaped and so is longer */
	quote = text.len == 0 || text.len != end - value ||
		strpbrk(text.data, " =") != NULL;

	appendStringInfo(line, quote ? " %s=\"%s\"" : " %s=%s", key, text.data);
	pfree(text.data);
}

/*
 * Escape a DETAIL, HINT or CONTEXT for the log.  It keeps its lines, since
 * the server marks continuation lines.  The result is allocated in the
 * current memory context.
 */
char *
log_lines(const char *lines)
{
	StringInfoData text;

	initStringInfo(&text);
	log_escape(&text, lines, lines + strlen(lines), true);
	return text.data;
}

/*
 * Make a text valid in the database's encoding.  Returns the text itself if
 * it is valid, else a copy in the current memory context, with \xNN for each
 * invalid byte.
 *
 * Names of databases and roles, the list of views, and texts that other
 * databases leave in shared memory may be in any encoding, but the server
 * expects functions to return valid text.
 */
const char *
log_valid(const char *text)
{
	int			encoding = GetDatabaseEncoding();
	const char *end = text +strlen(text);
	StringInfoData copy;
	int			length;

	if (pg_verify_mbstr(encoding, text, end - text, true))
		return text;

	initStringInfo(&copy);
	for (; text <end; text +=Max(length, 1))
	{
		length = pg_encoding_verifymbchar(encoding, text, end - text);
		if (length > 0)
			appendBinaryStringInfo(&copy, text, length);
		else
			appendStringInfo(&copy, "\\x%02x", (unsigned char) *text);
	}
	return copy.data;
}

/*
 * Truncate a text (or NULL) in place to "limit" characters, and replace bytes
 * that are invalid in the database's encoding.
 */
void
log_clip(char *text, int limit)
{
	int			encoding = GetDatabaseEncoding();
	char	   *end;

	if (text == NULL)
		return;
	end = unconstify(char *, log_end(text, limit, encoding));
	*end = '\0';
	while (text <end)
	{
		int			length = pg_encoding_verifymbchar(encoding, text,
													  end - text);

		if (length < 1)
			*text = '?';
		text	  +=Max(length, 1);
	}
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
 * Find the end of the first "limit" characters of a value.  An invalid byte
 * counts as one character.
 */
static const char *
log_end(const char *value, int limit, int encoding)
{
	const char *end = value + strlen(value);

	for (int i = 0; i < limit && value < end; i++)
	{
		int			length = pg_encoding_verifymbchar(encoding, value,
													  end - value);

		value += Max(length, 1);
	}
	return value;
}

/*
 * Append text, with escapes as in C where it is not plain.  With "lines", we
 * keep newlines, tabs, quotes and backslashes.
 */
static void
log_escape(StringInfo text, const char *from, const char *end, bool lines)
{
	int			encoding = log_encoding();
	int			length;

	for (; from < end; from += Max(length, 1))
	{
		length = pg_encoding_verifymbchar(encoding, from, end - from);
		if (lines && (*from == '\n' || *from == '\t'))
			appendStringInfoChar(text, *from);
		else if (!lines && (*from == '"' || *from == '\\'))
			appendStringInfo(text, "\\%c", *from);
		else if (*from == '\n')
			appendStringInfoString(text, "\\n");
		else if (*from == '\r')
			appendStringInfoString(text, "\\r");
		else if (*from == '\t')
			appendStringInfoString(text, "\\t");
		else if (log_is_plain(from, length))
			appendBinaryStringInfo(text, from, length);
		else
		{
			for (int i = 0; i < Max(length, 1); i++)
				appendStringInfo(text, "\\x%02x", (unsigned char) from[i]);
		}
	}
}

/*
 * Is this a valid character (its length is not -1) that is neither a control
 * character of ASCII, ISO 8859 or Unicode nor a line or paragraph separator?
 */
static bool
log_is_plain(const char *character, int length)
{
	unsigned char first = character[0];

	switch (length)
	{
		case -1:
			return false;
		case 1:
			return first >= ' ' && (first < 0x7f || first >= 0xa0);
		case 2:
			return first != 0xc2 || (unsigned char) character[1] >= 0xa0;
		case 3:
			return memcmp(character, "\xe2\x80\xa8", 3) != 0 &&
				memcmp(character, "\xe2\x80\xa9", 3) != 0;
		default:
			return true;
	}
}

/*
 * The encoding to read text in.  A database without one (SQL_ASCII) usually
 * holds UTF-8.
 */
static int
log_encoding(void)
{
	int			encoding = GetDatabaseEncoding();

	return encoding == PG_SQL_ASCII ? PG_UTF8 : encoding;
}
