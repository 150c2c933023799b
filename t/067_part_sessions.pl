# Parts of views beside other sessions and beside the worker: what waits for
# what, deadlocks, old snapshots, what is undone, and that a view of which a part
# was refreshed is neither taken for fresh nor for old.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Merging;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;

my $node = skipping_node(
	'part_sessions',
	views => 'one, two, large, broken, by_parts',
	'bigbrotr_refresher.notify_channel' => 'refreshed',
	deadlock_timeout => '100ms',
	autovacuum => 'off',
	jit => 'off',
	max_parallel_workers_per_gather => 0);
$node->start;
make_checks($node);
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE base AS SELECT g AS id, g % 100 AS grp, 0 AS v
	FROM generate_series(1, 20000) AS g;
	ALTER TABLE base ADD PRIMARY KEY (id);
	CREATE INDEX ON base (grp);
	CREATE MATERIALIZED VIEW one AS SELECT grp, sum(v) AS v FROM base GROUP BY grp;
	CREATE UNIQUE INDEX ON one (grp);
	CREATE MATERIALIZED VIEW two AS SELECT grp, max(v) AS v FROM base GROUP BY grp;
	CREATE UNIQUE INDEX ON two (grp);
	CREATE MATERIALIZED VIEW large AS
	SELECT id * 10 + g AS id, v FROM base, generate_series(1, 10) AS g;
	CREATE UNIQUE INDEX ON large (id);
	CREATE TABLE divisor AS SELECT 1 AS x;
	CREATE MATERIALIZED VIEW broken AS SELECT grp, v / x AS v FROM divisor, base WHERE id < 100;
	CREATE UNIQUE INDEX ON broken (grp);
	CREATE MATERIALIZED VIEW by_parts AS SELECT grp, sum(v) AS v FROM base GROUP BY grp;
	CREATE UNIQUE INDEX ON by_parts (grp);
	CREATE FUNCTION by_parts_refresh() RETURNS void LANGUAGE sql AS $$
		SELECT bigbrotr_refresher.refresh('public.by_parts', 'grp = 1');
		SELECT bigbrotr_refresher.refresh('public.by_parts', 'grp IN (2, 3)');
	$$;
	ANALYZE;
});

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub refresh
{
	my ($view, $condition) = @_;

	return "SELECT bigbrotr_refresher.refresh('$view', '$condition')";
}

