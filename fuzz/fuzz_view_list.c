/*-------------------------------------------------------------------------
 *
 * view_list.c
 *	  A target for libFuzzer: the grammar of the list of views, outside of
 *	  the server.
 *
 * Whatever string it is given, the parser must stay within the memory that it
 * asked for (the sanitizers see to that), must say where a string is wrong,
 * and must take what it accepted, printed as SQL would write it, for the same
 * list again.  And it must accept any list that is made of good names.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "src/plan/view_list.h"

/* More than this in one list is not compared each with each */
#define FUZZ_MANY	100

/* What a byte says of an item that is to be made */
#define FUZZ_SCHEMA		0x01
#define FUZZ_WILDCARD	0x02
#define FUZZ_STAGE		0x04
#define FUZZ_INTERVAL	0x08
#define FUZZ_FROM		0x10
#define FUZZ_SETTINGS	0x20

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_list(const char *string);
static ViewList *fuzz_parse(const char *string, ViewListError *error);
static void fuzz_check_list(const ViewList *list);
static void fuzz_check_same(const ViewList *list, const ViewList *other);
static void fuzz_names(const char *string);
static void fuzz_make(const uint8_t *data, size_t size);
static void fuzz_make_when(ViewSpec *spec, int what, const uint8_t **in,
						   const uint8_t *end);
static char *fuzz_make_settings(const uint8_t **in, const uint8_t *end);
static char *fuzz_make_name(const uint8_t **in, const uint8_t *end);
static int	fuzz_make_byte(const uint8_t **in, const uint8_t *end);
static void fuzz_check_error(const char *string, const ViewListError *error);
static char *fuzz_print(const ViewList *list, bool plain);
static size_t fuzz_print_size(const ViewList *list);
static char *fuzz_print_identifier(char *out, const char *name, bool plain);
static char *fuzz_print_settings(char *out, const char *settings, bool plain);
static bool fuzz_is_plain_value(const char *value);
static void fuzz_free_spec(ViewSpec *spec);
static size_t fuzz_settings_size(const char *settings);
static bool fuzz_same_settings(const char *settings, const char *other);
static void fuzz_time(const char *string);
static bool fuzz_is_plain(const char *name);
static bool fuzz_same_name(const char *name, const char *other);
static void *fuzz_alloc(size_t size);
static void fuzz_expect(bool held, const char *what);

/* What is expected of the parser, and is said if it does not hold */
#define EXPECT(condition)	fuzz_expect((condition), #condition)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *string = fuzz_alloc(size + 1);

	memcpy(string, data, size);
	string[size] = '\0';
	fuzz_list(string);
	fuzz_names(string);
	fuzz_time(string);
	free(string);
	fuzz_make(data, size);
	return 0;
}

static void
fuzz_list(const char *string)
{
	ViewListError error;
	ViewList   *list = fuzz_parse(string, &error);
	ViewList   *again;
	char	   *printed;

	if (list == NULL)
	{
		fuzz_check_error(string, &error);
		return;
	}
	fuzz_check_list(list);
	printed = fuzz_print(list, false);
	again = fuzz_parse(printed, &error);
	EXPECT(again != NULL);
	fuzz_check_same(list, again);
	for (int i = 0; i < list->nspecs; i++)
		EXPECT(list->specs[i].name_folds == again->specs[i].name_folds &&
			   list->specs[i].schema_folds == again->specs[i].schema_folds);
	free(again);
	free(printed);
	free(list);
}

/*
 * The list, in just the memory that it asks for; NULL if it is refused.
 */
static ViewList *
fuzz_parse(const char *string, ViewListError *error)
{
	ViewList   *list = fuzz_alloc(view_list_size(string));

	memset(error, 0x7F, sizeof(*error));
	if (view_list_parse(string, list, error))
		return list;
	free(list);
	return NULL;
}

/*
 * What holds for any list, whatever it was written like.
 */
