# Views that somebody has made so that the plan, or the server's own planning of
# their queries, would take for ever; and what the log says of a plan, once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'plans',
	enabled => 'off',
	interval => '1h',
	views => 'nothing',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;

# The log of a cycle that is asked for.
sub run_all
{
	my $offset = log_size($node);

	$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
	return wait_for_line($node, 'cycle_completed', $offset);
}

# ---- views below views -----------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE MATERIALIZED VIEW good AS SELECT 1 AS x;
	CREATE VIEW chain_1 AS SELECT x FROM good;
	CREATE VIEW twice_1 AS SELECT x FROM good;
	DO $$
	BEGIN
		FOR i IN 2 .. 6000 LOOP
			EXECUTE format('CREATE VIEW chain_%s AS SELECT x FROM chain_%s', i, i - 1);
			IF i % 500 = 0 THEN
				COMMIT;
			END IF;
		END LOOP;
		FOR i IN 2 .. 60 LOOP
			EXECUTE format('CREATE VIEW twice_%s AS
				SELECT x FROM twice_%s AS a JOIN twice_%s AS b USING (x)', i, i - 1, i - 1);
		END LOOP;
	END
	$$;
	CREATE MATERIALIZED VIEW chain AS SELECT x FROM chain_6000 WITH NO DATA;
	CREATE MATERIALIZED VIEW twice AS SELECT x FROM twice_60 WITH NO DATA;
	CREATE MATERIALIZED VIEW short AS SELECT x FROM chain_10 WITH NO DATA;
});
my $log = cycle($node, enabled => 'on', views => '*');
is(outcomes($log), 'good chain:54001 short twice:54001',
	'a view that is nested too deeply fails, alone');
like(
	$log,
	qr/view=chain \S+ sqlstate=54001 error="query of view \\"public\.chain\\" is too complex"$more\n.*DETAIL:  .*\n.*HINT:  /,
	'and the log says why');
is( $node->safe_psql(
		'postgres', q{SELECT view, outcome, sqlstate, depends_on
		FROM bigbrotr_refresher.views JOIN bigbrotr_refresher.plan() USING (view)
		ORDER BY view}),
	"chain|failed|54001|{good}\ngood|refreshed||{}\n"
	  . "short|refreshed||{good}\ntwice|failed|54001|{good}",
	'as do the history and the plan');

# Where the bound is no longer reached, it is refreshed.
$node->safe_psql('postgres',
	'CREATE OR REPLACE VIEW chain_6000 AS SELECT x FROM good');
is(outcomes(run_all()), 'good chain short twice:54001', 'a view that is nested no more is refreshed');

# ---- what is said of a plan ---------------------------------------------------------

# Several things of one view, each once
$node->safe_psql(
	'postgres', q{
	CREATE ROLE weak;
	CREATE FUNCTION chain_refresh() RETURNS void LANGUAGE sql AS 'SELECT 1 / 0';
	ALTER FUNCTION chain_refresh OWNER TO weak;
});
my $offset = log_size($node);
configure($node, views => 'chain, public.chain, good');
$log = run_all();
my @said = log_since($node, $offset)
  =~ /bigbrotr_refresher: ((?:name_|order_|function_).*)$/mg;
is( join("\n", sort @said),
	"function_refused view=chain owner=weak\n"
	  . "name_repeated view=chain also=public.chain\n"
	  . 'order_corrected view=chain after=good',
	'the log says each thing that there is to say of a view');
is(outcomes($log), 'good chain', 'which is refreshed');
run_all();
$node->safe_psql('postgres', 'ALTER FUNCTION chain_refresh OWNER TO CURRENT_USER;
	 CREATE OR REPLACE FUNCTION chain_refresh() RETURNS void LANGUAGE sql AS \'\'');
run_all();
$node->safe_psql('postgres', 'ALTER FUNCTION chain_refresh OWNER TO weak');
run_all();
is( join(' ', log_since($node, $offset) =~ /bigbrotr_refresher: ((?:name|order|function)_\w+)/g),
	'name_repeated function_refused order_corrected function_refused',
	'and nothing again that has not changed');
is( $node->safe_psql('postgres',
		"SELECT string_agg(method, ' ' ORDER BY id)
		 FROM bigbrotr_refresher.history WHERE view = 'chain'
			AND outcome = 'refreshed'"),
	'refresh merge merge function merge',
	'the function is called as long as its owner is trusted');

# ---- cancelled while it plans ------------------------------------------------------

# Whoever catches the cancellation undoes what belongs to the block, and no less.
my $session = session($node, 'postgres');
$session->query_safe(
	q{CREATE TABLE undone (); SELECT FROM bigbrotr_refresher.plan()});
my $locker = session($node, 'postgres');
$locker->query_safe('BEGIN; LOCK TABLE pg_catalog.pg_depend');
my $caught = $session->query_safe(q{
	SET statement_timeout = '1s';
	DO $$
	BEGIN
		INSERT INTO undone DEFAULT VALUES;
		PERFORM FROM bigbrotr_refresher.plan();
		RAISE 'not cancelled';
	EXCEPTION WHEN query_canceled THEN
		NULL;
	END
	$$;
	RESET statement_timeout;
	SELECT 'caught'});
$locker->query_safe('COMMIT');
$locker->quit;
is($caught, 'caught', 'a plan is cancelled, which is caught');
is($session->query_safe('SELECT count(*) FROM undone'), 0,
	'what was done before is undone');
is( $node->safe_psql('postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in trans%'}),
	0,
	'and no transaction is left open');
$session->quit;

nothing_broke($node);
$node->stop;
done_testing();
