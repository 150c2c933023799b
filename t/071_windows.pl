# Windows, one thing at a time: what holds them back, backlogs, checkpoints
# that were restored, rows that came from another server, several processes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Windows;

my @targets = ('by_xid', 'by_second', 'by_time');
my $node = windows_node(
	'windows',
	allows_streaming => 'logical',
	interval => '1d',
	views => join(', ', @targets));
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
make_source($node);
make_target($node, 'by_xid', 'xid8');
make_target($node, 'by_second', 'bigint');
make_target($node, 'by_time', 'timestamptz');

# run(): all targets are folded as far as they can be now; returns the log.
sub run
{
	my $offset = log_size($node);

	$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run(true)');
	return last_cycle(log_since($node, $offset));
}

# Fold until whatever has been written so far is in each of the targets.
sub run_to_end
{
	my (@names) = @_;
	my $list = join ', ', map { "'public.$_'" } @names;

	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS finished;
		CREATE TABLE finished AS SELECT clock_timestamp() AS at, pg_current_xact_id() AS by');
	wait_until(
		'the windows get to the end',
		sub {
			run();
			$node->safe_psql('postgres',
				"SELECT bool_and(CASE kind WHEN 'xid8' THEN until::xid8 > by
					WHEN 'bigint' THEN until::bigint > extract(epoch FROM at)
					ELSE until::timestamptz > at END)
				FROM bigbrotr_refresher.windows, finished
				WHERE target IN ($list)") eq 't';
		});
	is(differences($node, @names), '', "folded exactly once: @names");
	return;
}

sub preview
{
	my ($target) = @_;

	return $node->safe_psql('postgres',
		"SELECT held_back_by FROM bigbrotr_refresher.views WHERE view = '$target'");
}

my $log = run();
like($log, qr/view_refreshed view=by_xid duration=\S+ database=postgres rows=0$/m,
	'the log says how many rows were changed');
is( $node->safe_psql('postgres', q{
		SELECT view, method, window_after FROM bigbrotr_refresher.history
		WHERE outcome = 'refreshed' AND window_after IN ('0', '-infinity')
		ORDER BY view}),
	"by_second|window|0\nby_time|window|-infinity\nby_xid|window|0",
	'windows start at the beginning');
$node->safe_psql('postgres', 'SELECT write(1, 100)');
run_to_end(@targets);
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM bigbrotr_refresher.views
		WHERE data_as_of > now() - interval '1 min' AND outcome <> 'failed'
			AND window_after IS NOT NULL AND window_until IS NOT NULL
			AND window_backlog IS NOT NULL}),
	'3', 'views shows the windows and the age of the data');

# ---- who holds windows back ------------------------------------------------------

my $reader = session($node, 'postgres');
my $reader_pid = $reader->query_safe('SELECT pg_backend_pid()');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT 1');
my $since = $node->safe_psql('postgres',
	"SELECT xact_start FROM pg_stat_activity WHERE pid = $reader_pid");
$node->safe_psql('postgres', 'SELECT write(2, 10)');
run_to_end('by_xid');
is(preview('by_xid'), '', 'an idle reader does not hold back windows by transaction');
is(preview('by_time'), $reader_pid, 'it does hold back those by time');
is( $node->safe_psql('postgres',
		"SELECT held_back_since = '$since' FROM bigbrotr_refresher.plan() WHERE view = 'by_second'"),
	't', 'and plan() says since when');
wait_until('the window is as large as it gets',
	sub { run() =~ /view_skipped view=by_time reason=empty_window/ });
