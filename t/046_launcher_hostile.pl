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

nothing_broke($node);
$node->stop;
done_testing();
