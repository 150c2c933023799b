# Helpers for the tests of a whole server.
#
# Nothing here sleeps for a fixed time: whoever waits, waits for a line in the
# server's log or for an answer of the catalogs, and gives up with an error
# after PG_TEST_TIMEOUT_DEFAULT seconds (180 unless set).

package Refresher;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use Time::Local qw(timegm);

our @EXPORT = qw(
  new_node conf_lines configure load_demo run_demo_file
  log_size log_since nothing_broke wait_for_line wait_until cycle
  events outcomes cycles
  worker_pid wait_for_pid hold wait_for_waiter
);

my %is_parameter = map { $_ => 1 } qw(
  databases role restart_interval enabled views interval refresh_timeout
  lock_timeout
);

# Our parameters may be named without their prefix.
sub _parameter
{
	my ($name) = @_;

	return $is_parameter{$name} ? "bigbrotr_refresher.$name" : $name;
}

# new_node(NAME, SETTING => VALUE, ...): a node, initialized but not started,
# that is preloaded with the extension.
#
# What is set here for all of them keeps the log to what the tests read and
# autovacuum out of what they measure.  The "lock_timeout" of the refresher
# hides the server's setting of that name; no test needs the latter.
sub new_node
{
	my ($name, %settings) = @_;
	my $streaming = delete $settings{allows_streaming};
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(
		extra => [ '--encoding=UTF8', '--locale=C' ],
		allows_streaming => $streaming);
	$node->append_conf(
		'postgresql.conf',
		conf_lines(
			shared_preload_libraries => 'bigbrotr_refresher',
			restart_interval => '1s',
			databases => 'postgres',
			log_statement => 'none',
			log_line_prefix => '%m [%p] %e ',
			autovacuum => 'off',
			%settings));
	return $node;
}

# Settings as lines of postgresql.conf.
sub conf_lines
{
	my (%settings) = @_;
	my $lines = '';

	foreach my $name (sort keys %settings)
	{
		my $value = $settings{$name};

		$value =~ s/([\\'])/\\$1/g;
		$value =~ s/\n/\\n/g;
		$lines .= _parameter($name) . " = '$value'\n";
	}
	return $lines;
}

# configure(NODE, SETTING => VALUE, ...): change settings and have the server
# read them; undef resets one.  On return every process of the server has been
# signalled: a connection that the postmaster accepted after it reloaded is
# one that it accepted after it had told the others.
sub configure
{
	my ($node, %settings) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');
	my $sql = '';

	foreach my $name (sort keys %settings)
	{
		my $value = $settings{$name};
		my $parameter = _parameter($name);

		if (!defined $value)
		{
			$sql .= "ALTER SYSTEM RESET $parameter;\n";
			next;
		}
		$value =~ s/'/''/g;
		$sql .= "ALTER SYSTEM SET $parameter = '$value';\n";
	}
	$node->safe_psql('postgres', $sql . 'SELECT pg_reload_conf();');
	$node->poll_query_until('postgres',
		"SELECT pg_conf_load_time() <> '$before'")
	  or die 'the configuration was not read';
	$node->safe_psql('postgres', 'SELECT');
	return;
}

# Load BigBrotr's schema into a database, with a little data.
sub load_demo
{
	my ($node, $database) = @_;

	_run_demo($node, $database, '-v', 'scale=0.01', '-f', 'all.sql');
	return;
}

# run_demo_file(NODE, DATABASE, FILE): run one of the demo's files as "writer".
sub run_demo_file
{
	my ($node, $database, $file) = @_;

	_run_demo($node, $database, '-U', 'writer', '-f', $file);
	return;
}

sub _run_demo
{
	my ($node, $database, @arguments) = @_;
	my $folder = abs_path(dirname(__FILE__) . '/../demo');

	$arguments[-1] = "$folder/$arguments[-1]";
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	PostgreSQL::Test::Utils::system_or_bail(
		$node->config_data('--bindir') . '/psql',
		'-X', '-q', '-o', '/dev/null', '-d', $database, @arguments);
	return;
}

# Where the log ends now: what is written later is "since" this.
sub log_size
{
	my ($node) = @_;

	return -s $node->logfile;
}

sub log_since
{
	my ($node, $offset) = @_;

	return slurp_file($node->logfile, $offset);
}

# A result of a test: none of the server's processes has crashed so far.
sub nothing_broke
{
	my ($node) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	unlike(
		slurp_file($node->logfile),
		qr/was terminated by signal|terminating any other|TRAP|PANIC/,
		'nothing breaks');
	return;
}

# wait_for_line(NODE, REGEXP, OFFSET): wait until the log has a match after
# OFFSET; '^' and '$' match at any line.  Returns all of the log from OFFSET.
sub wait_for_line
{
	my ($node, $regexp, $offset) = @_;

	$node->wait_for_log(qr/(?m)$regexp/, $offset);
	return log_since($node, $offset);
}

# wait_until(WHAT, CODE): wait until CODE returns something true.
sub wait_until
{
	my ($what, $code) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	until ($code->())
	{
		die "timed out waiting until $what" if time() > $end;
		usleep(50_000);
	}
	return;
}

# cycle(NODE, SETTING => VALUE, ...): change settings such that a cycle starts,
# and return the log from the change to the end of that cycle.
sub cycle
{
	my ($node, %settings) = @_;
	my $offset = log_size($node);

	configure($node, %settings);
	return wait_for_line($node, 'bigbrotr_refresher: cycle_completed', $offset);
}

# events(LOG): our lines in a piece of the log, each as a hash of its keys and
# of pid, time (in seconds), level, sqlstate and event.
sub events
{
	my ($log) = @_;
	my @events;

	while ($log =~ m{^(\d+)-(\d+)-(\d+)\ (\d+):(\d+):([\d.]+)\ \S+
			\ [^\[]*\[(\d+)\]\ (?:(\w{5})\ )?
			(LOG|WARNING):\ \ bigbrotr_refresher:\ (\w+)(.*)$}xmg)
	{
		my %event = (
			time => timegm(0, $5, $4, $3, $2 - 1, $1) + $6,
			pid => $7,
			level => $9,
			event => $10);
		my $pairs = $11;

		$event{errcode} = $8;
		while ($pairs =~ / (\w+)=("(?:[^"\\]|\\.)*"|[^\s"]*)/g)
		{
			$event{$1} = $2;
		}
		push @events, \%event;
	}
	return @events;
}

