# shellcheck shell=bash
#
# dev/test valgrind: the tests by pg_regress and the isolation tester, with
# each process of the server run by valgrind, under the server's own
# suppressions.  Whatever valgrind finds is a failure.  TAP tests take long
# there, and are run only if PROVE_TESTS names some.
#
# Everything takes some 30 times as long, and so the limit to what the
# extension's own tables may take is higher.
#
# The server is that of dev/test cassert, whose memory contexts tell valgrind
# what is allocated and what is not.

. dev/test.d/cassert.sh

test_valgrind() {
	scratch_make
	cassert_server
	say "building for $("$PG_CONFIG" --version), with assertions"
	COPT=-DGUARDED_LIMIT=30000 interruptible build_extension
	valgrind_wrap
	[ -n "${PROVE_TESTS-}" ] ||
		as_user sed -i '/^TAP_TESTS/d' "$SCRATCH/src/Makefile"
	export PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-900}
	say "testing, with $(valgrind --version)"
	installcheck
	as_user sh -c 'mv tmp/valgrind.*.log src/'
	check_logs
}

# A script in the place of the server's program, so that whoever starts a
# server starts valgrind.  What initdb does with it is not for valgrind.
valgrind_wrap() {
	local bin=$SCRATCH/pg/bin

	as_user mv "$bin/postgres" "$bin/postgres.checked"
	as_user tee "$bin/postgres" >/dev/null <<-EOF
		#!/bin/sh
		case " \$* " in
			*' --boot '* | *' --single '* | *' -V '* | *' --version '*)
				exec "$bin/postgres.checked" "\$@" ;;
		esac
		exec valgrind --quiet --leak-check=no --error-markers=VALGRINDERROR-BEGIN,VALGRINDERROR-END \\
			--suppressions="$SCRATCH/pg/share/valgrind.supp" \\
			--log-file="$SCRATCH/tmp/valgrind.%p.log" \\
			"$bin/postgres.checked" "\$@"
	EOF
	as_user chmod 755 "$bin/postgres"
}
