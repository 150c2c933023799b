# Merges beside other sessions: what readers see, what waits for what, what is
# left when a merge fails midway, and that what the server refuses is refused
# alike.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Merging;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = merging_node(
	'merge_sessions',
	databases => 'postgres',
	enabled => 'off',
	shared_preload_libraries => 'bigbrotr_refresher,pg_stat_statements',
	'pg_stat_statements.track' => 'all',
	work_mem => '64MB',
	max_parallel_workers_per_gather => 0);
$node->start;
make_checks($node);

# "merged" has as many rows as there are in "base", all with the same "v".  A
# merge of "gated" waits for a lock before the last row of its query, and once
# more when it writes an entry of an index, if these locks are held.
my $query = 'SELECT id, v FROM base';
$node->safe_psql(
	'postgres', qq{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE EXTENSION pg_stat_statements;
	CREATE TABLE base AS SELECT g AS id, 0 AS v FROM generate_series(1, 1000) AS g;
	CREATE MATERIALIZED VIEW merged AS $query;
	CREATE UNIQUE INDEX ON merged (id);
	CREATE INDEX ON merged (v);
	CREATE FUNCTION gate(id int, key int) RETURNS int IMMUTABLE
	LANGUAGE plpgsql AS \$\$ BEGIN
		PERFORM pg_advisory_lock_shared(key), pg_advisory_unlock_shared(key);
		RETURN 0;
	END \$\$;
	CREATE MATERIALIZED VIEW gated AS
	SELECT g AS id, v + CASE WHEN g = 40000 THEN gate(g, 1) ELSE 0 END AS v
	FROM generate_series(1, 40000) AS g, base WHERE base.id = 1;
	CREATE UNIQUE INDEX ON gated (id);
	CREATE INDEX ON gated ((CASE WHEN id = 39999 THEN gate(id, 2) ELSE v END));
});

my $refresh = 'REFRESH MATERIALIZED VIEW CONCURRENTLY';

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub change
{
	query('UPDATE base SET v = v + 1');
	return;
}

