# shellcheck shell=bash
#
# dev/test package: the Debian package for this machine's PostgreSQL is built
# as dev/package does, installed in a chroot of this machine's Debian where
# nothing else is, used by a server there, and removed again.

. dev/test.d/majors.sh

CHROOT=
# What the results are of
LABEL=package

test_package() {
	local major package

	become_root package
	need_packages mmdebstrap
	major=$(pg_major)
	package=postgresql-$major-bigbrotr-refresher
	scratch_make
	holds "it is built, twice the same, and lintian finds no error" \
		dev/package "$SCRATCH/built"
	# shellcheck disable=SC2153
	[ "$FAILED" = 0 ] || return 0

	CHROOT=$SCRATCH/chroot
	say "making a chroot and installing the package there"
	on_exit chroot_sweep "$CHROOT"
	holds "apt installs it, with the server that it depends on" \
		bootstrap_package "$(echo "$SCRATCH/built/$package"_*.deb)"
	[ "$FAILED" = 0 ] || return 0
	server_checks "/usr/lib/postgresql/$major/bin"
	removal_checks "$package" "$major"
}

# holds NAME COMMAND...: a result: does COMMAND succeed?  What it prints is
# shown if not.
holds() {
	local name=$1
	shift

	if interruptible "$@" >"$SCRATCH/holds.log" 2>&1; then
		printf "%-10s %s ... ok\n" "$LABEL" "$name"
		count 1 0
	else
		printf "%-10s %s ... FAILED\n" "$LABEL" "$name"
		tail -n 60 "$SCRATCH/holds.log"
		count 0 1
	fi
}

# equals NAME EXPECTED COMMAND...: a result: does COMMAND print EXPECTED?
equals() {
	local name=$1 expected=$2
	shift 2

	holds "$name" prints "$expected" "$@"
}

prints() {
	local expected=$1 got
	shift

	got=$("$@")
	[ "$got" = "$expected" ] || die "expected \"$expected\", got \"$got\""
}

# ---- the chroot ------------------------------------------------------------

# bootstrap_package DEB: the smallest Debian there is, and then the package.
# No cluster is to be made by the server's package, and none started.
bootstrap_package() {
	# shellcheck disable=SC2016
	bootstrap \
		--essential-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d"' \
		--essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/none.conf"' \
		--customize-hook="copy-in '$1' /root" \
		--customize-hook='chroot "$1" sh -c "exec apt-get -q -y install /root/*.deb"'
}

# bootstrap OPTION...: this machine's Debian, at its smallest, in CHROOT.
bootstrap() {
	local codename line options=() sources=()

	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# With the updates: the package wants a server no older than this one.
	while IFS= read -r line; do
		sources+=("deb [signed-by=$KEYRING] $line main")
	done <<<"$(machine_sources "$codename")"
	# The way to the mirror is the machine's too.
	while IFS= read -r line; do
		[[ ${line,,} != *::proxy*\"?*\" ]] || options+=("--aptopt=$line")
	done <<<"$(apt-config dump --format '%f "%v"%n' Acquire)"
	# shellcheck disable=SC2016
	mmdebstrap --mode=root --format=directory --variant=minbase \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='APT::Install-Recommends "false"' \
		"${options[@]}" "$@" \
		--customize-hook='chmod 1777 "$1/dev/shm"' \
		"$codename" "$CHROOT" "${sources[@]}"
}

# machine_sources CODENAME: address and suite of each of the machine's sources
# of this Debian.
machine_sources() {
	debian_mirror >/dev/null
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI) $(RELEASE)' \
		'Created-By: Packages' 'Origin: Debian' 'Component: main' |
		grep -E " $1(-updates|-security)?\$" | sort -u
}

# inside COMMAND...: run it in the chroot, as root there.
inside() {
	chroot "$CHROOT" env -i -C / PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/tmp LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

# inside_postgres COMMAND...: the same as the user that Debian has for servers.
inside_postgres() {
	inside setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
}

sql() {
	inside_postgres env PGOPTIONS='-c statement_timeout=1min' \
		psql -X -A -t -q -v ON_ERROR_STOP=1 -h /tmp -d postgres \
		-c "$1"
}

# ---- what is tried there -----------------------------------------------------

# server_checks BIN
server_checks() {
	local bin=$1 data=/tmp/data

	equals "no cluster was made" '' \
		inside find /etc/postgresql /var/lib/postgresql -mindepth 1
	holds "a server starts with it, as an ordinary user" \
		start_server "$bin" "$data"
	[ "$FAILED" = 0 ] || return 0

	holds "CREATE EXTENSION" sql 'CREATE EXTENSION bigbrotr_refresher'
	holds "a view is made, and its table changes" sql '
		CREATE TABLE item (id integer);
		CREATE MATERIALIZED VIEW item_count AS SELECT count(*) FROM item;
		INSERT INTO item SELECT generate_series(1, 42)'
	holds "the worker refreshes it when it is due" await_count 42
	holds "and has it in the history" prints t sql "
		SELECT count(*) > 0 FROM bigbrotr_refresher.history
		WHERE view = 'item_count' AND outcome = 'refreshed'"
	sql 'INSERT INTO item VALUES (43)' >/dev/null
	equals "run() refreshes it" '1|0' sql "
		SELECT refreshed, failed FROM bigbrotr_refresher.run(wait => true)"
	equals "and with the row that has come" 43 sql 'SELECT count FROM item_count'
	holds "DROP EXTENSION" sql 'DROP EXTENSION bigbrotr_refresher'
	holds "the server stops" inside_postgres "$bin/pg_ctl" stop -w -D "$data"
}

start_server() {
	local bin=$1 data=$2

	inside_postgres "$bin/initdb" -N -U postgres -D "$data"
	inside_postgres tee -a "$data/postgresql.conf" <<-CONF
		shared_preload_libraries = 'bigbrotr_refresher'
		bigbrotr_refresher.databases = 'postgres'
		bigbrotr_refresher.views = '*'
		bigbrotr_refresher.interval = 1s
		listen_addresses = ''
		unix_socket_directories = '/tmp'
		fsync = off
	CONF
	inside_postgres "$bin/pg_ctl" start -w -D "$data" -l "$data/log" ||
		{
			cat "$CHROOT$data/log"
			return 1
		}
}

# await_count NUMBER: wait until the view has counted that many.
await_count() {
	local i

	for ((i = 0; i < 100; i++)); do
		[ "$(sql 'SELECT count FROM item_count')" != "$1" ] || return 0
		sleep 0.2
	done
	cat "$CHROOT/tmp/data/log"
	return 1
}

# removal_checks PACKAGE MAJOR
removal_checks() {
	holds "apt removes it" inside apt-get -q -y purge "$1"
	equals "and nothing of it stays" '' inside find \
		"/usr/lib/postgresql/$2" "/usr/share/postgresql/$2" \
		-name '*bigbrotr*'
}
