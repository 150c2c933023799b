/*-------------------------------------------------------------------------
 *
 * view_list.c
 *	  The grammar of the list of views: a string in, specifications out.
 *
 * The caller provides one block of memory of view_list_size() bytes, which
 * takes the whole result: first the specifications, then a hash table that
 * finds names given twice in linear time, then the names themselves.  One
 * block is what a GUC check hook can hand on as its "extra".
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/guc.h"

#include "src/plan/view_list.h"

/* The longest interval that we try to read, "604800000000 us" and blanks */
#define VIEW_LIST_INTERVAL_SIZE 64

/* The state of a parse */
typedef struct ViewListParser
{
	const char *string;			/* the whole input, for positions */
	const char *cursor;			/* what is to be read next */
	char	   *names;			/* where the next name goes */
	int		   *slots;			/* hash table: index of a spec plus 1, or 0 */
	uint32		nslots;			/* a power of two */
	ViewList   *list;
	ViewListError *error;
} ViewListParser;

static uint32 view_list_slots(int nspecs);
static int	view_list_count(const char *string);
static bool view_list_item(ViewListParser *parser, int stage);
static bool view_list_name(ViewListParser *parser, ViewSpec *spec);
static bool view_list_name_part(ViewListParser *parser, const char **part,
								bool *folds);
static bool view_list_identifier(const char *string, const char **cursor,
								 char *name, bool *folds,
								 ViewListError *error);
static bool view_list_interval(ViewListParser *parser, int *interval);
static bool view_list_add(ViewListParser *parser, const char *start);
static bool view_list_fail(const char *string, const char *at,
						   ViewListError *error, const char *fmt,...)
			pg_attribute_printf(4, 5);
static const char *view_list_skip_blanks(const char *cursor);
static bool view_list_is_blank(char c);
static bool view_list_starts_name(char c);
static bool view_list_continues_name(char c);

/*
 * Bytes that view_list_parse() needs for this string, whatever it holds.
 */
size_t
view_list_size(const char *string)
{
	int			nspecs = view_list_count(string);

	/* A name is never longer than its text and its terminating zero. */
	return MAXALIGN(offsetof(ViewList, specs) + nspecs * sizeof(ViewSpec)) +
		MAXALIGN(view_list_slots(nspecs) * sizeof(int)) +
		strlen(string) + 2 * nspecs + 1;
}

/*
 * Parse a list into a block of view_list_size() bytes.
 *
 * Returns false if the string is not a list, with the place and the reason in
 * *error; then the block holds nothing of use.  The result points into the
 * block alone, not into the string.
 */
bool
view_list_parse(const char *string, ViewList *list, ViewListError *error)
{
	int			nspecs = view_list_count(string);
	ViewListParser parser;
	int			stage = 0;

	parser.string = string;
	parser.cursor = view_list_skip_blanks(string);
	parser.list = list;
	parser.error = error;
	parser.nslots = view_list_slots(nspecs);
	parser.slots = (int *) ((char *) list +
							MAXALIGN(offsetof(ViewList, specs) +
									 nspecs * sizeof(ViewSpec)));
	parser.names = (char *) parser.slots +
		MAXALIGN(parser.nslots * sizeof(int));
	memset(parser.slots, 0, parser.nslots * sizeof(int));
	list->nspecs = 0;

	if (*parser.cursor == '\0')
		return view_list_fail(string, parser.cursor, error,
							  "the list is empty");

	for (;;)
	{
		if (!view_list_item(&parser, stage))
			return false;

		if (*parser.cursor == '\0')
			return true;
		if (*parser.cursor == ';')
			stage++;
		else if (*parser.cursor != ',')
			return view_list_fail(string, parser.cursor, error,
								  "expected \",\", \";\" or \"@\" before this");
		parser.cursor = view_list_skip_blanks(parser.cursor + 1);
	}
}

/*
 * Parse a list of plain names separated by commas, which may be empty, into
 * an array that has room for one name more than there are commas.
 *
 * Returns false if the string is no such list or has a name twice, with the
 * place and the reason in *error.
 */
