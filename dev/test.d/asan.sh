# shellcheck shell=bash
#
# dev/test asan: all tests on a server built with AddressSanitizer and
# UndefinedBehaviorSanitizer (and the assertions of dev/test cassert).  A
# process that a sanitizer stops says why in a file of its own; any such file
# is a failure, whatever the tests made of it.
#
# Leaks are not looked for: what lives as long as its process is freed by its
# end.

. dev/test.d/server.sh

test_asan() {
	local options

	scratch_make
	# The sanitizers stop what they find fault with.  They must not look for
	# locals used after return: the server measures its stack's depth.
	options="log_path=$SCRATCH/tmp/sanitizer:print_stacktrace=1:abort_on_error=1"
	options+=':disable_coredump=1:detect_leaks=0'
	export ASAN_OPTIONS="$options:detect_stack_use_after_return=0"
	export UBSAN_OPTIONS="$options"
	CPPFLAGS=$SERVER_DEFINES source_server asan \
		"-Og -g -fno-omit-frame-pointer $ASAN_FLAGS"
	say "building for $("$PG_CONFIG" --version), with sanitizers"
	interruptible build_extension
	asan_awake
	say "testing"
	installcheck
	as_user sh -c 'mv tmp/sanitizer.* src/ 2>/dev/null || true'
	check_logs
}

ASAN_FLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all'

# One more result: the extension was built like the server.
asan_awake() {
	if nm -D "$("$PG_CONFIG" --pkglibdir)/bigbrotr_refresher.so" |
		grep ' __asan_report' >/dev/null; then
		count 1 0
	else
		say "the extension was built without the sanitizers"
		count 0 1
	fi
}