# outcomes(LOG): what became of each view, in the order of the log, such as
# "a b:22012 c", the failed ones with their SQLSTATE.
sub outcomes
{
	my ($log) = @_;

	return join ' ', map {
		    $_->{event} eq 'view_refreshed' ? $_->{view}
		  : $_->{event} eq 'view_refresh_failed' ? "$_->{view}:$_->{sqlstate}"
		  : ()
	} events($log);
}

# cycles(LOG): the complete cycles, each as a hash of time, seconds since the
# first one, and the views in it.
sub cycles
{
	my ($log) = @_;
	my @cycles;
	my $cycle;

	foreach my $event (events($log))
	{
		if ($event->{event} eq 'cycle_started')
		{
			$cycle = { time => $event->{time}, views => [] };
		}
		elsif ($cycle && $event->{event} =~ /^view_/)
		{
			push @{ $cycle->{views} }, $event->{view};
		}
		elsif ($cycle && $event->{event} eq 'cycle_completed')
		{
			push @cycles, $cycle;
			undef $cycle;
		}
	}
	$_->{seconds} = $_->{time} - $cycles[0]->{time} foreach @cycles;
	return @cycles;
}

# The process that serves a database; '' if there is none.
sub worker_pid
{
	my ($node, $database) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher'
			AND datname = '$database'");
}

# Wait for a worker that is not the process OTHER, and return its number.
sub wait_for_pid
{
	my ($node, $database, $other) = @_;
	my $pid = '';

	wait_until(
		"a worker serves $database",
		sub {
			$pid = worker_pid($node, $database);
			return $pid ne '' && $pid ne ($other // '');
		});
	return $pid;
}

# hold(NODE, DATABASE, KEY...): a session that holds these advisory locks.
# Views of the tests wait for such a lock to stop a cycle where the test wants
# it; advisory locks belong to a database.
sub hold
{
	my ($node, $database, @keys) = @_;
	my $session = $node->background_psql($database);

	$session->query_safe("SELECT pg_advisory_lock($_)") foreach @keys;
	return $session;
}

# Wait until the worker waits for such a lock.
sub wait_for_waiter
{
	my ($node, $database, $key) = @_;

	$node->poll_query_until(
		$database, "SELECT count(*) = 1
		FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE backend_type = 'bigbrotr_refresher' AND NOT granted
			AND locktype = 'advisory' AND objid = $key
			AND database = (SELECT oid FROM pg_database
							WHERE datname = current_database())")
	  or die "no worker waits for the lock $key";
	return;
}

1;
