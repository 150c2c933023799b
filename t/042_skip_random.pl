# skip_unchanged, at random: several sessions change what views read, in every
# way that there is, while the worker runs a cycle each second.  Again and again
# the sessions end, and after the next complete cycle no view may differ from
# what its query returns.
#
# BIGBROTR_REFRESHER_RANDOM_SEED repeats what the sessions did (though not when),
# BIGBROTR_REFRESHER_RANDOM_SECONDS says for how long to go on, or
# BIGBROTR_REFRESHER_RANDOM_CHANGES for how many changes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{BIGBROTR_REFRESHER_RANDOM_SECONDS} // 40;
my $wanted = $ENV{BIGBROTR_REFRESHER_RANDOM_CHANGES} // 0;
my $sessions = 3;

srand(random_seed());

my $node = skipping_node(
	'skip_random',
	max_prepared_transactions => 20,
	deadlock_timeout => '100ms');
$node->start;
make_different($node);

# "apart" holds what the worker does not know of.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE a (id int, v int, unused int);
	CREATE TABLE b (id int, v int, unused int);
	CREATE UNLOGGED TABLE u (id int, v int, unused int);
	CREATE TABLE parent (id int, v int, unused int);
	CREATE TABLE child () INHERITS (parent);
	CREATE TABLE stray (id int, v int, unused int);
	CREATE TABLE parted (id int, v int, unused int) PARTITION BY RANGE (id);
	CREATE TABLE part_0 PARTITION OF parted FOR VALUES FROM (0) TO (10);
	CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (10) TO (20)
		PARTITION BY LIST (id);
	CREATE TABLE part_1_0 PARTITION OF part_1 DEFAULT;
	CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (20) TO (30);
	CREATE TABLE part_3 PARTITION OF parted FOR VALUES FROM (30) TO (40);
	CREATE INDEX ON a (id);
	CREATE INDEX ON part_2 (id);
	CREATE VIEW between_a AS SELECT id, v FROM a WHERE v < 5;
	CREATE VIEW between_all AS
		SELECT id, v FROM between_a UNION ALL SELECT id, v FROM parted;

	CREATE MATERIALIZED VIEW of_a AS SELECT id, v FROM a;
	CREATE MATERIALIZED VIEW of_u AS SELECT count(*) AS n, sum(v) FROM u;
	CREATE MATERIALIZED VIEW of_parent AS SELECT id, v FROM parent;
	CREATE MATERIALIZED VIEW of_parent_only AS SELECT id, v FROM ONLY parent;
	CREATE MATERIALIZED VIEW of_parted AS SELECT id, v FROM parted;
	CREATE MATERIALIZED VIEW of_part AS SELECT id, v FROM part_1;
	CREATE MATERIALIZED VIEW of_view AS SELECT id, v FROM between_a;
	CREATE MATERIALIZED VIEW of_all AS SELECT v, count(*) FROM between_all GROUP BY v;
	CREATE MATERIALIZED VIEW joined AS
		SELECT a.id, b.v FROM a JOIN b USING (id) WHERE b.v IN (SELECT v FROM u);
	CREATE MATERIALIZED VIEW chain_1 AS SELECT DISTINCT v FROM b;
	CREATE UNIQUE INDEX ON chain_1 (v);
	CREATE VIEW chain_view AS SELECT v FROM chain_1 WHERE v < 8;
	CREATE MATERIALIZED VIEW chain_2 AS SELECT DISTINCT v / 2 AS v FROM chain_view;
	CREATE UNIQUE INDEX ON chain_2 (v);
	CREATE MATERIALIZED VIEW chain_3 AS
		SELECT c.v, p.id FROM chain_2 AS c LEFT JOIN ONLY parent AS p USING (v);
	CREATE SCHEMA apart;
	CREATE MATERIALIZED VIEW apart.m AS SELECT DISTINCT v FROM u;
	CREATE UNIQUE INDEX ON apart.m (v);
	CREATE MATERIALIZED VIEW of_apart AS SELECT v FROM apart.m;

	-- What depends on settings
	CREATE MATERIALIZED VIEW of_floats AS
		SELECT id, (v / 3::float8)::text AS t FROM a;
	CREATE MATERIALIZED VIEW of_bytes AS
		SELECT id, decode(lpad(v::text, 4, '0'), 'hex')::text AS t FROM a;

	-- What depends on types and functions that can be altered
	CREATE TYPE pair AS (x int, y int);
	CREATE TYPE mood AS ENUM ('low', 'high');
	CREATE TABLE typed (id int, v int, unused int, p pair, m mood);
	CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
	CREATE MATERIALIZED VIEW of_pairs AS SELECT count(DISTINCT p) FROM typed;
	CREATE MATERIALIZED VIEW of_moods AS
		SELECT id, m, rank() OVER (ORDER BY m) FROM typed;
	CREATE MATERIALIZED VIEW of_own AS SELECT own(v) FROM b;
	INSERT INTO typed SELECT g, 0, 0, ROW(g % 3, g % 5)::pair,
		CASE WHEN g % 2 = 0 THEN 'low'::mood ELSE 'high' END
		FROM generate_series(0, 39) AS g;

	-- Whose rows are kept elsewhere: they are never counted
	CREATE TABLE kept (id int, v int, unused int);
	CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
	CREATE TRIGGER keep BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION keep();
	SET allow_system_table_mods = on;
	UPDATE pg_trigger SET tgisinternal = true WHERE tgrelid = 'kept'::regclass;
	RESET allow_system_table_mods;
	CREATE SCHEMA owned;
	CREATE TABLE owned.chunk (id int, v int, unused int);
	ALTER EXTENSION bigbrotr_refresher ADD SCHEMA owned;
	CREATE MATERIALIZED VIEW of_kept AS SELECT id, v FROM kept;
	CREATE MATERIALIZED VIEW of_owned AS SELECT id, v FROM owned.chunk;

	-- Functions that refresh their view, or pretend it
	CREATE TABLE apart.flag (what text);
	INSERT INTO apart.flag VALUES ('refresh');
	CREATE MATERIALIZED VIEW by_function AS SELECT id, v FROM a;
	CREATE FUNCTION by_function_refresh() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		what text := (SELECT f.what FROM apart.flag AS f);
	BEGIN
		BEGIN
			IF what <> 'nothing' THEN
				REFRESH MATERIALIZED VIEW public.by_function;
			END IF;
			IF what = 'undo' THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
		IF what <> 'refresh' THEN
			GRANT SELECT ON public.by_function TO public;
		END IF;
	END $$;
	CREATE MATERIALIZED VIEW by_procedure AS SELECT id, v FROM b;
	CREATE PROCEDURE by_procedure_refresh() LANGUAGE plpgsql AS $$
	DECLARE
		what text := (SELECT f.what FROM apart.flag AS f);
	BEGIN
		IF what <> 'nothing' THEN
			REFRESH MATERIALIZED VIEW public.by_procedure;
		END IF;
		IF what = 'undo' THEN
			ROLLBACK;
			GRANT SELECT ON public.by_procedure TO public;
		ELSE
			COMMIT;
		END IF;
		PERFORM pg_sleep(random() / 5);
	END $$;
	INSERT INTO a SELECT g, g % 7 FROM generate_series(0, 39) AS g;
	INSERT INTO b SELECT g, g % 5 FROM generate_series(0, 39) AS g;
	INSERT INTO parted SELECT g, g % 7 FROM generate_series(0, 39) AS g;
	INSERT INTO parent SELECT g, g % 7 FROM generate_series(0, 9) AS g;
	INSERT INTO stray SELECT g, g % 7 FROM generate_series(0, 9) AS g;
});

