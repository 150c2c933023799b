# The configuration is reloaded while a process starts: it works by the new one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Faults;
use Refresher;
use Test::More;

plan skip_all => faults_missing() if faults_missing();

# The postmaster logs at DEBUG1 that a helper has ended.
my $node = add_faults(
	new_node(
		'starts',
		views => 'work',
		interval => '1d',
		log_min_messages => 'debug1',
		'bigbrotr_refresher.max_workers' => 2));
$node->start;

my $make = "CREATE EXTENSION bigbrotr_refresher; $make_work";

$node->safe_psql('postgres', $_)
  foreach $make, 'CREATE DATABASE shop', q{
	CREATE FUNCTION gate_1_refresh() RETURNS void LANGUAGE sql
		AS 'SELECT pg_advisory_xact_lock(1)';
	CREATE FUNCTION gate_2_refresh() RETURNS void LANGUAGE sql
		AS 'SELECT pg_advisory_xact_lock(2)';
	CREATE FUNCTION other_refresh() RETURNS void LANGUAGE sql AS ''};
$node->safe_psql('shop', $make);
configure_and_rest($node);

# While nothing can be started, only this session can be used.
my $session = hold($node, 'postgres', 1, 2);

sub ask
{
	return $session->query_safe($_[0]);
}

# Change a parameter, and wait until every process has been told.
sub set
{
	my ($name, $value) = @_;

	ask("ALTER SYSTEM SET bigbrotr_refresher.$name = '$value'");
	ask('SELECT pg_reload_conf()');
	wait_until("$name is $value",
		sub { return ask("SHOW bigbrotr_refresher.$name") eq $value });
	return;
}

# ---- the launcher ----------------------------------------------------------

hold_starts($node, 'on');
my $pid = ask(
	"SELECT pid FROM pg_stat_activity
	 WHERE backend_type = 'bigbrotr_refresher launcher'");
ask("SELECT pg_terminate_backend($pid)");
wait_until('a launcher starts', sub { return starts_waiting($node) > 0 });
set('databases', 'shop');
hold_starts($node, 'off');
$node->poll_query_until('shop', 'SELECT count(*) = 1 FROM work')
  or die 'the launcher has not read which databases are served';
pass('a launcher hears of a reload while it starts');
set('databases', 'postgres');
configure_and_rest($node);

# ---- a helper --------------------------------------------------------------

# How many views wait for their locks?
sub waiting
{
	return ask(
		"SELECT count(*) FROM pg_locks
		 WHERE locktype = 'advisory' AND NOT granted");
}

sub open_gates
{
	my ($offset, $event) = @_;
	my $log;

	ask("SELECT pg_advisory_unlock($_)") foreach 1, 2;
	$log = wait_for_line($node, $event, $offset);
	ask("SELECT pg_advisory_lock($_)") foreach 1, 2;
	return $log;
}

# Have a worker that knows two views, with nothing to do.  It stays, since
# there is no history.
sub know_gates
{
	my $offset = log_size($node);

	set('views', 'gate_1, gate_2');
	wait_until('the gates are refreshed', sub { return waiting() == 2 });
	open_gates($offset, 'cycle_completed refreshed=2 ');
	wait_until(
		'the worker rests',
		sub {
			return ask("SELECT count(*) FROM pg_stat_activity
				WHERE backend_type = 'bigbrotr_refresher'
					AND query ~ '^next refresh due'") == 1;
		});
	return;
}

# The worker refreshes one view, and the only helper has just been started.
sub check_helper
{
	my ($offset, $what) = @_;

	wait_until(
		'the helper has begun a view, or is gone',
		sub {
			return waiting() == 2
			  || log_since($node, $offset) =~
			  /background worker "bigbrotr_refresher helper" \(PID \d+\) exited/;
		});
	is(waiting(), 1, $what);
	like(
		open_gates($offset, 'cycle_completed '),
		qr/cycle_completed refreshed=1 failed=0 /,
		'and the worker ends the cycle');
	return;
}

my $postmaster;

# Otherwise it could not be stopped.
END
{
	kill 'CONT', $postmaster if defined $postmaster;
}

set('history_retention', '0');
know_gates();
my $held = starts_waiting($node);
my $offset = log_size($node);
hold_starts($node, 'on');
ask('SELECT FROM bigbrotr_refresher.run()');
wait_until('a cycle begins',
	sub { return waiting() == 1 && starts_waiting($node) > $held });
set('views', 'other');
hold_starts($node, 'off');
check_helper($offset, 'a helper hears of a new list while it starts');

# The postmaster, when it goes on, reads the configuration and then starts the
# helper.
know_gates();
$offset = log_size($node);
($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)$/m;
kill 'STOP', $postmaster;
ask('SELECT FROM bigbrotr_refresher.run()');
wait_until('a cycle begins', sub { return waiting() == 1 });
ask("ALTER SYSTEM SET bigbrotr_refresher.views = 'other'");
ask('SELECT pg_reload_conf()');
kill 'CONT', $postmaster;
undef $postmaster;
check_helper($offset, 'one that knows only the new list leaves the cycle');

$session->quit;
$node->stop;
done_testing();
