# What happens to the server and its processes in the soak.

package SoakServer;

use strict;
use warnings;

use Exporter qw(import);
use Faults;
use PostgreSQL::Test::Utils;
use Refresher;
use SoakChecks;
use SoakViews;

our @EXPORT = qw(server_events);

# As SoakEvents.pm has them: the weight, the code, and what it needs.
sub server_events
{
	return (
		settings => [ 6, \&_settings ],
		invalid_list => [ 3, \&_invalid_list ],
		reload_storm => [ 3, \&_reload_storm ],
		disable => [ 3, \&_disable ],
		timeouts => [ 3, \&_timeouts ],
		no_history => [ 1, \&_no_history ],
		cancel => [ 4, \&_cancel ],
		terminate_refresher => [ 5, \&_terminate_refresher ],
		terminate_any => [ 4, \&_terminate_any ],
		kill_refresher => [ 3, \&_kill_refresher ],
		kill_any => [ 1, \&_kill_any ],
		crash => [ 3, \&_crash ],
		restart => [ 2, \&_restart ],
		full_disk => [ 3, \&_full_disk, 'faults' ],
		clock => [ 4, \&_clock, 'alone faults' ],
		standby_restart => [ 1, \&_standby_restart ],
		fail_over => [ 1, \&_fail_over, 'alone' ]);
}

# ---- settings ------------------------------------------------------------------

sub _random_settings
{
	my ($scene) = @_;

	return (
		views => random_list($scene),
		interval => $scene->pick('1s', '1s', '2s', '3s'),
		retry_interval => $scene->pick('0', '1s', '2s', '5min'),
		max_workers => $scene->pick(1, 2, 3, 3, 4),
		skip_unchanged => $scene->pick('on', 'off'),
		merge => $scene->pick('worker', 'worker', 'all', 'all', 'off'),
		notify_channel => $scene->pick('', '', 'refreshed', 'Odd "channel"'),
		notify_payload => $scene->pick('view', 'json'));
}

sub _settings
{
	my ($scene) = @_;
	my %settings = _random_settings($scene);

	$scene->set(%settings);
	$scene->said(join ' ', map { "$_=$settings{$_}" } sort keys %settings);
	return;
}

# A list that is refused leaves the former in force, and is told.
sub _invalid_list
{
	my ($scene) = @_;
	my $list = invalid_list($scene);
	my $before =
	  $scene->sql('postgres', 'SHOW bigbrotr_refresher.views');
	my $offset = -s $scene->node->logfile;

	$scene->said(substr($list, 0, 60));
	$scene->write_settings($scene->node,
		conf_lines('bigbrotr_refresher.views' => $list));
	$scene->reload;
	$scene->await(
		'the list is refused',
		sub {
			slurp_file($scene->node->logfile, $offset) =~
			  /invalid value for parameter "bigbrotr_refresher.views"|syntax error in file/;
		});
	my $after = $scene->sql('postgres', 'SHOW bigbrotr_refresher.views');
	$scene->complain("the list is \"$after\" after one that is invalid")
	  if $after ne $before;
	$scene->linger(0.5);
	$scene->repair_by(sub { $scene->set });
	return;
}

sub _reload_storm
{
	my ($scene) = @_;

	foreach (1 .. 5 + int($scene->random * 20))
	{
		my %settings = _random_settings($scene);

		$scene->{settings}{$_} = $settings{$_} foreach keys %settings;
		$scene->write_settings($scene->node);
		$scene->sql('postgres', 'SELECT pg_reload_conf()');
		$scene->linger(0.05);
	}
	$scene->set;
	return;
}

sub _disable
{
	my ($scene) = @_;

	foreach (1 .. 1 + int($scene->random * 3))
	{
		$scene->mid_cycle('bigbrotr');
		$scene->set(enabled => 'off');
		$scene->linger(0.3);
		$scene->set(enabled => 'on');
	}
	return;
}

# Nothing can be refreshed in a millisecond; it may be in a hundred.
sub _timeouts
{
	my ($scene) = @_;
	my %settings = (
		refresh_timeout => $scene->pick('1ms', '10ms', '100ms'),
		lock_timeout => $scene->pick('1ms', '20ms', '0'));

	$scene->said(join ' ', map { "$_=$settings{$_}" } sort keys %settings);
	$scene->hurt_all;
	$scene->set(%settings);
	$scene->linger(2);
	return;
}

sub _no_history
{
	my ($scene) = @_;
	my $retention = $scene->pick('0', '1s');

	$scene->said($retention);
	lose_rows($scene, $_) foreach @{ $scene->{databases} };
	$scene->set(history_retention => $retention);
	$scene->linger(2);
	return;
}

# ---- processes -------------------------------------------------------------------------

# The launcher, or a process that refreshes, of one kind or the other
sub _refresher
{
	my ($scene) = @_;
	my $database = $scene->a_database;

	$scene->mid_cycle($database);
	my @workers = $scene->pids('bigbrotr_refresher', $database);
	my @helpers = $scene->pids('bigbrotr_refresher helper', $database);

	return ('launcher', $scene->pids('bigbrotr_refresher launcher'))
	  if $scene->chance(0.2);
	return $scene->chance(0.5) && @helpers
	  ? ('helper', $scene->pick(@helpers))
	  : ('worker', $scene->pick(@workers));
}

