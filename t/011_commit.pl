# What happens in the COMMIT of a refresh: triggers that were deferred, and the
# wait for a standby.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $timeout = 'bigbrotr_refresher.refresh_timeout';

# A deferred trigger waits for the lock 1, so that the test decides when the
# COMMIT goes on.
my $node = new_node(
	'commit',
	views => 'deferred, after',
	interval => '1h',
	allows_streaming => 1,
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE target (n int);
	CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
	AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON target
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait();
	CREATE FUNCTION deferred_refresh() RETURNS void
	LANGUAGE sql AS 'INSERT INTO target VALUES (1)';
	CREATE FUNCTION after_refresh() RETURNS void LANGUAGE sql AS '';
});
wait_for_rest($node, 'postgres');

sub last_row
{
	my ($columns, $view) = @_;

	return $node->safe_psql('postgres',
		"SELECT $columns FROM bigbrotr_refresher.history
		 WHERE view = '$view' ORDER BY id DESC LIMIT 1");
}

sub rows
{
	my ($view) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM bigbrotr_refresher.history
		 WHERE view = '$view'");
}

# Start a cycle of all views, and return where the log ended before it.
sub start_cycle
{
	my $offset = log_size($node);

	$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
	return $offset;
}

# ---- deferred triggers ---------------------------------------------------------

$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run(true)');
my $session = hold($node, 'postgres', 1);

my $offset = start_cycle();
wait_for_waiter($node, 'postgres', 1);
$node->safe_psql('postgres',
	'SELECT pg_cancel_backend(' . worker_pid($node, 'postgres') . ')');
my $log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'deferred:57014 after',
	'a cancel ends a deferred trigger, and nothing else');
is(last_row('outcome, sqlstate', 'deferred'),
	'failed|57014', 'which the history tells');

configure($node, $timeout => '100ms');
$offset = start_cycle();
$log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'deferred:57014 after', 'so does refresh_timeout');
configure($node, $timeout => undef);

# The time that the trigger took is told.
$offset = start_cycle();
wait_for_waiter($node, 'postgres', 1);
my $started = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
$node->poll_query_until('postgres',
	"SELECT clock_timestamp() > '$started'::timestamptz + interval '1.5 s'")
  or die 'time stands still';
$session->query_safe('SELECT pg_advisory_unlock(1)');
$log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'deferred after', 'the trigger ended, all is committed');
is(last_row("duration > interval '1.5 s'", 'deferred'),
	't', 'its time is a part of the duration in the history');
my ($event) =
  grep { $_->{event} eq 'view_refreshed' && $_->{view} eq 'deferred' }
  events($log);
cmp_ok($event->{duration}, '>=', 1.5, 'and in the log');
$session->quit;

# ---- a standby that is gone -----------------------------------------------------

# Wait until the worker waits for a standby.
sub wait_for_sync
{
	$node->poll_query_until('postgres',
		"SELECT wait_event = 'SyncRep' FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher'")
	  or die 'the worker does not wait for a standby';
	return;
}

# "after" writes nothing by itself; what it has done elsewhere may depend on its
# COMMIT all the same.
configure($node, synchronous_standby_names => 'gone', views => 'after');
my $rows = rows('after');
$offset = start_cycle();
wait_for_sync();
is(rows('after'), $rows, 'a refresh that wrote nothing waits for a standby');
$node->safe_psql('postgres',
	'SET synchronous_commit = off;
	 SELECT pg_cancel_backend(' . worker_pid($node, 'postgres') . ')');
$log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'after', 'a cancel ends the wait, not the refresh');
like($log, qr/WARNING:  canceling wait for synchronous replication/,
	'of which the server warns');
is(rows('after'), $rows + 1, 'it is committed');

configure($node, $timeout => '100ms');
$offset = start_cycle();
$log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'after', 'so does refresh_timeout');

# What has failed is not waited for.
configure($node, $timeout => undef, views => 'missing');
$offset = start_cycle();
$log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'missing:42883', 'what has failed waits for no standby');
is(rows('missing') > 0, 1, 'but is in the history');

no_worker_failed($node, 0, 'no worker has ended for that');
$node->stop('fast');
done_testing();
