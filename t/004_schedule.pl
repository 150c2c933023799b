# When views are refreshed, and what a reload of the configuration changes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node('schedule', enabled => 'off');
$node->start;

# A view of the tests takes as long as its row says, and then waits for the
# lock of that row, if any.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE views (view text PRIMARY KEY, seconds float8, lock int);
	CREATE FUNCTION take(name text) RETURNS void
	LANGUAGE sql AS 'SELECT pg_sleep(seconds) FROM views WHERE view = name;
		SELECT pg_advisory_xact_lock(lock) FROM views
		WHERE view = name AND lock IS NOT NULL';
});

sub make_view
{
	my ($view, $seconds, $lock) = @_;

	$lock //= 'NULL';
	$node->safe_psql(
		'postgres', qq{
		INSERT INTO views VALUES ('$view', $seconds, $lock)
		ON CONFLICT (view) DO UPDATE SET seconds = $seconds, lock = $lock;
		CREATE OR REPLACE FUNCTION ${view}_refresh() RETURNS void
		LANGUAGE sql AS \$\$ SELECT take('$view') \$\$;
	});
	return;
}

# Change settings and wait for so many complete cycles.
sub run_cycles
{
	my ($count, %settings) = @_;
	my $offset = log_size($node);
	my $configuration = configure($node, %settings);
	my @cycles;

	wait_until(
		"$count cycles were run",
		sub {
			@cycles = cycles(log_since($node, $offset), $configuration);
			return @cycles >= $count;
		});
	return @cycles[ 0 .. $count - 1 ];
}

