# The nodes of a Citus cluster come and go while views over their tables are
# refreshed: a failure is that view's, is told, and is made good when the node is
# back; a cancelled refresh ends on the nodes too; helpers and Citus' own daemon
# share the places for background workers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..", $FindBin::RealBin;

use Engines;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

need_engine('citus');

# Of the places one is taken by the launcher of logical replication, one by our
# own, one by Citus' daemon; so two are left for a worker and one helper.
my $places = 5;
my ($node, @workers) = citus_cluster(
	'citus_nodes',
	databases => 'postgres',
	views => 'nothing',
	interval => '1h',
	max_worker_processes => $places,
	'bigbrotr_refresher.max_workers' => 4,
	'bigbrotr_refresher.retry_interval' => '1s');

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, n int);
	SELECT create_distributed_table('t', 'id');
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 200) AS g;
	CREATE TABLE here (id int PRIMARY KEY);
	INSERT INTO here VALUES (1);
	CREATE MATERIALIZED VIEW v AS SELECT id, n FROM t;
	CREATE UNIQUE INDEX ON v (id);
	CREATE MATERIALIZED VIEW v_local AS SELECT id FROM here;
	CREATE MATERIALIZED VIEW v_slow AS
		SELECT id, n + (pg_sleep(CASE WHEN id = 1 AND n > 0 THEN 1000 END) IS NULL)::int AS n FROM t;
	CREATE UNIQUE INDEX ON v_slow (id);
	CREATE TABLE folded (id int PRIMARY KEY, n int);
	SELECT create_distributed_table('folded', 'id');
	CREATE FUNCTION v_held_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		REFRESH MATERIALIZED VIEW CONCURRENTLY public.v_held;
		PERFORM pg_advisory_xact_lock(1);
	END $$;
	CREATE MATERIALIZED VIEW v_held AS SELECT id, n FROM t;
	CREATE FUNCTION folded_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.folded SELECT id, n FROM public.t
		ON CONFLICT (id) DO UPDATE SET n = excluded.n;
		PERFORM pg_advisory_xact_lock(1);
	END $$;
});

# state_of(VIEW): outcome and SQLSTATE of its last attempt.
sub state_of
{
	my ($view) = @_;

	return $node->safe_psql('postgres',
		"SELECT concat_ws(' ', outcome, sqlstate) FROM bigbrotr_refresher.history
		 WHERE view = '$view' ORDER BY id DESC LIMIT 1");
}

sub run
{
	return $node->safe_psql('postgres',
		'SELECT refreshed, failed FROM bigbrotr_refresher.run(wait => true)');
}

# How many processes of the workers sleep in a query of ours
sub sleepers
{
	my $sleepers = 0;

	$sleepers += $_->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
	  foreach @workers;
	return $sleepers;
}

sub change
{
	$node->safe_psql('postgres', 'UPDATE t SET n = n + 1');
	return;
}

sub different
{
	my ($view) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM $view AS v FULL JOIN (SELECT id, n FROM t OFFSET 0) AS t USING (id)
		 WHERE v.n IS DISTINCT FROM t.n");
}

# ---- places for background workers -------------------------------------------------

my $offset = log_size($node);
configure($node, views => 'v, v_local, v_slow');
is(run(), '3|0', 'with few places, all views are refreshed');
like(log_since($node, $offset), qr/helpers_missing wanted=2 started=[01]$more/,
	'of helpers there are as many as there is room for');
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type ~ '^Citus Maintenance Daemon'")
  or die 'the daemon of Citus does not run';

# It ends, and comes back while all other places are wanted.
foreach my $turn (1 .. 3)
{
	my $pid = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type ~ '^Citus Maintenance Daemon'");

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	is(run(), '3|0', "$turn: views are refreshed without the daemon");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type ~ '^Citus Maintenance Daemon'
			AND pid <> $pid")
	  or die 'the daemon of Citus does not come back';
}

# ---- cancelled, ended, timed out ---------------------------------------------------

change();
foreach my $how ('pg_cancel_backend', 'refresh_timeout', 'pg_terminate_backend')
{
	configure($node, refresh_timeout => $how eq 'refresh_timeout' ? '1s' : 0,
		'bigbrotr_refresher.retry_interval' => '1h',
		views => 'v_slow');
	$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
	wait_until('the nodes sleep', sub { sleepers() > 0 });
	$node->safe_psql('postgres', "SELECT $how(pid) FROM pg_stat_activity
		WHERE backend_type = 'bigbrotr_refresher'")
	  if $how ne 'refresh_timeout';
	# The worker that follows would try it again.
	configure($node, views => 'v_local');
	wait_until("$how ends the query on the nodes", sub { sleepers() == 0 });
	ok(1, "$how ends the query on the nodes");
	is(state_of('v_slow'), 'failed 57014', "$how: the refresh has failed")
	  if $how ne 'pg_terminate_backend';
}
configure($node, refresh_timeout => 0, 'bigbrotr_refresher.retry_interval' => '1s');

# ---- a node is lost, and comes back ------------------------------------------------

configure($node, views => 'v, v_local');
run();
foreach my $mode ('fast', 'immediate')
{
	change();
	$workers[1]->stop($mode);
	is(run(), '1|1', "$mode: without a node the views over its tables fail");
	like(state_of('v'), qr/^failed (?:08|57P)/, "$mode: the failure is that of a connection");
	is(state_of('v_local'), 'refreshed', "$mode: the others are refreshed");
	$workers[1]->start;
	wait_until("$mode: it is retried", sub { state_of('v') eq 'refreshed' });
	is(different('v'), 0, "$mode: with the node it is retried, and is right");
}

# Between query and commit
foreach my $case (
	[ 'v_held', 'a view' ],
	[ 'folded', 'a distributed table' ])
{
	my ($view, $what) = @$case;

	foreach my $mode ('immediate', 'fast')
	{
		configure($node, views => 'v_local');
		change();
		my $session = hold($node, 'postgres', 1);
		configure($node, views => "$view, v_local");
		$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
		wait_for_waiter($node, 'postgres', 1);
		my $before = $node->safe_psql('postgres', 'SELECT max(id) FROM bigbrotr_refresher.history');
		$workers[1]->stop($mode);
		$session->quit;
		wait_until("$what, $mode: the refresh is over",
			sub {
				return $node->safe_psql('postgres', "SELECT count(*) FROM bigbrotr_refresher.history
					WHERE id > $before AND view = '$view'");
			});
		note("$what, $mode: " . state_of($view));
		$workers[1]->start;
		wait_until("$what, $mode: it is refreshed",
			sub { state_of($view) eq 'refreshed' });
		is(different($view), 0, "$what, node lost before the commit ($mode): it is right in the end");
		is($node->safe_psql('postgres', "SELECT count(*) FROM bigbrotr_refresher.history
			WHERE view = '$view' AND outcome = 'refreshed'") > 0, 1, 'and in the history');
	}
}

# A frozen node
configure($node, views => 'v_slow', refresh_timeout => '2s');
$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
my @frozen;
wait_until(
	'a node sleeps',
	sub {
		@frozen = grep { $_ } map {
			split /\n/, $_->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
		} @workers;
		return @frozen > 0;
	});
kill 'STOP', @frozen;
wait_until('the timeout ends the refresh of what is frozen',
	sub { state_of('v_slow') eq 'failed 57014' });
ok(1, 'a refresh from a frozen node ends by its timeout');
kill 'CONT', @frozen;

nothing_broke($node);
$_->stop foreach @workers, $node;
done_testing();
