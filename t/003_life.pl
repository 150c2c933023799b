# What ends a worker, and what starts it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(time);

# Wait until the worker is in the function of a view.
sub wait_for_refresh
{
	my ($node, $view) = @_;

	$node->poll_query_until(
		'postgres', "SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher' AND state = 'active'
			AND query LIKE 'refreshing public.$view (%)'
			AND wait_event = 'PgSleep'")
	  or die "the worker does not refresh $view";
	return;
}

# How long it takes to stop the server.
sub time_to_stop
{
	my ($node) = @_;
	my $start = time();

	$node->stop('fast');
	return time() - $start;
}

my $node = new_node('life', enabled => 'off', allows_streaming => 1);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION quick_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION long_refresh() RETURNS void
	LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); END';
	CREATE PROCEDURE long_procedure_refresh()
	LANGUAGE plpgsql AS 'BEGIN COMMIT; PERFORM pg_sleep(600); END';
});
cycle($node, enabled => 'on', views => 'quick');

# Terminated at rest, and in the middle of a refresh
my $pid = wait_for_pid($node, 'postgres');
my $offset = log_size($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
my $log =
  wait_for_line($node, 'bigbrotr_refresher: cycle_completed', $offset);
like(
	$log,
	qr/background worker "bigbrotr_refresher" \(PID $pid\) exited with exit code 1$/m,
	'a worker that is terminated ends');
like($log, qr/worker_started/, 'and another one is started');
like($log, qr/cycle_completed refreshed=1 failed=0/,
	'which does the same work');

foreach my $view ('long', 'long_procedure')
{
	configure($node, views => $view);
	wait_for_refresh($node, $view);
	$pid = worker_pid($node, 'postgres');
	$offset = log_size($node);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$log = wait_for_line($node, 'worker_started', $offset);
	like(
		$log,
		qr/\[$pid\] 57P01 FATAL:  terminating background worker/,
		"terminated while it refreshes $view, it ends at once");
	unlike($log, qr/view_refresh_failed/,
		'and does not call that a failed view');
	wait_for_refresh($node, $view);
	pass('the next worker begins again');

	configure($node, views => 'quick');
	cmp_ok(time_to_stop($node), '<', 60,
		"a fast shutdown does not wait for $view");
	$node->start;
}

# A standby
$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
configure($node, views => 'nothing, quick');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', 'CREATE TABLE replayed ()');
$standby->poll_query_until('postgres',
	"SELECT to_regclass('replayed') IS NOT NULL")
  or die 'the standby does not replay';
is(worker_pid($standby, 'postgres'), '', 'a standby has no worker');
is( $standby->safe_psql(
		'postgres',
		'SELECT state, pid IS NULL FROM bigbrotr_refresher.status();
		 SELECT view, outcome FROM bigbrotr_refresher.views ORDER BY view;
		 SELECT view, method FROM bigbrotr_refresher.plan() ORDER BY view'),
	"stopped|t\nnothing|failed\nquick|refreshed\n"
	  . "nothing|\nquick|function",
	'but shows what it would do, and what its primary did');
foreach my $wait ('false', 'true')
{
	my ($code, $stdout, $stderr) =
	  $standby->psql('postgres', "SELECT bigbrotr_refresher.run($wait)");
	like(
		$stderr,
		qr/ERROR:  the worker of database "postgres" is not running\n.*HINT:  Call it on the primary;/s,
		"run($wait) says where there is one");
}

# Without a history everything is due.
$node->safe_psql('postgres', 'DROP EXTENSION bigbrotr_refresher');
$node->wait_for_catchup($standby, 'replay');
$standby->promote;
$log = wait_for_line($standby, 'bigbrotr_refresher: cycle_completed', 0);
like($log, qr/cycle_completed refreshed=1 failed=1/,
	'after its promotion it has one');
my ($before, $after) = split(/archive recovery complete/, $log, 2);
unlike($before, qr/worker_started/, 'not before');
like($after, qr/worker_started/, 'but then');
$standby->stop;
$node->stop;

# No place for a worker, and then one for two databases
$node->append_conf(
	'postgresql.conf',
	conf_lines(
		databases => 'postgres, template1',
		max_worker_processes => 1,
		max_logical_replication_workers => 0));
$node->start;
$log = wait_for_line($node,
	'WARNING:  bigbrotr_refresher: worker_places_missing', $offset);
like(
	wait_for_line($node,
		'HINT:  Increase the configuration parameter "max_worker_processes"\.$',
		$offset),
	qr/worker_places_missing/,
	'that there is no place for a worker is warned of, with a hint');
$node->safe_psql($_, 'CREATE EXTENSION bigbrotr_refresher')
  foreach ('postgres', 'template1');
my (undef, undef, $stderr) =
  $node->psql('postgres', 'SELECT bigbrotr_refresher.run(true)');
like(
	$stderr,
	qr/is not running\nDETAIL:  No background worker is left for it\.\nHINT:  Increase .*max_worker_processes/,
	'and said by run()');
$node->append_conf('postgresql.conf', conf_lines(max_worker_processes => 2));
$node->restart;
foreach my $database ('postgres', 'template1')
{
	$node->poll_query_until($database,
		"SELECT count(*) = 1 FROM bigbrotr_refresher.status()
		 WHERE database = current_database() AND state = 'resting'
			AND next_due > now()")
	  or die "nothing is refreshed in $database";
	pass("one place does for $database and another");
}

$node->append_conf('postgresql.conf', conf_lines(max_worker_processes => 0));
$offset = log_size($node);
$node->restart;
like(
	log_since($node, $offset),
	qr/WARNING:  no background worker is left for bigbrotr_refresher\n/,
	'no place for the launcher either: the log says so');
(undef, undef, $stderr) =
  $node->psql('postgres', 'SELECT bigbrotr_refresher.run()');
like($stderr, qr/was left for it\.\nHINT:  Increase .*max_worker_processes/,
	'and so does run()');
like(
	$node->safe_psql('postgres',
		'SELECT DISTINCT advice FROM bigbrotr_refresher.plan()'),
	qr/^No worker refreshes it: when the server started, no background worker was left\. Increase "max_worker_processes"/m,
	'and plan()');

$node->stop;

# ---- single-user mode ----------------------------------------------------------

# It has no workers; only who asks for one is told.
my ($stdout, $input) = ('', <<'SQL');
CREATE MATERIALIZED VIEW single AS SELECT 1 AS x
REFRESH MATERIALIZED VIEW single
SELECT count(*) FROM bigbrotr_refresher.plan()
SELECT bigbrotr_refresher.run()
SQL
run_log(
	[
		'postgres', '--single', '-D', $node->data_dir,
		'-c', 'max_worker_processes=8', 'postgres'
	],
	'<', \$input, '>', \$stdout, '2>', \$stderr)
  or die "single-user mode: $stderr";
unlike($stderr, qr/WARNING/, 'single-user mode: no complaint');
is(scalar(() = $stderr =~ /ERROR/g), 1, 'but that nobody can run a cycle');
like($stderr, qr/ERROR: .*is not running/, 'as the error says');

done_testing();
