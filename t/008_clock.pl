# The clock is set: forward, back, by seconds and by days, while the worker is
# at rest, while it refreshes, and while the server is down.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Faults;
use Refresher;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => faults_missing() if faults_missing();

my $minute = 60;
my $hour = 60 * $minute;
my $day = 24 * $hour;

# What a slow machine may need on top of what is waited for, in seconds
my $slack = 30;

my $node = add_faults(
	new_node(
		'clock',
		views => 'one, two @ 2h',
		interval => '1h',
		'bigbrotr_refresher.retry_interval' => 0,
		'bigbrotr_refresher.max_workers' => 2));
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION one_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION two_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION three_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION bad_refresh() RETURNS void LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE FUNCTION gate_1_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)';
	CREATE FUNCTION gate_2_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(2)';
});
wait_for_rest($node, 'postgres');

# How far the server's clock is ahead
my $ahead = 0;

# Set the server's clock by so much, forward or back.
sub jump
{
	my ($seconds) = @_;

	$ahead += $seconds;
	set_clock($node, $ahead);
	return;
}

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Wait until the worker has nothing to do, by the clock as it is now.
sub await_rest
{
	$node->poll_query_until(
		'postgres', "SELECT state IN ('resting', 'idle') AND next_due > now()
			AND next_due <= now() + interval '1 hour'
		 FROM bigbrotr_refresher.status()")
	  or die 'the worker does not rest';
	return;
}

# Have the worker look at the clock, and return the log until it rests.
sub look
{
	my $offset = log_size($node);

	configure_and_rest($node);
	await_rest();
	return log_since($node, $offset);
}

sub run_all
{
	return query('SELECT views, refreshed, failed, skipped
		FROM bigbrotr_refresher.run(true)');
}

sub count_cycles
{
	my ($log) = @_;

	return scalar(() = $log =~ /: cycle_started/g);
}

# The newest row of the history
sub newest
{
	return query('SELECT max(id) FROM bigbrotr_refresher.history');
}

# Nothing that is shown makes no sense.  (Nothing here takes a minute, and no
# interval is longer than two hours.)
sub in_order
{
	my ($when) = @_;

	is( query("SELECT count(*) FROM bigbrotr_refresher.history
			WHERE duration < '0' OR duration > '1 minute'"),
		'0',
		"$when, the history has no durations that cannot be");
	is( query("SELECT count(*) FROM bigbrotr_refresher.views
			WHERE next_due > clock_timestamp() + refresh_interval"),
		'0',
		'no view waits for longer than its interval');
	is( query(
			"SELECT next_due IS NULL
					OR next_due <= clock_timestamp() + interval '1 hour',
				(last_cycle_duration BETWEEN '0' AND '1 minute')
					IS NOT false,
				cycle_duration_seconds_sum BETWEEN 0 AND 60
			FROM bigbrotr_refresher.status()"),
		't|t|t',
		'and the status is as if nothing had happened');
	is( query(
			"SELECT count(*) FROM bigbrotr_refresher.timeline()
			WHERE duration NOT BETWEEN '0' AND '1 minute' OR bar IS NULL
				OR length(bar) <> 50"),
		'0',
		'a cycle can be drawn');
	return;
}

# ---- at rest, forward -------------------------------------------------------

is(run_all(), '2|2|0|0', 'all views are refreshed');
await_rest();
jump(90 * $minute);
my $log = look();
is(outcomes($log), 'one', 'what is due by the new time is refreshed');
jump(3 * $day);
$log = look();
is(join(' ', sort split / /, outcomes($log)),
	'one two', 'days later, all is');
is(count_cycles($log), 1, 'once: what was missed is not made up');
is(query('SELECT next_due - last_cycle_start FROM bigbrotr_refresher.status()'),
	'01:00:00', 'from then on it goes as ever');
in_order('set forward');

# ---- at rest, and nobody tells the worker ------------------------------------

# It sleeps by the monotonic clock, so that it wakes up when it would have
# anyway.
my $offset = log_size($node);
configure($node, views => 'one', interval => '2s');
foreach my $jump (10 * $day, -5 * $day, -1.5, 1)
{
	my ($began, $newest, @starts);

	wait_for_line($node, 'cycle_completed', $offset);
	$newest = newest();
	$began = time();
	jump($jump);
	$offset = log_size($node);
	wait_for_line($node, 'cycle_started', $offset);
	cmp_ok(time() - $began, '<', 2 + $slack,
		"set by $jump seconds, the next cycle comes in time");
	wait_until(
		'there is another one',
		sub {
			@starts = grep { $_->{event} eq 'cycle_started' }
			  events(log_since($node, $offset));
			return @starts > 1;
		});
	cmp_ok(time() - $began, '<', 4 + $slack, 'the one after it as well');

	# By the server's clock, which is not set between them.  A cycle is late by
	# a second at most, or the next one counts from when it began.
	cmp_ok($starts[1]->{time} - $starts[0]->{time},
		'>', 0.9, 'and not at once');
	wait_for_line($node, 'cycle_completed', $offset);
	is( query(
			"SELECT count(*) > 0, bool_and(cycle_start
					BETWEEN started_at - interval '1 minute'
					AND started_at + interval '1 second')
			FROM bigbrotr_refresher.history WHERE id > $newest"),
		't|t',
		'a cycle starts when the clock says');
	is( query(
			'SELECT (SELECT duration FROM bigbrotr_refresher.timeline()) =
				(SELECT duration FROM bigbrotr_refresher.history
				ORDER BY id DESC LIMIT 1)'),
		't',
		'and the newest is the one that is drawn');
}

# ---- at rest, back -------------------------------------------------------------

configure($node, views => 'one, two @ 2h', interval => '1h');
is(run_all(), '2|2|0|0', 'all views are refreshed');
await_rest();
jump(-30 * $minute);
$log = look();
is(count_cycles($log), 0, 'set back by half an hour, nothing is refreshed');
in_order('set back by half an hour');

# The schedule starts where the worker sees that, and not anew whenever it
# reads the history again.
is(run_all(), '2|2|0|0', 'all views are refreshed');
await_rest();
jump(-2 * $day);
$offset = log_size($node);
query("SELECT bigbrotr_refresher.refresh('one')");
wait_for_line($node, 'cycle_completed', $offset);
await_rest();
$log = log_since($node, $offset);
is(join(' ', sort split / /, outcomes($log)),
	'one two', 'set back by days, all is refreshed once more');
is(count_cycles($log), 1, 'and not twice');
in_order('set back by days');

# ---- over a restart --------------------------------------------------------------

sub restart_after
{
	my ($seconds) = @_;
	my $from = log_size($node);

	$node->stop;
	jump($seconds);
	$node->start;
	await_rest();
	return log_since($node, $from);
}

$log = restart_after(-30 * $minute);
is(count_cycles($log), 0,
	'set back by half an hour while the server is down, all waits');
in_order('set back before a start');
$log = restart_after(-5 * $day);
is(join(' ', sort split / /, outcomes($log)),
	'one two', 'set back by days, all is refreshed once');
is(count_cycles($log), 1, 'and not twice');
in_order('set back by days before a start');
is(count_cycles(restart_after(0)), 0, 'the next one goes on from there');

# A machine without a battery for its clock starts in 1970 or so.
$node->append_conf('postgresql.conf', conf_lines(views => 'one, two, three'));
query('ALTER SYSTEM RESET ALL');
$log = restart_after(int(-28 * 365.25 * $day));
is(join(' ', sort split / /, outcomes($log)),
	'one three two', 'long ago all is refreshed, what is new too');
is(count_cycles($log), 1, 'once');
in_order('long ago');
jump(-$ahead);
$log = look();
is(join(' ', sort split / /, outcomes($log)),
	'one three two', 'and once more when the clock is right');
is(count_cycles($log), 1, 'once');
in_order('set right');

# ---- during a refresh ---------------------------------------------------------

# A session that waits for a cycle, after another statement
sub start_run
{
	my ($first) = @_;
	my %session = (out => '', err => '');

	$session{run} = IPC::Run::start(
		[
			$node->config_data('--bindir') . '/psql',
			'-XAtq', '-d',
			$node->connstr('postgres') . ' application_name=run',
			'-c',
			$first // 'SET SESSION AUTHORIZATION DEFAULT',
			'-c',
			"SELECT views, refreshed, failed, skipped,
				duration BETWEEN '0' AND '1 minute'
			FROM bigbrotr_refresher.run(true)"
		],
		'<', '/dev/null', '>', \$session{out}, '2>', \$session{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE application_name = 'run' AND wait_event_type = 'Extension'")
	  or die 'nobody waits for a cycle';
	return \%session;
}

sub finish_run
{
	my ($session) = @_;

	$session->{run}->finish;
	chomp $session->{out};
	return $session->{out} . $session->{err};
}

# Start a cycle that waits for these locks.
sub start_gates
{
	my (@gates) = @_;
	my $holder = hold($node, 'postgres', @gates);
	my $runner = start_run();

	wait_until(
		'the views wait',
		sub {
			return query("SELECT count(*) FROM pg_locks
				WHERE locktype = 'advisory' AND NOT granted") == @gates;
		});
	return ($holder, $runner);
}

# The duration of a view, by the log and by the history from there on, lies
# between these.
sub took
{
	my ($from, $id, $view, $least, $most, $what) = @_;
	my ($event) =
	  grep { ($_->{view} // '') eq $view } events(log_since($node, $from));
	my $kept = query("SELECT extract(epoch FROM duration)
		FROM bigbrotr_refresher.history
		WHERE view = '$view' AND id > $id ORDER BY id LIMIT 1");

	ok( $event->{duration} > $least - 0.02 && $event->{duration} < $most + 0.02,
		"$what, its duration is right")
	  or diag("$event->{duration}, not from $least to $most");
	ok( $kept > $least - 0.02 && $kept < $most + 0.02,
		'in the history too')
	  or diag("$kept, not from $least to $most");
	return;
}

configure($node, views => 'gate_1, two @ 2h');
await_rest();
foreach my $jump (-2 * $day, -10 * $minute, 20 * $minute)
{
	my $earliest = time();
	my $before = log_size($node);
	my $newest = newest();
	my ($holder, $runner) = start_gates(1);
	my $begun = time();

	jump($jump);
	is( query(
			"SELECT state, refreshing, cycle_duration
			FROM bigbrotr_refresher.status()"),
		'refreshing|{gate_1}|',
		"set by $jump seconds during a refresh, the status goes on");
	in_order('meanwhile');
	my $released = time();
	$holder->quit;
	is(finish_run($runner), '2|2|0|0|t', 'and who waits for the cycle');
	wait_for_line($node, 'cycle_completed', $before);
	took($before, $newest, 'gate_1', $released - $begun, time() - $earliest,
		"set by $jump seconds during a refresh");
	await_rest();
	cmp_ok(count_cycles(log_since($node, $before)),
		'<=', 2, 'at most one more cycle follows');
	in_order('afterwards');
}

# ---- with helpers -------------------------------------------------------------

configure($node, views => 'gate_1, gate_2');
await_rest();
foreach my $jump (-2 * $day, -10 * $minute, 20 * $minute)
{
	my $earliest = time();
	my $before = log_size($node);
	my $newest = newest();
	my ($holder, $runner) = start_gates(1, 2);
	my $begun = time();
	my ($helper, $view) = split /\|/,
	  query("SELECT pid, substring(query FROM 'gate_.')
		FROM pg_stat_activity WHERE backend_type LIKE '%helper'");
	my $ended;

	jump($jump);
	$ended = time();
	query("SELECT pg_terminate_backend($helper)");
	wait_until('the helper has ended',
		sub { query("SELECT count(*) FROM pg_stat_activity
				WHERE pid = $helper") == 0 });
	$holder->quit;
	is(finish_run($runner), '2|1|1|0|t',
		"set by $jump seconds, the view of a helper that ended has failed");
	wait_for_line($node, 'cycle_completed', $before);
	took($before, $newest, $view, $ended - $begun, time() - $earliest,
		"set by $jump seconds before that");
	await_rest();
	in_order('without the helper');
}

# ---- who waits for a worker that is not enabled yet ---------------------------

# For the session it is, by its own setting.  Whoever waits asks again each
# second.
sub start_disabled
{
	configure($node, enabled => 'off');
	$node->poll_query_until('postgres',
		"SELECT state = 'disabled' FROM bigbrotr_refresher.status()")
	  or die 'the worker is not disabled';
	return start_run('SET bigbrotr_refresher.enabled = on');
}

configure($node, views => 'one');
await_rest();
my $runner = start_disabled();
my $since = time();
jump($hour);
wait_until(
	'it would have given up',
	sub {
		$runner->{run}->pump_nb;
		return time() - $since > 2.5 || !$runner->{run}->pumpable;
	});
configure($node, enabled => 'on');
is(finish_run($runner), '1|1|0|0|t',
	'set forward, nobody gives up too early on a worker that is to wake up');
await_rest();

$runner = start_disabled();
$since = time();
jump(-$hour);
like(
	finish_run($runner),
	qr/worker of database "postgres" is disabled/,
	'set back, nobody waits for ever for one that does not');
cmp_ok(time() - $since, '<', 10 + $slack, 'but as long as ever');
configure($node, enabled => 'on');
await_rest();

# ---- what has failed ------------------------------------------------------------

cycle(
	$node,
	views => 'bad, one',
	'bigbrotr_refresher.retry_interval' => '10min');
await_rest();
jump(11 * $minute);
is(outcomes(look()), 'bad:22012', 'set forward, it is tried again');
is( query("SELECT next_due - last_cycle_start FROM bigbrotr_refresher.status()"),
	'00:20:00',
	'and next after twice the time');
jump(-2 * $hour);
$log = look();
is(count_cycles($log), 1, 'set back, it is tried as all the others');
in_order('with a failure');
jump(3 * $day);
$log = look();
is(count_cycles($log), 1, 'set forward by days, it is tried once');
in_order('with more failures');

# ---- the history is as long as the clock says -----------------------------------

cmp_ok(query('SELECT count(*) FROM bigbrotr_refresher.history'),
	'>', 10, 'there is a history');
jump(40 * $day);
$log = look();
is(count_cycles($log), 1, 'set forward by more than the retention');
ok( $node->poll_query_until(
		'postgres', "SELECT count(*) = 0
		FROM bigbrotr_refresher.history
		WHERE started_at < now() - interval '30 days'"),
	'nothing is left of what was before');
is( query("SELECT count(*) FROM bigbrotr_refresher.views
		WHERE last_success IS NULL AND view <> 'bad'"),
	'0',
	'but the last success of each view is known');
jump(-40 * $day);
$log = look();
is(count_cycles($log), 1, 'set right again, all is refreshed once more');
in_order('at the end');

nothing_broke($node);
$node->stop;
done_testing();
