# Soak: anything happens to a server at any time, in any order, while sessions
# write, read and ask; and after each burst of events all that must hold holds.
#
# SOAK_MINUTES says for how long to go on (else for half a minute).
# BIGBROTR_REFRESHER_RANDOM_SEED repeats what happened, as far as that depends on
# us alone.  SOAK_EVENTS, a list of names, has only these happen.  dev/soak runs
# this for long.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher qw(random_seed);
use Soak;
use SoakChecks;
use SoakEvents;
use SoakViews qw(windows);
use Test::More;
use Time::HiRes qw(time);

my $seconds = 60 * ($ENV{SOAK_MINUTES} || 0.5);
my $seed = random_seed();
my @only = split /[\s,]+/, $ENV{SOAK_EVENTS} // '';

# How often all is silent, to look for what is stale
my $quiet_every = 8;

my $scene = Soak->new($seed);
my %happened;
my ($bursts, $begin) = (0, time());

$scene->tell("seed $seed");
$scene->tell('without faults of disk and clock') unless $scene->{faults};

# Do it, and tell what has been done; what dies on the way is wrong.
sub burst
{
	my (@events) = @_;

	eval {
		foreach my $name (@events)
		{
			$happened{$name}++;
			push @{ $scene->{past} },
			  sprintf('%7.1f s %s', time() - $begin, $name);
			run_event($scene, $name);
			$scene->{past}[-1] .= ": $scene->{said}" if $scene->{said} ne '';
			$scene->tell($scene->{past}[-1]);
		}
		check_hurt($scene, 'bigbrotr', %{ $scene->{hurt}{bigbrotr} // {} })
		  if !grep { $_->{'*'} } values %{ $scene->{hurt} };
		repair($scene);
		check_all($scene);
		check_quiet($scene) if $bursts % $quiet_every == 0;
		1;
	} or $scene->complain("died: $@");
	return !@{ $scene->{complaints} };
}

# What one needs to see of a failure.  Of a long output the end is what one gets
# to see.
sub show_failure
{
	my @past = @{ $scene->{past} };
	my ($ok, $activity) = $scene->try('bigbrotr',
		"SELECT * FROM bigbrotr_refresher.status();
		SELECT pid, datname, backend_type, state, wait_event_type, wait_event,
			pg_blocking_pids(pid), clock_timestamp() - query_start, query
		FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
	my @log = grep { !/LOG:  (?:level: |parameter "|received SIGHUP)|view_refreshed|:  broken$/ }
	  split /\n/, slurp_file($scene->node->logfile);

	$scene->tell('the end of ' . $scene->node->logfile . ':');
	$scene->tell("    $_") foreach @log[ -(@log < 200 ? @log : 200) .. -1 ];
	$scene->tell('the last events:');
	$scene->tell("    $_") foreach @past[ -(@past < 15 ? @past : 15) .. -1 ];
	$scene->tell('the settings:');
	$scene->tell("    $_=" . ($scene->{settings}{$_} // ''))
	  foreach sort keys %{ $scene->{settings} };
	$scene->tell('what goes on:');
	$scene->tell("    $_") foreach split /\n/, $activity;
	foreach my $database (@{ $scene->{databases} })
	{
		my (undef, $windows) = $scene->try($database, windows_state_sql());

		$scene->tell("the windows of $database:");
		$scene->tell("    $_") foreach split /\n/, $windows;
	}
	$scene->tell('what was wrong:');
	$scene->tell("    $_") foreach @{ $scene->{complaints} };
	return;
}

# From nothing to a server under load, which has refreshed everything once
sub open_scene
{
	$scene->start;
	$scene->settle;
	check_alive_once();
	forgive($scene, $_) foreach @{ $scene->{databases} };
	$scene->start_load;
	check_all($scene);
	return !@{ $scene->{complaints} };
}

sub check_alive_once
{
	foreach my $database (@{ $scene->{databases} })
	{
		$scene->await_sql(
			'there is a worker', $database, "SELECT count(*) = 1
			FROM bigbrotr_refresher.status()
			WHERE database = '$database' AND state <> 'stopped'");
		$scene->sql($database, 'SELECT FROM bigbrotr_refresher.run(true)');
	}
	return;
}

# At the end all views are there, refreshed, not degraded, and not stale.
sub close_scene
{
	$scene->set(
		views => join(', ', '*', windows()), interval => '1s', skip_unchanged => 'on',
		merge => 'worker');
	check_all($scene);
	check_quiet($scene);
	$scene->stop_load;
	foreach my $database (@{ $scene->{databases} })
	{
		my $found = $scene->sql($database,
			"SELECT view, outcome, failures, is_degraded
			 FROM bigbrotr_refresher.views
			 WHERE outcome = 'failed' OR failures > 0 OR is_degraded
				OR last_success IS NULL OR data_as_of IS NULL");
		my $folded = $scene->sql($database,
			"SELECT bool_and(n > 0) AND count(*) = 2
			 FROM (SELECT sum(n) AS n FROM soak.by_xid
				UNION ALL SELECT sum(n) FROM soak.by_time) AS t");

		my $count = $scene->sql($database,
			'SELECT count(*) FROM bigbrotr_refresher.views');
		my $expected = windows() + ($database eq 'shop' ? 9 : 22);
		my $merged = $scene->sql($database,
			"SELECT count(*) FROM bigbrotr_refresher.history
			 WHERE method = 'merge' AND rows_inserted IS NOT NULL");

		$scene->complain("at the end, of $database: $found") if $found ne '';
		$scene->complain("at the end $database has $count views")
		  if $count != $expected;
		$scene->complain("nothing was merged in $database") if $merged == 0;
		$scene->complain("nothing was folded in $database") if $folded ne 't';
	}
	return !@{ $scene->{complaints} };
}

my $well = ok(eval { open_scene() }, 'all is well at the beginning');
diag($@) if $@;
while ($well && time() - $begin < $seconds)
{
	my @events = choose_events($scene, @only);

	# What is rare, since it takes long, is in each run that is long itself.
	@events = ('fail_over')
	  if $seconds >= 180
	  && !@only
	  && !$happened{fail_over}
	  && time() - $begin > $seconds / 2;
	$bursts++;
	$well = ok(burst(@events), "burst $bursts: " . join ', ', @events);
}
if ($well)
{
	$well = ok(eval { close_scene() }, 'all is well at the end');
	diag($@) if $@;
}
show_failure() unless $well;
eval { $scene->stop_load };

$scene->tell(sprintf '%d bursts in %.1f minutes; seed %d',
	$bursts, (time() - $begin) / 60, $seed);
$scene->tell(sprintf '%6d %s', $happened{$_}, $_) foreach sort keys %happened;
$scene->tell("$scene->{largest}{$_} $_, at most")
  foreach sort keys %{ $scene->{largest} };
if ($well)
{
	eval { $_->stop } foreach grep { $_ } @{$scene}{qw(standby node)};
}
done_testing();
