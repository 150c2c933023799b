# Views over foreign tables: never skipped, refreshed whole and in part; a remote
# server that hangs, goes away and comes back is the failure of such a view alone.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;
use Time::HiRes qw(time);

my $node = skipping_node('foreign_servers');
$node->start;
plan skip_all => 'the server has no postgres_fdw'
  unless $node->safe_psql('postgres',
	"SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'");

my $remote = new_node('remote', databases => '');
$remote->start;
$remote->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, n int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) AS g');
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE EXTENSION postgres_fdw;
	CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw OPTIONS (}
	  . "host '" . $remote->host . "', port '" . $remote->port . "', dbname 'postgres'"
	  . q{, keepalives_idle '10', connect_timeout '10');
	CREATE USER MAPPING FOR PUBLIC SERVER remote;
	CREATE FOREIGN TABLE t (id int, n int) SERVER remote;
	CREATE MATERIALIZED VIEW v_remote AS SELECT id, n FROM t;
	CREATE UNIQUE INDEX ON v_remote (id);
	CREATE TABLE mixed (id int, n int) PARTITION BY LIST (id);
	CREATE TABLE mixed_here PARTITION OF mixed FOR VALUES IN (0);
	CREATE FOREIGN TABLE mixed_there PARTITION OF mixed DEFAULT SERVER remote OPTIONS (table_name 't');
	CREATE MATERIALIZED VIEW v_mixed AS SELECT sum(n) AS n FROM mixed;
	CREATE TABLE here (id int);
	CREATE MATERIALIZED VIEW v_here AS SELECT count(*) FROM here;
});
make_different($node);
configure($node, views => '*');

# ---- never skipped -------------------------------------------------------------

sub after
{
	my ($what, @others) = @_;
	my %outcome = next_outcomes($node);

	is( join(' ', grep { $outcome{$_} eq 'refreshed' } sort keys %outcome),
		join(' ', sort(qw(v_mixed v_remote), @others)), "$what: refreshed");
	is(different($node, 'true'), '', "$what: nothing is late");
	return;
}

after('at first', 'v_here');
after('and then');
foreach my $sql (
	"INSERT INTO t VALUES (11, 1)",
	"UPDATE t SET n = n + 1 WHERE id < 5",
	"DELETE FROM t WHERE id = 3",
	"TRUNCATE t",
	"COPY t FROM stdin;\n1\t0\n2\t0\n\\.\n")
{
	$remote->safe_psql('postgres', $sql);
	after(($sql =~ /^(\w+)/)[0] . ' on the remote server');
}
change($node, 'UPDATE t SET n = 7 WHERE id = 1');
after('UPDATE through the foreign table');

$remote->safe_psql('postgres', 'UPDATE t SET n = 8');
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('v_remote', 'id = 1')");
is($node->safe_psql('postgres', 'SELECT id, n FROM v_remote ORDER BY id'),
	"1|8\n2|0", 'a part of a view comes from the remote server');

# ---- a remote server that hangs, and one that is gone -----------------------------

my $run = 'SELECT refreshed, failed FROM bigbrotr_refresher.run(wait => true)';

sub state_of
{
	my ($view) = @_;

	return $node->safe_psql('postgres',
		"SELECT concat_ws(' ', outcome, sqlstate) FROM bigbrotr_refresher.history
		 WHERE view = '$view' ORDER BY id DESC LIMIT 1");
}

# wait_for_remote(QUERY): the process of the remote server that works for the
# worker and waits for a lock.
sub wait_for_remote
{
	my $pid = '';

	wait_until(
		'the remote server works for the worker',
		sub {
			$pid = $remote->safe_psql('postgres',
				"SELECT pid FROM pg_stat_activity
				 WHERE application_name = 'postgres_fdw' AND wait_event_type = 'Lock'");
			return $pid ne '';
		});
	return $pid;
}

sub start_run
{
	my ($locks) = @_;

	$locks->query_safe('BEGIN; LOCK TABLE t');
	$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
	return wait_for_remote();
}

configure($node,
	interval => '1h',
	enabled => 'on',
	refresh_timeout => '2s',
	views => 'v_remote, v_here',
	'bigbrotr_refresher.retry_interval' => '1h');
is($node->safe_psql('postgres', $run), '2|0', 'all is well');

# It waits: the timeout ends the query over there.
my $locks = session($remote, 'postgres');
my $pid = start_run($locks);
wait_until('the timeout ends a refresh that waits for the remote server',
	sub { state_of('v_remote') eq 'failed 57014' });
$remote->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND state = 'active'")
  or die 'the query goes on';
wait_until('the other view is refreshed', sub { state_of('v_here') eq 'refreshed' });
$locks->query_safe('ROLLBACK');
is($node->safe_psql('postgres', $run), '2|0', 'the next refresh is well');

# It is frozen, and does not even hear that it is cancelled: postgres_fdw waits
# for half a minute more.
$pid = start_run($locks);
my $started = time();
kill 'STOP', $pid;
wait_until('the timeout ends a refresh from a frozen server',
	sub { state_of('v_remote') eq 'failed 57014' });
cmp_ok(time() - $started, '<', 100, 'a refresh from a frozen server ends');
wait_until('the other view is refreshed', sub { state_of('v_here') eq 'refreshed' });
kill 'CONT', $pid;
$locks->query_safe('ROLLBACK');
is($node->safe_psql('postgres', $run), '2|0', 'the next refresh is well');

# It is gone in the middle of a refresh, and then before one.
configure($node, refresh_timeout => 0);
start_run($locks);
$remote->stop('immediate');
wait_until('the refresh fails', sub { state_of('v_remote') =~ /^failed/ });
like(state_of('v_remote'), qr/^failed (?:08|57P)/, 'it fails when the remote server is gone');
$locks->{run}->kill_kill;
is($node->safe_psql('postgres', $run), '1|1', 'and until that is back');
like(state_of('v_remote'), qr/^failed 08/, 'for want of a connection');
is(state_of('v_here'), 'refreshed', 'the other view is refreshed');

configure($node, 'bigbrotr_refresher.retry_interval' => '1s');
$remote->start;
$remote->safe_psql('postgres', 'UPDATE t SET n = 9');
wait_until('it is refreshed', sub { state_of('v_remote') eq 'refreshed'
	&& $node->safe_psql('postgres', 'SELECT DISTINCT n FROM v_remote') eq '9' });
ok(1, 'then it is retried, and is right');

nothing_broke($node);
$remote->stop;
$node->stop;
done_testing();
