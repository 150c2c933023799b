# What the list of databases, the role and other sessions do to the launcher.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'hostile',
	databases => '*',
	views => 'work',
	max_prepared_transactions => 18,
	interval => '1s');
$node->start;

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# Until there were more refreshes than now
sub wait_for_work
{
	my $before = query('SELECT count(*) FROM work') + 1;

	return $node->poll_query_until('postgres',
		"SELECT count(*) > $before FROM work");
}

# Have the launcher start a worker for "fence", twice: what it was told before has
# been followed when the second one starts.
sub wait_for_launcher
{
	foreach (1 .. 2)
	{
		my $since = log_size($node);

		query('CREATE DATABASE fence');
		wait_for_line($node,
			'starting background worker process "bigbrotr_refresher: fence"',
			$since);
		query('DROP DATABASE fence WITH (FORCE)');
	}
	return;
}

query("CREATE EXTENSION bigbrotr_refresher; CREATE ROLE weak LOGIN; $make_work");
ok(wait_for_work(), 'one of all databases is served');

# A worker that came for one of all databases serves one that is named.
configure($node, databases => 'postgres');
query('DROP EXTENSION bigbrotr_refresher');
ok(wait_for_work(),
	'named while its worker lives, it is served without the extension');
configure($node, databases => '*');
wait_until('the worker leaves',
	sub { return worker_pid($node, 'postgres') eq '' });
pass('one of all again, it is not served without the extension');
query('CREATE EXTENSION bigbrotr_refresher');
ok(wait_for_work(), 'and with it is');

# The role is missing: after that, no worker starts for long.
configure_and_rest($node, interval => '1d');
my $offset = log_size($node);
configure($node, restart_interval => '1h',
	'bigbrotr_refresher.role' => 'not there');
wait_for_line($node, 'role_missing role="not there"', $offset);
configure($node, 'bigbrotr_refresher.role' => undef);
query('SELECT FROM bigbrotr_refresher.run(true)');
pass('a reload that mends what kept workers from starting is followed at once');

# What the server's defaults are for transactions: one that is deferrable waits
# for all that write.
configure_and_rest($node,
	restart_interval => '1s',
	log_min_messages => 'debug1');
my %waiting = (
	default_transaction_isolation => 'serializable',
	default_transaction_read_only => 'on',
	default_transaction_deferrable => 'on');
my $writer = session($node, 'postgres');
$writer->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE;
	 CREATE TABLE written (); SELECT FROM pg_class LIMIT 1');
$offset = log_size($node);
$node->append_conf('postgresql.conf', conf_lines(%waiting));
$node->reload;
wait_for_line($node,
	'starting background worker process "bigbrotr_refresher: postgres"',
	$offset);
pass('the launcher waits for no transaction');
$writer->query_safe('ROLLBACK');
$writer->quit;
$offset = log_size($node);
$node->append_conf(
	'postgresql.conf',
	conf_lines(
		default_transaction_isolation => 'read committed',
		default_transaction_read_only => 'off',
		default_transaction_deferrable => 'off'));
$node->reload;
wait_for_line($node,
	'parameter "default_transaction_read_only" changed to "off"', $offset);
configure_and_rest($node);

# Anybody may change his own settings, which concerns nobody else.
$offset = log_size($node);
$node->safe_psql('postgres', q{
	SET SESSION AUTHORIZATION weak;
	ALTER ROLE weak SET work_mem = '8MB';
	ALTER ROLE weak RESET ALL});
query('CREATE DATABASE other');
wait_for_line($node,
	'starting background worker process "bigbrotr_refresher: other"', $offset);
unlike(
	log_since($node, $offset),
	qr/starting background worker process "bigbrotr_refresher: postgres"/,
	'the settings of another role than theirs start no workers');

# While the launcher waits for a lock on the roles, the worker ends for which the
# next one has to wait.  (Its claim has gone before, and a stopped postmaster
# does not hear of its end.)
query(q{
	CREATE ROLE refresher SUPERUSER LOGIN;
	CREATE FUNCTION held_refresh() RETURNS void LANGUAGE plpgsql AS
	$$BEGIN PERFORM pg_advisory_lock(1), pg_advisory_unlock(1); END$$});
configure_and_rest($node,
	databases => 'postgres',
	role => 'refresher',
	views => 'held, work');
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)$/m;
my $asking = session($node, 'postgres');
my $locking = session($node, 'postgres');
my $holder = hold($node, 'postgres', 1);
query('SELECT bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
my $worker = worker_pid($node, 'postgres');
my $done = query('SELECT count(*) FROM work') + 2;
query('ALTER ROLE refresher CONNECTION LIMIT 9');
$offset = log_size($node);
kill 'STOP', $postmaster;
my $staged = eval {
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	wait_until(
		'the worker has left',
		sub {
			return $asking->query_safe(
				"SELECT state FROM bigbrotr_refresher.status()
				WHERE database = 'postgres'") eq 'resting';
		});
	$locking->query_safe('BEGIN; LOCK TABLE pg_authid');
	$asking->query_safe('SELECT bigbrotr_refresher.run()');
	wait_until(
		'the launcher waits for the lock',
		sub {
			return $locking->query_safe(
				"SELECT count(*) FROM pg_locks
				WHERE relation = 'pg_authid'::regclass AND NOT granted") == 1;
		});
	1;
};
kill 'CONT', $postmaster;
die $@ unless $staged;
wait_for_line($node, "\\(PID $worker\\) exited with exit code 0", $offset);
$locking->query_safe('COMMIT');
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = $done FROM work"),
	'the end of a worker is not missed while the launcher waits for a lock');
$_->quit foreach ($asking, $locking, $holder);

# Anybody may drop nothing, and create what is there, in a database that is not
# served.
my $started = qr/starting background worker process "bigbrotr_refresher: postgres"/;

configure_and_rest($node, databases => 'postgres, fence', role => undef, views => 'work');
$offset = log_size($node);
$node->safe_psql('other', q{
	SET SESSION AUTHORIZATION weak;
	DROP EXTENSION IF EXISTS nosuch;
	DROP EXTENSION IF EXISTS bigbrotr_refresher;
	DROP OWNED BY CURRENT_USER;
	CREATE TEMP VIEW nothing AS SELECT;
	DROP VIEW nothing CASCADE;
	CREATE EXTENSION IF NOT EXISTS plpgsql CASCADE});
wait_for_launcher();
unlike(log_since($node, $offset), $started,
	'whoever leaves the extension as it is starts no workers');

# Each prepared transaction has news of its own, however many there are.
foreach my $n (1 .. 17)
{
	query("CREATE FUNCTION p${n}_refresh() RETURNS void LANGUAGE sql AS '';
		BEGIN;
		SELECT bigbrotr_refresher.refresh('p$n');
		PREPARE TRANSACTION 'p$n'");
}
$offset = log_size($node);
query(q{BEGIN; CREATE TABLE nothing (); PREPARE TRANSACTION 'none';
	COMMIT PREPARED 'none'});
wait_for_launcher();
unlike(log_since($node, $offset), $started,
	'a prepared transaction without news starts no worker');
query("ROLLBACK PREPARED 'p$_'") foreach 1 .. 16;
wait_for_launcher();
unlike(log_since($node, $offset), $started, 'nor does one that is rolled back');
query("COMMIT PREPARED 'p17'");
wait_for_line($node, $started, $offset);
pass('one with news does when it is committed');

nothing_broke($node);
$node->stop;
done_testing();
