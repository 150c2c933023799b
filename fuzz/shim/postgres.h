/*-------------------------------------------------------------------------
 *
 * postgres.h
 *	  As much of the server's postgres.h as view_list.c takes, so that it can
 *	  be built outside of the server.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef POSTGRES_H
#define POSTGRES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint32_t uint32;

#define NAMEDATALEN 64
#define FLEXIBLE_ARRAY_MEMBER	/* empty */
#define MAXALIGN(size)	(((uintptr_t) (size) + 7) & ~(uintptr_t) 7)
#define pg_attribute_printf(f, a) __attribute__((format(printf, f, a)))

#endif							/* POSTGRES_H */
