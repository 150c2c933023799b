# Parameters set for a database or a role.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'overrides',
	databases => 'one, two',
	views => 'a',
	jit => 'on',
	interval => '1d');
$node->start;

my $make = q{
	CREATE TABLE work (name text, jit text, path text);
	CREATE FUNCTION a_refresh() RETURNS void LANGUAGE sql AS
		$$INSERT INTO public.work VALUES ('a', current_setting('jit'),
			current_setting('search_path'))$$;
	CREATE FUNCTION b_refresh() RETURNS void LANGUAGE sql AS
		$$INSERT INTO public.work VALUES ('b', current_setting('jit'),
			current_setting('search_path'))$$;
};

sub run_in
{
	my ($database) = @_;

	return $node->safe_psql($database,
		"TRUNCATE work;
		 SELECT FROM bigbrotr_refresher.run(true);
		 SELECT string_agg(name || ':' || jit, ' ' ORDER BY name) FROM work");
}

$node->safe_psql('postgres', "CREATE DATABASE $_") foreach ('one', 'two');
$node->safe_psql($_, "$make CREATE EXTENSION bigbrotr_refresher")
  foreach ('one', 'two');
is(run_in('one') . ', ' . run_in('two'), 'a:on, a:on',
	'one list does for all databases');

$node->safe_psql('postgres',
	"ALTER DATABASE two SET bigbrotr_refresher.views = 'b, a'");
is(run_in('one') . ', ' . run_in('two'), 'a:on, a:on b:on',
	'a database has a list of its own');
is( $node->safe_psql('two',
		"SELECT string_agg(view, ' ') FROM bigbrotr_refresher.plan()"),
	'b a',
	'and plan() explains it');
is( $node->safe_psql('two',
		"SET bigbrotr_refresher.views = 'a';
		 SELECT string_agg(view, ' ') FROM bigbrotr_refresher.plan()"),
	'a',
	'or what a session sets for itself');
is(run_in('two'), 'a:on b:on', 'which changes nothing but that');

$node->safe_psql('postgres', 'ALTER DATABASE one SET jit = off');
is(run_in('one') . ', ' . run_in('two'), 'a:off, a:on b:on',
	'settings of the server are in force with the next cycle');
my $superuser = $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE oid = 10');
$node->safe_psql('postgres', qq{ALTER ROLE "$superuser" SET jit = off});
is(run_in('two'), 'a:off b:off', 'those of the role are, too');
$node->safe_psql('postgres', qq{ALTER ROLE "$superuser" RESET ALL});
$node->safe_psql('postgres', 'ALTER DATABASE one SET search_path = pg_catalog, public');
run_in('one');
is( $node->safe_psql('one', 'SELECT path FROM public.work'),
	'pg_catalog, public', 'and a search_path');

# All roles see the views under the names that the worker gives them, whatever
# schemas they may use or have in their path.
$node->safe_psql(
	'one', q{
	CREATE SCHEMA app;
	CREATE MATERIALIZED VIEW app.failing AS SELECT 1 / 0 AS x WITH NO DATA;
	CREATE ROLE watcher IN ROLE pg_monitor;
	ALTER DATABASE one SET bigbrotr_refresher.views = '*'});
foreach my $path ('app, public', "''")
{
	$node->safe_psql('one', "ALTER DATABASE one SET search_path = $path");
	$node->safe_psql('one', 'SELECT FROM bigbrotr_refresher.run(true)');
	is( $node->safe_psql(
			'one', "SET search_path = public, app; $_
			SELECT view, failures > 0 FROM bigbrotr_refresher.views"),
		$path eq "''" ? 'app.failing|t' : 'failing|t',
		"a failure is seen, with $path: $_")
	  foreach ('', 'SET ROLE watcher;');
}
$node->safe_psql('one',
	'DROP SCHEMA app CASCADE; ALTER DATABASE one RESET search_path;
	 ALTER DATABASE one RESET bigbrotr_refresher.views');

# What is malformed is refused when it is set, for a database as well.
my (undef, undef, $error) = $node->psql('postgres',
	"ALTER DATABASE one SET bigbrotr_refresher.views = 'a,,b'");
like($error, qr/At character 3: expected a name\./,
	'a malformed list is refused when it is set for a database');
(undef, undef, $error) = $node->psql('postgres',
	"ALTER DATABASE one SET bigbrotr_refresher.databases = 'a'");
like($error, qr/cannot be changed now/, 'and so is what is the server\'s');

# An interval of its own
$node->safe_psql('postgres',
	"ALTER DATABASE two SET bigbrotr_refresher.interval = '1s'");
$node->poll_query_until('two', 'SELECT count(*) > 8 FROM work')
  or die 'the interval is not heard of';
pass('an interval of its own is heard of at rest');
$node->safe_psql('postgres',
	'ALTER DATABASE two RESET bigbrotr_refresher.interval');
wait_until('the worker makes way',
	sub { return worker_pid($node, 'two') eq '' });
pass('and its end by a worker that stays');

# Without a history the worker stays, and yet hears of it.
$node->safe_psql('one', 'DROP EXTENSION bigbrotr_refresher');
$node->safe_psql('postgres', 'ALTER DATABASE one RESET ALL');
my $worker = wait_for_pid($node, 'one', '');
configure_and_rest($node);
$node->safe_psql('one', 'TRUNCATE work');
$worker = worker_pid($node, 'one');
isnt($worker, '', 'without a history the worker stays');
$node->safe_psql('postgres', 'ALTER DATABASE one SET jit = off');
$node->poll_query_until('one',
	"SELECT count(*) > 0 FROM work WHERE jit = 'off'")
  or die 'it does not make way';
isnt(worker_pid($node, 'one'), $worker,
	'a worker that stays makes way for one that has the settings');

nothing_broke($node);
$node->stop;
done_testing();
