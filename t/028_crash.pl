# The server dies at random moments of many cycles.  Afterwards the history
# says "refreshed" exactly for those refreshes whose data is in the views.
#
# Each refresh leaves a marker, in its own transaction, beside the rows of its
# view; a column that we add to the history takes the transaction down in
# which a row was written.  So the three can be compared row by row, and at
# any moment: a single statement sees all of them as of one moment.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = 16;
srand(random_seed());

my $node = new_node(
	'crash',
	views => 'fast, plain, concurrent, steps; broken, late, reader',
	interval => '1h',
	enabled => 'off',
	restart_after_crash => 'on',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;

# A session that has one cycle follow the other, for as long as it can.
my $script = $node->basedir . '/run.sql';
append_to_file($script, "SELECT FROM bigbrotr_refresher.run(true);\n");

sub start_cycles
{
	return IPC::Run::start(
		[
			$node->config_data('--bindir') . '/pgbench', '-n', '-T',
			$PostgreSQL::Test::Utils::timeout_default, '-f', $script,
			'-h', $node->host, '-p', $node->port, 'postgres'
		],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

# Each view takes a moment, before and after it is written.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	ALTER TABLE bigbrotr_refresher.history
		ADD COLUMN xact xid8 DEFAULT pg_current_xact_id();
	CREATE TABLE marker (view text, xact xid8 DEFAULT pg_current_xact_id());
	CREATE MATERIALIZED VIEW fast AS SELECT pg_current_xact_id() AS xact;
	CREATE MATERIALIZED VIEW plain AS
		SELECT pg_current_xact_id() AS xact, pg_sleep(0.001)::text AS s;
	CREATE MATERIALIZED VIEW concurrent AS
		SELECT 1 AS id, pg_current_xact_id() AS xact, pg_sleep(0.001)::text AS s;
	CREATE UNIQUE INDEX ON concurrent (id);
	CREATE MATERIALIZED VIEW steps AS SELECT pg_current_xact_id() AS xact;
	CREATE MATERIALIZED VIEW reader AS
		SELECT pg_current_xact_id() AS xact FROM plain;

	CREATE FUNCTION mark(name text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO marker VALUES (name);
		PERFORM pg_sleep(random() * 0.001);
		EXECUTE format('REFRESH MATERIALIZED VIEW %I', name);
		PERFORM pg_sleep(random() * 0.001);
	END $$;
	CREATE FUNCTION fast_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT mark('fast') $$;
	CREATE FUNCTION reader_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT mark('reader') $$;

	-- Its work after its last COMMIT is the refresh.
	CREATE PROCEDURE steps_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO marker VALUES ('step');
		PERFORM pg_sleep(random() * 0.001);
		COMMIT;
		PERFORM mark('steps');
	END $$;

	-- One fails when all is done, one when all is to be committed.
	CREATE FUNCTION broken_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO marker VALUES ('broken');
		PERFORM pg_sleep(random() * 0.001);
		RAISE EXCEPTION 'broken';
	END $$;
	CREATE TABLE unique_late (x int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION late_refresh() RETURNS void LANGUAGE sql AS $$
		INSERT INTO marker VALUES ('late');
		INSERT INTO unique_late VALUES (1), (1) $$;
});

# What does not fit; nothing, if all is well.
my $compare = q{
	WITH written AS (
		SELECT view, xact FROM bigbrotr_refresher.history
		WHERE outcome = 'refreshed'
	), content AS (
		SELECT 'fast' AS view, xact FROM fast
		UNION ALL SELECT 'plain', xact FROM plain
		UNION ALL SELECT 'concurrent', xact FROM concurrent
		UNION ALL SELECT 'steps', xact FROM steps
		UNION ALL SELECT 'reader', xact FROM reader
	)
	SELECT 'data without a row', view, xact FROM marker AS m
	WHERE view <> 'step' AND NOT EXISTS (SELECT FROM written AS w
		WHERE w.view = m.view AND w.xact = m.xact)
	UNION ALL
	SELECT 'row without data', view, xact FROM written AS w
	WHERE view IN ('fast', 'steps', 'reader') AND NOT EXISTS (
		SELECT FROM marker AS m WHERE m.view = w.view AND m.xact = w.xact)
	UNION ALL
	SELECT 'two rows of one refresh', view, xact FROM written
	GROUP BY view, xact HAVING count(*) > 1
	UNION ALL
	SELECT 'the newest row is not that of the data', c.view, c.xact
	FROM content AS c LEFT JOIN (SELECT DISTINCT ON (h.view) h.view, h.xact
		FROM bigbrotr_refresher.history AS h WHERE h.outcome = 'refreshed'
		ORDER BY h.view, h.id DESC) AS n USING (view)
	WHERE n.xact IS DISTINCT FROM c.xact
	UNION ALL
	SELECT 'must have failed', view, xact FROM written
	WHERE view IN ('broken', 'late')};

# The views hold the data of their creation until they were refreshed once.
configure($node, enabled => 'on');
$node->poll_query_until('postgres',
	'SELECT cycles_success > 0 FROM bigbrotr_refresher.status()')
  or die 'there was no cycle';
is($node->safe_psql('postgres', $compare),
	'', 'before, history and data are the same');

# The worker, in a cycle
sub busy_worker
{
	my $pid;

	wait_until(
		'there is a cycle',
		sub {
			$pid = $node->safe_psql('postgres',
				"SELECT pid FROM bigbrotr_refresher.status()
				 WHERE state = 'refreshing'");
			return $pid ne '';
		});
	return $pid;
}

# How the server may die.
my %ways = (
	'killed worker' => sub {
		my $start = log_size($node);

		# It may have been about to end anyway.
		wait_until(
			'a worker is killed',
			sub {
				my $pid = busy_worker();

				kill 'KILL', $pid;
				wait_until('it is gone', sub { !kill 0, $pid });
				return log_since($node, $start) =~ /\(PID $pid\) was terminated/;
			});
	},
	'immediate stop' => sub {
		$node->stop('immediate');
		$node->start;
	},
	'terminated worker' => sub {
		wait_until(
			'a worker is terminated',
			sub {
				return $node->safe_psql('postgres',
					"SELECT pg_terminate_backend(pid)
					 FROM bigbrotr_refresher.status()
					 WHERE state = 'refreshing'") eq 't';
			});
	});
my @order = ('killed worker', 'immediate stop');
my $offset = log_size($node);

foreach my $round (1 .. $rounds)
{
	my $way =
	  $round % 8 == 0 ? 'terminated worker' : $order[ int(rand(2)) ];
	my $moment = int(rand(300_000));

	# Every other time, commits do not wait for the disk.
	$node->safe_psql('postgres',
		'ALTER DATABASE postgres SET synchronous_commit = '
		  . ($round % 2 ? 'on' : 'off'));
	my $start = log_size($node);
	my $cycles = start_cycles();
	$node->poll_query_until('postgres',
		"SELECT state = 'refreshing' FROM bigbrotr_refresher.status()")
	  or die 'there is no cycle';
	usleep($moment);
	$ways{$way}->();
	$cycles->finish;

	# The worker's successor shows that the server is there again.
	wait_for_line($node, 'worker_started', $start);
	wait_until('sessions are accepted',
		sub { ($node->psql('postgres', 'SELECT'))[0] == 0 });
	is($node->safe_psql('postgres', $compare),
		'', "round $round: $way after $moment us: history and data agree");
}

# They were really cut short.
my $log = log_since($node, $offset);
my $started = () = $log =~ /cycle_started/g;
my $completed = () = $log =~ /cycle_completed/g;
note("$started cycles were started, $completed completed");
cmp_ok($started - $completed, '>', $rounds / 2,
	'cycles were cut short in the middle');
like($log, qr/was terminated by signal 9/, 'by a killed worker');
like($log, qr/database system was not properly shut down/,
	'and by a server that died');

# And at the end all goes on.
is( $node->safe_psql('postgres',
		'SELECT views, refreshed, failed FROM bigbrotr_refresher.run(true)'),
	'7|5|2',
	'at the end, a cycle is as at the beginning');
is($node->safe_psql('postgres', $compare), '', 'and history and data agree');
my $numbers = $node->safe_psql(
	'postgres', "SELECT view, outcome, count(*)
	 FROM bigbrotr_refresher.history GROUP BY 1, 2 ORDER BY 1, 2");
note($numbers);
is( $node->safe_psql(
		'postgres',
		"SELECT (SELECT count(*) FROM marker WHERE view = 'fast')
			= (SELECT count(*) FROM bigbrotr_refresher.history
			   WHERE view = 'fast' AND outcome = 'refreshed'),
			(SELECT count(*) FROM marker WHERE view = 'fast') >= $rounds,
			(SELECT count(*) FROM marker WHERE view IN ('broken', 'late')),
			(SELECT count(*) FROM bigbrotr_refresher.history
			 WHERE view IN ('broken', 'late')) > $rounds"),
	't|t|0|t',
	'there are as many rows as refreshes, and none of those that failed');
is( $node->safe_psql('postgres',
		'SELECT count(*) - count(DISTINCT id), count(*) - count(DISTINCT (view, id))
		 FROM bigbrotr_refresher.history'),
	'0|0',
	'each row has its own number');

$node->stop;
done_testing();
