# shellcheck shell=bash
#
# Other releases of Debian than this machine's: which suite carries a
# package, and files from it.  Nothing of this touches the machine's own apt:
# a suite has lists of its own, in the cache folder, and apt verifies them
# with the keys of the archive that the machine has.
#
# To be sourced after lib.sh.

# What is costly to get is kept here between runs.
CACHE=${BIGBROTR_REFRESHER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bigbrotr_refresher}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_mirror: print the address that this machine has Debian from.
debian_mirror() {
	local mirror

	mirror=$(debian_mirrors | head -n 1)
	if [ -z "$mirror" ]; then
		apt_get update >&2
		mirror=$(debian_mirrors | head -n 1)
	fi
	[ -n "$mirror" ] || die "this machine's apt has no source of Debian"
	echo "$mirror"
}

# The label tells the archive from the one of the security updates.
debian_mirrors() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
		'Origin: Debian' 'Label: Debian'
}

# The lists of a suite.  (Some commands run by sudo, with the same cache
# folder, and what root has written there the user could not replace.)
suite_folder() {
	echo "$CACHE/apt-$(id -u)/$1"
}

# suite_apt SUITE apt-get|apt-cache ARGUMENT...
suite_apt() {
	local lists command=$2

	lists=$(suite_folder "$1")

	shift 2
	"$command" -q -o "Dir::Etc::SourceList=$lists/sources.list" \
		-o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null \
		-o Dir::Etc::PreferencesParts=/dev/null \
		-o "Dir::State::Lists=$lists/lists" -o "Dir::Cache=$lists/cache" \
		-o Dir::State::Status=/dev/null -o APT::Sandbox::User=root \
		-o Acquire::Languages=none "$@"
}

# suite_update SUITE: fetch its lists.
suite_update() {
	local lists mirror

	lists=$(suite_folder "$1")
	mirror=$(debian_mirror)
	mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
	echo "deb [signed-by=$KEYRING] $mirror $1 main" >"$lists/sources.list"
	suite_apt "$1" apt-get -o APT::Update::Error-Mode=any update
}

# suite_has SUITE PACKAGE: does it carry that?  Needs suite_update before.
suite_has() {
	[[ $(suite_apt "$1" apt-cache policy "$2") =~ 'Candidate: '[^\(] ]]
}

# suite_unpack SUITE FOLDER PACKAGE...: the files of these packages, without
# installing them.  Needs suite_update before.
suite_unpack() (
	suite=$1
	folder=$2
	shift 2
	mkdir -p "$folder/debs"
	cd "$folder/debs" || exit
	suite_apt "$suite" apt-get download "$@"
	for deb in *.deb; do
		dpkg -x "$deb" "$folder"
	done
	rm -r "$folder/debs"
)
