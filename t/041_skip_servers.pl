# skip_unchanged, and what happens to the server: marks outlive what they may,
# and nothing is skipped when the counters have begun anew or belong to another
# server.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;

my $skip_unchanged = 'bigbrotr_refresher.skip_unchanged';
my $retention = 'bigbrotr_refresher.history_retention';

my $node = skipping_node(
	'skip_servers',
	allows_streaming => 1,
	wal_level => 'logical',
	shared_buffers => '16MB');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE ta (id int PRIMARY KEY, a text);
	CREATE TABLE tb (id int);
	INSERT INTO ta VALUES (1);
	CREATE MATERIALIZED VIEW a AS SELECT id, a FROM ta;
	CREATE MATERIALIZED VIEW b AS SELECT count(*) FROM tb;
});
make_different($node);
configure($node, views => 'a, b');

# after(WHAT, EXPECTED [, NODE]): the next cycle does this, such as "a b" for a
# refresh of both, and then all is as it should be.
sub after
{
	my ($what, $expected, $server, $database) = @_;

	$server //= $node;
	my %outcome = next_outcomes($server, $database);
	is( join(' ', grep { $outcome{$_} eq 'refreshed' } sort keys %outcome),
		$expected,
		"$what: "
		  . ($expected eq '' ? 'nothing is refreshed' : "refreshed: $expected"));
	is(keys %outcome, 2, "$what: the others are skipped");
	is(different($server, 'true'), '', "$what: nothing is late")
	  unless $database;
	return;
}

# What comes after is again as usual.
sub then_nothing
{
	my ($what, $server) = @_;

	after("$what, and then nothing", '', $server);
	return;
}

my $next = 10;