bool
view_list_names(const char *string, char (*names)[NAMEDATALEN], int *nnames,
				ViewListError *error)
{
	const char *cursor = view_list_skip_blanks(string);
	bool		folds;

	*nnames = 0;
	if (*cursor == '\0')
		return true;

	for (;;)
	{
		const char *start = view_list_skip_blanks(cursor);

		if (!view_list_identifier(string, &cursor, names[*nnames], &folds,
								  error))
			return false;
		for (int i = 0; i < *nnames; i++)
		{
			if (strcmp(names[i], names[*nnames]) == 0)
				return view_list_fail(string, start, error,
									  "\"%s\" is listed twice", names[i]);
		}
		(*nnames)++;

		if (*cursor == '\0')
			return true;
		if (*cursor != ',')
			return view_list_fail(string, cursor, error,
								  "expected \",\" before this");
		cursor++;
	}
}

/*
 * An upper bound of the number of items: separators within quoted names are
 * counted too.
 */
static int
view_list_count(const char *string)
{
	int			count = 1;

	for (; *string; string++)
	{
		if (*string == ',' || *string == ';')
			count++;
	}
	return count;
}

/*
 * Size of the hash table for so many items: a power of two, at most half full.
 */
static uint32
view_list_slots(int nspecs)
{
	uint32		slots = 4;

	while (slots < 2 * (uint32) nspecs)
		slots *= 2;
	return slots;
}

static bool
view_list_item(ViewListParser *parser, int stage)
{
	const char *start = parser->cursor;
	ViewSpec   *spec = &parser->list->specs[parser->list->nspecs];

	spec->stage = stage;
	spec->interval = 0;
	if (!view_list_name(parser, spec))
		return false;
	if (*parser->cursor == '@')
	{
		parser->cursor++;
		if (!view_list_interval(parser, &spec->interval))
			return false;
	}
	return view_list_add(parser, start);
}

static bool
view_list_name(ViewListParser *parser, ViewSpec *spec)
{
	spec->schema = NULL;
	spec->schema_folds = false;
	if (!view_list_name_part(parser, &spec->name, &spec->name_folds))
		return false;
	if (*parser->cursor != '.')
		return true;

	if (spec->name == NULL)
		return view_list_fail(parser->string, parser->cursor, parser->error,
							  "\"*\" cannot stand for a schema");
	parser->cursor = view_list_skip_blanks(parser->cursor + 1);
	spec->schema = spec->name;
	spec->schema_folds = spec->name_folds;
	if (!view_list_name_part(parser, &spec->name, &spec->name_folds))
		return false;
	if (*parser->cursor == '.')
		return view_list_fail(parser->string, parser->cursor, parser->error,
							  "a name has a schema and a view, and no more");
	return true;
}

/*
 * Read an identifier, or '*', for which *part becomes NULL.
 */
static bool
view_list_name_part(ViewListParser *parser, const char **part, bool *folds)
{
	char		name[NAMEDATALEN];
	size_t		size;

	if (*parser->cursor == '*')
	{
		*part = NULL;
		*folds = false;
		parser->cursor = view_list_skip_blanks(parser->cursor + 1);
		return true;
	}
	if (!view_list_identifier(parser->string, &parser->cursor, name, folds,
							  parser->error))
		return false;
	size = strlen(name) + 1;
	memcpy(parser->names, name, size);
	*part = parser->names;
	parser->names += size;
	return true;
}

/*
 * Read one identifier, quoted or not, at *cursor, and the blanks around it.
 *
 * The name goes into "name", of NAMEDATALEN bytes.  Only ASCII letters are
 * folded: in the postmaster, the encoding of a database is not known.  *folds
 * becomes true if there may be other letters to fold.  A name that SQL would
 * cut to length is refused, so that nothing else than what was written is ever
 * refreshed.
 */
