# Views over TimescaleDB's tables: its chunks are never taken for unchanged, a
# chunk that is compressed or not; continuous aggregates stay TimescaleDB's own
# business, beside '*'.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..", $FindBin::RealBin;

use Docs;
use Engines;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;

need_engine('timescaledb');

my $node = skipping_node('timescale',
	shared_preload_libraries => 'bigbrotr_refresher, timescaledb',
	'timescaledb.telemetry_level' => 'off',
	max_worker_processes => 24);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION timescaledb; CREATE EXTENSION bigbrotr_refresher');
note('TimescaleDB ' . $node->safe_psql('postgres',
	"SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"));
make_different($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE readings (at timestamptz NOT NULL, device int NOT NULL, value float8);
	SELECT create_hypertable('readings', 'at', chunk_time_interval => interval '1 day');
	INSERT INTO readings SELECT '2026-01-01'::timestamptz + g * interval '10 min', g % 7, g
		FROM generate_series(0, 999) AS g;
	ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'device',
		timescaledb.compress_orderby = 'at');

	CREATE TABLE ordinary (id int);
	INSERT INTO ordinary VALUES (1);
	CREATE MATERIALIZED VIEW v_ordinary AS SELECT count(*) FROM ordinary;
	CREATE MATERIALIZED VIEW v_devices AS
		SELECT device, count(*) AS rows, sum(value) AS value FROM readings GROUP BY device;
	CREATE UNIQUE INDEX ON v_devices (device);
	CREATE MATERIALIZED VIEW v_rows AS SELECT at, device, value FROM readings;

	-- Chunks may lie in a schema that is nobody's.
	CREATE SCHEMA chunks;
	CREATE TABLE scattered (at timestamptz NOT NULL, device int NOT NULL);
	SELECT create_hypertable('scattered', 'at', associated_schema_name => 'chunks',
		associated_table_prefix => 'scattered');
	INSERT INTO scattered SELECT '2026-01-01'::timestamptz + g * interval '10 min', g % 7
		FROM generate_series(0, 99) AS g;
	ALTER TABLE scattered SET (timescaledb.compress, timescaledb.compress_segmentby = 'device');
	CREATE MATERIALIZED VIEW v_scattered AS SELECT device, count(*) AS rows FROM scattered GROUP BY device;
	SELECT format('CREATE MATERIALIZED VIEW v_chunk AS SELECT at, device FROM %s', c)
		FROM show_chunks('scattered') AS c LIMIT 1 \gexec

	CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
		SELECT time_bucket('1 hour', at) AS hour, device, count(*) AS rows FROM readings
		GROUP BY 1, 2 WITH NO DATA;
	CALL refresh_continuous_aggregate('hourly', NULL, NULL);
	CREATE MATERIALIZED VIEW v_hourly AS SELECT device, max(rows) AS rows FROM hourly GROUP BY device;
});
configure($node, views => '*');

