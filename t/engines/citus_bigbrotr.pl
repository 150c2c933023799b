# BigBrotr's schema, distributed as docs/scale.md says, by the very lines that stand
# there: all 13 views are refreshed by a worker and its helpers, and are what their
# queries return.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..", $FindBin::RealBin;

use Docs;
use Engines;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping qw(make_different different);
use Test::More;

need_engine('citus');

my ($node, @workers) = citus_cluster(
	'citus_bigbrotr',
	databases => 'postgres',
	enabled => 'off',
	interval => '1h',
	max_connections => 200,
	'bigbrotr_refresher.role' => 'refresher',
	'bigbrotr_refresher.max_workers' => 3);
my $demo = "$FindBin::RealBin/../../demo";

sub psql_file
{
	my ($file, @options) = @_;

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	PostgreSQL::Test::Utils::system_or_bail('psql', '-X', '-q', '-o', '/dev/null',
		'-v', 'ON_ERROR_STOP=1', @options, '-f', $file, 'postgres');
	return;
}

# Without partitions, and with the foreign key between distributed tables when
# they are
my $schema = slurp_file("$demo/schema.sql");
$schema =~ s/ PARTITION BY HASH \(\w+\)//g;
$schema =~ s/SELECT format\('CREATE TABLE %I PARTITION.*?\\gexec//s;
$schema =~ s/event_id\s+bytea NOT NULL\K REFERENCES event ON DELETE CASCADE//
  or die 'the foreign key was not found';
my @blocks = doc_blocks("$FindBin::RealBin/../../docs/scale.md");
my ($distribute, $windows) = map { $_->{text} } grep { $_->{kind} eq 'citus' } @blocks;
my ($settings) = map { $_->{text} } grep { $_->{kind} eq 'ini' } @blocks;
$schema .= $distribute;

# What Citus refuses, as the page says
my $tables = $schema =~ s/\Q$distribute\E//r;
my $references = "SELECT create_reference_table('relay'); SELECT create_reference_table('metadata')";
my $event = "$references; SELECT create_distributed_table('event', 'id')";
foreach my $case (
	[ "ALTER TABLE event_relay ADD FOREIGN KEY (event_id) REFERENCES event; $event",
		qr/foreign keys from reference tables and local tables to distributed tables are not supported/ ],
	[ "$references; SELECT create_distributed_table('relay_metadata', 'metadata_id')",
		qr/constraints that do not include the partition column/ ],
	[ "$event; SELECT create_distributed_table('event_relay', 'relay_url', colocate_with => 'none');
		ALTER TABLE event_relay ADD FOREIGN KEY (event_id) REFERENCES event",
		qr/cannot create foreign key constraint/ ],
	[ "$event; CREATE TRIGGER t AFTER INSERT ON event FOR EACH ROW
		EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		qr/triggers are not supported on distributed tables/ ])
{
	my ($sql, $error) = @$case;
	my ($status, undef, $stderr) = $node->psql('postgres',
		"BEGIN; CREATE SCHEMA refused; SET LOCAL search_path = refused; $tables; $sql");

	like($stderr, $error, 'Citus refuses: ' . ($sql =~ s/\s+/ /gr));
}

my $file = PostgreSQL::Test::Utils::tempdir() . '/schema.sql';
append_to_file($file, $schema);
psql_file("$demo/roles.sql");
$node->safe_psql('postgres', 'ALTER SYSTEM SET citus.shard_count = 4; SELECT pg_reload_conf()');
psql_file($file);
psql_file("$demo/$_.sql") foreach qw(views functions grants);
psql_file("$demo/data.sql", '-v', 'scale=0.05');
make_different($node);

is( $node->safe_psql('postgres',
		"SELECT count(*) FILTER (WHERE citus_table_type = 'distributed'),
			count(*) FILTER (WHERE citus_table_type = 'reference') FROM citus_tables"),
	'3|2', 'the tables are distributed');
configure($node, enabled => 'on');
my $run = 'SELECT refreshed, failed FROM bigbrotr_refresher.run(wait => true)';
is($node->safe_psql('postgres', $run), '13|0', 'all 13 views are refreshed');

# One of them counts what is an hour old, and so changes by itself.
my $steady = "c.relname <> 'event_stats' AND c.relnamespace = 'public'::regnamespace";
is(different($node, $steady), '', 'and are what their queries return');

# What writes as BigBrotr does
psql_file("$demo/change.sql", '-U', 'writer');
is($node->safe_psql('postgres', $run), '13|0', 'all are refreshed after changes');
is(different($node, $steady), '', 'and are right again');
is( $node->safe_psql('postgres', "SELECT DISTINCT method FROM bigbrotr_refresher.plan()"),
	'function', 'by their functions');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM bigbrotr_refresher.plan() WHERE not_skippable_because IS NULL
			AND view NOT IN ('relay_software_counts', 'supported_nip_counts')"),
	0, 'only those that read no table of Citus can be skipped');

# A view with a setting of Citus, and one more table, filled by windows
my ($list) = $settings =~ /^bigbrotr_refresher\.views = '(.*)'$/m or die 'there is no list';
configure($node, views => "$list; author_counts", 'bigbrotr_refresher.window_delay' => '5s');
is( $node->safe_psql('postgres',
		"SELECT settings FROM bigbrotr_refresher.plan() WHERE view = 'network_stats'"),
	'citus.max_adaptive_executor_pool_size = 4', 'a view has its own setting of Citus');
$node->safe_psql('postgres', $windows);
$node->poll_query_until('postgres',
	"SELECT until::timestamptz > (SELECT max(seen) FROM event) FROM bigbrotr_refresher.windows,
		bigbrotr_refresher.run(wait => true) AS r WHERE r.failed = 0")
  or die 'the window does not get to the end';
is( $node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT pubkey, n FROM author_counts OFFSET 0) AS c
		FULL JOIN (SELECT pubkey, count(*) AS n FROM event GROUP BY pubkey OFFSET 0) AS e USING (pubkey)
		WHERE c.n IS DISTINCT FROM e.n'),
	0, 'a distributed table is filled by windows from a distributed one');

nothing_broke($node);
$_->stop foreach @workers, $node;
done_testing();
