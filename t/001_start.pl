# From an empty server to BigBrotr's views kept fresh: nothing is set but
# shared_preload_libraries.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my @views = qw(
  relay_metadata_latest event_stats relay_stats kind_counts
  kind_counts_by_relay pubkey_counts pubkey_counts_by_relay network_stats
  event_daily_counts events_replaceable_latest events_addressable_latest
  relay_software_counts supported_nip_counts
);

my $node = PostgreSQL::Test::Cluster->new('start');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE bigbrotr');
load_demo($node, 'bigbrotr');
is( $node->safe_psql('bigbrotr', 'SELECT count(*) FROM kind_counts'),
	0, 'the views are empty before');

$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'bigbrotr_refresher'\n");
my $offset = log_size($node);
$node->restart;
my $log =
  wait_for_line($node, 'bigbrotr_refresher: cycle_completed', $offset);

# The lines, to the letter
my $superuser = $node->safe_psql('postgres',
	'SELECT rolname FROM pg_roles WHERE oid = 10');
my @lines = $log =~ /^.*bigbrotr_refresher: .*$/mg;
my @hints = grep { /history_missing/ } @lines;
is(scalar @hints, 1, 'that the extension was not created is said once');
like(
	$hints[0],
	qr/LOG:  bigbrotr_refresher: history_missing database=bigbrotr$more/,
	'and keeps nothing from being refreshed');
@lines = grep { !/history_missing/ } @lines;
my @expected = (
	qr/LOG:  bigbrotr_refresher: worker_started database=bigbrotr role=\Q$superuser\E views=13 interval=86400$more/,
	qr/LOG:  bigbrotr_refresher: cycle_started views=13$more/,
	(   map {
			qr/LOG:  bigbrotr_refresher: view_refreshed view=$_ duration=\d+\.\d\d$more/
		} @views),
	qr/LOG:  bigbrotr_refresher: cycle_completed refreshed=13 failed=0 skipped=0 duration=\d+\.\d\d$more/
);
is(scalar @lines, scalar @expected, 'the log has a line for each other event');
for my $i (0 .. $#expected)
{
	like($lines[$i] // '', $expected[$i], 'line ' . ($i + 1) . ' of the log');
}

# That each reads only what is fresh can be told from when they were made:
# REFRESH leaves the number of its transaction in the rows.
is( $node->safe_psql(
		'bigbrotr',
		"SELECT bool_and(a.age > b.age)
		 FROM (SELECT min(age(xmin)) AS age FROM relay_metadata_latest) AS a,
			(SELECT max(age(xmin)) AS age FROM relay_stats
			 UNION ALL SELECT max(age(xmin)) FROM relay_software_counts
			 UNION ALL SELECT max(age(xmin)) FROM supported_nip_counts) AS b"),
	't',
	'views are refreshed after what they read');

foreach my $view (@views)
{
	cmp_ok($node->safe_psql('bigbrotr', "SELECT count(*) FROM $view"),
		'>', 0, "$view has rows");
}
is( $node->safe_psql(
		'bigbrotr',
		'SELECT (SELECT sum(event_count) FROM kind_counts)
			= (SELECT count(*) FROM event)'),
	't',
	'the rows are those of now');

# The worker at rest
$node->poll_query_until('postgres',
	"SELECT state = 'idle' AND query LIKE 'next refresh due at %'
		AND wait_event_type = 'Extension'
	 FROM pg_stat_activity WHERE backend_type = 'bigbrotr_refresher'")
  or die 'the worker does not rest';
is( $node->safe_psql(
		'postgres',
		"SELECT datname, usename, wait_event_type, wait_event,
			xact_start IS NULL, backend_xmin IS NULL
		 FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher'"),
	"bigbrotr|$superuser|Extension|"
	  . ($node->pg_version < 17 ? 'Extension' : 'BigbrotrRefresherMain')
	  . '|t|t',
	'there is one worker, which waits for its time without a transaction');

my $due = $node->safe_psql(
	'postgres',
	"SELECT substring(query FROM '^next refresh due at (.*)')::timestamptz
		- now() BETWEEN '23:50' AND '24:00'
	 FROM pg_stat_activity WHERE backend_type = 'bigbrotr_refresher'");
is($due, 't', 'it says when the next view is due: in a day');

# A reload wakes the worker up, but nothing is due.
configure_and_rest($node);
cmp_ok(scalar(() = log_since($node, $offset) =~ /cycle_started/g),
	'==', 1, 'nothing is refreshed twice');

# What really breaks a view, and only that one
run_demo_file($node, 'bigbrotr', 'change.sql');
run_demo_file($node, 'bigbrotr', 'break.sql');
$log = cycle($node, interval => '2s');
is( outcomes($log),
	join(' ', @views[ 0 .. 11 ], 'supported_nip_counts:22003'),
	'a number out of range is the failure of one view');
like(
	$log,
	qr/^.*WARNING:  bigbrotr_refresher: view_refresh_failed view=supported_nip_counts duration=\d+\.\d\d sqlstate=22003 error="value \\"99999999999\\" is out of range for type integer"$more/m,
	'which the log reports');
like(
	$log,
	qr/cycle_completed refreshed=12 failed=1 skipped=0 duration=/,
	'and counts');
is( $node->safe_psql(
		'bigbrotr',
		'SELECT (SELECT sum(event_count) FROM kind_counts)
			= (SELECT count(*) FROM event)'),
	't',
	'all others have the rows of now');

$offset = log_size($node);
run_demo_file($node, 'bigbrotr', 'mend.sql');
wait_for_line($node, 'cycle_completed refreshed=13 failed=0', $offset);
pass('with its cause, the failure ends');

$node->stop;
done_testing();
