# BigBrotr's next database, in small (demo/next): its targets are filled in
# their order, and the checkpoints of its service are taken over and given back.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Windows;

my @targets = qw(relay_document_current replaceable_event_current daily_counts
  relay_software_counts pubkey_kind_stats rolling_windows);
my $node = windows_node(
	'next',
	interval => '1d',
	views => 'relay_document_current, replaceable_event_current; '
	  . 'daily_counts, relay_software_counts, pubkey_kind_stats; rolling_windows');
$node->start;

sub psql_file
{
	my ($file) = @_;

	return $node->safe_psql('postgres',
		slurp_file("$FindBin::RealBin/../demo/next/$file.sql"));
}

$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
psql_file('schema');
is( $node->safe_psql('postgres', 'SELECT view, method FROM bigbrotr_refresher.plan()'),
	join("\n", map { "$_|window" } @targets[ 0 .. 4 ]) . "\nrolling_windows|function",
	'five targets are filled by windows, in this order');

foreach my $part (1 .. 3)
{
	psql_file('data');
	$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run(true)');
}

# What the service has done is not done again.
wait_until(
	'everything is folded',
	sub {
		$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run(true)');
		return psql_file('check') eq '';
	});
pass('each row is counted once');
psql_file('service_state');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM service_state JOIN bigbrotr_refresher.windows
			ON target = 'public.' || state_key
		WHERE state_value ->> 'timestamp' = until}),
	'4', 'checkpoints are given to the service');
$node->safe_psql('postgres', "DELETE FROM bigbrotr_refresher.windows WHERE kind = 'bigint'");
psql_file('service_state');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM service_state JOIN bigbrotr_refresher.windows
			ON target = 'public.' || state_key
		WHERE state_value ->> 'timestamp' = until}),
	'4', 'and taken over');
is($node->safe_psql('postgres', 'SELECT failures FROM bigbrotr_refresher.views WHERE failures > 0'),
	'', 'nothing fails');
is($node->safe_psql('postgres', 'SELECT count(*) FROM rolling_windows'), '2',
	'what is made anew is there');
$node->stop;
done_testing();
