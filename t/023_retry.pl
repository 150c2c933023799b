# The schedule goes on over a restart, and what failed is tried again.

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
	'retry',
	views => 'one, two @ 2h, three',
	interval => '1h',
	$retry => 0);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION one_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION two_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION three_refresh() RETURNS void LANGUAGE sql AS '';
});
wait_for_rest($node, 'postgres');

sub history
{
	my ($columns, $condition) = @_;

	return $node->safe_psql('postgres',
		"SELECT $columns FROM bigbrotr_refresher.history
		 WHERE $condition ORDER BY id");
}

sub run_all
{
	return $node->safe_psql('postgres',
		'SELECT views, refreshed, failed FROM bigbrotr_refresher.run(true)');
}

# Start a new worker in the way named, and return the log until it rests.
sub renew
{
	my ($how) = @_;
	my $offset = log_size($node);

	if ($how eq 'restart')
	{
		$node->restart;
	}
	else
	{
		my ($session, $pid) = hold_worker($node, 'postgres');

		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		$session->quit;
		wait_for_line($node, 'worker_started', $offset);
	}
	wait_for_rest($node, 'postgres');
	return log_since($node, $offset);
}

my $schedule =
  'SELECT view, schedule_start FROM bigbrotr_refresher.view_state
	ORDER BY view';

# ---- a new worker ----------------------------------------------------------------

is(run_all(), '3|3|0', 'all views are refreshed');
wait_for_rest($node, 'postgres');
my $due = $node->safe_psql('postgres',
	'SELECT next_due FROM bigbrotr_refresher.status()');
foreach my $how ('restart', 'terminate')
{
	my $log = renew($how);

	like($log, qr/worker_started/, "$how: there is a new worker");
	unlike($log, qr/cycle_started/, 'that refreshes nothing again');
	is( $node->safe_psql('postgres',
			'SELECT next_due FROM bigbrotr_refresher.status()'),
		$due,
		'but waits for the same time as the last one');
}

# What is overdue, and only that
$node->safe_psql('postgres',
	"UPDATE bigbrotr_refresher.view_state
	 SET cycle_start = cycle_start - interval '90 minutes',
		schedule_start = schedule_start - interval '90 minutes'
	 WHERE view IN ('one', 'two')");
my $before = $node->safe_psql('postgres', $schedule);
my $log = renew('restart');
is(outcomes($log), 'one', 'what is overdue is refreshed by the new worker');
like($log, qr/cycle_started views=1\b/, 'and nothing else');
my $after = $node->safe_psql('postgres', $schedule);
is_deeply(
	[ grep { !/^one/ } split /\n/, $after ],
	[ grep { !/^one/ } split /\n/, $before ],
	'the schedule of the others does not move');
isnt($after, $before, 'its own does');

# A view that is new in the list
configure($node, views => 'one, two @ 2h, three, four');
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM bigbrotr_refresher.history WHERE view = 'four'")
  or die 'the new view was not tried';
wait_for_rest($node, 'postgres');
unlike(renew('restart'), qr/cycle_started/,
	'a failed view that is not to be retried is not, by a new worker either');
is( $node->safe_psql('postgres',
		"SELECT p.due - h.cycle_start FROM bigbrotr_refresher.plan() AS p
		 JOIN bigbrotr_refresher.history AS h USING (view)
		 WHERE view = 'four'"),
	'01:00:00',
	'it waits for its interval');

# The clock was set back by five days.
configure($node, views => 'one, two @ 2h, three');
$node->safe_psql('postgres',
	"UPDATE bigbrotr_refresher.view_state
	 SET cycle_start = cycle_start + interval '5 days',
		schedule_start = schedule_start + interval '5 days'");
renew('restart');
is( $node->safe_psql('postgres',
		"SELECT next_due <= now() + interval '1 hour'
		 FROM bigbrotr_refresher.status()"),
	't',
	'nothing waits for longer than its interval, whatever the clock says');

# Where nothing is known, everything is due at start.
$node->safe_psql('postgres', 'TRUNCATE bigbrotr_refresher.view_state');
is(outcomes(renew('restart')), 'one two three',
	'what nothing is known of is refreshed');

# ---- a view that fails --------------------------------------------------------

# "reader" and "further" read "bad"; "other" does not.  Attempts at 0, 1, 3, 7
# seconds: the distances are doubled each time.
$node->safe_psql(
	'postgres', q{
	TRUNCATE bigbrotr_refresher.history, bigbrotr_refresher.view_state;
	CREATE TABLE source (x int);
	INSERT INTO source VALUES (1);
	CREATE MATERIALIZED VIEW bad AS SELECT 1 / x AS x FROM source;
	CREATE MATERIALIZED VIEW reader AS SELECT x FROM bad;
	CREATE MATERIALIZED VIEW further AS SELECT x FROM reader;
	CREATE MATERIALIZED VIEW other AS SELECT x FROM source;
	UPDATE source SET x = 0;
});
my $offset = log_size($node);
my $configuration = configure(
	$node,
	views => 'other, bad, reader, further @ 3h',
	$retry => '1s');
ok( $node->poll_query_until('postgres',
		"SELECT count(*) >= 4 FROM bigbrotr_refresher.history
		 WHERE view = 'bad'"),
	'a view that failed is tried again and again');

# Whoever looks now may be as late as the next attempt.
ok( $node->poll_query_until(
		'postgres',
		"SELECT p.due - max(h.cycle_start) =
				interval '1 second' * 2 ^ (count(*) - 1)
		 FROM bigbrotr_refresher.plan() AS p
			JOIN bigbrotr_refresher.history AS h USING (view)
		 WHERE view = 'bad' GROUP BY p.due"),
	'the plan says when it is tried next');
ok( $node->poll_query_until(
		'postgres',
		'SELECT s.next_due = (SELECT min(due) FROM bigbrotr_refresher.plan())
		 FROM bigbrotr_refresher.status() AS s'),
	'and so does the status');

# From here on it is not tried for a while.
configure_and_rest($node, $retry => '10min');
my @seconds = split /\n/,
  $node->safe_psql(
	'postgres', "SELECT extract(epoch FROM cycle_start -
		lag(cycle_start) OVER (ORDER BY id))
	 FROM bigbrotr_refresher.history WHERE view = 'bad' ORDER BY id OFFSET 1");
my $attempts = 1 + @seconds;
note("seconds between the attempts: @seconds");
cmp_ok($attempts, '>=', 4, 'four times by now');
foreach my $i (0 .. $#seconds)
{
	cmp_ok($seconds[$i], '>', 2**$i - 0.01,
		'the pause before attempt ' . ($i + 2) . ' is doubled');
	cmp_ok($seconds[$i], '<', 2**$i + 8, 'and not more than that');
}
is( history('failures', "view = 'bad'"),
	join("\n", 1 .. $attempts),
	'its failures in a row are counted');
my @cycles = cycles(log_since($node, $offset), $configuration);
is( join(' ', map { join('+', @{ $_->{views} }) } @cycles),
	join(' ',
		'other+bad+reader+further',
		('bad+reader+further') x ($attempts - 1)),
	'those that read it are taken along, others are not');
is( $node->safe_psql(
		'postgres',
		'SELECT views, refreshed, failed, skipped, attempts, is_whole
		 FROM bigbrotr_refresher.cycles ORDER BY cycle_start'),
	join("\n", '4|3|1|0|4|t', ('3|2|1|0|3|f') x ($attempts - 1)),
	'the first cycle was of all views, those after it only of some');
is( $node->safe_psql(
		'postgres', 'SELECT view FROM bigbrotr_refresher.timeline()'),
	"other\nbad\nreader\nfurther",
	'that one is drawn, not the last');
is( $node->safe_psql(
		'postgres',
		'SELECT count(*), count(DISTINCT schedule_start),
			bool_and(schedule_start = (SELECT min(cycle_start)
				FROM bigbrotr_refresher.history))
		 FROM bigbrotr_refresher.history'),
	4 + 3 * ($attempts - 1) . '|1|t',
	'the schedule of none of them moves');
is( $node->safe_psql(
		'postgres',
		'SELECT view, p.due - (SELECT min(cycle_start)
			FROM bigbrotr_refresher.history)
		 FROM bigbrotr_refresher.plan() AS p
		 WHERE view <> \'bad\' ORDER BY view'),
	"further|03:00:00\nother|01:00:00\nreader|01:00:00",
	'they are due when they were');

# A new worker knows how far it was.
unlike(renew('restart'), qr/cycle_started/,
	'a new worker goes on where the last one was');
is( $node->safe_psql(
		'postgres',
		"SELECT p.due - (SELECT min(cycle_start)
			FROM bigbrotr_refresher.history)
		 FROM bigbrotr_refresher.plan() AS p WHERE view = 'bad'"),
	'01:00:00',
	'nothing is tried later than its interval');

# Repaired
$node->safe_psql('postgres', 'UPDATE source SET x = 1');
$offset = log_size($node);
configure($node, $retry => '1s');
$log = wait_for_line($node, 'cycle_completed refreshed=3 failed=0', $offset);
is(outcomes($log), 'bad reader further', 'repaired, it is refreshed');
wait_for_rest($node, 'postgres');
is( $node->safe_psql(
		'postgres',
		"SELECT p.due - (SELECT min(cycle_start)
			FROM bigbrotr_refresher.history)
		 FROM bigbrotr_refresher.plan() AS p WHERE view = 'bad'"),
	'01:00:00',
	'and due again when it would have been, had nothing happened');
is( $node->safe_psql('postgres',
		"SELECT failures FROM bigbrotr_refresher.views WHERE view = 'bad'"),
	'0',
	'with no failure left');

# No retries at all
$node->safe_psql('postgres', 'UPDATE source SET x = 0');
configure($node, $retry => 0);
is(run_all(), '4|3|1', 'it fails again, on request');
wait_for_rest($node, 'postgres');
is( $node->safe_psql(
		'postgres',
		"SELECT count(*) FROM bigbrotr_refresher.plan() AS p
		 WHERE p.due < (SELECT max(cycle_start) + interval '1 hour'
			FROM bigbrotr_refresher.history)"),
	'0',
	'without retries it waits for its interval');

# What somebody else repaired is not tried again.
configure_and_rest($node, $retry => '10min');
wait_for_rest($node, 'postgres');
is( $node->safe_psql(
		'postgres',
		"SELECT s.next_due < now() + interval '30 minutes'
		 FROM bigbrotr_refresher.status() AS s"),
	't',
	'with retries it does not');
$node->safe_psql('postgres', 'UPDATE source SET x = 1');
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('bad')");
ok( $node->poll_query_until(
		'postgres',
		"SELECT s.next_due > now() + interval '30 minutes'
			AND s.next_due = (SELECT min(due) FROM bigbrotr_refresher.plan())
		 FROM bigbrotr_refresher.status() AS s"),
	'what somebody refreshed meanwhile is not tried again');

$node->stop;
done_testing();
