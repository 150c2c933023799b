# The view "views" and the plan: when each view was last refreshed, when it is
# due, how old its data is, and whether that is somebody else's fault.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

# chain_1 <- chain_2 <- (a plain view) <- chain_3; alone reads nothing else
my $node = new_node(
	'views',
	views => 'chain_3 @ 2h, chain_2, chain_1, alone, never',
	interval => '1h',
	enabled => 'off',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE source (x int);
	INSERT INTO source VALUES (1);
	CREATE MATERIALIZED VIEW chain_1 AS SELECT 1 / x AS x FROM source;
	CREATE MATERIALIZED VIEW chain_2 AS SELECT x FROM chain_1;
	CREATE VIEW between AS SELECT x FROM chain_2;
	CREATE MATERIALIZED VIEW chain_3 AS SELECT x FROM between;
	CREATE MATERIALIZED VIEW alone AS SELECT x FROM source;
} =~ s/between/in_between/gr);

sub views
{
	my ($columns, $condition) = @_;

	$condition //= 'true';
	return $node->safe_psql('postgres',
		"SELECT $columns FROM bigbrotr_refresher.views AS v WHERE $condition");
}

sub run_all
{
	return $node->safe_psql('postgres',
		'SELECT views, refreshed, failed FROM bigbrotr_refresher.run(true)');
}

# ---- nothing has happened yet -------------------------------------------------

is( views('view, num_nulls(last_attempt, last_success, duration, outcome,
		sqlstate, error, next_due, data_as_of), failures, is_degraded'),
	join("\n", map { "$_|8|0|f" } qw(chain_1 chain_2 chain_3 alone never)),
	'a row for each view of the list, in the order of the plan');
is( $node->safe_psql('postgres',
		'SELECT view, depends_on, due FROM bigbrotr_refresher.plan()'),
	join("\n",
		'chain_1|{}|', 'chain_2|{chain_1}|', 'chain_3|{chain_2}|',
		'alone|{}|', 'never|{}|'),
	'the plan knows who reads whom, and that all are due at once');

# ---- all is well --------------------------------------------------------------

