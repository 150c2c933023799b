# Settings that must not reach the worker and settings that must; and a list
# that is long.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'settings',
	databases => 'work',
	role => 'agent',
	enabled => 'off',
	views => 'probe');

# Below 17, a setting of this name is not known.
my @timeouts = ('statement_timeout');
push @timeouts, 'transaction_timeout' if $node->pg_version >= 17;

$node->start;
$node->safe_psql('postgres', <<'SQL');
	CREATE DATABASE work;
	CREATE ROLE agent LOGIN SUPERUSER;
SQL
$node->safe_psql('work', <<'SQL');
	CREATE TABLE probe (name text, value text);
	CREATE PROCEDURE probe_refresh() LANGUAGE plpgsql AS $$
	DECLARE
		names text[] = '{statement_timeout, transaction_timeout,
			transaction_read_only, transaction_isolation,
			transaction_deferrable, lock_timeout, work_mem, jit, synchronous_commit}';
	BEGIN
		PERFORM pg_sleep(0.3);
		INSERT INTO probe
		SELECT n, current_setting(n, true) FROM unnest(names) AS n;
		COMMIT;
		PERFORM pg_sleep(0.3);
		INSERT INTO probe
		SELECT n || ' after COMMIT', current_setting(n, true)
		FROM unnest(names) AS n
		WHERE n LIKE 'transaction%';
	END $$;
SQL

# Set where administrators set them: for all, for a role, for a database, and
# for a role in a database.
$node->safe_psql('postgres', <<'SQL');
	ALTER DATABASE work SET default_transaction_read_only = on;
	ALTER DATABASE work SET default_transaction_deferrable = on;
	ALTER DATABASE work SET synchronous_commit = off;
	ALTER ROLE agent SET default_transaction_isolation = serializable;
	ALTER ROLE agent SET lock_timeout = 1;
	ALTER ROLE agent SET work_mem = '7MB';
	ALTER ROLE agent IN DATABASE work SET jit = off;
SQL

# The sessions of the test itself are left in peace.
foreach my $timeout (@timeouts)
{
	$node->safe_psql('postgres', "ALTER ROLE agent SET $timeout = 100;
		ALTER ROLE CURRENT_USER SET $timeout = 0");
}
my $offset = log_size($node);
$node->restart;
wait_for_line($node, 'worker_started database=work role=agent', $offset);
my $log = cycle($node, enabled => 'on');
is(outcomes($log), 'probe', 'no stray setting breaks a refresh');

my %got = map { split(/\|/, $_, 2) }
  split(/\n/, $node->safe_psql('work', 'SELECT * FROM probe'));
my %expected = (
	'transaction_read_only' => 'off',
	'transaction_isolation' => 'read committed',
	'transaction_deferrable' => 'off',
	'transaction_read_only after COMMIT' => 'off',
	'transaction_isolation after COMMIT' => 'read committed',
	'transaction_deferrable after COMMIT' => 'off',
	'lock_timeout' => '0',
	'work_mem' => '7MB',
	'jit' => 'off',
	'synchronous_commit' => 'off',
	map { $_ => '0' } @timeouts);
foreach my $name (sort keys %expected)
{
	is($got{$name}, $expected{$name}, "$name in a refresh");
}

# What is set later is read by a running worker, too.
my $pid = worker_pid($node, 'work');
my %later = (
	default_transaction_read_only => 'on',
	default_transaction_isolation => 'serializable',
	map { $_ => '150' } @timeouts);
$node->safe_psql('postgres', join("\n",
	map { "ALTER SYSTEM SET $_ = '$later{$_}';" } sort keys %later));
$log = cycle($node, interval => '1s');
is(outcomes($log), 'probe', 'nor does one that comes with a reload');
is( $node->safe_psql(
		'work',
		"SELECT DISTINCT value FROM probe
		 WHERE name LIKE 'transaction_isolation%'"),
	'read committed',
	'it does not even reach the worker');
is(worker_pid($node, 'work'), $pid, 'which is still the same process');

# A parallel worker, of any session, is given all parameters anew.  What is
# wrong about that is seen by a server with AddressSanitizer.
my $parallel = q{
	SET default_transaction_read_only = off;
	SET parallel_setup_cost = 0;
	SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0;
	SET parallel_leader_participation = off;
};
my $query =
  "SELECT DISTINCT current_setting('bigbrotr_refresher.views') FROM work";
$node->safe_psql('postgres',
	"$parallel CREATE TABLE work AS SELECT FROM generate_series(1, 1000)");
like(
	$node->safe_psql('postgres', "$parallel EXPLAIN (ANALYZE) $query"),
	qr/Workers Launched: [1-9]/,
	'a query has parallel workers');
is($node->safe_psql('postgres', "$parallel $query"),
	'probe', 'they have the parameters, too');
$node->stop;

# ---- a long list ------------------------------------------------------------

# Each of the views reads the next one by name, so that all but the last are
# listed too early: nothing about the order may be quadratic.
my $count = 2000;
$node = new_node('long', enabled => 'off', views => 'nothing');
$node->start;
$node->safe_psql('postgres', <<"SQL");
	CREATE TABLE source AS SELECT 1 AS n;
	DO \$\$
	BEGIN
		CREATE MATERIALIZED VIEW v_$count AS SELECT n FROM source;
		FOR i IN REVERSE @{[ $count - 1 ]} .. 1 LOOP
			EXECUTE format('CREATE MATERIALIZED VIEW v_%s AS'
				' SELECT n FROM v_%s', lpad(i::text, 4, '0'),
				lpad((i + 1)::text, 4, '0'));
			IF i % 500 = 0 THEN
				COMMIT;
			END IF;
		END LOOP;
	END \$\$;
	UPDATE source SET n = 2;
SQL
$log = cycle($node, enabled => 'on', views => '*');
my @events = events($log);
like(
	$log,
	qr/cycle_completed refreshed=$count failed=0 skipped=0 /,
	"$count views are refreshed");
is($node->safe_psql('postgres', 'SELECT n FROM v_0001'),
	2, 'each after the one that it reads');
my ($start) = grep { $_->{event} eq 'cycle_started' } @events;
is($start->{views}, $count, 'all in one cycle');

$node->stop;
done_testing();
