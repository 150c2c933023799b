# refresh(view): one view, here, with the caller's rights.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'refresh',
	views => 'func, proc, plain, indexed, bare, "Odd; ""name""", broken',
	enabled => 'off');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE ROLE granted;
	GRANT USAGE ON SCHEMA bigbrotr_refresher TO granted;
	GRANT EXECUTE ON FUNCTION bigbrotr_refresher.refresh(text) TO granted;
	CREATE ROLE weak;
	CREATE SCHEMA granted AUTHORIZATION granted;
	CREATE SCHEMA weak AUTHORIZATION weak;
	GRANT USAGE ON SCHEMA weak TO public;

	CREATE TABLE work (view text, who name DEFAULT current_user);
	CREATE TABLE source (x int);
	INSERT INTO source VALUES (1);
	CREATE FUNCTION func_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.work VALUES ('func') $$;
	CREATE MATERIALIZED VIEW func AS SELECT 1 AS x;
	CREATE PROCEDURE proc_refresh()
	LANGUAGE sql AS $$ INSERT INTO public.work VALUES ('proc') $$;
	CREATE PROCEDURE commits_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.work VALUES ('commits');
		COMMIT;
	END $$;
	CREATE MATERIALIZED VIEW plain AS SELECT x FROM source;
	CREATE MATERIALIZED VIEW indexed AS SELECT x FROM source;
	CREATE UNIQUE INDEX ON indexed (x);
	CREATE FUNCTION bare_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.work VALUES ('bare') $$;
	CREATE FUNCTION "Odd; ""name""_refresh"() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.work VALUES ('odd') $$;
	CREATE FUNCTION broken_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE FUNCTION unlisted_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.work VALUES ('unlisted') $$;
	CREATE FUNCTION weak.trap_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.work VALUES ('trap') $$;
	ALTER FUNCTION weak.trap_refresh() OWNER TO weak;
	CREATE FUNCTION granted.own_refresh() RETURNS void LANGUAGE sql AS '';
	ALTER FUNCTION granted.own_refresh() OWNER TO granted;
});

# Run a statement; what it says or how it fails.
sub try_sql
{
	my ($sql) = @_;
	my ($code, $out, $err) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");

	return $out . $err;
}