is( $node->safe_psql('postgres',
		"SELECT string_agg(format('%s %s %s', view, method, skippable), ', ' ORDER BY view)
		 FROM bigbrotr_refresher.plan()"),
	'v_chunk merge f, v_devices merge f, v_hourly merge f, v_ordinary merge t, '
	  . 'v_rows merge f, v_scattered merge f',
	"'*' sees materialized views, and no continuous aggregate");
note($node->safe_psql('postgres', 'SELECT view, not_skippable_because FROM bigbrotr_refresher.plan()'));

# after(WHAT): the next cycle refreshes all that reads hypertables, and all is
# right then.
sub after
{
	my ($what, @others) = @_;
	my %outcome = next_outcomes($node);

	is( join(' ', grep { $outcome{$_} eq 'refreshed' } sort keys %outcome),
		join(' ', sort(qw(v_chunk v_devices v_hourly v_rows v_scattered), @others)), "$what: refreshed");
	is(different($node, "c.relnamespace = 'public'::regnamespace"), '', "$what: nothing is late");
	return;
}

sub change_and_look
{
	my ($what, $sql) = @_;

	change($node, $sql);
	after($what);
	return;
}

after('at first', 'v_ordinary');
after('and then');
change_and_look('INSERT into a chunk', "INSERT INTO readings VALUES ('2026-01-02', 1, 1)");
change_and_look('INSERT that makes a chunk', "INSERT INTO readings VALUES ('2026-03-01', 1, 1)");
change_and_look('COPY', "COPY readings FROM stdin;\n2026-01-03\t2\t7\n2026-03-02\t2\t7\n\\.\n");
change_and_look('UPDATE', "UPDATE readings SET value = value + 1 WHERE device = 3");
change_and_look('DELETE', "DELETE FROM readings WHERE device = 4 AND at < '2026-01-04'");
change_and_look('compression of all chunks',
	"SELECT count(compress_chunk(c)) FROM show_chunks('readings') AS c;
		SELECT count(compress_chunk(c)) FROM show_chunks('scattered') AS c");
is( $node->safe_psql('postgres',
		"SELECT count(*) > 0 FROM timescaledb_information.chunks WHERE is_compressed"),
	't', 'chunks are compressed');
change_and_look('INSERT into a compressed chunk', "INSERT INTO readings VALUES ('2026-01-02 00:00:01', 1, 100)");
change_and_look('UPDATE in compressed chunks', "UPDATE readings SET value = value + 1 WHERE device = 5");
change_and_look('DELETE of whole batches', 'DELETE FROM readings WHERE device = 6;
	DELETE FROM scattered WHERE device = 6');
change_and_look('DELETE of parts of batches', "DELETE FROM readings WHERE device = 2 AND at > '2026-01-05'");
SKIP:
{
	my $setting = 'timescaledb.enable_direct_compress_copy';

	# It came with 2.21.
	skip "there is no $setting", 2
	  unless $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_settings WHERE name = '$setting'");
	change_and_look('direct compress', "SET $setting = on;
COPY readings FROM stdin;\n"
		  . join('', map { "2026-04-01 00:00:" . sprintf('%02d', $_) . "\t9\t$_\n" } 0 .. 59)
		  . "\\.\n");
}
change_and_look('recompression', "SELECT count(compress_chunk(c, true)) FROM show_chunks('readings') AS c");
change_and_look('decompression', "SELECT count(decompress_chunk(c)) FROM show_chunks('readings') AS c");
change_and_look('a chunk is dropped', "SELECT count(*) FROM drop_chunks('readings', older_than => '2026-01-02'::timestamptz)");
change_and_look('TRUNCATE', 'TRUNCATE readings');
change_and_look('rows again', "INSERT INTO readings SELECT '2026-02-01'::timestamptz + g * interval '1 min', g % 3, g
	FROM generate_series(1, 3000) AS g");
change_and_look('the aggregate is refreshed', "CALL refresh_continuous_aggregate('hourly', NULL, NULL)");

# A continuous aggregate has a procedure of ours, by the lines of docs/scale.md.
my ($procedure) = map { $_->{text} } grep { $_->{text} =~ /hourly_refresh/ }
  doc_blocks("$FindBin::RealBin/../../docs/scale.md");
$node->safe_psql('postgres', $procedure);
$node->safe_psql('postgres', "INSERT INTO readings SELECT now() - interval '1 day', 100, 1");
configure($node, views => 'hourly, *');
my %outcome = next_outcomes($node);
is($outcome{hourly}, 'refreshed', 'a procedure refreshes a continuous aggregate');
is( $node->safe_psql('postgres', 'SELECT rows FROM hourly WHERE device = 100'),
	1, 'with what is new');
configure($node, views => '*');

# A part of a view
$node->safe_psql('postgres', "UPDATE readings SET value = 0");
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('v_devices', 'device = 1')");
is( $node->safe_psql('postgres', "SELECT string_agg(device::text, ' ') FROM v_devices WHERE value = 0"),
	'1', 'a part of a view is refreshed');

# A hypertable is filled by windows.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE folded (at timestamptz NOT NULL, n bigint);
	SELECT create_hypertable('folded', 'at');
	CREATE TABLE source (at timestamptz DEFAULT now(), by xid8 DEFAULT pg_current_xact_id());
	INSERT INTO source SELECT FROM generate_series(1, 10);
	CREATE FUNCTION folded_refresh(after xid8, until xid8) RETURNS void LANGUAGE sql AS
		'INSERT INTO public.folded SELECT at, count(*) FROM public.source WHERE by >= after AND by < until GROUP BY at';
});
my $refresh = "SELECT bigbrotr_refresher.refresh('folded')";
my $sum = 'SELECT sum(n) FROM folded';
$node->safe_psql('postgres', $refresh);
is($node->safe_psql('postgres', $sum), 10, 'a window is folded into an empty hypertable');
$node->safe_psql('postgres', "INSERT INTO source VALUES (DEFAULT); $refresh");
$node->safe_psql('postgres', $refresh);
is($node->safe_psql('postgres', $sum), 11, 'the next one has what is new');
$node->safe_psql('postgres', "ALTER TABLE folded SET (timescaledb.compress);
	SELECT count(compress_chunk(c)) FROM show_chunks('folded') AS c;
	DELETE FROM bigbrotr_refresher.windows");
my (undef, undef, $error) = $node->psql('postgres', $refresh);
like($error, qr/there is no checkpoint of "public.folded"/, 'compressed rows are not taken for none');
is($node->safe_psql('postgres', $sum), 11, 'and nothing is folded twice');

# Its own library is loaded by each session, so it sees what we merge whether it
# is listed before us or not.
$node->safe_psql('postgres', "ALTER SYSTEM SET shared_preload_libraries = 'timescaledb', 'bigbrotr_refresher'");
$node->restart;
is( $node->safe_psql('postgres', "SELECT DISTINCT method FROM bigbrotr_refresher.plan() WHERE view <> 'folded'"),
	'merge', 'listed behind TimescaleDB, views are merged as well');
change($node, 'UPDATE readings SET value = value + 1');
after('listed behind TimescaleDB', 'v_ordinary');

nothing_broke($node);
$node->stop;
done_testing();
