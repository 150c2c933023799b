# run(): who waits for whom.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'asked',
	views => 'held',
	interval => '1h',
	max_worker_processes => 2,
	max_logical_replication_workers => 0,
	databases => 'postgres, second');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE a ();
	CREATE TABLE b ();
	CREATE FUNCTION held_refresh() RETURNS void
	LANGUAGE plpgsql AS 'BEGIN LOCK TABLE b; END';
	CREATE DATABASE second TEMPLATE template0});
$node->safe_psql('second', 'CREATE EXTENSION bigbrotr_refresher');
$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run(true)');

# The cycle waits for B, which waits for A, which waits for the cycle.
my $first = $node->background_psql('postgres', on_error_stop => 0);
my $second = $node->background_psql('postgres', on_error_stop => 0);

$first->query_safe('BEGIN; LOCK TABLE a');
my $pid = $second->query_safe('SELECT pg_backend_pid()');
$second->query_safe('BEGIN; LOCK TABLE b');
$second->query_until(qr/begun/, "\\echo begun\nLOCK TABLE a;\n");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_locks WHERE pid = $pid AND NOT granted")
  or die 'the second session does not wait';
$first->query('SELECT * FROM bigbrotr_refresher.run(true)');
like($first->{stderr}, qr/ERROR:  deadlock detected/,
	'a cycle that waits for this through another session is not waited for');
like(
	$first->{stderr},
	qr/DETAIL:  This session waits for a cycle, which waits for process $pid, which waits for a lock of this session\./,
	'as the error says');
eval { $first->query('ROLLBACK') };
eval { $second->query('ROLLBACK') };
is( $node->safe_psql('postgres',
		'SELECT refreshed FROM bigbrotr_refresher.run(true)'),
	'1',
	'then the cycle goes on');
$first->quit;
$second->quit;

# There is one place for a worker, which another database has.
my $lock = hold($node, 'postgres', 1);
$node->safe_psql('postgres', 'CREATE OR REPLACE FUNCTION held_refresh()
	RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(1) $$;
	SELECT bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
my $waiting = session($node, 'second');
$waiting->query_until(qr/begun/, "\\echo begun
SELECT views, failed FROM bigbrotr_refresher.run(true);\n");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity
	 WHERE datname = 'second' AND backend_type = 'client backend'
		AND wait_event_type = 'Extension'")
  or die 'the session does not wait';
is(worker_pid($node, 'second'), '', 'there is no place for another worker');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
like($waiting->query_safe('SELECT'),
	qr/1\|1/, 'who waits is answered when there is');
$waiting->quit;
$lock->quit;

$node->stop;
done_testing();
