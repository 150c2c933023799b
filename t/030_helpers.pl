# Several views at once: who refreshes them, in which order, and what must end
# before what begins.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'helpers',
	interval => '1h',
	views => 'not_there',
	'bigbrotr_refresher.max_workers' => 3,
	max_worker_processes => 20);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
my $superuser = $node->safe_psql('postgres',
	'SELECT rolname FROM pg_roles WHERE oid = 10');

# Views named gate_N wait for the advisory lock N.  Each view leaves a row
# when it is done, and says then which turn of its cycle it had and how many
# parallel workers it might have used.
$node->safe_psql('postgres', <<'SQL');
	CREATE TABLE done (id serial, view text, turn text, parallel text);
	CREATE FUNCTION done(view text) RETURNS void LANGUAGE sql AS $$
		INSERT INTO done (view, turn, parallel)
		SELECT view, substring(query FROM '\((\d+)/\d+\)$'),
			current_setting('max_parallel_workers_per_gather')
		FROM pg_stat_activity WHERE pid = pg_backend_pid()
	$$;
	CREATE FUNCTION nothing_refresh() RETURNS void LANGUAGE sql AS '';
	SELECT format('CREATE FUNCTION gate_%s_refresh() RETURNS void LANGUAGE sql'
		' AS ''SELECT pg_advisory_xact_lock(%1$s), done(''''gate_%1$s'''')''', n)
	FROM generate_series(1, 6) AS n
	\gexec
SQL

# What is being refreshed, such as "gate_1 gate_3".
sub refreshing
{
	return $node->safe_psql(
		'postgres', q{
		SELECT string_agg(substring(query FROM 'refreshing public\.(\S+) '),
			' ' ORDER BY query)
		FROM pg_stat_activity
		WHERE backend_type LIKE 'bigbrotr_refresher%'
			AND query LIKE 'refreshing %' AND state = 'active'});
}

