# Exactly once: sessions write in every way, windows are folded by workers and
# by refresh(), and the server crashes, is stopped at once, loses processes and
# is replaced by its standby at random moments.  In the end each target is what
# the same aggregate gives over its source, and the history has no gap.
#
# BIGBROTR_REFRESHER_RANDOM_SEED repeats the moments, as far as that goes, and
# BIGBROTR_REFRESHER_CRASHES says how often.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(time usleep);
use Windows;

my $events = $ENV{BIGBROTR_REFRESHER_CRASHES} // 8;

srand(random_seed());

my @targets = ('by_xid', 'by_xid_too', 'by_second', 'by_time', 'flaky');
my $node = windows_node(
	'storm0',
	allows_streaming => 1,
	wal_keep_size => '1GB',
	views => join(', ', @targets),
	'bigbrotr_refresher.max_workers' => 2,
	# How long a row waits for those who lock the history is no matter here.
	log_min_messages => 'warning');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
make_source($node);
make_target($node, 'by_xid', 'xid8');
make_target($node, 'by_xid_too', 'xid8', 'PERFORM pg_sleep(random() * 0.2);');
make_target($node, 'by_second', 'bigint');
make_target($node, 'by_time', 'timestamptz');
make_target($node, 'flaky', 'xid8', q{
	IF random() < 0.3 THEN
		RAISE EXCEPTION 'now and then';
	END IF;});

# Beside the worker, sessions fold windows as well.
my @scripts = (
	'SELECT bigbrotr_refresher.run();\sleep 100 ms',
	"SELECT bigbrotr_refresher.refresh('by_xid');\\sleep 200 ms",
	"BEGIN; SELECT write(11); SELECT bigbrotr_refresher.refresh('by_time'); SELECT write(11); COMMIT;\\sleep 300 ms",
	"BEGIN; SELECT bigbrotr_refresher.refresh('by_second'); ROLLBACK;\\sleep 300 ms");
my $writers = start_writers($node, @scripts);
my $standbys = 0;

# One of our processes, of which there may be none at this moment
sub our_process
{
	my ($stdout) = ('');

	$node->psql('postgres', "SELECT pid FROM pg_stat_activity
		WHERE backend_type ~ '^bigbrotr_refresher' ORDER BY random() LIMIT 1",
		stdout => \$stdout);
	return $stdout;
}

sub restart_writers
{
	$writers->kill_kill;
	end_prepared($node) if rand() < 0.5;
	$writers = start_writers($node, @scripts);
	return;
}

my %event = (
	'immediate stop' => sub {
		$node->stop('immediate');
		$node->start;
		restart_writers();
	},
	'crash' => sub {
		my $pid = our_process();

		restart_writers() if $pid && crash($node, $pid);
	},
	'terminate' => sub {
		my $pid = our_process();

		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid;
	},
	'cancel' => sub {
		my $pid = our_process();

		$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)") if $pid;
	},
	'max_window' => sub {
		my @sizes = ('0', '1s', '30s', '150s');

		configure($node,
			'bigbrotr_refresher.max_window' => $sizes[ rand @sizes ]);
	},
	'promotion' => sub {
		my $standby = PostgreSQL::Test::Cluster->new('storm' . ++$standbys);

		$node->backup("backup$standbys");
		$standby->init_from_backup($node, "backup$standbys",
			has_streaming => 1);
		$standby->start;
		usleep(rand(500_000));
		$node->stop('immediate');
		$writers->kill_kill;
		$standby->promote;
		$node = $standby;
		restart_writers();
	});

# Each kind comes once, then whatever chance brings; promotions are seldom, for
# they take long.
my @first = sort keys %event;
foreach my $number (1 .. $events)
{
	my @kinds = grep { $_ ne 'promotion' || rand() < 0.1 } sort keys %event;
	my $kind =
	  @first ? splice(@first, rand @first, 1) : $kinds[ rand @kinds ];

	usleep(rand(800_000));
	note("$number: $kind");
	$event{$kind}->();

	# A target is compared only where it is up to date, but gaps can be seen
	# now.
	is(gaps($node), '', "$number: no gap and no overlap after $kind")
	  if $number % 50 == 0;
}

# ---- the end -------------------------------------------------------------------

$writers->kill_kill;
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'")
  or die "the writers do not end:\n"
  . $node->safe_psql('postgres', 'SELECT * FROM pg_stat_activity');
end_prepared($node);
configure($node, 'bigbrotr_refresher.max_window' => '0');
$node->safe_psql('postgres', 'CREATE TABLE finished AS SELECT clock_timestamp() AS at,
	pg_current_xact_id() AS by');
$node->poll_query_until(
	'postgres', "SELECT count(*) = 5 FROM bigbrotr_refresher.windows, finished
	WHERE CASE kind WHEN 'xid8' THEN until::xid8 > by
		WHEN 'bigint' THEN until::bigint > extract(epoch FROM at)
		ELSE until::timestamptz > at END")
  or die 'the windows do not get to the end';
is(differences($node, @targets), '', 'each row was folded exactly once');
is(gaps($node), '', 'the history has no gap and no overlap');
note($node->safe_psql('postgres', 'SELECT count(*) FROM rows')
	  . ' rows, windows: '
	  . $node->safe_psql('postgres', "SELECT count(*) FROM bigbrotr_refresher.history
		WHERE outcome = 'refreshed'"));
$node->stop;
done_testing();
