# NOTIFY: it arrives when a refresh is committed, neither earlier nor if it
# is not.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $channel = 'bigbrotr_refresher.notify_channel';

my $node = new_node(
	'notify',
	views => 'none',
	interval => '7d',
	'bigbrotr_refresher.retry_interval' => 0,
	$channel => 'Fresh "views"');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE work (view text);
	CREATE TABLE late (x int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION one_refresh() RETURNS void LANGUAGE sql AS $$
		INSERT INTO work VALUES ('one'); SELECT pg_advisory_xact_lock(1) $$;
	CREATE PROCEDURE steps_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO work VALUES ('steps');
		COMMIT;
		PERFORM pg_advisory_xact_lock(1);
		INSERT INTO work VALUES ('steps');
	END $$;
	CREATE FUNCTION broken_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE FUNCTION late_refresh() RETURNS void
	LANGUAGE sql AS 'INSERT INTO late VALUES (1), (1)';
	CREATE FUNCTION "Odd, 'name'_refresh"() RETURNS void LANGUAGE sql AS '';
});

# What the listening session was told since it was last asked.
my $listener = session($node, 'postgres');
$listener->query_safe('LISTEN "Fresh ""views"""');

sub told
{
	my $output = $listener->query_safe('SELECT');
	my @payloads;

	while ($output =~
		/Asynchronous notification "Fresh "views"" with payload "(.*)" received from server process with PID (\d+)/g
	  )
	{
		push @payloads, $1;
	}
	return join '|', @payloads;
}

# Ask until there is something, or until it is certain that there is nothing:
# notifications come in the order of commits, so one that we send ourselves
# comes last.
sub told_by_now
{
	my $all = '';

	$node->safe_psql('postgres', q{NOTIFY "Fresh ""views""", 'end'});
	wait_until(
		'the last notification arrives',
		sub {
			my $more = told();

			$all .= '|' if $all ne '' && $more ne '';
			$all .= $more;
			return $all =~ s/\|?end$//;
		});
	return $all;
}

# Each is told of, and only when it is committed.
my $lock = hold($node, 'postgres', 1);
configure($node, views => q{one, broken, late, "Odd, 'name'"});
wait_for_waiter($node, 'postgres', 1);
is(told_by_now(), '', 'nothing is told before the commit');
$lock->quit;
like(cycle_since($node), qr/cycle_completed refreshed=2 failed=2 /,
	'a cycle ends');
is(told_by_now(), q{one|"Odd, 'name'"},
	'each refreshed view is told of by its name, a failed one is not');

# A procedure's last commit is the one that counts.
$lock = hold($node, 'postgres', 1);
configure($node, views => 'steps');
wait_for_waiter($node, 'postgres', 1);
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM work WHERE view = 'steps'"),
	'1',
	'when half of a procedure is committed');
is(told_by_now(), '', 'nothing is told');
$lock->quit;
cycle_since($node);
is(told_by_now(), 'steps', 'but when all of it is');

# Whoever is told finds the rows.
configure_and_rest($node, views => 'one');
$node->safe_psql('postgres', 'TRUNCATE work');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run()');
my $heard = '';
wait_until('a refresh is told of', sub { $heard .= told(); $heard ne '' });
is($heard, 'one', 'a refresh on request is told of');
is( $listener->query_safe("SELECT count(*) > 0 FROM work WHERE view = 'one'"),
	't',
	'and its rows are there when it is');

# So are those outside of the worker.
$node->psql('postgres', "SELECT bigbrotr_refresher.refresh('broken')");
$node->safe_psql(
	'postgres', "BEGIN; SELECT bigbrotr_refresher.refresh('one'); ROLLBACK;
	BEGIN; SELECT bigbrotr_refresher.refresh('public.one'); COMMIT");
my @told = split /\|/, told_by_now();
is(scalar(grep { $_ eq 'one' } @told),
	1, 'refresh() tells if its transaction is committed, under the same name');

# The channel follows the configuration.
configure($node, $channel => 'other');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
is(told_by_now(), '', 'another channel is another channel');
configure($node, $channel => '');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
is(told_by_now(), '', 'and with none, there is none');
my ($code, $stdout, $stderr) = $node->psql('postgres',
	"ALTER SYSTEM SET $channel = '" . ('x' x 64) . "'");
like(
	$stderr,
	qr/invalid value for parameter "\Q$channel\E".*\n.*DETAIL:  The name is longer than 63 bytes\./,
	'a name that is too long is refused');

$listener->quit;
$node->stop;
done_testing();
