/*-------------------------------------------------------------------------
 *
 * faults.c
 *	  A clock that is wrong, a disk that is full, and processes that are slow
 *	  to start, for tests of a server.
 *
 * This library is loaded before the C library (LD_PRELOAD) and answers in its
 * place.  What is wrong stands in a file that all processes of the server have
 * mapped, so that a test changes it for all of them at once: see t/Faults.pm,
 * which compiles this too.
 *
 * The server asks for the time in signal handlers: nothing on the way of the
 * clock allocates memory, takes a lock or opens a file.  The monotonic clock
 * is left alone.
 *
 * A disk is full for what was opened by a path that matches a pattern.  The
 * path is noted when a file is opened, since there may be no /proc to ask.
 *
 * A process that is slow to start waits as soon as it is forked, with the
 * signals blocked as the postmaster has them then.
 *
 * Copyright (c) 2026, the bigbrotr_refresher developers
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FAULTS_SIZE		4096	/* of the file */
#define FAULTS_MAX_FILE 4096	/* files of higher numbers are not noted */
#define FAULTS_MAX_PATH 192

/* The file */
typedef struct Faults
{
	int64_t		clock_offset;	/* what the clock is ahead, in microseconds */
	int64_t		disk_failures;	/* writes that have failed so far */
	int64_t		starts_held;	/* processes wait when they are forked */
	int64_t		starts_waiting; /* how many do, or did */
	char		disk_full[FAULTS_SIZE - 32];	/* patterns, each ended by a
												 * newline; "": none */
} Faults;

static volatile Faults *faults;

/* What each open file was opened as; "" if we do not know */
static char faults_paths[FAULTS_MAX_FILE][FAULTS_MAX_PATH];

/* The C library's function that one of ours stands before */
#define REAL(name) \
	((__typeof__(name) *) faults_real((void **) &real_##name, #name))
#define DECLARE_REAL(name) static void *real_##name

DECLARE_REAL(clock_gettime);
DECLARE_REAL(fork);
DECLARE_REAL(open);
DECLARE_REAL(shm_open);
DECLARE_REAL(close);
DECLARE_REAL(write);
DECLARE_REAL(pwrite);
DECLARE_REAL(writev);
DECLARE_REAL(pwritev);
DECLARE_REAL(posix_fallocate);

static void *
faults_real(void **function, const char *name)
{
	if (*function == NULL)
		*function = dlsym(RTLD_NEXT, name);
	if (*function == NULL)
		abort();
	return *function;
}

/*
 * When the library is loaded: map the file that the environment names.
 */
__attribute__((constructor))
static void
faults_load(void)
{
	const char *path = getenv("REFRESHER_FAULTS");
	void	   *map;
	int			fd;

	(void) REAL(clock_gettime);
	if (path == NULL)
		return;
	fd = REAL(open) (path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
	{
		perror(path);
		abort();
	}
	map = mmap(NULL, FAULTS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REAL(close) (fd);
	if (map == MAP_FAILED)
	{
		perror(path);
		abort();
	}
	faults = map;
}

/* ---- the clock ---- */

static bool
faults_is_wall(clockid_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int			result = REAL(clock_gettime) (clock, now);
	int64_t		microseconds;

	if (result != 0 || faults == NULL || !faults_is_wall(clock))
		return result;
	microseconds = (int64_t) now->tv_sec * 1000000 + now->tv_nsec / 1000 +
		faults->clock_offset;
	now->tv_sec = microseconds / 1000000;
	now->tv_nsec = microseconds % 1000000 * 1000 + now->tv_nsec % 1000;
	return 0;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec wall;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &wall);
	now->tv_sec = wall.tv_sec;
	now->tv_usec = wall.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *now)
{
	struct timespec wall;

	clock_gettime(CLOCK_REALTIME, &wall);
	if (now != NULL)
		*now = wall.tv_sec;
	return wall.tv_sec;
}

/* ---- processes ---- */

pid_t
fork(void)
{
	pid_t		child = REAL(fork) ();

	if (child != 0 || faults == NULL || !faults->starts_held)
		return child;
	__atomic_fetch_add(&faults->starts_waiting, 1, __ATOMIC_RELAXED);
	while (faults->starts_held && getppid() != 1)
		usleep(1000);
	return child;
}

/* ---- the disk ---- */

static void
faults_note(int fd, const char *folder, const char *path)
{
	if (fd >= 0 && fd < FAULTS_MAX_FILE)
		snprintf(faults_paths[fd], FAULTS_MAX_PATH, "%s%s", folder, path);
}

static bool
faults_match(const char *path)
{
	char		patterns[sizeof(faults->disk_full)];
	char	   *save;

	memcpy(patterns, (const char *) faults->disk_full, sizeof(patterns));
	patterns[sizeof(patterns) - 1] = '\0';
	for (char *pattern = strtok_r(patterns, "\n", &save); pattern != NULL;
		 pattern = strtok_r(NULL, "\n", &save))
	{
		if (fnmatch(pattern, path, 0) == 0)
			return true;
	}
	return false;
}

static bool
faults_disk_is_full(int fd)
{
	if (faults == NULL || faults->disk_full[0] == '\0' ||
		fd < 0 || fd >= FAULTS_MAX_FILE || faults_paths[fd][0] == '\0' ||
		!faults_match(faults_paths[fd]))
		return false;
	__atomic_fetch_add(&faults->disk_failures, 1, __ATOMIC_RELAXED);
	errno = ENOSPC;
	return true;
}

int
open(const char *path, int flags,...)
{
	mode_t		mode = 0;
	va_list		args;
	int			fd;

	if (flags & O_CREAT)
	{
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	fd = REAL(open) (path, flags, mode);
	faults_note(fd, "", path);
	return fd;
}

int
shm_open(const char *name, int flags, mode_t mode)
{
	int			fd = REAL(shm_open) (name, flags, mode);

	faults_note(fd, "/dev/shm", name);
	return fd;
}

int
close(int fd)
{
	/* The number may become something else's. */
	if (fd >= 0 && fd < FAULTS_MAX_FILE)
		faults_paths[fd][0] = '\0';
	return REAL(close) (fd);
}

ssize_t
write(int fd, const void *data, size_t size)
{
	return faults_disk_is_full(fd) ? -1 : REAL(write) (fd, data, size);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return faults_disk_is_full(fd) ? -1 :
		REAL(pwrite) (fd, data, size, offset);
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
	return faults_disk_is_full(fd) ? -1 : REAL(writev) (fd, parts, count);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	return faults_disk_is_full(fd) ? -1 :
		REAL(pwritev) (fd, parts, count, offset);
}

/*
 * Returns the code of the error, where others set errno.
 */
int
posix_fallocate(int fd, off_t offset, off_t size)
{
	return faults_disk_is_full(fd) ? ENOSPC :
		REAL(posix_fallocate) (fd, offset, size);
}