# Wait until just these are, and all of them wait for their lock.
sub wait_for_refreshing
{
	my ($views) = @_;

	wait_until(
		"$views are being refreshed",
		sub {
			return refreshing() eq $views
			  && $node->safe_psql(
				'postgres',
				"SELECT count(*) FROM pg_locks
				 WHERE locktype = 'advisory' AND NOT granted") ==
			  split(/ /, $views);
		});
	return;
}

# Have the worker forget all views.
sub forget
{
	configure($node, views => 'nothing');
	$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run(true)');
	$node->safe_psql('postgres',
		'DELETE FROM bigbrotr_refresher.history;
		 DELETE FROM bigbrotr_refresher.view_state; TRUNCATE done');
	return;
}

# Start a cycle of views that no other is known of.
sub start_cycle
{
	my ($views) = @_;

	forget();
	my $offset = log_size($node);
	configure($node, views => $views);
	return $offset;
}

sub release
{
	my ($session, @keys) = @_;

	$session->query_safe("SELECT pg_advisory_unlock($_)") foreach @keys;
	return;
}

# The time at the server, as a literal
sub now
{
	return "'" . $node->safe_psql('postgres', 'SELECT clock_timestamp()') . "'";
}

# Did this view begin after that time, in the last cycle with it?
sub began_after
{
	my ($view, $time) = @_;

	return $node->safe_psql(
		'postgres', "SELECT started_at > $time
		FROM bigbrotr_refresher.history
		WHERE view = '$view' ORDER BY id DESC LIMIT 1");
}

# ---- helpers -----------------------------------------------------------------

my $session = hold($node, 'postgres', 1 .. 6);
my $offset = start_cycle('gate_1, gate_2, gate_3, gate_4, gate_5');
wait_for_refreshing('gate_1 gate_2 gate_3');
is( $node->safe_psql(
		'postgres', q{
		SELECT backend_type, datname, usename, state,
			array_agg(query ORDER BY query) <@ ARRAY[
				'refreshing public.gate_1 (1/5)',
				'refreshing public.gate_2 (2/5)',
				'refreshing public.gate_3 (3/5)'], count(*)
		FROM pg_stat_activity
		WHERE backend_type IN ('bigbrotr_refresher',
			'bigbrotr_refresher helper')
		GROUP BY 1, 2, 3, 4 ORDER BY 1}),
	"bigbrotr_refresher|postgres|$superuser|active|t|1\n"
	  . "bigbrotr_refresher helper|postgres|$superuser|active|t|2",
	'max_workers counts the worker and its helpers, which say what they do');
is( $node->safe_psql(
		'postgres', 'SELECT state, views_total, array_length(refreshing, 1),
			refreshing @> ARRAY[\'gate_1\', \'gate_2\', \'gate_3\'],
			cycle_start < ALL (refreshing_since),
			array_length(refreshing_since, 1), refreshing_share
		FROM bigbrotr_refresher.status()'),
	'refreshing|5|3|t|t|3|{NULL,NULL,NULL}',
	'so does the status, and since when');
like(
	$node->safe_psql('postgres',
		'SELECT refreshing FROM bigbrotr_refresher.status'),
	qr/\Agate_\d for [\d:]+, gate_\d for [\d:]+, gate_\d for [\d:]+\z/,
	'as the view on one screen has it');

release($session, 2);
wait_for_refreshing('gate_1 gate_3 gate_4');
pass('who is done takes the next view');
release($session, 1, 3 .. 5);
my $log = wait_for_line($node, 'cycle_completed', $offset);
like($log, qr/cycle_completed refreshed=5 failed=0 skipped=0 /,
	'a cycle counts what the helpers did');
my @lines = grep { $_->{event} eq 'view_refreshed' } events($log);
my %pids = map { $_->{pid} => 1 } @lines;
is(scalar @lines, 5, 'each view is reported once');
cmp_ok(scalar(keys %pids), '==', 3, 'by the process that refreshed it');
is( $node->safe_psql(
		'postgres', "SELECT count(*), count(DISTINCT view),
			count(DISTINCT cycle_start)
		FROM bigbrotr_refresher.history
		WHERE view LIKE 'gate%' AND outcome = 'refreshed'"),
	'5|5|1',
	'and is in the history once');
$node->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity
	 WHERE backend_type = 'bigbrotr_refresher helper'")
  or die 'there are helpers without a cycle';
pass('after the cycle there are no helpers');
unlike($log, qr/ERROR|FATAL|WARNING/, 'all that is no trouble');
$session->query_safe("SELECT pg_advisory_lock($_)") foreach (1 .. 5);

# No more helpers than there is work for
$offset = start_cycle('gate_1, gate_2');
wait_for_refreshing('gate_1 gate_2');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher helper'"),
	1,
	'two views need one helper');
release($session, 1, 2);
wait_for_line($node, 'cycle_completed', $offset);
$session->query_safe("SELECT pg_advisory_lock($_)") foreach (1, 2);

# The bootstrap superuser may not log in.
$node->safe_psql('postgres', 'CREATE ROLE admin SUPERUSER LOGIN');
{
	local $ENV{PGUSER} = 'admin';

	$node->safe_psql('postgres', qq{ALTER ROLE "$superuser" NOLOGIN});
	$offset = start_cycle('gate_1, gate_2');
	wait_for_refreshing('gate_1 gate_2');
	pass('helpers connect as the worker does, which needs no LOGIN');
	release($session, 1, 2);
	wait_for_line($node, 'cycle_completed', $offset);
	$node->safe_psql('postgres', qq{ALTER ROLE "$superuser" LOGIN});
}
$session->query_safe("SELECT pg_advisory_lock($_)") foreach (1, 2);

# ---- what ends before what begins ----------------------------------------------

# A third process is free all the while.
$offset = start_cycle('gate_1, gate_2; gate_3, gate_4; gate_5');
wait_for_refreshing('gate_1 gate_2');
release($session, 2);
wait_for_line($node, 'view_refreshed view=gate_2', $offset);
my $then = now();
is(refreshing(), 'gate_1', 'behind a barrier nothing begins');
release($session, 1, 3);
wait_for_refreshing('gate_4');
is(began_after('gate_3', $then), 't', 'until all before it have ended');
$then = now();
release($session, 4, 5);
wait_for_line($node, 'cycle_completed', $offset);
is(began_after('gate_5', $then), 't', 'at each barrier');
$session->query_safe("SELECT pg_advisory_lock($_)") foreach (1 .. 5);

# What is read, through a plain view
$node->safe_psql('postgres', <<'SQL');
	CREATE MATERIALIZED VIEW gate_1 AS SELECT 1 AS n;
	CREATE VIEW between AS SELECT n FROM gate_1;
	CREATE MATERIALIZED VIEW gate_3 AS SELECT n FROM between;
SQL
$offset = start_cycle('gate_1, gate_2, gate_3, gate_4');
wait_for_refreshing('gate_1 gate_2 gate_4');
pass('a view that reads another is passed over');
release($session, 2, 4);
wait_for_refreshing('gate_1');
$then = now();
release($session, 1, 3);
wait_for_line($node, 'cycle_completed', $offset);
is(began_after('gate_3', $then), 't', 'until that one has ended');
$session->query_safe("SELECT pg_advisory_lock($_)") foreach (1 .. 4);

# A failure is an end as well.
$node->safe_psql('postgres', <<'SQL');
	CREATE MATERIALIZED VIEW broken AS SELECT 1 AS n;
	CREATE FUNCTION broken_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock(6);
		RAISE 'broken';
	END $$;
	CREATE MATERIALIZED VIEW reader AS SELECT n FROM broken;
	CREATE FUNCTION reader_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT done(''reader'')';
SQL
release($session, 1 .. 4);
$offset = start_cycle('reader, broken, gate_1; gate_2');
wait_for_line($node, 'view_refreshed view=gate_1', $offset);
$then = now();
release($session, 6);
$log = wait_for_line($node, 'cycle_completed', $offset);
is(outcomes($log), 'gate_1 broken:P0001 reader gate_2',
	'a view that failed does not hold back what reads it, or a barrier');
is(began_after('reader', $then), 't', 'but nothing begins before it failed');
is( $node->safe_psql(
		'postgres', "SELECT view, is_degraded
		FROM bigbrotr_refresher.views WHERE view IN ('gate_1', 'reader')
		ORDER BY 1"),
	"gate_1|f\nreader|t",
	'that is seen in its reader');

# ---- at random --------------------------------------------------------------------

# Each view sleeps for a random time.  In cycle N each must see that what it
# reads was done N times, and committed.
$node->safe_psql('postgres', <<'SQL');
	CREATE TABLE seen (view text, read text, times bigint);
	CREATE TABLE reads (view text, read text);
	INSERT INTO reads
	SELECT 'v' || n, 'v' || r
	FROM generate_series(1, 12) AS n, generate_series(1, n - 1) AS r
	WHERE (n * 7 + r * 5) % 4 = 0;
	CREATE FUNCTION turn(me text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen
		SELECT r.view, r.read,
			(SELECT count(*) FROM done AS d WHERE d.view = r.read)
		FROM reads AS r WHERE r.view = me;
		PERFORM pg_sleep(0.12 * random());
		PERFORM done(me);
	END $$;
	SELECT format('CREATE MATERIALIZED VIEW v%s AS SELECT 1 AS x %s', n,
			(SELECT string_agg(format('UNION ALL SELECT x FROM %I', read), ' ')
			 FROM reads WHERE view = 'v' || n)),
		format('CREATE FUNCTION v%s_refresh() RETURNS void
			LANGUAGE sql AS ''SELECT turn(''''v%1$s'''')''', n)
	FROM generate_series(1, 12) AS n
	\gexec
SQL
$offset = start_cycle(join ', ', map { "v$_" } reverse 1 .. 12);
wait_for_line($node, 'cycle_completed', $offset);
$node->safe_psql('postgres',
	'SELECT * FROM bigbrotr_refresher.run(true)') foreach (2 .. 8);
is( $node->safe_psql(
		'postgres', "SELECT count(DISTINCT cycle_start), count(*)
		FROM bigbrotr_refresher.history
		WHERE view ~ '^v\\d' AND outcome = 'refreshed'"),
	'8|96',
	'eight cycles of twelve views');
is( $node->safe_psql(
		'postgres', 'SELECT count(*) FROM (
			SELECT times, row_number() OVER (PARTITION BY view, read
											 ORDER BY times) AS cycle
			FROM seen) AS s
		WHERE times <> cycle'),
	0,
	'no view ever began before what it reads was committed');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM seen'),
	'>=', 8 * 10, 'there was something to see');
is( $node->safe_psql(
		'postgres', "SELECT count(*)
		FROM bigbrotr_refresher.history AS h
		JOIN reads AS r ON r.view = h.view
		JOIN bigbrotr_refresher.history AS b
			ON b.view = r.read AND b.cycle_start = h.cycle_start
		WHERE h.started_at < b.started_at + b.duration"),
	0,
	'the history says so too');
cmp_ok(
	$node->safe_psql(
		'postgres', "SELECT count(*)
		FROM bigbrotr_refresher.history AS a
		JOIN bigbrotr_refresher.history AS b
			ON a.cycle_start = b.cycle_start AND a.view < b.view
		WHERE a.view ~ '^v\\d' AND b.view ~ '^v\\d'
			AND (a.started_at, a.started_at + a.duration)
				OVERLAPS (b.started_at, b.started_at + b.duration)"),
	'>', 8,
	'and that views were refreshed at the same time');

# ---- who comes first ----------------------------------------------------------------

# The views in the order of their turns in the last cycle
sub turns
{
	return $node->safe_psql('postgres',
		"SELECT string_agg(view, ' ' ORDER BY turn::integer) FROM done");
}

# Run a cycle of all views, and return their turns.
sub run_cycle
{
	$node->safe_psql('postgres', 'TRUNCATE done');
	$node->safe_psql('postgres',
		'SELECT * FROM bigbrotr_refresher.run(true)');
	return turns();
}

# Have the worker know how many seconds each view took.
sub know
{
	my ($views, %seconds) = @_;

	forget();
	$node->safe_psql(
		'postgres', "INSERT INTO bigbrotr_refresher.view_state
			(view, cycle_start, schedule_start, failures, refresh_duration)
		VALUES ('$_', now(), now(), 0, '$seconds{$_} s')")
	  foreach keys %seconds;
	configure($node, views => $views);
	return;
}

# At first they are so slow that there is no doubt which one is slower.
$node->safe_psql('postgres', <<'SQL');
	CREATE TABLE pace AS SELECT 5 AS factor;
	SELECT format('CREATE FUNCTION %I() RETURNS void LANGUAGE sql AS %L',
		view || '_refresh',
		format('SELECT pg_sleep(%s * factor), done(%L) FROM pace',
			seconds, view))
	FROM (VALUES ('short', 0), ('middle', 0), ('longer', 0.2),
			('longest', 0.5), ('tiny', 0), ('late', 0))
		AS v(view, seconds)
	\gexec
	CREATE MATERIALIZED VIEW tiny AS SELECT 1 AS n;
	CREATE MATERIALIZED VIEW late AS SELECT n FROM tiny;
	CREATE TABLE not_yet ();
	CREATE FUNCTION unknown_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		ASSERT to_regclass('not_yet') IS NULL;
		PERFORM done('unknown');
	END $$;
SQL
configure($node, 'bigbrotr_refresher.max_workers' => 2);
$offset = start_cycle('short, longer, longest');
wait_for_line($node, 'cycle_completed', $offset);
is(turns(), 'short longer longest',
	'where nothing is known, the list is the order');
$node->safe_psql('postgres', 'UPDATE pace SET factor = 1');
is(run_cycle(), 'longest longer short', 'then it is the longest first');

know(
	'short, middle, longer, longest',
	short => 1,
	middle => 20,
	longer => 300,
	longest => 4000);
is(run_cycle(), 'longest longer middle short',
	'what is known of the views says which is the longest');
know(
	'short, middle, longest, tiny, late',
	short => 1,
	middle => 20,
	longest => 40,
	tiny => 0.1,
	late => 50);
like(run_cycle(), qr/^tiny (late )?longest (late )?middle (late )?short/,
	'what others wait for counts with them');
know('short, middle; longest', short => 1, middle => 20, longest => 300);
is(run_cycle(), 'middle short longest',
	'behind a barrier even the longest waits');

# How long a cycle would take, by what is known, if two processes took the
# views in this order
sub predicted
{
	my ($turns, %seconds) = @_;
	my @ends = (0, 0);

	foreach my $view (split / /, $turns)
	{
		@ends = sort { $a <=> $b } @ends;
		$ends[0] += $seconds{$view};
	}
	return (sort { $a <=> $b } @ends)[1];
}

# The longest first would take 700 seconds, and leave a process without work
# for 200 of them.
my %seconds = (
	late => 300,
	tiny => 300,
	short => 200,
	middle => 200,
	unknown => 200);
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW tiny CASCADE');
$node->safe_psql('postgres', 'ALTER TABLE not_yet RENAME TO once');
know('late, tiny, short, middle, unknown', %seconds);
is(predicted(run_cycle(), %seconds),
	600, 'both processes have work until the end');
know('late, tiny, short, middle, unknown',
	map { $_ => $seconds{$_} / 10_000 } keys %seconds);
is( run_cycle(),
	'late tiny short middle unknown',
	'unless all are so short that there is nothing to gain');
$node->safe_psql('postgres', 'ALTER TABLE once RENAME TO not_yet');

# It is due, and fails, before it is in a cycle with the others.
$offset = log_size($node);
know('short, unknown, longest', short => 1, longest => 300);
wait_for_line($node, 'cycle_completed refreshed=0 failed=1', $offset);
$node->safe_psql('postgres', 'DROP TABLE not_yet');
is(run_cycle(), 'longest unknown short',
	'what was never refreshed counts as the mean of the others');

configure($node, 'bigbrotr_refresher.max_workers' => 1);
know('short, middle, longest', short => 1, middle => 20, longest => 300);
is(run_cycle(), 'short middle longest', 'one at a time is in order');

# ---- parallel query -------------------------------------------------------------------

# While as many views can be refreshed as there are cores, none may have
# parallel workers of its own.
SKIP:
{
	my ($cores) = `getconf _NPROCESSORS_ONLN` =~ /^(\d+)$/ or die 'no cores';

	skip 'needs two to six cores', 2 if $cores < 2 || $cores > 6;
	configure(
		$node,
		'bigbrotr_refresher.max_workers' => $cores,
		max_parallel_workers_per_gather => 5);
	$offset = start_cycle(
		join(', ', map { "gate_$_" } 1 .. $cores) . '; short');
	wait_for_line($node, 'cycle_completed', $offset);
	is( $node->safe_psql(
			'postgres', "SELECT parallel FROM done
			WHERE view LIKE 'gate%' AND turn = '1'"),
		0,
		'a refresh uses no parallel query that others would suffer from');
	is( $node->safe_psql(
			'postgres', "SELECT parallel FROM done WHERE view = 'short'"),
		5,
		'the only one may use what is set');
}

$session->quit;
$node->stop;
done_testing();