sub wait_for_lock
{
	my ($view) = @_;

	$node->poll_query_until(
		'postgres', "SELECT count(*) = 1 FROM pg_locks
		WHERE NOT granted AND relation = '$view'::regclass")
	  or die "nobody waits for $view";
	return;
}

# How the view differs from its query in these groups.
sub differs
{
	my ($view, $where) = @_;
	my $query = query("SELECT rtrim(pg_get_viewdef('$view'), ';')");

	return query("SELECT count(*) FROM (SELECT * FROM ($query) AS q WHERE $where
		EXCEPT ALL SELECT * FROM $view WHERE $where) AS x");
}

my $one = tough_session($node);
my $two = tough_session($node);

# ---- two sessions ----------------------------------------------------------------------

said($one, 'BEGIN; UPDATE base SET v = v + 1 WHERE grp = 1');
said($two, 'BEGIN; UPDATE base SET v = v + 1 WHERE grp = 2');
said($one, refresh('one', 'grp = 1'));
is(query('SELECT count(*) FROM one WHERE v = 0'), '100', 'readers go on, with the old rows');
start_query($two, refresh('one', 'grp = 2'));
wait_for_lock('one');
said($one, 'COMMIT');
is(said($two, 'COMMIT'), '', 'the second has its turn after the first');
is(differs('one', 'true'), '0', 'both groups are right');

# Of one group: who comes last sees both changes.
said($one, 'BEGIN; UPDATE base SET v = v + 1 WHERE id = 1');
said($two, 'BEGIN; UPDATE base SET v = v + 1 WHERE id = 101');
said($one, refresh('one', 'grp = 1'));
start_query($two, refresh('one', 'grp = 1'));
wait_for_lock('one');
said($one, 'COMMIT');
is(said($two, 'COMMIT'), '', 'two of one group');
is(differs('one', 'true'), '0', 'the group has both changes');

# Who waits can be cancelled, and wait for no longer than he wants.
said($one, 'BEGIN; ' . refresh('one', 'grp = 1'));
like(said($two, "SET lock_timeout = '100ms'; " . refresh('one', 'grp = 2')),
	qr/^55P03: canceling statement due to lock timeout/, 'lock_timeout ends the waiting');
said($two, 'SET lock_timeout = 0');
start_query($two, refresh('one', 'grp = 2'));
wait_for_lock('one');
query("SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted AND relation = 'one'::regclass");
like(said($two, 'SELECT'), qr/^57014: canceling statement due to user request/, 'so does a cancel');
said($one, 'ROLLBACK');

# ---- two views in opposite order ---------------------------------------------------------

said($one, 'BEGIN; ' . refresh('one', 'grp = 1'));
said($two, 'BEGIN; ' . refresh('two', 'grp = 1'));
start_query($one, refresh('two', 'grp = 1'));
wait_for_lock('two');
my $second = said($two, refresh('one', 'grp = 1'));
my $first = said($one, 'SELECT');
is(scalar(grep { /^40P01: deadlock detected/ } $first, $second), 1,
	'two views in opposite order: one session has a deadlock');
is(scalar(grep { !/^\w{5}:/ } $first, $second), 1, 'and the other goes on');
said($_, 'ROLLBACK') foreach $one, $two;

# ---- snapshots ---------------------------------------------------------------------------

foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	said($one, "BEGIN ISOLATION LEVEL $level; SELECT FROM base");
	query('UPDATE base SET v = v + 1 WHERE grp = 4; ' . refresh('one', 'grp = 4'));
	like(said($one, refresh('one', 'grp = 5')), qr/^40001: could not serialize access/,
		"$level: not after a refresh that it cannot see");
	said($one, 'ROLLBACK');
	said($one, "BEGIN ISOLATION LEVEL $level; UPDATE base SET v = v + 1 WHERE grp = 5");
	said($one, refresh('one', 'grp = 5'));
	said($one, 'UPDATE base SET v = v + 1 WHERE grp IN (5, 6)');
	said($one, refresh('one', 'grp IN (5, 6)'));
	is(said($one, 'COMMIT'), '', "$level: several times");
	is(differs('one', 'true'), '0', 'all is right');
}

# ---- undone ------------------------------------------------------------------------------

query('DELETE FROM bigbrotr_refresher.history');
said($one, 'BEGIN; UPDATE base SET v = v + 1 WHERE grp = 7; SAVEPOINT s; '
	  . refresh('one', 'grp = 7') . '; ROLLBACK TO s');
is(said($one, 'SELECT count(*) FROM bigbrotr_refresher.history'), '0',
	'what is undone is not in the history');
said($one, refresh('one', 'grp = 7') . '; COMMIT');
is(differs('one', 'true'), '0', 'and is done again');
is(query('SELECT view, method, condition, rows_updated FROM bigbrotr_refresher.history'),
	'one|merge|grp = 7|1', 'in the history as the list calls it');

# Listeners are told, at the commit.
said($one, 'LISTEN refreshed');
like(said($one, refresh('one', 'grp = 7')) . said($one, 'SELECT'),
	qr/"refreshed" with payload "one"/, 'listeners are told');
said($one, 'UNLISTEN *');

# ---- by indexes, and in batches ------------------------------------------------------------

query('SELECT pg_stat_reset(); UPDATE base SET v = v + 1 WHERE id BETWEEN 10 AND 12; SELECT pg_stat_force_next_flush()');
query('SET enable_seqscan = on; ' . refresh('large', 'id BETWEEN 101 AND 130')
	  . '; SELECT pg_stat_force_next_flush()');
