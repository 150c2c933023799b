# An error while a view is refreshed is that view's alone.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'errors',
	enabled => 'off',
	'bigbrotr_refresher.retry_interval' => 0,
	wal_level => 'logical',
	deadlock_timeout => '100ms');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION good_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION better_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION best_refresh() RETURNS void LANGUAGE sql AS '';
});

# The lines that report the failure of a view, without their prefixes.  Those
# of a message that go on have a tab in front, which goes too.
sub report
{
	my ($log, $view) = @_;

	my ($report) = $log =~
	  /^(\S+ \S+ \S+ \[\d+\] \w+ WARNING:  bigbrotr_refresher: view_refresh_failed view=\Q$view\E .*\n(?:(?:\S+ \S+ \S+ \[\d+\] \w+ (?:DETAIL|HINT|CONTEXT):  |\t).*\n)*)/m;
	return '' unless defined $report;
	$report =~ s/^(?:\S+ \S+ \S+ \[\d+\] (\w+) |\t)//mg;
	return $report;
}

# Wait until the worker is in the function of a view, asleep.
sub wait_for_sleep
{
	my ($view) = @_;

	$node->poll_query_until(
		'postgres', "SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher' AND state = 'active'
			AND query LIKE 'refreshing public.$view (%)'
			AND wait_event = 'PgSleep'")
	  or die "the worker does not refresh $view";
	return;
}

# ---- errors of all kinds --------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE numbers (key int, n int);
	INSERT INTO numbers VALUES (1, 1);

	CREATE MATERIALIZED VIEW zero AS SELECT 1 / n AS n FROM numbers;

	CREATE MATERIALIZED VIEW duplicates AS SELECT * FROM numbers;
	CREATE UNIQUE INDEX duplicates_key ON duplicates (key);

	CREATE FUNCTION undefined_refresh() RETURNS void
	LANGUAGE plpgsql AS 'BEGIN PERFORM no_such_function(); END';

	CREATE FUNCTION raises_refresh() RETURNS void
	LANGUAGE plpgsql AS $$
	BEGIN
		RAISE 'the message' USING ERRCODE = 'BB001',
			DETAIL = 'The detail.', HINT = 'The hint.';
	END $$;

	INSERT INTO numbers VALUES (1, 0);
});

my $log = cycle(
	$node,
	enabled => 'on',
	interval => '1h',
	views => 'missing, zero, duplicates, undefined, raises, good');
is( outcomes($log),
	'missing:42883 zero:22012 duplicates:23505 undefined:42883'
	  . ' raises:BB001 good',
	'each error is one view\'s, and the others go on');
like($log, qr/cycle_completed refreshed=1 failed=5 skipped=0 /,
	'all are counted');
is( scalar(grep { $_->{sqlstate} && $_->{sqlstate} ne $_->{errcode} }
		  events($log)),
	0,
	'the line of the log has the code of the error itself');

my $duration = qr/duration=\d+\.\d\d/;
like(
	report($log, 'zero'),
	qr/^WARNING:  bigbrotr_refresher: view_refresh_failed view=zero $duration sqlstate=22012 error="division by zero"$more\n/,
	'the failure of a query is reported');
like(
	report($log, 'duplicates'),
	qr/^WARNING: .* view=duplicates $duration sqlstate=23505 error="[^\n]*duplicates_key[^\n]*"$more\nDETAIL:  Key \(key\)=\(1\) already exists\.\n/,
	'with its detail');
like(
	report($log, 'raises'),
	qr/^WARNING: .* view=raises $duration sqlstate=BB001 error="the message"$more\nDETAIL:  The detail\.\nHINT:  The hint\.\nCONTEXT:  PL\/pgSQL function (?:public\.)?raises_refresh\(\) line 3 at RAISE\n/,
	'its hint, and its context');
like(
	report($log, 'missing'),
	qr/^WARNING: .* view=missing $duration sqlstate=42883 error="materialized view or refresh function \\"missing\\" does not exist"$more\nDETAIL: .*\nHINT: /,
	'what does not exist is reported likewise');

# ---- a replication slot ---------------------------------------------------------

