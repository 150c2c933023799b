# NOTIFY: it arrives when a refresh is committed, neither earlier nor if it
# is not.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $channel = 'bigbrotr_refresher.notify_channel';
my $payload = 'bigbrotr_refresher.notify_payload';

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

# As JSON, programs are told of failures, too.
sub decoded
{
	return map { decode_json($_) } split /\|/, told_by_now();
}

# The only one of them that is of this view
sub of_view
{
	my ($view, @told) = @_;
	my @found = grep { $_->{view} eq $view } @told;

	is(scalar(@found), 1, 'a view is told of once');
	return $found[0] // {};
}

# Refresh these views, and return what is told of that.
sub run_views
{
	my ($views, @settings) = @_;

	configure_and_rest($node, views => $views, @settings);
	told_by_now();

	$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
	return decoded();
}

my @objects =
  run_views(q{one, broken, "Odd, 'name'"}, $payload => 'json');
my $object = of_view('one', @objects);
is($object->{outcome}, 'refreshed', 'one that was refreshed');
is( $node->safe_psql('postgres',
		"SELECT extract(epoch FROM duration) FROM bigbrotr_refresher.history
		 WHERE view = 'one' ORDER BY id DESC LIMIT 1"),
	sprintf('%.6f', $object->{duration}),
	'with its duration, as the history has it');
is(join(' ', sort keys %$object), 'duration outcome view', 'and no more');
is(of_view(q{"Odd, 'name'"}, @objects)->{outcome},
	'refreshed', 'by its name as it is in SQL');
$object = of_view('broken', @objects);
is( join('|', map { $object->{$_} } qw(outcome sqlstate error)),
	'failed|22012|division by zero',
	'one that failed, with its error');
is( $node->safe_psql('postgres',
		"SELECT failures FROM bigbrotr_refresher.history
		 WHERE view = 'broken' ORDER BY id DESC LIMIT 1"),
	$object->{failures},
	'and how often it has failed in a row, as the history has it');

# Whoever is told of a failure finds its row.
$node->safe_psql('postgres', 'TRUNCATE bigbrotr_refresher.history');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run()');
$heard = '';
wait_until('a failure is told of', sub { $heard .= told(); $heard =~ /broken/ });
is( $listener->query_safe(
		"SELECT count(*) FROM bigbrotr_refresher.history WHERE view = 'broken'"),
	'1',
	'the row of a failure is there when it is told of');

# Whatever an error says, and however long it is
my $odd = '"' . ("\x01" x 63) . '"."' . ("\x01" x 55) . '"';
$node->safe_psql('postgres', <<'SQL');
	CREATE FUNCTION fail(message text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION '%', message; END $$;
	CREATE FUNCTION long_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT fail(repeat('x', 1000000)) $$;
	CREATE FUNCTION control_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT fail(repeat(chr(1), 20000)) $$;
	CREATE FUNCTION wide_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT fail(repeat(chr(128512), 20000)) $$;
	CREATE FUNCTION quoted_refresh() RETURNS void LANGUAGE sql
	AS $$ SELECT fail(E'"}, \\ \n\t"view": "forged"') $$;
	SELECT format('CREATE SCHEMA %I', repeat(chr(1), 63))
	\gexec
	SELECT format('CREATE FUNCTION %I.%I() RETURNS void LANGUAGE sql AS %L',
		repeat(chr(1), 63), repeat(chr(1), 55) || '_refresh',
		'SELECT fail(repeat(chr(1), 20000))')
	\gexec
SQL
@objects = run_views("long, control, wide, quoted, $odd");
is(scalar(@objects), 5, 'all of them are told of');
is(of_view('long', @objects)->{error}, 'x' x 500, 'a long error is cut');
is(of_view('control', @objects)->{error},
	"\x01" x 500, 'control characters come as they are');
is(of_view('wide', @objects)->{error},
	chr(128512) x 500, 'wide ones are cut between two of them');
is( of_view('quoted', @objects)->{error},
	qq~"}, \\ \n\t"view": "forged"~,
	'nothing in an error ends the text');
is(of_view($odd, @objects)->{error},
	"\x01" x 500, 'the longest name and error have room together');

# In a session, of a part, and where no history is kept
$node->safe_psql(
	'postgres', 'CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id;
	CREATE UNIQUE INDEX ON kept (id)');
$node->safe_psql('postgres',
	q{SELECT bigbrotr_refresher.refresh('public.kept', 'id = 1')});
$object = of_view('public.kept', decoded());
is( join('|', map { $object->{$_} } qw(outcome condition)),
	'refreshed|id = 1',
	'a part is told of with its condition');
$node->psql('postgres', "SELECT bigbrotr_refresher.refresh('broken')");
is(told_by_now(), '', 'what fails in a session is for that to know');
@objects =
  run_views('broken', 'bigbrotr_refresher.history_retention' => 0);
is(of_view('broken', @objects)->{outcome},
	'failed', 'where no history is kept, failures are told of all the same');
configure_and_rest(
	$node,
	views => 'one',
	$payload => 'view',
	'bigbrotr_refresher.history_retention' => '30d');
told_by_now();

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

# A queue that is full, since somebody who listens does not end his
# transaction, costs notifications only.  (Before 17 that takes 8 GB.)
SKIP:
{
	skip 'the queue has a limit that can be set since 17', 7
	  if $node->pg_version < 17;

	$node->append_conf('postgresql.conf', "max_notify_queue_pages = 64\n");
	$node->start;
	configure_and_rest(
		$node,
		views => 'nothing',
		$channel => 'full',
		$payload => 'json');
	$listener = session($node, 'postgres');
	$listener->query_safe('LISTEN "full"');
	$listener->query_safe('BEGIN');
	$listener->query_safe('SELECT 1');
	configure_and_rest($node, views => 'one, broken');
	foreach my $size (7000, 1)
	{
		my ($code, $stdout, $stderr) = $node->psql('postgres',
			"DO \$\$ BEGIN LOOP
				PERFORM pg_notify('full', repeat('x', $size)); COMMIT;
			END LOOP; END \$\$");

		like($stderr, qr/too many notifications/, 'the queue is full');
	}
	my $offset = log_size($node);
	$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
	my $log = log_since($node, $offset);
	like(
		$log,
		qr/cycle_completed refreshed=1 failed=1/,
		'with a full queue, views are refreshed');
	like(
		$log,
		qr/WARNING:  bigbrotr_refresher: notify_failed view=$_ /,
		"the log says that $_ is not told of") foreach ('one', 'broken');
	is( $node->safe_psql('postgres',
			"SELECT count(*) > 0 FROM bigbrotr_refresher.history
			 WHERE view = 'broken' AND id = (SELECT max(id)
				FROM bigbrotr_refresher.history)"),
		't',
		'the row of a failure is not lost');
	$listener->query_safe('COMMIT');
	$listener->query_safe('SELECT');
	$heard = '';
	wait_until(
		'it is told of again',
		sub {
			$node->safe_psql('postgres',
				'SELECT FROM bigbrotr_refresher.run(true)');
			$heard .= $listener->query_safe('SELECT');
			$heard =~ /"outcome": "refreshed"/;
		});
	pass('when there is room again, they are told of');
	$listener->quit;
	$node->stop;
}
done_testing();
