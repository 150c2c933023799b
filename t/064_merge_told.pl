# What is told of merges: in the log, in the history, by plan(), and at start.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'merge_told',
	shared_preload_libraries => 'bigbrotr_refresher, pg_stat_statements',
	views => 'many, folded, plain',
	interval => '1h',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;
unlike(slurp_file($node->logfile),
	qr/listed before it/, 'listed first, there is nothing to say');
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE EXTENSION pg_stat_statements;
	CREATE TABLE source AS
		SELECT g AS id, 0 AS n FROM generate_series(1, 2000) AS g;
	CREATE MATERIALIZED VIEW many AS SELECT * FROM source;
	CREATE UNIQUE INDEX ON many (id);
	CREATE MATERIALIZED VIEW folded AS SELECT count(*) AS n FROM source;
	CREATE UNIQUE INDEX ON folded (n);
	CREATE FUNCTION folded_refresh() RETURNS void LANGUAGE sql
	AS 'REFRESH MATERIALIZED VIEW CONCURRENTLY folded;
		REFRESH MATERIALIZED VIEW CONCURRENTLY many';
	CREATE MATERIALIZED VIEW plain AS SELECT 1 AS n WITH NO DATA;
	VACUUM ANALYZE many;
});
wait_for_rest($node, 'postgres');

sub run_all
{
	my $offset = log_size($node);

	$node->safe_psql('postgres',
		'SELECT FROM bigbrotr_refresher.run(true)');
	return join "\n", map {
		    "$_->{view} "
		  . join ',', map { $_ // '-' } @{$_}{qw(inserted updated deleted)}
	} grep { $_->{event} eq 'view_refreshed' } events(log_since($node, $offset));
}

sub newest
{
	return $node->safe_psql(
		'postgres', q{
		SELECT DISTINCT ON (view) view, method, rows_inserted, rows_updated,
			rows_deleted
		FROM bigbrotr_refresher.history ORDER BY view, id DESC});
}

sub advised
{
	return $node->safe_psql('postgres',
		q{SELECT string_agg(view, ' ') FROM bigbrotr_refresher.plan()
		WHERE advice LIKE 'The last merge has changed%'});
}

run_all();
is(run_all(), "many 0,0,0\nfolded 0,0,0\nplain 0,0,0",
	'once they are populated, all are merged');
is(advised(), '', 'nothing changes, nothing is advised');
$node->safe_psql(
	'postgres', 'UPDATE source SET n = 1 WHERE id <= 3;
	DELETE FROM source WHERE id > 1999;
	INSERT INTO source VALUES (3001, 0), (3002, 0)');
is(run_all(), "many 2,3,1\nfolded 1,0,1\nplain 0,0,0", 'the log counts rows');
is(newest(), "folded|function|1|0|1\nmany|merge|2|3|1\nplain|merge|0|0|0",
	'so does the history');
$node->safe_psql('postgres', 'UPDATE source SET n = n + 1');
run_all();
is(advised(), 'many', 'where most rows change, plan() has an advice');

is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM pg_stat_statements
		WHERE query LIKE 'REFRESH MATERIALIZED VIEW%public.many' AND calls > 3}),
	'1',
	'pg_stat_statements sees a merge as the one command that it is');

configure($node, 'bigbrotr_refresher.merge' => 'off');
is(run_all(), "many -,-,-\nfolded -,-,-\nplain -,-,-",
	'without merging, nothing is counted');
is(newest(), "folded|function|||\nmany|refresh concurrently|||\nplain|refresh|||",
	'and the server refreshes');

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries',
	"'pg_stat_statements, bigbrotr_refresher'");
my $offset = log_size($node);
$node->restart;
like(
	log_since($node, $offset),
	qr/LOG:  bigbrotr_refresher: other libraries are listed before it in "shared_preload_libraries"\n.*DETAIL: .*\n.*HINT:  List "bigbrotr_refresher" first\./,
	'listed last, it says so');
$node->stop;
done_testing();