# The plugin refuses to start, after the slot was acquired.
$node->safe_psql(
	'postgres', q{
	SELECT pg_create_logical_replication_slot('held', 'pgoutput');
	CREATE FUNCTION slot_refresh() RETURNS void LANGUAGE sql AS
		$$SELECT count(*) FROM pg_logical_slot_peek_binary_changes('held', NULL, NULL)$$;
	CREATE TABLE slots (active bool);
	CREATE FUNCTION slots_refresh() RETURNS void LANGUAGE sql AS
		$$INSERT INTO slots SELECT active FROM pg_replication_slots$$;
});
$log = cycle($node, views => 'slot, slots, good');
like(outcomes($log), qr/^slot:\w+ slots$/, 'a view fails that reads a slot');
is($node->safe_psql('postgres', 'SELECT DISTINCT active FROM slots'),
	'f', 'which it does not keep');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('held')});

# ---- deadlock ---------------------------------------------------------------

# Each waits for what the other holds; the other would wait for very long
# before it looked for a deadlock, so that the view is what fails.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION deadlock_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock(11);
		WHILE NOT EXISTS (SELECT FROM pg_locks
						  WHERE locktype = 'advisory' AND objid = 11
							AND NOT granted)
		LOOP
			PERFORM pg_sleep(0.05);
		END LOOP;
		PERFORM pg_advisory_xact_lock(12);
	END $$;
});
my $session = hold($node, 'postgres', 12);
$session->query_safe(q{SET deadlock_timeout = '1h'});
configure($node, views => 'deadlock, good');
wait_for_sleep('deadlock');
$session->query_safe('SELECT pg_advisory_lock(11)');
$log = cycle_since($node);
is(outcomes($log), 'deadlock:40P01', 'a deadlock');
like(
	report($log, 'deadlock'),
	qr/error="deadlock detected"$more\nDETAIL:  Process \d+ waits for /,
	'is reported with its detail');
$session->query_safe('SELECT pg_advisory_unlock_all()');

# ---- timeouts -----------------------------------------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE TABLE locked_table ();
	CREATE MATERIALIZED VIEW locked AS SELECT * FROM locked_table;
	CREATE MATERIALIZED VIEW barred AS SELECT * FROM locked_table;
	CREATE FUNCTION slow_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_sleep(600)';
	CREATE PROCEDURE slow_procedure_refresh()
	LANGUAGE plpgsql AS 'BEGIN COMMIT; PERFORM pg_sleep(600); END';
	CREATE FUNCTION stubborn_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(600);
	EXCEPTION WHEN query_canceled THEN
		NULL;
	END $$;
});
$session->query_safe('BEGIN; LOCK locked_table');
$log = cycle(
	$node,
	views => 'locked, better',
	lock_timeout => '300ms');
is(outcomes($log), 'locked:55P03 better', 'lock_timeout ends one view');
like(
	report($log, 'locked'),
	qr/error="canceling statement due to lock timeout"$more/,
	'with its own message');

$log = cycle(
	$node,
	lock_timeout => undef,
	refresh_timeout => '1s',
	views => 'slow, slow_procedure, barred, stubborn, good');
is( outcomes($log),
	'slow:57014 slow_procedure:57014 barred:57014 stubborn good',
	'refresh_timeout ends functions, procedures after a COMMIT, and waits');
like(
	report($log, 'slow'),
	qr/error="canceling statement due to statement timeout"$more/,
	'with its own message');
