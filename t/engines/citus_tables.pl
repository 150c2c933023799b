# Views over every kind of table that Citus has, refreshed by a worker of the
# coordinator: they are never skipped, and are what their queries return after
# each cycle.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..", $FindBin::RealBin;

use Engines;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;

need_engine('citus');

my ($node, @workers) = citus_cluster(
	'citus_tables',
	databases => 'postgres',
	enabled => 'off',
	views => 'nothing',
	interval => '1s',
	'bigbrotr_refresher.retry_interval' => 0,
	'bigbrotr_refresher.skip_unchanged' => 'on');

# A table of each kind, and a view over it that has rows of many of its shards.
# What a columnar table has cannot be updated.
my %columnar = map { $_ => 1 } qw(columnar columnar_local);
my %make = (
	distributed => "SELECT create_distributed_table('%s', 'id')",
	reference => "SELECT create_reference_table('%s')",
	managed => "SELECT citus_add_local_table_to_metadata('%s')",
	single => "SELECT create_distributed_table('%s', NULL, colocate_with => 'none')",
	columnar => "SELECT create_distributed_table('%s', 'id', colocate_with => 'none')",
	columnar_local => '',
	partitioned => "CREATE TABLE %1\$s_0 PARTITION OF %1\$s FOR VALUES FROM (0) TO (100);
		CREATE TABLE %1\$s_1 PARTITION OF %1\$s FOR VALUES FROM (100) TO (1000000);
		SELECT create_distributed_table('%1\$s', 'id')",
	tenant => '',
	ordinary => '');
my %table = map { $_ => $_ eq 'tenant' ? 'tenant.t' : "t_$_" } keys %make;

$node->safe_psql('postgres',
	'SET citus.enable_schema_based_sharding = on; CREATE SCHEMA tenant');
