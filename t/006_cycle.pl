# What others do to the views while a cycle runs, and what one view leaves to
# the next.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node('cycle', enabled => 'off', interval => '1h');
$node->start;

# Views named gate_N wait for the advisory lock N.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE done (step text);
	CREATE FUNCTION gate_1_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)';
	CREATE FUNCTION gate_2_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(2)';
});
configure($node, enabled => 'on', views => 'nothing');

sub release
{
	my ($session, $key) = @_;

	$session->query_safe("SELECT pg_advisory_unlock($key)");
	return;
}

# ---- procedures ---------------------------------------------------------

$node->safe_psql('postgres', <<'SQL');
	CREATE PROCEDURE commits_refresh() LANGUAGE plpgsql AS $$
	DECLARE
		r record;
	BEGIN
		INSERT INTO done VALUES ('commits 1');
		COMMIT;
		INSERT INTO done VALUES ('commits 2');
		COMMIT;
		FOR r IN SELECT generate_series(3, 4) AS n LOOP
			INSERT INTO done VALUES ('commits ' || r.n);
			COMMIT;
		END LOOP;
		INSERT INTO done VALUES ('undone');
		ROLLBACK;
		INSERT INTO done SELECT 'commits ' || count(*) + 1 FROM done
			WHERE step LIKE 'commits %';
	END $$;
	CREATE PROCEDURE breaks_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO done VALUES ('breaks 1');
		COMMIT;
		INSERT INTO done VALUES ('breaks 2');
		PERFORM 1 / 0;
	END $$;
	CREATE PROCEDURE plain_refresh() LANGUAGE sql
	AS $$ INSERT INTO done VALUES ('plain') $$;
	CREATE FUNCTION last_refresh() RETURNS void LANGUAGE sql
	AS $$ INSERT INTO done VALUES ('last') $$;
	CREATE FUNCTION commit_in_function_refresh() RETURNS void
	LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
SQL
my $log = cycle($node,
	views => 'commits, breaks, plain, commit_in_function, last');
is( outcomes($log),
	'commits breaks:22012 plain commit_in_function:2D000 last',
	'a procedure may COMMIT, and a function may not');
is( $node->safe_psql('postgres', 'SELECT step FROM done'),
	join("\n",
		'commits 1', 'commits 2', 'commits 3', 'commits 4', 'commits 5',
		'breaks 1', 'plain', 'last'),
	'what was committed before an error stays');

# ---- what is dropped, renamed or made anew in mid-cycle -------------------------

$node->safe_psql('postgres', <<'SQL');
	CREATE MATERIALIZED VIEW dropped AS SELECT 1;
	CREATE MATERIALIZED VIEW renamed AS SELECT 1;
	CREATE MATERIALIZED VIEW remade AS SELECT 1;
	CREATE MATERIALIZED VIEW moved AS SELECT 1;
	CREATE FUNCTION function_dropped_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION function_remade_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION function_replaced_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE MATERIALIZED VIEW kept AS SELECT 1 AS n;
SQL
my $session = hold($node, 'postgres', 1, 2);
configure($node,
	views => 'gate_1, dropped, renamed, remade, moved, function_dropped, '
	  . 'function_remade, function_replaced, kept');
wait_for_waiter($node, 'postgres', 1);
$node->safe_psql('postgres', <<'SQL');
	DROP MATERIALIZED VIEW dropped;
	ALTER MATERIALIZED VIEW renamed RENAME TO renamed_away;
	DROP MATERIALIZED VIEW remade;
	CREATE MATERIALIZED VIEW remade AS SELECT 1;
	CREATE SCHEMA elsewhere;
	ALTER MATERIALIZED VIEW moved SET SCHEMA elsewhere;
	DROP FUNCTION function_dropped_refresh();
	DROP FUNCTION function_remade_refresh();
	CREATE FUNCTION function_remade_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE OR REPLACE FUNCTION function_replaced_refresh() RETURNS void
	LANGUAGE sql AS 'INSERT INTO done VALUES (''replaced'')';
	CREATE UNIQUE INDEX ON kept (n);
SQL
release($session, 1);
$log = cycle_since($node);
is( outcomes($log),
	'gate_1 dropped:42883 renamed:42883 remade:55000 moved:42883'
	  . ' function_dropped:42883 function_remade:55000 function_replaced kept',
	'what is gone, or is something else now, has failed; the rest goes on');
