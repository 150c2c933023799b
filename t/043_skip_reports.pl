# What is told of a view that is skipped; what is never skipped; and changes that
# come while a refresh waits, and are taken back before the next one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;

my $max_workers = 'bigbrotr_refresher.max_workers';

my $node = skipping_node('skip_reports',
	'bigbrotr_refresher.notify_channel' => 'refreshed');
$node->start;
make_different($node);
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE t (id int, a text);
	CREATE TABLE u (id int);
	CREATE TABLE gate (id int);
	INSERT INTO t VALUES (1, 'a');
	INSERT INTO u VALUES (1);
	CREATE MATERIALIZED VIEW one AS SELECT id, a FROM t;
	CREATE MATERIALIZED VIEW two AS SELECT id FROM one;
	CREATE MATERIALIZED VIEW "Odd; name" AS SELECT id FROM u;
	CREATE MATERIALIZED VIEW clock AS SELECT now() AS x;
});

sub value
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Of the newest row of a view
sub newest
{
	my ($view, $columns) = @_;

	return value(
		"SELECT $columns FROM bigbrotr_refresher.history
		 WHERE view = '$view' ORDER BY id DESC LIMIT 1");
}

# What is known of a view
sub state
{
	my ($view, $columns) = @_;

	return value(
		"SELECT $columns FROM bigbrotr_refresher.view_state
		 WHERE view = '$view'");
}

# "a:refreshed b:skipped", in the order of the names
sub outcomes_now
{
	my %outcome = next_outcomes($node);

	return join ' ', map { "$_:$outcome{$_}" } sort keys %outcome;
}

# ---- what is told -----------------------------------------------------------

configure($node, views => 'one, two, "Odd; name", clock');
my $log = next_cycle($node);
like($log, qr/cycle_completed refreshed=4 failed=0 skipped=0 duration/,
	'at first, the log counts four views refreshed');
my $listener = session($node, 'postgres');
$listener->query_safe('LISTEN refreshed');
my $mark = state('one', 'change_mark');
my $as_of = newest('one', 'data_as_of');
my $success =
  value("SELECT last_success FROM bigbrotr_refresher.views WHERE view = 'one'");
my $xmin = value("SELECT xmin FROM pg_class WHERE relname = 'one'");
my $skipped = value('SELECT skipped_total FROM bigbrotr_refresher.status()');

$log = next_cycle($node);
like($log, qr/cycle_completed refreshed=1 failed=0 skipped=3 duration/,
	'the log counts three views skipped');
like(
	$log,
	qr/LOG:  bigbrotr_refresher: view_skipped view=one reason=unchanged$more/,
	'and says why');
like(
	$log,
	qr/LOG:  bigbrotr_refresher: view_skipped view="\\"Odd; name\\"" reason=unchanged$more/,
	'in values that are quoted');
like($log, qr/view_refreshed view=clock /, 'what is not known is refreshed');
is( newest('one', 'outcome, method, sqlstate, error, failures, wal_bytes'),
	'skipped||||0|0', 'the history has a row of it');
is(state('one', 'change_mark'), $mark, 'what it read is kept');
is(newest('one', "data_as_of > '$as_of' AND data_as_of = started_at"),
	't', 'its data are as good as new');
is(state('clock', 'change_mark IS NULL'), 't', 'without a mark, none is kept');
is( value(
		"SELECT outcome, last_success = '$success', last_attempt > last_success,
			failures, data_as_of > '$as_of', is_degraded
		 FROM bigbrotr_refresher.views WHERE view = 'one'"),
	'skipped|t|t|0|t|f',
	'the view "views" shows it');
is(value("SELECT xmin FROM pg_class WHERE relname = 'one'"),
	$xmin, 'nothing was done to the view');
is( value(
		'SELECT last_views_total, last_views_refreshed, last_views_failed,
			last_views_skipped FROM bigbrotr_refresher.status()'),
	'4|1|0|3',
	'the status counts it');
cmp_ok(value('SELECT skipped_total FROM bigbrotr_refresher.status()'),
	'>=', $skipped + 3, 'in its totals, too');
is( value(
		"SELECT string_agg(view, ', ' ORDER BY view) FROM bigbrotr_refresher.timeline(
			(SELECT min(cycle_start) FROM bigbrotr_refresher.history
			 WHERE outcome = 'skipped'))
		 WHERE outcome = 'skipped' AND bar ~ '^ *[.]+ *\$'"),
	'"Odd; name", one, two',
	'the timeline draws it');
my $told = $listener->query_safe('SELECT 1');
like($told, qr/"refreshed" with payload "clock"/, 'NOTIFY tells what was refreshed');
unlike($told, qr/payload "one"/, 'and not what was skipped');
$listener->quit;

# ---- run() and refresh() --------------------------------------------------------

configure($node, enabled => 'on', interval => '1h');
is( value(
		'SELECT views, refreshed, failed, skipped
		 FROM bigbrotr_refresher.run(true)'),
	'4|4|0|0',
	'run() refreshes all the same');
configure($node, enabled => 'off', interval => '1s');
rest($node);
is(state('one', 'change_mark IS NOT NULL'), 't', 'and keeps the marks');
is( outcomes_now(),
	'"\\"Odd; name\\"":skipped clock:refreshed one:skipped two:skipped',
	'so that the next cycle skips what is unchanged');
change($node, q{INSERT INTO t VALUES (2);
	SELECT bigbrotr_refresher.refresh('one')});
like(outcomes_now(), qr/one:refreshed two:refreshed$/,
	'refresh() in a session is nothing that a mark knows of');
like(outcomes_now(), qr/one:skipped two:skipped$/, 'once');

# ---- failures ---------------------------------------------------------------------

$node->safe_psql('postgres',
	"CREATE FUNCTION one_refresh() RETURNS void LANGUAGE plpgsql
	 AS 'BEGIN REFRESH MATERIALIZED VIEW public.one; END'");
configure($node, views => 'one, two');
like(outcomes_now(), qr/^one:skipped two:skipped$/,
	'a view with a function is skipped as well');
change($node, q{
	CREATE OR REPLACE FUNCTION one_refresh() RETURNS void LANGUAGE plpgsql
	AS 'BEGIN RAISE EXCEPTION ''broken''; END';
	INSERT INTO t VALUES (3)});
is(outcomes_now(), 'one:failed two:skipped',
	'what reads a view that failed is skipped');
is(outcomes_now(), 'one:failed two:skipped', 'what failed is not');
is(state('one', 'failures > 1, change_mark IS NULL'),
	't|t', 'failures are counted, and have no mark');
is( value(
		"SELECT is_degraded FROM bigbrotr_refresher.views WHERE view = 'two'"),
	't', 'what is skipped may be degraded');
$node->restart;
is(outcomes_now(), 'one:failed two:refreshed',
	'after a restart, all is refreshed once');
is(outcomes_now(), 'one:failed two:skipped', 'once, as far as it can be');
$node->safe_psql('postgres',
	"CREATE OR REPLACE FUNCTION one_refresh() RETURNS void LANGUAGE plpgsql
	 AS 'BEGIN REFRESH MATERIALIZED VIEW public.one; END'");
is(outcomes_now(), 'one:refreshed two:refreshed', 'repaired, it is refreshed');
is(outcomes_now(), 'one:skipped two:skipped', 'and skipped again');

# What failed before a change, and would look unchanged after it
$node->safe_psql('postgres',
	"CREATE OR REPLACE FUNCTION one_refresh() RETURNS void LANGUAGE plpgsql
	 AS 'BEGIN REFRESH MATERIALIZED VIEW public.one; RAISE ''late''; END'");
change($node, 'DELETE FROM t WHERE id = 3');
is(outcomes_now(), 'one:failed two:skipped', 'what was rolled back has failed');
is(different($node, "relname = 'one'"), 'one', 'and is late');
$node->safe_psql('postgres', 'DROP FUNCTION one_refresh()');
is(outcomes_now(), 'one:refreshed two:refreshed', 'until it is refreshed');

# ---- locks --------------------------------------------------------------------------

my $session = session($node, 'postgres');
$session->query_safe('BEGIN; LOCK TABLE t');
is(outcomes_now(), 'one:skipped two:skipped',
	'nothing is waited for in order to skip');
$session->query_safe('ROLLBACK');

# What one wants to read is changed while the refresh waits for a lock, so that
# its mark is of before; and changed back before the next cycle.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE p (id int) PARTITION BY LIST (id);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
	INSERT INTO p VALUES (1), (2), (2);
	CREATE TABLE i (id int);
	CREATE TABLE i1 () INHERITS (i);
	INSERT INTO i1 VALUES (1);
	CREATE VIEW w AS SELECT id FROM u;
	CREATE ROLE reader;
	GRANT USAGE, CREATE ON SCHEMA public TO reader;
	GRANT SELECT ON t, gate TO reader;
	CREATE MATERIALIZED VIEW of_p AS
		SELECT p.id FROM p LEFT JOIN gate ON gate.id = p.id;
	CREATE MATERIALIZED VIEW of_i AS
		SELECT i.id FROM i LEFT JOIN gate ON gate.id = i.id;
	CREATE MATERIALIZED VIEW of_w AS
		SELECT w.id FROM w LEFT JOIN gate ON gate.id = w.id;
	CREATE MATERIALIZED VIEW of_t AS
		SELECT t.id FROM t LEFT JOIN gate ON gate.id = t.id;
	ALTER MATERIALIZED VIEW of_t OWNER TO reader;
});
foreach my $case (
	[
		'of_p',
		'a partition detached and attached',
		'ALTER TABLE p DETACH PARTITION p2',
		'ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)'
	],
	[
		'of_i', 'a child that is none for a while',
		'ALTER TABLE i1 NO INHERIT i', 'ALTER TABLE i1 INHERIT i'
	],
	[
		'of_w',
		'a view replaced and replaced again',
		'CREATE OR REPLACE VIEW w AS SELECT id + 1 AS id FROM u',
		'CREATE OR REPLACE VIEW w AS SELECT id FROM u'
	],
	[
		'of_t',
		'row security for a while',
		'ALTER TABLE t ENABLE ROW LEVEL SECURITY',
		'ALTER TABLE t DISABLE ROW LEVEL SECURITY'
	])
{
	my ($view, $what, $there, $back) = @$case;

	configure($node, views => $view);
	next_cycle($node);
	change($node, 'INSERT INTO gate VALUES (1000)');
	$session->query_safe("BEGIN; LOCK TABLE gate; $there");
	my $offset = log_size($node);
	configure($node, enabled => 'on');
	$node->poll_query_until(
		'postgres',
		"SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
		 WHERE backend_type = 'bigbrotr_refresher' AND NOT granted")
	  or die 'the worker does not wait';
	configure($node, enabled => 'off');
	$session->query_safe('COMMIT');
	wait_for_line($node, "view_refreshed view=$view", $offset);
	rest($node);
	$session->query_safe($back);
	is(different($node, "relname = '$view'"),
		$view, "$what: what was refreshed meanwhile is late");
	is(outcomes_now(), "$view:refreshed", "$what: it is refreshed again");
	is(different($node, "relname = '$view'"), '', "$what: so that it is not");
}

# A refresh by an old snapshot that comes between two transactions of a
# procedure
$node->safe_psql(
	'postgres', q{
	CREATE MATERIALIZED VIEW of_u AS SELECT id FROM u;
	CREATE PROCEDURE of_u_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		REFRESH MATERIALIZED VIEW public.of_u;
		COMMIT;
		PERFORM pg_advisory_xact_lock(7);
	END $$});
configure($node, views => 'of_u');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT count(*) FROM u; SELECT pg_advisory_lock(7)');
change($node, 'INSERT INTO u VALUES (1000)');
my $offset = log_size($node);
configure($node, enabled => 'on');
$node->poll_query_until(
	'postgres',
	"SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
	 WHERE backend_type = 'bigbrotr_refresher' AND NOT granted")
  or die 'the worker does not wait';
configure($node, enabled => 'off');
$session->query_safe('REFRESH MATERIALIZED VIEW of_u; COMMIT;
	SELECT pg_advisory_unlock(7)');
wait_for_line($node, 'view_refreshed view=of_u', $offset);
rest($node);
is(different($node, "relname = 'of_u'"),
	'of_u', 'refreshed by an old snapshot while its procedure runs, it is late');
is(outcomes_now(), 'of_u:refreshed', 'it is refreshed again');
is(different($node, "relname = 'of_u'"), '', 'so that it is not');
is(outcomes_now(), 'of_u:skipped', 'and then skipped');

# A procedure that refreshes by a snapshot from before its attempt
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my ($snapshot) = $session->query_safe('SELECT pg_export_snapshot()') =~ /(\S+)/;
$node->safe_psql(
	'postgres', qq{
	CREATE OR REPLACE PROCEDURE of_u_refresh() LANGUAGE plpgsql AS \$\$
	BEGIN
		COMMIT;
		SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
		SET TRANSACTION SNAPSHOT '$snapshot';
		REFRESH MATERIALIZED VIEW public.of_u;
	END \$\$});
change($node, 'INSERT INTO u VALUES (1001)');
is(outcomes_now(), 'of_u:refreshed', 'refreshed by an imported snapshot');
is(different($node, "relname = 'of_u'"), 'of_u', 'it is late');
$session->query_safe('COMMIT');
$node->safe_psql('postgres', 'DROP PROCEDURE of_u_refresh()');
is(outcomes_now(), 'of_u:refreshed', 'and refreshed again');
is(different($node, "relname = 'of_u'"), '', 'so that it is not');
$session->quit;

# ---- several at once ------------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	DO $$
	BEGIN
		FOR n IN 1 .. 20 LOOP
			EXECUTE format('CREATE TABLE st_%s (id int)', n);
			EXECUTE format('CREATE MATERIALIZED VIEW s_%1$s AS SELECT id FROM st_%1$s', n);
		END LOOP;
	END $$});
configure(
	$node,
	$max_workers => 2,
	views => join ', ', map { "s_$_" } 1 .. 20);
next_cycle($node);
change($node, 'INSERT INTO st_7 VALUES (1); TRUNCATE st_13');
$log = next_cycle($node);
like($log, qr/cycle_completed refreshed=2 failed=0 skipped=18 duration/,
	'two processes skip as one does');
is( join(' ', sort map { $_->{view} }
		  grep { $_->{event} eq 'view_refreshed' } events($log)),
	's_13 s_7',
	'and refresh what has changed');
like(next_cycle($node), qr/cycle_completed refreshed=0 failed=0 skipped=20 /,
	'each knows what the other has done');

$node->stop;
done_testing();
