# What ends a helper, a view of a helper's, or the worker of helpers; and what
# is left then.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(
	'ends',
	databases => 'work',
	role => 'agent',
	views => 'not_there',
	'bigbrotr_refresher.max_workers' => 3,
	max_worker_processes => 20,
	restart_after_crash => 'on');

# A database with views that wait for the advisory lock of their number
sub make_database
{
	my ($database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, <<'SQL');
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION nothing_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION quick_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE TABLE done (view text);
	SELECT format('CREATE FUNCTION gate_%s_refresh() RETURNS void LANGUAGE sql'
		' AS ''INSERT INTO done VALUES (''''gate_%1$s'''');'
		' SELECT pg_advisory_xact_lock(%1$s)''', n)
	FROM generate_series(1, 6) AS n
	\gexec
SQL
	return;
}

# The process that refreshes a view; '' if none does
sub pid_of
{
	my ($view) = @_;

	return $node->safe_psql(
		'postgres', "SELECT pid FROM pg_stat_activity
		WHERE backend_type LIKE 'bigbrotr_refresher%'
			AND state = 'active' AND wait_event = 'advisory'
			AND query LIKE 'refreshing public.$view (%'");
}

sub count_helpers
{
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher helper'");
}

sub wait_for_helpers
{
	my ($count) = @_;

	wait_until("there are $count helpers",
		sub { count_helpers() == $count });
	return;
}

# Wait until a process of a cycle has nothing to do.
sub wait_for_others
{
	my ($pid) = @_;

	$node->poll_query_until('postgres',
		"SELECT state = 'idle' AND wait_event_type = 'Extension'
		 FROM pg_stat_activity WHERE pid = $pid")
	  or die "process $pid does not wait for others";
	return;
}

# A session that holds all of the locks
my $session;

sub release
{
	my (@views) = @_;

	foreach my $view (@views)
	{
		my ($key) = $view =~ /^gate_(\d)$/;

		$session->query_safe("SELECT pg_advisory_unlock($key)");
	}
	return;
}

sub release_all
{
	$session->query_safe('SELECT pg_advisory_unlock_all()');
	return;
}

# Have the worker forget all views, and hold all of the locks.
sub forget
{
	release_all();
	cycle($node, views => 'nothing');
	$session->query_safe("SELECT pg_advisory_lock($_)") foreach (1 .. 4);
	$node->safe_psql('work',
		'DELETE FROM bigbrotr_refresher.history;
		 DELETE FROM bigbrotr_refresher.view_state; TRUNCATE done');
	return;
}

# Start a cycle of these views, with no other known.  Three processes work on
# it, and each is to have the first view that waits for its lock: the worker
# $own, the helpers $first and $second.
my @gates = map { "gate_$_" } 1 .. 4;
my $worker;
my %pid;
my ($own, $first, $second);

sub start_cycle
{
	my ($views) = @_;
	my $offset;

	forget();
	$offset = log_size($node);
	configure($node, views => $views);
	wait_until(
		'three views wait',
		sub {
			%pid = map { $_ => pid_of($_) } @gates;
			return 3 == grep { $_ ne '' } values %pid;
		});
	$worker = worker_pid($node, 'work');
	($own) = grep { $pid{$_} eq $worker } @gates;
	($first, $second) = grep { $pid{$_} !~ /^(|$worker)$/ } @gates;
	return $offset;
}

sub terminate
{
	my ($pid) = @_;

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	return;
}

# What became of the gates if these views have failed with this code
sub with_failed
{
	my ($sqlstate, @failed) = @_;
	my %failed = map { $_ => ":$sqlstate" } @failed;

	return join ' ', map { $_ . ($failed{$_} // '') } @gates;
}

# What became of each view, in the order of their names: by the log, and by
# the history
sub sorted_outcomes
{
	my ($log) = @_;

	return join ' ', sort split / /, outcomes($log);
}

sub history
{
	return $node->safe_psql(
		'work', "SELECT string_agg(concat_ws(':', view, sqlstate), ' '
			ORDER BY view)
		FROM bigbrotr_refresher.history WHERE view <> 'nothing'");
}

# Wait until the worker is ready, and have it run a cycle.
sub run_cycle
{
	my ($database) = @_;

	wait_for_rest($node, $database);
	return $node->safe_psql($database,
		'SELECT views, refreshed, failed, skipped
		 FROM bigbrotr_refresher.run(true)');
}

$node->append_conf('postgresql.conf', conf_lines(databases => ''));
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE agent LOGIN SUPERUSER');
make_database('work');
$node->append_conf('postgresql.conf', conf_lines(databases => 'work'));
$node->restart;
wait_for_rest($node, 'work');
$session = hold($node, 'work');

# ---- a helper is terminated -----------------------------------------------------

my $all = join ', ', @gates;
my $offset = start_cycle($all);
terminate($pid{$first});
wait_for_helpers(1);
release_all();
my $log = wait_for_line($node, 'cycle_completed', $offset);
is(sorted_outcomes($log), with_failed('57P01', $first),
	'the view of a terminated helper has failed, and the others go on');
like(
	$log,
	qr/ \[$worker\] 57P01 WARNING:  bigbrotr_refresher: view_refresh_failed view=$first duration=\d+\.\d\d sqlstate=57P01 error="the process that refreshed the view ended"$more/,
	'the worker reports it');
like($log, qr/cycle_completed refreshed=3 failed=1 skipped=0 /,
	'and counts it');
is(history(), with_failed('57P01', $first), 'it is in the history');
is( $node->safe_psql('work',
		'SELECT string_agg(view, \' \' ORDER BY view) FROM done'),
	join(' ', grep { $_ ne $first } @gates),
	'what it had done is undone');
is( $node->safe_psql(
		'work', "SELECT failures = 1 AND next_due < now() + '10 min'
		FROM bigbrotr_refresher.views WHERE view = '$first'"),
	't',
	'the view is due again earlier');
is( $node->safe_psql(
		'work', 'SELECT views_refreshed, views_failed, refreshing
		FROM bigbrotr_refresher.status()'),
	'3|1|{}',
	'and nothing remains of it in the status');
like($log, qr/\[$worker\] .*: cycle_completed/, 'the worker goes on');

# All helpers, so that the worker is alone
$offset = start_cycle($all);
terminate($pid{$_}) foreach ($first, $second);
wait_for_helpers(0);
release_all();
$log = wait_for_line($node, 'cycle_completed', $offset);
is( sorted_outcomes($log),
	with_failed('57P01', $first, $second),
	'without its helpers the worker does the rest');

# The last view of a cycle, for which the worker waits
$offset = start_cycle('gate_1, gate_2, gate_3');
release($own, $second);
wait_for_others($worker);
terminate($pid{$first});
$log = wait_for_line($node, 'cycle_completed', $offset);
like($log, qr/cycle_completed refreshed=2 failed=1 skipped=0 /,
	'the worker does not wait for one that is gone');

# One that waits for others
$offset = start_cycle('gate_1, gate_2, gate_3; gate_4, quick');
release($first);
wait_for_others($pid{$first});
terminate($pid{$first});
wait_for_helpers(1);
release_all();
$log = wait_for_line($node, 'cycle_completed', $offset);
like($log, qr/cycle_completed refreshed=5 failed=0 skipped=0 /,
	'a helper that is terminated without a view in hand is only missed');
like($log, qr/\[$worker\] .*: cycle_completed/, 'by nobody else');

# ---- a helper's view is cancelled ----------------------------------------------

$offset = start_cycle('gate_1, gate_2, gate_3; gate_4, quick');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid{$first})");
wait_for_line($node, "view_refresh_failed view=$first", $offset);
wait_for_others($pid{$first});
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid{$first})");
is(count_helpers(), 2, 'a helper outlives the view that is cancelled');
release_all();
$log = wait_for_line($node, 'cycle_completed', $offset);
is( sorted_outcomes($log),
	with_failed('57014', $first) . ' quick',
	'which has failed alone');
like(
	$log,
	qr/\[$pid{$first}\] 57014 WARNING: .* view=$first .* error="canceling statement due to user request"$more/,
	'as the helper itself reports');
unlike($log, qr/ERROR|FATAL/, 'at rest it is not concerned');
is(history(), with_failed('57014', $first) . ' quick',
	'and writes to the history');

# ---- timeouts -----------------------------------------------------------------

# None waits for long enough for us to see that it does.
forget();
$log = cycle($node, refresh_timeout => '2s', views => $all);
is(sorted_outcomes($log), with_failed('57014', @gates),
	'refresh_timeout ends all views');
isnt(
	join(' ', grep { $_ != $worker }
		map { $_->{pid} } grep { $_->{view} } events($log)),
	'', 'those of helpers, too');
configure($node, refresh_timeout => undef);

# ---- a cycle ends early -----------------------------------------------------------

$offset = start_cycle($all);
configure($node, enabled => 'off');
release($first);
wait_for_line($node, "view=$first", $offset);
wait_for_helpers(1);
pass('disabled in mid-cycle, a helper ends with what it has in hand');
is(pid_of($own), $worker, 'the worker finishes its own');
release($own);
wait_for_others($worker);
is(pid_of($second), $pid{$second}, 'and waits for that of the other');
release_all();
$log = wait_for_line($node, 'cycle_completed', $offset);
is( sorted_outcomes($log),
	join(' ', sort $own, $first, $second),
	'no other has begun');
$node->poll_query_until('work',
	"SELECT state = 'disabled' FROM bigbrotr_refresher.status()")
  or die 'the worker is not disabled';
$offset = log_size($node);
configure($node, enabled => 'on');
$log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'gate_4', 'enabled again, it is the next one\'s turn');

$offset = start_cycle($all);
configure($node, views => 'quick');
release_all();
$log = wait_for_line($node, 'view=quick', $offset);
is( sorted_outcomes($log),
	join(' ', sort($own, $first, $second), 'quick'),
	'a new list ends a cycle likewise');

# ---- the worker is terminated -------------------------------------------------------

foreach my $case ('with a view in hand', 'while it waits for others')
{
	$offset = start_cycle($all . '; quick');
	if ($case =~ /waits/)
	{
		my ($last) = grep { $pid{$_} eq '' } @gates;

		release($own, $last);
		wait_for_others($worker);
	}
	terminate($worker);
	wait_until(
		'the helpers have ended',
		sub {
			return $node->safe_psql('postgres',
				"SELECT count(*) FROM pg_stat_activity
				 WHERE pid IN ($pid{$first}, $pid{$second})") == 0;
		});
	pass("a worker that is terminated $case takes its helpers along");
	release_all();
	$log = wait_for_line($node, 'cycle_completed', $offset);
	is(scalar(() = $log =~ /FATAL:  terminating/g),
		3, 'all at once, whatever they do');
	like($log, qr/cycle_completed refreshed=\d failed=0 skipped=0 /,
		'and the next one begins anew');
	unlike($log, qr/was terminated by signal|terminating any other/,
		'nothing breaks');
	unlike($log, qr/\[$worker\] .*cycle_completed/, 'it is another process');
}

# ---- fast shutdown -----------------------------------------------------------------

foreach my $case ('with views in hand', 'while some wait for others')
{
	my $start;

	$offset = start_cycle('gate_1, gate_2, gate_3; gate_4');
	if ($case =~ /wait/)
	{
		release($own, $first);
		wait_for_others($pid{$_}) foreach ($own, $first);
	}
	$start = time();
	$node->stop('fast');
	cmp_ok(time() - $start, '<', 60, "a fast shutdown $case is fast");
	$log = log_since($node, $offset);
	like($log, qr/database system is shut down/, 'and is in order');
	unlike($log, qr/was terminated by signal|terminating any other/,
		'nothing breaks');
	$session->quit;
	$node->start;
	wait_for_rest($node, 'work');
	$session = hold($node, 'work');
}

# ---- a helper is killed ------------------------------------------------------------

$offset = start_cycle($all);
crash($node, $pid{$first});
$session->quit;
$log = wait_for_line($node, 'cycle_completed', $offset);
like($log, qr/cycle_completed refreshed=4 failed=0 skipped=0 /,
	'after a crash the next worker begins the cycle anew');
$node->poll_query_until('postgres', 'SELECT true');
$session = hold($node, 'work');
is(run_cycle('work'), '4|4|0|0', 'with helpers that work');

# ---- the role, and the database, are dropped ----------------------------------------

# What it has rights for no more fails, but nothing else.
$offset = start_cycle($all);
$node->safe_psql('postgres', 'DROP ROLE agent');
release_all();
$log = wait_for_line($node, 'cycle_completed', $offset);
my ($last) = grep { $pid{$_} eq '' } @gates;
is(sorted_outcomes($log), with_failed('42501', $last),
	'a cycle whose role is dropped comes to its end');
is(history(), with_failed('42501', $last), 'which is in the history');
$offset = log_size($node);
$node->psql('work', 'SELECT bigbrotr_refresher.run()');
wait_for_line($node, 'role_missing role=agent', $offset);
pass('then none can start');
wait_for_helpers(0);
$node->safe_psql('postgres', 'CREATE ROLE agent LOGIN SUPERUSER');
wait_for_rest($node, 'work');
is(run_cycle('work'), '4|4|0|0', 'until there is such a role again');

$offset = start_cycle($all);
$session->quit;
$node->safe_psql('postgres', 'DROP DATABASE work WITH (FORCE)');
pass('the database can be dropped with helpers at work');
wait_for_helpers(0);
$log = log_since($node, $offset);
unlike($log, qr/was terminated by signal|terminating any other/,
	'nothing breaks');
make_database('work');
wait_for_rest($node, 'work');
is(run_cycle('work'), '4|4|0|0', 'made again, it is served again');

$node->stop;
done_testing();