static void
fuzz_check_list(const ViewList *list)
{
	int			stage = 0;

	EXPECT(list->nspecs > 0);
	EXPECT(list->specs[0].stage == 0);
	for (int i = 0; i < list->nspecs; i++)
	{
		const ViewSpec *spec = &list->specs[i];

		EXPECT(spec->stage == stage || spec->stage == stage + 1);
		stage = spec->stage;
		EXPECT(spec->interval == 0 ||
			   (spec->interval >= VIEW_LIST_MIN_INTERVAL &&
				spec->interval <= VIEW_LIST_MAX_INTERVAL));
		EXPECT(spec->start_time == -1 ||
			   (spec->start_time >= 0 && spec->start_time < VIEW_LIST_DAY &&
				spec->interval != 0 &&
				view_list_interval_fits(spec->interval)));
		EXPECT(spec->settings == NULL || *spec->settings != '\0');
		EXPECT(spec->name == NULL ||
			   (*spec->name != '\0' && strlen(spec->name) < NAMEDATALEN));
		EXPECT(spec->schema == NULL ||
			   (*spec->schema != '\0' && strlen(spec->schema) < NAMEDATALEN));
		for (int j = 0; j < i && i < FUZZ_MANY; j++)
			EXPECT(spec->name_folds != list->specs[j].name_folds ||
				   spec->schema_folds != list->specs[j].schema_folds ||
				   !fuzz_same_name(spec->name, list->specs[j].name) ||
				   !fuzz_same_name(spec->schema, list->specs[j].schema));
	}
}

static void
fuzz_check_same(const ViewList *list, const ViewList *other)
{
	EXPECT(list->nspecs == other->nspecs);
	for (int i = 0; i < list->nspecs; i++)
	{
		const ViewSpec *spec = &list->specs[i];

		EXPECT(fuzz_same_name(spec->schema, other->specs[i].schema));
		EXPECT(fuzz_same_name(spec->name, other->specs[i].name));
		EXPECT(spec->stage == other->specs[i].stage);
		EXPECT(spec->interval == other->specs[i].interval);
		EXPECT(spec->start_time == other->specs[i].start_time);
		EXPECT(fuzz_same_settings(spec->settings, other->specs[i].settings));
	}
}

/*
 * The list of plain names: printed as a list of views, both parsers must take
 * it for the same names.
 */
static void
fuzz_names(const char *string)
{
	ViewListError error;
	int			limit = 1;
	int			nnames;
	int			nagain;
	char		(*names)[NAMEDATALEN];
	char		(*again)[NAMEDATALEN];
	ViewList   *list;
	char	   *printed;

	for (const char *in = string; *in; in++)
		limit += (*in == ',');
	names = fuzz_alloc(limit * sizeof(*names));
	memset(&error, 0x7F, sizeof(error));
	if (!view_list_names(string, names, &nnames, &error))
	{
		fuzz_check_error(string, &error);
		free(names);
		return;
	}
	EXPECT(nnames <= limit);
	list = fuzz_alloc(offsetof(ViewList, specs) +
					  (nnames + 1) * sizeof(ViewSpec));
	list->nspecs = nnames;
	for (int i = 0; i < nnames; i++)
	{
		memset(&list->specs[i], 0, sizeof(ViewSpec));
		list->specs[i].start_time = -1;
		list->specs[i].name = names[i];
	}
	printed = fuzz_print(list, false);

	again = fuzz_alloc((nnames + 1) * sizeof(*again));
	EXPECT(view_list_names(printed, again, &nagain, &error));
	EXPECT(nagain == nnames);
	for (int i = 0; i < nnames; i++)
		EXPECT(strcmp(again[i], names[i]) == 0);
	if (nnames > 0)
	{
		ViewList   *views = fuzz_parse(printed, &error);

		EXPECT(views != NULL);
		fuzz_check_same(list, views);
		free(views);
	}
	free(again);
	free(printed);
	free(list);
	free(names);
}

/*
 * A list made of the input, which must be accepted as it was made, all of its
 * names quoted or only those that need it.
 */
static void
fuzz_make(const uint8_t *data, size_t size)
{
	const uint8_t *in = data;
	const uint8_t *end = data + size;
	ViewListError error;
	ViewList   *list;
	int			stage = 0;

	/* An item takes a byte at least. */
	list = fuzz_alloc(offsetof(ViewList, specs) + size * sizeof(ViewSpec));
	list->nspecs = 0;
	while (in < end)
	{
		ViewSpec   *spec = &list->specs[list->nspecs];
		int			what = fuzz_make_byte(&in, end);
		int			i;

		if ((what & FUZZ_STAGE) && list->nspecs > 0)
			stage++;
		spec->stage = stage;
		spec->schema_folds = spec->name_folds = false;
		fuzz_make_when(spec, what, &in, end);
		spec->settings = (what & FUZZ_SETTINGS) ?
			fuzz_make_settings(&in, end) : NULL;
		spec->schema = (what & FUZZ_SCHEMA) ? fuzz_make_name(&in, end) : NULL;
		spec->name = (what & FUZZ_WILDCARD) ? NULL : fuzz_make_name(&in, end);
		for (i = 0; i < list->nspecs; i++)
		{
			if (fuzz_same_name(spec->name, list->specs[i].name) &&
				fuzz_same_name(spec->schema, list->specs[i].schema))
				break;
		}
		if (i == list->nspecs && i < FUZZ_MANY)
		{
			list->nspecs++;
			continue;
		}
		stage = (list->nspecs > 0) ? list->specs[list->nspecs - 1].stage : 0;
		fuzz_free_spec(spec);
	}

	for (int plain = 0; plain < 2 && list->nspecs > 0; plain++)
	{
		char	   *printed = fuzz_print(list, plain);
		ViewList   *parsed = fuzz_parse(printed, &error);

		EXPECT(parsed != NULL);
		fuzz_check_same(list, parsed);
		free(parsed);
		free(printed);
	}
	for (int i = 0; i < list->nspecs; i++)
		fuzz_free_spec(&list->specs[i]);
	free(list);
}