is( $node->safe_psql('postgres', "SELECT until::timestamptz = '$since'::timestamptz - interval '5.000001 s'
		FROM bigbrotr_refresher.windows WHERE target = 'public.by_time'"),
	't', 'the window ends before it');
# One whose start is hidden counts from the start of its session.
$reader->query_safe('COMMIT');
$reader->query_safe('SET track_activities = off');
$reader->query_safe('BEGIN');
is(preview('by_time'), $reader_pid, 'a hidden transaction holds back windows');
is( $node->safe_psql('postgres',
		"SELECT held_back_since = (SELECT backend_start FROM pg_stat_activity WHERE pid = $reader_pid)
		FROM bigbrotr_refresher.plan() WHERE view = 'by_time'"),
	't', 'from the start of its session');
$reader->query_safe('COMMIT');
is(preview('by_time'), '', 'without a transaction, nobody does');

# A walsender does if its client sends SQL, but not while it streams.
my $sender = session($node, 'postgres', replication => 'database');
my $sender_pid = $sender->query_safe('SELECT pg_backend_pid()');
$sender->query_safe('BEGIN');
$sender->query_safe('SELECT write(3)');
is(preview('by_time'), $sender_pid, 'SQL in a walsender holds back windows');
is(preview('by_xid'), $sender_pid, 'also by transaction');
$sender->query_safe('COMMIT');
$sender->quit;
$node->safe_psql('postgres', q{
	CREATE PUBLICATION nothing;
	SELECT pg_create_logical_replication_slot('stream', 'pgoutput')});
my $stream = IPC::Run::start(
	[
		'pg_recvlogical', '--start', '-n', '-S', 'stream', '-f', '-',
		'-o', 'proto_version=1', '-o', 'publication_names=nothing',
		'-d', $node->connstr('postgres')
	],
	'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
  or die 'nothing is streamed';
is(preview('by_time'), '', 'a walsender that streams does not');
$stream->signal('INT');
$stream->finish;
$node->poll_query_until('postgres',
	"SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'stream'")
  or die 'the stream does not end';
$node->safe_psql('postgres', q{
	SELECT pg_drop_replication_slot('stream');
	DROP PUBLICATION nothing});

# By transaction, it is whoever has the oldest number.
$reader->query_safe('RESET track_activities');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT write(3)');
run();
is(preview('by_xid'), $reader_pid, 'a writer holds back windows by transaction');

# ---- prepared transactions -------------------------------------------------------

$reader->query_safe("PREPARE TRANSACTION 'held'");
run();
is(preview($_), '0', "a prepared transaction holds back $_") foreach @targets;
$node->safe_psql('postgres', 'SELECT write(4, 20)');
run() foreach 1 .. 2;
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM bigbrotr_refresher.windows AS w, pg_prepared_xacts AS p
		WHERE w.kind <> 'xid8' AND w.prepared = ARRAY[p.transaction]
			AND w.prepared_since[1] <= p.prepared}),
	'2', 'it keeps the bound that it had');
is( $node->safe_psql('postgres', q{
		SELECT sum(n) FROM by_time WHERE kind IN (3, 4)}),
	'', 'what comes with it and after it is not folded yet');
# After a crash it is there as before.
$reader->quit;
$node->stop('immediate');
$node->start;
run();
is(preview('by_time'), '0', 'after a crash, it still does');
$node->safe_psql('postgres', "COMMIT PREPARED 'held'");

# One that ends as the next is there already does not hold windows for ever.
$node->safe_psql('postgres', "BEGIN; SELECT write(5); PREPARE TRANSACTION 'p0'");
my $until = 'SELECT until::timestamptz FROM bigbrotr_refresher.windows WHERE target = $$public.by_time$$';
my $before = $node->safe_psql('postgres', $until);
my $turn = 0;
wait_until(
	'windows go on beside prepared transactions',
	sub {
		my $next = $turn + 1;

		$node->safe_psql('postgres',
			"BEGIN; SELECT write(5); PREPARE TRANSACTION 'p$next'");
		$node->safe_psql('postgres', "COMMIT PREPARED 'p$turn'");
		$turn = $next;
		run();
		return $node->safe_psql('postgres', "SELECT ($until) > '$before'::timestamptz") eq 't';
	});
$node->safe_psql('postgres', "ROLLBACK PREPARED 'p$turn'");

# If the checkpoint is younger, it is not known when they began.
$node->safe_psql('postgres', "BEGIN; SELECT write(5); PREPARE TRANSACTION 'before'");
$node->safe_psql('postgres', q{SELECT bigbrotr_refresher.set_window('by_time', until)
	FROM bigbrotr_refresher.windows WHERE target = 'public.by_time'});
is( $node->safe_psql('postgres', q{SELECT held_back_by, held_back_since = prepared
		FROM bigbrotr_refresher.views, pg_prepared_xacts WHERE view = 'by_time'}),
	'0|t', 'one that is older than the checkpoint holds back since it was prepared');
