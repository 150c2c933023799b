# shellcheck shell=bash
#
# What the commands in dev/ share: messages, packages, a scratch folder that
# is always removed again, an unprivileged user to run the server as, and a
# private copy of the server's files to install the extension into.
#
# To be sourced by bash, with `set -euo pipefail` in force.  What registers
# something (on_exit, scratch_make, server_tree) must be called in the main
# shell, not in $( ) or a pipeline, where it would be lost.
#
# It works in a bare chroot as well, where neither /proc nor /dev/fd is.

# The checkout that this file belongs to.
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
SCRATCH=
PG_CONFIG=
UNPRIVILEGED=nobody

# A caller's PGHOST must not lead a test to somebody's real server, nor a
# caller's locale, make flags or umask change what is built and printed.
for variable in "${!PG@}"; do
	case $variable in
		PG_*) ;;
		*) unset "$variable" ;;
	esac
done
unset variable MAKEFLAGS MFLAGS MAKELEVEL LANGUAGE
export LC_ALL=C.UTF-8
umask 022

# ---- messages ----------------------------------------------------------

# say MESSAGE...: a line about the progress, on stderr.
say() {
	printf '== %s\n' "$*" >&2
}

# die MESSAGE...: the reason why nothing more can be done; exits with 1.
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# ---- what is undone at the end -----------------------------------------

EXIT_COMMANDS=()
CHILD=
KEEP=no