configure($node, enabled => 'on');
$node->poll_query_until('postgres',
	"SELECT state = 'resting' AND next_due IS NOT NULL AND views_total = 5
	 FROM bigbrotr_refresher.status()")
  or die 'there was no cycle';
is( views(
		"view, outcome, sqlstate, failures, is_degraded,
		last_success IS NOT DISTINCT FROM
			CASE WHEN outcome = 'refreshed' THEN last_attempt END,
		duration >= interval '0'"),
	join("\n",
		(map { "$_|refreshed||0|f|t|t" } qw(chain_1 chain_2 chain_3 alone)),
		'never|failed|42883|1|f|t|t'),
	'the last attempt of each is shown');
is(views('error', "view = 'never'"),
	'materialized view or refresh function "never" does not exist', 'and why it failed');
is( views(
		'next_due - (SELECT max(cycle_start) FROM bigbrotr_refresher.history)'),
	join("\n", qw(01:00:00 01:00:00 02:00:00 01:00:00 01:00:00)),
	'each is due after its own interval, counted from the cycle');
is( $node->safe_psql('postgres',
		'SELECT bool_and(p.due = v.next_due)
		 FROM bigbrotr_refresher.plan() AS p
			JOIN bigbrotr_refresher.views AS v USING (view)'),
	't',
	'as in the plan');
my $first = views('last_success', "view = 'chain_1'");
is( views("data_as_of = '$first'", "view LIKE 'chain_%'"),
	"t\nt\nt",
	'the data of a chain is as old as that of its first link');
is(views('data_as_of = last_success', "view = 'alone'"),
	't', 'that of others as their refresh');

# ---- the first link breaks ---------------------------------------------------

$node->safe_psql('postgres', 'UPDATE source SET x = 0');
is(run_all(), '5|3|2', 'the first link of the chain breaks');
is( views(
		"view, outcome, sqlstate, failures, is_degraded,
		data_as_of = '$first', last_success = '$first'"),
	join("\n",
		'chain_1|failed|22012|1|f|t|t', 'chain_2|refreshed||0|t|t|f',
		'chain_3|refreshed||0|t|t|f', 'alone|refreshed||0|f|f|f',
		'never|failed|42883|2|f||'),
	'what reads it is degraded, through others too, and as old as it');
is( views("last_success < last_attempt", "view = 'chain_1'"),
	't', 'the last attempt was later than the last success');
is(run_all(), '5|3|2', 'it stays broken');
is(views('failures', "view = 'chain_1'"), '2', 'its failures are counted');
is(views('is_degraded', "view LIKE 'chain_%'"),
	"f\nt\nt", 'the others stay degraded');

# A link in the middle breaks too.
$node->safe_psql('postgres',
	'CREATE FUNCTION chain_2_refresh() RETURNS void
	 LANGUAGE sql AS \'SELECT 1 / 0\'');
is(run_all(), '5|2|3', 'another link breaks');
is(views('outcome, is_degraded', "view LIKE 'chain_%'"),
	"failed|f\nfailed|t\nrefreshed|t",
	'one may have failed and be degraded');
$node->safe_psql('postgres', 'UPDATE source SET x = 1');
is(run_all(), '5|3|2', 'the first link is repaired');
is(views('outcome, is_degraded', "view LIKE 'chain_%'"),
	"refreshed|f\nfailed|f\nrefreshed|t",
	'what reads only what is refreshed is not degraded');
is( $node->safe_psql(
		'postgres',
		"SELECT a.data_as_of > '$first', b.data_as_of = '$first',
			c.data_as_of = '$first'
		 FROM bigbrotr_refresher.views AS a, bigbrotr_refresher.views AS b,
			bigbrotr_refresher.views AS c
		 WHERE a.view = 'chain_1' AND b.view = 'chain_2'
			AND c.view = 'chain_3'"),
	't|t|t',
	'what follows it is still as old as before');
$node->safe_psql('postgres', 'DROP FUNCTION chain_2_refresh()');
is(run_all(), '5|4|1', 'all are repaired');
is( views(
		"is_degraded, data_as_of = (SELECT last_success
			FROM bigbrotr_refresher.views WHERE view = 'chain_1'),
		failures",
		"view LIKE 'chain_%'"),
	join("\n", ('f|t|0') x 3),
	'then nothing is degraded, and everything of now');

# Refreshed alone, a view is not younger than what it reads.
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('chain_3')");
is( views(
		"data_as_of = (SELECT last_success
			FROM bigbrotr_refresher.views WHERE view = 'chain_1'),
		data_as_of < last_success, last_attempt = last_success",
		"view = 'chain_3'"),
	't|t|t',
	'nor is one that is refreshed alone');
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('chain_1')");
run_all();
is( views(
		"data_as_of >= (SELECT started_at FROM bigbrotr_refresher.history
			WHERE view = 'chain_1' ORDER BY id DESC LIMIT 1)",
		"view = 'chain_3'"),
	't',
	'a cycle renews it');

# ---- many rows --------------------------------------------------------------

# A long history costs nothing: what is shown of it is found by an index, with
# statistics and without.
my $insert = q{
	INSERT INTO bigbrotr_refresher.history
		(view, cycle_start, schedule_start, started_at, duration, outcome,
		 failures, wal_bytes, shared_blks_hit, shared_blks_read,
		 temp_blks_read, temp_blks_written)
	SELECT v, t, t, t, interval '1 s',
		CASE WHEN v = 'never' THEN 'failed' ELSE 'refreshed' END,
		0, 0, 0, 0, 0, 0
	FROM generate_series(1, 10000) AS n,
		LATERAL (SELECT now() - (10000 - n) * interval '1 minute' AS t) AS t,
		unnest(ARRAY['chain_1', 'chain_2', 'chain_3', 'alone', 'never']) AS v
	ORDER BY n};
$node->safe_psql('postgres', $insert);
cmp_ok($node->safe_psql('postgres',
		'SELECT count(*) FROM bigbrotr_refresher.history'),
	'>', 50_000, 'there are fifty thousand rows');

# The blocks of the history and of its indexes that a statement reads.
sub blocks_read
{
	my ($statement) = @_;
	my $count = q{SELECT sum(pg_stat_get_xact_blocks_fetched(c.oid))
		FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
		WHERE 'bigbrotr_refresher.history'::regclass IN (c.oid, i.indrelid)};

	return $node->safe_psql('postgres',
		"BEGIN; CREATE TEMPORARY TABLE shown AS $statement; $count; COMMIT");
}

foreach my $round ('without statistics', 'with statistics')
{
	is(blocks_read("SELECT * FROM bigbrotr_refresher.$_"),
		'0', "$_ reads nothing of the history, $round")
	  foreach ('views', 'status', 'plan()');
	cmp_ok(blocks_read('SELECT * FROM bigbrotr_refresher.timeline()'),
		'<', 50, "the timeline reads next to nothing, $round");
	cmp_ok(
		blocks_read(
			'SELECT * FROM bigbrotr_refresher.timeline(
				(SELECT min(cycle_start) FROM bigbrotr_refresher.history))'),
		'<', 50, 'nor does that of an older cycle');

	# jit would take a second for what takes a millisecond.
	my ($cost) = $node->safe_psql('postgres',
		'EXPLAIN SELECT * FROM bigbrotr_refresher.views') =~ /cost=[\d.]+\.\.(\d+)/;
	cmp_ok($cost, '<', 50_000, 'views is too cheap to be compiled');
	$node->safe_psql('postgres',
		'ANALYZE bigbrotr_refresher.history, bigbrotr_refresher.view_state');
}

$node->stop;
done_testing();