sub wait_for_state
{
	my ($state, $query) = @_;

	$node->poll_query_until(
		'postgres', "SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher'
			AND state = '$state' AND query LIKE '$query'")
	  or die "the worker is not $state: $query";
	return;
}

# ---- a fixed schedule ---------------------------------------------------

# Each cycle takes half of the interval, which must not add up, and the view
# with the longer interval comes last, which must not put it off.  Where the
# machine had us wait for a second, the schedule may begin anew there; then
# nothing can be said, and we look again.
make_view('often', 0.4);
make_view('seldom', 0.1);
my @cycles;
for my $attempt (1 .. 10)
{
	@cycles = run_cycles(
		8,
		enabled => 'on',
		views => "seldom\@3s, often\@1s, new_$attempt\@7d");
	last
	  if max(map { $cycles[$_]{seconds} - $cycles[ $_ - 1 ]{seconds} } 1 .. 7)
	  < 1.8;
	note('too slow to tell, again');
	configure_and_rest($node, views => 'nothing');
}
is( join(' ', map { join('+', @{ $_->{views} }) } @cycles[ 1 .. 7 ]),
	'often often seldom+often often often seldom+often often',
	'views of different intervals stay aligned');
cmp_ok($cycles[7]{seconds}, '>', 6, 'cycles do not come too early');
cmp_ok($cycles[7]{seconds}, '<', 9.5,
	'nor is the time that they take added to the interval');

# ---- overrun --------------------------------------------------------------

make_view('overrun', 2.2);
@cycles = run_cycles(3, views => 'overrun', interval => '1s');
cmp_ok($cycles[2]{seconds}, '>', 4,
	'no cycle is begun before the last one ended');
cmp_ok($cycles[2]{seconds}, '<', 9, 'but at once when it has');
my $offset = log_size($node);
$node->safe_psql('postgres',
	q{UPDATE views SET seconds = 0 WHERE view = 'overrun'});
wait_until('there were more cycles',
	sub { cycles(log_since($node, $offset)) >= 5 });
@cycles = cycles(log_since($node, $offset));
cmp_ok($cycles[4]{seconds}, '>', 2.5, 'what was missed is not made up');

# ---- reload ----------------------------------------------------------------

make_view('first', 0);
make_view('second', 0);
my $log = cycle($node, views => 'first', interval => '1h');
is(outcomes($log), 'first', 'a new list is followed at once');
wait_for_state('idle', 'next refresh due at %');
my $pid = worker_pid($node, 'postgres');

$log = cycle($node, views => 'first, second');
is(outcomes($log), 'second', 'of which only what is new is due');
$log = cycle($node, interval => '2s');
like(outcomes($log), qr/^first/, 'a new interval is followed at once');
configure($node, interval => '1h');
ok( $node->poll_query_until(
		'postgres',
		"SELECT substring(query FROM 'due at (.*)')::timestamptz
			> now() + interval '50 minutes'
		 FROM pg_stat_activity WHERE pid = $pid"),
	'in the other direction too');
$log = cycle($node, views => 'first @ 1s, second');
is(outcomes($log), 'first', 'and so is an interval in the list');
configure($node, views => 'first, second');

# ---- enabled ----------------------------------------------------------------

configure($node, enabled => 'off');
wait_for_state('idle', 'disabled');
pass('a disabled worker says so');
$offset = log_size($node);
make_view('third', 0);
configure($node, views => 'third');
configure_and_rest($node, interval => '1s');
unlike(log_since($node, $offset), qr/cycle_started/, 'and does nothing');
$log = cycle($node, enabled => 'on');
is(outcomes($log), 'third', 'enabled, it goes on at once');

# In the middle of a cycle
make_view('before', 0);
make_view('held', 0, 1);
make_view('after', 0);
my $session = hold($node, 'postgres', 1);
my $begun =
  configure($node, views => 'before, held, after', interval => '1h');
wait_for_waiter($node, 'postgres', 1);
configure($node, enabled => 'off');
$session->query_safe('SELECT pg_advisory_unlock(1)');
$log = cycle_since($node, $begun);
is( outcomes($log),
	'before held',
	'disabled in mid-cycle, the worker finishes the view in hand and no more'
);
like($log, qr/cycle_completed refreshed=2 failed=0 skipped=0/,
	'and reports the cycle');
wait_for_state('idle', 'disabled');
$log = cycle($node, enabled => 'on');
is(outcomes($log), 'after', 'enabled, it goes on with the rest');

# A new list in the middle of a cycle
make_view('fourth', 0);
configure_and_rest($node, views => 'nothing');
$session->query_safe('SELECT pg_advisory_lock(1)');
$offset = log_size($node);
configure($node, views => 'held, after');
wait_for_waiter($node, 'postgres', 1);
configure($node, views => 'fourth, held');
$session->query_safe('SELECT pg_advisory_unlock(1)');
$log = wait_for_line($node, 'view_refreshed view=fourth', $offset);
is(outcomes($log), 'held fourth',
	'a new list in mid-cycle is followed at once');

is(worker_pid($node, 'postgres'), $pid, 'all this was one process');

# ---- malformed lists --------------------------------------------------------

foreach my $case (
	[ '', 1, 'the list is empty' ],
	[ 'a, b c', 6, 'expected ",", ";", "@" or "(" before this' ],
	[ 'a; b, "a"', 7, '"a" is listed twice' ],
	[ 'a, b @ soon', 8, '"soon" is not an interval such as 90s, 15min, 1h or 1d' ],
	[ 'a @ 367d', 5, 'the interval "367d" is not between 1 second and 366 days' ])
{
	my ($list, $place, $reason) = @$case;
	my ($code, $stdout, $stderr) = $node->psql('postgres',
		"ALTER SYSTEM SET bigbrotr_refresher.views = '$list'");

	like(
		$stderr,
		qr/ERROR:  invalid value for parameter "bigbrotr_refresher.views": "\Q$list\E"\nDETAIL:  At character $place: \Q$reason\E\.$/m,
		"ALTER SYSTEM refuses the list '$list'");
}

# In the file, which nobody checks before the reload
$node->safe_psql('postgres', 'ALTER SYSTEM RESET bigbrotr_refresher.views');
$node->append_conf('postgresql.conf', conf_lines(views => 'fourth @ 1s'));
$log = cycle($node);
$node->append_conf('postgresql.conf',
	conf_lines(views => 'fifth; "sixth'));
$offset = log_size($node);
$log = cycle($node);
like(
	log_since($node, $offset),
	qr/LOG:  invalid value for parameter "bigbrotr_refresher.views": "fifth; "sixth"\n.*DETAIL:  At character 8: the quoted name is not closed\.$/m,
	'a malformed list is refused on reload, with the place and the reason');
is($node->safe_psql('postgres', 'SHOW bigbrotr_refresher.views'),
	'fourth @ 1s', 'the one before stays in force');
is(outcomes($log), 'fourth', 'and is followed');

configure($node, enabled => 'off');
$offset = log_size($node);
$node->restart;
like(
	log_since($node, $offset),
	qr/WARNING:  invalid value for parameter "bigbrotr_refresher.views": "fifth; "sixth"\n.*DETAIL:  At character 8: the quoted name is not closed\.$/m,
	'a malformed list at start is refused alike');
like($node->safe_psql('postgres', 'SHOW bigbrotr_refresher.views'),
	qr/^relay_metadata_latest, .*, supported_nip_counts$/,
	'the default is in force instead');

$session->quit;
$node->stop;
done_testing();
