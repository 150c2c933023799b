# Without the preload, in a dump, and gone: the life of the extension itself.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'install',
	databases => 'postgres, copy',
	views => 'one, broken',
	interval => '1h',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;

# What there is in a database that does not belong to the server
my $objects = q{
	SELECT c, count(*) FROM (
		SELECT 'class' AS c FROM pg_class
		UNION ALL SELECT 'proc' FROM pg_proc
		UNION ALL SELECT 'type' FROM pg_type
		UNION ALL SELECT 'namespace ' || nspname FROM pg_namespace
			WHERE nspname NOT LIKE 'pg\_%'
		UNION ALL SELECT 'depend' FROM pg_depend
		UNION ALL SELECT 'shdepend' FROM pg_shdepend
			WHERE dbid = (SELECT oid FROM pg_database
						  WHERE datname = current_database())
		UNION ALL SELECT 'description' FROM pg_description
		UNION ALL SELECT 'init_privs' FROM pg_init_privs
		UNION ALL SELECT 'sequence' FROM pg_sequence
		UNION ALL SELECT 'constraint' FROM pg_constraint
	) AS objects GROUP BY c ORDER BY c};

# ---- dropped, it leaves nothing ---------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE empty TEMPLATE template0');
my $before = $node->safe_psql('empty', $objects);
$node->safe_psql('empty', 'CREATE EXTENSION bigbrotr_refresher');
isnt($node->safe_psql('empty', $objects),
	$before, 'the extension adds objects to a database');
$node->safe_psql('empty', 'DROP EXTENSION bigbrotr_refresher');
is($node->safe_psql('empty', $objects),
	$before, 'dropped, it leaves none of them');
$node->safe_psql('empty',
	'CREATE EXTENSION bigbrotr_refresher; DROP EXTENSION bigbrotr_refresher');
pass('and may come and go again');

# ---- dump and restore --------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE work (at timestamptz DEFAULT now());
	CREATE FUNCTION one_refresh() RETURNS void
	LANGUAGE sql AS 'INSERT INTO public.work VALUES (DEFAULT)';
	CREATE FUNCTION broken_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE ROLE caller;
	GRANT USAGE ON SCHEMA bigbrotr_refresher TO caller;
	GRANT EXECUTE ON FUNCTION bigbrotr_refresher.run TO caller;
});
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)')
  foreach (1 .. 3);
my $history = 'SELECT h::text FROM bigbrotr_refresher.history AS h ORDER BY id';
my $rows = $node->safe_psql('postgres', $history);
cmp_ok(scalar(() = $rows =~ /\n/g), '>=', 5, 'there is a history');

# No worker serves the copy before it is there.
configure($node, enabled => 'off');
foreach my $format ('plain', 'custom')
{
	my $file = $node->basedir . "/dump.$format";
	my @connection = ('-h', $node->host, '-p', $node->port);
	my $bin = $node->config_data('--bindir');

	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS copy WITH (FORCE)');
	$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
	command_ok(
		[ "$bin/pg_dump", @connection, '-F', $format, '-f', $file, 'postgres' ],
		"a database with the extension is dumped: $format");
	command_ok(
		$format eq 'plain'
		? [
			"$bin/psql", '-X', '-q', '-v', 'ON_ERROR_STOP=1', @connection,
			'-o', '/dev/null', '-f', $file, 'copy'
		  ]
		: [ "$bin/pg_restore", '-e', @connection, '-d', 'copy', $file ],
		'and restored');
	is($node->safe_psql('copy', $history), $rows, 'with its history');
	is( $node->safe_psql(
			'copy', q{
			SELECT has_function_privilege('caller',
					'bigbrotr_refresher.run(boolean)', 'EXECUTE'),
				has_function_privilege('public',
					'bigbrotr_refresher.run(boolean)', 'EXECUTE'),
				has_table_privilege('pg_monitor', 'bigbrotr_refresher.history',
					'SELECT')}),
		't|f|t',
		'and the rights on it');
}
my $last = $node->safe_psql('copy',
	'SELECT max(id) FROM bigbrotr_refresher.history');
