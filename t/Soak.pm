# The scene of the soak: a primary and its standby with BigBrotr's schema and
# odd views beside it, and sessions that write, read and ask all along.
#
# Whoever changes settings does it here, since they must outlive restarts and
# follow to a promoted standby.  All that is chosen at random is chosen by
# random(), so that a seed repeats it.

package Soak;

use strict;
use warnings;

use Faults;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use SoakViews;
use Test::More;
use Time::HiRes qw(time usleep);

# Longest time, in seconds, for what should take one or two
my $limit = $PostgreSQL::Test::Utils::timeout_default;

# new(CLASS, SEED): nothing is started yet.
sub new
{
	my ($class, $seed) = @_;

	return bless {
		random => { choice => $seed, detail => $seed ^ 0x5bd1e995 },
		databases => [ 'bigbrotr', 'shop' ],
		faults => faults_missing() eq '',
		settings => {
			databases => 'bigbrotr, shop',
			enabled => 'off',
			interval => '1s',
			retry_interval => '1s',
			max_workers => 3,
			restart_interval => '1s',
			role => 'refresher',
			window_delay => '5s'
		},
		nodes => 0,
		load => [],
		sessions => [],
		kills => 0,
		log_offset => {},
		complaints => [],
		past => [],

		# Of the burst that is going on
		said => '',
		repairs => [],
		hurt => {},
		touched => {},
		lossy => {}
	}, $class;
}

# ---- chance ----------------------------------------------------------------

