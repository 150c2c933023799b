# Whoever locks the tables of the history, makes them slow or changes their
# columns holds up neither a refresh nor a reader; and a cancel stays a cancel.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $retention = 'bigbrotr_refresher.history_retention';
my $timeout = 'bigbrotr_refresher.refresh_timeout';
my $node = new_node(
	'history_locks',
	views => 'held',
	interval => '7d',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE MATERIALIZED VIEW held AS SELECT 1 AS x;
	CREATE FUNCTION alone_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.outcome = 'refreshed' THEN
			PERFORM pg_sleep(3600);
		END IF;
		RETURN NEW;
	END $$;
	CREATE FUNCTION cancelled() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.outcome = 'refreshed' THEN
			PERFORM pg_cancel_backend(pg_backend_pid());
			PERFORM pg_sleep(3600);
		END IF;
		RETURN NEW;
	END $$;
});
wait_for_rest($node, 'postgres');

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub run_all
{
	return query(
		'SELECT views, refreshed, failed FROM bigbrotr_refresher.run(true)');
}

sub refresh
{
	my ($before) = @_;
	my ($code, $out, $err) = $node->psql('postgres',
		"$before; SELECT bigbrotr_refresher.refresh('held')");

	return "$code:$err";
}

run_all();
wait_for_rest($node, 'postgres');

# ---- locks ------------------------------------------------------------------

my $session = $node->background_psql('postgres');

# Without a limit, each of these waits for as long as the lock is held.
foreach my $case (
	[ 'history', 'LOCK TABLE bigbrotr_refresher.history' ],
	[
		'history', 'LOCK TABLE bigbrotr_refresher.history IN SHARE MODE'
	],
	[ 'view_state', 'LOCK TABLE bigbrotr_refresher.view_state' ],
	[
		'view_state',
		'SELECT FROM bigbrotr_refresher.view_state FOR UPDATE'
	])
{
	my ($table, $statement) = @$case;
	my $other = $table eq 'history' ? 'view_state' : 'history';
	my $column =
	  $table eq 'history' ? 'max(last_attempt)' : 'max(started_at)';
	my $offset = log_size($node);
	my $before = query("SELECT $column FROM bigbrotr_refresher.$other");

	$session->query_safe("BEGIN; $statement");
	is(run_all(), '1|1|0', "$statement: views are refreshed");
	my $log = log_since($node, $offset);
	like(
		$log,
		qr/WARNING:  bigbrotr_refresher: history_failed view=held error="\\"bigbrotr_refresher\.$table\\" was locked or busy for too long"/,
		'the log says what is lost');
	unlike($log, qr/history_failed.*bigbrotr_refresher\.$other/,
		'and it is not all');
	isnt(query("SELECT $column FROM bigbrotr_refresher.$other"),
		$before, 'for the other table is written');
	like(
		refresh("SET client_min_messages = warning"),
		qr/^0:.*WARNING: .*history_failed view=held .*was locked or busy/s,
		'a session does not wait either');
	like(refresh("SET lock_timeout = '1ms'"),
		qr/^0:.*history_failed/s, 'whatever it has set');
	$session->query_safe('ROLLBACK');
	$offset = log_size($node);
	is(run_all(), '1|1|0', 'when the lock is gone');
	unlike(log_since($node, $offset), qr/history_failed/, 'all is written');
}

# Both at once take no longer than both alone.
$session->query_safe(
	'BEGIN; LOCK TABLE bigbrotr_refresher.history, bigbrotr_refresher.view_state'
);
is(run_all(), '1|1|0', 'with both locked, views are refreshed');
like(refresh('SELECT'), qr/^0:/, 'by sessions too');

# A worker that starts does not wait, nor does what deletes old rows.
wait_for_rest($node, 'postgres');
my $offset = log_size($node);
configure($node, $retention => '1s');
wait_for_line($node, 'view_refreshed view=held', $offset);
wait_for_line(
	$node,
	'history_failed error="\\\\"bigbrotr_refresher\.history\\\\" was locked or busy for too long"',
	$offset);
$session->query_safe('ROLLBACK');
configure($node, $retention => undef);
is(run_all(), '1|1|0', 'a worker starts, and goes on');

# A session that has read before waits for the one that refreshes.
$session->query_safe(
	"BEGIN; SELECT bigbrotr_refresher.refresh('alone')");
configure($node, views => 'alone');
is(run_all(), '1|1|0', 'two sessions may refresh what is not locked');
$session->query_safe('COMMIT');
configure($node, views => 'held');
is(run_all(), '1|1|0', 'and a view');