my @slow = grep { ($_->{view} // '') =~ /^slow/ } events($log);
cmp_ok($_->{duration}, '>=', 0.99, "not before the time ($_->{view})")
  foreach @slow;
$session->query_safe('COMMIT');

# The time of a view that was quicker must not end another.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION unhurried_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_sleep(1.2)'});
$log = cycle($node, refresh_timeout => undef, views => 'unhurried');
is(outcomes($log), 'unhurried', 'it ends with the view that it was for');

# Without timeouts the lock is waited for.
configure_and_rest($node, views => 'nothing');
$session->query_safe('BEGIN; LOCK locked_table');
configure($node, views => 'locked');
$node->poll_query_until('postgres',
	"SELECT wait_event_type = 'Lock' FROM pg_stat_activity
	 WHERE backend_type = 'bigbrotr_refresher'")
  or die 'the worker does not wait for the lock';
$session->query_safe('COMMIT');
$log = cycle_since($node);
is(outcomes($log), 'locked', 'without a timeout a view waits');

# ---- cancel requests ----------------------------------------------------------

my $pid = worker_pid($node, 'postgres');
configure_and_rest($node, views => 'nothing');
configure($node, views => 'slow, slow_procedure, good');
foreach my $view ('slow', 'slow_procedure')
{
	wait_for_sleep($view);
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
}
$log = cycle_since($node);
is( outcomes($log),
	'slow:57014 slow_procedure:57014 good',
	'pg_cancel_backend ends the view in hand');
like(
	report($log, 'slow'),
	qr/error="canceling statement due to user request"$more/,
	'with its own message');

$node->poll_query_until('postgres',
	"SELECT state = 'idle' AND query LIKE 'next refresh due %'
	 FROM pg_stat_activity WHERE pid = $pid")
  or die 'the worker does not rest';
my $offset = log_size($node);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$log = cycle($node, views => 'best, good');
is(outcomes($log), 'best', 'at rest it ends nothing');
unlike(log_since($node, $offset), qr/ERROR|FATAL|WARNING/,
	'nor is it an error');
is(worker_pid($node, 'postgres'), $pid,
	'all this was one process, which outlived all errors');

# ---- nothing in the log is forged ----------------------------------------------

$node->safe_psql('postgres', "CREATE DATABASE odd");
$node->safe_psql('odd', <<'SQL');
	SELECT format('CREATE MATERIALIZED VIEW %I AS SELECT 1',
		E'a\nLOG:  bigbrotr_refresher: forged view="a" x=\\')
	\gexec
	CREATE MATERIALIZED VIEW "Quoted ""name""" AS SELECT 1;
	CREATE FUNCTION multi_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE USING
			MESSAGE = E'b\r\n2026-01-01 00:00:00.000 UTC [1] 00000 LOG:  bigbrotr_refresher: forged view="b\\"\t\x1b[31m',
			DETAIL = E'c\n2026-01-01 00:00:00.000 UTC [1] 00000 LOG:  bigbrotr_refresher: forged',
			HINT = E'd\n2026-01-01 00:00:00.000 UTC [1] 00000 LOG:  bigbrotr_refresher: forged';
	END $$;
	CREATE FUNCTION long_refresh() RETURNS void
	LANGUAGE plpgsql AS $$ BEGIN RAISE '%', repeat('x', 5000); END $$;
	CREATE FUNCTION wide_refresh() RETURNS void
	LANGUAGE plpgsql AS $$ BEGIN RAISE '%', repeat(U&'\00e9 ', 5000); END $$;
SQL
configure($node, views => 'nothing');
$node->append_conf('postgresql.conf', conf_lines(databases => 'odd'));
configure($node, views => 'multi, long, wide, *');

# The worker of before may have begun with the new list.
$node->stop;
$offset = log_size($node);
$node->start;
$log = wait_for_line($node, 'cycle_completed', $offset);
like($log, qr/cycle_completed refreshed=2 failed=3 /, 'odd names work');
is( join(' ',
		grep { /view|cycle|forged/ } map { $_->{event} } events($log)),
	'cycle_started view_refresh_failed view_refresh_failed'
	  . ' view_refresh_failed view_refreshed view_refreshed cycle_completed',
	'no name and no error forges an event');
is( scalar(grep { !/^\t/ && /forged/ && !/bigbrotr_refresher: view_refresh/ }
		  split(/\n/, $log)),
	0,
	'nor a line');
like(
	$log,
	qr/view_refresh_failed view=multi $duration sqlstate=P0001 error="b\\r\\n2026-01-01 00:00:00\.000 UTC \[1\] 00000 LOG:  bigbrotr_refresher: forged view=\\"b\\\\\\"\\t\\x1b\[31m"$more/,
	'what could is escaped');
like(
	$log,
	qr/view_refreshed view="\\"a\\nLOG:  bigbrotr_refresher: forged view=\\"\\"a\\"\\" x=\\\\\\"" $duration$more/,
	'in names too');
like($log, qr/view_refreshed view="\\"Quoted \\"\\"name\\"\\"\\"" /,
	'which are quoted as in SQL');
like($log, qr/view=long $duration sqlstate=P0001 error=x{1000}$more/,
	'a long value is cut at 1,000 characters');
like(
	$log,
	qr/view=wide $duration sqlstate=P0001 error="(?:\xc3\xa9 ){500}"$more/,
	'of whatever size they are');

$session->quit;
$node->stop;
done_testing();