sub refresh
{
	my ($view, $before) = @_;

	$view =~ s/'/''/g;
	return try_sql(($before // '') . ";SELECT bigbrotr_refresher.refresh('$view')");
}

# The rows of the history, which is emptied.
sub history
{
	my ($columns) = @_;

	return $node->safe_psql('postgres',
		"WITH gone AS (DELETE FROM bigbrotr_refresher.history RETURNING *)
		 SELECT $columns FROM gone ORDER BY id");
}

# ---- the methods --------------------------------------------------------------

$node->safe_psql('postgres', 'UPDATE source SET x = 2');
foreach my $case (
	[ 'func', 'func', 'function' ],
	[ 'proc', 'proc', 'procedure' ],
	[ 'plain', 'plain', 'merge' ],
	[ 'indexed', 'indexed', 'merge' ],
	[ 'bare', 'bare', 'function' ],
	[ 'public.bare', 'bare', 'function' ],
	[ ' PUBLIC . Bare ', 'bare', 'function' ],
	[ '"Odd; ""name"""', '"Odd; ""name"""', 'function' ])
{
	my ($name, $label, $method) = @$case;

	is(refresh($name), '', "$name: is refreshed");
	is( history(
			'view, outcome, method, failures, cycle_start IS NULL,
			schedule_start IS NULL, data_as_of = started_at,
			started_at BETWEEN now() - interval \'1 minute\' AND now()'),
		"$label|refreshed|$method|0|t|t|t|t",
		"by its $method, outside of any cycle");
}
foreach my $case ([ 'plain', 'refresh' ], [ 'indexed', 'refresh concurrently' ])
{
	my ($name, $method) = @$case;

	configure($node, 'bigbrotr_refresher.merge' => 'off');
	is(refresh($name), '', "$name: is refreshed without merging");
	is(history('view, method'), "$name|$method", "by its $method");
	configure($node, 'bigbrotr_refresher.merge' => undef);
}
is( $node->safe_psql('postgres',
		"SELECT string_agg(view, ' ' ORDER BY view) FROM work"),
	'bare bare bare func odd proc',
	'each did its work, once');
is( $node->safe_psql('postgres',
		'SELECT x FROM plain UNION ALL SELECT x FROM indexed'),
	"2\n2",
	'the views have the data of now');
is(refresh('unlisted'), '', 'a view need not be in the list');
like(history('view'), qr/^(public\.)?unlisted$/, 'to have a row');
like(try_sql('SELECT bigbrotr_refresher.refresh(NULL)'),
	qr/ERROR:  22004: .*null/, 'null is no view');
like(
	refresh('commits'),
	qr/ERROR:  2D000: invalid transaction termination/,
	'a procedure cannot commit here');
is(history('*'), '', 'which leaves no row');

# ---- what is not there, and what is no name -----------------------------------

like(
	refresh('absent'),
	qr/ERROR:  42883: materialized view or refresh function "absent" does not exist\n(.*\n)*.*HINT: /,
	'a view that is not there is an error, with a hint');
foreach my $case (
	[ '', 1, 'the list is empty' ],
	[ ' ', 2, 'the list is empty' ],
	[ 'a b', 3, 'expected' ],
	[ 'a,', 3, 'expected a name' ],
	[ '"a', 1, 'the quoted name is not closed' ],
	[ 'a @ 1 fortnight', undef, '' ])
{
	my ($name, $place, $reason) = @$case;
	my $detail = defined $place ? "At character $place: $reason" : 'At character';

	like(
		refresh($name),
		qr/ERROR:  42602: invalid name of a view: "\Q$name\E"\n.*DETAIL:  $detail/,
		"\"$name\" is no name, and the detail says where");
}
foreach my $name ('a, b', 'a; b', '*', 'public.*', 'a @ 1h', 'a (jit = off)')
{
	like(
		refresh($name),
		qr/ERROR:  42602: invalid name of a view: "\Q$name\E"\n.*DETAIL:  Exactly one view can be named, without an interval or settings\./,
		"\"$name\" is not one name");
}

# ---- in the caller's transaction ---------------------------------------------

$node->safe_psql('postgres', 'TRUNCATE work');
$node->safe_psql(
	'postgres', "BEGIN;
	SELECT bigbrotr_refresher.refresh('func');
	DO \$\$ BEGIN
		IF NOT EXISTS (SELECT FROM bigbrotr_refresher.history) THEN
			RAISE 'there is no row';
		END IF;
	END \$\$;
	ROLLBACK");
is( $node->safe_psql('postgres',
		'SELECT (SELECT count(*) FROM work),
			(SELECT count(*) FROM bigbrotr_refresher.history)'),
	'0|0',
	'rolled back, neither the work nor the row is there');
$node->safe_psql(
	'postgres', "BEGIN;
	SELECT bigbrotr_refresher.refresh('func');
	SAVEPOINT s;
	SELECT bigbrotr_refresher.refresh('bare');
	ROLLBACK TO s;
	COMMIT");
is( $node->safe_psql('postgres', 'SELECT view FROM work') . ' '
	  . history('view'),
	'func func', 'nor is what is rolled back to a savepoint');
like(refresh('broken'), qr/ERROR:  22012: division by zero/,
	'an error is the caller\'s');
$node->safe_psql(
	'postgres', q{DO $$ BEGIN
		PERFORM bigbrotr_refresher.refresh('broken');
	EXCEPTION WHEN division_by_zero THEN NULL;
	END $$});
is(history('*'), '', 'who deals with it, as with any other');

# One refresh within another: a row for each, in one transaction
$node->safe_psql('postgres',
	q{CREATE FUNCTION nested_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT bigbrotr_refresher.refresh('plain') $$});
is(refresh('nested'), '', 'a function may refresh another view');
is(history("view || ' ' || method"),
	"plain merge\npublic.nested function", 'that has a row too');
$node->safe_psql('postgres', 'DROP FUNCTION nested_refresh()');

# A snapshot that is older than the refresh
$node->safe_psql(
	'postgres', "BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT pg_sleep(0.1);
	SELECT bigbrotr_refresher.refresh('bare');
	COMMIT");
is(history('data_as_of < clock_timestamp() - interval \'0.1 s\''),
	't', 'the data is as old as the snapshot that it was made from');

# ---- the caller's rights -------------------------------------------------------

my $as = 'SET ROLE granted';
like(refresh('func', $as),
	qr/ERROR:  42501: permission denied for table work/,
	'a function runs with the rights of the caller');
like(
	refresh('plain', $as),
	qr/ERROR:  42501: must be owner of materialized view plain|ERROR:  42501: permission denied for materialized view plain/,
	'who must be allowed to refresh a view');
$node->safe_psql('postgres', 'GRANT INSERT ON work TO granted');
is(refresh('func', $as), '', 'with these rights');
is( $node->safe_psql('postgres',
		"SELECT who FROM work WHERE who = 'granted'"),
	'granted',
	'it is the caller who refreshes');
is(history('view, outcome'), 'func|refreshed',
	'and the row is written though the caller may not write it');
like(
	refresh('func', 'SET ROLE weak'),
	qr/ERROR:  42501: permission denied for (schema bigbrotr_refresher|function refresh)/,
	'who was not granted it cannot call it');

# Trust is a matter between the caller and the owner of the function.
like(
	refresh('weak.trap'),
	qr/ERROR:  42501: .*weak/,
	'a superuser does not run the function of a weak role');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM work WHERE view = 'trap'"),
	'0',
	'not at all');
like(refresh('weak.trap', $as), qr/ERROR:  42501: .*weak/,
	'nor does another weak role');
is(refresh('granted.own', $as), '', 'but its own');
is(history('view'), 'granted.own', 'under its own name');

# What is listed cannot be shown as refreshed by what only has its name.
$node->safe_psql(
	'postgres', q{SET ROLE granted;
	CREATE FUNCTION granted.broken_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION granted.func_refresh() RETURNS void LANGUAGE sql AS ''});
is(refresh('broken', "$as; SET search_path = granted"),
	'', 'what has the name of a listed view');
is(history('view'), 'granted.broken', 'is not shown as that');

# The table is written to with its owner's rights, but not in the caller's way.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE seen (who name, path text);
	GRANT INSERT ON seen TO public;
	CREATE FUNCTION help() RETURNS void
	LANGUAGE sql AS $$ SELECT $$;
	CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			PERFORM help();
		EXCEPTION WHEN undefined_function THEN NULL;
		END;
		RETURN NEW;
	END $$;
	CREATE TRIGGER look BEFORE INSERT ON bigbrotr_refresher.history
	FOR EACH ROW EXECUTE FUNCTION look();
	SET ROLE granted;
	CREATE FUNCTION granted.help() RETURNS void LANGUAGE sql
	AS $$ INSERT INTO public.seen
		VALUES (current_user, current_setting('search_path')) $$;
});
is(refresh('granted.own', "$as; SET search_path = granted"),
	'', 'with a careless trigger on the history');
is($node->safe_psql('postgres', 'SELECT * FROM seen'),
	'', 'the caller\'s function does not run with the rights of its owner');
$node->safe_psql('postgres',
	'DROP TRIGGER look ON bigbrotr_refresher.history');
history('*');

# ---- while the worker is at work ---------------------------------------------

# What a cycle has in hand is locked; the session waits for it as anyone does.
$node->safe_psql('postgres',
	q{CREATE FUNCTION held_refresh() RETURNS void LANGUAGE sql AS $$
	REFRESH MATERIALIZED VIEW public.plain;
	SELECT pg_advisory_xact_lock(1) $$});
my $lock = hold($node, 'postgres', 1);
configure($node, views => 'held', enabled => 'on');
wait_for_waiter($node, 'postgres', 1);
like(
	refresh('plain', "SET lock_timeout = '100ms'"),
	qr/ERROR:  55P03: canceling statement due to lock timeout/,
	'what the worker has in hand is locked');
is(refresh('bare'), '', 'all else is not');
$lock->quit;
is(refresh('plain'), '', 'when that is done, it is this one\'s turn');
is(history("view, coalesce(cycle_start::text, '-') = '-'"),
	"public.bare|t\nheld|f\npublic.plain|t",
	'each has a row of its own');

# ---- clocks --------------------------------------------------------------------

# Since 19, a session can choose the clock by which the server measures.
SKIP:
{
	skip 'the server has one clock', 2
	  if try_sql("SET timing_clock_source = 'tsc'") ne '';
	$node->safe_psql('postgres',
		q{CREATE FUNCTION clock_refresh() RETURNS void LANGUAGE sql AS $$
		SELECT set_config('timing_clock_source', 'system', false) $$});
	is(refresh('clock', "SET timing_clock_source = 'tsc'"),
		'', 'the server\'s clock changes during a refresh');
	is(history("view, duration BETWEEN '0' AND '1 min'"),
		'public.clock|t', 'its duration is measured by another one');
}

$node->stop;
done_testing();
