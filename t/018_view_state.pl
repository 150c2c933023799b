# What is known of each view: that it is what the worker knows, whenever the
# extension comes, and whatever becomes of the history.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'view_state',
	views => 'good, bad @ 2h',
	interval => '1h',
	'bigbrotr_refresher.retry_interval' => 0);
$node->append_conf('postgresql.conf', "bigbrotr_refresher.enabled = off\n");
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE MATERIALIZED VIEW good AS SELECT 1 AS x;
	CREATE FUNCTION bad_refresh() RETURNS void LANGUAGE sql AS 'SELECT 1 / 0';
});

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub run_all
{
	return query(
		'SELECT views, refreshed, failed FROM bigbrotr_refresher.run(true)');
}

# The plan, the view "views" and the status agree on when what is due.
my $agree = q{
	SELECT (SELECT count(*) FROM bigbrotr_refresher.views) = 2
		AND (SELECT bool_and(v.next_due = p.due)
			FROM bigbrotr_refresher.plan() AS p
			JOIN bigbrotr_refresher.views AS v USING (view))
		AND (SELECT min(due) FROM bigbrotr_refresher.plan()) = s.next_due
	FROM bigbrotr_refresher.status() AS s};

# ---- the extension comes after the first cycles --------------------------------

my $log = cycle($node, 'bigbrotr_refresher.enabled' => 'on');
is(outcomes($log), 'good bad:22012', 'a cycle without the extension');
my $list = 'good, bad @ 2h';
foreach my $when ('made', 'made anew')
{
	# Only a worker that stays still knows what the old extension knew; where no
	# history is kept, it does.
	configure($node, 'bigbrotr_refresher.history_retention' => 0);
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity
		 WHERE backend_type = 'bigbrotr_refresher' AND query ~ '^next refresh'")
	  or die 'there is no worker';
	query('DROP EXTENSION IF EXISTS bigbrotr_refresher;
		CREATE EXTENSION bigbrotr_refresher');
	my $offset = log_size($node);

	# A list that is written in another way has the worker plan anew.
	$list =~ s/,/, /;
	configure($node, views => $list,
		'bigbrotr_refresher.history_retention' => '30d');
	ok($node->poll_query_until('postgres', $agree),
		"when the extension is $when, the worker tells what it knows");
	is( query(
			'SELECT view, failures, data_as_of IS NULL, last_attempt IS NULL,
				cycle_start = schedule_start, refresh_duration > interval \'0\'
			FROM bigbrotr_refresher.view_state ORDER BY view'),
		"bad|1|t|t|t|\ngood|0|f|t|t|t",
		'of each view');
	unlike(log_since($node, $offset), qr/cycle_started/,
		'and refreshes nothing');
}
is(query('SELECT count(*) FROM bigbrotr_refresher.history'),
	'0', 'the history has no row for that');

# ---- an attempt replaces it ------------------------------------------------------

is(run_all(), '2|1|1', 'a cycle');
my $state = 'SELECT view, cycle_start, schedule_start
	FROM bigbrotr_refresher.view_state ORDER BY view';
is( query(
		'SELECT s.view, s.failures, s.outcome, s.sqlstate, s.error,
			s.last_attempt = h.started_at, s.duration = h.duration,
			s.last_success = h.started_at, s.cycle_start = h.cycle_start,
			s.schedule_start = h.schedule_start,
			s.data_as_of = h.data_as_of, s.refresh_duration > interval \'0\'
		FROM bigbrotr_refresher.view_state AS s
		JOIN bigbrotr_refresher.history AS h USING (view) ORDER BY s.view'),
	"bad|2|failed|22012|division by zero|t|t||t|t||\n"
	  . 'good|0|refreshed|||t|t|t|t|t|t|t',
	'is in both tables');
my $before = query($state);
query("CREATE OR REPLACE FUNCTION bad_refresh() RETURNS void
	LANGUAGE sql AS ''");
query("SELECT bigbrotr_refresher.refresh('$_')") foreach ('good', 'bad');
is(query($state), $before, 'refresh() does not move the schedule');
is( query(
		'SELECT view, failures, outcome, sqlstate IS NULL,
			last_attempt = last_success, last_attempt > cycle_start,
			data_as_of = last_success, change_mark IS NULL,
			refresh_duration > interval \'0\'
		FROM bigbrotr_refresher.view_state ORDER BY view'),
	"bad|0|refreshed|t|t|t|t|t|t\ngood|0|refreshed|t|t|t|t|t|t",
	'but is the last attempt');
ok($node->poll_query_until('postgres', $agree), 'on which all agree');

# ---- the history is a mere log ---------------------------------------------------

my $views = query('TABLE bigbrotr_refresher.views');
query('TRUNCATE bigbrotr_refresher.history');
is(query('TABLE bigbrotr_refresher.views'),
	$views, 'without the rows of the history, as much is known');
my $offset = log_size($node);
$node->restart;
$node->poll_query_until('postgres', $agree) or die 'no worker came';
unlike(log_since($node, $offset), qr/cycle_started/,
	'by a new worker, too');

# Gone, it is made anew: no process is there who knows it.
query('TRUNCATE bigbrotr_refresher.view_state');
configure($node, views => 'good, bad @ 2h');
ok($node->poll_query_until('postgres', $agree),
	'where somebody deletes it, all is refreshed and known again');
query('TRUNCATE bigbrotr_refresher.history');

# ---- the schema is renamed ---------------------------------------------------------

query('ALTER SCHEMA bigbrotr_refresher RENAME TO renamed');
$offset = log_size($node);
configure($node, views => 'good,  bad @ 2h');
query('SELECT FROM renamed.run(true)');
$log = wait_for_line($node, 'HINT: .*', $offset);
like(
	$log,
	qr/history_missing database=postgres\n.*HINT:  The extension is there, but its schema is not called "bigbrotr_refresher" any more: rename it back\./,
	'the log says what to do if the schema was renamed');
query('ALTER SCHEMA renamed RENAME TO bigbrotr_refresher');
is(run_all(), '2|2|0', 'renamed back,');
is(query('SELECT count(*) FROM bigbrotr_refresher.history'),
	'2', 'the history is written again');

nothing_broke($node);
$node->stop;
done_testing();