# ---- changes -------------------------------------------------------------------

sub pick
{
	return $_[ int rand @_ ];
}

my @tables = qw(a b u parent child stray parted part_0 part_1 part_1_0 part_2 part_3);
my @views = qw(of_a of_u of_parent of_parted of_part of_view of_all joined chain_1
  chain_2 chain_3 of_apart of_floats of_bytes of_pairs of_moods of_own of_kept
  of_owned by_function by_procedure);
my @settings = (
	'extra_float_digits = ' . join(',', -5 .. 3),
	'bytea_output = hex,escape',
	'IntervalStyle = postgres,iso_8601');
my $prepared = 0;

# A key that the table may have.
sub key
{
	my ($table) = @_;

	return int(rand 10) + ($table =~ /^part_(\d)/ ? 10 * $1 : 0)
	  if $table =~ /^part_/;
	return int rand 40;
}

# A statement that changes rows.
sub dml
{
	my $table = pick(@_);
	my ($id, $v) = (key($table), int rand 10);

	return pick(
		"INSERT INTO $table VALUES ($id, $v)",
		"INSERT INTO $table VALUES ($id, $v)",
		"INSERT INTO $table VALUES ($id, $v), ($id, $v + 1)",
		"UPDATE $table SET v = $v WHERE id = $id",
		"UPDATE $table SET v = v WHERE id = $id",
		"DELETE FROM $table WHERE id = $id",
		"DELETE FROM $table WHERE id = $id AND v > $v",
		"COPY $table FROM STDIN;\n$id\t$v\t\\N\n\\.\n",
		"MERGE INTO $table AS t USING (VALUES ($id)) AS s (id) ON t.id = s.id
			WHEN MATCHED AND t.v > 5 THEN DELETE
			WHEN MATCHED THEN UPDATE SET v = t.v + 1
			WHEN NOT MATCHED THEN INSERT VALUES (s.id, $v)",
		"UPDATE parted SET id = " . int(rand 40) . " WHERE id = $id");
}