make_different($node);
foreach my $kind (sort keys %make)
{
	my $table = $table{$kind};

	$node->safe_psql(
		'postgres', "CREATE TABLE $table (id int, n int, a text) "
		  . ($columnar{$kind} ? 'USING columnar' : $kind eq 'partitioned' ? 'PARTITION BY RANGE (id)' : '')
		  . ';' . sprintf($make{$kind}, $table)
		  . "; INSERT INTO $table SELECT g, g % 7, md5(g::text) FROM generate_series(1, 200) AS g;
		CREATE MATERIALIZED VIEW v_$kind AS
			SELECT id, count(*) AS rows, sum(n) AS n, max(a) AS a FROM $table GROUP BY id;
		CREATE UNIQUE INDEX ON v_$kind (id)");
}
# Views over several kinds: what Citus can push down, and what it cannot
$node->safe_psql(
	'postgres', q{
	CREATE MATERIALIZED VIEW v_join AS
		SELECT d.id, count(*) AS rows, sum(r.n) AS n
		FROM t_distributed AS d JOIN t_reference AS r USING (id) GROUP BY d.id;
	CREATE MATERIALIZED VIEW v_pulled AS
		SELECT DISTINCT ON (d.n) d.n, d.id, o.a
		FROM t_distributed AS d JOIN t_ordinary AS o ON o.n = d.n
		ORDER BY d.n, d.id, o.a;
	CREATE VIEW between AS SELECT n, count(*) AS rows FROM t_partitioned GROUP BY n;
	CREATE MATERIALIZED VIEW v_between AS SELECT * FROM between;
	CREATE MATERIALIZED VIEW v_above AS SELECT sum(rows) AS rows FROM v_distributed;
});
configure($node, views => '*');

my @distributed = grep { $_ ne 'ordinary' } sort keys %make;
my @always = sort((map { "v_$_" } @distributed), qw(v_join v_pulled v_between));

is( $node->safe_psql('postgres',
		"SELECT string_agg(view, ' ' ORDER BY view) FROM bigbrotr_refresher.plan()
		 WHERE not_skippable_because IS NOT NULL"),
	"@always", 'what reads tables of Citus cannot be skipped');
note($node->safe_psql('postgres',
	'SELECT view, method, not_skippable_because FROM bigbrotr_refresher.plan()'));
is( $node->safe_psql('postgres',
		"SELECT DISTINCT method FROM bigbrotr_refresher.plan()"),
	'merge', 'all of them are merged');

# after(WHAT, TABLE...): the next cycle refreshes all that reads Citus' tables,
# and what has changed of the others.
sub after
{
	my ($what, @others) = @_;
	my %outcome = next_outcomes($node);

	is( join(' ', grep { $outcome{$_} eq 'refreshed' } sort keys %outcome),
		join(' ', sort @always, @others), "$what: refreshed");
	is(join(' ', grep { $outcome{$_} eq 'failed' } sort keys %outcome),
		'', "$what: nothing fails");
	is(different($node, 'true'), '', "$what: nothing is late");
	return;
}

# change_all(WHAT, SQL): change all tables at once; %s stands for the table.
sub change_all
{
	my ($what, $sql, @kinds) = @_;

	@kinds = sort keys %make unless @kinds;
	change($node, sprintf($sql, $table{$_})) foreach @kinds;
	after($what, 'v_above', (grep { $_ eq 'ordinary' } @kinds) ? 'v_ordinary' : ());
	return;
}

my @heap = grep { !$columnar{$_} } sort keys %make;

after('at first', 'v_above', 'v_ordinary');
after('and then');
change_all('INSERT of a row', q{INSERT INTO %s VALUES (1001, 1, 'x')});
change_all('INSERT of rows', q{INSERT INTO %s VALUES (1002, 1, 'x'), (1003, 2, 'y')});
change_all('INSERT SELECT',
	q{INSERT INTO %1$s SELECT id + 2000, n, a FROM %1$s WHERE id <= 10});
change_all('COPY', "COPY %s FROM stdin;\n3000\t3\tcopied\n3001\t3\tcopied\n\\.\n");
change_all('UPDATE of a row', q{UPDATE %s SET n = n + 1, a = 'updated' WHERE id = 1001}, @heap);
change_all('UPDATE of many', q{UPDATE %s SET n = n + 1}, @heap);
change_all('DELETE of a row', q{DELETE FROM %s WHERE id = 1002}, @heap);
change_all('DELETE of many', q{DELETE FROM %s WHERE n > 5}, @heap);
change_all('TRUNCATE and COPY',
	"TRUNCATE %1\$s; COPY %1\$s FROM stdin;\n1\t3\tanew\n2\t3\tanew\n\\.\n");
after('and then');

# A part of a view, merged from what is distributed
$node->safe_psql('postgres', 'INSERT INTO ' . $table{$_} . " VALUES (1, 10, 'one'), (2, 20, 'two')")
  foreach @distributed;
foreach my $kind (@distributed)
{
	$node->safe_psql('postgres',
		"SELECT bigbrotr_refresher.refresh('v_$kind', 'id = 1')");
	is( $node->safe_psql('postgres',
			"SELECT string_agg(format('%s:%s', id, n), ' ' ORDER BY id) FROM v_$kind"),
		'1:13 2:3', "a part of the view over a table of the kind \"$kind\"");
}
after('refreshed in part', 'v_above');

# ---- tables that change their kind ---------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t_changing (id int PRIMARY KEY, n int, a text);
	INSERT INTO t_changing VALUES (1, 1, 'one');
	CREATE MATERIALIZED VIEW v_changing AS SELECT id, n FROM t_changing;
	CREATE UNIQUE INDEX ON v_changing (id);
});
after('a new view', 'v_changing');
after('and then');
foreach my $kind (qw(distributed reference managed single))
{
	my $had = "what was once of the kind \"$kind\"";

	$node->safe_psql('postgres', sprintf($make{$kind}, 't_changing'));
	@always = sort @always, 'v_changing';
	after("a table becomes one of the kind \"$kind\"");
	change($node, "UPDATE t_changing SET n = n + 1");
	after('it is written to');
	$node->safe_psql('postgres', "SELECT undistribute_table('t_changing')");
	@always = grep { $_ ne 'v_changing' } @always;
	after('it is ordinary again', 'v_changing');
	after("$had can be skipped");
	change($node, "UPDATE t_changing SET n = n + 1");
	after("$had is written to", 'v_changing');
}

# Shards move to another node while nothing else happens.
my $to = $workers[1]->port;
is( $node->safe_psql('postgres', "SELECT count(citus_move_shard_placement(shardid, nodename, nodeport,
		'" . $workers[1]->host . "', $to, 'block_writes')::text)
	FROM (SELECT shardid, nodename, nodeport FROM citus_shards
		WHERE table_name = 't_distributed'::regclass AND nodeport <> $to LIMIT 1) AS s"),
	1, 'a shard moves');
after('a shard has moved');
change($node, 'UPDATE t_distributed SET n = n + 1');
after('what has moved is written to', 'v_above');

$_->stop foreach @workers, $node;
done_testing();
