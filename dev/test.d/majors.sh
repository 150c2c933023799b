# shellcheck shell=bash
#
# dev/test MAJOR and dev/test all: the tests on other versions of PostgreSQL
# than this machine's, each in a chroot of a release of Debian that has it.
# A chroot needs no mounts, so that none can be left behind.

. dev/debian.sh

# What the project supports, and the releases to look for it in.  The last
# one is not published yet, so that it may be skipped.
MAJORS=(15 17 18 19)
REQUIRED=' 15 17 18 '
declare -A SUITES=(
	[15]='bookworm'
	[17]='trixie'
	[18]='forky sid'
	[19]='forky sid experimental'
)

# Any release serves with these, or they are not needed to run a server.
COMMON_LIBRARIES='^lib(c6|c-bin|llvm|gcc|stdc)|-(perl|dev|data)$'

# The exit status that says that a major cannot be had.
UNAVAILABLE=77

test_majors() {
	# Before sudo, so that the folder is the user's.
	mkdir -p "$CACHE"
	become_root "$1"
	if [ "$1" = all ]; then
		need_packages mmdebstrap
		all_majors
	else
		[ -n "${SUITES[$1]-}" ] || die "no PostgreSQL of major $1 here;" \
			"supported are ${MAJORS[*]}"
		one_major "$1"
	fi
}

# A chroot takes root.
become_root() {
	local options=("${VERBOSE[@]}")

	[ "$(id -u)" != 0 ] || return 0
	[ "$FRESH" = no ] || options+=(--fresh)
	command -v sudo >/dev/null || die "a chroot takes root or sudo"
	exec sudo env "BIGBROTR_REFRESHER_CACHE=$CACHE" \
		${COPT+"COPT=$COPT"} ${PROVE_TESTS+"PROVE_TESTS=$PROVE_TESTS"} \
		bash "$PROJECT/dev/test" "${options[@]}" "$1"
}

# ---- one major -----------------------------------------------------------

# Its tests run there as `dev/test` does on a machine of that release; it
# prints the closing line, and its exit status is this script's.
one_major() {
	local major=$1 chroot=$CACHE/chroot-$1 work previous old='' status=0
	local random=() name

	need_packages mmdebstrap
	for name in "${!BIGBROTR_REFRESHER_RANDOM_@}"; do
		random+=("$name=${!name}")
	done
	lock "$chroot"
	chroot_make "$major" "$chroot"
	previous=$(previous_major "$major")
	[ -z "$previous" ] || old_server_make "$previous"

	work=$(mktemp -d "$chroot/tmp/work.XXXXXX")
	on_exit chroot_sweep "$chroot"
	chmod 755 "$work"
	copy_checkout "$work/src"
	if [ -n "$previous" ] && [ -e "$CACHE/old-$previous/usr" ]; then
		old_server_copy "$CACHE/old-$previous" "$work/old" "$chroot"
		old=/tmp/$(basename "$work")/old
	fi
	interruptible chroot "$chroot" env -i \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI="${CI-}" \
		COPT="${COPT-$STRICT}" OLD_SERVER="$old" ${PROVE_TESTS:+"PROVE_TESTS=$PROVE_TESTS"} "${random[@]}" \
		bash "/tmp/$(basename "$work")/src/dev/test" "${VERBOSE[@]}" ||
		status=$?
	exit "$status"
}

# The supported major before this one; nothing for the first.
previous_major() {
	local major previous=

	for major in "${MAJORS[@]}"; do
		[ "$major" != "$1" ] || break
		previous=$major
	done
	echo "$previous"
}

# old_server_make MAJOR: have the files of that server, and of the libraries
# that it needs, in the cache folder, for the test of pg_upgrade.
old_server_make() {
	local major=$1 folder=$CACHE/old-$1 suite libraries

	exec 8>"$folder.lock"
	flock -w 1800 8 || die "$folder is in use"
	if [ "$FRESH" = yes ] || [ ! -e "$folder/usr" ]; then
		rm -rf "$folder"
		suite=$(find_suite "$major") || {
			say "WARNING: pg_upgrade is not tested from PostgreSQL $major: not to be had"
			exec 8>&-
			return
		}
		say "fetching the server of PostgreSQL $major, to upgrade from"
		mapfile -t libraries < <(libraries_of "$suite" "postgresql-$major" |
			sort -u)
		on_exit rm -rf "$folder.new"
		rm -rf "$folder.new"
		suite_unpack "$suite" "$folder.new" "postgresql-$major" \
			"postgresql-client-$major" "postgresql-server-dev-$major" \
			"${libraries[@]}" >&2
		mv "$folder.new" "$folder"
	fi
	exec 8>&-
}

