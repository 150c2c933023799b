# What must hold in the soak after whatever has happened.
#
# Each check complains to the scene of what it finds wrong; whatever takes too
# long dies, which is a complaint as well.

package SoakChecks;

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Soak;
use SoakViews;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  check_all check_hurt check_quiet check_windows check_schedule check_standby
  check_agreement check_log lose_rows forgive
);

# Bounds for a process at rest, a worker or the launcher: of the memory in its
# contexts, of what it has from the system, and of open files that are no
# relation's.  AddressSanitizer keeps what was freed, so the second is not looked
# at then.
my %most_used = (worker => 24_000_000, launcher => 4_000_000);
my %most_private_kb = (worker => 120_000, launcher => 10_000);
my $most_descriptors = 20;
my $most_relation_files = 1000;

# How a server says that something is wrong, as dev/test.d/server.sh has it too
my $complaints = join '|', 'still referenced',
  split /\n/, slurp_file(dirname(__FILE__) . '/complaints');

# What is the extension's own alarm, in a server with slots enough
my $alarms = qr/bigbrotr_refresher: helpers_missing/;

# An internal error of our processes is a defect, unless it is what the server
# itself says when somebody else was quicker.
my $internal =
  qr/ bigbrotr_refresher[^\[]*\[\d+\] XX\d\d\d (?:WARNING|ERROR|FATAL|PANIC): /;
my $quicker = qr/tuple\ (?:concurrently|already)\ (?:updated|deleted)
	|cache\ lookup\ failed|could\ not\ open\ relation\ with\ OID
	|could\ not\ find\ (?:trigger|tuple)/x;

# check_all(SCENE): all that can be held against the truth while the load goes
# on, when everything has been repaired.
sub check_all
{
	my ($scene) = @_;

	check_alive($scene);
	check_cycle($scene, $_) foreach @{ $scene->{databases} };
	check_agreement($scene);
	check_windows($scene);
	check_rest($scene);
	check_log($scene);
	return;
}

# The server answers, and each database is served, by no more than one worker.
sub check_alive
{
	my ($scene) = @_;
	my $databases = join ',', map { "'$_'" } @{ $scene->{databases} };

	$scene->await_sql('the server answers', 'postgres', 'SELECT true');
	$scene->await_sql(
		'each database is served', 'bigbrotr', "
		SELECT count(*) = 2 FROM bigbrotr_refresher.status() AS s
		LEFT JOIN pg_stat_activity AS a USING (pid)
		WHERE s.state <> 'stopped' AND s.database IN ($databases)
			AND (s.pid IS NULL OR (a.datname = s.database
				AND backend_type = 'bigbrotr_refresher'))");
	$scene->await_sql('there is one launcher', 'postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher launcher'");
	return;
}

# A cycle of all views that is asked for now refreshes what can be refreshed.
sub check_cycle
{
	my ($scene, $database) = @_;
	my $before = $scene->sql($database,
		'SELECT coalesce(max(id), 0) FROM bigbrotr_refresher.history');
	my @planned = $scene->list($database,
		"SELECT view || '|' || coalesce(error, '')
		 FROM bigbrotr_refresher.plan()");
	my $hopeless = 0;

	foreach (@planned)
	{
		my ($view, $error) = split /\|/, $_, 2;

		$hopeless++ if hopeless($view) || $error ne '';
		$scene->complain("$view cannot be refreshed: $error")
		  if $database eq 'bigbrotr' && $error ne '' && !hopeless($view);
	}
	my $expected = join '|', scalar(@planned), @planned - $hopeless,
	  $hopeless, 't';

	# Windows may be empty, since transactions are on their way.
	my $result = $scene->sql($database,
		'SELECT views, refreshed + skipped, failed, skipped <= '
		  . windows() . ' FROM bigbrotr_refresher.run(true)');

	return if $result eq $expected;
	$scene->complain("a cycle of $database had $result, not $expected; failed: "
		  . join('; ', failures($scene, $database, $before)));
	return;
}

# The failures since this row of the history that cannot be explained by what
# the views are.
sub failures
{
	my ($scene, $database, $before) = @_;
	my %failed = map { split /\|/, $_, 2 } $scene->list($database,
		"SELECT view, sqlstate || ': ' || error
		 FROM bigbrotr_refresher.history
		 WHERE id > $before AND outcome = 'failed' ORDER BY id");

	return map { "$_ $failed{$_}" } grep { !hopeless($_) } sort keys %failed;
}

# While some views are hurt, the others are refreshed.
sub check_hurt
{
	my ($scene, $database, %hurt) = @_;
	my $run = 'SELECT FROM bigbrotr_refresher.run(true)';

	# What was cancelled, say, may be in the cycle that is not over.
	check_alive($scene);
	$scene->sql($database, $run);
	my $before = $scene->sql($database,
		'SELECT coalesce(max(id), 0) FROM bigbrotr_refresher.history');
	$scene->sql($database, $run);
	foreach ($scene->list($database,
			"SELECT view, outcome, count(*)
			 FROM bigbrotr_refresher.history WHERE id > $before
				AND cycle_start IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"))
	{
		my ($view, $outcome) = split /\|/;

		$view =~ s/^public\.//;
		next if $outcome ne 'failed' || hopeless($view) || $hurt{$view};
		$scene->complain("$view of $database failed, though only "
			  . join(', ', sort keys %hurt)
			  . ' should: '
			  . join('; ', failures($scene, $database, $before)));
	}
	return;
}

# The history says "refreshed" exactly for what is in the views.
sub check_agreement
{
	my ($scene) = @_;

	foreach my $database (@{ $scene->{databases} })
	{
		my $found = $scene->sql($database, compare_sql());

		$scene->complain("history and data of $database: $found")
		  if $found ne '';
	}
	return;
}

# What was folded by windows is all that there was to fold, once, at any moment.
sub check_windows
{
	my ($scene, %options) = @_;

	foreach my $database (@{ $scene->{databases} })
	{
		my $found = $scene->insist($database, windows_sql(), %options);

		$scene->complain("windows of $database: $found") if $found ne '';
	}
	return;
}

# lose_rows(SCENE, DATABASE): rows of the history will be missing; so it is held
# against the data before.
sub lose_rows
{
	my ($scene, $database) = @_;

	check_agreement($scene) unless %{ $scene->{lossy} };
	$scene->{lossy}{$database} = 1;
	return;
}

# forgive(SCENE, DATABASE): rows of the history are missing for what was
# refreshed until now, and nobody is to complain.
sub forgive
{
	my ($scene, $database) = @_;
	my $running =
	  $scene->sql($database, 'SELECT pg_snapshot_xmax(pg_current_snapshot())');

	$scene->await_sql('older transactions end', $database,
		"SELECT pg_snapshot_xmin(pg_current_snapshot()) >= '$running'");
	$scene->sql(
		$database,
		'BEGIN;
		UPDATE soak.horizon SET xact = pg_snapshot_xmax(pg_current_snapshot());
		DELETE FROM soak.marker WHERE xact < (SELECT xact FROM soak.horizon);
		COMMIT;');
	return;
}

# ---- at rest ---------------------------------------------------------------------

# Nothing is left over when nothing is refreshed.
sub check_rest
{
	my ($scene) = @_;

	check_process($scene, 'worker', $_)
	  foreach $scene->list('postgres',
		"SELECT pid FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher'
			AND query LIKE 'next refresh due%'");
	$scene->set(enabled => 'off');
	$scene->await_sql(
		'no worker is left', 'bigbrotr',
		"SELECT count(*) = 2 AND bool_and(state = 'disabled'
			AND refreshing = '{}' AND pid IS NULL)
			AND NOT EXISTS (SELECT FROM pg_stat_activity
				WHERE backend_type = 'bigbrotr_refresher')
		 FROM bigbrotr_refresher.status()");
	my @launchers = $scene->pids('bigbrotr_refresher launcher');

	foreach my $what (
		[ 'helpers', "pg_stat_activity
			WHERE backend_type = 'bigbrotr_refresher helper'" ],
		[ 'locks of the launcher', 'pg_locks WHERE pid IN ('
			  . join(',', 0, @launchers) . ')' ],
		[ 'prepared transactions', 'pg_prepared_xacts' ])
	{
		# The launcher looks at the catalogs whenever it is told something.
		$scene->await_sql("no $what->[0] at rest", 'postgres',
			"SELECT count(*) = 0 FROM $what->[1]");
	}
	check_segments($scene);
	check_temporary_files($scene, @launchers);
	check_process($scene, 'launcher', $_) foreach @launchers;
	$scene->set(enabled => 'on');
	return;
}

# A cycle's shared memory is small.  The server's own segments are not, but for
# the one that has the list of them.
sub check_segments
{
	my ($scene) = @_;
	my @small = grep { (-s $_ // 0) < 1024 * 1024 }
	  glob $scene->node->data_dir . '/pg_dynshmem/*';

	$scene->complain('segments of dynamic shared memory: ' . join ', ', @small)
	  if @small != 1;
	return;
}

# Temporary files of these processes, or of processes that are no more
sub check_temporary_files
{
	my ($scene, @pids) = @_;
	my %ours = map { $_ => 1 } @pids;

	foreach my $file (
		glob $scene->node->data_dir . '/base/pgsql_tmp/pgsql_tmp*')
	{
		my ($pid) = $file =~ /pgsql_tmp(\d+)\./;

		$scene->complain("left behind: $file")
		  if defined $pid && ($ours{$pid} || !kill 0, $pid) && -e $file;
	}
	return;
}

# What a process at rest holds of memory and files.  It may end meanwhile.
sub check_process
{
	my ($scene, $kind, $pid) = @_;
	my $offset = -s $scene->node->logfile;
	my ($used, $private);

	$scene->sql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	$scene->await(
		"the $kind tells its memory",
		sub {
			return 1 unless -e "/proc/$pid";
			($used) = slurp_file($scene->node->logfile, $offset) =~
			  /\[$pid\] .*Grand total: .* (\d+) used$/m;
			return $used;
		});
	return unless $used;
	$scene->record("bytes in use by a $kind", $used);
	$scene->complain("$kind $pid uses $used bytes")
	  if $used > $most_used{$kind};

	my ($status) = eval { slurp_file("/proc/$pid/status") };
	($private) = ($status // '') =~ /^RssAnon:\s+(\d+) kB/m;
	return unless $private;
	$scene->record("private kB of a $kind", $private);
	$scene->complain("$kind $pid has $private kB")
	  if $private > $most_private_kb{$kind} && !$ENV{ASAN_OPTIONS};

	my @open = map { readlink($_) // '' } glob "/proc/$pid/fd/*";
	my @relations = grep { m{/(?:base|global)/[^p]} } @open;

	$scene->record("open files of a $kind", scalar @open);
	$scene->complain("$kind $pid has open files: " . join ', ', @open)
	  if @open - @relations > $most_descriptors
	  || @relations > $most_relation_files;
	return;
}

# ---- the log -----------------------------------------------------------------------

# The server has not complained since it was last looked at.
sub check_log
{
	my ($scene) = @_;

	foreach my $node (grep { $_ }
		@{$scene}{qw(node standby retired)})
	{
		my $offset = $scene->{log_offset}{ $node->name } // 0;
		my $log = slurp_file($node->logfile, $offset);

		# The last line may not be complete.
		$log =~ s/[^\n]*\z//;
		$scene->{log_offset}{ $node->name } = $offset + length $log;
		$scene->{kills}-- while $log =~ /terminated by signal 9\b/g;
		foreach my $line (split /\n/, $log)
		{
			$scene->complain($node->name . " says: $line")
			  if $line =~ $complaints
			  || $line =~ $alarms
			  || ($line =~ $internal && $line !~ $quicker);
		}
	}
	$scene->complain('a process was killed by nobody') if $scene->{kills} < 0;
	$scene->{kills} = 0;
	delete $scene->{retired};
	return;
}

# ---- in silence -----------------------------------------------------------------------

# When nothing is written and no cycle asked for: cycles go on by the schedule,
# after two of them no view is stale, and the standby has it all.
sub check_quiet
{
	my ($scene) = @_;

	$scene->pause_load(1);
	check_schedule($scene);

	# What reads another view has had its turn after that only in the second.
	wait_for_turns($scene, $_) foreach @{ $scene->{databases} };
	foreach my $database (@{ $scene->{databases} })
	{
		$scene->await_sql("the windows of $database get to the end",
			$database, 'SELECT NOT (' . windows_behind_sql() . ')');
		my $stale = $scene->sql($database, different_sql());

		$scene->complain("stale in $database: $stale") if $stale ne '';
		my (undef, @broken) = $scene->list($database, broken_sql());

		$scene->complain("broken in $database: @broken") if @broken;
	}
	check_standby($scene);
	$scene->pause_load(0);
	return;
}

# While no cycle is asked for, they go on by the schedule, and each view has its
# turn in one that starts from now on.
sub check_schedule
{
	my ($scene) = @_;

	foreach my $database (@{ $scene->{databases} })
	{
		wait_for_cycle($scene, $database);
		wait_for_turns($scene, $database);
	}
	return;
}

# What is under way ends, and nothing needs more than three seconds to be due.
sub wait_for_cycle
{
	my ($scene, $database) = @_;
	my $total = "SELECT cycles_success + cycles_failed
		FROM bigbrotr_refresher.status() WHERE database = '$database'";
	my $before = $scene->sql('bigbrotr', $total);

	$scene->await("cycles of $database by its schedule",
		sub { $scene->sql('bigbrotr', $total) > $before },
		40);
	return;
}

# Each view has its turn once more.
sub wait_for_turns
{
	my ($scene, $database) = @_;
	my $before = $scene->sql($database,
		'SELECT coalesce(max(id), 0) FROM bigbrotr_refresher.history');

	$scene->await_sql(
		'each view has its turn',
		$database,
		"SELECT NOT EXISTS (SELECT view FROM bigbrotr_refresher.plan()
			WHERE error IS NULL
			EXCEPT SELECT view FROM bigbrotr_refresher.history
			WHERE id > $before)",
		40);
	return;
}

# The standby follows, and nothing is refreshed there.
sub check_standby
{
	my ($scene) = @_;
	my $standby = $scene->{standby} or return;
	my $position =
	  $scene->sql('postgres', 'SELECT pg_current_wal_insert_lsn()');

	$scene->await(
		'the standby follows',
		sub {
			my ($ok, $out) = $scene->try('postgres',
				"SELECT pg_last_wal_replay_lsn() >= '$position'",
				node => $standby);

			return $ok && $out eq 't';
		});
	my $workers = $scene->sql(
		'postgres',
		"SELECT count(*) FROM pg_stat_activity
		 WHERE backend_type LIKE 'bigbrotr_refresher%'",
		node => $standby);
	$scene->complain("the standby has $workers workers") if $workers != 0;
	foreach my $database (@{ $scene->{databases} })
	{
		my $found =
		  $scene->insist($database, compare_sql(), node => $standby);

		$scene->complain("history and data of $database on the standby: $found")
		  if $found ne '';
	}
	check_windows($scene, node => $standby);
	return;
}

1;
