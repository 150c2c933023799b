/*-------------------------------------------------------------------------
 *
 * shim.c
 *	  What view_list.c calls of the server.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "common/hashfn.h"
#include "utils/guc.h"

/*
 * Much worse than the server's, so that names collide in the hash table.
 */
uint32
hash_bytes(const unsigned char *bytes, int size)
{
	uint32		hash = size;

	while (size-- > 0)
		hash = hash * 4 + *bytes++;
	return hash;
}

/*
 * A number with an optional unit of time, in seconds, as the server reads it.
 */
bool
parse_int(const char *value, int *result, int flags, const char **hint)
{
	static const struct
	{
		const char *name;
		double		seconds;
	}			units[] = {
		{"", 1}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"min", 60},
		{"h", 3600}, {"d", 86400}
	};
	size_t		unit;
	size_t		length = 0;
	double		number;
	char	   *end;

	(void) flags;
	*hint = NULL;
	errno = 0;
	number = (double) strtol(value, &end, 0);
	if (*end == '.' || *end == 'e' || *end == 'E' || errno == ERANGE)
	{
		errno = 0;
		number = strtod(value, &end);
	}
	if (end == value || errno == ERANGE || isnan(number))
		return false;

	while (isspace((unsigned char) *end))
		end++;
	while (end[length] != '\0' && !isspace((unsigned char) end[length]))
		length++;
	for (unit = 0; unit < sizeof(units) / sizeof(units[0]); unit++)
	{
		if (strlen(units[unit].name) == length &&
			strncmp(units[unit].name, end, length) == 0)
			break;
	}
	if (unit == sizeof(units) / sizeof(units[0]))
		return false;
	for (end += length; isspace((unsigned char) *end); end++)
		;
	if (*end != '\0')
		return false;

	number = rint(number * units[unit].seconds);
	if (number > INT_MAX || number < INT_MIN)
		return false;
	*result = (int) number;
	return true;
}