# libraries_of SUITE PACKAGE: print the packages of the libraries that it needs,
# themselves or for others, without those that any release serves or that take
# LLVM.
libraries_of() {
	local direct

	mapfile -t direct < <(suite_apt "$1" apt-cache depends "$2" |
		sed -n 's/^ *Depends: \(lib.*\)/\1/p' | grep -vE "$COMMON_LIBRARIES")
	suite_apt "$1" apt-cache depends --recurse --no-recommends --no-suggests \
		--no-conflicts --no-breaks --no-replaces --no-enhances "${direct[@]}" |
		grep '^lib' | grep -vE "$COMMON_LIBRARIES"
}

# old_server_copy FROM TO CHROOT: its server, and those of its libraries that
# the chroot does not have, in "libraries".
old_server_copy() {
	local from=$1 to=$2 chroot=$3 part file

	mkdir -p "$to/libraries"
	for part in lib share include; do
		mkdir -p "$to/usr/$part"
		cp -a "$from/usr/$part/postgresql" "$to/usr/$part/"
	done
	for file in "$from"/{usr/,}lib/*-linux-gnu/*.so.*; do
		[ -e "$file" ] || continue
		compgen -G "$chroot/usr/lib/*/${file##*/}" >/dev/null ||
			cp -a "$file" "$to/libraries/"
	done
	chmod -R a+rX "$to"
}

# copy_checkout FOLDER: make the folder and copy the checkout into it.
copy_checkout() {
	mkdir "$1"
	checkout_files "$PROJECT" |
		tar -C "$PROJECT" --null --files-from=- --create --file=- |
		tar -C "$1" --no-same-owner --extract --file=-
}

# lock CHROOT: wait until no other run uses it, and keep others from it.
lock() {
	exec 9>"$1.lock"
	flock -n 9 && return
	say "waiting for another run of the tests in $1"
	flock -w 1800 9 || die "$1 is in use"
}

# Nothing survives in the chroot but what it was made of.  A process whose
# root directory is the chroot was started by this script: it has the lock.
chroot_sweep() {
	local chroot=$1 signal i

	chroot=$(realpath "$chroot")
	for signal in INT QUIT KILL; do
		for ((i = 0; i < 50; i++)); do
			chroot_kill "$chroot" "$([ "$i" = 0 ] && echo "$signal" || echo 0)" ||
				break 2
			sleep 0.1
		done
	done
	rm -rf --one-file-system "$chroot/tmp"/{work,bbr}.*
	find "$chroot/dev/shm" -mindepth 1 -delete
}

# chroot_kill CHROOT SIGNAL: fails if no process is left there.
chroot_kill() {
	local pid found=1

	for pid in /proc/[0-9]*; do
		[ "$(readlink "$pid/root" 2>/dev/null)" = "$1" ] || continue
		found=0
		kill "-$2" "${pid#/proc/}" 2>/dev/null || true
	done
	return "$found"
}

# ---- making a chroot -------------------------------------------------------

# What a test needs there.  The headers come with LLVM, half a gigabyte that
# is of no use here, so these two are only unpacked.
chroot_packages() {
	echo "postgresql-$1,gcc,libc6-dev,make,perl,libipc-run-perl"
}

chroot_unpacked() {
	echo "postgresql-server-dev-$1 libpq-dev"
}

# chroot_make MAJOR CHROOT: make it, unless it is there, made in the same
# way.  Exits with UNAVAILABLE if no release has that major.
chroot_make() {
	local major=$1 chroot=$2 suite recipe

	recipe="${SUITES[$major]} $(chroot_packages "$major")"
	recipe+=" $(chroot_unpacked "$major")"
	if [ "$FRESH" = no ] && [ -e "$chroot/.recipe" ] &&
		[ "$(cat "$chroot/.recipe")" = "$recipe" ]; then
		return
	fi
	suite=$(find_suite "$major") || {
		say "no release of Debian has PostgreSQL $major: looked in" \
			"${SUITES[$major]}"
		exit "$UNAVAILABLE"
	}
	say "making a chroot of Debian $suite with PostgreSQL $major"
	rm -rf --one-file-system "$chroot.new"
	on_exit rm -rf --one-file-system "$chroot.new"
	if ! interruptible bootstrap "$major" "$suite" "$chroot.new" \
		>"$chroot.log" 2>&1; then
		tail -n 40 "$chroot.log" >&2
		die "could not make a chroot of Debian $suite"
	fi
	echo "$recipe" >"$chroot.new/.recipe"
	rm -rf --one-file-system "$chroot"
	mv "$chroot.new" "$chroot"
}

# find_suite MAJOR: print the first release that has it.
find_suite() {
	local suite

	for suite in ${SUITES[$1]}; do
		if suite_update "$suite" >&2 && suite_has "$suite" "postgresql-$1"
		then
			echo "$suite"
			return
		fi
	done
	return 1
}

# bootstrap MAJOR SUITE FOLDER
bootstrap() {
	local major=$1 suite=$2 folder=$3 mirror options=() sources line

	mirror=$(debian_mirror)
	sources=("deb [signed-by=$KEYRING] $mirror $suite main")
	if [ "$suite" = experimental ]; then
		# Only an addition to sid, to be taken from no more than needed.
		sources+=("deb [signed-by=$KEYRING] $mirror sid main")
		options+=("--setup-hook=printf 'Package: src:postgresql-%s\nPin: release a=experimental\nPin-Priority: 990\n' $major >\"\$1/etc/apt/preferences.d/postgresql\"")
		suite=sid
	fi
	# The way to the mirror is the machine's too.
	while IFS= read -r line; do
		[[ ${line,,} != *::proxy*\"?*\" ]] || options+=("--aptopt=$line")
	done <<<"$(apt-config dump --format '%f "%v"%n' Acquire)"
	# shellcheck disable=SC2016
	mmdebstrap --mode=root --format=directory --variant=minbase \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		"${options[@]}" \
		--include="$(chroot_packages "$major")" \
		--essential-hook='mkdir -p "$1/etc/postgresql-common/createcluster.d"' \
		--essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.d/none.conf"' \
		--customize-hook='mkdir "$1/debs" && cd "$1/debs" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q download '"$(chroot_unpacked "$major")" \
		--customize-hook='for deb in "$1"/debs/*.deb; do dpkg -x "$deb" "$1" || exit; done; rm -r "$1/debs"' \
		--customize-hook='chmod 1777 "$1/dev/shm"' \
		"$suite" "$folder" "${sources[@]}"
}

# ---- all of them -----------------------------------------------------------

# Each runs as `dev/test MAJOR`, two at a time, from a copy of the checkout:
# it may be edited meanwhile, and all are to test the same.
all_majors() {
	local major

	scratch_make
	copy_checkout "$SCRATCH/checkout"
	interruptible all_majors_run
	for major in "${MAJORS[@]}"; do
		all_majors_count "$major"
	done
	printf '\n%-12s %-28s %7s %7s %7s\n' PostgreSQL '' passed failed skipped
	cat "$SCRATCH/table"
	printf '\n'
}

all_majors_run() {
	local major options=("${VERBOSE[@]}") running=0

	[ "$FRESH" = no ] || options+=(--fresh)
	for major in "${MAJORS[@]}"; do
		if [ "$running" = 2 ]; then
			wait -n || true
			running=1
		fi
		say "PostgreSQL $major: started"
		one_of_all "$major" "${options[@]}" &
		running=$((running + 1))
	done
	wait
}

# Its output is printed when it has ended, so that two do not mix.
one_of_all() {
	local major=$1 log=$SCRATCH/$1.log status=0

	bash "$SCRATCH/checkout/dev/test" "${@:2}" "$major" >"$log" 2>&1 || status=$?
	echo "$status" >"$SCRATCH/$major.status"
	{
		printf '\n---- PostgreSQL %s\n' "$major"
		cat "$log"
	} >"$log.shown"
	cat "$log.shown"
}

# all_majors_count MAJOR: add its numbers, and a line to the table.
all_majors_count() {
	local major=$1 status passed=0 failed=0 skipped=0 what=tested line

	status=$(cat "$SCRATCH/$major.status" 2>/dev/null || echo 1)
	line=$(tail -n 1 "$SCRATCH/$major.log" 2>/dev/null || true)
	if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]
	then
		passed=${BASH_REMATCH[1]}
		failed=${BASH_REMATCH[2]}
		skipped=${BASH_REMATCH[4]:-0}
	fi
	if [ "$status" = "$UNAVAILABLE" ] && [[ $REQUIRED != *" $major "* ]]; then
		what='SKIPPED: not to be had'
		skipped=1
		say "WARNING: PostgreSQL $major was SKIPPED: not to be had"
	elif [ "$status" = "$UNAVAILABLE" ]; then
		what='NOT TO BE HAD'
		failed=1
	elif [ "$passed$failed" = 00 ]; then
		what='NOT TESTED'
		failed=1
	elif [ "$status" != 0 ]; then
		what=FAILED
		[ "$failed" != 0 ] || failed=1
	fi
	count "$passed" "$failed" "$skipped"
	printf '%-12s %-28s %7d %7d %7d\n' "$major" "$what" "$passed" "$failed" \
		"$skipped" >>"$SCRATCH/table"
}
