# Windows that write distributed tables: the coordinator is stopped at once at
# random points, and still each row of the sources is folded exactly once, since
# the checkpoint and what the nodes have are committed in two phases.
#
# Of the sources one is local, where windows are by transaction, and one is
# distributed, where they are by time: see docs/scale.md.
#
# BIGBROTR_REFRESHER_RANDOM_SEED repeats the moments, as far as that goes, and
# BIGBROTR_REFRESHER_CRASHES says how often.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..", $FindBin::RealBin;

use Engines;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(usleep);

need_engine('citus');

my $crashes = $ENV{BIGBROTR_REFRESHER_CRASHES} // 10;

srand(random_seed());

# Each flush takes a while, on all nodes, so that commits are hit.
my %slow = (fsync => 'on', commit_delay => 50_000, commit_siblings => 0);
my ($node, @workers) = citus_cluster(
	'citus_windows',
	databases => 'postgres',
	views => 'nothing',
	interval => '1s',
	'bigbrotr_refresher.retry_interval' => '1s',
	'bigbrotr_refresher.window_delay' => '5s');
configure($_, %slow) foreach $node, @workers;

# make_target(NAME, KIND, SOURCE, TYPE): a table of a kind, and a function that
# folds what is new of a source into it.  What it does first makes its commit one
# of two phases, and completes those of the writers: see docs/scale.md.
sub make_target
{
	my ($name, $make, $source, $type, $first) = @_;
	my $window =
	  $type eq 'xid8'
	  ? 'by >= after AND by < until'
	  : 'at > after AND at <= until';

	$node->safe_psql(
		'postgres', "
		CREATE TABLE $name (kind int PRIMARY KEY, n bigint, ids numeric);
		$make;
		CREATE FUNCTION ${name}_refresh(after $type, until $type) RETURNS int
		LANGUAGE plpgsql AS \$\$
		DECLARE
			changed int;
		BEGIN
			$first;
			INSERT INTO public.$name AS t
			SELECT kind, count(*), sum(id::numeric * id) FROM public.$source
			WHERE $window GROUP BY kind
			ON CONFLICT (kind) DO UPDATE
			SET n = t.n + excluded.n, ids = t.ids + excluded.ids;
			GET DIAGNOSTICS changed = ROW_COUNT;
			RETURN changed;
		END
		\$\$");
	return;
}

$node->safe_psql(
	'postgres', q{
	CREATE TABLE here (id bigint GENERATED ALWAYS AS IDENTITY, kind int,
		by xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT now());
	CREATE TABLE spread (id bigint, kind int, at timestamptz DEFAULT now());
	SELECT create_distributed_table('spread', 'id');
	CREATE TABLE ids (id bigint GENERATED ALWAYS AS IDENTITY);
	CREATE TABLE together (one int PRIMARY KEY, n bigint);
	INSERT INTO together VALUES (1, 0);
	SELECT create_reference_table('together');
});
my $all_shards = 'UPDATE public.%s SET n = n WHERE n < 0';
my $reference = 'UPDATE public.together SET n = n + 1';
my $recover = 'PERFORM recover_prepared_transactions()';
my %target = (
	many_by_xid => [ "SELECT create_distributed_table('many_by_xid', 'kind')", 'here', 'xid8', $all_shards ],
	many_by_time => [ "SELECT create_distributed_table('many_by_time', 'kind')", 'spread', 'timestamptz', "$recover; $all_shards" ],
	one_by_xid => [ "SELECT create_distributed_table('one_by_xid', NULL, colocate_with => 'none')", 'here', 'xid8', $reference ],
	one_by_time => [ "SELECT create_distributed_table('one_by_time', NULL, colocate_with => 'none')", 'spread', 'timestamptz', "$recover; $reference" ],
	reference => [ "SELECT create_reference_table('reference')", 'here', 'xid8', 'NULL' ]);
my @targets = sort keys %target;

make_target($_, @{ $target{$_} }[ 0 .. 2 ], $target{$_}[3] =~ s/%s/$_/r)
  foreach @targets;

# Whether a table is empty cannot be seen here.
configure($node, views => join(', ', @targets));
$node->poll_query_until('postgres',
	"SELECT count(*) = 5 FROM bigbrotr_refresher.history
	 WHERE error ~ '^there is no checkpoint'")
  or die 'the first windows do not fail';
ok(1, 'windows do not start without a checkpoint');
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.set_window('$_', '"
	  . ($target{$_}[2] eq 'xid8' ? '0' : '-infinity') . "')")
  foreach @targets;

sub start_writers
{
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $number = 0;
	my @files;

	foreach my $script (
		'INSERT INTO here (kind) SELECT g % 20 FROM generate_series(1, 5) AS g;',
		'INSERT INTO here (kind) VALUES (1);',
		'BEGIN; INSERT INTO here (kind) VALUES (2); \sleep 300 ms
			INSERT INTO here (kind) VALUES (3); COMMIT;',
		'\set id random(1, 1000000000)
			\set kind random(0, 20)
			INSERT INTO spread (id, kind) VALUES (:id, :kind);',
		'\set id random(1, 1000000000)
			INSERT INTO spread (id, kind) SELECT :id + g, g % 20 FROM generate_series(1, 10) AS g;',
		'\set id random(1, 1000000000)
			BEGIN; INSERT INTO spread (id, kind) VALUES (:id, 5), (:id + 1, 6); \sleep 200 ms
			INSERT INTO spread (id, kind) VALUES (:id + 2, 7); COMMIT;',
		'\set id random(1, 1000000000)
			BEGIN; INSERT INTO spread (id, kind) VALUES (:id, 5), (:id + 1, 6); ROLLBACK;')
	{
		my $file = "$folder/" . $number++;
		my $text = $script;

		$text =~ s/\s*(\\(?:sleep|set)[^\n;]*)\n?/\n$1\n/g;
		append_to_file($file, "$text\n");
		push @files, '-f', $file;
	}
	return IPC::Run::start(
		[
			$node->config_data('--bindir') . '/pgbench',
			'-n', '-c', 6, '-j', 1, '-R', 100, '-T', 100000, '-h', $node->host,
			'-p', $node->port, @files, 'postgres'
		],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

# How the targets differ from their sources; '' if none does
sub differences
{
	return join '', map {
		my $source = $target{$_}[1];

		$node->safe_psql(
			'postgres', qq{
			WITH wanted AS MATERIALIZED (SELECT kind, count(*) AS n,
				sum(id::numeric * id) AS ids FROM $source GROUP BY kind),
			target AS MATERIALIZED (SELECT * FROM $_)
			SELECT format(E'%s %s: %s rows, not %s\n', '$_', kind, t.n, w.n)
			FROM wanted AS w FULL JOIN target AS t USING (kind)
			WHERE (t.n, t.ids) IS DISTINCT FROM (w.n, w.ids) ORDER BY kind})
	} @targets;
}

my $writers = start_writers();
my $folded = 'SELECT count(*) FROM bigbrotr_refresher.history WHERE rows_changed > 0';

foreach my $crash (1 .. $crashes)
{
	my $before = $node->safe_psql('postgres', $folded);

	$node->poll_query_until('postgres', "SELECT ($folded) > $before")
	  or die 'no window is folded';
	usleep(rand(1_000_000));
	$node->stop('immediate');
	$writers->kill_kill;
	note("$crash: " . join(' ', map {
		$_->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts') } @workers)
		. ' were left prepared');
	$node->start;
	$writers = start_writers();
}

$writers->kill_kill;
$node->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'")
  or die 'the writers do not end';
$node->safe_psql('postgres', 'SELECT recover_prepared_transactions()');
$node->safe_psql('postgres', 'CREATE TABLE finished AS SELECT clock_timestamp() AS at,
	pg_current_xact_id() AS by');
$node->poll_query_until(
	'postgres', "SELECT count(*) = 5 FROM bigbrotr_refresher.windows, finished
	WHERE CASE kind WHEN 'xid8' THEN until::xid8 > by ELSE until::timestamptz > at END")
  or die 'the windows do not get to the end';
is(differences(), '', 'each row was folded exactly once');
note($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM here), (SELECT count(*) FROM spread)')
	  . ' rows, windows: ' . $node->safe_psql('postgres', $folded));

# ---- what docs/scale.md warns of -------------------------------------------------

# Citus takes one phase where a transaction writes to one shard only.  If the
# coordinator then fails to commit, the shard has what the checkpoint has not.
configure($node, views => 'nothing', 'citus.recover_2pc_interval' => -1);
foreach my $target ('one_phase', 'two_phases')
{
	my $first = $target eq 'two_phases' ? $reference : 'NULL';

	$node->safe_psql(
		'postgres', "CREATE TABLE $target (kind int PRIMARY KEY, n bigint);
		SELECT create_distributed_table('$target', 'kind');
		CREATE FUNCTION ${target}_refresh(after xid8, until xid8) RETURNS void
		LANGUAGE plpgsql AS \$\$
		BEGIN
			$first;
			INSERT INTO public.$target AS t VALUES (1, 1)
			ON CONFLICT (kind) DO UPDATE SET n = t.n + 1;
		END
		\$\$;
		SELECT bigbrotr_refresher.set_window('$target', '0')");
}
foreach my $target ('one_phase', 'two_phases')
{
	# An error that comes when the transaction commits
	my ($status, undef, $error) = $node->psql('postgres', "BEGIN;
		CREATE TEMPORARY TABLE a (id int PRIMARY KEY) ON COMMIT DELETE ROWS;
		CREATE TEMPORARY TABLE b (id int REFERENCES a);
		SELECT bigbrotr_refresher.refresh('$target');
		COMMIT;");

	like($error, qr/unsupported ON COMMIT and foreign key combination/, "$target: the commit fails");
	$node->safe_psql('postgres', "SELECT recover_prepared_transactions();
		SELECT bigbrotr_refresher.refresh('$target')");
	is( $node->safe_psql('postgres', "SELECT n FROM $target"),
		$target eq 'two_phases' ? 1 : 2,
		"$target: " . ($target eq 'two_phases' ? 'nothing stays of it' : 'what was written stays'));
}

# The second phase of a writer has not come to a node, as after a crash.  Windows
# that do not see to it pass the row by.
foreach my $target ('careless', 'careful')
{
	make_target($target, "SELECT create_distributed_table('$target', 'kind')", 'spread', 'timestamptz',
		($target eq 'careful' ? "$recover; " : '')
		  . sprintf($all_shards, $target));
	$node->safe_psql('postgres', "SELECT bigbrotr_refresher.set_window('$target', '-infinity')");
}
my ($shard, $port, $group) = split /\|/,
  $node->safe_psql('postgres', "SELECT shardid, nodeport, groupid
	FROM citus_shards JOIN pg_dist_node USING (nodename, nodeport)
	WHERE shardid = get_shard_id_for_distribution_column('spread', 1)");
my ($worker) = grep { $_->port == $port } @workers;
$worker->safe_psql('postgres', "SET citus.enable_manual_changes_to_shards = on;
	BEGIN; INSERT INTO spread_$shard VALUES (1, 99, now() - interval '20 s');
	PREPARE TRANSACTION 'citus_0_1_999999999_0'");
$node->safe_psql('postgres', "INSERT INTO pg_dist_transaction VALUES ($group, 'citus_0_1_999999999_0', '0')");
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('$_')") foreach 'careless', 'careful';
is( $node->safe_psql('postgres', 'SELECT count(*) FROM spread WHERE kind = 99'),
	1, 'the second phase has come late');
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('$_')") foreach 'careless', 'careful';
is( $node->safe_psql('postgres', 'SELECT count(*) FROM careless WHERE kind = 99'),
	0, 'who does not see to it passes the row by');
is( $node->safe_psql('postgres', 'SELECT n FROM careful WHERE kind = 99'),
	1, 'who does has folded it');

# A writer is over on the coordinator, and one of the nodes has not heard of it
# yet.  By transaction its row there is lost; by time its start holds windows back.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE both_nodes (id bigint, kind int, by xid8 DEFAULT pg_current_xact_id(),
		at timestamptz DEFAULT now());
	SELECT create_distributed_table('both_nodes', 'id');
});
my %type = (by_number => 'xid8', by_clock => 'timestamptz');
foreach my $target (sort keys %type)
{
	make_target($target, "SELECT create_distributed_table('$target', 'kind')", 'both_nodes',
		$type{$target}, "$recover; " . sprintf($all_shards, $target));
	$node->safe_psql('postgres', "SELECT bigbrotr_refresher.set_window('$target', '"
		  . ($type{$target} eq 'xid8' ? '0' : '-infinity') . "')");
}

# A row for each node
my @ids = map {
	$node->safe_psql('postgres', "SELECT min(g) FROM generate_series(1, 1000) AS g, citus_shards
		WHERE shardid = get_shard_id_for_distribution_column('both_nodes', g) AND nodeport = " . $_->port)
} @workers;
my $writer = $node->background_psql('postgres');
$writer->query_safe("BEGIN; INSERT INTO both_nodes (id, kind) VALUES ($ids[0], 1), ($ids[1], 1)");
my @pids = map {
	$_->safe_psql('postgres', "SELECT pid FROM pg_stat_activity
		WHERE state = 'idle in transaction' AND query ~ 'both_nodes'")
} @workers;

# The second node prepares while the first one does not.
kill 'STOP', $pids[0];
$writer->query_until(qr/committing/, "\\echo committing\nCOMMIT;\n");
$workers[1]->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_prepared_xacts')
  or die 'the second node does not prepare';
kill 'STOP', $pids[1];
kill 'CONT', $pids[0];
my $count = 'SELECT count(*) FROM both_nodes';
$node->poll_query_until('postgres', "SELECT ($count) = 1") or die 'the first node does not commit';
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('$_')") foreach sort keys %type;
kill 'CONT', $pids[1];
$node->poll_query_until('postgres', "SELECT ($count) = 2") or die 'the second node does not commit';
$writer->quit;
$node->poll_query_until('postgres', "SELECT bigbrotr_refresher.refresh('by_clock') IS NOT NULL AND until::timestamptz
	> (SELECT max(at) FROM both_nodes) FROM bigbrotr_refresher.windows WHERE target = 'public.by_clock'")
  or die 'the windows do not get to the end';
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('by_number')");
is( $node->safe_psql('postgres', 'SELECT n FROM by_number'),
	1, 'by transaction, what a node commits late is lost');
is( $node->safe_psql('postgres', 'SELECT n FROM by_clock'),
	2, 'by time it is not');

nothing_broke($_) foreach $node, @workers;
$_->stop foreach @workers, $node;
done_testing();
