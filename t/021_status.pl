# What each worker is doing, as shared memory has it.

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
	'status',
	databases => 'postgres, other, absent',
	views => 'none',
	interval => '1h',
	restart_interval => '1h',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE other');

my $make = q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE lock (id int);
	CREATE FUNCTION first_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION second_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION broken_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE FUNCTION "Held view_refresh"() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(id) FROM lock';
	CREATE FUNCTION slow_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_sleep(1.1)';
};
$node->safe_psql($_, $make) foreach ('postgres', 'other');
$node->safe_psql('postgres', 'INSERT INTO lock VALUES (1)');


sub status
{
	my ($columns, $database) = @_;

	$database //= 'postgres';
	return $node->safe_psql('postgres',
		"SELECT $columns FROM bigbrotr_refresher.status()
		 WHERE database = '$database'");
}

my $at_rest = "state = 'resting' AND next_due IS NOT NULL";

sub wait_for_status
{
	my ($condition, $database) = @_;

	$database //= 'postgres';
	$node->poll_query_until('postgres',
		"SELECT $condition FROM bigbrotr_refresher.status()
		 WHERE database = '$database'")
	  or die "the status of $database is not such that $condition";
	return;
}

my $counts =
  'views_total, views_refreshed, views_failed, views_skipped, refreshing';
my $screen =
  "SELECT state, refreshing, duration IS NULL, views, refreshed, failed, skipped
	FROM bigbrotr_refresher.status WHERE database = 'postgres'";
my $totals =
  'refreshed_total, failed_total, skipped_total, cycles_success, cycles_failed, consecutive_failures';

# ---- at the start -----------------------------------------------------------

wait_for_status($at_rest, $_) foreach ('postgres', 'other');
is( $node->safe_psql('postgres',
		'SELECT database FROM bigbrotr_refresher.status()'),
	"postgres\nother\nabsent",
	'a row for each database, in the order of the parameter');
is(status('state, pid IS NULL, worker_start IS NULL, cycle_start IS NULL,
		next_due IS NULL, refreshing, refreshing_since, refreshing_share', 'absent'),
	'stopped|t|t|t|t|{}|{}|{}', 'one that has no worker is stopped');
is(status('state, pid IS NULL, worker_start IS NULL, next_due > now()'),
	'resting|t|t|t', 'one that has none until something is due, rests');
my ($holder) = hold_worker($node, 'other');
is( $node->safe_psql(
		'postgres',
		"SELECT s.pid = a.pid, s.worker_start - a.backend_start < '1 minute',
			s.worker_start BETWEEN a.backend_start AND now()
		 FROM bigbrotr_refresher.status() AS s
		 JOIN pg_stat_activity AS a ON a.datname = s.database
		 WHERE a.backend_type = 'bigbrotr_refresher' AND s.database = 'other'"
	),
	't|t|t',
	'one that has is shown with its process');
$holder->quit;

# ---- in the middle of a cycle --------------------------------------------

my $lock = hold($node, 'postgres', 1);
configure($node,
	views => '"Held view"; first, broken; second');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
$lock->query_safe('SELECT pg_advisory_lock(2)');
is(status("state, $counts"), 'refreshing|4|0|0|0|{"\"Held view\""}',
	'the first of four views is being refreshed');
is( status('cycle_start BETWEEN worker_start AND now(),
		cycle_duration IS NULL, next_due IS NULL'),
	't|t|t',
	'the cycle is not over, so it has no duration, and the next is not due');
wait_for_status("$at_rest AND views_total = 4", 'other');
is(status($counts, 'other'), '4|3|1|0|{}',
	'another database is not concerned');
is( status("refreshing_since[1] BETWEEN cycle_start AND clock_timestamp(),
		cardinality(refreshing_since), refreshing_share"),
	't|1|{NULL}',
	'it is told since when, but of what was never refreshed no share');
like(
	$node->safe_psql('postgres', $screen),
	qr/\Arefreshing\|"Held view" for \d\d:\d\d:\d\d\|t\|4\|0\|0\|0\z/,
	'the view on one screen has it, too');
my $before = status($totals);
configure($node, views => 'first, broken, "Held view", second');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
configure_and_rest($node);
$lock->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres',
	"UPDATE bigbrotr_refresher.view_state SET refresh_duration = '1000 s'
	 WHERE view = '\"Held view\"'");
$before = status($totals);
my $last_start = status('cycle_start');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run()');
wait_for_status("'\"Held view\"' = ANY (refreshing)");
is(status("state, $counts"), 'refreshing|4|1|1|0|{"\"Held view\""}',
	'in the middle of a cycle, it counts what is done');
is(status("cycle_start > '$last_start'"), 't', 'of this cycle');
my ($refreshed, $failed, $skipped, $cycles) = split /\|/, $before;
is(status('refreshed_total, failed_total, cycles_success'),
	($refreshed + 1) . '|' . ($failed + 1) . "|$cycles",
	'views count at once, a cycle when it ends');

like(
	$node->safe_psql('postgres', $screen),
	qr/\Arefreshing\|"Held view" for \d\d:\d\d:\d\d \(\d+ %\)\|t\|4\|1\|1\|0\z/,
	'so does the view on one screen');
wait_for_status('refreshing_share[1] * 1000 >= 1');
is( status("refreshing_share[1] * 1000 BETWEEN 1 AND
		extract(epoch FROM clock_timestamp() - refreshing_since[1]) + 0.01"),
	't',
	'the share is of the time that the last refresh took');

# ---- enabled off, on --------------------------------------------------------

configure($node, enabled => 'off');
is(status('state'), 'refreshing', 'disabled, it ends the view in hand');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_for_status("state = 'disabled'");
is(status("$counts, next_due IS NULL, pid IS NULL"), '4|2|1|0|{}|t|t',
	'and then rests, with the counts of the cycle that it broke off');
wait_for_status("state = 'disabled'", 'other');
configure($node, enabled => 'on');
wait_for_status($at_rest);
pass('until it is enabled');

# ---- at rest ------------------------------------------------------------------

is( $node->safe_psql('postgres',
		'SELECT views, refreshed, failed, skipped
		 FROM bigbrotr_refresher.run(true)'),
	'4|3|1|0',
	'a cycle ends');
wait_for_status($at_rest);
is(status($counts), '4|3|1|0|{}', 'its counts stay');
is($node->safe_psql('postgres', $screen),
	'resting||f|4|3|1|0', 'in the view on one screen as well');
is( $node->safe_psql(
		'postgres',
		'SELECT count(*), bool_and(v.pid IS NOT DISTINCT FROM s.pid AND
			v.state = s.state AND
			v.next_due IS NOT DISTINCT FROM s.next_due AND
			v.cycle_start IS NOT DISTINCT FROM s.cycle_start AND
			v.duration IS NOT DISTINCT FROM s.cycle_duration)
		 FROM bigbrotr_refresher.status AS v
		 JOIN bigbrotr_refresher.status() AS s USING (database)'),
	'3|t',
	'which has what the function has');
is( status('cycle_duration >= interval \'0\' AND cycle_duration < interval \'1 minute\',
		next_due - cycle_start'),
	't|01:00:00',
	'with its duration, and when the next view is due');
is( $node->safe_psql(
		'postgres',
		'SELECT s.cycle_start = h.cycle_start AND s.next_due = p.due
		 FROM bigbrotr_refresher.status() AS s,
			(SELECT max(cycle_start) AS cycle_start
			 FROM bigbrotr_refresher.history) AS h,
			(SELECT min(due) AS due FROM bigbrotr_refresher.plan()) AS p
		 WHERE database = \'postgres\''),
	't',
	'as the history and the plan have it');

# ---- totals, and the histogram ------------------------------------------------

my $numbers =
  'cycle_duration_seconds_count, cycle_duration_seconds_bucket[1],
	cycle_duration_seconds_bucket[2], cycle_duration_seconds_bucket[10],
	cardinality(cycle_duration_seconds_bucket)';
configure_and_rest($node, views => 'broken');
($refreshed, $failed, $skipped, $cycles, my $failures) =
  split /\|/, status($totals);
my @numbers = split /\|/, status($numbers);
is($numbers[0], $cycles + $failures,
	'each cycle was a success or failed');

# How long each of the cycles took, in seconds
my @durations;

sub note_duration
{
	push @durations, status('extract(epoch FROM cycle_duration)');
	return;
}

foreach (1 .. 2)
{
	$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
	note_duration();
}
is( status($totals),
	join('|',
		$refreshed, $failed + 2, $skipped, $cycles, $failures + 2, 2),
	'a cycle in which all views fail has failed');
configure($node, views => 'slow, broken');
wait_for_status("$at_rest AND cycles_success > $cycles");
note_duration();
is( status($totals),
	join('|', $refreshed + 1, status('failed_total'), $skipped, $cycles + 1,
		$failures + 2, 0),
	'one in which one is refreshed has not, and ends the failures in a row');
my @now = split /\|/, status($numbers);
is($now[0] - $numbers[0], 3, 'the histogram has all three');
is($now[1] - $numbers[1], scalar(grep { $_ <= 1 } @durations),
	'by whether they took no more than a second');
is($now[2] - $numbers[2], scalar(grep { $_ <= 5 } @durations),
	'or than five');
cmp_ok($durations[2], '>', 1, 'of which one took more than one');
is($now[3], $now[0], 'and none more than an hour');
is($now[4], 10, 'in as many buckets as there are');
is( status('cycle_duration_seconds_sum BETWEEN
		extract(epoch FROM cycle_duration)::float8 - 0.001
		AND extract(epoch FROM cycle_duration)::float8 + 60'),
	't',
	'their durations are summed up');

# ---- without a worker ------------------------------------------------------------

configure($node, views => '"Held view"');
$lock->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
my $pid = worker_pid($node, 'postgres');
my $total = status('refreshed_total');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_for_status("state = 'stopped'");
is( status('pid IS NULL, next_due IS NULL, refreshing, refreshed_total,
		views_total, views_refreshed'),
	"t|t|{}|$total|1|0",
	'terminated in a cycle, it is stopped and refreshes nothing');
wait_for_status($at_rest, 'other');
pass('the other one is not');
$lock->quit;

# ---- after a crash ----------------------------------------------------------------

$node->append_conf('postgresql.conf',
	"restart_after_crash = on\n" . conf_lines(restart_interval => '1s'));
configure($node, views => 'first, broken');
$node->restart;
wait_for_status($at_rest, 'other');
($holder, $pid) = hold_worker($node, 'other');
crash($node, $pid);
eval { $holder->quit };
wait_for_status($at_rest, 'other');
is(status('pid IS NULL, refreshing', 'other'),
	't|{}', 'after a crash, nothing is left of the worker that was killed');

# ---- never half-written ------------------------------------------------------------

# Three sessions look as often as they can while one cycle follows the other,
# until there were so many of them.
my $cycles_to_see = 30;
$node->safe_psql(
	'postgres', q{
	CREATE TABLE found (what text);
	CREATE PROCEDURE look(until bigint) LANGUAGE plpgsql AS $$
	DECLARE
		s record;
		l record;
		done int;
		looks int := 0;
		busy int := 0;
		wrong text;
	BEGIN
		SELECT * INTO l FROM bigbrotr_refresher.status() LIMIT 0;
		WHILE l.database IS NULL OR l.cycle_duration_seconds_count < until LOOP
			SELECT * INTO s FROM bigbrotr_refresher.status()
			WHERE database = 'postgres';
			done := s.views_refreshed + s.views_failed + s.views_skipped;
			wrong := CASE
				WHEN done > s.views_total THEN 'more than all'
				WHEN s.views_total <> 4 THEN 'other views'
				WHEN s.views_failed > 1 THEN 'failed'
				WHEN s.state NOT IN ('resting', 'idle', 'refreshing')
					THEN 'state'
				WHEN (s.pid IS NULL) <> (s.state = 'resting') THEN 'pid'
				WHEN cardinality(s.refreshing) > 1 THEN 'two at once'
				WHEN cardinality(s.refreshing_since) <> cardinality(s.refreshing)
					OR cardinality(s.refreshing_share) <> cardinality(s.refreshing)
					OR s.refreshing_since[1] < s.cycle_start THEN 'since'
				WHEN cardinality(s.refreshing) = 1 AND
					s.refreshing[1] NOT IN ('a_rather_long_name_of_the_first',
						'broken', 'second', 'third') THEN 'name'
				WHEN done + cardinality(s.refreshing) > s.views_total
					THEN 'done and refreshing'
				WHEN s.state <> 'refreshing' AND (cardinality(s.refreshing) > 0 OR
					s.cycle_duration IS NULL OR done <> s.views_total)
					THEN 'idle'
				WHEN s.state = 'refreshing' AND s.next_due IS NOT NULL
					THEN 'due'
				WHEN s.cycle_duration IS NULL AND s.state <> 'refreshing'
					THEN 'not over'
				WHEN s.cycle_duration_seconds_count <>
					s.cycle_duration_seconds_bucket[10] OR
					s.cycle_duration_seconds_count <>
					s.cycles_success + s.cycles_failed THEN 'cycles'
				WHEN s.refreshed_total + s.failed_total <>
					4 * s.cycle_duration_seconds_count +
					CASE WHEN s.cycle_duration IS NULL THEN done ELSE 0 END
					THEN 'totals'
				WHEN l.database IS NOT NULL AND
					(s.cycle_start < l.cycle_start OR
					s.refreshed_total < l.refreshed_total OR
					(s.cycle_start = l.cycle_start AND
					s.views_refreshed < l.views_refreshed))
					THEN 'going back'
				END;
			IF wrong IS NOT NULL THEN
				INSERT INTO found VALUES (wrong || ': ' || s::text);
				COMMIT;
				RETURN;
			END IF;
			looks := looks + 1;
			busy := busy + cardinality(s.refreshing);
			l := s;
		END LOOP;
		INSERT INTO found VALUES (format('%s %s', looks, busy));
	END $$;
	CREATE FUNCTION a_rather_long_name_of_the_first_refresh() RETURNS void
	LANGUAGE sql AS '';
	CREATE FUNCTION third_refresh() RETURNS void LANGUAGE sql AS '';
});
configure($node,
	views => 'a_rather_long_name_of_the_first, broken, second, third');
# Totals of whole cycles only, from here on
$node->restart;
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
wait_for_status("$at_rest AND views_total = 4");
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
my $script = $node->basedir . '/run.sql';
append_to_file($script, "SELECT FROM bigbrotr_refresher.run(true);\n");
my $look = $node->basedir . '/look.sql';
append_to_file($look,
	'CALL look('
	  . (status('cycle_duration_seconds_count') + $cycles_to_see)
	  . ");\n");
my @connection = ('-n', '-h', $node->host, '-p', $node->port, 'postgres');
my ($out, $err, $run_out, $run_err);
my $looking = IPC::Run::start(
	[
		$node->config_data('--bindir') . '/pgbench', '-c', '3', '-j', '3',
		'-t', '1', '-f', $look, @connection
	],
	'>', \$out, '2>', \$err);
IPC::Run::run(
	[
		$node->config_data('--bindir') . '/pgbench', '-c', '2', '-j', '1',
		'-t', 2 * $cycles_to_see, '-f', $script, @connection
	],
	'>', \$run_out, '2>', \$run_err)
  or die "pgbench failed: $run_err";
$looking->finish;
my $found = $node->safe_psql('postgres', 'SELECT * FROM found');
like($found, qr/\A(\d+ \d+\n?){3}\z/,
	'whoever looks sees one moment, never half of two');
note("looks and how many of them saw a view being refreshed:\n$found");

$node->stop;
done_testing();
