# shellcheck shell=bash
#
# dev/test coverage: all tests, with the lines of the extension counted that
# they run through, on this machine's own PostgreSQL.  Prints the share of
# each file, of lines and of branches, and the lines that none of them has
# reached.  A share below COVERAGE_GOAL per cent of all lines is a failure.
# There is no goal for branches: many are the server's macros', such as the
# levels of ereport().

COVERAGE_GOAL=95

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
	as_user sh -c 'cd src && gcov -b -c -r -p $(find . -name "*.gcda")' \
		>"$SCRATCH/gcov.log" 2>&1 || {
		tail -n 20 "$SCRATCH/gcov.log" >&2
		die "gcov failed"
	}
	say "lines that no test has reached:"
	as_user sh -c 'cat src/*.gcov' | coverage_missed
	printf '\n%-28s %7s %7s %7s %9s %7s\n' file lines reached '%' branches '%'
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
# its name; of a branch, after its line, "branch 0 taken 5" or "never executed".
coverage_missed() {
	awk -F: '
		/^(branch|call|unconditional|function) / { next }
		$2 + 0 == 0 && $3 == "Source" { file = $4 }
		$1 ~ /#####|=====/ {
			number = $2 + 0
			sub(/^[^:]*:[^:]*:/, "")
			printf "%s:%d:%s\n", file, number, $0
		}'
}

coverage_table() {
	awk -F: '
		function share(n, of) {
			return of ? 100 * n / of : 100
		}
		function line(name, n, of, taken, branches) {
			printf "%-28s %7d %7d %7.1f %9d %7.1f\n", name, of, n,
				share(n, of), branches, share(taken, branches)
		}
		/^branch / {
			branches[file]++
			branches_all++
			if ($0 !~ /never executed|taken 0/) {
				taken[file]++
				taken_all++
			}
		}
		/^(branch|call|unconditional|function) / { next }
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
				line(file, reached[file], lines[file], taken[file],
					branches[file])
			line("total", reached_all, all, taken_all, branches_all)
		}' | sort
}