/*
 * An interval of any length; or, with a time that it counts from, of a length
 * that it may have then.
 */
static void
fuzz_make_when(ViewSpec *spec, int what, const uint8_t **in,
			   const uint8_t *end)
{
	spec->interval = 0;
	spec->start_time = -1;
	if (!(what & FUZZ_INTERVAL))
		return;
	spec->interval = 1 + 2000 * fuzz_make_byte(in, end);
	if (!(what & FUZZ_FROM))
		return;
	spec->start_time = fuzz_make_byte(in, end) * 256 + fuzz_make_byte(in, end);
	if (spec->interval > 100)
		spec->interval = VIEW_LIST_DAY * (1 + spec->interval / 2000);
	while (!view_list_interval_fits(spec->interval))
		spec->interval++;
}

/*
 * Names of letters, each another one, with any bytes for values.
 */
static char *
fuzz_make_settings(const uint8_t **in, const uint8_t *end)
{
	int			nsettings = 1 + fuzz_make_byte(in, end) % 26;
	char	   *settings = fuzz_alloc(nsettings * (NAMEDATALEN + 8) + 1);
	char	   *out = settings;

	for (int i = 0; i < nsettings; i++)
	{
		int			length = fuzz_make_byte(in, end) % NAMEDATALEN;

		out += sprintf(out, "%c.x%d", 'a' + i, i) + 1;
		while (length-- > 0 && *in < end)
		{
			*out = (char) fuzz_make_byte(in, end);
			if (*out != '\0')
				out++;
		}
		*out++ = '\0';
	}
	*out = '\0';
	return settings;
}

static void
fuzz_free_spec(ViewSpec *spec)
{
	free((void *) spec->schema);
	free((void *) spec->name);
	free((void *) spec->settings);
}

/*
 * A time of the day, or none, which is printed as the list would have it.
 */
static void
fuzz_time(const char *string)
{
	ViewListError error;
	int			time;
	int			again;
	char		printed[32];

	memset(&error, 0x7F, sizeof(error));
	if (!view_list_time(string, &time, &error))
	{
		fuzz_check_error(string, &error);
		return;
	}
	EXPECT(time >= -1 && time < VIEW_LIST_DAY);
	if (time < 0)
		return;
	sprintf(printed, "%d:%02d:%02d", time / 3600, time / 60 % 60, time % 60);
	EXPECT(view_list_time(printed, &again, &error));
	EXPECT(again == time);
}

/*
 * A byte for the length, and so many bytes, less those that are zero; but
 * some name in any case.
 */
static char *
fuzz_make_name(const uint8_t **in, const uint8_t *end)
{
	char	   *name = fuzz_alloc(NAMEDATALEN);
	int			length = fuzz_make_byte(in, end) % NAMEDATALEN;
	char	   *out = name;

	while (length-- > 0 && *in < end)
	{
		*out = (char) fuzz_make_byte(in, end);
		if (*out != '\0')
			out++;
	}
	if (out == name)
		*out++ = 'v';
	*out = '\0';
	return name;
}

static int
fuzz_make_byte(const uint8_t **in, const uint8_t *end)
{
	return (*in < end) ? *(*in)++ : 0;
}

/*
 * The place is in the string, or just behind it, and the reason is a string.
 */
static void
fuzz_check_error(const char *string, const ViewListError *error)
{
	EXPECT(error->position >= 1);
	EXPECT((size_t) error->position <= strlen(string) + 1);
	EXPECT(memchr(error->reason, '\0', sizeof(error->reason)) != NULL);
	EXPECT(error->reason[0] != '\0');
}