is(query("SELECT n_tup_upd + n_tup_del, seq_scan FROM pg_stat_user_tables WHERE relname = 'large'"),
	'30|0', 'the old rows are found by an index');
is(query("SELECT count(*) FROM large WHERE v = 1"), '30', 'and are right');
query("UPDATE base SET v = v + 1 WHERE id % 2 = 0; SET maintenance_work_mem = '1MB'; "
	  . refresh('large', 'id > 50000'));
is(query('SELECT count(*) FROM large WHERE id > 50000 AND v <> (SELECT v FROM base WHERE base.id = (large.id - 1) / 10)'),
	'0', 'so are many, in batches');
is(query("SELECT rows_updated > 50000, temp_blks_written > 0
	FROM bigbrotr_refresher.history WHERE view = 'large' ORDER BY id DESC LIMIT 1"),
	't|t', 'by temporary files');

# ---- event triggers --------------------------------------------------------------------------

query(
	q{CREATE TABLE log (line text);
	CREATE FUNCTION on_event() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.log VALUES (tg_event || ' ' || tg_tag || ' ' || current_user);
	END $$;
	CREATE EVENT TRIGGER on_start ON ddl_command_start EXECUTE FUNCTION on_event();
	CREATE EVENT TRIGGER on_end ON ddl_command_end EXECUTE FUNCTION on_event()});
query('TRUNCATE log; ' . refresh('one', 'grp = 1'));
is( query("SELECT replace(line, current_user, 'us') FROM log"),
	"ddl_command_start REFRESH MATERIALIZED VIEW us\nddl_command_end REFRESH MATERIALIZED VIEW us",
	'event triggers fire');
query('DROP EVENT TRIGGER on_start; DROP EVENT TRIGGER on_end');

# ---- beside the worker -----------------------------------------------------------------------

# What a session has counted is seen by others when it ends.
$_->quit foreach $one, $two;
my %seen = next_outcomes($node);
is(join(' ', map { "$_:$seen{$_}" } sort keys %seen),
	'broken:refreshed by_parts:refreshed large:refreshed one:refreshed two:refreshed',
	'a cycle');
%seen = next_outcomes($node);
is($seen{one}, 'skipped', 'a view is skipped');
is($seen{by_parts}, 'refreshed', 'one that its function refreshes in part never is');

# A part without a difference changes nothing.
change($node, refresh('one', 'grp = 1'));
%seen = next_outcomes($node);
is($seen{one}, 'skipped', 'after a part that did not differ it is skipped still');

# Of two groups that change, one is refreshed: the other must not be forgotten.
change($node, 'UPDATE base SET v = v + 1 WHERE grp IN (1, 2)');
change($node, refresh('one', 'grp = 1'));
is(differs('one', 'grp = 1'), '0', 'the part is new');
is(differs('one', 'true'), '1', 'the rest is old');
my $state = q{SELECT last_attempt, data_as_of, failures, refresh_duration, duration,
	schedule_start, cycle_start FROM bigbrotr_refresher.view_state WHERE view = 'one'};
my $before = query($state);
query(refresh('one', 'grp = 1'));
is(query($state), $before, 'what is known of the view stays');
%seen = next_outcomes($node);
is($seen{one}, 'refreshed', 'the view is refreshed by the next cycle');
is(differs('one', 'true'), '0', 'and is right');
%seen = next_outcomes($node);
is($seen{one}, 'skipped', 'then it is skipped again');

# One whose table has not changed since: the part is all that there was to do.
change($node, 'UPDATE base SET v = v + 1 WHERE grp = 3');
change($node, refresh('one', 'grp = 3'));
%seen = next_outcomes($node);
is($seen{one}, 'refreshed', 'one refresh after a part');
%seen = next_outcomes($node);
is($seen{one}, 'skipped', 'and no more');

# A part that goes well does not make up for a whole that does not.
query('UPDATE divisor SET x = 0');
%seen = next_outcomes($node);
is($seen{broken}, 'failed', 'a view fails');
query('UPDATE divisor SET x = 1; ' . refresh('broken', 'grp = 1'));
is( query("SELECT failures, outcome FROM bigbrotr_refresher.view_state WHERE view = 'broken'"),
	'1|failed', 'after a part of it, it has failed still');
is( query("SELECT failures, outcome FROM bigbrotr_refresher.history
		WHERE view = 'broken' ORDER BY id DESC LIMIT 1"),
	'1|refreshed', 'as the history says');
next_cycle($node);
change($node, 'UPDATE base SET v = v + 1');
my ($line) = grep { $_->{event} eq 'view_refreshed' && $_->{view} eq 'by_parts' } events(next_cycle($node));
is("$line->{inserted} $line->{updated} $line->{deleted}", '0 3 0',
	'rows that a function has refreshed in parts are counted');

# ---- dropped before its name is read ------------------------------------------------------------

query("CREATE MATERIALIZED VIEW $_ AS SELECT 1 AS x; CREATE UNIQUE INDEX ON $_ (x)")
  foreach ('doomed', 'warm');
my $reader = session($node, 'postgres', on_error_stop => 0);
my $dropper = session($node, 'postgres');
my $waits = sprintf 'SELECT count(*) FROM pg_locks WHERE pid = %d AND NOT granted',
  $reader->query_safe('SELECT pg_backend_pid()');
$reader->query_safe(refresh('warm', 'x = 1'));
$dropper->query_safe($waits);
$dropper->query_safe('BEGIN; LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE');
$reader->query_until(qr/asked/, "\\echo asked\n" . refresh('doomed', 'x = 1') . ";\n");
wait_until('the refresh looks for a function',
	sub { $dropper->query_safe($waits) > 0 });
$dropper->query_safe('DROP MATERIALIZED VIEW doomed; COMMIT');
$reader->query('\echo done');

# The lock may also be waited for before the view is found.
like($reader->{stderr}, qr/ERROR:  .*"doomed" (?:was dropped in this moment|does not exist)/,
	'a view that is dropped when its refresh has found it');
$_->quit foreach ($reader, $dropper);

# ---- the name in the history --------------------------------------------------------------------

# It is that of the plan, which is not made for it.
query('CREATE SCHEMA other; CREATE MATERIALIZED VIEW other.hidden AS SELECT grp FROM base WHERE id <= 5;
	CREATE UNIQUE INDEX ON other.hidden (grp)');
foreach my $case (
	[ '*', 'one', 'other.hidden' ],
	[ 'public.*', 'one', 'other.hidden' ],
	[ 'public.one, other.*', 'public.one', 'other.hidden' ],
	[ 'other . Hidden, ONE, *', 'one', 'other.hidden' ],
	[ '*, "public".one', 'public.one', 'other.hidden' ],
	[ 'absent.*, absent.one, two', 'public.one', 'other.hidden' ])
{
	my ($list, @labels) = @$case;

	configure($node, views => $list);
	query(refresh('one', 'grp = 1') . ';' . refresh('other.hidden', 'grp = 1'));
	is( query("SELECT string_agg(view, ' ' ORDER BY id) FROM (SELECT * FROM
			bigbrotr_refresher.history ORDER BY id DESC LIMIT 2) AS h"),
		"@labels", "the list $list");
	my $planned = query("SELECT string_agg(view, ' ') FROM bigbrotr_refresher.plan()
		WHERE view ~ '^(public\\.)?one|hidden\$'");
	is(join(' ', grep { my $name = $_; grep { $_ eq $name } @labels } split / /, $planned),
		$planned, 'the same as in the plan');
}

nothing_broke($node);
$node->stop;
done_testing();
