/*-------------------------------------------------------------------------
 *
 * sql_board.c
 *	  Escapes text for the page of board().
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

/* Replaces a character that is not in Unicode */
#define BOARD_REPLACEMENT	0xFFFD

PG_FUNCTION_INFO_V1(bigbrotr_refresher_board_text);

static int	board_code_point(const char *character, int length,
							 Oid conversion);
static void board_append(StringInfo page, int code);
static bool board_is_harmful(int code);

/*
 * board_text(text): return the text in ASCII, escaped for HTML and XML, for
 * use inside and outside of attributes.
 *
 * So the page does not depend on the encodings of the database and the client.
 */
Datum
bigbrotr_refresher_board_text(PG_FUNCTION_ARGS)
{
	const char *next = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *end = next + strlen(next);
	int			encoding = GetDatabaseEncoding();
	Oid			conversion = InvalidOid;
	StringInfoData page;

	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII)
		conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	initStringInfo(&page);
	while (next < end)
	{
		int			length = pg_encoding_verifymbchar(encoding, next,
													  end - next);
		int			code = length > 0 ?
			board_code_point(next, length, conversion) : BOARD_REPLACEMENT;

		board_append(&page, code);
		next += Max(length, 1);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(page.data, page.len));
}

/*
 * Return the Unicode code point of a valid character of the database's
 * encoding, or BOARD_REPLACEMENT if there is none.
 */
static int
board_code_point(const char *character, int length, Oid conversion)
{
	unsigned char converted[MAX_MULTIBYTE_CHAR_LEN *
							MAX_CONVERSION_GROWTH + 1];

	if (length == 1 && !IS_HIGHBIT_SET(*character))
		return *character;
	if (GetDatabaseEncoding() == PG_UTF8)
		return (int) utf8_to_unicode((const unsigned char *) character);

	/* Not all characters are in Unicode. */
	if (!OidIsValid(conversion) ||
		pg_do_encoding_conversion_buf(conversion, GetDatabaseEncoding(),
									  PG_UTF8,
									  (unsigned char *) unconstify(char *, character),
									  length, converted, sizeof(converted),
									  true) != length)
		return BOARD_REPLACEMENT;
	return (int) utf8_to_unicode(converted);
}

/*
 * Append a character.  One that a page must not contain is escaped as in the
 * log.
 */
static void
board_append(StringInfo page, int code)
{
	if (code == '\n')
		appendStringInfoString(page, "\\n");
	else if (code == '\t')
		appendStringInfoString(page, "\\t");
	else if (board_is_harmful(code))
		appendStringInfo(page, code <= 0xFF ? "\\x%02x" : "\\u%04x", code);
	else if (code > '~' || strchr("&<>\"'", code) != NULL)
		appendStringInfo(page, "&#%d;", code);
	else
		appendStringInfoChar(page, (char) code);
}

/*
 * Is this character not allowed in a page?  One that HTML or XML does not
 * allow makes the page malformed; one that reorders text makes a name look
 * like another.
 */
static bool
board_is_harmful(int code)
{
	return code < ' ' || (code >= 0x7F && code <= 0x9F) ||
		(code >= 0x2028 && code <= 0x202E) ||
		(code >= 0x2066 && code <= 0x2069) ||
		(code >= 0xFDD0 && code <= 0xFDEF) ||
		(code & 0xFFFE) == 0xFFFE;
}
