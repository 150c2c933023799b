# What is told of an error outlives the memory that the error was raised in; and
# a command that frees its own plan is not looked at afterwards.
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

# A procedure that rolls back frees the plan of its CALL, if that has parameters.
# What is planned next gets its memory.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE called (x int);
	CREATE PROCEDURE call(x int) LANGUAGE plpgsql AS $$
	BEGIN
		ROLLBACK;
		INSERT INTO called VALUES (x);
		PERFORM count(*) FROM called;
		PERFORM count(*) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid;
	END
	$$});
my $script = $node->basedir . '/call.sql';
append_to_file($script, "CALL call(:x);\n");
$node->command_ok(
	[
		'pgbench', '-n', '-t', '5', '-M', 'extended', '-D', 'x=1',
		'-f', $script, 'postgres'
	],
	'a procedure is called that rolls back');
is($node->safe_psql('postgres', 'SELECT sum(x) FROM called'), 5, 'each time');
nothing_broke($node);

$node->stop;
done_testing();