like(
	$log,
	qr/error="\\"remade\\" was dropped, renamed or created anew since the cycle was planned"$more/,
	'the log says why');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM done WHERE step = 'replaced'"),
	1,
	'a function that was replaced is what it is now');

# ---- somebody's own REFRESH in mid-cycle ------------------------------------------

$node->safe_psql('postgres', <<'SQL');
	CREATE MATERIALIZED VIEW m1 AS SELECT 1 AS n;
	CREATE MATERIALIZED VIEW m2 AS SELECT n FROM m1;
	CREATE MATERIALIZED VIEW m3 AS SELECT n FROM m2;
	CREATE MATERIALIZED VIEW m4 AS SELECT n FROM m3;
	CREATE UNIQUE INDEX ON m1 (n);
	CREATE UNIQUE INDEX ON m2 (n);
	CREATE UNIQUE INDEX ON m3 (n);
	CREATE FUNCTION m4_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		REFRESH MATERIALIZED VIEW m4;
		PERFORM pg_advisory_xact_lock(2);
	END $$;
	CREATE MATERIALIZED VIEW m5 AS SELECT n FROM m4;
SQL
foreach my $view ('m2', 'm3')
{
	my $other = session($node, 'postgres');

	# What is not listed is forgotten, and due when it is listed again.
	configure_and_rest($node, views => 'nothing');
	$session->query_safe('SELECT pg_advisory_lock(1)');
	configure($node, views => 'gate_1, m1, m2, m3');
	wait_for_waiter($node, 'postgres', 1);
	$other->query_safe("BEGIN; REFRESH MATERIALIZED VIEW $view");
	release($session, 1);
	$node->poll_query_until(
		'postgres',
		"SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
		 WHERE backend_type = 'bigbrotr_refresher' AND NOT granted
			AND relation = '$view'::regclass")
	  or die "the worker does not wait for $view";
	is( outcomes(cycle_so_far($node)),
		$view eq 'm2' ? 'gate_1 m1' : 'gate_1 m1 m2',
		"a REFRESH of $view holds up the worker there");
	$other->query_safe('COMMIT');
	is(outcomes(cycle_since($node)),
		'gate_1 m1 m2 m3', 'and no longer than it lasts');
	$other->quit;
}

# The other way round: somebody waits for what the worker has in hand, and has
# a lock on what the worker wants next.
my $other = session($node, 'postgres');
configure($node, views => 'm4, m5');
wait_for_waiter($node, 'postgres', 2);
$other->query_until(qr/begun/,
	"BEGIN;\n\\echo begun\nREFRESH MATERIALIZED VIEW m5;\nCOMMIT;\n");
$node->poll_query_until(
	'postgres',
	"SELECT count(*) = 1 FROM pg_locks
	 WHERE NOT granted AND relation = 'm4'::regclass")
  or die 'the manual refresh does not wait';
release($session, 2);
is(outcomes(cycle_since($node)), 'm4 m5',
	'a REFRESH of one view waits for the worker at most for one view');
$other->query_safe('SELECT 1');
$other->quit;
unlike(log_since($node, 0), qr/deadlock detected/, 'there was no deadlock');
$session->query_safe('SELECT pg_advisory_lock(2)');

# ---- no snapshot is held between views -----------------------------------------

# A table whose rows are all deleted has no page left when VACUUM could remove
# them.
sub size_after_vacuum
{
	return $node->safe_psql('postgres',
		"VACUUM doomed;\nSELECT pg_relation_size('doomed')");
}

$node->safe_psql('postgres',
	'CREATE TABLE doomed AS SELECT generate_series(1, 1000) AS n');
$session->query_safe('SELECT pg_advisory_lock(1)');
configure($node, views => 'gate_1, gate_2');
wait_for_waiter($node, 'postgres', 1);
$node->safe_psql('postgres', 'DELETE FROM doomed');
cmp_ok(size_after_vacuum(), '>', 0,
	'VACUUM keeps the rows that a view may see');
release($session, 1);
wait_for_waiter($node, 'postgres', 2);
is(size_after_vacuum(), 0,
	'it removes in mid-cycle what the next view cannot see');
$node->safe_psql('postgres', 'INSERT INTO doomed VALUES (1)');
release($session, 2);
$node->poll_query_until('postgres',
	"SELECT state = 'idle' AND query LIKE 'next refresh due %'
		AND backend_xmin IS NULL AND backend_xid IS NULL
		AND xact_start IS NULL
	 FROM pg_stat_activity WHERE backend_type = 'bigbrotr_refresher'")
  or die 'the worker holds a snapshot at rest';
$node->safe_psql('postgres', 'DELETE FROM doomed');
is(size_after_vacuum(), 0, 'between cycles there is nothing to hold it up');
$session->quit;

# ---- the order ------------------------------------------------------------------

$node->safe_psql('postgres', <<'SQL');
	CREATE TABLE source AS SELECT 1 AS n;
	CREATE MATERIALIZED VIEW base AS SELECT n FROM source;
	CREATE VIEW between_1 AS SELECT n FROM base;
	CREATE VIEW between_2 AS SELECT n FROM between_1;
	CREATE MATERIALIZED VIEW top AS SELECT n FROM between_2;
	CREATE MATERIALIZED VIEW aside AS SELECT 1;
	UPDATE source SET n = 2;
SQL
my $offset = log_size($node);
my $configuration =
  configure($node, views => 'aside, top, base @ 1s', interval => '1s');
my @cycles;
wait_until(
	'there were three cycles',
	sub {
		$log = log_since($node, $offset);
		@cycles = cycles($log, $configuration);
		return @cycles >= 3;
	});
is( join(' ', @{ $cycles[$_]{views} }),
	'aside base top', 'a view is refreshed after what it reads')
  foreach (0 .. 2);
is($node->safe_psql('postgres', 'SELECT n FROM top'),
	2, 'so that one cycle is enough');
is( join("\n", $log =~ /(bigbrotr_refresher: order_corrected.*)/g),
	'bigbrotr_refresher: order_corrected view=top after=base',
	'the log says so, and says it once');

# ---- nothing is left to the next view ---------------------------------------------

$node->safe_psql('postgres', <<'SQL');
	CREATE ROLE weak;
	CREATE TABLE seen (after text, what text);
	CREATE FUNCTION look(after text) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.seen VALUES (after, pg_catalog.concat_ws(' ',
			current_user = (SELECT rolname FROM pg_roles WHERE oid = 10),
			session_user = (SELECT rolname FROM pg_roles WHERE oid = 10),
			current_setting('search_path'), current_setting('work_mem'),
			current_setting('statement_timeout'),
			current_setting('lock_timeout'),
			current_setting('transaction_read_only'),
			current_setting('transaction_isolation'),
			(SELECT count(*) FROM pg_locks
			 WHERE locktype = 'advisory' AND pid = pg_backend_pid())))
	$$;
	CREATE FUNCTION look_0_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT look('nothing') $$;
	CREATE FUNCTION sets_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		SET search_path = nowhere;
		SET work_mem = '64kB';
		SET statement_timeout = 1;
		SET lock_timeout = 1;
		SET default_transaction_read_only = on;
		SET default_transaction_isolation = serializable;
		PERFORM pg_advisory_lock(5);
		SET ROLE weak;
	END $$;
	CREATE FUNCTION look_1_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT look('sets') $$;
	CREATE PROCEDURE sets_and_breaks_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		SET search_path = nowhere;
		PERFORM pg_advisory_lock(6);
		SET ROLE weak;
		COMMIT;
		PERFORM 1 / 0;
	END $$;
	CREATE FUNCTION look_2_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT look('sets_and_breaks') $$;
	CREATE FUNCTION becomes_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		SET SESSION AUTHORIZATION weak;
	END $$;
	CREATE FUNCTION look_3_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT look('becomes') $$;
SQL
$log = cycle($node,
	views => 'look_0, sets, look_1, sets_and_breaks, look_2',
	interval => '1h');
is( outcomes($log),
	'look_0 sets look_1 sets_and_breaks:22012 look_2',
	'no view keeps the next from its work');
my $clean = $node->safe_psql('postgres',
	"SELECT what FROM seen WHERE after = 'nothing'");
like($clean, qr/^t t "\$user", public /, 'a view is refreshed as the worker');
$log = cycle($node, views => 'becomes, look_3');
foreach my $view ('sets', 'sets_and_breaks', 'becomes')
{
	is( $node->safe_psql('postgres',
			"SELECT what FROM seen WHERE after = '$view'"),
		$clean,
		"nothing is left of what $view did to the session");
}

$node->stop;
done_testing();