like($node->safe_psql('postgres', 'SELECT bigbrotr_refresher.board()'),
	qr/a prepared transaction holds it back for \d/, 'which the board can show');
$node->safe_psql('postgres', "COMMIT PREPARED 'before'");

# ---- refreshes of views are not waited for ------------------------------------------

my $gate = hold($node, 'postgres', 71);
$node->safe_psql('postgres', q{
	CREATE FUNCTION gate() RETURNS int LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(71); SELECT 1';
	CREATE VIEW gated AS SELECT 1 AS n;
	CREATE MATERIALIZED VIEW slow AS SELECT n FROM gated;
	CREATE MATERIALIZED VIEW slow_too AS SELECT n FROM gated;
	CREATE OR REPLACE VIEW gated AS SELECT gate() AS n;
});
configure($node, views => 'slow');
wait_for_waiter($node, 'postgres', 71);
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.set_window('by_time', now()::text)");
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('by_time')");
is( $node->safe_psql('postgres', q{
		SELECT looked_at > (SELECT xact_start FROM pg_stat_activity
			WHERE backend_type = 'bigbrotr_refresher')
		FROM bigbrotr_refresher.windows WHERE target = 'public.by_time'}),
	'', 'an empty window leaves the checkpoint alone');
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.set_window('by_time', (now() - interval '1 min')::text)");
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('by_time')");
is( $node->safe_psql('postgres', q{
		SELECT looked_at > (SELECT xact_start FROM pg_stat_activity
			WHERE backend_type = 'bigbrotr_refresher')
		FROM bigbrotr_refresher.windows WHERE target = 'public.by_time'}),
	't', 'and is not waited for');
$gate->quit;
configure_and_rest($node, views => join(', ', @targets));

# An event trigger may write something.
$gate = hold($node, 'postgres', 71);
$node->safe_psql('postgres', q{
	CREATE FUNCTION on_refresh() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM public.write(11); END $$;
	CREATE EVENT TRIGGER on_refresh ON ddl_command_end
		WHEN TAG IN ('REFRESH MATERIALIZED VIEW') EXECUTE FUNCTION on_refresh()});
configure($node, views => 'slow_too');
wait_for_waiter($node, 'postgres', 71);
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('by_time')");
is( $node->safe_psql('postgres', q{
		SELECT until::timestamptz < (SELECT xact_start FROM pg_stat_activity
			WHERE backend_type = 'bigbrotr_refresher') - interval '5 s'
		FROM bigbrotr_refresher.windows WHERE target = 'public.by_time'}),
	't', 'one that may write by an event trigger is waited for');
$gate->quit;
configure_and_rest($node, views => join(', ', @targets));
is($node->safe_psql('postgres', 'SELECT count(*) FROM rows WHERE kind = 11'),
	'1', 'what it has written is there');
$node->safe_psql('postgres', 'DROP EVENT TRIGGER on_refresh; DROP FUNCTION on_refresh()');

# ---- again from the beginning, in parts ---------------------------------------------

$node->safe_psql('postgres', q{
	BEGIN;
	TRUNCATE by_xid, by_second, by_time;
	SELECT bigbrotr_refresher.set_window('by_xid', min(by::text::bigint)::text),
		bigbrotr_refresher.set_window('by_second', (min(second) - 1)::text),
		bigbrotr_refresher.set_window('by_time', (min(at) - interval '1 s')::text) FROM rows;
	COMMIT;
	DELETE FROM bigbrotr_refresher.history;
	DO $$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM write(6); COMMIT; END LOOP; END $$;
});
configure_and_rest($node, 'bigbrotr_refresher.max_window' => '1s');
run();
run_to_end(@targets);
is(gaps($node), '', 'a backlog is cut without a gap');
cmp_ok(
	$node->safe_psql('postgres', "SELECT min(n) FROM (SELECT count(*) AS n
		FROM bigbrotr_refresher.history WHERE outcome = 'refreshed' GROUP BY view) AS h"),
	'>', 3, 'into windows, each with a row in the history');