sub insert
{
	my ($table, $server) = @_;

	$next++;
	change($server // $node, "INSERT INTO $table VALUES ($next)");
	return;
}

after('at first', 'a b');
then_nothing('at first');

# ---- restarts ---------------------------------------------------------------

$node->restart;
after('a restart', 'a b');
then_nothing('a restart');

$node->stop('immediate');
$node->start;
after('a crash', 'a b');
then_nothing('a crash');

# The counters begin anew, and come to where they had been.
insert('ta');
after('one row after the crash', 'a');
$node->stop('immediate');
$node->start;
insert('ta');
after('one row after another crash', 'a b');

# Another worker goes on by what the one before has left.
my ($session, $pid) = hold_worker($node, 'postgres');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$session->quit;
after('another worker', '');
insert('ta');
after('another worker and one row', 'a');

# Let another launcher take over.  Nobody has watched the configuration
# meanwhile, so everything is taken for changed, once.
my $launcher = "SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'bigbrotr_refresher launcher'";
$pid = $node->safe_psql('postgres', $launcher);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM ($launcher) AS l WHERE pid <> $pid")
  or die 'there is no other launcher';
after('another launcher', 'a b');
then_nothing('another launcher');

# ---- resets of the statistics ------------------------------------------------

foreach my $reset (
	'pg_stat_reset()',
	"pg_stat_reset_single_table_counters('ta'::regclass)",
	"pg_stat_reset_shared('bgwriter')")
{
	$node->safe_psql('postgres', "SELECT $reset");
	insert('ta');
	after("$reset and one row", 'a b');
	$node->safe_psql('postgres', "SELECT $reset");
	insert('ta');
	after("$reset and one row again", 'a b');
}
$node->safe_psql('postgres', 'SELECT pg_stat_reset()');
after('pg_stat_reset() alone', 'a b');
then_nothing('pg_stat_reset() alone');

# ---- settings ----------------------------------------------------------------

configure($node, $skip_unchanged => 'off');
after('skip_unchanged off', 'a b');
configure($node, $skip_unchanged => 'on');
after('skip_unchanged on, without a mark', 'a b');
then_nothing('skip_unchanged on');

configure($node, track_counts => 'off');
insert('ta');
after('track_counts off', 'a b');
after('track_counts still off', 'a b');
configure($node, track_counts => 'on');
after('track_counts on', 'a b');
then_nothing('track_counts on');

# For a while between two cycles; the worker has seen it when it says when it is
# due by the interval that was changed with it.
configure($node, interval => '1h', enabled => 'on');
sub wait_for_interval
{
	my ($interval) = @_;

	$node->poll_query_until('postgres',
		"SELECT next_due - last_cycle_start > interval '$interval'
			- interval '10 minutes' AND next_due - last_cycle_start
			< interval '$interval' + interval '10 minutes'
		 FROM bigbrotr_refresher.status()")
	  or die "the interval is not $interval";
	return;
}
wait_for_interval('1h');
configure($node, track_counts => 'off', interval => '2h');
wait_for_interval('2h');
insert('ta');
configure($node, track_counts => 'on', interval => '1h');
wait_for_interval('1h');
configure($node, enabled => 'off', interval => '1s');
after('track_counts off for a while', 'a b');

# Sessions whose changes are not counted; what they had changed before that is
# known is seen when marks are read again.
$node->safe_psql('postgres',
	'CREATE ROLE uncounted LOGIN SUPERUSER; ALTER ROLE uncounted SET track_counts = off');
$node->safe_psql('postgres', 'INSERT INTO tb VALUES (1)',
	extra_params => [ '-U', 'uncounted' ]);
after('track_counts off for a role', 'a b');
after('track_counts still off for a role', 'a b');
$node->safe_psql('postgres', 'DROP ROLE uncounted');
after('nobody has track_counts off any more', 'a b');
then_nothing('nobody has track_counts off any more');

# Settings that change what the server's own immutable functions return
$node->safe_psql(
	'postgres', q{
	CREATE TABLE inputs (f8 float8, f4 float4, b bytea, p point,
		t timestamp, z text, x xml);
	INSERT INTO inputs VALUES (0.1::float8 + 0.2, 0.1, '\\xc3a9', '(0.1,0.3)',
		'2020-01-01 00:00', 'CST');
	CREATE MATERIALIZED VIEW o_floats AS
		SELECT f8::text AS f8, f4::text AS f4, p::text AS p FROM inputs;
	CREATE MATERIALIZED VIEW o_bytes AS SELECT b::text AS b FROM inputs;
	CREATE MATERIALIZED VIEW o_zones AS
		SELECT extract(hour FROM (t AT TIME ZONE z) AT TIME ZONE 'UTC') AS hour
		FROM inputs;
});
foreach my $case (
	[ extra_float_digits => -5 ],
	[ bytea_output => 'escape' ],
	[ timezone_abbreviations => 'Australia' ],
	[ IntervalStyle => 'iso_8601' ],
	[ xmlbinary => 'hex' ],
	[ array_nulls => 'off' ],
	[ TimeZone => 'Pacific/Apia' ])
{
	my ($name, $value) = @$case;
	my @views = qw(o_bytes o_floats o_zones);

	configure($node, views => join(', ', @views));
	next_cycle($node);
	foreach my $setting ($value, undef)
	{
		my $what = $setting // 'the default';
		my %outcome = next_outcomes($node);

		is( join(' ', grep { $outcome{$_} eq 'skipped' } sort keys %outcome),
			join(' ', @views), "before $name = $what");
		configure($node, $name => $setting);
		%outcome = next_outcomes($node);
		is( join(' ', grep { $outcome{$_} eq 'refreshed' } sort keys %outcome),
			join(' ', @views), "$name = $what: all are refreshed");
		is(different($node, "relname LIKE 'o\\_%'"), '',
			"$name = $what: nothing is late");
	}
}
configure($node, views => 'a, b');
after('settings and back', '');

$node->safe_psql('postgres', 'ALTER SYSTEM SET track_counts = off');
$node->restart;
rest($node);
insert('ta');
$node->safe_psql('postgres', 'ALTER SYSTEM SET track_counts = on');
$node->restart;
after('a server started with track_counts off', 'a b');

# ---- where marks are kept -------------------------------------------------------

configure($node, $retention => 0);
after('without history', '');
insert('ta');
after('a change without history', 'a');
configure($node, $retention => undef);
$node->restart;
after('a restart without the last mark', 'a b');

$node->safe_psql('postgres',
	"UPDATE bigbrotr_refresher.view_state SET change_mark = 'forged'");
after('a forged history', 'a b');
foreach my $forged (q{'forged'}, q{''}, q{'2' || substr(change_mark, 2)},
	q{change_mark || ' '}, q{change_mark || '0'}, q{' ' || change_mark},
	q{replace(change_mark, '.', '.0x')}, q{left(change_mark, -1)}, 'NULL')
{
	# A reload, as each cycle here begins with, has it read again.
	$node->safe_psql('postgres',
		"UPDATE bigbrotr_refresher.view_state SET change_mark = $forged");
	after("the mark $forged", 'a b');
	$node->safe_psql('postgres',
		'UPDATE bigbrotr_refresher.view_state SET change_mark = change_mark');
	after("the mark before $forged", '');
}

$node->safe_psql('postgres', 'DROP EXTENSION bigbrotr_refresher');
after('without the extension and its marks', 'a b');
then_nothing('without the extension');
insert('tb');
after('a change without the extension', 'b');
$node->restart;
after('a restart without the extension', 'a b');
$node->safe_psql('postgres', 'CREATE EXTENSION bigbrotr_refresher');
after('a new extension', '');

# ---- logical replication -------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE publisher');
$node->safe_psql(
	'publisher', q{
	CREATE TABLE ta (id int PRIMARY KEY, a text);
	CREATE PUBLICATION p FOR TABLE ta;
	SELECT pg_create_logical_replication_slot('s', 'pgoutput');
});
my $connection = $node->connstr('publisher') =~ s/'/''/gr;
$node->safe_psql('postgres',
	"CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p
	 WITH (create_slot = false, slot_name = 's', copy_data = false)");
after('a subscription', '');

# Wait until the subscriber's statistics have it; TRUNCATE is none of them.
sub replicate
{
	my ($sql, $counter) = @_;
	my $count = "SELECT $counter FROM pg_stat_all_tables
		WHERE relid = 'ta'::regclass";
	my $before = $node->safe_psql('postgres', $count);

	$node->safe_psql('publisher', $sql);
	$node->poll_query_until('postgres',
		"SELECT ($count)::text <> '$before'")
	  or die "this was not replicated: $sql";
	return;
}

replicate("INSERT INTO ta VALUES (1000, 'x')", 'n_tup_ins');
after('INSERT applied', 'a');
then_nothing('INSERT applied');
replicate("UPDATE ta SET a = 'y' WHERE id = 1000", 'n_tup_upd');
after('UPDATE applied', 'a');
replicate('DELETE FROM ta WHERE id = 1000', 'n_tup_del');
after('DELETE applied', 'a');
$node->safe_psql('publisher', 'TRUNCATE ta');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM ta')
  or die 'TRUNCATE was not replicated';
after('TRUNCATE applied', 'a');
then_nothing('TRUNCATE applied');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$node->safe_psql('postgres', 'DROP DATABASE publisher');

# ---- a copy of the database ------------------------------------------------------

# Served one after the other, for what is in use cannot be copied.  No counter
# of the copy counts what was changed in the original, and that has itself
# counted from zero on when its marks were read.
$node->stop('immediate');
$node->start;
after('a crash before the copy', 'a b');
$node->safe_psql('postgres',
	"ALTER SYSTEM SET bigbrotr_refresher.databases = 'copied'");
insert('ta');
$node->restart;
$node->safe_psql('template1', 'CREATE DATABASE copied TEMPLATE postgres');
after('a copy', 'a b', $node, 'copied');
is( $node->safe_psql('copied', 'SELECT count(*) FROM a'),
	$node->safe_psql('copied', 'SELECT count(*) FROM ta'),
	'in which the view is what its table is');
$node->safe_psql('postgres',
	'ALTER SYSTEM RESET bigbrotr_refresher.databases');
$node->restart;
after('the original', 'a b');

# ---- promotion, there and back ----------------------------------------------------

insert('tb');
after('a change before the switchover', 'b');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('skip_servers_standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay');
$node->stop;
$standby->promote;
rest($standby);
insert('ta', $standby);

$node->enable_streaming($standby);
$node->start;
$standby->wait_for_catchup($node, 'replay');
like(
	$node->safe_psql('postgres',
		"SELECT DISTINCT not_skippable_because FROM bigbrotr_refresher.plan()"),
	qr/^the server is in recovery$/,
	'on a standby, nothing can be said of changes');
like(
	$node->safe_psql('postgres',
		"SELECT DISTINCT advice FROM bigbrotr_refresher.plan()"),
	qr/^No worker refreshes it: the server is in recovery\. It gets what the primary refreshes\. /,
	'nothing is refreshed there, which plan() says');
$standby->stop;
$node->promote;
after('a switchover and back, without a cycle meanwhile', 'a b');
then_nothing('a switchover and back');

$node->stop;
done_testing();