# Signal one of them, by this function.  The choice is the server's, for a cycle
# may not take as long as another query.
sub _signal_refresher
{
	my ($scene, $function) = @_;
	my $database = $scene->a_database;
	my $key = int($scene->random * 1000);

	$scene->mid_cycle($database);
	my ($kind) = split /\|/,
	  $scene->sql(
		'postgres', "SELECT backend_type, $function(pid) FROM (
			SELECT pid, backend_type FROM pg_stat_activity
			WHERE (datname = '$database'
					AND backend_type LIKE 'bigbrotr_refresher%')
				OR backend_type = 'bigbrotr_refresher launcher'
			ORDER BY hashint4(pid + $key) LIMIT 1) AS p");

	$scene->said($kind =~ s/bigbrotr_//r) if $kind;
	return;
}

sub _cancel
{
	my ($scene) = @_;

	_signal_refresher($scene, 'pg_cancel_backend')
	  foreach 1 .. 1 + int($scene->random * 5);
	return;
}

sub _terminate_refresher
{
	my ($scene) = @_;

	_signal_refresher($scene, 'pg_terminate_backend')
	  foreach 1 .. 1 + int($scene->random * 2);
	return;
}

# Any process that has a place among the activities; most go on, or are started
# again.
sub _any_process
{
	my ($scene) = @_;

	return split /\|/, $scene->pick(
		$scene->list(
			'postgres',
			"SELECT pid || '|' || backend_type FROM pg_stat_activity
			 WHERE pid <> pg_backend_pid() ORDER BY backend_type, pid"));
}

sub _terminate_any
{
	my ($scene) = @_;

	foreach (1 .. 1 + int($scene->random * 4))
	{
		my ($pid, $type) = _any_process($scene);

		$scene->said($type);
		$scene->sql('postgres',
			'SELECT ' . $scene->pick('pg_terminate_backend', 'pg_cancel_backend')
			  . "($pid)");
		$scene->linger(0.2);
	}
	return;
}

# What dies by force takes all others along, and the server starts anew.
sub _kill
{
	my ($scene, $pid) = @_;

	return unless $pid;

	# It may have been about to end anyway.
	if (crash($scene->node, $pid)) { $scene->{kills}++ }
	else { $scene->said('too late') }
	$scene->await_sql('the server answers again', 'postgres',
		'SELECT true');
	return;
}

sub _kill_refresher
{
	my ($scene) = @_;
	my ($kind, $pid) = _refresher($scene);

	$scene->said($kind);
	return _kill($scene, $pid);
}

sub _kill_any
{
	my ($scene) = @_;

	$scene->mid_cycle('bigbrotr');
	my ($pid, $type) = _any_process($scene);

	$scene->said($type);
	return _kill($scene, $pid) if $type !~ /^(client|autovacuum|parallel) /;
	return;
}

sub _crash
{
	my ($scene) = @_;

	$scene->mid_cycle($scene->a_database);
	$scene->restart('immediate');
	return;
}

sub _restart
{
	my ($scene) = @_;

	$scene->mid_cycle($scene->a_database);
	$scene->restart('fast');
	return;
}

sub _standby_restart
{
	my ($scene) = @_;

	$scene->{standby}->stop($scene->pick('fast', 'immediate'), fail_ok => 1)
	  or die "the standby did not stop\n";
	$scene->linger(1);
	$scene->start_node($scene->{standby});
	return;
}

sub _fail_over
{
	my ($scene) = @_;

	# What was not sent is lost, but not what was repaired before.
	check_standby($scene);
	$scene->mid_cycle('bigbrotr');
	$scene->fail_over;
	return;
}

# ---- faults --------------------------------------------------------------------------------

# Temporary files cannot be written for a while: views fail, the others go on.
sub _full_disk
{
	my ($scene) = @_;
	my $failures = disk_failures($scene->node);

	$scene->hurt_all;
	disk_full($scene->node, 'on');
	$scene->linger(3);
	disk_full($scene->node, 'off');
	$scene->said((disk_failures($scene->node) - $failures) . ' writes failed');
	return;
}

# The clock is set, several times, and at last right.  Cycles must go on by the
# schedule each time.
sub _clock
{
	my ($scene) = @_;

	$scene->pause_load(1);
	foreach (1 .. 1 + int($scene->random * 2))
	{
		my $seconds = int(
			$scene->pick(1, -1) * $scene->pick(60, 3600, 86400, 3 * 86400)
			  * (0.2 + $scene->random));

		$scene->said("$seconds s");
		set_clock($scene->node, $seconds);
		check_schedule($scene);
	}
	set_clock($scene->node, 0);

	# What is folded up to a time that is yet to come has to be folded anew.
	foreach my $database (@{ $scene->{databases} })
	{
		lose_rows($scene, $database);
		$scene->insist($database, reset_windows_sql());
	}
	check_schedule($scene);
	$scene->pause_load(0);
	return;
}

1;
