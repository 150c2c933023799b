# Whatever befalls the launcher, the workers and the databases: never are two
# workers at work in one database, and never is there none while something is
# due.
#
# BIGBROTR_REFRESHER_RANDOM_SEED repeats the events, as far as that goes, and
# BIGBROTR_REFRESHER_RANDOM_EVENTS says how many there are.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(time usleep);

my $events = $ENV{BIGBROTR_REFRESHER_RANDOM_EVENTS} // 150;

srand(random_seed());

my $node = new_node(
	'storm',
	databases => '*',
	views => 'work',
	interval => '1s',
	restart_after_crash => 'on',
	max_worker_processes => 6,
	'bigbrotr_refresher.retry_interval' => '1s');
$node->start;

# A refresh takes a little while, and finds out whether there is another one.
my $make = q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE work (at timestamptz);
	CREATE FUNCTION work_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT pg_try_advisory_xact_lock(1) THEN
			RAISE EXCEPTION 'two at once';
		END IF;
		PERFORM pg_sleep(0.05 * random());
		INSERT INTO work VALUES (clock_timestamp());
	END $$;
};

# Queries that may fail, since the server may just recover from a crash
sub try_query
{
	my ($database, $sql) = @_;
	my ($code, $stdout) = $node->psql($database, $sql);

	return $code == 0 ? $stdout : undef;
}

sub query
{
	my ($sql) = @_;
	my $result;

	wait_until('the server answers',
		sub { return defined($result = try_query('postgres', $sql)) });
	return $result;
}

$node->safe_psql('postgres', $make);
$node->safe_psql('postgres', 'CREATE DATABASE origin');
$node->safe_psql('origin', $make);

my %databases = (postgres => 1, origin => 1);
my $made = 0;

sub any_copy
{
	my @copies = grep { /^copy/ } sort keys %databases;

	return @copies ? $copies[ int(rand(@copies)) ] : undef;
}

# What befalls processes, by the type of these
sub signal_one
{
	my ($type, $signal) = @_;
	my @pids = split /\n/, (try_query('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'") // '');

	return unless @pids;
	kill $signal, $pids[ int(rand(@pids)) ];
	return;
}

my %events = (
	end_launcher => sub { signal_one('bigbrotr_refresher launcher', 'TERM') },
	end_worker => sub { signal_one('bigbrotr_refresher', 'TERM') },
	cancel => sub { signal_one('bigbrotr_refresher', 'INT') },
	crash => sub {
		signal_one(rand() < 0.5 ? 'bigbrotr_refresher' :
			'bigbrotr_refresher launcher', 'KILL')
		  if rand() < 0.2;
	},
	run => sub { try_query('origin', 'SELECT bigbrotr_refresher.run()') },
	reload => sub {
		my $interval = (qw(1s 2s 70s))[ int(rand(3)) ];
		try_query('postgres',
			"ALTER SYSTEM SET bigbrotr_refresher.interval = '$interval'");
		try_query('postgres', 'SELECT pg_reload_conf()');
	},
	list => sub {
		my $list = rand() < 0.5 ? '*' : 'postgres, copy1, copy3, nowhere';
		try_query('postgres',
			"ALTER SYSTEM SET bigbrotr_refresher.databases = '$list'");
		try_query('postgres', 'SELECT pg_reload_conf()');
	},
	create => sub {
		my $name = 'copy' . ++$made;
		$databases{$name} = 1
		  if keys %databases < 8
			&& defined try_query('postgres',
				"CREATE DATABASE $name TEMPLATE origin");
	},
	drop => sub {
		my $name = any_copy() // return;
		delete $databases{$name}
		  if defined try_query('postgres',
			"DROP DATABASE $name" . (rand() < 0.5 ? ' WITH (FORCE)' : ''));
	},
	rename => sub {
		my $name = any_copy() // return;
		my $new = 'copy' . ++$made;
		if (defined try_query('postgres', "ALTER DATABASE $name RENAME TO $new"))
		{
			delete $databases{$name};
			$databases{$new} = 1;
		}
	},
	enable => sub {
		my $name = any_copy() // return;
		my $to = rand() < 0.5 ? 'on' : 'off';
		try_query('postgres',
			"ALTER DATABASE $name SET bigbrotr_refresher.enabled = $to");
	},
	extension => sub {
		my $name = any_copy() // return;
		try_query($name, rand() < 0.5
			? 'DROP EXTENSION bigbrotr_refresher'
			: 'CREATE EXTENSION bigbrotr_refresher');
	});
my @names = sort keys %events;

foreach (1 .. $events)
{
	$events{ $names[ int(rand(@names)) ] }->();
	usleep(rand(60_000));
}

# Calm again, with all that there is to be served
query("ALTER SYSTEM SET bigbrotr_refresher.$_") foreach
  ("databases = '*'", "interval = '1s'");
foreach my $name (sort keys %databases)
{
	wait_until("$name can be told", sub {
		return defined try_query($name, "
			ALTER DATABASE $name RESET ALL;
			CREATE EXTENSION IF NOT EXISTS bigbrotr_refresher;
			TRUNCATE work") });
}
query('SELECT pg_reload_conf()');
foreach my $name (sort keys %databases)
{
	wait_until("$name is refreshed", sub {
		return (try_query($name, 'SELECT count(*) > 2 FROM work') // '') eq 't' });
}
pass('in the end all databases are served');
configure_and_rest($node, interval => '1d');
wait_until('all rest', sub {
	return query("SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'bigbrotr_refresher'") == 0 });
pass('and then no worker is left');
is( query("SELECT count(*), bool_and(state = 'resting' AND next_due > now())
		FROM bigbrotr_refresher.status()"),
	(scalar keys %databases) . '|t', 'which the status says');

my $log = slurp_file($node->logfile);
unlike($log, qr/two at once/, 'never were two at work in one database');
unlike($log, qr/TRAP|PANIC|terminated by signal (?!9)/, 'and nothing broke');
$node->stop;
done_testing();
