# When the server has fewer worker slots than helpers are wanted, and when
# several databases want them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my @databases = ('postgres', 'second');

# Slots for the launcher, for the worker and for one helper
my $node = new_node(
	'slots',
	views => 'nothing',
	'bigbrotr_refresher.max_workers' => 4,
	max_worker_processes => 3,
	max_logical_replication_workers => 0);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE second');
foreach my $database (@databases)
{
	$node->safe_psql($database, <<'SQL');
	CREATE EXTENSION bigbrotr_refresher;
	SELECT format('CREATE FUNCTION gate_%s_refresh() RETURNS void LANGUAGE sql'
		' AS ''SELECT pg_advisory_xact_lock(%1$s)''', n)
	FROM generate_series(1, 4) AS n
	\gexec
SQL
}

# Wait until so many views of a database wait for their locks.
sub wait_for_waiters
{
	my ($database, $count) = @_;

	$node->poll_query_until(
		$database, "SELECT count(*) = $count
		FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE backend_type LIKE 'bigbrotr_refresher%' AND NOT granted
			AND locktype = 'advisory' AND datname = current_database()")
	  or die "there are no $count views in $database that wait";
	return;
}

# Restart the server, and wait until all databases rest.
sub restart
{
	my ($workers) = @_;

	$node->restart;
	$node->poll_query_until('postgres',
		"SELECT count(*) = $workers FROM bigbrotr_refresher.status()
		 WHERE state = 'resting' AND next_due > now()")
	  or die 'the databases do not rest';
	return;
}

sub helpers
{
	my ($database) = @_;

	return $node->safe_psql(
		'postgres', "SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'bigbrotr_refresher helper'
			AND datname = '$database'");
}

# The result of a cycle, without its duration
sub run_cycle
{
	my ($database) = @_;

	return $node->safe_psql($database,
		'SELECT views, refreshed, failed, skipped
		 FROM bigbrotr_refresher.run(true)');
}

sub missing
{
	my ($log) = @_;

	return join "\n", map { "$_->{level} $_->{wanted} $_->{started}" }
	  grep { $_->{event} eq 'helpers_missing' } events($log);
}

# ---- too few ----------------------------------------------------------------

my $session = hold($node, 'postgres', 1 .. 4);
configure($node, views => 'gate_1, gate_2, gate_3, gate_4');
wait_for_waiters('postgres', 2);
is(helpers('postgres'), 1, 'a cycle runs with the helpers that there are');
$session->query_safe('SELECT pg_advisory_unlock_all()');
my $log = cycle_since($node);
like($log, qr/cycle_completed refreshed=4 failed=0 skipped=0 /,
	'and is complete');
is(missing($log), 'WARNING 3 1', 'a warning says that there were too few');
like(
	$log,
	qr/ 53400 WARNING:  bigbrotr_refresher: helpers_missing wanted=3 started=1$more\n.*HINT:  Increase the configuration parameter "max_worker_processes", or lower "bigbrotr_refresher\.max_workers"\.$/m,
	'with a hint');

my $offset = log_size($node);
is(run_cycle('postgres'), '4|4|0|0', 'it is so in the next cycle');
is(run_cycle('postgres'), '4|4|0|0', 'and in the one after it');
is(missing(log_since($node, $offset)), '', 'but that is said once');

configure($node, 'bigbrotr_refresher.max_workers' => 2);
is(run_cycle('postgres'), '4|4|0|0', 'there may be enough');
is(missing(log_since($node, $offset)), '', 'then nothing is said');
configure($node, 'bigbrotr_refresher.max_workers' => 3);
is(run_cycle('postgres'), '4|4|0|0', 'and too few again');
is(missing(log_since($node, $offset)), 'WARNING 2 1', 'which is news');

# ---- none at all -----------------------------------------------------------------

$node->append_conf('postgresql.conf', conf_lines(max_worker_processes => 2));
restart(1);
$offset = log_size($node);
is(run_cycle('postgres'), '4|4|0|0', 'without a helper the worker is alone');
is(missing(log_since($node, $offset)), 'WARNING 2 0', 'and says so');

# ---- two databases -----------------------------------------------------------------

# Each has a helper of its own.
$node->append_conf('postgresql.conf',
	conf_lines(databases => 'postgres, second', max_worker_processes => 5));
configure($node, 'bigbrotr_refresher.max_workers' => 2);
restart(2);
my %sessions = map { $_ => hold($node, $_, 1 .. 4) } @databases;
$offset = log_size($node);
foreach my $database (@databases)
{
	$node->safe_psql($database, 'SELECT * FROM bigbrotr_refresher.run()');
}
foreach my $database (@databases)
{
	wait_for_waiters($database, 2);
	is(helpers($database), 1, "$database has a helper");
}
is( $node->safe_psql(
		'postgres', 'SELECT database, state, array_length(refreshing, 1)
		FROM bigbrotr_refresher.status() ORDER BY 1'),
	"postgres|refreshing|2\nsecond|refreshing|2",
	'databases are refreshed at the same time, each by its own processes');

# One ends, and the other is not concerned.
$sessions{postgres}->query_safe('SELECT pg_advisory_unlock_all()');
$log = wait_for_line($node, 'cycle_completed', $offset);
is( join(' ', sort map { $_->{view} // () } events($log)),
	'gate_1 gate_2 gate_3 gate_4',
	'each cycle has its own views');
wait_for_waiters('second', 2);
is( $node->safe_psql(
		'postgres', 'SELECT state, views_refreshed
		FROM bigbrotr_refresher.status() WHERE database = \'second\''),
	'refreshing|0',
	'and none counts for the other');
$sessions{second}->query_safe('SELECT pg_advisory_unlock_all()');
$node->wait_for_log(
	qr/(?s)cycle_completed refreshed=4 failed=0.*cycle_completed refreshed=4 failed=0/,
	$offset);
is(missing(log_since($node, $offset)), '', 'there were helpers for both');

# There is one helper for both.
$node->append_conf('postgresql.conf', conf_lines(max_worker_processes => 4));
restart(2);
$sessions{$_} = $sessions{$_}->quit && hold($node, $_, 1 .. 4)
  foreach @databases;
$offset = log_size($node);
$node->safe_psql('postgres', 'SELECT * FROM bigbrotr_refresher.run()');
wait_for_waiters('postgres', 2);
$node->safe_psql('second', 'SELECT * FROM bigbrotr_refresher.run()');
wait_for_waiters('second', 1);
is(helpers('postgres') . helpers('second'),
	'10', 'who comes first has the helper');
$_->query_safe('SELECT pg_advisory_unlock_all()') foreach values %sessions;
$node->wait_for_log(
	qr/(?s)cycle_completed refreshed=4 failed=0.*cycle_completed refreshed=4 failed=0/,
	$offset);
is(missing(log_since($node, $offset)),
	'WARNING 1 0', 'the other says that it has none');
is(run_cycle('second'), '4|4|0|0', 'and has it the next time');
is( $node->safe_psql(
		'second', 'SELECT count(*) > 0
		FROM bigbrotr_refresher.timeline() WHERE outcome <> \'refreshed\''),
	'f',
	'all is well in the end');

$_->quit foreach ($session, values %sessions);
$node->stop;
done_testing();
