# Databases and roles that are not there yet, are gone, or have odd names.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'databases',
	databases => 'late, "Odd, name", Folded',
	views => 'work');

my $make_view = q{
	CREATE TABLE work (at timestamptz);
	CREATE FUNCTION work_refresh() RETURNS void
	LANGUAGE sql AS 'INSERT INTO work VALUES (now())';
};

# The first time the worker of a database says something, or says it again.
sub wait_for_start
{
	my ($database, $offset) = @_;

	return wait_for_line($node,
		"bigbrotr_refresher: worker_started database=\Q$database\E role=",
		$offset);
}

# A database that is missing at start and created later
$node->start;
foreach my $database ('late', 'Odd, name', 'folded')
{
	wait_for_line($node,
		qq{WARNING:  bigbrotr_refresher: database_missing database="?$database"?\$}, 0);
}
pass('the log says which databases do not exist');
unlike(log_since($node, 0), qr/FATAL/, 'and nothing tries to connect to them');
$node->safe_psql('postgres', qq{CREATE DATABASE late;
	CREATE DATABASE "Odd, name";
	CREATE DATABASE folded});
wait_for_start($_, 0) foreach ('late', '"Odd, name"', 'folded');
pass('a worker starts when its database has been created');
is( $node->safe_psql(
		'postgres',
		"SELECT string_agg(datname, '|' ORDER BY datname)
		 FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher'"),
	'Odd, name|folded|late',
	'each database has a worker of its own');

# What a cycle found missing, the next one finds.
wait_for_line($node, 'view_refresh_failed view=work .* sqlstate=42883', 0);
$node->safe_psql($_, $make_view) foreach ('late', 'Odd, name');
configure($node, interval => '1s');
foreach my $database ('late', 'Odd, name')
{
	$node->poll_query_until($database, 'SELECT count(*) > 0 FROM work')
	  or die "nothing is refreshed in $database";
}
pass('and refreshes its views');

# A database that is dropped and created anew
my $offset = log_size($node);
my $pid = worker_pid($node, 'late');
my $other = worker_pid($node, 'Odd, name');
$node->safe_psql('postgres', 'DROP DATABASE late WITH (FORCE)');
$offset = log_size($node);
$node->safe_psql('postgres', 'CREATE DATABASE late');
wait_for_start('late', $offset);
isnt(worker_pid($node, 'late'), $pid,
	'a worker does not keep its database from being dropped, and serves the one made anew');
is(worker_pid($node, 'Odd, name'),
	$other, 'while that of another database went on');

# No database at all
$node->stop;
$node->append_conf('postgresql.conf', conf_lines(databases => ''));
$offset = log_size($node);
$node->start;
configure_and_rest($node, interval => '2s');
my $log = log_since($node, $offset);
is( scalar(() = $log =~ /LOG:  bigbrotr_refresher: no views are refreshed, because "bigbrotr_refresher.databases" is empty$/mg),
	1,
	'an empty list of databases is logged once');

unlike($log, qr/worker_started/, 'and then there is no worker');

# A malformed list
$node->append_conf('postgresql.conf', conf_lines(databases => 'a, b c'));
$offset = log_size($node);
$node->restart;
$log = log_since($node, $offset);
like(
	$log,
	qr/WARNING:  invalid value for parameter "bigbrotr_refresher.databases": "a, b c"\n.*DETAIL:  At character 6: expected "," before this\.$/m,
	'a malformed list of databases is refused, with the place and the reason'
);
is($node->safe_psql('postgres', 'SHOW bigbrotr_refresher.databases'),
	'bigbrotr', 'the default is in force instead');
foreach my $case (
	[ 'a,,b', 3, 'expected a name' ],
	[ 'a, b, A', 7, '"a" is listed twice' ],
	[ '"a', 1, 'the quoted name is not closed' ])
{
	my ($list, $place, $reason) = @$case;
	my ($code, $stdout, $stderr) = $node->psql('postgres',
		"ALTER SYSTEM SET bigbrotr_refresher.databases = '$list'");

	like(
		$stderr,
		qr/DETAIL:  At character $place: \Q$reason\E\.$/m,
		"so is $list");
}

# A role that does not exist, may not log in, and then may
$node->stop;
$node->append_conf('postgresql.conf',
	conf_lines(databases => 'postgres', role => 'late'));
$offset = log_size($node);
$node->start;
wait_for_line($node, 'WARNING:  bigbrotr_refresher: role_missing role=late$',
	$offset);
pass('the log says that the role does not exist');
$node->safe_psql('postgres', 'CREATE ROLE late NOLOGIN');
wait_for_line($node, 'FATAL:  role "late" is not permitted to log in',
	$offset);
wait_for_line($node,
	'WARNING:  bigbrotr_refresher: worker_not_connected database=postgres$',
	$offset);
pass('or may not log in');
$node->safe_psql('postgres', 'ALTER ROLE late LOGIN');
wait_for_line($node,
	'bigbrotr_refresher: worker_started database=postgres role=late views=1 ',
	$offset);
pass('the worker starts when it may');

# BigBrotr's own role, which is no superuser
$node->safe_psql('postgres', 'CREATE DATABASE bigbrotr');
load_demo($node, 'bigbrotr');
$node->append_conf('postgresql.conf',
	conf_lines(databases => 'bigbrotr', role => 'refresher', interval => '1d'));
configure($node, views => undef, interval => undef);
# "views" is still set in the file; the rest of the list is the default.
$node->adjust_conf('postgresql.conf', 'bigbrotr_refresher.views', undef);
$node->stop;
$offset = log_size($node);
$node->start;
$log = wait_for_line($node, 'bigbrotr_refresher: cycle_completed', $offset);
like(
	$log,
	qr/worker_started database=bigbrotr role=refresher views=13 /,
	'the worker connects as the role');
like($log, qr/cycle_completed refreshed=13 failed=0 /,
	'whose rights are enough for all of BigBrotr\'s views');

# Views that it does not own, but may maintain, where there is such a right
SKIP:
{
	skip 'MAINTAIN is of PostgreSQL 17 and later', 2
	  if $node->pg_version < 17;

	$node->safe_psql(
		'bigbrotr', '
		CREATE EXTENSION bigbrotr_refresher;
		CREATE TABLE lent AS SELECT 1 AS id;
		CREATE MATERIALIZED VIEW lent_view AS SELECT id FROM lent;
		CREATE UNIQUE INDEX ON lent_view (id)');
	like(cycle($node, views => 'lent_view'),
		qr/view=lent_view .*sqlstate=42501 /,
		'but not for a view of another owner');
	$node->safe_psql('bigbrotr', 'GRANT MAINTAIN ON lent_view TO refresher');
	is( $node->safe_psql(
			'bigbrotr',
			'SELECT refreshed FROM bigbrotr_refresher.run(true);
			 SELECT outcome, method FROM bigbrotr_refresher.history
			 ORDER BY started_at DESC LIMIT 1'),
		"1\nrefreshed|merge",
		'unless it may maintain that');
}

$node->stop;
done_testing();
