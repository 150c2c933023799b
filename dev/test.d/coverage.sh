# shellcheck shell=bash
#
# dev/test coverage: all tests, with the lines of the extension counted that
# they run through, on this machine's own PostgreSQL.  Prints the share of
# each file and the lines that none of them has reached.  A share below
# COVERAGE_GOAL per cent of all lines is a failure.

COVERAGE_GOAL=90

test_coverage() {
	local major

	major=$(pg_major)
	need_server "$major"
	need_packages perl libipc-run-perl diffutils
	scratch_make
	server_tree "$major"
	coverage_graceful
	say "building for $("$PG_CONFIG" --version), with counters"
	COPT='-O0 -fno-lto --coverage' interruptible build_extension
	say "testing"
	installcheck
	coverage_report
}

# A process writes its counters when it exits, and an immediate stop does not
# let it.  With that the TAP tests end their servers, unless this copy of the
# module says otherwise.
coverage_graceful() {
	local cluster

	cluster=$(dirname "$("$PG_CONFIG" --pgxs)")
	cluster=$cluster/../test/perl/PostgreSQL/Test/Cluster.pm
	as_user sed -i "s/->stop('immediate')/->stop('fast')/" "$cluster"
	grep -q "stop('fast')" "$cluster" ||
		die "how TAP tests end their servers is not known"
}

coverage_report() {
	local total

	# One run for all, so that what a header has is counted once.
	as_user sh -c 'cd src && gcov -r -p $(find . -name "*.gcda")' \
		>"$SCRATCH/gcov.log" 2>&1 || {
		tail -n 20 "$SCRATCH/gcov.log" >&2
		die "gcov failed"
	}
	say "lines that no test has reached:"
	as_user sh -c 'cat src/*.gcov' | coverage_missed
	printf '\n%-28s %7s %7s %7s\n' file lines reached '%'
	as_user sh -c 'cat src/*.gcov' | coverage_table | tee "$SCRATCH/table"
	printf '\n'
	total=$(awk '$1 == "total" { print int($4) }' "$SCRATCH/table")
	if [ "$total" -ge "$COVERAGE_GOAL" ]; then
		count 1 0
	else
		say "less than $COVERAGE_GOAL % of the lines were reached"
		count 0 1
	fi
}

# What gcov prints of a line is "count:number:text", and of a file, in line 0,
# its name.
coverage_missed() {
	awk -F: '
		$2 + 0 == 0 && $3 == "Source" { file = $4 }
		$1 ~ /#####|=====/ {
			number = $2 + 0
			sub(/^[^:]*:[^:]*:/, "")
			printf "%s:%d:%s\n", file, number, $0
		}'
}

coverage_table() {
	awk -F: '
		function line(name, n, of) {
			printf "%-28s %7d %7d %7.1f\n", name, of, n, 100 * n / of
		}
		$2 + 0 == 0 {
			if ($3 == "Source")
				file = $4
			next
		}
		$1 ~ /-$/ { next }
		{ lines[file]++; all++ }
		$1 !~ /#####|=====/ { reached[file]++; reached_all++ }
		END {
			for (file in lines)
				line(file, reached[file], lines[file])
			line("total", reached_all, all)
		}' | sort
}
