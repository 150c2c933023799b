/*-------------------------------------------------------------------------
 *
 * view_list.c
 *	  The grammar of the list of views: from a string to specifications.
 *
 * The caller provides one block of memory of view_list_size() bytes, for the
 * whole result: first the specifications, then a hash table that finds
 * duplicate names in linear time, then the names themselves.  It is one block
 * so that a GUC check hook can return it as its "extra".
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/guc.h"

#include "src/plan/view_list.h"

/* Room for an interval, "31622400000000 us" and blanks, or a time of the day */
#define VIEW_LIST_TEXT_SIZE 64

/* The state of a parse */
typedef struct ViewListParser
{
	const char *string;			/* the whole input, for positions */
	const char *cursor;			/* the next character to read */
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
static bool view_list_when(ViewListParser *parser, ViewSpec *spec);
static const char *view_list_find_from(const char *start, const char *end);
static bool view_list_copy(ViewListParser *parser, const char *start,
						   const char *end, const char *what, char *word);
static bool view_list_interval(ViewListParser *parser, const char *start,
							   const char *end, int *interval);
static bool view_list_time_of_day(const char *word, int *time);
static bool view_list_settings(ViewListParser *parser, ViewSpec *spec);
static bool view_list_setting(ViewListParser *parser, const char *settings);
static bool view_list_value(ViewListParser *parser);
static bool view_list_add(ViewListParser *parser, const char *start);
static bool view_list_fail(const char *string, const char *at,
						   ViewListError *error, const char *fmt,...)
			pg_attribute_printf(4, 5);
static const char *view_list_skip_blanks(const char *cursor);
static bool view_list_is_blank(char c);
static bool view_list_starts_name(char c);
static bool view_list_continues_name(char c);
static bool view_list_continues_value(char c);

/*
 * The size in bytes that view_list_parse() needs for this string, valid or
 * not.
 */
size_t
view_list_size(const char *string)
{
	int			nspecs = view_list_count(string);

	/*
	 * A name takes no more than its text and a terminating zero.  The
	 * punctuation around a setting leaves room for the setting's terminating
	 * zeros.
	 */
	return MAXALIGN(offsetof(ViewList, specs) + nspecs * sizeof(ViewSpec)) +
		MAXALIGN(view_list_slots(nspecs) * sizeof(int)) +
		strlen(string) + 2 * nspecs + 1;
}

/*
 * Parse a list into a block of view_list_size() bytes.
 *
 * Returns false if the string is not a valid list, with the position and the
 * reason in *error; then the contents of the block are undefined.  The result
 * points only into the block, not into the string.
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
								  "expected \",\", \";\", \"@\" or \"(\" before this");
		parser.cursor = view_list_skip_blanks(parser.cursor + 1);
	}
}

/*
 * Parse a list of plain names separated by commas, which may be empty, into
 * an array with room for one name more than there are commas.
 *
 * Returns false if the string is not such a list or has a name twice, with
 * the position and the reason in *error.
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
 * An upper bound for the number of items: we also count separators within
 * quoted names.
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
 * Size of the hash table for "nspecs" items: a power of two, at most half
 * full.
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
	spec->start_time = -1;
	spec->settings = NULL;
	if (!view_list_name(parser, spec))
		return false;
	if (*parser->cursor == '@' && !view_list_when(parser, spec))
		return false;
	if (*parser->cursor == '(' && !view_list_settings(parser, spec))
		return false;
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
 * Read an identifier or '*'.  For '*', *part is set to NULL.
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
 * The name goes into "name", of NAMEDATALEN bytes.  We fold only ASCII
 * letters, since the encoding of a database is not known in the postmaster.
 * *folds is set to true if there may be other letters to fold.  We refuse a
 * name that SQL would truncate, so that we never refresh anything but what
 * was written.
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
 * Read what follows '@': an interval, and the time that it counts from.
 */
static bool
view_list_when(ViewListParser *parser, ViewSpec *spec)
{
	const char *start = view_list_skip_blanks(parser->cursor + 1);
	const char *end = start;
	const char *from;
	const char *time;
	char		word[VIEW_LIST_TEXT_SIZE];

	while (*end != '\0' && *end != ',' && *end != ';' && *end != '(')
		end++;
	parser->cursor = end;
	from = view_list_find_from(start, end);
	if (!view_list_interval(parser, start, from ? from : end,
							&spec->interval))
		return false;
	if (from == NULL)
		return true;

	time = view_list_skip_blanks(from + strlen("from"));
	if (time >= end)
		return view_list_fail(parser->string, end, parser->error,
							  "expected a time of the day after \"from\"");
	if (!view_list_copy(parser, time, end, "time of the day", word))
		return false;
	if (!view_list_time_of_day(word, &spec->start_time))
		return view_list_fail(parser->string, time, parser->error,
							  "\"%s\" is not a time of the day such as 03:00",
							  word);
	if (!view_list_interval_fits(spec->interval))
		return view_list_fail(parser->string, start, parser->error,
							  "an interval with \"from\" must divide a day, or be whole days");
	return true;
}

/*
 * Find the word "from"; NULL if there is none.
 */
static const char *
view_list_find_from(const char *start, const char *end)
{
	for (const char *in = start; end - in >= (int) strlen("from"); in++)
	{
		if ((in[0] | 0x20) == 'f' && (in[1] | 0x20) == 'r' &&
			(in[2] | 0x20) == 'o' && (in[3] | 0x20) == 'm' &&
			(in == start || view_list_is_blank(in[-1])) &&
			(in + 4 == end || view_list_is_blank(in[4])))
			return in;
	}
	return NULL;
}

/*
 * Copy a piece of the list, without trailing blanks, into "word".
 */
static bool
view_list_copy(ViewListParser *parser, const char *start, const char *end,
			   const char *what, char *word)
{
	while (end > start && view_list_is_blank(end[-1]))
		end--;
	if (end - start >= VIEW_LIST_TEXT_SIZE)
		return view_list_fail(parser->string, start, parser->error,
							  "the %s is too long", what);
	memcpy(word, start, end - start);
	word[end - start] = '\0';

	return true;
}

/*
 * Read an interval, in the units that parameters of time accept.
 */
static bool
view_list_interval(ViewListParser *parser, const char *start,
				   const char *end, int *interval)
{
	const char *hint = NULL;
	char		word[VIEW_LIST_TEXT_SIZE];

	if (!view_list_copy(parser, start, end, "interval", word))
		return false;
	if (word[0] == '\0')
		return view_list_fail(parser->string, start, parser->error,
							  "expected an interval after \"@\"");
	if (!parse_int(word, interval, GUC_UNIT_S, &hint))
		return view_list_fail(parser->string, start, parser->error,
							  "\"%s\" is not an interval such as 90s, 15min, 1h or 1d",
							  word);
	if (*interval < VIEW_LIST_MIN_INTERVAL ||
		*interval > VIEW_LIST_MAX_INTERVAL)
		return view_list_fail(parser->string, start, parser->error,
							  "the interval \"%s\" is not between 1 second and 366 days",
							  word);
	return true;
}

/*
 * Read a string that is a time of the day, or empty: then *time is set to -1.
 *
 * Returns false if it is neither, with the position and the reason in *error.
 */
bool
view_list_time(const char *string, int *time, ViewListError *error)
{
	const char *start = view_list_skip_blanks(string);
	ViewListParser parser = {0};
	char		word[VIEW_LIST_TEXT_SIZE];

	parser.string = string;
	parser.error = error;
	*time = -1;
	if (*start == '\0')
		return true;
	if (!view_list_copy(&parser, start, start + strlen(start),
						"time of the day", word))
		return false;
	return view_list_time_of_day(word, time) ||
		view_list_fail(string, start, error,
					   "\"%s\" is not a time of the day such as 03:00", word);
}

/*
 * Read hours from 0 to 23, minutes of two digits, and optional seconds of two
 * digits.  *time is set to seconds after midnight.
 */
static bool
view_list_time_of_day(const char *word, int *time)
{
	static const int limits[] = {24, 60, 60};
	int			result = 0;
	int			part;

	for (part = 0; part < 3; part++)
	{
		int			value = 0;
		int			ndigits = 0;

		if (part > 0 && *word++ != ':')
			return false;
		for (; *word >= '0' && *word <= '9' && ndigits < 2; ndigits++)
			value = 10 * value + (*word++ - '0');
		if (ndigits < (part > 0 ? 2 : 1) || value >= limits[part])
			return false;
		result = 60 * result + value;
		if (*word == '\0' && part > 0)
			break;
	}
	if (*word != '\0')
		return false;
	*time = part < 2 ? 60 * result : result;
	return true;
}

/*
 * Read the settings of an item, starting at the opening parenthesis.
 */
static bool
view_list_settings(ViewListParser *parser, ViewSpec *spec)
{
	char	   *settings = parser->names;

	for (int nsettings = 0; nsettings == 0 || *parser->cursor == ',';
		 nsettings++)
	{
		parser->cursor = view_list_skip_blanks(parser->cursor + 1);
		if (nsettings == VIEW_LIST_MAX_SETTINGS)
			return view_list_fail(parser->string, parser->cursor,
								  parser->error,
								  "more than %d settings of one view",
								  VIEW_LIST_MAX_SETTINGS);
		if (!view_list_setting(parser, settings))
			return false;
	}
	if (*parser->cursor != ')')
		return view_list_fail(parser->string, parser->cursor, parser->error,
							  *parser->cursor == '\0' ?
							  "expected \")\" at the end" :
							  "expected \",\" or \")\" before this");
	*parser->names++ = '\0';
	spec->settings = settings;
	parser->cursor = view_list_skip_blanks(parser->cursor + 1);
	if (*parser->cursor != '\0' && *parser->cursor != ',' &&
		*parser->cursor != ';')
		return view_list_fail(parser->string, parser->cursor, parser->error,
							  "expected \",\" or \";\" before this");
	return true;
}

/*
 * Read one setting, and the blanks after it.  "settings" are those of the
 * same item that were read before.
 *
 * We do not know here whether the parameter exists.  Its name is folded, like
 * all names of parameters.
 */
static bool
view_list_setting(ViewListParser *parser, const char *settings)
{
	const char *start = parser->cursor;
	const char *in = start;
	char	   *name = parser->names;

	if (!view_list_starts_name(*in))
		return view_list_fail(parser->string, in, parser->error,
							  *in == '\0' ?
							  "expected the name of a parameter at the end" :
							  "expected the name of a parameter");
	while (view_list_continues_name(*in) || *in == '.')
	{
		char		c = *in++;

		*parser->names++ = (c >= 'A' && c <= 'Z') ? c + ('a' - 'A') : c;
	}
	*parser->names++ = '\0';
	for (; settings < name; settings = view_setting_next(settings))
	{
		if (strcmp(settings, name) == 0)
			return view_list_fail(parser->string, start, parser->error,
								  "\"%s\" is set twice", name);
	}

	parser->cursor = view_list_skip_blanks(in);
	if (*parser->cursor != '=')
		return view_list_fail(parser->string, parser->cursor, parser->error,
							  *parser->cursor == '\0' ?
							  "expected \"=\" at the end" :
							  "expected \"=\" before this");
	parser->cursor = view_list_skip_blanks(parser->cursor + 1);
	return view_list_value(parser);
}

/*
 * Read a value, quoted or not, and the blanks after it.
 */
static bool
view_list_value(ViewListParser *parser)
{
	const char *start = parser->cursor;
	const char *in = start;
	bool		quoted = (*in == '\'');

	if (quoted)
		in++;
	else if (!view_list_continues_value(*in))
		return view_list_fail(parser->string, in, parser->error,
							  *in == '\0' ? "expected a value at the end" :
							  "expected a value");
	for (; quoted || view_list_continues_value(*in); in++)
	{
		if (quoted && *in == '\0')
			return view_list_fail(parser->string, start, parser->error,
								  "the quoted value is not closed");
		if (quoted && *in == '\'')
		{
			in++;
			if (*in != '\'')
				break;
		}
		*parser->names++ = *in;
	}
	*parser->names++ = '\0';
	parser->cursor = view_list_skip_blanks(in);
	return true;
}

/*
 * Add the specification that was just read, unless its name is a duplicate.
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
		 * No name is empty, so "" can stand for none.  Whether names that
		 * fold differently are the same depends on the encoding.
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
 * Report what is wrong, and where.  Always returns false.
 *
 * We do not count continuation bytes of UTF-8, so that the position is in
 * characters in the encodings that matter.
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

/*
 * Words and numbers with their units need no quotes, as in postgresql.conf.
 */
static bool
view_list_continues_value(char c)
{
	return view_list_continues_name(c) || c == '-' || c == '+' || c == '.' ||
		c == ':' || c == '/';
}
