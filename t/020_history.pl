# The history of refreshes: that it says what happened, that nothing done to
# its table stops a refresh or gives anybody rights, and that it is pruned.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

# The parameters that the helpers do not abbreviate
my $retention = 'bigbrotr_refresher.history_retention';
my $retry = 'bigbrotr_refresher.retry_interval';

my $node = new_node(
	'history',
	views => 'none',
	interval => '7d',
	$retry => 0,
	wal_level => 'replica');
$node->start;

# Refresh all views now, and return the cycle's counts.
sub run_all
{
	return $node->safe_psql('postgres',
		'SELECT views, refreshed, failed FROM bigbrotr_refresher.run(true)');
}

sub history
{
	my ($columns, $condition) = @_;

	return $node->safe_psql('postgres',
		"SELECT $columns FROM bigbrotr_refresher.history
		 WHERE $condition ORDER BY id");
}

# How many rows of the history there are such that.
sub rows
{
	my ($condition) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM bigbrotr_refresher.history WHERE $condition");
}

# ---- without the extension, and when it comes and goes -------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE work (view text, at timestamptz DEFAULT now());
	CREATE FUNCTION one_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO work VALUES ('one') $$;
	CREATE FUNCTION two_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO work VALUES ('two') $$;
	CREATE FUNCTION three_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO work VALUES ('three') $$;
});
wait_for_line($node, 'bigbrotr_refresher: history_missing', 0);
my $log = cycle($node, views => 'one');
is(outcomes($log), 'one', 'without the extension, views are refreshed');
$log = cycle($node, views => 'two');
is(outcomes($log), 'two', 'again and again');
my $missing =
  qr/LOG:  bigbrotr_refresher: history_missing database=postgres$more/;
$log = log_since($node, 0);
is(scalar(() = $log =~ /$missing/g),
	1, 'the log says once what is missing');
like($log, qr/HINT:  Run CREATE EXTENSION bigbrotr_refresher/,
	'and how to have it');

$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
is(run_all(), '1|1|0', 'a running worker serves the new extension');
is(history('view, outcome', 'true'), 'two|refreshed',
	'and writes what happens from then on');

my $offset = log_size($node);
$node->safe_psql('postgres', 'DROP EXTENSION bigbrotr_refresher');
$log = cycle($node, views => 'three');
is(outcomes($log), 'three', 'dropped, it is not needed');
like(log_since($node, $offset), $missing, 'the log says again that it is missing');
$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
is(run_all(), '1|1|0', 'it may come back');
is(history('view, outcome', 'true'), 'three|refreshed', 'with a new history');
no_worker_failed($node, 0, 'no worker has ended for that');

# ---- what a row says ------------------------------------------------------