my $failures = $node->safe_psql('copy',
	"SELECT max(failures) FROM bigbrotr_refresher.history
	 WHERE view = 'broken'");
configure($node, enabled => 'on');
wait_for_rest($node, 'copy');
is( $node->safe_psql('copy',
		'SELECT min(due) > now() FROM bigbrotr_refresher.plan()'),
	't',
	'there nothing is due before its time');
is( $node->safe_psql('copy',
		'SELECT views, refreshed, failed FROM bigbrotr_refresher.run(true)'),
	'2|1|1',
	'its worker goes on');
is( $node->safe_psql(
		'copy',
		"SELECT view, failures, id > $last FROM bigbrotr_refresher.history
		 ORDER BY id DESC LIMIT 2"),
	'broken|' . ($failures + 1) . "|t\none|0|t",
	'where the history of the original ended');
is( $node->safe_psql('copy',
		'SELECT count(*) - count(DISTINCT id) FROM bigbrotr_refresher.history'),
	'0',
	'with new numbers');

# ---- restored into a database that is served ----------------------------------

# A worker has written rows with keys of the dump before those of the dump come.
my $keys = 'SELECT view, id FROM bigbrotr_refresher.history ORDER BY id LIMIT 2';
my $states = 'SELECT s::text FROM bigbrotr_refresher.view_state AS s ORDER BY view';
my $dumped = $node->safe_psql('postgres', $states);

sub restore
{
	my ($section) = @_;

	command_ok(
		[
			$node->config_data('--bindir') . '/pg_restore', '-e',
			'-h', $node->host, '-p', $node->port, '-d', 'copy',
			"--section=$section", $node->basedir . '/dump.custom'
		],
		"restored: $section");
	return;
}

$node->safe_psql('postgres', 'DROP DATABASE copy WITH (FORCE)');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
restore('pre-data');

# Its first cycle may have been before the extension was there.
$node->safe_psql('copy', 'SELECT FROM bigbrotr_refresher.run(true)');
is( $node->safe_psql('copy', $keys),
	$node->safe_psql('postgres', $keys),
	'a worker has written rows of its own');
isnt($node->safe_psql('copy', $states), $dumped, 'and states');
restore('data');
is($node->safe_psql('copy', $history), $rows, 'the history is as dumped');
is($node->safe_psql('copy', $states), $dumped, 'and so are the states');
restore('post-data');
ok( $node->poll_query_until(
		'copy', q{SELECT next_due = (SELECT min(schedule_start) + interval '1h'
			FROM bigbrotr_refresher.view_state)
		FROM bigbrotr_refresher.status() WHERE database = 'copy'}),
	'from which the schedule goes on');
is($node->safe_psql('copy', $states), $dumped, 'without a refresh');

# A row that is not committed yet gives way, too.
$node->safe_psql('copy',
	q{CREATE FUNCTION two_refresh() RETURNS void LANGUAGE sql AS ''});
my $refreshing = session($node, 'copy');
my $restoring = session($node, 'copy', on_error_stop => 0);
$refreshing->query_safe("BEGIN; SELECT bigbrotr_refresher.refresh('two')");
$restoring->query_until(qr/asked/,
	"\\echo asked\nINSERT INTO bigbrotr_refresher.view_state (view, failures) VALUES ('public.two', 7);\n");
$node->poll_query_until('copy', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE query ~ '^INSERT' AND wait_event_type = 'Lock'})
  or die 'the row does not wait';
$refreshing->query_safe('COMMIT');
$restoring->query('\echo done');
is( $node->safe_psql('copy', q{SELECT failures
		FROM bigbrotr_refresher.view_state WHERE view = 'public.two'}),
	7,
	'what is restored waits for a row that is being written, and replaces it');
$_->quit foreach ($refreshing, $restoring);

# ---- an update -----------------------------------------------------------------

$node->safe_psql('copy', 'ALTER EXTENSION bigbrotr_refresher UPDATE');
is( $node->safe_psql('copy',
		"SELECT installed_version = default_version
		 FROM pg_available_extensions WHERE name = 'bigbrotr_refresher'"),
	't',
	'there is nothing to update to');

# ---- without the preload -------------------------------------------------------

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
foreach my $call (
	'SELECT * FROM bigbrotr_refresher.status',
	'SELECT * FROM bigbrotr_refresher.status()',
	'SELECT * FROM bigbrotr_refresher.views',
	'SELECT * FROM bigbrotr_refresher.plan()',
	'SELECT * FROM bigbrotr_refresher.run()',
	'SELECT * FROM bigbrotr_refresher.run(true)',
	q{SELECT bigbrotr_refresher.refresh('one')})
{
	my ($code, $stdout, $stderr) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$call");

	like(
		$stderr,
		qr/ERROR:  55000: bigbrotr_refresher must be loaded via "shared_preload_libraries"\n.*HINT:  Add it to "shared_preload_libraries" in postgresql.conf and restart the server\.$/m,
		"$call: says that the library is not preloaded");
}
is($node->safe_psql('postgres', $history),
	$rows, 'the history can be read without it');
cmp_ok($node->safe_psql('postgres',
		'SELECT count(*) FROM bigbrotr_refresher.timeline()'),
	'==', 2, 'and drawn');
$node->safe_psql('postgres', "LOAD 'bigbrotr_refresher'");
my ($code, $stdout, $stderr) = $node->psql('postgres',
	"LOAD 'bigbrotr_refresher';
	 SELECT * FROM bigbrotr_refresher.status()");
like($stderr, qr/must be loaded via "shared_preload_libraries"/,
	'loaded later, it is not there either');
$node->safe_psql('copy', 'DROP EXTENSION bigbrotr_refresher');
pass('it can be dropped');

$node->stop;
done_testing();