# A statement that does more, and may be in a transaction as well.
sub ddl
{
	my $table = pick(@_);
	my $plain = pick(grep { !/^part(ed|_1)$/ } @tables);
	my $n = pick(0, 2, 3);
	my ($from, $to) = (10 * $n, 10 * $n + 10);
	my $v = int rand 10;

	return pick(
		"TRUNCATE $table",
		"TRUNCATE $plain; INSERT INTO $plain VALUES (" . key($plain) . ", $v)",
		"ALTER TABLE parted DETACH PARTITION part_$n",
		"ALTER TABLE parted ATTACH PARTITION part_$n FOR VALUES FROM ($from) TO ($to)",
		"ALTER TABLE parted DETACH PARTITION part_$n;
		ALTER TABLE part_$n RENAME v TO x;
		ALTER TABLE part_$n RENAME unused TO v;
		ALTER TABLE part_$n RENAME x TO unused;
		ALTER TABLE parted ATTACH PARTITION part_$n FOR VALUES FROM ($from) TO ($to)",
		"ALTER TABLE stray INHERIT parent",
		"ALTER TABLE stray NO INHERIT parent",
		"ALTER TABLE child NO INHERIT parent; ALTER TABLE child DROP v;
		ALTER TABLE child ADD v int DEFAULT $v; ALTER TABLE child INHERIT parent",
		'ALTER TABLE child NO INHERIT parent; ALTER TABLE child RENAME v TO x;
		ALTER TABLE child RENAME id TO v; ALTER TABLE child RENAME x TO id;
		ALTER TABLE child INHERIT parent',
		"CREATE OR REPLACE VIEW between_a AS SELECT id, v FROM a WHERE v < $v",
		"CREATE OR REPLACE VIEW between_a AS SELECT id, v FROM b WHERE v < $v",
		"CREATE OR REPLACE VIEW chain_view AS SELECT v FROM chain_1 WHERE v < $v",
		"ALTER TABLE $plain SET (fillfactor = 9$v)",
		"ALTER TABLE u SET " . pick('LOGGED', 'UNLOGGED'),
		'REFRESH MATERIALIZED VIEW apart.m',
		'REFRESH MATERIALIZED VIEW CONCURRENTLY apart.m',
		'REFRESH MATERIALIZED VIEW chain_1',
		'REFRESH MATERIALIZED VIEW CONCURRENTLY chain_2',
		"CREATE TABLE t_$$ (id int, v int, unused int); DROP TABLE t_$$");
}

