# What is told of an error outlives the memory that the error was raised in.
#
# glibc overwrites what is freed, if it is told to; elsewhere this shows little.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

$ENV{MALLOC_PERTURB_} = 165;
my $node = new_node(
	'freed',
	databases => '',
	views => '*',
	'bigbrotr_refresher.skip_unchanged' => 'on');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	DO $$
	BEGIN
		EXECUTE 'CREATE MATERIALIZED VIEW deep AS SELECT '
			|| repeat('abs(', 1000) || '1' || repeat(')', 1000) || ' AS x';
	END
	$$});

# A session that has not freed much yet
like(
	$node->safe_psql(
		'postgres', q{
		SET max_stack_depth = '160kB';
		SELECT not_skippable_because || '. ' || advice FROM bigbrotr_refresher.plan()}),
	qr/^its query could not be looked at: stack depth limit exceeded\. No worker refreshes it: .* Increase the configuration parameter "max_stack_depth" \(currently 160kB\)/,
	'a hint of the server is passed on');
nothing_broke($node);

$node->stop;
done_testing();
