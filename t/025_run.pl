# run(): a cycle on request, and what may happen to those who wait for one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'run',
	views => 'first, broken, second @ 2h',
	interval => '1h',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE unserved');
$node->safe_psql('unserved', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION first_refresh() RETURNS void LANGUAGE sql AS ''});
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION first_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION second_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION broken_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE FUNCTION held_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)';
});
wait_for_rest($node, 'postgres');

# A session that runs one statement while the test goes on.
sub start
{
	my ($name, $sql, @options) = @_;
	my %session = (out => '', err => '');

	$session{name} = $name;
	$session{run} = IPC::Run::start(
		[
			$node->config_data('--bindir') . '/psql',
			'-XAtq', '-v', 'VERBOSITY=verbose', '-d',
			$node->connstr('postgres') . " application_name=$name", '-c', $sql,
			@options
		],
		'<', '/dev/null', '>', \$session{out}, '2>', \$session{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%session;
}

# What it said, once it is over.
sub finish
{
	my ($session) = @_;

	$session->{run}->finish;
	chomp $session->{out};
	return $session->{out} . $session->{err};
}

# Wait until so many sessions of that name wait for a cycle.
sub wait_for_sessions
{
	my ($name, $count) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) = $count FROM pg_stat_activity
		 WHERE application_name = '$name' AND wait_event_type = 'Extension'")
	  or die "there are not $count sessions that wait";
	return;
}

sub pid_of
{
	my ($name) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE application_name = '$name'");
}

sub run_sql
{
	my ($database, $sql) = @_;
	my ($code, $out, $err) =
	  $node->psql($database, "\\set VERBOSITY verbose\n$sql",
		timeout => $PostgreSQL::Test::Utils::timeout_default);

	return $out . $err;
}

my $counts = 'SELECT views, refreshed, failed, skipped
	FROM bigbrotr_refresher.run(true)';
my $not_running =
  qr/ERROR:  55000: the worker of database "postgres" is not running\nDETAIL:  It has ended, or could not start\.\nHINT:  The server log says why/;
my $disabled =
  qr/ERROR:  55000: the worker of database "postgres" is disabled\n.*HINT:  Set "bigbrotr_refresher.enabled" to "on"/;

# ---- with and without waiting -----------------------------------------------

is($node->safe_psql('postgres', $counts),
	'3|2|1|0', 'who waits is told the counts of all views');
is( $node->safe_psql(
		'postgres', "SELECT duration >= interval '0'
			AND duration < interval '1 minute'
		 FROM bigbrotr_refresher.run(wait => true)"),
	't',
	'and how long it took');
my $last = $node->safe_psql('postgres',
	'SELECT max(cycle_start) FROM bigbrotr_refresher.history');
is($node->safe_psql('postgres', 'SELECT * FROM bigbrotr_refresher.run()'),
	'||||', 'who does not wait is told nothing');
ok( $node->poll_query_until(
		'postgres',
		"SELECT count(*) = 3 FROM bigbrotr_refresher.history
		 WHERE cycle_start > '$last'"),
	'but a cycle is run');
like(
	($node->psql('postgres', 'SELECT bigbrotr_refresher.run(NULL)'))[2],
	qr/ERROR:  argument of function run\(wait\) must not be null/,
	'null is no answer');

# It counts from there.
is( $node->safe_psql(
		'postgres',
		'SELECT p.view, p.due - h.cycle_start
		 FROM bigbrotr_refresher.plan() AS p,
			(SELECT max(cycle_start) AS cycle_start
			 FROM bigbrotr_refresher.history) AS h
		 ORDER BY p.position'),
	"first|01:00:00\nbroken|01:00:00\nsecond|02:00:00",
	'the schedule goes on from a cycle on request');

# ---- planned once -------------------------------------------------------------

# A worker that starts for a cycle needs one plan, and not another one for it.
configure($node, log_min_messages => 'debug1');
wait_until('the worker leaves', sub { worker_pid($node, 'postgres') eq '' });
my $planned_since = log_size($node);
$node->safe_psql('postgres', $counts);
wait_until('the next one leaves',
	sub { worker_pid($node, 'postgres') eq '' });
is(scalar(() = log_since($node, $planned_since) =~ /planned \d+ views/g),
	1, 'a cycle has one plan');

configure($node, log_min_messages => undef);
wait_for_rest($node, 'postgres');

# ---- several at once ----------------------------------------------------------

my $lock = hold($node, 'postgres', 1);
configure($node, views => 'first, held, second');
wait_for_waiter($node, 'postgres', 1);
my $offset = log_size($node);
my @callers = map { start('several', $counts) } 1 .. 3;
wait_for_sessions('several', 3);
is($node->safe_psql('postgres', 'SELECT state, refreshing
		FROM bigbrotr_refresher.status()'),
	'refreshing|{held}', 'while a cycle is running, several ask for one');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(finish($_), '3|3|0|0', 'each of them is told of a whole cycle')
  foreach (@callers);
my $log = wait_for_line($node, 'cycle_completed .*\n(.*\n)*.*cycle_completed',
	$offset);
my @cycles = cycles("2000-01-01 00:00:00.000 UTC [1] LOG:  "
	  . "bigbrotr_refresher: cycle_started views=1\n$log");
is(join(' ', @{ $cycles[1]{views} }),
	'first held second', 'that started after they had asked');
is(scalar(@cycles), 2, 'one for all of them');

# ---- cancelled ------------------------------------------------------------------

$lock->query_safe('SELECT pg_advisory_lock(1)');
my $caller = start('cancelled', $counts);
my $other = start('patient', $counts);
wait_for_sessions('cancelled', 1);
wait_for_sessions('patient', 1);
wait_for_waiter($node, 'postgres', 1);
$node->safe_psql('postgres',
	'SELECT pg_cancel_backend(' . pid_of('cancelled') . ')');
like(
	finish($caller),
	qr/ERROR:  57014: canceling statement due to user request/,
	'who waits can be cancelled');
$caller = start('timeout', "SET statement_timeout = '100ms'; $counts");
like(
	finish($caller),
	qr/ERROR:  57014: canceling statement due to statement timeout/,
	'or have had enough');
$caller = start('terminated', $counts);
wait_for_sessions('terminated', 1);
$node->safe_psql('postgres',
	'SELECT pg_terminate_backend(' . pid_of('terminated') . ')');
like(finish($caller), qr/57P01/, 'or be terminated');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(finish($other), '3|3|0|0', 'another one is answered all the same');

# ---- the worker ends -------------------------------------------------------------

$lock->query_safe('SELECT pg_advisory_lock(1)');
@callers = map { start('left', $counts) } 1 .. 2;
wait_for_sessions('left', 2);
wait_for_waiter($node, 'postgres', 1);
my $pid = worker_pid($node, 'postgres');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
like(finish($_), $not_running, 'who waits for a worker that ends is told so')
  foreach (@callers);
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is($node->safe_psql('postgres', $counts),
	'3|3|0|0', 'the next worker serves the next one');

# Until there is one, plan() says so.
configure($node, 'bigbrotr_refresher.restart_interval' => '1h', interval => '30s');
wait_until('there is a worker', sub { worker_pid($node, 'postgres') ne '' });
$node->safe_psql('postgres', 'SELECT pg_terminate_backend('
	  . worker_pid($node, 'postgres') . ')');
ok( $node->poll_query_until('postgres',
		'SELECT bool_and(advice = \'No worker refreshes it: the last one has failed, or could not start. The server log says why.\')
		FROM bigbrotr_refresher.plan()'),
	'plan() says that there is none');
configure($node, 'bigbrotr_refresher.restart_interval' => undef, interval => '1h');
wait_for_rest($node, 'postgres');
is( $node->safe_psql('postgres',
		'SELECT count(advice) FROM bigbrotr_refresher.plan()'),
	0,
	'and no more when there is one again');


# ---- disabled -----------------------------------------------------------------------

$lock->query_safe('SELECT pg_advisory_lock(1)');
$caller = start('early', $counts);
wait_for_sessions('early', 1);
wait_for_waiter($node, 'postgres', 1);
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('first')");
configure($node, enabled => 'off');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
like(finish($caller), $disabled,
	'who waits for a worker that is disabled is told so');
ok( $node->poll_query_until('postgres',
		"SELECT state = 'disabled' AND pid IS NULL
		 FROM bigbrotr_refresher.status()"),
	'and the worker leaves, though others refresh views');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE operator LOGIN;
	GRANT USAGE ON SCHEMA bigbrotr_refresher TO operator;
	GRANT EXECUTE ON FUNCTION bigbrotr_refresher.run TO operator});
like(run_sql('postgres', "SET ROLE operator; $counts"),
	$disabled, 'who comes later, too');
like(run_sql('postgres', 'SET ROLE operator; SELECT bigbrotr_refresher.run()'),
	$disabled, 'also without waiting');
like(
	$node->safe_psql('postgres', 'SELECT DISTINCT advice
		FROM bigbrotr_refresher.plan()'),
	qr/^No worker refreshes it: "bigbrotr_refresher.enabled" is off\. Set it/,
	'plan() says so');

# Whoever may turn it on runs one cycle, and it stays off.
sub worker_is_disabled
{
	return $node->poll_query_until('postgres',
		"SELECT state = 'disabled' AND pid IS NULL
		 FROM bigbrotr_refresher.status");
}

$lock->query_safe('SELECT pg_advisory_lock(1)');
$caller = start('insists', $counts);
wait_for_waiter($node, 'postgres', 1);
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(finish($caller), '3|3|0|0', 'who may enable it can run a cycle while it is disabled');
ok(worker_is_disabled(), 'after which the worker is disabled again');
$node->safe_psql('postgres',
	'GRANT SET ON PARAMETER bigbrotr_refresher.enabled TO operator');
is($node->safe_psql('postgres', "SET ROLE operator; $counts"),
	'3|3|0|0', 'so can whom that was granted');
$node->safe_psql('postgres', 'DROP OWNED BY operator; DROP ROLE operator');

# A cycle without waiting is one, too.
ok(worker_is_disabled(), 'which is one cycle again');
$last = $node->safe_psql('postgres',
	'SELECT max(cycle_start) FROM bigbrotr_refresher.history');
$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
ok( $node->poll_query_until(
		'postgres',
		"SELECT count(*) = 3 FROM bigbrotr_refresher.history
		 WHERE cycle_start > '$last'"),
	'also without waiting');
ok(worker_is_disabled(), 'and no other');

# Whatever happens in it: it may ask for another one, or end the worker.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION asking_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT bigbrotr_refresher.run(); SELECT';
	CREATE FUNCTION ending_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_terminate_backend(pg_backend_pid()); SELECT'});
configure($node, views => 'asking', 'bigbrotr_refresher.restart_interval' => '1s');
ok(worker_is_disabled(), 'there is no worker');
$offset = log_size($node);
is($node->safe_psql('postgres', $counts),
	'1|1|0|0', 'a view of such a cycle can ask for another one');
ok(worker_is_disabled(), 'which is not run');
configure($node, views => 'ending');
ok(worker_is_disabled(), 'there is no worker again');
like(run_sql('postgres', $counts), $not_running,
	'a view of such a cycle can end the worker');
ok(worker_is_disabled(), 'whose follower does not try again');
is(scalar(() = log_since($node, $offset) =~ /cycle_started/g),
	2, 'so each was one cycle');
configure($node, views => 'first, held, second',
	'bigbrotr_refresher.restart_interval' => undef);
ok(worker_is_disabled(), 'and it is disabled still');

# What the README has for scripts, word for word
sub exit_code
{
	my $psql = $node->config_data('--bindir') . '/psql -d '
	  . "'" . $node->connstr('postgres') . "'";
	my $script =
	  q{test "$(psql -XAtc 'SELECT failed FROM bigbrotr_refresher.run(wait => true)')" = 0};

	$script =~ s/psql/$psql/;
	return system('sh', '-c', "$script 2>/dev/null") >> 8;
}

is(exit_code(), 0, 'a script is told that all went well');
configure($node, views => 'first, broken');
is(exit_code(), 1, 'or that a view failed');
configure($node, databases => 'unserved');
is(exit_code(), 1, 'or that there was no cycle');
configure($node, databases => undef, views => 'first, held, second');

# Whoever asks at once when it is enabled may be faster than the launcher.
$pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'bigbrotr_refresher launcher'");
kill 'STOP', $pid;
configure($node, enabled => 'on');
$caller = start('fast', $counts);
wait_until(
	'the caller waits or has failed',
	sub {
		return $node->safe_psql('postgres',
			"SELECT count(*) = 0 OR bool_or(wait_event_type = 'Extension')
			 FROM pg_stat_activity WHERE application_name = 'fast'") eq 't'
		  && ($caller->{run}->pump_nb || 1);
	});
kill 'CONT', $pid;
is(finish($caller), '3|3|0|0', 'who is faster than a worker that was disabled waits for it');

# The list changes while somebody waits: a whole cycle is one of the new list.
$lock->query_safe('SELECT pg_advisory_lock(1)');
$caller = start('changed', $counts);
wait_for_sessions('changed', 1);
wait_for_waiter($node, 'postgres', 1);
configure($node, views => 'held, broken, first, second');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(finish($caller), '4|3|1|0', 'a list that changes meanwhile is run as a whole');

# ---- the database is not to be served any more ----------------------------------

$lock->query_safe('SELECT pg_advisory_lock(1)');
$caller = start('unlisted', $counts);
wait_for_sessions('unlisted', 1);
wait_for_waiter($node, 'postgres', 1);
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('first')");
configure($node, databases => 'unserved');
like(finish($caller), qr/ERROR:  55000: .*\n.*not to be served any more/,
	'who waits for a worker of a database that is not to be served is told so');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_until('the worker leaves', sub { worker_pid($node, 'postgres') eq '' });
pass('and the worker leaves, whatever was asked for');
configure($node, databases => undef);
wait_for_rest($node, 'postgres');

# ---- where it cannot be -------------------------------------------------------------

like(
	run_sql('unserved', $counts),
	qr/ERROR:  55000: no worker refreshes the views of database "unserved"\n.*HINT:  Add the database to "bigbrotr_refresher.databases" and reload the configuration\./,
	'a database that is not served has no worker to ask');
is( $node->safe_psql('unserved', 'SELECT DISTINCT advice
		FROM bigbrotr_refresher.plan() WHERE error IS NULL'),
	'No worker refreshes it: "bigbrotr_refresher.databases" does not name this database. Add the database to it, and reload the configuration.',
	'and plan() says so');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE monitor IN ROLE pg_monitor;
	CREATE ROLE granted IN ROLE pg_monitor;
	GRANT EXECUTE ON FUNCTION bigbrotr_refresher.run TO granted});
foreach my $call ('run()', 'run(true)')
{
	like(
		run_sql('postgres',
			"SET ROLE monitor; SELECT bigbrotr_refresher.$call"),
		qr/ERROR:  42501: permission denied for function run/,
		"$call takes a right that monitoring does not have");
}
is( $node->safe_psql('postgres', "SET ROLE granted; $counts"),
	'4|3|1|0', 'who was granted it needs no other');

# Connections that are there stay when a database refuses new ones, but no worker
# can start.  Who has asked before the launcher knows is told so, too.
my $closed =
  qr/ERROR:  55000: the worker of database "closing" is not running\nDETAIL:  The database does not accept connections\.\nHINT:  Allow them by ALTER DATABASE\./;

$node->safe_psql('postgres', 'CREATE DATABASE closing TEMPLATE unserved');
configure_and_rest($node, databases => 'postgres, closing');
wait_until('no worker serves it',
	sub { return worker_pid($node, 'closing') eq '' });
my $inside = session($node, 'closing', on_error_stop => 0);
$pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'bigbrotr_refresher launcher'");
kill 'STOP', $pid;
$inside->query_until(qr/asked/,
	"\\set VERBOSITY verbose\n\\echo asked\nSELECT FROM bigbrotr_refresher.run(true);\n");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE datname = 'closing' AND wait_event_type = 'Extension'})
  or die 'nobody waits';
$node->safe_psql('postgres',
	'ALTER DATABASE closing ALLOW_CONNECTIONS false');
kill 'CONT', $pid;
wait_until(
	'who waits for a worker that cannot connect is told so',
	sub {
		return $node->safe_psql('postgres',
			q{SELECT state = 'idle' FROM pg_stat_activity
			WHERE datname = 'closing' AND backend_type = 'client backend'}) eq 't';
	});
$inside->query('\echo done');
like($inside->{stderr}, $closed, 'who waits for a worker that cannot connect is told so');
foreach my $call ('run()', 'run(true)')
{
	$inside->{stderr} = '';
	$inside->query("SELECT FROM bigbrotr_refresher.$call");
	like($inside->{stderr}, $closed, "$call: and who comes later");
}
is( $inside->query('SELECT DISTINCT advice
		FROM bigbrotr_refresher.plan() WHERE error IS NULL'),
	'No worker refreshes it: the database does not accept connections. Allow them by ALTER DATABASE.',
	'and plan() says so');

# The launcher may hear of it later than who asks.
kill 'STOP', $pid;
$inside->{stderr} = '';
$inside->query_until(qr/asked/,
	"ALTER DATABASE closing ALLOW_CONNECTIONS true;\n\\echo asked\nSELECT FROM bigbrotr_refresher.run(true);\n");
$node->poll_query_until('postgres', q{SELECT bool_or(wait_event_type = 'Extension'
		OR state = 'idle' AND query ~ 'run')
	FROM pg_stat_activity
	WHERE datname = 'closing' AND backend_type = 'client backend'})
  or die 'nobody waits';
kill 'CONT', $pid;
$inside->query('\echo done');
unlike($inside->{stderr}, qr/ERROR/,
	'once it accepts connections, a cycle is run');
$inside->quit;
configure($node, databases => undef);

# A view's own function would wait for itself.
$node->safe_psql('postgres',
	'CREATE FUNCTION self_refresh() RETURNS void
	 LANGUAGE sql AS \'SELECT bigbrotr_refresher.run(true); SELECT\'');
configure($node,
	views => 'self, first',
	'bigbrotr_refresher.refresh_timeout' => '30s');
my $found = $node->safe_psql('postgres', $counts);
is($found, '2|1|1|0', 'a function of a view cannot wait for a cycle');
is( $node->safe_psql(
		'postgres',
		"SELECT sqlstate <> '57014' FROM bigbrotr_refresher.history
		 WHERE view = 'self' ORDER BY id DESC LIMIT 1"),
	't',
	'and is told so at once');

# A transaction does not wait for what waits for it: be it for a view that it
# has read, for an advisory lock, or for a catalog that the plan needs.
$node->safe_psql('postgres',
	'CREATE MATERIALIZED VIEW plain AS SELECT 1 AS n');
configure($node,
	views => 'first, plain, held',
	'bigbrotr_refresher.merge' => 'off',
	'bigbrotr_refresher.refresh_timeout' => undef);
foreach my $statement (
	'SELECT n FROM plain', 'SELECT pg_advisory_xact_lock(1)',
	'LOCK TABLE pg_extension')
{
	like(
		run_sql('postgres', "BEGIN; $statement; $counts; COMMIT"),
		qr/ERROR:  40P01: deadlock detected\nDETAIL:  This session waits for a cycle, in which process \d+ waits for a lock of this session\.\nHINT:  Wait for a cycle in a transaction that has used none of the views\./,
		"$statement: a cycle that waits for this is not waited for");
}
is($node->safe_psql('postgres', "BEGIN; SELECT count(*) FROM bigbrotr_refresher.history WHERE false; $counts; COMMIT"),
	"0\n3|3|0|0", 'another transaction may wait');

# Nobody hangs when the server stops.
configure($node, views => 'held, first');
$lock->query_safe('SELECT pg_advisory_lock(1)');
$caller = start('stop', $counts);
wait_for_sessions('stop', 1);
$node->stop('fast');
like(finish($caller), qr/57P01|55000|server closed the connection/,
	'a fast shutdown does not wait for those who wait');
eval { $lock->quit };
done_testing();
