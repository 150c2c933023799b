# A worker that has grown too large gives way to another one, without anything
# being refreshed too early or too late.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'retire',
	views => 'small',
	interval => '1h',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;

# Each shape of a row takes memory for as long as the process lives, about
# 150 kB with so many columns.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE shapes (value text, first int, last int);
	INSERT INTO shapes VALUES ('1', 1001, 1010);
	CREATE FUNCTION small_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION large_refresh() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		range shapes;
	BEGIN
		SELECT * INTO range FROM shapes;
		FOR n IN range.first .. range.last LOOP
			EXECUTE format('SELECT ROW (%s%s)', range.value,
				repeat(', 1', n));
		END LOOP;
	END $$;
});

sub run_cycle
{
	return $node->safe_psql('postgres',
		'SELECT views, refreshed FROM bigbrotr_refresher.run(true)');
}

sub grow
{
	my ($value, $first, $last) = @_;

	$node->safe_psql('postgres',
		"UPDATE shapes SET value = '$value', first = $first, last = $last");
	return run_cycle();
}

# Wait until the worker rests, then say which it is.
sub resting_worker
{
	$node->poll_query_until('postgres',
		"SELECT query LIKE 'next refresh due%' FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher'")
	  or die 'the worker does not rest';
	return worker_pid($node, 'postgres');
}

my $worker = wait_for_pid($node, 'postgres');
configure($node, views => 'small, large');
is(run_cycle(), '2|2', 'a cycle');
is(resting_worker(), $worker, 'a worker that has hardly grown stays');

my $offset = log_size($node);
is(grow('1', 1001, 1600), '2|2', 'a cycle that takes much memory');
my $log = wait_for_line($node, 'worker_started', $offset);
like(
	$log,
	qr/^[^\n]* \[$worker\] 00000 LOG:  bigbrotr_refresher: worker_retired database=postgres memory=\d{8,}\b/m,
	'a worker that has grown too large says so');
my $successor = wait_for_pid($node, 'postgres', $worker);
isnt($successor, $worker, 'and is replaced by another one');
is(resting_worker(), $successor, 'which rests');
is(scalar(() = log_since($node, $offset) =~ /cycle_started/g),
	1, 'for nothing is due again');
is( $node->safe_psql(
		'postgres',
		"SELECT count(DISTINCT h.cycle_start), bool_and(v.due =
			h.cycle_start + interval '1 hour')
		 FROM bigbrotr_refresher.plan() AS v,
			(SELECT max(cycle_start) AS cycle_start
			 FROM bigbrotr_refresher.history) AS h"),
	'1|t',
	'and the schedule goes on');

# Who asks for a cycle while there is no worker, gets it from the next one.
is(grow('1', 1001, 1010), '2|2', 'the first cycle of the new one');
$offset = log_size($node);
is(grow('now()', 1001, 1600), '2|2', 'another one that takes much');
wait_for_line($node, 'worker_retired', $offset);
$node->poll_query_until('postgres',
	"SELECT state = 'stopped' OR pid <> $successor
	 FROM bigbrotr_refresher.status")
  or die 'the worker does not end';
$worker = $successor;
is(grow('1', 1001, 1010), '2|2', 'a cycle can be run while one is replaced');
$successor = resting_worker();
isnt($successor, $worker, 'by the one that replaces it');

# Without a pause, or without a history to go on by, it takes more.
configure($node, 'bigbrotr_refresher.history_retention' => 0);
is(grow('1', 1001, 1600), '2|2', 'another one that takes much');
is(resting_worker(), $successor,
	'without a history, the worker may grow by more');
$offset = log_size($node);
is(grow('now()', 1001, 1600), '2|2', 'another one that takes even more');
wait_for_line($node, 'worker_retired', $offset);
pass('but not for ever');

# ---- a little, once all views were refreshed often --------------------------------

# The buffers of the temporary tables that this takes are no growth.
$node->safe_psql('postgres', q{
	CREATE MATERIALIZED VIEW rows AS SELECT n FROM generate_series(1, 4000) AS n;
	CREATE UNIQUE INDEX ON rows (n);
	CREATE FUNCTION run_cycles(n integer) RETURNS void LANGUAGE sql AS
		'SELECT bigbrotr_refresher.run(true) FROM generate_series(1, n)';
});
configure(
	$node,
	views => 'small, large, rows',
	'bigbrotr_refresher.history_retention' => '30d');
grow('1', 1001, 1010);
$worker = resting_worker();
$offset = log_size($node);
$node->safe_psql('postgres', 'SELECT run_cycles(100)');
is(resting_worker(), $worker, 'filling temp_buffers is no reason to retire');
is(grow('localtime', 1001, 1010),
	'3|3', 'a cycle that takes one megabyte more');
is(resting_worker(), $worker, 'nor is a little');
is(grow('localtime', 1001, 1100), '3|3', 'a cycle that takes more than half');
wait_for_line($node, 'worker_started', $offset);
pass('but to grow when nothing is new to the worker, is');
wait_for_pid($node, 'postgres', $worker);

$node->stop;
done_testing();
