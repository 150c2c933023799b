# shellcheck shell=bash
#
# dev/test engines: the tests beside extensions that keep rows in their own
# way: Citus and TimescaleDB.
#
# They are neither installed nor built here.  BIGBROTR_REFRESHER_ENGINES names
# the pg_config of a server that has them; without it, it is this machine's own
# PostgreSQL.  A test whose extension that server does not have is skipped.

test_engines() {
	need_packages perl libipc-run-perl
	scratch_make
	if [ -n "${BIGBROTR_REFRESHER_ENGINES-}" ]; then
		need_packages gcc libc6-dev make
		engines_tree "$BIGBROTR_REFRESHER_ENGINES"
	else
		say "BIGBROTR_REFRESHER_ENGINES names no pg_config: whatever extension this machine's PostgreSQL does not have is SKIPPED"
		need_server "$(pg_major)"
		server_tree "$(pg_major)"
	fi
	say "building for $("$PG_CONFIG" --version)"
	COPT=${COPT-$STRICT} interruptible build_extension
	# The other tests are those of dev/test.
	as_user sed -i '/^\(REGRESS\|ISOLATION\) =/d' "$SCRATCH/src/Makefile"
	export PROVE_TESTS=${PROVE_TESTS:-t/engines/*.pl}
	say "testing"
	installcheck
}

# engines_tree PG_CONFIG: copy the server that this belongs to into the scratch
# folder, whole, and set PG_CONFIG to the copied one.
engines_tree() {
	local folder name prefix=

	for name in bindir pkglibdir sharedir includedir-server; do
		folder=$(realpath "$("$1" "--$name")") || die "$1 is no pg_config"
		prefix=${prefix:-$folder}
		while [[ $folder/ != "$prefix"/* ]]; do
			prefix=${prefix%/*}
		done
	done
	case $prefix in
		'' | /usr | /usr/local)
			die "the server of $1 has no folder of its own that could be copied"
			;;
	esac
	as_user mkdir -p "$SCRATCH/pg"
	as_user cp -a --no-preserve=ownership "$prefix/." "$SCRATCH/pg/"
	folder=$(realpath "$("$1" --bindir)")
	PG_CONFIG=$SCRATCH/pg${folder#"$prefix"}/pg_config
	[[ $("$PG_CONFIG" --pkglibdir) = "$SCRATCH/pg"/* ]] ||
		die "$PG_CONFIG does not follow where it was moved to"
}