# on_exit COMMAND...: run COMMAND when the script ends, whatever ends it.
# What was registered last runs first.
on_exit() {
	EXIT_COMMANDS+=("$(printf '%q ' "$@")")
	trap scratch_cleanup EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# scratch_keep: end without undoing anything (for a --keep option).
scratch_keep() {
	KEEP=yes
}

# The EXIT trap.  Keeps the script's exit status.
scratch_cleanup() {
	local status=$? i

	# A second Ctrl-C must not leave half of it behind.
	trap '' HUP INT TERM
	trap - EXIT
	set +e
	[ -z "$CHILD" ] || stop_group "$CHILD"
	if [ "$KEEP" = no ]; then
		for ((i = ${#EXIT_COMMANDS[@]} - 1; i >= 0; i--)); do
			eval "${EXIT_COMMANDS[i]}"
		done
	fi
	exit "$status"
}

# interruptible COMMAND...: run COMMAND as the leader of a process group of
# its own, so that a signal to this script ends at once whatever COMMAND had
# started.  (bash runs no trap while it waits for a foreground command.)
# Its standard input is /dev/null.
interruptible() {
	local status=0

	if declare -F "$1" >/dev/null; then
		# Monitor mode gives a function run in a subshell its own group.
		set -m
		("$@") </dev/null &
		CHILD=$!
		set +m
	else
		setsid "$@" </dev/null &
		CHILD=$!
	fi
	wait "$CHILD" || status=$?
	CHILD=
	return "$status"
}

# stop_group PID: end the process group of PID, by force if it takes long: a
# script in it may have servers to stop.
stop_group() {
	local i limit=300

	# There even what is dead may be counted as living.
	[ -e /proc/self ] || limit=30
	kill -TERM -- "-$1" 2>/dev/null || return 0
	for ((i = 0; i < limit; i++)); do
		group_lives "$1" || return 0
		sleep 0.1
	done
	kill -KILL -- "-$1" 2>/dev/null
	return 0
}

# Is a process of this group there that is not just waiting to be reaped?
# (What has lost its parent may wait long for that.)
group_lives() {
	if [ ! -e /proc/self ]; then
		kill -0 -- "-$1" 2>/dev/null
		return
	fi
	# Some of these will be gone before cat gets there.
	{ cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed 's/^.*) //' |
		awk -v g="$1" '$1 != "Z" && $3 == g { n++ } END { exit !n }'
}

# ---- packages ----------------------------------------------------------

# as_root COMMAND...: run it as root, by sudo if need be.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "root is needed for \"$*\", and there is no sudo"
	fi
}

# apt_get ARGUMENT...: apt-get without questions, patient with the lock.
apt_get() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=300 --no-install-recommends "$@" </dev/null
}

package_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

package_known() {
	[[ $(apt-cache policy "$1" 2>/dev/null) =~ 'Candidate: '[^\(] ]]
}

# need_packages PACKAGE...: install those that are not there, and say which.
# A server package makes no cluster and leaves no server running.
need_packages() {
	install_missing "$@" || die "could not install $*"
}

# want_packages PACKAGE...: the same for what tests are skipped without; what
# cannot be had is said.
want_packages() {
	local package known=()

	# A chroot has no lists at first.
	compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null ||
		apt_get update >&2 || true
	for package in "$@"; do
		if package_known "$package"; then
			known+=("$package")
		else
			say "WARNING: there is no $package here: tests are SKIPPED"
		fi
	done
	install_missing "${known[@]}" ||
		say "WARNING: could not install ${known[*]}: tests are SKIPPED"
}

# install_missing PACKAGE...: fails, having said why, if apt does.
install_missing() {
	local package missing=() update=no server=no log status=0

	for package in "$@"; do
		package_installed "$package" && continue
		missing+=("$package")
		package_known "$package" || update=yes
		[[ $package =~ ^postgresql(-[0-9]+)?$ ]] && server=yes
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	say "installing by apt: ${missing[*]}"
	log=$(mktemp)
	on_exit rm -f "$log"
	[ "$server" = no ] || forbid_main_cluster
	if [ "$update" = yes ]; then
		apt_get update 2>&1 | apt_progress "$log" ||
			say "apt-get update reported errors"
	fi
	# Lists that are too old name files that the mirror no longer has.
	if ! apt_get install "${missing[@]}" 2>&1 | apt_progress "$log" &&
		! { apt_get update && apt_get install "${missing[@]}"; } 2>&1 |
			apt_progress "$log"
	then
		tail -n 30 "$log" >&2
		status=1
	fi
	rm -f "$log"
	[ "$server" = no ] || allow_main_cluster
	return "$status"
}

# apt_progress LOG: put what apt says on standard input into LOG, and say what
# it is doing: this may take minutes.
apt_progress() {
	tee -a "$1" | awk '
		/^Hit:|^Get:.* InRelease/ && !lists++ { print "   apt: reading the lists of packages" }
		/ newly installed, / { print "   apt: " $3 " packages" }
		/^Need to get |^After this operation, / { print "   apt: " $0 }
		/^Unpacking / && !unpacking++ { print "   apt: unpacking"  }
		/^Setting up / && !setting++ { print "   apt: setting up" }
		{ fflush() }' >&2
}

# Debian's server packages create a cluster and start it; these settings,
# there only while apt runs, keep them from it.
CREATECLUSTER=/etc/postgresql-common/createcluster.d
forbid_main_cluster() {
	on_exit allow_main_cluster
	as_root mkdir -p "$CREATECLUSTER"
	echo 'create_main_cluster = false' |
		as_root tee "$CREATECLUSTER/zz-no-main-cluster.conf" >/dev/null
}

allow_main_cluster() {
	[ -e "$CREATECLUSTER/zz-no-main-cluster.conf" ] || return 0
	as_root rm -f "$CREATECLUSTER/zz-no-main-cluster.conf"
}

# pg_major: print the major of this machine's PostgreSQL: the newest server
# that is installed, or else the one that its Debian carries.
pg_major() {
	local major

	major=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null |
		cut -d/ -f5 | sort -n | tail -n 1)
	if [ -z "$major" ]; then
		package_known postgresql || apt_get update >&2
		major=$(apt-cache policy postgresql |
			sed -n 's/^ *Candidate: \([0-9][0-9]*\).*/\1/p')
	fi
	[ -n "$major" ] || die "this machine's apt knows no PostgreSQL"
	echo "$major"
}

# need_server MAJOR: install what building against a server of this major
# and running it takes.  The server may also be there without being known as
# a package.
need_server() {
	local lib=/usr/lib/postgresql/$1

	need_packages gcc libc6-dev make
	# The headers tell; pgxs.mk comes with the client already.
	[ -x "$lib/bin/postgres" ] && [ -x "$lib/bin/pg_config" ] &&
		[ -e "/usr/include/postgresql/$1/server/postgres.h" ] && return
	need_packages "postgresql-$1" "postgresql-server-dev-$1"
}

# ---- the scratch folder and who works there ----------------------------

# scratch_make: make a folder of the unprivileged user's, name it in SCRATCH,
# and see to it that it is removed, and every server in it stopped, when the
# script ends.
scratch_make() {
	# Sockets are made in it, and a socket's path has 107 bytes at most.
	SCRATCH=$(realpath "$(mktemp -d /tmp/bbr.XXXXXX)")
	on_exit scratch_remove
	mkdir "$SCRATCH/tmp"
	[ "$(id -u)" != 0 ] ||
		chown -R "$UNPRIVILEGED:$(id -g "$UNPRIVILEGED")" "$SCRATCH"
}

scratch_remove() {
	scratch_stop_servers
	rm -rf "$SCRATCH"
}

# Stop each server whose data directory is in the scratch folder.
scratch_stop_servers() {
	find "$SCRATCH" -name postmaster.pid 2>/dev/null |
		while IFS= read -r file; do
			stop_server "$(dirname "$file")" \
				"$(head -n 1 "$file" 2>/dev/null)"
		done
}

# stop_server FOLDER PID: fast, or else at once, or else by force.
stop_server() {
	local signal i

	for signal in INT QUIT KILL; do
		kill_server "$1" "$2" "$signal" || return 0
		for ((i = 0; i < 100; i++)); do
			kill_server "$1" "$2" 0 || return 0
			sleep 0.1
		done
	done
}

# kill_server FOLDER PID SIGNAL: fails if PID is not, or no more, the server
# of that folder.  A number alone may be another process's by now.
kill_server() {
	[[ $2 =~ ^[0-9]+$ ]] || return 1
	[ ! -e /proc/self ] || [ "$(readlink "/proc/$2/cwd")" = "$1" ] || return 1
	kill "-$3" "$2" 2>/dev/null
}

# as_user COMMAND...: run it as an unprivileged user, in the scratch folder.
as_user() (
	cd "$SCRATCH" || exit
	export HOME=$SCRATCH TMPDIR=$SCRATCH/tmp
	if [ "$(id -u)" = 0 ]; then
		export USER=$UNPRIVILEGED LOGNAME=$UNPRIVILEGED
		exec setpriv --reuid="$UNPRIVILEGED" \
			--regid="$(id -g "$UNPRIVILEGED")" --clear-groups -- "$@"
	fi
	exec "$@"
)

# ---- the private tree and the extension in it --------------------------

# server_tree MAJOR [ROOT]: copy the server's files of this major, those below
# ROOT if it is named, into the scratch folder and set PG_CONFIG to the copied
# pg_config, which finds all else from where it stands itself.  What is installed
# with it stays in the copy.
server_tree() {
	local major=$1 root=${2-} tree part

	tree=$SCRATCH/pg${root:+-$major}
	for part in postgres pg_config; do
		[ -x "$root/usr/lib/postgresql/$major/bin/$part" ] ||
			die "the server of PostgreSQL $major is not installed"
	done
	for part in lib share include; do
		as_user mkdir -p "$tree/usr/$part/postgresql"
		as_user cp -a --no-preserve=ownership \
			"$root/usr/$part/postgresql/$major" "$tree/usr/$part/postgresql/"
	done
	PG_CONFIG=$tree/usr/lib/postgresql/$major/bin/pg_config
	[ "$("$PG_CONFIG" --pkglibdir)" = "$tree/usr/lib/postgresql/$major/lib" ] ||
		die "$PG_CONFIG does not follow where it was moved to"
}

# build_extension [CHECKOUT]: copy the checkout (this one unless another is
# named) to $SCRATCH/src, build it and install it into the private tree.
# Flags for the compiler may be added by COPT in the environment.
build_extension() {
	local from=${1:-$PROJECT} log=$SCRATCH/build.log

	rm -rf "$SCRATCH/src"
	as_user mkdir "$SCRATCH/src"
	checkout_files "$from" |
		tar -C "$from" --null --files-from=- --create --file=- |
		as_user tar -C "$SCRATCH/src" --no-same-owner --extract --file=-
	# No bitcode: it would take LLVM and is used by nothing here.
	if ! as_user make -s -C "$SCRATCH/src" "PG_CONFIG=$PG_CONFIG" \
		with_llvm=no all install </dev/null >"$log" 2>&1; then
		cat "$log" >&2
		die "the extension could not be built"
	fi
	cat "$log" >&2
}

# The names, each ended by a zero byte, of the files that belong to the
# checkout: tracked ones and new ones that are not ignored.
checkout_files() (
	cd "$1" || exit
	if git -c safe.directory='*' rev-parse >/dev/null 2>&1; then
		git -c safe.directory='*' ls-files -z --cached --others \
			--exclude-standard --deduplicate
	else
		find . \( -name .git -o -name tmp_check -o -name tmp_check_iso \) \
			-prune -o -type f -not -name '*.o' -not -name '*.so' \
			-not -name '*.bc' -printf '%P\0'
	fi | while IFS= read -r -d '' file; do
		# One that was deleted is still listed until that is committed.
		[ ! -e "$file" ] || printf '%s\0' "$file"
	done
)
