# pg_upgrade: while it has the old and the new server run, nothing of ours does
# anything in either of them; afterwards everything is there and goes on.
#
# REFRESHER_OLD_SERVER names the folder (that of bin and lib) of an older
# server with the extension, and REFRESHER_OLD_LIBRARIES one of libraries that
# only the older one needs.  Without them, a server of this major is upgraded.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

$ENV{LD_LIBRARY_PATH} = join ':', grep { $_ }
  $ENV{LD_LIBRARY_PATH}, $ENV{REFRESHER_OLD_LIBRARIES}
  if $ENV{REFRESHER_OLD_LIBRARIES};

# With an interval of a second, whoever may refresh something does so.
my @databases = ('postgres', 'shop', 'Odd name');
my ($old, $new) = new_nodes(
	'served',
	databases => 'postgres, shop, "Odd name"',
	views => '*, effect, folded',
	interval => '1s',
	'bigbrotr_refresher.retry_interval' => 0);

note('from ' . $old->pg_version . ' to ' . $new->pg_version);

# An old and a new server
sub new_nodes
{
	my ($name, %settings) = @_;
	my $from = new_node("old_$name", %settings,
		install_path => $ENV{REFRESHER_OLD_SERVER});
	my ($version) = run_command([ 'pg_config', '--version' ]);

	# Since 18, initdb has checksums by default.
	$settings{initdb} = ['--no-data-checksums']
	  if $from->pg_version < 18 && $version =~ /(\d+)/ && $1 >= 18;
	return ($from, new_node("new_$name", %settings));
}

sub pg_upgrade
{
	my ($from, $to, @options) = @_;

	return run_log(
		[
			$to->config_data('--bindir') . '/pg_upgrade', '--no-sync',
			'--retain', @options,
			'-b', $from->config_data('--bindir'),
			'-B', $to->config_data('--bindir'),
			'-d', $from->data_dir, '-D', $to->data_dir,
			'-p', $from->port, '-P', $to->port, '-s', $to->host
		]);
}

# Can any table be upgraded?  A new server that was released earlier than the
# last release of the old one may not know what that has stored.
sub can_be_upgraded
{
	my ($from, $to) = new_nodes('plain', shared_preload_libraries => '');

	$from->start;
	$from->safe_psql('postgres', 'CREATE TABLE plain (n int)');
	$from->stop;
	return pg_upgrade($from, $to);
}

# May the server refresh anything when it starts?
sub set_enabled
{
	my ($node, $enabled) = @_;

	$node->append_conf('postgresql.auto.conf',
		conf_lines(enabled => $enabled));
	return;
}

# All that nobody may change, in each database
sub contents
{
	my ($node) = @_;

	return join "\n", map {
		$node->safe_psql(
			$_, "SELECT (SELECT string_agg(at::text, ' ' ORDER BY at)
				 FROM effects),
				(SELECT string_agg(n::text, ' ') FROM plain),
				(SELECT string_agg(n::text, ' ') FROM concurrent),
				(SELECT string_agg(h::text, ' ' ORDER BY id)
				 FROM bigbrotr_refresher.history AS h)")
	} @databases;
}

# Start the server, look, and stop it.
sub look
{
	my ($node) = @_;
	my $contents;

	set_enabled($node, 'off');
	$node->start;
	$contents = contents($node);
	$node->stop;
	set_enabled($node, 'on');
	return $contents;
}

# ---- the old server -----------------------------------------------------------

$old->start;
foreach my $database (@databases)
{
	$old->safe_psql('postgres', "CREATE DATABASE \"$database\"")
	  if $database ne 'postgres';
	$old->safe_psql(
		$database, q{
		CREATE EXTENSION bigbrotr_refresher;
		CREATE TABLE source AS SELECT 1 AS n;
		CREATE TABLE effects (at timestamptz DEFAULT clock_timestamp());
		CREATE FUNCTION effect_refresh() RETURNS void
		LANGUAGE sql AS 'INSERT INTO public.effects VALUES (DEFAULT)';
		CREATE MATERIALIZED VIEW plain AS SELECT n FROM source;
		CREATE MATERIALIZED VIEW concurrent AS SELECT n FROM plain;
		CREATE UNIQUE INDEX ON concurrent (n);
		CREATE TABLE rows (by xid8 DEFAULT pg_current_xact_id());
		INSERT INTO rows VALUES (DEFAULT);
		CREATE TABLE folded (n bigint);
		CREATE FUNCTION folded_refresh(after xid8, until xid8) RETURNS void
		LANGUAGE sql AS 'INSERT INTO public.folded SELECT count(*)
			FROM public.rows WHERE by >= after AND by < until';
	});
	$old->poll_query_until($database,
		"SELECT count(DISTINCT view) = 4 FROM bigbrotr_refresher.history
		 WHERE outcome = 'refreshed'")
	  or die "nothing is refreshed in $database";
}
configure_and_rest($old, enabled => 'off');

# What a refresh would bring to light
$old->safe_psql($_,
	'UPDATE source SET n = 2; INSERT INTO rows VALUES (DEFAULT), (DEFAULT)')
  foreach @databases;
my $contents = contents($old);
$old->stop;
set_enabled($old, 'on');

# ---- the upgrade --------------------------------------------------------------

# It leaves a script in the folder that it is run in.
chdir $PostgreSQL::Test::Utils::tmp_check or die "could not go there: $!";
ok(pg_upgrade($old, $new, '--check'), 'pg_upgrade --check has no objection');
is(look($old), $contents, 'and changes nothing');
my $upgraded = pg_upgrade($old, $new);
if (!$upgraded && !can_be_upgraded())
{
  SKIP:
	{
		skip 'not even a plain table can be upgraded between these servers', 1;
	}
	done_testing();
	exit 0;
}
ok($upgraded, 'nor has pg_upgrade');

my $log = join '', map { slurp_file($_) }
  glob $new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log';
like($log, qr/database system is ready to accept connections/,
	'both servers have run');
unlike($log, qr/bigbrotr_refresher: /, 'without a word of ours');
is(look($new), $contents,
	'the history and the views are what they were, and no function was called');

# ---- the new server -----------------------------------------------------------

my $before = $new->start
  && $new->safe_psql('postgres', 'SELECT clock_timestamp()');
foreach my $database (@databases)
{
	ok( $new->poll_query_until(
			$database, "SELECT count(*) = 4
			FROM (SELECT view FROM bigbrotr_refresher.history
				WHERE outcome = 'refreshed' AND cycle_start > '$before'
				GROUP BY view) AS h
			WHERE (SELECT max(at) > '$before' FROM effects)
				AND (SELECT n = 2 FROM plain)
				AND (SELECT n = 2 FROM concurrent)"),
		"the new server refreshes the views of $database");

	# Transaction numbers are what they were, and so windows go on.
	$new->safe_psql($database, 'INSERT INTO rows VALUES (DEFAULT)');
	ok( $new->poll_query_until(
			$database, 'SELECT (SELECT sum(n) FROM folded) >=
				(SELECT count(*) FROM rows)')
		  && $new->safe_psql($database, 'SELECT sum(n) FROM folded') == 4,
		'and folds each row once');
}
is( $new->safe_psql(
		'postgres',
		'SELECT count(*) - count(DISTINCT id) FROM bigbrotr_refresher.history'),
	'0',
	'the numbers of the history go on');

$new->stop;
done_testing();