is( $node->safe_psql(
		'postgres',
		'SELECT bool_or(attempts > views),
			bool_and(views = refreshed + failed + skipped), max(refreshed)
		 FROM bigbrotr_refresher.cycles'),
	't|t|' . @targets, 'though each table counts once in its cycle');
is( $node->safe_psql('postgres', q{
		SELECT max(window_until::bigint - window_after::bigint) <= 100 FROM bigbrotr_refresher.history
		WHERE view = 'by_xid'}),
	't', 'none too large by transaction');
is( $node->safe_psql('postgres', q{
		SELECT max(window_until::timestamptz - window_after::timestamptz) <= interval '1 s'
		FROM bigbrotr_refresher.history WHERE view = 'by_time'}),
	't', 'nor by time');

# refresh() folds a backlog too, in one transaction.
$node->safe_psql('postgres', q{
	BEGIN;
	TRUNCATE by_xid;
	SELECT bigbrotr_refresher.set_window('by_xid', '3');
	COMMIT;
	SELECT bigbrotr_refresher.refresh('by_xid')});
is(differences($node, 'by_xid'), '', 'refresh() folds all of a backlog');
configure_and_rest($node, 'bigbrotr_refresher.max_window' => '0');

# ---- limits of one view ------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE TABLE modes (mode text, since timestamptz)');
make_target($node, 'by_mode', 'xid8',
	q{INSERT INTO modes SELECT current_setting('app.mode', true), refreshing_since[1]
		FROM bigbrotr_refresher.status() WHERE database = current_database();});
configure_and_rest($node,
	views => 'by_mode (max_window = 1s, app.mode = x), by_second (window_delay = 1h), by_time');
my $anew = q{
	BEGIN;
	TRUNCATE by_mode, by_second, by_time, modes;
	SELECT bigbrotr_refresher.set_window('by_mode', min(by::text::bigint)::text),
		bigbrotr_refresher.set_window('by_second', '1'),
		bigbrotr_refresher.set_window('by_time', (min(at) - interval '1 s')::text) FROM rows;
	COMMIT;
	DELETE FROM bigbrotr_refresher.history;};
$node->safe_psql('postgres', $anew);
is( $node->safe_psql('postgres', q{
		SELECT view, CASE view WHEN 'by_mode' THEN window_until::bigint - window_after::bigint = 100
			WHEN 'by_second' THEN extract(epoch FROM now()) - window_until::bigint BETWEEN 3601 AND 3700
			ELSE window_until::timestamptz > now() - interval '1 min' END
		FROM bigbrotr_refresher.plan()}),
	"by_mode|t\nby_second|t\nby_time|t",
	'plan() heeds the limits of each view');
run();
my $folded = q{
	SELECT view, count(*) > 2, bool_and(CASE view WHEN 'by_mode' THEN window_until::bigint - window_after::bigint <= 100
			WHEN 'by_second' THEN extract(epoch FROM now()) - window_until::bigint > 3600
			ELSE window_until::timestamptz > now() - interval '1 min' END)
	FROM bigbrotr_refresher.history WHERE outcome = 'refreshed' GROUP BY view ORDER BY view};
is( $node->safe_psql('postgres', $folded),
	"by_mode|t|t\nby_second|f|t\nby_time|f|t", 'and so does the worker');
my $modes = 'SELECT count(*) > 2, bool_and(mode IS NOT DISTINCT FROM $$x$$) FROM modes';
is($node->safe_psql('postgres', $modes),
	't|t', 'the settings of a view hold for each window of a backlog');
is( $node->safe_psql('postgres', 'SELECT count(*) = count(DISTINCT since) FROM modes'),
	't', 'the status tells since when each of them is folded');
is(differences($node, 'by_mode'), '', 'folded exactly once');
$node->safe_psql('postgres', $anew);
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('$_')")
  foreach 'by_mode', 'by_second', 'by_time';
is( $node->safe_psql('postgres', $folded),
	"by_mode|t|t\nby_second|f|t\nby_time|f|t", 'and refresh()');
is($node->safe_psql('postgres', $modes), 't|t', 'with the settings');
$node->safe_psql('postgres', q{
	DROP TABLE by_mode;
	DROP FUNCTION by_mode_refresh(xid8, xid8);
	BEGIN;
	TRUNCATE by_second;
	SELECT bigbrotr_refresher.set_window('by_second', (min(second) - 1)::text) FROM rows;
	COMMIT;});
configure_and_rest($node, views => join(', ', @targets));

# ---- several at once --------------------------------------------------------------

my $first = session($node, 'postgres');
$node->safe_psql('postgres', 'SELECT write(7, 7)');
$first->query_safe("BEGIN; SELECT bigbrotr_refresher.refresh('by_xid')");
$node->safe_psql('postgres', 'SELECT write(7, 8)');
my $second = session($node, 'postgres');
$second->query_until(qr/go/, "\\echo go\nSELECT bigbrotr_refresher.refresh('by_xid');\n");
$node->poll_query_until('postgres',
	"SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'
		AND query ~ 'by_xid' AND pid <> pg_backend_pid()")
  or die 'nobody waits';
$first->query_safe('COMMIT');
$second->query_safe('SELECT 1');
run_to_end('by_xid');
$first->quit;
$second->quit;

# ---- what becomes of the history does not matter ---------------------------------------

$node->safe_psql('postgres', 'TRUNCATE bigbrotr_refresher.history, bigbrotr_refresher.view_state;
	SELECT write(8, 8)');
run_to_end('by_xid');

# ---- a dump ------------------------------------------------------------------------

# From a dump, windows by transaction do not go on; by time they do.
my $dump = $node->backup_dir . '.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
my $copy = windows_node('copy', interval => '1d', views => '');
$copy->start;
$copy->command_ok([ 'psql', '-X', '-q', '-f', $dump, 'postgres' ], 'and restored');
my ($status, undef, $error) = $copy->psql('postgres', "SELECT bigbrotr_refresher.refresh('by_xid')");
like($error, qr/checkpoint of "public.by_xid" was not written by this server\n.*HINT:  .*set_window/s,
	'in another cluster, windows by transaction do not go on');
is( $copy->psql('postgres', "SELECT bigbrotr_refresher.refresh('by_time')"),
	0, 'by time, they do');
# Rows have the numbers of the other cluster.
$copy->safe_psql('postgres', q{
	BEGIN;
	UPDATE rows SET by = '0';
	SELECT bigbrotr_refresher.set_window('by_xid', pg_snapshot_xmin(pg_current_snapshot())::text);
	SELECT write(9, 9);
	COMMIT;
	SELECT bigbrotr_refresher.refresh('by_xid')});
is(differences($copy, 'by_xid'), '', 'after set_window() they do');
$copy->stop;

# ---- the extension ---------------------------------------------------------------------

$node->safe_psql('postgres', 'DROP EXTENSION bigbrotr_refresher');
$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
$log = run();
like($log, qr/view_refresh_failed view=$_ \S+ sqlstate=55000 error="there is no checkpoint of/,
	"without a checkpoint, $_ is not folded anew") foreach @targets;
$node->safe_psql('postgres', q{
	BEGIN;
	TRUNCATE by_xid, by_second;
	COMMIT;
	SELECT bigbrotr_refresher.set_window('by_time', (max(at) + interval '1 us')::text) FROM rows});
run_to_end('by_xid');

# ---- a subscriber ----------------------------------------------------------------------

# The column is not replicated, so it says which of its own transactions has
# brought a row.
my $publisher = new_node('publisher', databases => '', allows_streaming => 'logical');
$publisher->start;
$publisher->safe_psql('postgres', q{
	CREATE TABLE rows (id bigint, kind int);
	INSERT INTO rows SELECT n, 100 FROM generate_series(1, 100) AS n;
	CREATE PUBLICATION p FOR TABLE rows;
});
$node->safe_psql('postgres', 'ALTER TABLE rows ALTER id DROP IDENTITY');
my $connection = join ' ', 'host=' . $publisher->host,
  'port=' . $publisher->port, 'dbname=postgres';
$node->safe_psql('postgres',
	"CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p");
$node->wait_for_subscription_sync($publisher, 's');
run_to_end('by_xid');
foreach my $part (1 .. 5)
{
	$publisher->safe_psql('postgres',
		"INSERT INTO rows SELECT n, 101 FROM generate_series(1, 20) AS n");
	run();
}
$publisher->wait_for_catchup('s');
run_to_end('by_xid');
is($node->safe_psql('postgres', 'SELECT n FROM by_xid WHERE kind = 101'),
	'100', 'what is replicated is folded');

nothing_broke($node);
$node->stop;
$publisher->stop;
done_testing();