sub wait_for_lock
{
	my ($condition, $count) = @_;

	$count //= 1;
	$node->poll_query_until(
		'postgres', "SELECT count(*) = $count FROM pg_locks
		WHERE NOT granted AND $condition")
	  or die "nobody waits for $condition";
	return;
}

sub merged_differs
{
	return query("SELECT checks.differs('merged', '$query', '{v >= 0,id > 500}')");
}

sub temporary_files
{
	my @files = glob($node->data_dir . '/base/pgsql_tmp/*');

	return scalar(@files);
}

sub set_merge
{
	my ($mode) = @_;

	configure($node, 'bigbrotr_refresher.merge' => $mode);
	return;
}

my $one = tough_session($node);
my $two = tough_session($node);

# ---- readers -------------------------------------------------------------------------

my $by_heap = 'SET enable_indexscan = off; SET enable_bitmapscan = off;
	SET enable_indexonlyscan = off; SET enable_seqscan = on;
	SELECT count(*), min(v), max(v) FROM merged WHERE v >= 0';
my $by_index = 'SET enable_seqscan = off; SET enable_indexscan = on;
	SELECT count(*), min(v), max(v) FROM merged WHERE v >= 0';

# Whoever has to wait fails.
said($one, "SET lock_timeout = '1ms'");
said($one, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
is(said($one, $by_heap), '1000|0|0', 'a reader');
change();
query('DELETE FROM base WHERE id > 900; INSERT INTO base VALUES (2000, 1)');
said($two, "BEGIN; $refresh merged");
is(said($one, $by_heap), '1000|0|0', 'sees the old rows during a merge');
is(said($one, $by_index), '1000|0|0', 'by index');
my $other = session($node, 'postgres');
$other->query_safe("SET lock_timeout = '1ms'");
is($other->query_safe($by_heap), '1000|0|0', 'so do other readers');
is($other->query_safe($by_index), '1000|0|0', 'by index');
said($two, 'COMMIT');
is(said($one, $by_heap), '1000|0|0',
	'one in a repeatable read transaction sees them still');
is(said($one, $by_index), '1000|0|0', 'by index');
is($other->query_safe($by_heap), '901|1|1', 'others see the new ones');
is($other->query_safe($by_index), '901|1|1', 'by index');
said($one, 'COMMIT');
is(said($one, $by_heap), '901|1|1', 'and now it does');
is(merged_differs(), '', 'all is in order');

query(
	qq{CREATE TABLE finished (x int);
	CREATE PROCEDURE merge_often(count int) LANGUAGE plpgsql AS \$\$
	BEGIN
		FOR i IN 1 .. count LOOP
			UPDATE base SET v = v + 1, id = (id * 7) % 4001;
			$refresh merged;
			COMMIT;
		END LOOP;
		INSERT INTO finished VALUES (1);
	END \$\$});
start_query($two, 'CALL merge_often(100)');
my $reads = 0;
my %seen;
while (query('SELECT count(*) FROM finished') eq '0')
{
	foreach my $how ($by_heap, $by_index)
	{
		my ($count, $least, $most) = split /\|/, $other->query_safe($how);

		$seen{"$count rows, $least to $most"} = 1
		  if $count != 901 || $least ne $most;
		$reads++;
	}
}
said($two, 'SELECT');
is(join('; ', keys %seen), '', 'a reader sees all of a merge or nothing');
note("$reads reads");
is(merged_differs(), '', 'a hundred merges later, all is in order');

# ---- a snapshot that is older than the last refresh -------------------------------------

foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	foreach my $case (
		[ "$refresh merged", '' ],
		[ 'REFRESH MATERIALIZED VIEW merged', '' ],
		# What the transaction itself does to the view must not hide it.
		[ "$refresh merged", 'ALTER MATERIALIZED VIEW merged SET (fillfactor = 90)' ],
		[ "$refresh merged", 'SAVEPOINT s; ALTER MATERIALIZED VIEW merged SET (fillfactor = 80); RELEASE s' ])
	{
		my ($by_other, $by_self) = @$case;

		said($one, "BEGIN ISOLATION LEVEL $level");
		said($one, 'SELECT FROM base');
		query('UPDATE base SET v = v + 1; DELETE FROM base WHERE id = (SELECT max(id) FROM base);
			INSERT INTO base SELECT max(id) + 1, max(v) FROM base;');
		query($by_other);
		said($one, $by_self) if $by_self;
		like(said($one, "$refresh merged"),
			qr/^40001: could not serialize access/,
			"$level: cannot merge after \"$by_other\" of another session; $by_self");
		said($one, 'ROLLBACK');
		is(merged_differs(), '', 'nothing is doubled');
	}
	said($one, "BEGIN ISOLATION LEVEL $level");
	said($one, 'SELECT FROM base');
	query("$refresh merged");
	is(said($one, "$refresh merged"), '', "$level: it can if nothing differed");
	is(said($one, "UPDATE base SET v = v + 1; $refresh merged"), '', 'again');
	is(said($one, "UPDATE base SET v = v + 1; $refresh merged; COMMIT"), '', 'and again');
	is(merged_differs(), '', 'all is in order');
}

# ---- several merges in one transaction ----------------------------------------------------

query(
	qq{CREATE FUNCTION merge_here() RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		$refresh merged;
	END \$\$;
	CREATE FUNCTION change_and_merge(times int) RETURNS void
	LANGUAGE plpgsql AS \$\$
	BEGIN
		FOR i IN 1 .. times LOOP
			UPDATE base SET v = v + 1;
			INSERT INTO base SELECT max(id) + 1, max(v) FROM base;
			BEGIN
				DELETE FROM base WHERE id % 3 = 0;
				$refresh merged;
				PERFORM 1 / (i % 2);
			EXCEPTION WHEN division_by_zero THEN
				NULL;
			END;
			$refresh merged;
		END LOOP;
	END \$\$});
foreach my $sql (
	'UPDATE base SET v = v + 1; SELECT merge_here(), merge_here()',
	'INSERT INTO base SELECT max(id) + 1, max(v) FROM base; SELECT merge_here(), merge_here()',
	"BEGIN; UPDATE base SET v = v + 1; $refresh merged; $refresh merged;
		INSERT INTO base SELECT max(id) + 1, max(v) FROM base; $refresh merged; COMMIT",
	"BEGIN; UPDATE base SET v = v + 1; SAVEPOINT s; $refresh merged;
		ROLLBACK TO s; $refresh merged; COMMIT",
	"BEGIN; UPDATE base SET v = v + 1; $refresh merged; SAVEPOINT s;
		DELETE FROM base WHERE id % 2 = 0; $refresh merged; ROLLBACK TO s; $refresh merged; COMMIT",
	"BEGIN; UPDATE base SET v = v + 1; REFRESH MATERIALIZED VIEW merged; UPDATE base SET v = v + 1; $refresh merged; COMMIT",
	'SELECT change_and_merge(5)')
{
	query($sql);
	is(merged_differs(), '', "in order after $sql");
}
query('CREATE UNIQUE INDEX ON merged ((id + 0))');
query("UPDATE base SET id = (SELECT min(id) + max(id) FROM base) - id; $refresh merged");
is(merged_differs(), '', 'rows exchange a value of a unique expression');

# ---- two sessions -----------------------------------------------------------------------

said($one, "SET lock_timeout = 0; BEGIN; UPDATE base SET v = v + 1; $refresh merged");
start_query($two, "$refresh merged");
wait_for_lock("relation = 'merged'::regclass AND mode = 'ExclusiveLock'");
is($other->query_safe('SELECT count(*) > 0 FROM merged'), 't',
	'readers do not wait for one that waits');
said($one, 'COMMIT');
is(said($two, 'SELECT'), '', 'the second merge has its turn after the first');
is(merged_differs(), '', 'and sees what that has left');

# ---- midway -----------------------------------------------------------------------------

my $gate = session($node, 'postgres');
my $gated = 'SELECT count(*), min(v), max(v) FROM gated';

# Start a merge of "gated", with these settings, that waits at a gate.
sub start_gated
{
	my ($key, $settings) = @_;

	change();
	$gate->query_safe("SELECT pg_advisory_lock($key)");
	start_query($one, "SET maintenance_work_mem = '1MB'; $settings; $refresh gated");
	wait_for_lock("locktype = 'advisory' AND objid = $key");
	return;
}

foreach my $key (1, 2)
{
	my $where = $key == 1 ? 'while the query runs' : 'while it writes';
	my $before = query($gated);
	my $pid = said($one, 'SELECT pg_backend_pid()');
	my $said;

	start_gated($key, "SET statement_timeout = 0");
	cmp_ok(temporary_files(), '>', 0, "$where: there are temporary files");
	is($other->query_safe($gated), $before, 'a reader sees the old rows');
	query("SELECT pg_cancel_backend($pid)");
	like(said($one, 'SELECT'), qr/^57014: canceling statement due to user request/,
		'it can be cancelled');
	is(query($gated), $before, 'the rows are as before');
	is(temporary_files(), 0, 'no temporary file is left');
	$gate->query_safe("SELECT pg_advisory_unlock($key)");

	change();
	$gate->query_safe("SELECT pg_advisory_lock($key)");
	$said = said($one, "SET statement_timeout = '2s'; $refresh gated");
	like($said, qr/^57014: canceling statement due to statement timeout/,
		'or time out');
	is(query($gated), $before, 'the rows are as before');
	is(temporary_files(), 0, 'no temporary file is left');

	$said = said($one, "SET statement_timeout = 0; SET lock_timeout = '100ms'; $refresh gated");
	like($said, qr/^55P03: canceling statement due to lock timeout/,
		'or wait too long for a lock');
	is(query($gated), $before, 'the rows are as before');
	is(temporary_files(), 0, 'no temporary file is left');
	$gate->query_safe("SELECT pg_advisory_unlock($key)");
	said($one, 'SET lock_timeout = 0');

	start_gated($key, 'SET statement_timeout = 0');
	query("SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid")
	  or die 'it does not end';
	is(query($gated), $before, 'terminated, it leaves the rows as before');
	is(temporary_files(), 0, 'and no temporary file');
	$gate->query_safe("SELECT pg_advisory_unlock($key)");
	$one = tough_session($node);
}
like(
	said($one, "SET maintenance_work_mem = '1MB'; SET temp_file_limit = '256kB'; $refresh gated"),
	qr/^53400: temporary file size exceeds "?temp_file_limit/,
	'the limit of temporary files holds');
is(temporary_files(), 0, 'no temporary file is left');
is(said($one, "RESET temp_file_limit; $refresh gated"), '', 'without it');
is( query("SELECT checks.differs('gated', 'SELECT g AS id, v
		FROM generate_series(1, 40000) AS g, base WHERE base.id = 1')"),
	'', 'all is well');

# ---- what is done to the view meanwhile ------------------------------------------------------

# Each of these begins before a merge, and ends while that waits; the merge ends
# as the server's REFRESH CONCURRENTLY does.
my %outcome;
foreach my $mode ('off', 'all')
{
	set_merge($mode);
	foreach my $sql (
		'DROP MATERIALIZED VIEW victim',
		'ALTER MATERIALIZED VIEW victim RENAME TO victim_too',
		'ALTER MATERIALIZED VIEW victim SET SCHEMA checks',
		'ALTER MATERIALIZED VIEW victim RENAME COLUMN v TO w',
		'REFRESH MATERIALIZED VIEW victim',
		'REFRESH MATERIALIZED VIEW victim WITH NO DATA',
		'DROP MATERIALIZED VIEW victim; CREATE TABLE victim (x int)',
		'DROP MATERIALIZED VIEW victim; CREATE MATERIALIZED VIEW victim AS
			SELECT id FROM base; CREATE UNIQUE INDEX ON victim (id)',
		'CREATE UNIQUE INDEX ON victim (v, id)',
		'REINDEX TABLE victim', 'CLUSTER victim USING victim_id_idx')
	{
		query("SET client_min_messages = warning;
			DROP MATERIALIZED VIEW IF EXISTS victim_too, checks.victim;
			CREATE MATERIALIZED VIEW victim AS $query;
			CREATE UNIQUE INDEX ON victim (id);
			UPDATE base SET v = v + 1");
		said($two, "BEGIN; $sql");
		start_query($one, "$refresh victim");
		wait_for_lock("mode = 'ExclusiveLock'");
		said($two, 'COMMIT');
		$outcome{$mode}{$sql} = said($one, 'SELECT');
		is( query("SELECT checks.differs('victim', 'SELECT id, v FROM base')"),
			'', "merge = $mode: all is well after \"$sql\"")
		  if $outcome{$mode}{$sql} eq '' && $sql !~ /CREATE MAT|CREATE TABLE/;
		query('DO $$ BEGIN
			DROP MATERIALIZED VIEW IF EXISTS victim;
		EXCEPTION WHEN wrong_object_type THEN
			DROP TABLE victim;
		END $$');
	}
}
is_deeply($outcome{all}, $outcome{off},
	'a merge that has waited ends as the server\'s REFRESH does');

# These wait for a merge.
foreach my $sql ('VACUUM gated', 'REINDEX TABLE CONCURRENTLY gated',
	'CREATE INDEX CONCURRENTLY ON gated (v)', 'ANALYZE gated')
{
	start_gated(1, 'SET statement_timeout = 0');
	start_query($two, $sql);
	wait_for_lock("relation = 'gated'::regclass");
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	is(said($one, 'SELECT'), '', "a merge ends before \"$sql\"");
	is(said($two, 'SELECT'), '', 'which then has its turn');
	is( query("SELECT checks.differs('gated', 'SELECT g AS id, v
			FROM generate_series(1, 40000) AS g, base WHERE base.id = 1')"),
		'', 'all is well');
}

# ---- what is refused -------------------------------------------------------------------------

query(
	"CREATE ROLE nobody_special;
	CREATE MATERIALIZED VIEW unpopulated AS SELECT id FROM base WITH NO DATA;
	CREATE UNIQUE INDEX ON unpopulated (id);
	CREATE VIEW plain_view AS SELECT 1 AS x;
	CREATE MATERIALIZED VIEW dividing AS SELECT id, 1 / (v - v + 1) AS x FROM base;
	CREATE UNIQUE INDEX ON dividing (id);
	CREATE TABLE log (number serial, line text);
	GRANT ALL ON log, log_number_seq TO public");
my @refused = (
	"BEGIN; DECLARE c CURSOR FOR TABLE merged; FETCH c; $refresh merged",
	"BEGIN; DECLARE c CURSOR FOR TABLE merged; $refresh merged",
	"BEGIN READ ONLY; $refresh merged",
	"BEGIN READ ONLY; $refresh absent",
	"SET default_transaction_read_only = on; $refresh merged",
	"$refresh merged WITH NO DATA",
	"$refresh unpopulated",
	"$refresh absent",
	"$refresh base",
	"$refresh plain_view",
	"$refresh merged_id_idx",
	"$refresh checks.merged",
	"$refresh absent.merged",
	"$refresh pg_class",
	"SET ROLE nobody_special; $refresh merged",
	"SET ROLE nobody_special; $refresh unpopulated",
	"SET ROLE nobody_special; $refresh base",
	"PREPARE p AS $refresh merged",
	"EXPLAIN $refresh merged",
	"BEGIN; UPDATE base SET v = v + 1; $refresh merged; SELECT 1 / 0");
my %refusal;
foreach my $mode ('off', 'all')
{
	set_merge($mode);
	foreach my $sql (@refused)
	{
		my $session = tough_session($node);

		$refusal{$mode}{$sql} = said($session, $sql);
		$session->quit;
	}
}
is_deeply($refusal{all}, $refusal{off},
	'what the server refuses is refused in the same words');
my @not_refused = grep { $refusal{all}{$_} !~ /^\w{5}: / } @refused;
is(join("\n", @not_refused), "EXPLAIN $refresh merged", 'all of it');

# ---- event triggers --------------------------------------------------------------------------

query(
	q{CREATE FUNCTION on_event() RETURNS event_trigger LANGUAGE plpgsql AS $$
	DECLARE
		said text := concat_ws(' ', tg_event, tg_tag, current_user);
	BEGIN
		IF tg_event = 'ddl_command_end' THEN
			said := said || coalesce((SELECT string_agg(concat_ws(' ', '', command_tag,
					object_type, object_identity, in_extension), ',')
				FROM pg_event_trigger_ddl_commands()), '');
		END IF;
		INSERT INTO public.log (line) VALUES (said);
		IF tg_event = 'ddl_command_start' AND
			current_setting('test.refuse', true) = 'on' THEN
			RAISE 'refused';
		END IF;
	END $$;
	CREATE EVENT TRIGGER on_start ON ddl_command_start EXECUTE FUNCTION on_event();
	CREATE EVENT TRIGGER on_end ON ddl_command_end EXECUTE FUNCTION on_event();
	CREATE EVENT TRIGGER on_drop ON sql_drop EXECUTE FUNCTION on_event();
});
my %log;
foreach my $mode ('off', 'all')
{
	set_merge($mode);
	query('TRUNCATE log');
	query("UPDATE base SET v = v + 1; $refresh merged");
	query('SELECT merge_here()');
	query("$refresh dividing; $refresh merged");
	my ($status, undef, $error) =
	  $node->psql('postgres', "SET test.refuse = on; $refresh merged");
	like($error, qr/refused/, 'a trigger may refuse');
	query("BEGIN; $refresh merged; ROLLBACK");
	# The server's own makes and drops a temporary table as well.
	$log{$mode} =
	  query("SELECT line FROM log WHERE line ~ 'REFRESH' ORDER BY number");
}
is($log{all}, $log{off}, 'event triggers fire as the server has them');
my @starts = $log{all} =~ /^ddl_command_start REFRESH/gm;
is(scalar(@starts), 4, 'for each REFRESH that was not undone');
query('DROP EVENT TRIGGER on_start; DROP EVENT TRIGGER on_end; DROP EVENT TRIGGER on_drop');

# ---- pg_stat_statements ------------------------------------------------------------------------

query("SELECT pg_stat_statements_reset(); UPDATE base SET v = v + 1");
query("$refresh merged");
is( query("SELECT calls, rows = (SELECT count(*) FROM base)
		FROM pg_stat_statements WHERE query ~* 'merged'"),
	'1|t',
	'pg_stat_statements knows the merge, with the rows of the query, and nothing else');

# ---- the parameter ---------------------------------------------------------------------------

# Without a unique index, only a merge can do it.
query(
	qq{CREATE MATERIALIZED VIEW bare AS $query;
	CREATE MATERIALIZED VIEW called AS SELECT 1 AS x;
	CREATE FUNCTION called_refresh() RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		EXECUTE '$refresh bare';
	END \$\$});
my $can = "SELECT checks.try('$refresh bare')";
my $can_we = q{SELECT checks.try('SELECT bigbrotr_refresher.refresh(''called'')')};
foreach my $case ([ 'off', '55000', '55000', 0, 'refresh' ],
	[ 'worker', '55000', '00000', 1, 'merge' ],
	[ 'all', '00000', '00000', 1, 'merge' ])
{
	my ($mode, $in_session, $in_refresh, $in_worker, $method) = @$case;

	set_merge($mode);
	change();
	is(query($can), $in_session, "merge = $mode: a session");
	is(query($can_we), $in_refresh, 'refresh() and a function that it calls');
	configure_and_rest($node, enabled => 'on', views => 'called');
	is(query('SELECT refreshed FROM bigbrotr_refresher.run(true)'),
		$in_worker, 'the worker and a function that it calls');
	is( query("SELECT method FROM bigbrotr_refresher.plan() WHERE view = 'called'"),
		'function', 'the function');
	configure($node, enabled => 'off', views => 'bare');
	is( query('SELECT method FROM bigbrotr_refresher.plan()'),
		$method, 'the method of a view');
	is(query($can), $in_session, 'what comes after that in a session is its own');
}
is(query('SELECT count(*) FROM (TABLE bare EXCEPT ALL SELECT id, v FROM base) AS x'),
	'0', 'the rows are right');

# What does not differ writes nothing, not even to pg_class.
my $version = q{SELECT xmin, pg_stat_get_xact_tuples_inserted(oid)
	FROM pg_class WHERE relname = 'merged'};
query("$refresh merged");
my $written = query($version);
query("$refresh merged");
is(query($version), $written, 'a merge without a difference writes nothing');
set_merge('off');
query("$refresh merged");
isnt(query($version), $written, 'unlike the server\'s');

# ---- refresh_timeout ---------------------------------------------------------------------------

set_merge('worker');
change();
my $before = query($gated);
$gate->query_safe('SELECT pg_advisory_lock(2)');
is( outcomes(
		cycle(
			$node,
			enabled => 'on',
			refresh_timeout => '2s',
			maintenance_work_mem => '1MB',
			views => 'gated')),
	'gated:57014',
	'refresh_timeout ends a merge of the worker');
is(query($gated), $before, 'the rows are as before');
is(temporary_files(), 0, 'no temporary file is left');
$gate->query_safe('SELECT pg_advisory_unlock(2)');

nothing_broke($node);
$_->quit foreach $one, $two, $other, $gate;
$node->stop;
done_testing();
