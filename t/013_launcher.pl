# Workers that come and go, and the launcher that starts them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'launcher',
	databases => 'postgres',
	views => 'work',
	interval => '1d',
	allows_streaming => 1);
$node->start;

my $make = "CREATE EXTENSION bigbrotr_refresher; $make_work";

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub launcher_pid
{
	return query("SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'bigbrotr_refresher launcher'");
}

query($make);
configure_and_rest($node);
query('SELECT FROM bigbrotr_refresher.run(true)');
wait_for_rest($node, 'postgres');
wait_until('the worker leaves',
	sub { return worker_pid($node, 'postgres') eq '' });
pass('at rest there is no worker');
is(query('SELECT count(*) FROM work'), 1, 'what was due was done');
is( query("SELECT backend_type, datname IS NULL, xact_start IS NULL
		FROM pg_stat_activity WHERE backend_type ~ '^bigbrotr_refresher'"),
	'bigbrotr_refresher launcher|t|t',
	'the launcher is connected to no database');

# A request starts one, and so do news.
is(query('SELECT refreshed FROM bigbrotr_refresher.run(true)'), 1,
	'run(true) starts a worker, and has its result');
query('SELECT bigbrotr_refresher.run()');
$node->poll_query_until('postgres', 'SELECT count(*) = 3 FROM work')
  or die 'run() does nothing';
wait_for_rest($node, 'postgres');
pass('and so does run()');
configure_and_rest($node, interval => '1s');
$node->poll_query_until('postgres', 'SELECT count(*) > 5 FROM work')
  or die 'a reload does nothing';
pass('a reload is heard of at rest');
isnt(worker_pid($node, 'postgres'), '',
	'where something is due within a minute, the worker stays');
configure_and_rest($node, interval => '1d');
wait_until('the worker leaves',
	sub { return worker_pid($node, 'postgres') eq '' });
pass('and leaves when nothing is');

# A database at rest is in nobody's way.
query('CREATE DATABASE shop');
$node->safe_psql('shop', $make);
configure_and_rest($node, databases => 'postgres, shop');
wait_for_rest($node, 'shop');
is($node->safe_psql('shop', 'SELECT count(*) FROM work'), 1,
	'a database that is listed by a reload is served');
query('CREATE DATABASE copy TEMPLATE shop');
query('ALTER DATABASE shop RENAME TO store');
my $offset = log_size($node);
$node->poll_query_until('postgres',
	"SELECT state = 'stopped' FROM bigbrotr_refresher.status()
	 WHERE database = 'shop'")
  or die 'the old name is still served';
pass('it can be copied and renamed; its old name is not served any more');
query('ALTER DATABASE store RENAME TO shop');
wait_for_rest($node, 'shop');
is(query("SELECT count(*) FROM bigbrotr_refresher.status()"), 2,
	'and then is again');
query('DROP DATABASE shop');
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM bigbrotr_refresher.status()
	 WHERE database = 'shop' AND state = 'stopped'")
  or die 'it is not gone';
unlike(log_since($node, $offset), qr/FATAL/,
	'nothing tries to connect to what is gone');
configure_and_rest($node, databases => 'postgres');
is(query("SELECT string_agg(database, ' ') FROM bigbrotr_refresher.status()"),
	'postgres', 'what is not listed any more is not shown');

# The launcher ends, while a worker lives and someone waits for it
query(q{
	CREATE FUNCTION held_refresh() RETURNS void LANGUAGE plpgsql AS
	$$BEGIN PERFORM pg_advisory_lock(1), pg_advisory_unlock(1); END$$;
});
configure_and_rest($node, views => 'held, work');
my $holder = hold($node, 'postgres', 1);
my $waiter = session($node, 'postgres');
$waiter->query_until(qr/asked/,
	"\\echo asked\nSELECT 'served ' || refreshed FROM bigbrotr_refresher.run(true);\n");
wait_for_waiter($node, 'postgres', 1);
my $worker = worker_pid($node, 'postgres');
my $launcher = launcher_pid();
$offset = log_size($node);
query("SELECT pg_terminate_backend($launcher)");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity
	 WHERE backend_type = 'bigbrotr_refresher launcher' AND pid <> $launcher")
  or die 'there is no other launcher';
query('SELECT bigbrotr_refresher.run()');
is(worker_pid($node, 'postgres'), $worker,
	'another launcher leaves the worker that lives alone');
$holder->quit;
like($waiter->query('\echo done'), qr/served 2/,
	'who waited for it has the result');
wait_for_rest($node, 'postgres');
like(
	last_cycle(log_since($node, $offset)),
	qr/cycle_completed refreshed=2/,
	'the request that was made meanwhile is served as well');

# A worker that ends by force is followed by another one, and by none sooner
# than restart_interval says.
$holder = hold($node, 'postgres', 1);
query('SELECT bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
$worker = worker_pid($node, 'postgres');
$waiter->query_until(qr/asked/,
	"\\set ON_ERROR_STOP 0\n\\echo asked\nSELECT bigbrotr_refresher.run(true);\n");
$offset = log_size($node);
query("SELECT pg_terminate_backend($worker)");
wait_for_line($node,
	'ERROR:  the worker of database "postgres" is not running', $offset);
pass('who waits for a worker that was ended is told');
wait_for_waiter($node, 'postgres', 1);
isnt(worker_pid($node, 'postgres'), $worker, 'another one begins again');
$holder->quit;
wait_for_rest($node, 'postgres');

# A database that is taken from the list in mid-cycle
my $before = query('SELECT count(*) FROM work');
$holder = hold($node, 'postgres', 1);
configure($node, views => 'held; work');
query('SELECT bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
configure($node, databases => '');
$node->poll_query_until('postgres',
	'SELECT count(*) = 0 FROM bigbrotr_refresher.status()')
  or die 'it is still listed';
$holder->quit;
wait_until('the worker leaves',
	sub { return worker_pid($node, 'postgres') eq '' });
is(query('SELECT count(*) FROM work'), $before,
	'the view in hand is finished, and no other is begun');
my (undef, undef, $error) =
  $node->psql('postgres', 'SELECT bigbrotr_refresher.run()');
like(
	$error,
	qr/no worker refreshes the views of database "postgres"\nHINT:  Add the database to "bigbrotr_refresher.databases" and reload/,
	'run() says what to do');
configure($node, databases => 'postgres');
is(query('SELECT refreshed FROM bigbrotr_refresher.run(true)'), 2,
	'listed again, it is served at once');

# The extension goes in mid-cycle, and comes back.
wait_for_rest($node, 'postgres');
$holder = hold($node, 'postgres', 1);
query('SELECT bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
query('DROP EXTENSION bigbrotr_refresher');
$offset = log_size($node);
$holder->quit;
wait_for_line($node, 'cycle_completed refreshed=2', $offset);
pass('the cycle goes on without the extension');
query('CREATE EXTENSION bigbrotr_refresher');
wait_for_rest($node, 'postgres');
pass('and with a new one the worker can leave');

# The worker that serves a new database without a history hears of the extension,
# whenever that comes.
configure_and_rest($node, databases => 'postgres, again');
foreach (1 .. 8)
{
	query('CREATE DATABASE again TEMPLATE template0');
	$node->safe_psql('again', 'CREATE EXTENSION bigbrotr_refresher');
	$node->poll_query_until('postgres',
		"SELECT state = 'resting' FROM bigbrotr_refresher.status()
		 WHERE database = 'again'")
	  or die 'it does not hear of the extension';
	query('DROP DATABASE again');
}
pass('a worker hears of the extension, whenever it comes');
configure_and_rest($node, databases => 'postgres');

# A standby rests; promoted, it goes on by the history.
wait_for_rest($node, 'postgres');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay');
$node->stop('immediate');
$offset = log_size($standby);
$standby->promote;
$node = $standby;
wait_for_rest($node, 'postgres');
unlike(log_since($node, $offset), qr/cycle_started/,
	'promoted, it refreshes nothing that was fresh');

nothing_broke($node);
$node->stop;
done_testing();
