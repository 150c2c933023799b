# Many cycles with helpers leave nothing behind: no memory, no shared memory,
# no slots, no locks, no files.  With a history the workers come and go, and the
# launcher is what stays; without one, a worker does.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

# Just the slots that are needed, and shared memory that can be counted
my $node = new_node(
	'leaks',
	interval => '1h',
	views => 'not_there',
	'bigbrotr_refresher.max_workers' => 3,
	'bigbrotr_refresher.notify_channel' => 'refreshed',
	max_worker_processes => 4,
	max_logical_replication_workers => 0,
	dynamic_shared_memory_type => 'mmap',
	temp_buffers => '800kB');
$node->start;
$node->safe_psql('postgres', <<'SQL');
	CREATE EXTENSION bigbrotr_refresher;
	CREATE MATERIALIZED VIEW base AS SELECT 1 AS n;
	CREATE MATERIALIZED VIEW plain AS SELECT n FROM base;
	CREATE MATERIALIZED VIEW concurrent AS SELECT 1 AS n;
	CREATE UNIQUE INDEX ON concurrent (n);
	CREATE PROCEDURE procedure_refresh() LANGUAGE plpgsql
	AS 'BEGIN COMMIT; PERFORM pg_sleep(0.002); END';
	CREATE FUNCTION function_refresh() RETURNS void LANGUAGE sql
	AS 'SELECT pg_sleep(0.002)';
	CREATE FUNCTION broken_refresh() RETURNS void LANGUAGE plpgsql
	AS 'BEGIN RAISE ''broken''; END';

	-- The sequence has 0 if no helper has ended itself in this cycle yet.  The
	-- worker waits for one that does.
	CREATE SEQUENCE suicides MINVALUE 0;
	CREATE FUNCTION alive_refresh() RETURNS void LANGUAGE sql
	AS $$ SELECT setval('suicides', 0) $$;
	CREATE FUNCTION suicide() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT backend_type FROM pg_stat_activity
			WHERE pid = pg_backend_pid()) LIKE '%helper' THEN
			PERFORM setval('suicides', 1), pg_terminate_backend(pg_backend_pid());
		END IF;
		WHILE (SELECT last_value FROM suicides) = 0 LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
	END $$;
	CREATE FUNCTION suicide_1_refresh() RETURNS void LANGUAGE sql
	AS 'SELECT suicide()';
	CREATE FUNCTION suicide_2_refresh() RETURNS void LANGUAGE sql
	AS 'SELECT suicide()';
SQL
my $views = 'base, procedure, function, broken, alive; plain, suicide_1, '
  . 'suicide_2, missing';
cycle($node, views => $views);

# Run so many cycles, in one session.
sub run_cycles
{
	my ($count) = @_;

	$node->safe_psql('postgres',
		"DO 'BEGIN
			FOR n IN 1 .. $count LOOP
				PERFORM bigbrotr_refresher.run(true);
			END LOOP;
		END'");
	wait_for_rest($node, 'postgres');
	return;
}

# Bytes that are in use in the memory contexts of a process
sub memory
{
	my ($pid) = @_;
	my $before = log_size($node);

	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	my ($bytes) = wait_for_line($node, 'Grand total: ', $before) =~
	  /Grand total: .* (\d+) used$/m;
	return $bytes;
}

sub files
{
	my ($folder) = @_;

	return scalar(() = glob "$folder/*");
}

my $segments = $node->data_dir . '/pg_dynshmem';

# See to it that this process and the server are after 200 cycles what they were
# after 30.  What the caches of a process hold varies by a few kilobytes; 80
# bytes of each cycle would be more.
sub nothing_is_left
{
	my ($pid, $name) = @_;
	my $locks = "SELECT count(*) FROM pg_locks WHERE pid = $pid";

	run_cycles(30);
	my $memory = memory($pid);
	my $nsegments = files($segments);
	my $ndescriptors = files("/proc/$pid/fd");
	my $nlocks = $node->safe_psql('postgres', $locks);

	run_cycles(200);
	cmp_ok(memory($pid) - $memory, '<=', 16000,
		"the memory of the $name is what it was");
	is(files($segments), $nsegments, 'so is dynamic shared memory');
	cmp_ok(files("/proc/$pid/fd"), '<=', $ndescriptors + 10, 'open files');
	is($node->safe_psql('postgres', $locks), $nlocks, 'and locks');
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM pg_stat_activity
			 WHERE backend_type = 'bigbrotr_refresher helper'"),
		0,
		'there are no helpers');
	return;
}

my $launcher = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'bigbrotr_refresher launcher'");

nothing_is_left($launcher, 'launcher');
is(worker_pid($node, 'postgres'), '', 'nor is there a worker');
is( $node->safe_psql(
		'postgres', "SELECT count(*), min(views), max(views)
		FROM (SELECT count(*) AS views FROM bigbrotr_refresher.history
			GROUP BY cycle_start HAVING count(*) > 1) AS c"),
	'231|9|9',
	'each view was in each cycle once');
configure_and_rest($node, 'bigbrotr_refresher.history_retention' => 0);
my $worker = wait_for_pid($node, 'postgres');
nothing_is_left($worker, 'worker that stays');
is(worker_pid($node, 'postgres'), $worker, 'it is the same');

# A segment is there in mid-cycle, so it would have been counted.
$node->safe_psql('postgres',
	"CREATE FUNCTION missing_refresh() RETURNS void
	 LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)'");
my $nsegments = files($segments);
my $session = hold($node, 'postgres', 1);
$node->safe_psql('postgres', 'SELECT bigbrotr_refresher.run()');
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_locks
	 WHERE locktype = 'advisory' AND NOT granted")
  or die 'no view waits';
is(files($segments), $nsegments + 1, 'a cycle has one segment');
my $offset = log_size($node);
$session->quit;
wait_for_line($node, 'cycle_completed', $offset);

my $log = log_since($node, 0);
unlike($log, qr/helpers_missing/, 'there was always a slot for each helper');
cmp_ok(scalar(() = $log =~ /view_refresh_failed view=suicide_\d /g),
	'>=', 462, 'though one or two were terminated in each cycle');
unlike($log, qr/leak|still referenced/i, 'the server found no leak');
# What the server's caches keep of a refresh is not for ever.
cycle($node,
	views => 'concurrent',
	'bigbrotr_refresher.max_workers' => 1);
run_cycles(100);
my $memory = memory($worker);
run_cycles(500);
cmp_ok(memory($worker) - $memory, '<', 2_500_000,
	'caches do not grow with each refresh');

$node->stop;
done_testing();
