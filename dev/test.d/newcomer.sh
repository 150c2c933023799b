# shellcheck shell=bash
#
# dev/test newcomer: what README tells a newcomer to do, word for word, on the
# smallest Debian there is with a server and a database, as root there: from
# nothing to views that are refreshed.  It prints how long each step takes.

. dev/test.d/package.sh

test_newcomer() {
	local step kind name started

	LABEL=newcomer
	become_root newcomer
	need_packages mmdebstrap perl
	MAJOR=$(pg_major)
	scratch_make
	CHROOT=$SCRATCH/chroot
	on_exit chroot_sweep "$CHROOT"
	say "making a chroot with a server and a database, mydb"
	holds "there is a server, with a database" newcomer_server
	[ "$FAILED" = 0 ] || return 0

	mkdir "$SCRATCH/steps"
	newcomer_steps
	for step in "$SCRATCH/steps"/*; do
		name=$(basename "$step")
		kind=${name##*.}
		started=$SECONDS
		holds "step ${name%%.*} of README: $(head -n 1 "$step")" "newcomer_$kind" "$step"
		say "$((SECONDS - started)) s"
		[ "$FAILED" = 0 ] || return 0
	done
	equals "the views are refreshed, and the next cycle is due within the hour" 't|2' \
		newcomer_psql -c "SELECT bool_and(outcome = 'refreshed'
			AND next_due < now() + interval '1h'), count(*)
			FROM bigbrotr_refresher.views"
	holds "the server stops" inside service postgresql stop
}

# inside COMMAND...: run it in the chroot, as root there.  Debian's commands to
# start and stop a server look into /proc, which is mounted for them alone: with
# the last of their processes it is gone.
inside() {
	# shellcheck disable=SC2016
	unshare --mount --propagation private sh -c '
		mount -t proc proc "$0/proc"
		exec chroot "$0" "$@"' \
		"$CHROOT" env -i -C / PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp \
		LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

# Its cluster is made by Debian, as on any machine.
newcomer_server() {
	bootstrap
	# So that apt asks nobody
	echo 'APT::Get::Assume-Yes "true";' >"$CHROOT/etc/apt/apt.conf.d/99yes"
	inside apt-get -q update
	inside apt-get -q install "postgresql-$MAJOR"
	inside service postgresql start
	inside_postgres createdb mydb
	copy_checkout "$CHROOT/root/checkout"
}

# The blocks of README's first section, as numbered files.  Of the ways to
# install the first is taken.  In another release of Debian, a newcomer writes
# its major.
newcomer_steps() {
	perl -It -MDocs -e '
		my ($folder, $major, $n) = (@ARGV, 0);
		foreach my $block (doc_blocks("README.md",
			doc_section("README.md", "Ten minutes to the first refresh")))
		{
			next unless $block->{kind} =~ /^(?:sh|sql|ini)$/;
			next if $block->{text} =~ /^(?:dev\/package|unzip|docker) /;
			$block->{text} =~ s/(postgresql\S*)\b15\b/$1$major/g;
			open(my $file, ">", sprintf("%s/%02d.%s", $folder, ++$n, $block->{kind})) or die;
			print $file $block->{text};
		}' "$SCRATCH/steps" "$MAJOR"
}

newcomer_sh() {
	if grep -q '^psql ' "$1"; then
		inside_postgres sh -ec "cd /tmp; $(cat "$1")"
		return
	fi
	inside sh -ec "cd /root/checkout; $(cat "$1")"
}

newcomer_ini() {
	cp "$1" "$CHROOT/etc/postgresql/$MAJOR/main/conf.d/refresher.conf"
	chmod 644 "$CHROOT/etc/postgresql/$MAJOR/main/conf.d/refresher.conf"
}

newcomer_sql() {
	newcomer_psql -f - <"$1"
}

newcomer_psql() {
	inside_postgres psql -X -A -t -q -v ON_ERROR_STOP=1 -d mydb "$@"
}
