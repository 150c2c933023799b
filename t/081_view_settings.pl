# Settings of one view: in force for its refresh and for no other, in helpers
# too, whatever its function does to the session.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'view_settings',
	views => 'nothing',
	interval => '1h',
	role => 'refresher',
	'bigbrotr_refresher.retry_interval' => 0);
$node->append_conf('postgresql.conf', "work_mem = '4MB'");

# The role is there before its worker.
$node->append_conf('postgresql.conf', conf_lines(databases => ''));
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE ROLE refresher LOGIN;
	ALTER ROLE refresher SET work_mem = '3MB';
	GRANT pg_read_all_stats TO refresher;
	CREATE EXTENSION bigbrotr_refresher;
	GRANT ALL ON SCHEMA public TO refresher;
	SET ROLE refresher;
	SET search_path = public;
	CREATE TABLE seen (id serial, view text, what text, pid int DEFAULT pg_backend_pid());
	CREATE FUNCTION see(view text) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.seen (view, what) VALUES (view, concat_ws(' ',
			current_setting('work_mem'), current_setting('enable_sort'),
			nullif(current_setting('app.mode', true), '')))
	$$;
	CREATE FUNCTION gate() RETURNS void LANGUAGE sql
	AS 'SELECT pg_advisory_xact_lock(1)';
});
$node->append_conf('postgresql.conf', conf_lines(databases => 'postgres'));
$node->restart;
wait_for_rest($node, 'postgres');

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# make(VIEW, BODY): a function that refreshes this, in PL/pgSQL.
sub make
{
	my ($view, $body, $kind) = @_;

	query("CREATE " . ($kind // 'FUNCTION') . " ${view}_refresh() "
		  . ($kind ? '' : 'RETURNS void')
		  . " LANGUAGE plpgsql AS \$\$ BEGIN $body END \$\$;
		ALTER ROUTINE ${view}_refresh() OWNER TO refresher");
	return;
}

# run(LIST): what views of this list have seen, refreshed once.
sub run
{
	my ($list) = @_;

	query('TRUNCATE seen');
	configure_and_rest($node, views => $list);
	query('TRUNCATE seen');
	query('SELECT bigbrotr_refresher.run(true)');
	return seen();
}

sub seen
{
	return query("SELECT string_agg(view || ': ' || what, ', ' ORDER BY id)
		FROM seen");
}

sub outcome
{
	my ($view) = @_;

	return query("SELECT concat_ws(' ', outcome, sqlstate)
		FROM bigbrotr_refresher.views WHERE view = '$view'");
}

make($_, "PERFORM public.see('$_');")
  foreach 'one', 'two', 'three', 'denied', 'wrong', 'path';

# ---- for one view and no other ---------------------------------------------------

is( run("one (work_mem = 5MB, app.mode = nightly, enable_sort = off), two"
		  . ", three (app.mode = 'it''s, (3)')"),
	"one: 5MB off nightly, two: 3MB on, three: 3MB on it's, (3)",
	'settings hold for one view');
is( query('SELECT settings FROM bigbrotr_refresher.plan() WHERE view = \'three\''),
	"app.mode = 'it''s, (3)'",
	'and are shown');

make('sets', q{
	SET work_mem = '9MB';
	PERFORM public.see('sets');
	RESET work_mem;
	PERFORM public.see('sets');
	SET LOCAL work_mem = '9MB';
	SET LOCAL work_mem TO DEFAULT;
	SET enable_sort = on;
	PERFORM public.see('sets');
	RESET ALL;
	PERFORM public.see('sets');
	SET work_mem = '9MB';
	RESET enable_sort;
	SET app.mode = 'left';
	PERFORM public.see('sets');
});
is( run('sets (work_mem = 5MB, enable_sort = off), two'),
	'sets: 9MB off, sets: 5MB off, sets: 5MB on, sets: 5MB off, '
	  . 'sets: 9MB off left, two: 3MB on',
	'a function that resets its session comes back to them, and leaves nothing');
make('owns', "PERFORM public.see('owns');");
query("ALTER FUNCTION owns_refresh SET work_mem = '8MB'");
is(run('owns (work_mem = 5MB, enable_sort = off), one'),
	'owns: 8MB off, one: 3MB on',
	'what the function itself says comes first');
make('commits', q{
	PERFORM public.see('commits');
	COMMIT;
	PERFORM public.see('commits');
	ROLLBACK;
	PERFORM public.see('commits');
	COMMIT;
	RESET work_mem;
	ROLLBACK;
	RESET ALL;
	PERFORM public.see('commits');
}, 'PROCEDURE');
is(run('commits (work_mem = 5MB), two'),
	'commits: 5MB on, commits: 5MB on, commits: 5MB on, two: 3MB on',
	'transactions of a procedure change nothing')
  or diag(query('SELECT error FROM bigbrotr_refresher.views'));
make('fails', q{
	PERFORM public.see('fails');
	SET work_mem = '9MB';
	PERFORM 1 / 0;
});
is(run('fails (work_mem = 5MB), two'), 'two: 3MB on', 'nor does a failure');
is(outcome('fails'), 'failed 22012', 'which is one');

# ---- helpers ------------------------------------------------------------------------

# Each of two waits for the other one to start.
query(q{
	CREATE FUNCTION meet(me int, other int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock(7, me);
		WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'
				AND classid = 7 AND objid = other)
			AND NOT EXISTS (SELECT FROM public.seen
				WHERE view = 'met_' || other)
		LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
});
make('met_1', "PERFORM public.meet(1, 2); PERFORM public.see('met_1');");
make('met_2', "PERFORM public.meet(2, 1); PERFORM public.see('met_2');");
configure_and_rest($node, 'bigbrotr_refresher.max_workers' => 2);
run('met_1 (work_mem = 5MB), met_2 (work_mem = 6MB); one, two (work_mem = 7MB)');
is( query("SELECT string_agg(view || ': ' || what, ', ' ORDER BY view)
		FROM seen"),
	'met_1: 5MB on, met_2: 6MB on, one: 3MB on, two: 7MB on',
	'helpers have them too');
is( query("SELECT count(DISTINCT pid) FROM seen WHERE view LIKE 'met%'"),
	'2', 'of which there was one');
configure_and_rest($node, 'bigbrotr_refresher.max_workers' => undef);

# ---- our own ------------------------------------------------------------------------

make('slow', 'PERFORM pg_sleep(600);');
make('locked', 'PERFORM public.gate();');
my $holder = hold($node, 'postgres', 1);
run('slow (refresh_timeout = 100ms), locked (lock_timeout = 100ms), two');
is(outcome('slow'), 'failed 57014', 'refresh_timeout of one view');
is(outcome('locked'), 'failed 55P03', 'lock_timeout');
is(seen(), 'two: 3MB on', 'the next view goes on');
$holder->quit;

query(q{
	CREATE TABLE numbers AS SELECT 0.1::float8 / 3 AS n;
	ALTER TABLE numbers OWNER TO refresher;
	SET ROLE refresher;
	SET search_path = public;
	CREATE MATERIALIZED VIEW merged AS SELECT n FROM numbers;
	CREATE UNIQUE INDEX ON merged (n);
	CREATE MATERIALIZED VIEW inner_view AS SELECT n FROM numbers;
	CREATE UNIQUE INDEX ON inner_view (n);
	CREATE MATERIALIZED VIEW digits AS SELECT n::text AS t FROM numbers;
});
make('outer_view', 'REFRESH MATERIALIZED VIEW CONCURRENTLY public.inner_view;');
my $how = q{SELECT string_agg(concat_ws(' ', view, method,
		CASE WHEN rows_inserted IS NULL THEN 'whole' ELSE 'merged' END),
		', ' ORDER BY view)
	FROM (SELECT DISTINCT ON (view) * FROM bigbrotr_refresher.history
		WHERE view IN ('merged', 'outer_view') ORDER BY view, id DESC) AS h};
run('merged, outer_view');
is(query($how), 'merged merge merged, outer_view function merged', 'merge');
run('merged (merge = off), outer_view (merge = off)');
is( query($how),
	'merged refresh concurrently whole, outer_view function whole',
	'can be off for a view, and for what its function refreshes');
configure_and_rest($node, 'bigbrotr_refresher.merge' => 'off');
run('merged (merge = worker), outer_view (merge = all)');
is(query($how), 'merged merge merged, outer_view function merged', 'or on');
configure_and_rest($node, 'bigbrotr_refresher.merge' => undef);

run("fails (retry_interval = 1min), slow (refresh_timeout = '0.1s', retry_interval = 0)");
is( query("SELECT string_agg(view || ' ' || (next_due - s.cycle_start
			= CASE view WHEN 'slow' THEN interval '1 hour'
			ELSE least(interval '1 hour',
				interval '1 min' * power(2, s.failures - 1)) END),
			', ' ORDER BY view)
		FROM bigbrotr_refresher.views
			JOIN bigbrotr_refresher.view_state AS s USING (view)
		WHERE view IN ('fails', 'slow')"),
	'fails true, slow true',
	'retry_interval');

# ---- what has not changed under them ----------------------------------------------------

# The outcomes of "digits" in the next cycles
sub next_outcomes
{
	my ($count, %settings) = @_;
	my $offset = log_size($node);
	my @cycles;
	my $number = configure($node, %settings);

	wait_until(
		'there were cycles',
		sub {
			@cycles = grep { $_->{configuration} >= $number }
			  grep { ($_->{view} // '') eq 'digits' }
			  events(log_since($node, $offset));
			return @cycles >= $count;
		});
	return join ' ', map { $_->{event} } @cycles[ 0 .. $count - 1 ];
}

my $digits = 'digits @ 1s (skip_unchanged = on, extra_float_digits';
is( next_outcomes(3, views => "$digits = 0), two"),
	'view_refreshed view_skipped view_skipped',
	'a view is skipped under settings of its own');
is(query('SELECT t FROM digits'), '0.0333333333333333', 'which its rows show');
is( next_outcomes(3, views => "$digits = 1), two"),
	'view_refreshed view_skipped view_skipped',
	'other settings are a change');
is(query('SELECT t FROM digits'), '0.03333333333333333', 'of its rows');
is( next_outcomes(2, views => "$digits = 1, work_mem = 6MB), two"),
	'view_skipped view_skipped',
	'those that no row depends on are none');
configure_and_rest($node, views => 'nothing');

# ---- what the worker's role may not set ------------------------------------------------

# plan() is asked by a superuser, but it is the worker that counts.
my $errors = "SELECT string_agg(view || ': ' || error, ', ' ORDER BY view)
	FROM bigbrotr_refresher.plan() WHERE error IS NOT NULL";
my $log;
my $list = 'denied (temp_file_limit = 1GB), wrong (work_memory = 1MB), '
  . 'path (search_path = x), two';
is(run($list), 'two: 3MB on', 'with a setting that is wrong no view is refreshed');
is( query($errors),
	'denied: permission denied to set parameter "temp_file_limit", '
	  . 'path: parameter "search_path" cannot be set for one view, '
	  . 'wrong: unrecognized configuration parameter "work_memory"',
	'as plan() says');
is( query("SELECT string_agg(view || ': ' || error, ', ' ORDER BY view)
		FROM bigbrotr_refresher.views WHERE error IS NOT NULL"),
	query($errors),
	'and the views after the cycle');
is(outcome('denied'), 'failed 42501', 'with the code');
query('GRANT SET ON PARAMETER temp_file_limit TO refresher');
is(run($list), 'denied: 3MB on, two: 3MB on', 'until the role may set it');
query('REVOKE SET ON PARAMETER temp_file_limit FROM refresher');

# ---- a reload in mid-cycle --------------------------------------------------------------

make('gated', "PERFORM public.gate(); PERFORM public.see('gated');");
make('later', "PERFORM public.see('later');");
configure_and_rest($node, views => 'nothing');
query('TRUNCATE seen');
$holder = hold($node, 'postgres', 1);
my $offset = log_size($node);
configure($node, views => 'gated (work_mem = 5MB), later (work_mem = 5MB)');
wait_for_waiter($node, 'postgres', 1);
configure($node, views => 'gated (work_mem = 6MB), later (work_mem = 6MB)');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_for_line($node, 'view_refreshed view=later', $offset);
is(seen(), 'gated: 5MB on, later: 6MB on',
	'a reload changes the settings of the views that come later');
configure_and_rest($node,
	views => 'gated (work_mem = 7MB), later (work_mem = 7MB)');
is(seen(), 'gated: 5MB on, later: 6MB on', 'and makes none due');
$holder->quit;

nothing_broke($node);
$node->stop;
done_testing();