# What is a transaction by itself.
sub alone
{
	my $plain = pick(grep { !/^part(ed|_1)$/ } @tables);

	return pick(
		"VACUUM $plain", "VACUUM ANALYZE $plain",
		"ANALYZE", "VACUUM FULL $plain",
		'CLUSTER a USING a_id_idx',
		'SELECT pg_stat_force_next_flush()',
		'SELECT pg_sleep(' . rand(0.1) . ')',
		'SELECT pg_sleep(' . rand(0.2) . ')',
		'SELECT id FROM a FOR UPDATE');
}

# What changes something else than the rows that are counted.
sub other
{
	my $v = int rand 10;
	my $id = int rand 40;

	return pick(
		"CREATE OR REPLACE FUNCTION own(int) RETURNS int IMMUTABLE
			LANGUAGE sql AS 'SELECT \$1 + $v'",
		'ALTER TYPE pair DROP ATTRIBUTE y',
		'ALTER TYPE pair ADD ATTRIBUTE y int',
		"ALTER TYPE mood ADD VALUE IF NOT EXISTS 'm$v' BEFORE 'high'",
		"UPDATE typed SET m = enum_last(m) WHERE id = $id",
		"UPDATE typed SET p.x = $v WHERE id = $id",
		map({
			"SET track_counts = off; INSERT INTO $_ VALUES ($id, $v);
			RESET track_counts",
			  "SET track_counts = off; DELETE FROM $_ WHERE id = $id;
			RESET track_counts"
		} 'kept', 'owned.chunk'),
		map({ "UPDATE apart.flag SET what = '$_'" } qw(refresh nothing undo)),
		'GRANT SELECT ON ' . pick(@views) . ' TO public',
		'CREATE INDEX ON of_a (id)',
		'VACUUM FULL ' . pick(@views));
}

