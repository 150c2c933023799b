# The disk is full: for temporary files, for the history, for shared memory, for
# all that a database has.  What cannot be written fails alone, and when there
# is space again everything is as if nothing had happened.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Faults;
use Refresher;
use Test::More;

plan skip_all => faults_missing() if faults_missing();

my $node = add_faults(
	new_node(
		'disk',
		views => 'nothing',
		interval => '1h',
		'bigbrotr_refresher.retry_interval' => 0,
		max_worker_processes => 20,
		work_mem => '64kB',
		max_parallel_workers_per_gather => 0,
		'bigbrotr_refresher.merge' => 'off',
		# Nobody else writes what the tests want to fail.
		checkpoint_timeout => '1h',
		bgwriter_lru_maxpages => 0));
$node->start;

# "spill" sorts on disk.  "unique_rows" is refreshed concurrently, by way of a
# temporary table, as long as nothing is merged.  "first" and "last" need no space for long.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION nothing_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE TABLE source (x int);
	INSERT INTO source SELECT generate_series(1, 3000);
	CREATE MATERIALIZED VIEW first AS SELECT max(x) FROM source;
	CREATE MATERIALIZED VIEW spill AS
	SELECT x, repeat(md5(x::text), 8) AS text FROM source ORDER BY 2;
	CREATE MATERIALIZED VIEW unique_rows AS SELECT x FROM source;
	CREATE UNIQUE INDEX ON unique_rows (x);
	CREATE MATERIALIZED VIEW last AS SELECT min(x) FROM source;
});
wait_for_rest($node, 'postgres');

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Run a cycle; returns its counts, and its log.
sub run_all
{
	my $offset = log_size($node);
	my $counts = query('SELECT views, refreshed, failed, skipped
		FROM bigbrotr_refresher.run(true)');

	return ($counts, last_cycle(log_since($node, $offset)));
}

# What became of each view, in the order of their names
sub sorted
{
	my ($log) = @_;

	return join ' ', sort split / /, outcomes($log);
}

# The same, by the newest rows of the history
sub history
{
	return query("SELECT string_agg(concat_ws(':', view, sqlstate), ' '
			ORDER BY view) FROM bigbrotr_refresher.history
		WHERE cycle_start = (SELECT cycle_start
			FROM bigbrotr_refresher.status())");
}

# The rows that the views have, beside those of the table
sub rows
{
	return query('SELECT (SELECT count(*) FROM source),
		(SELECT max FROM first), (SELECT count(*) FROM spill),
		(SELECT count(*) FROM unique_rows)');
}

sub add_row
{
	query('INSERT INTO source SELECT max(x) + 1 FROM source');
	return;
}

# Files that only a refresh needs, and for no longer.
sub temporary_files
{
	my @files = glob($node->data_dir . '/base/pgsql_tmp/*');

	push @files, glob($node->data_dir . '/base/[0-9]*/t[0-9]*_[0-9]*');
	return scalar(@files);
}

# The path of a relation's file
sub path_of
{
	my ($relation) = @_;

	return query("SELECT pg_relation_filepath('$relation')");
}

# Run a cycle while the disk is full in these places, and see to it that it
# mattered.
sub run_all_full
{
	my (@patterns) = @_;
	my $before = disk_failures($node);
	my @result;

	disk_full($node, 'on', @patterns);
	@result = run_all();
	disk_full($node, 'off');
	cmp_ok(disk_failures($node), '>', $before, 'the disk was full');
	return @result;
}

# ---- temporary files -----------------------------------------------------------

my ($counts, $log);
my $since = log_size($node);
my $all = 'first, spill, unique_rows, last';
foreach my $workers (1, 3)
{
	configure(
		$node,
		views => $all,
		'bigbrotr_refresher.max_workers' => $workers);
	add_row();
	($counts, $log) = run_all();
	is($counts, '4|4|0|0', "with space, for $workers at once, all is well");
	my $rows = rows();
	add_row();
	($counts, $log) = run_all_full();
	is($counts, '4|2|2|0', 'without space for temporary files, not for all');
	is(sorted($log), 'first last spill:53100 unique_rows:53100',
		'what needs some has failed, what needs none has not');
	like(
		$log,
		qr/ 53100 WARNING:  bigbrotr_refresher: view_refresh_failed view=spill .* sqlstate=53100 error=".*pgsql_tmp.*: No space left on device"$more/,
		'and says why');
	is(history(), sorted($log), 'the history knows it');
	is( rows(),
		join('|', map { $_ + 1 } (split /\|/, $rows)[ 0, 1 ]) . '|'
		  . join('|', (split /\|/, $rows)[ 2, 3 ]),
		'the rows of what has failed are as before');
	is(temporary_files(), 0, 'no temporary file is left');
	($counts, $log) = run_all();
	is($counts, '4|4|0|0', 'with space again, all is well');
	like(rows(), qr/^(\d+)\|\1\|\1\|\1$/, 'and up to date');
	is(temporary_files(), 0, 'no temporary file is left');
}
no_worker_failed($node, $since, 'no worker has ended for that');

# A merge writes temporary files for what exceeds maintenance_work_mem, and
# then the view itself: "wide" is to fail in either.
query(
	q{CREATE MATERIALIZED VIEW wide AS
	SELECT g, g % 7 + (SELECT count(*) FROM source) AS changes
	FROM generate_series(1, 40000) AS g;
	CREATE UNIQUE INDEX ON wide (g)});
configure(
	$node,
	views => 'first, wide, last',
	maintenance_work_mem => '1MB',
	'bigbrotr_refresher.merge' => 'worker');
foreach my $where ('*pgsql_tmp/*', path_of('wide'))
{
	run_all();
	my $wide = query('SELECT sum(changes) FROM wide');
	add_row();
	($counts, $log) = run_all_full($where);
	is($counts, '3|2|1|0', "without space for $where, a merge fails");
	is(sorted($log), 'first last wide:53100', 'that of what needs it');
	is(query('SELECT sum(changes) FROM wide'),
		$wide, 'the rows are as before');
	is(temporary_files(), 0, 'no temporary file is left');
	($counts, $log) = run_all();
	is($counts, '3|3|0|0', 'with space again, all is well');
	is(query('SELECT sum(changes) FROM wide'), $wide + 40000,
		'and up to date');
	is(temporary_files(), 0, 'no temporary file is left');
}
configure(
	$node,
	maintenance_work_mem => undef,
	'bigbrotr_refresher.merge' => undef);

# ---- the history ---------------------------------------------------------------

# A row can only be written to a new page, for there is none.
sub empty_history
{
	query('TRUNCATE bigbrotr_refresher.history');
	return;
}

configure($node, views => $all, 'bigbrotr_refresher.max_workers' => 1);
foreach my $part ('table', 'index')
{
	my $path;

	add_row();
	empty_history();
	$path = path_of('bigbrotr_refresher.history'
		  . ($part eq 'index' ? '_pkey' : ''));
	($counts, $log) = run_all_full($path);
	is($counts, '4|4|0|0',
		"without space for the history's $part, all views are refreshed");
	like(rows(), qr/^(\d+)\|\1\|\1\|\1$/, 'really');
	is(query('SELECT count(*) FROM bigbrotr_refresher.history'),
		'0', 'and have no rows there');
	foreach my $view (split /, /, $all)
	{
		like(
			$log,
			qr/ 53100 WARNING:  bigbrotr_refresher: history_failed view=$view error=".*$path.*: No space left on device"$more/,
			"as the log says of $view");
	}
	($counts, $log) = run_all();
	is($counts, '4|4|0|0', 'with space again, all is well');
	is(history(), 'first last spill unique_rows', 'the history too');
	is(query('SELECT count(*) FROM bigbrotr_refresher.history'),
		'4', 'with one row for each');
}

# Neither for a view nor for the row that is to say so.
add_row();
empty_history();
($counts, $log) =
  run_all_full('*pgsql_tmp/*', path_of('bigbrotr_refresher.history'));
is($counts, '4|2|2|0', 'without space for views and their rows');
like(
	$log,
	qr/ 53100 WARNING: .*view_refresh_failed view=spill .*\n(.*\n)*.* 53100 WARNING: .*history_failed view=spill /,
	'the log says both');
wait_for_rest($node, 'postgres');
is(query('SELECT views_failed, state FROM bigbrotr_refresher.status()'),
	'2|resting', 'and so does the status');
($counts, $log) = run_all();
is(history(), 'first last spill unique_rows', 'with space again, all is well');

# At the commit, when the row of the history is written already.
query(
	q{
	CREATE TABLE early (x int);
	CREATE TABLE late (x int);
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql
	AS 'BEGIN INSERT INTO public.late VALUES (1); RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON early
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
	CREATE FUNCTION commit_refresh() RETURNS void
	LANGUAGE sql AS 'INSERT INTO public.early VALUES (1)';
});
cycle($node, views => 'first, commit, last');
query('TRUNCATE early, late');
($counts, $log) = run_all_full(path_of('late'));
is($counts, '3|2|1|0', 'without space at the commit, a view has failed');
is(history(), 'commit:53100 first last', 'and the history says no other');
is(query('SELECT count(*) FROM early'), '0', 'nothing of it is there');
($counts, $log) = run_all();
is($counts . ' ' . history(), '3|3|0|0 commit first last',
	'with space again, all is well');
is(query('SELECT (SELECT count(*) FROM early), (SELECT count(*) FROM late)'),
	'1|1', 'once');

# ---- everything ------------------------------------------------------------------

configure($node, views => $all);
run_all();
add_row();
my $rows = rows();
empty_history();
($counts, $log) = run_all_full('*base/*');
is($counts, '4|0|4|0', 'without any space, no view is refreshed');
is( sorted($log),
	'first:53100 last:53100 spill:53100 unique_rows:53100',
	'for this reason');
is(scalar(() = $log =~ / 53100 WARNING: .*history_failed/g),
	4, 'and no row can be written');
is(rows(), $rows, 'the rows are as before');
wait_for_rest($node, 'postgres');
is( query('SELECT cycles_failed > 0, consecutive_failures, state
		FROM bigbrotr_refresher.status()'),
	't|1|resting',
	'the cycle has failed');
no_worker_failed($node, $since, 'no worker has ended for that');
($counts, $log) = run_all();
is($counts, '4|4|0|0', 'with space again, all is well');
is(history(), 'first last spill unique_rows', 'and in the history');
like(rows(), qr/^(\d+)\|\1\|\1\|\1$/, 'and up to date');

# ---- shared memory -----------------------------------------------------------------

# The server's own choice is "posix", unless this machine lets nobody write to
# /dev/shm.
configure($node, 'bigbrotr_refresher.max_workers' => 3);
my $chosen = query('SHOW dynamic_shared_memory_type');
foreach my $type (grep { /^(posix|mmap)$/ } $chosen, 'mmap')
{
	if ($type ne $chosen)
	{
		$node->append_conf('postgresql.conf',
			conf_lines(dynamic_shared_memory_type => $type));
		$node->restart;
	}
	foreach my $turn (1 .. 2)
	{
		($counts, $log) = run_all_full('/dev/shm/*', '*pg_dynshmem/*');
		is($counts, '4|4|0|0',
			"without shared memory ($type), all is refreshed");
		my ($worker) = grep { $_->{event} eq 'cycle_started' } events($log);
		is_deeply([ map { $_->{pid} } grep { $_->{view} } events($log) ],
			[ ($worker->{pid}) x 4 ], 'by the worker alone');
		like($log, qr/ 53100 \w+:  .*: No space left on device$/m,
			'which says why');
	}
	is(history(), 'first last spill unique_rows', 'the history is complete');
	($counts, $log) = run_all();
	is($counts, '4|4|0|0', 'with space again, all is well');
	unlike($log, qr/No space left/, 'and nobody misses it');
}

nothing_broke($node);
$node->stop;
done_testing();
