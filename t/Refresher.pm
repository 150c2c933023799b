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
  new_node conf_lines configure configure_and_rest load_demo run_demo_file
  log_size log_since nothing_broke wait_for_line wait_until
  cycle cycle_since cycle_so_far last_cycle
  events outcomes cycles $more
  worker_pid wait_for_pid wait_for_rest no_worker_failed
  session hold hold_worker wait_for_waiter
  crash random_seed $make_work
);

# The end of one of our lines, after the keys that a test names: new keys go to
# the end.
our $more = qr/(?:\ \w+=(?:"(?:[^"\\]|\\.)*"|[^\s"]*))*$/m;

my %is_parameter = map { $_ => 1 } qw(
  databases role restart_interval enabled views interval refresh_timeout
  lock_timeout
);

# Makes a table and a function that tells it each time that the worker calls it:
# the target "work".
our $make_work = q{
	CREATE TABLE work (at timestamptz);
	CREATE FUNCTION work_refresh() RETURNS void LANGUAGE sql
		AS 'INSERT INTO work VALUES (clock_timestamp())';
};

# Our parameters may be named without their prefix.
sub _parameter
{
	my ($name) = @_;

	return $is_parameter{$name} ? "bigbrotr_refresher.$name" : $name;
}

# new_node(NAME, SETTING => VALUE, ...): a node, initialized but not started,
# that is preloaded with the extension.  "allows_streaming" is as for a node's
# init(), "install_path" as for new(); "initdb" has more arguments for that.
#
# What is set here for all of them keeps the log to what the tests read and
# autovacuum out of what they measure.  The "lock_timeout" of the refresher
# hides the server's setting of that name; no test needs the latter.
sub new_node
{
	my ($name, %settings) = @_;
	my $streaming = delete $settings{allows_streaming};
	my $path = delete $settings{install_path};
	my @options = @{ delete $settings{initdb} // [] };
	my $node = PostgreSQL::Test::Cluster->new($name,
		$path ? (install_path => $path) : ());

	$node->init(
		extra => [ '--encoding=UTF8', '--locale=C', @options ],
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

# Configurations are numbered.  Each line of the log begins with the number of
# the one that its process had read, which tells what was done by which.  It is
# also the application_name of processes that have no client to choose one.
my $configuration = 0;

# Where the log of its node ended when a configuration was made
my %made_at = (0 => 0);

# configure(NODE, SETTING => VALUE, ...): change settings and have the server
# read them; undef resets one.  On return every process of the server has been
# signalled: a connection that the postmaster accepted after it reloaded is
# one that it accepted after it had told the others.  But the worker may be
# busy with what it read before.  Returns the number of the configuration.
sub configure
{
	my ($node, %settings) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');
	my $sql = '';

	$configuration++;
	$made_at{$configuration} = log_size($node);
	$settings{log_line_prefix} = "$configuration:%m [%p] %e ";
	$settings{application_name} = $configuration;
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
	return $configuration;
}

# configure_and_rest(NODE, SETTING => VALUE, ...): change settings, and wait
# until the launcher and the workers have done what follows from that and rest.
#
# Who has read the next configuration, and rests, is done with the one before.
# Workers with nothing to do are gone.
sub configure_and_rest
{
	my ($node, %settings) = @_;

	foreach my $turn (1 .. 2)
	{
		my $number = configure($node, %settings);
		my $at_rest = $turn == 1 ? 'true' : "state = 'idle'
			AND (backend_type ~ 'launcher\$'
				OR query ~ '^(next refresh due|disabled)')";

		$node->poll_query_until(
			'postgres', "SELECT count(*) > 0 AND bool_and($at_rest
				AND application_name ~ '^[0-9]+\$'
				AND application_name::int >= $number)
			FROM pg_stat_activity
			WHERE backend_type ~ '^bigbrotr_refresher( launcher)?\$'")
		  or die 'the launcher and the workers do not rest';
		%settings = ();
	}
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

# A cycle is found by what it follows: a worker begins one by what it has read,
# and only the line that says so has that number for sure.  One that ends after a
# change may have begun before it.

# cycle(NODE, SETTING => VALUE, ...): change settings such that a cycle starts,
# and return its log.
sub cycle
{
	my ($node, %settings) = @_;

	return cycle_since($node, configure($node, %settings));
}

# cycle_since(NODE [, CONFIGURATION]): wait until a cycle is complete that
# follows this configuration, by default the last one, or a later one; return
# the log of the first.
sub cycle_since
{
	my ($node, $number) = @_;
	my $cycle;

	$number //= $configuration;
	wait_until(
		'a cycle is complete',
		sub {
			($cycle) = grep { $_->{complete} }
			  _cycles(log_since($node, $made_at{$number}), $number);
			return defined $cycle;
		});
	return $cycle->{log};
}

# The same, of a cycle that need not be complete; '' if none has begun.
sub cycle_so_far
{
	my ($node, $number) = @_;

	$number //= $configuration;
	my ($cycle) = _cycles(log_since($node, $made_at{$number}), $number);

	return $cycle ? $cycle->{log} : '';
}

# last_cycle(LOG): the log of the last complete cycle in a piece of the log;
# after run(true) that is the one which was asked for.
sub last_cycle
{
	my ($log) = @_;
	my @cycles = grep { $_->{complete} } _cycles($log, 0);

	die "there is no complete cycle in:\n$log" unless @cycles;
	return $cycles[-1]->{log};
}

# The cycles in a piece of the log that follow a configuration, in the order of
# their starts, each as a hash of "log", from the end of what others logged of a
# cycle to its own end, or that of the log, and whether it is "complete".
sub _cycles
{
	my ($log, $number) = @_;
	my @cycles;
	my %of;    # a process, the cycle that it has begun
	my $end = 0;

	while ($log =~ m{^(?:(\d+):)?\d\S+\ \S+\ \S+\ \[(\d+)\]\ (?:\w{5}\ )?
			\w+:\ \ bigbrotr_refresher:\ ((?:cycle|view)_\w+)\b.*\n}xmg)
	{
		my ($read, $pid, $event) = ($1 // 0, $2, $3);

		if ($event eq 'cycle_started')
		{
			# One that was cut short is of no interest.
			@cycles = grep { $_->{pid} != $pid || $_->{complete} } @cycles;
			delete $of{$pid};
			push @cycles, $of{$pid} = { pid => $pid, from => $end }
			  if $read >= $number;
		}
		elsif ($event eq 'cycle_completed' && $of{$pid})
		{
			$of{$pid}{complete} = 1;
			$of{$pid}{to} = pos($log);
		}
		$end = pos($log);
	}
	$_->{log} =
	  substr($log, $_->{from}, ($_->{to} // length $log) - $_->{from})
	  foreach @cycles;
	return @cycles;
}

# events(LOG): our lines in a piece of the log, each as a hash of its keys and
# of configuration, pid, time (in seconds), level, sqlstate and event.
sub events
{
	my ($log) = @_;
	my @events;

	while ($log =~ m{^(?:(\d+):)?(\d+)-(\d+)-(\d+)\ (\d+):(\d+):([\d.]+)\ \S+
			\ [^\[]*\[(\d+)\]\ (?:(\w{5})\ )?
			(LOG|WARNING):\ \ bigbrotr_refresher:\ (\w+)(.*)$}xmg)
	{
		my %event = (
			configuration => $1 // 0,
			time => timegm(0, $6, $5, $4, $3 - 1, $2) + $7,
			pid => $8,
			level => $10,
			event => $11);
		my $pairs = $12;

		$event{errcode} = $9;
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

# cycles(LOG [, CONFIGURATION]): the complete cycles, or those of them that
# follow a configuration, each as a hash of time, seconds since the first one,
# and the views in it.
sub cycles
{
	my ($log, $number) = @_;
	my @cycles;
	my $cycle;

	foreach my $event (events($log))
	{
		if ($event->{event} eq 'cycle_started')
		{
			$cycle =
			  $event->{configuration} < ($number // 0)
			  ? undef
			  : { time => $event->{time}, views => [] };
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

# The process that works for a database; '' if there is none.
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

# Wait until nothing is to be done for a database before the time that its
# status tells.
sub wait_for_rest
{
	my ($node, $database) = @_;

	$node->poll_query_until(
		$database, "SELECT state IN ('resting', 'idle') AND next_due > now()
		FROM bigbrotr_refresher.status() WHERE database = current_database()")
	  or die "$database does not rest";
	return;
}

# A result of a test: no worker or helper has failed since OFFSET of the log.
# Those that leave as nothing is due write no line there.
sub no_worker_failed
{
	my ($node, $offset, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	unlike(
		log_since($node, $offset),
		qr/background worker "bigbrotr_refresher[^"]*" \(PID \d+\) (exited|was)/,
		$name);
	return;
}

# A session for queries in between.  Each query has all the time that there is
# for waiting, and not just all of them together.
sub session
{
	my ($node, $database, %options) = @_;
	my $session = $node->background_psql($database, %options);

	$session->set_query_timer_restart;
	return $session;
}

# hold(NODE, DATABASE, KEY...): a session that holds these advisory locks.
# Views of the tests wait for such a lock to stop a cycle where the test wants
# it; advisory locks belong to a database.
sub hold
{
	my ($node, $database, @keys) = @_;
	my $session = session($node, $database);

	$session->query_safe("SELECT pg_advisory_lock($_)") foreach @keys;
	return $session;
}

# hold_worker(NODE, DATABASE): have a worker of this database started and hold it
# where it plans.  Returns the session that holds it, and its process.
sub hold_worker
{
	my ($node, $database) = @_;
	my $session = session($node, $database);
	my $pid = '';

	$session->query_safe('BEGIN; LOCK TABLE pg_catalog.pg_extension');
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	wait_until(
		"a worker of $database waits",
		sub {
			$pid = $node->safe_psql(
				'postgres', "SELECT pid
				FROM pg_locks JOIN pg_stat_activity USING (pid)
				WHERE backend_type = 'bigbrotr_refresher' AND NOT granted
					AND datname = '$database'
					AND relation = 'pg_extension'::regclass");
			return $pid ne '';
		});
	return ($session, $pid);
}

# crash(NODE, PID): kill this process of the server, and wait until the server has
# recovered from it.  Returns false if the process had ended before.  While the
# server refuses connections nothing is asked: a psql that ends early breaks
# the pipe by which it is given a query.
sub crash
{
	my ($node, $pid) = @_;
	my $offset = log_size($node);
	my $log;

	return 0 unless kill 'KILL', $pid;
	wait_until(
		"the server notices that $pid was killed",
		sub {
			my $gone = !kill(0, $pid);

			# Once it answers, the postmaster has logged how it ended.
			run_log(
				[ 'pg_isready', '-q', '-h', $node->host, '-p', $node->port ])
			  if $gone;
			$log = log_since($node, $offset);
			return $log =~ /all server processes terminated; reinitializing/
			  || ($gone && $log !~ /terminated by signal 9/);
		});
	return 0 if $log !~ /reinitializing/;
	wait_for_line($node, 'database system is ready to accept connections', $offset);
	return 1;
}

# The number that repeats what a test leaves to chance: the one that
# BIGBROTR_REFRESHER_RANDOM_SEED names, else a new one.  It stands in the log.
sub random_seed
{
	my $seed = $ENV{BIGBROTR_REFRESHER_RANDOM_SEED} // int(time() * 1000) % 2**31;

	note("BIGBROTR_REFRESHER_RANDOM_SEED=$seed");
	return $seed;
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
