# shellcheck shell=bash
#
# dev/test cassert: all tests on a server that checks itself: assertions,
# freed memory overwritten, caches that let go of everything at once.  What
# it complains of in its log counts as a failure too.
#
# The server has valgrind's hooks as well, so that dev/test valgrind needs no
# other.

. dev/test.d/server.sh

test_cassert() {
	scratch_make
	cassert_server
	say "building for $("$PG_CONFIG" --version), with assertions"
	interruptible build_extension
	say "testing"
	installcheck
	check_logs
}

cassert_server() {
	need_packages valgrind
	CPPFLAGS="$SERVER_DEFINES -DUSE_VALGRIND" \
		source_server cassert '-Og -g -fno-omit-frame-pointer'
}