# ---- triggers, and cancel requests --------------------------------------------

foreach my $table ('history', 'view_state')
{
	query("CREATE TRIGGER hold BEFORE INSERT ON bigbrotr_refresher.$table
		FOR EACH ROW EXECUTE FUNCTION slow()");
	$offset = log_size($node);
	is(run_all(), '1|1|0', "a slow trigger of $table ends");
	like(
		log_since($node, $offset),
		qr/history_failed view=held error="\\"bigbrotr_refresher\.$table\\" was locked or busy/,
		'with its row');

	# What others cancel is cancelled.
	configure($node, $timeout => '100ms');
	$offset = log_size($node);
	is(run_all(), '1|0|1', 'refresh_timeout ends the refresh');
	my $log = log_since($node, $offset);
	like($log, qr/view_refresh_failed view=held .*sqlstate=57014/,
		'as the log says');
	unlike($log, qr/history_failed/, 'and nothing else');
	configure($node, $timeout => undef);

	query("DROP TRIGGER hold ON bigbrotr_refresher.$table;
		CREATE TRIGGER hold BEFORE INSERT ON bigbrotr_refresher.$table
		FOR EACH ROW EXECUTE FUNCTION cancelled()");
	$offset = log_size($node);
	is(run_all(), '1|0|1', 'so does a cancel request');
	$log = log_since($node, $offset);
	like($log, qr/view_refresh_failed view=held .*sqlstate=57014/,
		'as the log says');
	unlike($log, qr/history_failed/, 'and nothing else');
	like(refresh('SELECT'), qr/^3:.*canceling statement due to user request/,
		'in a session, too');
	is( query(
			q{DO $$ BEGIN
				PERFORM bigbrotr_refresher.refresh('held');
			EXCEPTION WHEN query_canceled THEN
				CREATE TABLE caught ();
			END $$;
			DROP TABLE caught;
			SELECT 'on'}),
		'on',
		'where it can be caught');
	query("DROP TRIGGER hold ON bigbrotr_refresher.$table");
}
is(run_all(), '1|1|0', 'without them, all is well');
no_worker_failed($node, 0, 'no worker has ended for that');

# ---- a snapshot that is older than the state --------------------------------------

$session->query_safe(
	'BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT count(*) FROM bigbrotr_refresher.history');
configure($node, views => 'alone');
run_all();
my $rows = query('SELECT count(*) FROM bigbrotr_refresher.history');
$session->query("SELECT bigbrotr_refresher.refresh('alone'); COMMIT");
is(query('SELECT count(*) FROM bigbrotr_refresher.history'),
	$rows + 1, 'a refresh by an old snapshot has its row');
$session->quit;

# ---- columns of other types ---------------------------------------------------------

configure($node, views => 'held');
my @types = (
	cycle_start => 'bigint',
	schedule_start => 'text',
	data_as_of => 'date',
	failures => 'text',
	refresh_duration => 'bigint',
	change_mark => 'bigint');
while (my ($column, $type) = splice(@types, 0, 2))
{
	my $value = $type eq 'date' ? "'2026-01-01'" : "'4711'";

	query("ALTER TABLE bigbrotr_refresher.view_state
			RENAME $column TO renamed;
		ALTER TABLE bigbrotr_refresher.view_state
			ADD COLUMN $column $type DEFAULT $value;
		ALTER TABLE bigbrotr_refresher.view_state
			ALTER COLUMN renamed DROP NOT NULL");
	my ($code, $out, $err) =
	  $node->psql('postgres', 'SELECT count(*) FROM bigbrotr_refresher.plan()');
	is("$code:$out", '0:1', "with a column $column of type $type, there is a plan");
	like(
		$err,
		qr/WARNING: .*history_failed view=held error="column \\"$column\\" is of type $type, not /,
		'and a warning');
	wait_for_rest($node, 'postgres');
	$offset = log_size($node);
	query('SELECT pg_reload_conf()');
	wait_for_line($node, 'history_failed view=held error="column', $offset);
	wait_for_line($node, 'view_refreshed view=held', $offset);
	query("ALTER TABLE bigbrotr_refresher.view_state DROP COLUMN $column;
		ALTER TABLE bigbrotr_refresher.view_state
			RENAME renamed TO $column");
}
query('UPDATE bigbrotr_refresher.view_state SET failures = 0');
is(run_all(), '1|1|0', 'a worker goes on');

nothing_broke($node);
$node->stop;
done_testing();
