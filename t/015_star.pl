# "databases = '*'": all databases that have the extension, whenever they come,
# and more of them than there are places for workers.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'star',
	databases => '*',
	views => 'work',
	interval => '1d',
	max_prepared_transactions => 2,
	max_worker_processes => 4);
$node->start;

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# The databases that are served, by the status.  (A copy has the history of what
# it was copied from, so nothing is due in it.)
sub served
{
	return query("SELECT string_agg(database, ' ' ORDER BY database)
		FROM bigbrotr_refresher.status()
		WHERE state = 'resting'");
}

sub wait_for_served
{
	my ($served, $what) = @_;

	wait_until($what, sub { return served() eq $served });
	pass($what);
	return;
}

query($make_work . 'CREATE EXTENSION bigbrotr_refresher');
wait_for_served('postgres', 'a database is served once it has the extension');
query('CREATE DATABASE late');
$node->safe_psql('late', $make_work);
configure_and_rest($node);
is(served(), 'postgres', 'one without is not');
is(query('SELECT count(*) FROM bigbrotr_refresher.status()'), 1,
	'nor is it shown');

# By whom, and how, the extension is created
$node->safe_psql('late', 'BEGIN; CREATE EXTENSION bigbrotr_refresher; ROLLBACK');
configure_and_rest($node);
is(served(), 'postgres', 'nothing follows what was rolled back');
$node->safe_psql('late',
	"BEGIN; CREATE EXTENSION bigbrotr_refresher; PREPARE TRANSACTION 'later'");
configure_and_rest($node);
is(served(), 'postgres', 'nor what is only prepared');
$node->safe_psql('late', "COMMIT PREPARED 'later'");
wait_for_served('late postgres', 'but what was prepared and is committed');
query('CREATE DATABASE copy TEMPLATE late');
wait_for_served('copy late postgres', 'a copy of a database is served');
$node->safe_psql('copy', 'DROP EXTENSION bigbrotr_refresher');
wait_for_served('late postgres', 'until it has the extension no more');
my @sessions = map { session($node, 'copy') } 1 .. 2;
$sessions[$_]->query_until(qr/ready/, "\\set ON_ERROR_STOP 0\n\\echo ready\nCREATE EXTENSION IF NOT EXISTS bigbrotr_refresher;\n")
  foreach 0 .. 1;
$_->quit foreach @sessions;
wait_for_served('copy late postgres', 'created by two at once, it is there');
$node->safe_psql('copy', q{
	CREATE SCHEMA mine;
	CREATE FUNCTION mine.f() RETURNS int LANGUAGE sql RETURN 1;
	ALTER EXTENSION bigbrotr_refresher ADD FUNCTION mine.f();
	DROP SCHEMA mine CASCADE});
wait_for_served('late postgres', 'until it goes with what somebody has added to it');
$node->safe_psql('copy', q{
	CREATE ROLE owner SUPERUSER;
	SET SESSION AUTHORIZATION owner;
	CREATE EXTENSION bigbrotr_refresher});
wait_for_served('copy late postgres', 'created by another role, it is there');
$node->safe_psql('copy', 'DROP OWNED BY owner');
wait_for_served('late postgres', 'until it goes with all that the role owns');
$node->safe_psql('copy', 'CREATE EXTENSION bigbrotr_refresher');
wait_for_served('copy late postgres', 'and is there again');

# Databases that cannot be connected to
query('ALTER DATABASE copy ALLOW_CONNECTIONS false');
wait_for_served('late postgres', 'without connections it is not served');
query('ALTER DATABASE copy ALLOW_CONNECTIONS true');
wait_for_served('copy late postgres', 'and with them is again');
query('ALTER DATABASE copy IS_TEMPLATE true');
wait_for_served('late postgres', 'no template is served');
like($node->safe_psql('copy', 'SELECT advice FROM bigbrotr_refresher.plan()'),
	qr/^No worker refreshes it: "bigbrotr_refresher.databases" does not name/,
	'as plan() says there');
query('ALTER DATABASE copy IS_TEMPLATE false');
wait_for_served('copy late postgres', 'and what is none any more is');

# Its settings change while it rests.
$node->safe_psql('late', 'TRUNCATE work');
query("ALTER DATABASE late SET bigbrotr_refresher.enabled = off");
$node->poll_query_until('postgres',
	"SELECT state = 'disabled' FROM bigbrotr_refresher.status()
	 WHERE database = 'late'")
  or die 'it is not disabled';
is(worker_pid($node, 'late'), '', 'disabled for a database, there is no worker');
is( $node->safe_psql('late',
		'SELECT refreshed FROM bigbrotr_refresher.run(true)'),
	1,
	'who may enable it runs a cycle all the same');
query("ALTER DATABASE late SET bigbrotr_refresher.enabled = on");
is( $node->safe_psql('late',
		'SELECT refreshed FROM bigbrotr_refresher.run(true)'),
	1,
	'enabled again, it is served');
query('ALTER DATABASE late RESET bigbrotr_refresher.enabled');
wait_for_served('copy late postgres', 'and rests');

# All of them are due at once, with fewer places: each has its turn.
query("CREATE DATABASE d$_ TEMPLATE copy") foreach 1 .. 9;
my @all = ('copy', (map { "d$_" } 1 .. 9), 'late', 'postgres');
wait_for_served("@all", 'all databases are served');
configure($node, interval => '5s');
foreach my $database (@all)
{
	$node->poll_query_until($database, 'SELECT count(*) > 3 FROM work')
	  or die "nothing is refreshed in $database";
}
pass('more databases than places for workers: all have their turn');
unlike(slurp_file($node->logfile), qr/worker_places_missing/,
	'which is no reason to complain');
configure_and_rest($node, interval => '1d');

# All go at once.
query("DROP DATABASE d$_") foreach 1 .. 9;
wait_for_served('copy late postgres', 'what is dropped is forgotten');
unlike(slurp_file($node->logfile), qr/FATAL/, 'quietly');

# Views that take longer than their interval are always due.
my @three = ('copy', 'late', 'postgres');
foreach my $database (@three)
{
	$node->safe_psql(
		$database, q{
		TRUNCATE work;
		CREATE OR REPLACE FUNCTION work_refresh() RETURNS void LANGUAGE sql
			AS 'INSERT INTO work VALUES (now()); SELECT pg_sleep(1.5)'});
}
configure($node, interval => '1s');
foreach my $database (@three)
{
	$node->poll_query_until($database, 'SELECT count(*) > 2 FROM work')
	  or die "others keep $database from its turn";
}
pass('more databases than places, that are always due: all have their turn');
foreach my $database (@three)
{
	$node->safe_psql(
		$database, q{
		CREATE OR REPLACE FUNCTION work_refresh() RETURNS void LANGUAGE sql
			AS 'INSERT INTO work VALUES (now())'});
}
configure_and_rest($node, interval => '1d');

# Launcher, logical replication's launcher and a worker leave one place of four:
# that for a helper, once nobody else has something to do.
$node->safe_psql('late', q{
	CREATE FUNCTION a_refresh() RETURNS void LANGUAGE plpgsql AS
	$$BEGIN PERFORM pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1); END$$;
	CREATE FUNCTION b_refresh() RETURNS void LANGUAGE plpgsql AS
	$$BEGIN PERFORM pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1); END$$;
	ALTER DATABASE late SET bigbrotr_refresher.max_workers = 2;
	ALTER DATABASE late SET bigbrotr_refresher.views = 'a, b'});
$node->poll_query_until('late', q{SELECT count(DISTINCT view) = 2
	FROM bigbrotr_refresher.history WHERE view IN ('a', 'b')})
  or die 'the new list is not refreshed';
$node->poll_query_until('postgres', q{SELECT bool_and(state = 'resting'
	AND pid IS NULL AND next_due > now()) FROM bigbrotr_refresher.status()})
  or die 'not all rest';
my $holder = hold($node, 'late', 1);
$node->safe_psql('late', 'SELECT bigbrotr_refresher.run()');
$node->poll_query_until('late', "SELECT count(*) = 2 FROM pg_locks
	WHERE locktype = 'advisory' AND NOT granted")
  or die 'they do not run at once';
pass('with four places in all, two views are refreshed at once');
$holder->quit;
$node->poll_query_until('postgres',
	"SELECT state = 'resting' FROM bigbrotr_refresher.status()
	 WHERE database = 'late'")
  or die 'it does not rest';

nothing_broke($node);
$node->stop;
done_testing();
