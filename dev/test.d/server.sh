# shellcheck shell=bash
#
# What the tests on a server of our own making share: PostgreSQL built from
# Debian's source package with options that no packaged server has, and the
# search of its logs for what a test case would not notice.
#
# To be sourced by such a kind of test; it is none itself.

. dev/debian.sh

# What every such server is built with.  Readline, ICU and zlib serve nothing
# that is tested.
SERVER_OPTIONS=(--enable-cassert --enable-debug --enable-tap-tests
	--without-readline --without-icu --without-zlib)

# The extensions that the tests use
SERVER_CONTRIB=(amcheck pg_stat_statements postgres_fdw)

# Beside the assertions: a released entry of a catalog cache is gone at once,
# not when the next invalidation happens to come.  (RELCACHE_FORCE_RELEASE
# would do the same for relations, but some tests lock a catalog that
# everybody would then have to read again.)
SERVER_DEFINES='-DCATCACHE_FORCE_RELEASE'

# How a server says that something is wrong that may not have failed a test: an
# extended regular expression a line.  Killed (signal 9) are those that a test
# kills.
SERVER_COMPLAINTS=$PROJECT/t/complaints

# source_server KIND CFLAGS [CONFIGURE ARGUMENT...]: build the server of this
# kind, unless the cache folder has it, built from the same source in the same
# way; then copy it into the scratch folder and set PG_CONFIG to its
# pg_config.  What is in CPPFLAGS is kept for the extension too.
source_server() {
	local kind=$1 cflags=$2 major server recipe version
	shift 2

	major=$(pg_major)
	server=$CACHE/server-$kind-$major
	need_packages gcc libc6-dev make perl libipc-run-perl diffutils \
		dpkg-dev bison flex
	mkdir -p "$CACHE"
	source_update
	version=$(source_version "$major")
	[ -n "$version" ] || die "apt has no source of PostgreSQL $major"
	recipe="$version $(gcc -dumpfullversion) $cflags ${CPPFLAGS-}"
	recipe+=" ${SERVER_OPTIONS[*]} ${SERVER_CONTRIB[*]} $*"

	exec 9>"$server.lock"
	if ! flock -n 9; then
		say "waiting for another run of the tests with $server"
		flock -w 1800 9 || die "$server is in use"
	fi
	if [ "$FRESH" = yes ] ||
		[ "$(cat "$server/recipe" 2>/dev/null)" != "$recipe" ]; then
		say "building a server ($kind) from Debian's $version of postgresql-$major"
		interruptible source_fetch "$major" >"$SCRATCH/server.log" 2>&1 ||
			source_fail "fetched"
		interruptible source_build "$cflags" "$@" >"$SCRATCH/server.log" 2>&1 ||
			source_fail "built"
		source_keep "$server" "$recipe"
	fi
	as_user mkdir "$SCRATCH/pg"
	tar -C "$server/files" --create --file=- . |
		as_user tar -C "$SCRATCH/pg" --no-same-owner --extract --file=-
	exec 9>&-
	PG_CONFIG=$SCRATCH/pg/bin/pg_config
	[ "$("$PG_CONFIG" --bindir)" = "$SCRATCH/pg/bin" ] ||
		die "$PG_CONFIG does not follow where it was moved to"
}

# The lists of the sources of this machine's Debian, apart from the machine's
# own.  Its security updates are left out: not all mirrors have their sources.
source_update() {
	local codename lists mirror

	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	lists=$(suite_folder source)
	mirror=$(debian_mirror)
	mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
	# apt does not wait for another one that does the same.
	exec 8>"$lists/lock"
	flock -w 600 8 || die "$lists is in use"
	# Whoever reads it now must find it whole.
	echo "deb-src [signed-by=$KEYRING] $mirror $codename main" \
		>"$lists/sources.new"
	mv "$lists/sources.new" "$lists/sources.list"
	suite_apt source apt-get -o APT::Update::Error-Mode=any update >&2 ||
		die "could not fetch the lists of sources"
	exec 8>&-
}

source_version() {
	suite_apt source apt-cache showsrc --only-source "postgresql-$1" |
		sed -n 's/^Version: //p' | sort -V | tail -n 1
}

# source_fetch MAJOR: the source, in the scratch folder.  apt holds what it has
# fetched against the signed lists.  Debian's patches are left out: they put
# parts of the server into folders of the system.
source_fetch() {
	mkdir "$SCRATCH/source" && (
		cd "$SCRATCH/source" &&
			suite_apt source apt-get source --download-only --only-source \
				"postgresql-$1"
	) &&
		as_user sh -c 'exec dpkg-source --no-check --skip-patches -x \
			source/*.dsc postgresql' &&
		rm -r "$SCRATCH/source" "$SCRATCH"/postgresql-*.orig.tar.*
}

# source_build CFLAGS [CONFIGURE ARGUMENT...]: build it into $SCRATCH/server.
# Its programs find its libraries by where they stand themselves, since all of
# it is moved.
source_build() {
	local cflags=$1 here=$SCRATCH/postgresql folder
	local folders=("$here" "${SERVER_CONTRIB[@]/#/$here/contrib/}")
	shift

	as_user sh -c 'cd postgresql && exec nice -n 10 ./configure "$@"' sh \
		--prefix="$SCRATCH/server" "${SERVER_OPTIONS[@]}" "$@" \
		CFLAGS="$cflags" CPPFLAGS="${CPPFLAGS-}" &&
		for folder in "${folders[@]}"; do
			as_user nice -n 10 make -s -j2 -C "$folder" all \
				"rpath=-Wl,-rpath,'\$\$ORIGIN/../lib',--enable-new-dtags" &&
				as_user nice -n 10 make -s -C "$folder" install \
					"rpath=-Wl,-rpath,'\$\$ORIGIN/../lib',--enable-new-dtags" ||
				return
		done &&
		as_user cp "$here/src/tools/valgrind.supp" "$SCRATCH/server/share/"
}

source_fail() {
	tail -n 40 "$SCRATCH/server.log" >&2
	die "the server could not be $1"
}

# source_keep FOLDER RECIPE: from the scratch folder into the cache.
source_keep() {
	rm -rf "$1.new"
	mkdir "$1.new"
	on_exit rm -rf "$1.new"
	cp -a --no-preserve=ownership "$SCRATCH/server" "$1.new/files"
	echo "$2" >"$1.new/recipe"
	rm -rf "$1"
	mv "$1.new" "$1"
	rm -rf "$SCRATCH/server" "$SCRATCH/postgresql"
}

# check_logs: one more result: the servers' logs have no complaint.  The
# folder of all that the tests have left is $SCRATCH/src.
check_logs() {
	local file found=$SCRATCH/complaints

	: >"$found"
	find "$SCRATCH/src" \( -name '*.log' -o -name 'sanitizer.*' \) -type f |
		sort | while IFS= read -r file; do
		grep -HnE -A 30 -f "$SERVER_COMPLAINTS" "$file" |
			sed "s|^$SCRATCH/src/||" || true
	done >"$found"
	if [ -s "$found" ]; then
		say "the servers have complained:"
		head -n 400 "$found"
		count 0 1
	else
		echo "logs       no server has complained"
		count 1 0
	fi
}