# More than the work_mem of the sorting view's database, and of nothing else
$node->safe_psql(
	'postgres', q{
	CREATE MATERIALIZED VIEW plain AS SELECT g FROM generate_series(1, 5000) AS g;
	CREATE MATERIALIZED VIEW indexed AS SELECT g FROM generate_series(1, 10) AS g;
	CREATE UNIQUE INDEX ON indexed (g);
	CREATE MATERIALIZED VIEW sorted AS
		SELECT g FROM generate_series(1, 20000) AS g ORDER BY md5(g::text);
	CREATE FUNCTION sorted_refresh() RETURNS void
	LANGUAGE sql SET work_mem = '64kB' AS 'REFRESH MATERIALIZED VIEW sorted';
	CREATE FUNCTION nothing_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE PROCEDURE steps_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO work VALUES ('steps');
		COMMIT;
		PERFORM pg_advisory_xact_lock(1);
		INSERT INTO work VALUES ('steps');
	END $$;
	CREATE FUNCTION broken_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO work VALUES ('broken');
		RAISE EXCEPTION 'it "is" broken' USING ERRCODE = 'BR001';
	END $$;
	CREATE TABLE late (x int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION late_refresh() RETURNS void
	LANGUAGE sql AS 'INSERT INTO late VALUES (1), (1)';
	CREATE PROCEDURE half_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO work VALUES ('half');
		COMMIT;
		PERFORM 1 / 0;
	END $$;
	TRUNCATE work, bigbrotr_refresher.history;
});
my $list = 'plain, indexed, sorted, nothing, broken, late, half, absent, '
  . '"Odd; ""name"""';
$node->safe_psql('postgres',
	q{CREATE FUNCTION "Odd; ""name""_refresh"() RETURNS void
	LANGUAGE sql AS ''});
$log = cycle($node, views => $list);
like($log, qr/cycle_completed refreshed=5 failed=4 /, 'the log counts');
is( history("view, outcome, coalesce(method, '-'), coalesce(sqlstate, '-'), failures", 'true'),
	join("\n",
		'plain|refreshed|merge|-|0',
		'indexed|refreshed|merge|-|0',
		'sorted|refreshed|function|-|0',
		'nothing|refreshed|function|-|0',
		'broken|failed|function|BR001|1',
		'late|failed|function|23505|1',
		'half|failed|procedure|22012|1',
		'absent|failed|-|42883|1',
		'"Odd; ""name"""|refreshed|function|-|0'),
	'a row for each attempt, in their order');
is( history('error', "view IN ('broken', 'absent') OR view = 'plain'"),
	qq{\nit "is" broken\nmaterialized view or refresh function "absent" does not exist},
	'with the message of what failed');
is( rows('cycle_start <> schedule_start OR started_at < cycle_start
			OR cycle_start IS NULL OR duration < interval \'0\'
			OR duration > interval \'1 minute\'
			OR started_at NOT BETWEEN now() - interval \'10 minutes\'
			AND now()')
	, '0', 'times are those of the cycle');
is($node->safe_psql('postgres',
		'SELECT count(DISTINCT cycle_start) FROM bigbrotr_refresher.history'),
	'1', 'whose start is that of the cycle, the same for all');
is(history('data_as_of = started_at', "outcome = 'refreshed'"),
	join("\n", ('t') x 5), 'the data of a refreshed view is of its start');
is(history('data_as_of IS NULL', "outcome = 'failed'"),
	join("\n", ('t') x 4), 'that of one that never was is of unknown age');

# What was used
is( history(
		"view, wal_bytes > 100000, shared_blks_hit + shared_blks_read > 20",
		"view IN ('plain', 'sorted')"),
	"plain|f|t\nsorted|t|t",
	'what writes 20000 rows has written log, and used buffers');
cmp_ok(history('wal_bytes', "view = 'sorted'"),
	'<', 20_000_000, 'not more than plausible');
cmp_ok(history('wal_bytes', "view = '$_'"),
	'<', 10_000, "what writes nothing has written next to no log: $_")
  foreach 'plain', 'nothing';
is( history(
		'temp_blks_written > 20 AND temp_blks_read > 20',
		"view = 'sorted'"),
	't', 'what sorts in little memory has used temporary files');
is( history(
		'temp_blks_written = 0 AND temp_blks_read = 0',
		"view IN ('plain', 'nothing')"),
	"t\nt", 'which are not charged to another view');

# Failures in a row
is(run_all(), '9|5|4', 'another cycle');
is(history('failures', "view = 'broken'"), "1\n2",
	'failures in a row are counted');
$node->safe_psql('postgres',
	"CREATE OR REPLACE FUNCTION broken_refresh() RETURNS void LANGUAGE sql AS ''"
);
is(run_all(), '9|6|3', 'and one more after a repair');
is(history('failures', "view = 'broken'"),
	"1\n2\n0", 'until it is refreshed');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM work WHERE view = 'broken'"),
	'0',
	'what failed left nothing');
is(rows("view = 'late' AND outcome = 'refreshed'"),
	'0', 'what failed at its commit was not refreshed');

# ---- when a row is written ----------------------------------------------

# In the transaction of the refresh: before its commit neither is there, then
# both.
my $lock = hold($node, 'postgres', 1);
$node->safe_psql(
	'postgres', q{
	TRUNCATE work, bigbrotr_refresher.history;
	CREATE OR REPLACE FUNCTION one_refresh() RETURNS void LANGUAGE sql AS $$
		INSERT INTO work VALUES ('one');
		SELECT pg_advisory_xact_lock(1) $$;
	ALTER TABLE bigbrotr_refresher.history
		ADD COLUMN xact xid8 DEFAULT pg_current_xact_id();
	ALTER TABLE work ADD COLUMN xact xid8 DEFAULT pg_current_xact_id();
});
configure($node, views => 'one, steps');
wait_for_waiter($node, 'postgres', 1);
is( $node->safe_psql('postgres',
		'SELECT (SELECT count(*) FROM work),
			(SELECT count(*) FROM bigbrotr_refresher.history)'),
	'0|0',
	'before the refresh is committed there is no row');
$lock->quit;

# The procedure's turn is next, maybe already over: so again, for it alone.
like(cycle_since($node), qr/cycle_completed refreshed=2 /,
	'a cycle of both ends');
is( $node->safe_psql('postgres',
		"SELECT w.xact = h.xact FROM work AS w,
			bigbrotr_refresher.history AS h
		 WHERE w.view = 'one' AND h.view = 'one'"),
	't',
	'both are of one transaction');
configure_and_rest($node, views => 'one');
$lock = hold($node, 'postgres', 1);
$node->safe_psql('postgres',
	'TRUNCATE work, bigbrotr_refresher.history, bigbrotr_refresher.view_state');
configure($node, views => 'steps');
wait_for_waiter($node, 'postgres', 1);
is( $node->safe_psql('postgres',
		"SELECT (SELECT count(*) FROM work WHERE view = 'steps'),
			(SELECT count(*) FROM bigbrotr_refresher.history
			 WHERE view = 'steps')"),
	'1|0',
	'a procedure that committed half of its work is not refreshed');
$lock->quit;
cycle_since($node);
is( $node->safe_psql('postgres',
		"SELECT count(*), bool_and(h.outcome = 'refreshed')
		 FROM bigbrotr_refresher.history AS h
		 WHERE h.xact = (SELECT max(w.xact) FROM work AS w
			WHERE w.view = 'steps')"),
	'1|t',
	'its row is of the transaction that follows its last commit');
is( $node->safe_psql('postgres',
		"SELECT count(DISTINCT xact) = 2 * (SELECT count(*)
			FROM bigbrotr_refresher.history WHERE view = 'steps')
		 FROM work WHERE view = 'steps'"),
	't',
	'of which it had two');

# ---- a table that is broken ------------------------------------------------

$node->safe_psql(
	'postgres', q{
	TRUNCATE work, bigbrotr_refresher.history;
	CREATE OR REPLACE FUNCTION broken_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT 1 / 0';
	ALTER TABLE bigbrotr_refresher.history ADD COLUMN extra int NOT NULL;
});
$offset = log_size($node);
configure($node, views => 'two, broken');
is(run_all(), '2|1|1',
	'a table that cannot be written to does not keep views from being refreshed'
);
$log = log_since($node, $offset);
foreach my $view ('two', 'broken')
{
	like(
		$log,
		qr/WARNING:  bigbrotr_refresher: history_failed view=$view error="null value in column \\"extra\\" of relation \\"history\\" violates not-null constraint"$more/,
		"the log warns that the row of $view is lost");
}
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM work"),
	'>', 0, 'the data is there');
is(rows('true'), '0', 'the rows are not');
$node->safe_psql('postgres',
	'ALTER TABLE bigbrotr_refresher.history DROP COLUMN extra');
is(run_all(), '2|1|1', 'repaired,');
is(history('view, outcome', 'true'), "two|refreshed\nbroken|failed",
	'it is written to again');
no_worker_failed($node, 0, 'no worker has ended for that');

# Neither does one that cannot be read.
wait_for_rest($node, 'postgres');
$node->safe_psql('postgres',
	'ALTER TABLE bigbrotr_refresher.view_state RENAME data_as_of TO renamed;
	 TRUNCATE work');
$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
ok( $node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM work WHERE view = 'two'"),
	'nor does a table that cannot be read');
$node->safe_psql('postgres',
	'ALTER TABLE bigbrotr_refresher.view_state RENAME renamed TO data_as_of');
configure_and_rest($node);

# ---- whose rights -----------------------------------------------------------

# A trigger of the owner's runs as the owner, and cannot become the worker.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE keeper;
	CREATE ROLE other;
	CREATE TABLE seen (who name, path text, can text);
	GRANT ALL ON seen TO keeper;
	CREATE SCHEMA keeper AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA bigbrotr_refresher TO keeper;
	GRANT USAGE ON SEQUENCE bigbrotr_refresher.history_id_seq TO keeper;
	ALTER TABLE bigbrotr_refresher.history OWNER TO keeper;
	SET ROLE keeper;
	CREATE FUNCTION keeper.look() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		can text := '-';
	BEGIN
		BEGIN
			EXECUTE 'SET ROLE NONE';
			can := current_user;
		EXCEPTION WHEN insufficient_privilege THEN
			can := 'no';
		END;
		INSERT INTO public.seen
		VALUES (current_user, current_setting('search_path'), can);
		SET search_path = keeper;
		RETURN NEW;
	END $$;
	CREATE TRIGGER look BEFORE INSERT ON bigbrotr_refresher.history
	FOR EACH ROW EXECUTE FUNCTION keeper.look();
	RESET ROLE;
	TRUNCATE bigbrotr_refresher.history;
});
configure($node, views => 'broken, two');
is(run_all(), '2|1|1', 'with a trigger on the table');
is(run_all(), '2|1|1', 'that changes settings, nothing changes for the views');
is( $node->safe_psql('postgres', 'SELECT DISTINCT who, can FROM seen'),
	'keeper|no',
	'the trigger runs as the owner of the table and as nobody else');
is(rows('true'), '4', 'the rows are written');

# Nor by being put off to the end of the transaction.
$offset = log_size($node);
$node->safe_psql(
	'postgres', q{
	TRUNCATE seen;
	SET ROLE keeper;
	DROP TRIGGER look ON bigbrotr_refresher.history;
	CREATE CONSTRAINT TRIGGER look AFTER INSERT ON bigbrotr_refresher.history
	DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION keeper.look();
});
is(run_all(), '2|1|1', 'a deferred trigger does not stop a refresh');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM seen WHERE who <> 'keeper'"),
	'0',
	'nor runs as anybody but the owner');
$node->safe_psql('postgres',
	'DROP TRIGGER look ON bigbrotr_refresher.history');

# Nobody else gains rights by that.
is( $node->safe_psql(
		'postgres',
		"SELECT has_schema_privilege('other', 'bigbrotr_refresher', 'USAGE'),
			has_table_privilege('other', 'bigbrotr_refresher.history',
				'SELECT, INSERT, UPDATE, DELETE'),
			has_table_privilege('pg_monitor', 'bigbrotr_refresher.history',
				'INSERT, UPDATE, DELETE, TRUNCATE')"),
	'f|f|f',
	'nobody may write there, nor may everybody read');

# ---- a table of that name that is somebody else's ----------------------------

$offset = log_size($node);
$node->safe_psql(
	'postgres', q{
	DROP EXTENSION bigbrotr_refresher;
	DROP SCHEMA IF EXISTS bigbrotr_refresher;
	SELECT format('GRANT CREATE ON DATABASE %I TO other',
		current_database()) \gexec
	SET ROLE other;
	CREATE SCHEMA bigbrotr_refresher;
	CREATE TABLE bigbrotr_refresher.history (view text, cycle_start timestamptz,
		schedule_start timestamptz, started_at timestamptz, duration interval,
		outcome text, method text, sqlstate text, error text, failures int,
		wal_bytes bigint, shared_blks_hit bigint, shared_blks_read bigint,
		temp_blks_read bigint, temp_blks_written bigint,
		data_as_of timestamptz, id serial);
	CREATE FUNCTION bigbrotr_refresher.take() RETURNS trigger
	LANGUAGE plpgsql AS $$
	BEGIN
		CREATE TABLE bigbrotr_refresher.taken ();
		RETURN NEW;
	END $$;
	CREATE TRIGGER take BEFORE INSERT ON bigbrotr_refresher.history
	FOR EACH ROW EXECUTE FUNCTION bigbrotr_refresher.take();
});
$log = cycle($node, views => 'three');
is(outcomes($log), 'three', 'views are refreshed');
like(log_since($node, $offset), $missing,
	'for the worker there is no history');
is( $node->safe_psql('postgres',
		"SELECT (SELECT count(*) FROM bigbrotr_refresher.history),
			to_regclass('bigbrotr_refresher.taken') IS NULL"),
	'0|t',
	'a table of that name is not touched');
my ($code, $stdout, $stderr) =
  $node->psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
is($code, 3, 'the extension is not installed in a schema of another role');
like(
	$stderr,
	qr/ERROR:  schema "bigbrotr_refresher" already exists/,
	'which the error says');
$node->safe_psql('postgres', 'DROP SCHEMA bigbrotr_refresher CASCADE');

# A worker whose own role has no rights there
$node->safe_psql('postgres',
	q{REVOKE ALL ON DATABASE postgres FROM other;
	CREATE ROLE refresher LOGIN;
	ALTER FUNCTION two_refresh() OWNER TO refresher;
	GRANT INSERT ON work TO refresher;
	CREATE EXTENSION bigbrotr_refresher});
$node->append_conf('postgresql.conf', conf_lines(role => 'refresher'));
configure($node, views => 'two, broken');
$node->restart;
wait_for_line($node, 'role=refresher views=2', $offset);
is($node->safe_psql('postgres',
		"SELECT has_schema_privilege('refresher', 'bigbrotr_refresher', 'USAGE'),
			has_table_privilege('refresher', 'bigbrotr_refresher.history',
				'SELECT, INSERT, DELETE')"),
	'f|f', 'the role of a worker has no rights on the history');
is(run_all(), '2|1|1', 'it runs a cycle all the same');
is(history('view, outcome, sqlstate', 'cycle_start =
		(SELECT max(cycle_start) FROM bigbrotr_refresher.history)'),
	"two|refreshed|\nbroken|failed|22012",
	'and its refreshes are in the history');

# ---- pruning -----------------------------------------------------------------

# Many old rows of a view that is refreshed, of one that fails now, and of one
# that is not in the list any more; young ones of each of the first two.
my $fill = q{
	TRUNCATE bigbrotr_refresher.history;
	INSERT INTO bigbrotr_refresher.history
		(view, cycle_start, schedule_start, started_at, duration, outcome,
		 failures, wal_bytes, shared_blks_hit, shared_blks_read,
		 temp_blks_read, temp_blks_written)
	SELECT v, t, t, t, interval '1 s',
		CASE WHEN v <> 'two' AND n > 2000 THEN 'failed' ELSE 'refreshed' END,
		0, 0, 0, 0, 0, 0
	FROM generate_series(1, 4000) AS n,
		LATERAL (SELECT now() - interval '40 days'
			+ n * interval '1 second' AS t) AS t,
		unnest(ARRAY['two', 'broken', 'gone']) AS v
	ORDER BY n;
	INSERT INTO bigbrotr_refresher.history
		(view, cycle_start, schedule_start, started_at, duration, outcome,
		 failures, wal_bytes, shared_blks_hit, shared_blks_read,
		 temp_blks_read, temp_blks_written)
	SELECT v, now(), now(), now(), interval '1 s', 'failed', 1, 0, 0, 0, 0, 0
	FROM unnest(ARRAY['two', 'broken']) AS v;
};
$node->safe_psql('postgres', $fill);
is(rows('true'), '12002', 'there is a long history');
$node->safe_psql(
	'postgres', q{
	INSERT INTO bigbrotr_refresher.view_state (view, failures, last_attempt)
	VALUES ('gone', 0, now() - interval '420 days'),
		('rare', 0, now() - interval '380 days')});

# Somebody reads it the whole time, and somebody holds on to an old snapshot.
my $reader = session($node, 'postgres');
$reader->query_safe(
	'BEGIN ISOLATION LEVEL REPEATABLE READ;
	 LOCK TABLE bigbrotr_refresher.history IN ACCESS SHARE MODE;
	 SELECT count(*) FROM bigbrotr_refresher.history');
configure($node, $retention => '5s');
my ($most, $steps, $last) = (0, 0, 12000);
wait_until(
	'the history is pruned',
	sub {
		# A reader that had to wait would fail here.
		my $now = $node->safe_psql('postgres',
			"SET lock_timeout = '2s';
			 SELECT count(*) FROM bigbrotr_refresher.history
			 WHERE started_at < now() - interval '1 day'");

		# It is pruned after a cycle, but not after each.
		run_all() if $now == $last;
		$steps++ if $now < $last;
		$most = $last - $now if $last - $now > $most;
		$last = $now;
		return $now <= 3;
	});
pass('pruned, while others read it');
note("seen in $steps steps, the largest of $most rows");
is($reader->query_safe('SELECT count(*) FROM bigbrotr_refresher.history'),
	$reader->query_safe('SELECT count(*) FROM bigbrotr_refresher.history'),
	'a reader keeps what it sees');
cmp_ok($reader->query_safe('SELECT count(*) FROM bigbrotr_refresher.history'),
	'>=', 12002, 'which is all that was there');
$reader->quit;
wait_until('nothing old is left',
	sub { return rows("started_at < now() - interval '1 day'") == 0; });

# What is known of a view is not a row of the history, and stays; but not for
# ever, if nobody refreshes it any more.
is( $node->safe_psql(
		'postgres', "SELECT view, last_attempt < now() - interval '400 days'
		FROM bigbrotr_refresher.view_state
		WHERE view IN ('rare', 'two', 'gone') ORDER BY view"),
	"rare|f\ntwo|f",
	'what is known of the views stays, as long as they are refreshed');

# Trouble with it ends neither the cycle nor the worker.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql
	AS 'BEGIN RAISE ''nothing is deleted''; END';
	CREATE TRIGGER keep BEFORE DELETE ON bigbrotr_refresher.history
	EXECUTE FUNCTION keep()});
$offset = log_size($node);
wait_until(
	'the history is to be pruned again',
	sub {
		run_all();
		return log_since($node, $offset) =~
		  /history_failed error="nothing is deleted"/;
	});
is(run_all(), '2|1|1', 'when pruning fails, cycles go on');
no_worker_failed($node, $offset, 'no worker has ended for that');
$node->safe_psql('postgres',
	'DROP TRIGGER keep ON bigbrotr_refresher.history; DROP FUNCTION keep');

# No history at all
configure($node, $retention => '0');
my $newest = $node->safe_psql('postgres',
	'SELECT max(id) FROM bigbrotr_refresher.history');
is(run_all(), '2|1|1', 'without a retention');
is( $node->safe_psql('postgres',
		'SELECT max(id) FROM bigbrotr_refresher.history'),
	$newest,
	'nothing is written');
is( $node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('three')")
	  . $node->safe_psql('postgres',
		'SELECT max(id) FROM bigbrotr_refresher.history'),
	$newest,
	'by nobody');
configure($node, $retention => undef);
is(run_all(), '2|1|1', 'with one again');
is( $node->safe_psql('postgres',
		"SELECT max(id) > $newest FROM bigbrotr_refresher.history"),
	't',
	'it is');

$node->stop;
done_testing();