static bool
view_list_identifier(const char *string, const char **cursor, char *name,
					 bool *folds, ViewListError *error)
{
	const char *start = view_list_skip_blanks(*cursor);
	const char *in = start;
	bool		quoted = (*in == '"');
	int			length = 0;

	*folds = false;
	if (quoted)
		in++;
	else if (!view_list_starts_name(*in))
		return view_list_fail(string, in, error,
							  *in == '\0' ? "expected a name at the end" :
							  "expected a name");

	for (; quoted || view_list_continues_name(*in); in++)
	{
		char		c = *in;

		if (quoted && c == '\0')
			return view_list_fail(string, start, error,
								  "the quoted name is not closed");
		if (quoted && c == '"')
		{
			in++;
			if (*in != '"')
				break;
		}
		if (length >= NAMEDATALEN - 1)
			return view_list_fail(string, start, error,
								  "the name is longer than %d bytes",
								  NAMEDATALEN - 1);
		if (!quoted && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (!quoted && (c & 0x80) != 0)
			*folds = true;
		name[length++] = c;
	}
	name[length] = '\0';

	if (length == 0)
		return view_list_fail(string, start, error,
							  "the quoted name is empty");
	*cursor = view_list_skip_blanks(in);
	return true;
}

/*
 * Read what follows '@', in the units that any parameter of time takes.
 */
static bool
view_list_interval(ViewListParser *parser, int *interval)
{
	const char *start = view_list_skip_blanks(parser->cursor);
	const char *end = start;
	const char *hint = NULL;
	char		value[VIEW_LIST_INTERVAL_SIZE];
	size_t		length;

	while (*end != '\0' && *end != ',' && *end != ';')
		end++;
	parser->cursor = end;
	while (end > start && view_list_is_blank(end[-1]))
		end--;
	length = end - start;

	if (length == 0)
		return view_list_fail(parser->string, start, parser->error,
							  "expected an interval after \"@\"");
	if (length >= sizeof(value))
		return view_list_fail(parser->string, start, parser->error,
							  "the interval is too long");
	memcpy(value, start, length);
	value[length] = '\0';
	if (!parse_int(value, interval, GUC_UNIT_S, &hint))
		return view_list_fail(parser->string, start, parser->error,
							  "\"%s\" is not an interval such as 90s, 15min, 1h or 1d",
							  value);
	if (*interval < VIEW_LIST_MIN_INTERVAL ||
		*interval > VIEW_LIST_MAX_INTERVAL)
		return view_list_fail(parser->string, start, parser->error,
							  "the interval \"%s\" is not between 1 second and 7 days",
							  value);
	return true;
}

/*
 * Count the specification just read in, unless its name was given before.
 */
static bool
view_list_add(ViewListParser *parser, const char *start)
{
	ViewList   *list = parser->list;
	ViewSpec   *spec = &list->specs[list->nspecs];
	const char *schema = spec->schema ? spec->schema : "";
	const char *name = spec->name ? spec->name : "";
	uint32		slot;

	slot = hash_bytes((const unsigned char *) name, strlen(name)) ^
		(31 * hash_bytes((const unsigned char *) schema, strlen(schema)));
	for (slot &= parser->nslots - 1; parser->slots[slot] != 0;
		 slot = (slot + 1) & (parser->nslots - 1))
	{
		ViewSpec   *other = &list->specs[parser->slots[slot] - 1];

		/*
		 * No name is empty, so "" stands for none without confusion.  Whether
		 * names that fold differently are the same depends on the encoding.
		 */
		if (other->schema_folds == spec->schema_folds &&
			other->name_folds == spec->name_folds &&
			strcmp(other->schema ? other->schema : "", schema) == 0 &&
			strcmp(other->name ? other->name : "", name) == 0)
			return view_list_fail(parser->string, start, parser->error,
								  "\"%s%s%s\" is listed twice",
								  schema, spec->schema ? "." : "",
								  spec->name ? name : "*");
	}
	parser->slots[slot] = ++list->nspecs;
	return true;
}

/*
 * Tell the caller's caller what is wrong where.  Always returns false.
 *
 * Bytes that continue a character of UTF-8 are not counted, so that the
 * position is one of characters in the encodings that matter.
 */
static bool
view_list_fail(const char *string, const char *at, ViewListError *error,
			   const char *fmt,...)
{
	va_list		args;

	error->position = 1;
	for (; string < at; string++)
	{
		if ((*string & 0xC0) != 0x80)
			error->position++;
	}
	va_start(args, fmt);
	vsnprintf(error->reason, sizeof(error->reason), fmt, args);
	va_end(args);
	return false;
}

static const char *
view_list_skip_blanks(const char *cursor)
{
	while (view_list_is_blank(*cursor))
		cursor++;
	return cursor;
}

static bool
view_list_is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
view_list_starts_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
		(c & 0x80) != 0;
}

static bool
view_list_continues_name(char c)
{
	return view_list_starts_name(c) || (c >= '0' && c <= '9') || c == '$';
}