# A refresh by another session, at times by a snapshot that is old by then.
sub refresh
{
	my $level = pick('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my $view = pick(@views);

	return "BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM a;
		SELECT pg_sleep(" . rand(1.5) . ');'
	  . pick(
		"REFRESH MATERIALIZED VIEW $view",
		"SAVEPOINT s; REFRESH MATERIALIZED VIEW $view; ROLLBACK TO s",
		'REFRESH MATERIALIZED VIEW CONCURRENTLY ' . pick('chain_1', 'chain_2'),
		"SELECT bigbrotr_refresher.refresh('$view')") . ';'
	  . pick('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK');
}

# One change, or several in a transaction that ends in one way or another; they
# are counted, in the end.
sub random_change
{
	my (@of) = @_;
	my @steps;
	my $count = 1;
	my $kind = rand;

	return (1, dml(@of) . ';') if $kind < 0.42;
	return (1, ddl(@of) . ';') if $kind < 0.5;
	return (1, other() . ';') if $kind < 0.57;
	return (1, refresh() . ';') if $kind < 0.6;
	return (0, alone() . ';') if $kind < 0.67;
	return (0, 'SELECT pg_stat_reset_single_table_counters('
		  . "'" . pick(@of) . "'::regclass);") if $kind < 0.672;

	push @steps, 'BEGIN';
	$count = 1 + int rand 5;
	foreach my $n (1 .. $count)
	{
		push @steps, rand() < 0.9 ? dml(@of) : ddl(@of);
		push @steps, 'SAVEPOINT s' if rand() < 0.2;
		push @steps, 'ROLLBACK TO s'
		  if rand() < 0.2 && grep { $_ eq 'SAVEPOINT s' } @steps;
		push @steps, 'SELECT pg_sleep(' . rand(0.3) . ')' if rand() < 0.1;
	}
	$kind = rand;
	if ($kind < 0.7) { push @steps, 'COMMIT' }
	elsif ($kind < 0.8) { push @steps, 'ROLLBACK' }
	else
	{
		$prepared++;
		push @steps, "PREPARE TRANSACTION 'p_$prepared'";
		push @steps, 'SELECT pg_sleep(' . rand(0.2) . ')' if rand() < 0.5;
		push @steps,
		  pick('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED 'p_$prepared'";
	}
	return ($count, join(";\n", @steps) . ';');
}

# A session's work of one round: a script, whose errors are no matter.  What a
# prepared transaction holds must not stay if its session gave up.
sub script
{
	my ($file, $changes, @of) = @_;
	my $text = "SET lock_timeout = '2s';\n";
	my $done = 0;

	while ($done < $changes)
	{
		my ($count, $sql) = random_change(@of);

		$text .= "$sql\n";
		$done += $count;
	}
	append_to_file($file,
		"$text\nROLLBACK;\nSELECT pg_stat_force_next_flush();\n");
	return $done;
}

# ---- rounds ----------------------------------------------------------------------

# Change a setting of the server that views depend on.  Returns what was done.
sub change_setting
{
	my ($name, $values) = split / = /, pick(@settings);
	my $value = pick(split /,/, $values);

	configure($node, $name => $value);
	return "$name = $value";
}

# Wait until each view has had its turn in a cycle that started after this
# moment.
sub wait_for_cycle
{
	my $now = $node->safe_psql('postgres', 'SELECT clock_timestamp()');

	$node->poll_query_until(
		'postgres',
		"SELECT count(*) = (SELECT count(*) FROM bigbrotr_refresher.plan())
		 FROM (SELECT view FROM bigbrotr_refresher.history
			WHERE cycle_start > '$now' GROUP BY view) AS h")
	  or die 'there was no cycle';
	return;
}

my $folder = PostgreSQL::Test::Utils::tempdir();
my ($rounds, $changes, $late, $wrong) = (0, 0, 0, 0);
my $listed = "c.relnamespace = 'public'::regnamespace";

configure($node, views => 'public.*', enabled => 'on');
wait_for_cycle();

my $end = time() + $seconds;
while ($rounds < 3 || ($wanted ? $changes < $wanted : time() < $end))
{
	# At times much is changed, at times only a little here and there.
	my @of = rand() < 0.3 ? @tables : map { pick(@tables) } 1 .. 1 + int rand 3;
	my $most = pick(3, 20, 60, 120);
	my @running;

	$rounds++;
	configure($node,
		'bigbrotr_refresher.max_workers' => int($rounds / 4) % 2 + 1)
	  if $rounds % 4 == 0;
	foreach my $session (1 .. $sessions)
	{
		my $file = "$folder/$rounds.$session.sql";

		$changes += script($file, 1 + int rand $most, @of);
		push @running,
		  IPC::Run::start(
			[
				'psql', '-XAtq', '-d', $node->connstr('postgres'),
				'-f', $file
			],
			'>', \my $output, '2>', \my $errors);
	}
	my $setting = rand() < 0.3 ? change_setting() : '';
	IPC::Run::finish($_) foreach @running;
	foreach my $name (
		split /\n/,
		$node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'))
	{
		$node->safe_psql('postgres',
			"COMMIT PREPARED '$name'; SELECT pg_stat_force_next_flush()");
	}

	# From now on, functions do what they are there for.
	change($node, "UPDATE apart.flag SET what = 'refresh'");

	# The worker sees new settings between two views, so it has them after a
	# cycle.
	wait_for_cycle() if $setting ne '';

	# All has been counted; what is late now must not be after a cycle.
	$late += () = split /, /, different($node, $listed);
	wait_for_cycle();
	my $different = different($node, $listed);
	next if $different eq '';

	$wrong++;
	fail("round $rounds: no view is late for more than a cycle");
	diag("late: $different; $setting; what the sessions did:");
	diag(slurp_file("$folder/$rounds.$_.sql")) foreach 1 .. $sessions;
	last;
}
is($wrong, 0, 'no view was late for more than a cycle');

my %count = map { split /\|/, $_ } split /\n/,
  $node->safe_psql('postgres',
	'SELECT outcome, count(*) FROM bigbrotr_refresher.history GROUP BY outcome');
my $cycles = $node->safe_psql('postgres',
	'SELECT count(DISTINCT cycle_start) FROM bigbrotr_refresher.history');

note("$changes changes in $rounds rounds; $cycles cycles: "
	  . join(', ', map { "$count{$_} $_" } sort keys %count)
	  . "; $late views late, for less than a cycle");
cmp_ok($count{skipped} // 0, '>', $rounds, 'views were skipped');
cmp_ok($count{refreshed} // 0, '>', $rounds, 'and views were refreshed');

$node->stop;
done_testing();