/*
 * A list as SQL would write it: all names quoted but those that fold, or only
 * those for which it makes a difference.
 */
static char *
fuzz_print(const ViewList *list, bool plain)
{
	char	   *printed = fuzz_alloc(fuzz_print_size(list));
	char	   *out = printed;

	for (int i = 0; i < list->nspecs; i++)
	{
		const ViewSpec *spec = &list->specs[i];

		if (i > 0)
			*out++ = (spec->stage == list->specs[i - 1].stage) ? ',' : ';';
		if (spec->schema)
		{
			out = fuzz_print_identifier(out, spec->schema,
										plain || spec->schema_folds);
			*out++ = '.';
		}
		if (spec->name)
			out = fuzz_print_identifier(out, spec->name,
										plain || spec->name_folds);
		else
			*out++ = '*';
		if (spec->interval)
			out += sprintf(out, " @ %ds", spec->interval);
		if (spec->start_time >= 0)
			out += sprintf(out, " from %02d:%02d:%02d",
						   spec->start_time / 3600, spec->start_time / 60 % 60,
						   spec->start_time % 60);
		if (spec->settings)
			out = fuzz_print_settings(out, spec->settings, plain);
	}
	*out = '\0';
	return printed;
}

static size_t
fuzz_print_size(const ViewList *list)
{
	/* Two names, each byte of which may be a quote, and what is around them */
	size_t		size = list->nspecs * (4 * NAMEDATALEN + 64) + 1;

	/* A setting is three bytes at least, and has six around it. */
	for (int i = 0; i < list->nspecs; i++)
	{
		if (list->specs[i].settings)
			size += 4 * fuzz_settings_size(list->specs[i].settings) + 4;
	}
	return size;
}

static char *
fuzz_print_settings(char *out, const char *settings, bool plain)
{
	const char *name = settings;

	for (; *name; name = view_setting_next(name))
	{
		const char *value = view_setting_value(name);

		out += sprintf(out, "%s%s =", name == settings ? " (" : ", ", name);
		if (plain && fuzz_is_plain_value(value))
		{
			out += sprintf(out, "%s", value);
			continue;
		}
		*out++ = '\'';
		for (; *value; value++)
		{
			if (*value == '\'')
				*out++ = '\'';
			*out++ = *value;
		}
		*out++ = '\'';
	}
	*out++ = ')';
	return out;
}

/*
 * Does a value mean the same without quotes?
 */
static bool
fuzz_is_plain_value(const char *value)
{
	return *value != '\0' &&
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			   "0123456789_$.:/+-") == strlen(value);
}

/*
 * Bytes of the settings, with the zeros at their end.
 */
static size_t
fuzz_settings_size(const char *settings)
{
	const char *name = settings;

	while (*name)
		name = view_setting_next(name);
	return name + 1 - settings;
}

/*
 * Either may be NULL, which is none.
 */
static bool
fuzz_same_settings(const char *settings, const char *other)
{
	size_t		size;

	if (settings == NULL || other == NULL)
		return settings == other;
	size = fuzz_settings_size(settings);
	return size == fuzz_settings_size(other) &&
		memcmp(settings, other, size) == 0;
}

static char *
fuzz_print_identifier(char *out, const char *name, bool plain)
{
	if (plain && fuzz_is_plain(name))
		return out + sprintf(out, "%s", name);

	*out++ = '"';
	for (; *name; name++)
	{
		if (*name == '"')
			*out++ = '"';
		*out++ = *name;
	}
	*out++ = '"';
	return out;
}

/*
 * Does a name mean the same without quotes?
 */
static bool
fuzz_is_plain(const char *name)
{
	for (const char *in = name; *in; in++)
	{
		if (!((*in >= 'a' && *in <= 'z') || *in == '_' || (*in & 0x80) ||
			  (in > name && ((*in >= '0' && *in <= '9') || *in == '$'))))
			return false;
	}
	return true;
}

/*
 * Either may be NULL, which is nobody's name.
 */
static bool
fuzz_same_name(const char *name, const char *other)
{
	if (name == NULL || other == NULL)
		return name == other;
	return strcmp(name, other) == 0;
}

static void *
fuzz_alloc(size_t size)
{
	void	   *memory = malloc(size);

	if (memory == NULL)
		abort();
	return memory;
}

static void
fuzz_expect(bool held, const char *what)
{
	if (held)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}
