/*-------------------------------------------------------------------------
 *
 * log.h
 *	  Lines of key=value for the server log.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#ifndef LOG_H
#define LOG_H

#include "lib/stringinfo.h"

extern char *log_event(const char *event,...);
extern void log_append(StringInfo line, const char *key, const char *value);
extern void log_append_int(StringInfo line, const char *key, int64 value);
extern void log_append_seconds(StringInfo line, const char *key,
							   int64 microseconds);
extern char *log_lines(const char *lines);
extern const char *log_valid(const char *text);
extern void log_clip(char *text, int limit);

#endif							/* LOG_H */