# random(WHAT): a number from 0 to below 1.  What is to happen next is drawn
# apart from how exactly, which depends on what is there.
sub random
{
	my ($self, $what) = @_;
	my $state = \$self->{random}{ $what // 'detail' };

	$$state = ($$state * 1103515245 + 12345) & 0x7fffffff;
	return $$state / 2**31;
}

sub pick
{
	my ($self, @of) = @_;

	return $of[ int($self->random * @of) ];
}

sub chance
{
	my ($self, $probability) = @_;

	return $self->random < $probability;
}

# Let a random time pass, up to so many seconds: the moment of what follows is
# what is tried here.
sub linger
{
	my ($self, $seconds) = @_;

	usleep($self->random * $seconds * 1_000_000);
	return;
}

# ---- what is told --------------------------------------------------------------

# Lines about the progress: at once, for somebody who waits for long.
sub tell
{
	my ($self, $text) = @_;

	foreach (split /\n/, $text)
	{
		if ($ENV{SOAK_MINUTES}) { diag("soak: $_"); }
		else { note("soak: $_"); }
	}
	return;
}

# Something is wrong.
sub complain
{
	my ($self, $text) = @_;

	push @{ $self->{complaints} }, $text;
	$self->tell("WRONG: $text");
	return;
}

# What exactly was done, for the record.
sub said
{
	my ($self, $text) = @_;

	$self->{said} .= ($self->{said} ne '' ? ', ' : '') . $text;
	return;
}

# Keep the largest of what is measured.
sub record
{
	my ($self, $what, $value) = @_;
	my $largest = \$self->{largest}{$what};

	$$largest = $value if $value > ($$largest // -1);
	return;
}

# ---- a burst of events ---------------------------------------------------------

# These views may fail until they are repaired, as the history names them; "*":
# no cycle can be expected to be of use.
sub hurt
{
	my ($self, $database, @views) = @_;

	$self->{hurt}{$database}{$_} = 1 foreach @views;
	return;
}

sub hurt_all
{
	my ($self) = @_;

	$self->hurt($_, '*') foreach @{ $self->{databases} };
	return;
}

# CODE repairs what was done.
sub repair_by
{
	my ($self, $code) = @_;

	push @{ $self->{repairs} }, $code;
	return;
}

sub a_database
{
	my ($self) = @_;

	return $self->chance(0.8) ? 'bigbrotr' : 'shop';
}

# A view that no other reads, and that was not touched in this burst
sub leaf
{
	my ($self, $database) = @_;
	my @leaves = qw(fast concurrent steps reader soak.nothing soak.through);

	push @leaves, qw(kind_counts kind_counts_by_relay pubkey_counts
	  network_stats event_daily_counts events_replaceable_latest
	  relay_software_counts supported_nip_counts event_stats)
	  if $database eq 'bigbrotr';
	return $self->pick(grep { !$self->{touched}{"$database $_"} } @leaves);
}

sub touch
{
	my ($self, $database, $view) = @_;

	$self->{touched}{"$database $view"} = 1;
	$self->said("$view of $database");
	return;
}

# ---- SQL -----------------------------------------------------------------------

sub node { return $_[0]->{node}; }

# try(DATABASE, SQL, OPTION => VALUE...): run it; returns whether that went
# well, what it printed, and what was wrong.  A server that is not there, or a
# database, is no reason to die.
sub try
{
	my ($self, $database, $sql, %options) = @_;
	my ($out, $errors, $late) = ('', '', 0);
	my @user =
	  $options{user} ? (extra_params => [ '-U', $options{user} ]) : ();
	my $code = ($options{node} // $self->{node})->psql(
		$database, $sql,
		stdout => \$out,
		stderr => \$errors,
		timeout => $options{limit} // $limit,
		timed_out => \$late,
		@user);

	$errors .= "\ntimed out: $sql" if $late;
	return (!$late && $code == 0, $out, $errors);
}

# The same, for what must go well.
sub sql
{
	my ($self, $database, $sql, %options) = @_;
	my ($ok, $out, $errors) = $self->try($database, $sql, %options);

	die "in $database: $sql: $errors\n" unless $ok;
	return $out;
}

# Several times, as long as others may be in the way.
sub insist
{
	my ($self, $database, $sql, %options) = @_;
	my ($ok, $out, $errors);

	foreach (1 .. 5)
	{
		($ok, $out, $errors) = $self->try($database, $sql, %options);
		return $out if $ok;
		usleep(200_000);
	}
	die "in $database, five times: $sql: $errors\n";
}

# A list of what a query returns, a line each
sub list
{
	my ($self, @arguments) = @_;

	return split /\n/, $self->sql(@arguments);
}

# Wait until CODE returns something true; dies when it takes too long.
sub await
{
	my ($self, $what, $code, $seconds) = @_;
	my $end = time() + ($seconds // $limit);

	for (;;)
	{
		my $result = $code->();

		return $result if $result;
		die "timed out: $what\n" if time() > $end;
		usleep(50_000);
	}
}

# Wait until a query returns "t".
sub await_sql
{
	my ($self, $what, $database, $sql, $seconds) = @_;

	return $self->await(
		$what,
		sub {
			my ($ok, $out) = $self->try($database, $sql);

			return $ok && $out eq 't';
		},
		$seconds);
}

# begin(DATABASE, STATEMENT...): a session that executes these while we go on.
sub begin
{
	my ($self, $database, @statements) = @_;

	push @{ $self->{sessions} }, $self->_start(
		{ PGOPTIONS => '-c lock_timeout=10s -c statement_timeout=20s' },
		$self->{node}->config_data('--bindir') . '/psql',
		'-XAtq', '-d',
		$self->{node}->connstr($database) . " application_name='soak session'",
		map { ('-c', $_) } @statements);
	return;
}

# Wait for all of these.
sub finish_sessions
{
	my ($self) = @_;

	$_->finish foreach splice @{ $self->{sessions} };
	return;
}

sub _start
{
	my ($self, $environment, @command) = @_;

	local %ENV = (%ENV, %$environment);
	return IPC::Run::start(\@command, '<', '/dev/null', '>', '/dev/null',
		'2>', '/dev/null');
}

# Processes of a kind: "bigbrotr_refresher", "bigbrotr_refresher helper" or
# another backend_type, of a database or of all
sub pids
{
	my ($self, $type, $database) = @_;
	my $condition = $database ? "AND datname = '$database'" : '';

	return $self->list('postgres',
		"SELECT pid FROM pg_stat_activity
		 WHERE backend_type = '$type' $condition ORDER BY pid");
}

# Wait until a cycle runs, or for three seconds, and then a random time.
sub mid_cycle
{
	my ($self, $database) = @_;
	my $end = time() + 3;

	while (time() < $end)
	{
		my ($ok, $out) = $self->try('postgres',
			"SELECT count(*) FROM pg_stat_activity
			 WHERE backend_type LIKE 'bigbrotr_refresher%'
				AND datname = '$database' AND query LIKE 'refreshing%'");

		last if $ok && $out > 0;
		usleep(20_000);
	}
	$self->linger(0.2);
	return;
}

# ---- settings ------------------------------------------------------------------

# Settings of the refresher, in a file of their own that each change replaces.
# A number tells whether it has been read.
sub write_settings
{
	my ($self, $node, @lines) = @_;
	my $file = $node->data_dir . '/soak.conf';
	my %settings = %{ $self->{settings} };

	unlink "$file.new";
	append_to_file(
		"$file.new",
		join "\n",
		conf_lines(
			map { ("bigbrotr_refresher.$_" => $settings{$_}) }
			  grep { defined $settings{$_} } keys %settings),
		@lines,
		'soak.settings = ' . ++$self->{written},
		'');
	rename "$file.new", $file or die "could not rename $file.new: $!";
	return;
}

# set(NAME => VALUE...): change settings, and return when every process has
# been told.  undef resets one.
sub set
{
	my ($self, %settings) = @_;

	$self->{settings}{$_} = $settings{$_} foreach keys %settings;
	$self->write_settings($self->{node});
	$self->reload;
	return;
}

# Settings as they are when nothing is tried.
sub settle
{
	my ($self) = @_;

	return $self->set(
		enabled => 'on',
		refresh_timeout => undef,
		lock_timeout => undef,
		history_retention => undef);
}

# A connection that the postmaster accepts after it has read the settings is one
# that it accepts after it has told the others.
sub reload
{
	my ($self) = @_;

	$self->sql('postgres', 'SELECT pg_reload_conf()');
	$self->await_sql('the configuration is read',
		'postgres',
		"SELECT current_setting('soak.settings') = '$self->{written}'");
	return;
}

# ---- servers ---------------------------------------------------------------------

# Start the primary, its databases and its standby.
sub start
{
	my ($self) = @_;
	my $node = new_node(
		'soak_' . ++$self->{nodes},
		allows_streaming => 1,
		autovacuum => 'on',
		autovacuum_naptime => '2s',
		checkpoint_timeout => '30s',
		deadlock_timeout => '200ms',
		dynamic_shared_memory_type => 'mmap',
		log_line_prefix => '%m %b [%p] %e ',
		max_connections => 60,
		max_logical_replication_workers => 0,
		max_parallel_workers => 4,
		max_prepared_transactions => 5,
		max_standby_streaming_delay => '2s',
		max_worker_processes => 16,
		restart_after_crash => 'on',
		shared_buffers => '32MB',
		wal_keep_size => '512MB');

	$node->append_conf('postgresql.conf', "include 'soak.conf'");
	$self->{node} = $node;
	$self->{settings}{views} = random_list($self);
	$self->write_settings($node);
	add_faults($node) if $self->{faults};
	$self->start_node($node);
	$self->sql('postgres', 'CREATE ROLE agent LOGIN SUPERUSER');
	make_database($self, $_) foreach @{ $self->{databases} };
	$self->add_standby;
	return;
}

sub start_node
{
	my ($self, $node) = @_;

	$node->start(fail_ok => 1) or die "the server did not start\n";
	return;
}

# Stop the primary, in this mode, and start it again.
sub restart
{
	my ($self, $mode) = @_;

	$self->{node}->stop($mode, fail_ok => 1)
	  or die "the server did not stop\n";
	$self->start_node($self->{node});
	return;
}

sub add_standby
{
	my ($self) = @_;
	my $name = 'soak_' . ++$self->{nodes};
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$self->{node}->backup($name);
	$standby->init_from_backup($self->{node}, $name, has_streaming => 1);
	PostgreSQL::Test::Utils::system_or_bail('rm', '-rf',
		$self->{node}->backup_dir . "/$name");
	add_faults($standby) if $self->{faults};
	$self->{standby} = $standby;
	$self->start_node($standby);
	return;
}

# The primary dies and the standby takes its place; another one is made.
sub fail_over
{
	my ($self) = @_;
	my $old = $self->{node};

	$old->stop('immediate', fail_ok => 1) or die "the server did not stop\n";
	$old->clean_node;
	$self->{retired} = $old;
	$self->{node} = delete $self->{standby};
	$self->write_settings($self->{node});
	$self->{node}->promote;
	$self->await_sql('the standby is promoted',
		'postgres', 'SELECT NOT pg_is_in_recovery()');
	$self->reload;
	$self->aim_load;
	$self->add_standby;
	return;
}

# ---- load --------------------------------------------------------------------------

# Tell the sessions of the load where the primary is.
sub aim_load
{
	my ($self) = @_;
	my $file = $self->{aim};

	unlink "$file.new";
	append_to_file("$file.new",
			"export PGHOST='"
		  . $self->{node}->host
		  . "' PGPORT="
		  . $self->{node}->port
		  . "\n");
	rename "$file.new", $file or die "could not rename $file.new: $!";
	return;
}

# Programs that go on whatever happens to the server, until the file that says
# where it is is gone, or this process.
sub start_load
{
	my ($self) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $bin = $self->{node}->config_data('--bindir');
	my %scripts = load_scripts();

	$self->{aim} = "$folder/aim";
	$self->aim_load;
	foreach my $name (sort keys %scripts)
	{
		my ($database, $program, $pause, $script) = @{ $scripts{$name} };
		my $file = "$folder/$name.sql";
		my $loop = "while [ -e $self->{aim} ] && kill -0 $$; do"
		  . " . $self->{aim}; $bin/$program -f $file $database;"
		  . " sleep $pause; done";

		append_to_file($file, $script);
		push @{ $self->{load} },
		  $self->_start(
			{
				PGAPPNAME => "soak load",
				PGOPTIONS => '-c max_parallel_workers_per_gather=0'
				  . ' -c lock_timeout=20s'
			},
			'/bin/sh', '-c', $loop);
	}
	return;
}

sub stop_load
{
	my ($self) = @_;

	return unless $self->{aim};
	unlink $self->{aim};
	$_->finish foreach splice @{ $self->{load} };
	return;
}

# Have the load write nothing and request nothing.  On return those of its
# sessions that did have ended, so that what they did has been counted.
sub pause_load
{
	my ($self, $paused) = @_;

	$self->insist($_,
		'UPDATE soak.control SET paused = ' . ($paused ? 'true' : 'false'))
	  foreach @{ $self->{databases} };
	return unless $paused;
	my $pids = join ',', 0,
	  $self->list('postgres',
		"SELECT pid FROM pg_stat_activity WHERE application_name = 'soak load'"
	  );
	$self->await_sql('the load pauses', 'postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($pids)");
	return;
}

1;
