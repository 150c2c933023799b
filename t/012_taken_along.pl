# What a cycle takes: the readers of a view that is retried, and of the views
# that a wildcard stood for only those that are still there.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $retry = 'bigbrotr_refresher.retry_interval';

my $node = new_node(
	'along',
	views => 'nothing',
	interval => '1h',
	$retry => 0);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE source (x int);
	INSERT INTO source VALUES (1);
	CREATE MATERIALIZED VIEW sa AS SELECT 1 / x AS x FROM source;
	CREATE MATERIALIZED VIEW sb AS SELECT x FROM sa;
	CREATE MATERIALIZED VIEW sc AS SELECT x FROM sb;
	CREATE MATERIALIZED VIEW other AS SELECT 1 AS x;
	CREATE FUNCTION gate_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1)';
});
wait_for_rest($node, 'postgres');

# ---- a retry ---------------------------------------------------------------

# The first view fails, and is retried after a second, when the second one is
# due by its own interval: the third one reads it, and so is taken along.
$node->safe_psql('postgres', 'UPDATE source SET x = 0');
my $offset = log_size($node);
configure($node, views => 'sa, sb @ 1s, sc @ 1h, other', $retry => '1s');
$node->poll_query_until(
	'postgres', "SELECT count(*) >= 2 FROM bigbrotr_refresher.history
	 WHERE view = 'sa'")
  or die 'the view was not retried';
my $log = wait_for_line($node,
	'view_refresh_failed view=sa(?s:.*)view_refresh_failed view=sa(?s:.*)cycle_completed',
	$offset);
configure($node, views => 'nothing', $retry => 0);
my @retries =
  grep { grep { $_ eq 'sa' } @{ $_->{views} } } cycles($log);
is( join(' ', @{ $retries[0]->{views} }),
	'sa sb sc other', 'at first, all are due');
is(join(' ', @{ $retries[1]->{views} }),
	'sa sb sc',
	'a retry takes along what reads the view through another one that is due');

# ---- a wildcard --------------------------------------------------------------

$node->safe_psql('postgres', 'UPDATE source SET x = 1');
cycle($node, views => 'gate; *');
my $session = hold($node, 'postgres', 1);
$offset = log_size($node);
$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW sc, other');
$session->query_safe('SELECT pg_advisory_unlock(1)');
$log = wait_for_line($node, 'cycle_completed.*', $offset);
is(outcomes($log), 'gate sa sb',
	'what a wildcard stood for and was dropped is left out');
like($log, qr/cycle_completed refreshed=3 failed=0 skipped=0/,
	'and is not counted');
is( $node->safe_psql(
		'postgres', 'SELECT views_total, views_refreshed, views_failed
		FROM bigbrotr_refresher.status()'),
	'3|3|0',
	'nor by the status');

# One that somebody drops while the refresh waits for it
$session->query_safe('BEGIN; DROP MATERIALIZED VIEW sb');
$offset = log_size($node);
$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
$node->poll_query_until(
	'postgres', "SELECT count(*) = 1
	 FROM pg_locks JOIN pg_stat_activity USING (pid)
	 WHERE backend_type = 'bigbrotr_refresher' AND NOT granted
		AND locktype = 'relation'")
  or die 'the worker does not wait for the view';
$session->query_safe('COMMIT');
$log = wait_for_line($node, 'cycle_completed.*', $offset);
is(outcomes($log), 'gate sa', 'so is what was dropped meanwhile');

# ---- nothing to refresh ---------------------------------------------------------

# Something wakes the worker up more often than once in an interval.  What is
# new is found all the same.
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW sa CASCADE;
	CREATE SCHEMA empty; CREATE MATERIALIZED VIEW x AS SELECT 1 AS x');
$offset = log_size($node);
configure($node, views => 'empty.*', interval => '2s');
$node->poll_query_until('postgres',
	"SELECT next_due > now() FROM bigbrotr_refresher.status()")
  or die 'the worker does not rest';
$node->safe_psql('postgres',
	'CREATE MATERIALIZED VIEW empty.late AS SELECT 1 AS x');
wait_until(
	'the new view is refreshed',
	sub {
		# This wakes it up.
		$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
		return log_since($node, $offset) =~ /view_refreshed view=empty\.late\b/;
	});
pass('a worker without views that is woken often finds a new one');
$session->quit;
$node->stop;
done_testing();
