# Merges beside libraries that watch statements, which are listed before ours or
# after it: what each of them sees, and that nothing is lost by them.
#
# Those that are not installed are left out, and what they would see is skipped.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my ($folder) = run_command([ 'pg_config', '--pkglibdir' ]);
my @libraries = grep { -e "$folder/$_.so" }
  qw(pg_stat_statements pg_stat_kcache auto_explain pgaudit);
my %installed = map { $_ => 1 } @libraries;

# How a view is refreshed, and the name that a command has for it
my $run = 'SELECT FROM bigbrotr_refresher.run(true)';
my $refresh = "SELECT bigbrotr_refresher.refresh('seen')";
my $command = 'REFRESH MATERIALIZED VIEW CONCURRENTLY seen';

my $node;

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub start_node
{
	my ($name, @order) = @_;

	$node = new_node(
		"merge_beside_$name",
		shared_preload_libraries => join(',', @order),
		views => 'seen',
		interval => '1h',
		'bigbrotr_refresher.merge' => 'all',
		'bigbrotr_refresher.retry_interval' => 0,
		'pg_stat_statements.track' => 'all',
		'auto_explain.log_min_duration' => 0,
		'auto_explain.log_nested_statements' => 'on',
		'auto_explain.log_analyze' => 'on',
		'auto_explain.log_verbose' => 'on',
		'pgaudit.log' => 'all',
		'pg_stat_kcache.track' => 'all');
	$node->start;

	# Its query executes another one, by a function.
	query(
		q{CREATE EXTENSION bigbrotr_refresher;
		CREATE TABLE source AS
			SELECT g AS id, 0 AS n FROM generate_series(1, 2000) AS g;
		CREATE FUNCTION count_rows() RETURNS bigint LANGUAGE plpgsql
		AS 'BEGIN RETURN (SELECT count(*) AS counted FROM public.source); END';
		CREATE MATERIALIZED VIEW seen AS
			SELECT id, n, CASE WHEN id = 1 THEN count_rows() END AS c FROM source;
		CREATE UNIQUE INDEX ON seen (id)});
	query("CREATE EXTENSION $_")
	  foreach grep { $installed{$_} } qw(pg_stat_statements pg_stat_kcache);
	wait_for_rest($node, 'postgres');
	return;
}

# Refresh the view in this way, and return by library what it has seen, for
# those that are installed.
sub seen
{
	my ($way) = @_;
	my %seen;

	query('SELECT pg_stat_statements_reset()') if $installed{pg_stat_statements};
	query('SELECT pg_stat_kcache_reset()') if $installed{pg_stat_kcache};
	query('UPDATE source SET n = n + 1 WHERE id % 10 = 0;
		DELETE FROM source WHERE id = (SELECT max(id) FROM source)');
	my $offset = log_size($node);
	query($way);
	my $log = log_since($node, $offset);

	is( query('SELECT count(*) FROM (SELECT id, n FROM seen
			EXCEPT ALL SELECT id, n FROM source) AS more')
		  . query('SELECT count(*) FROM (SELECT id, n FROM source
			EXCEPT ALL SELECT id, n FROM seen) AS less'),
		'00',
		"the view is right after $way");
	$seen{pg_stat_statements} = query(
		q{SELECT string_agg(concat_ws(' ', substring(query, '^REFRESH|counted'),
			calls, CASE WHEN rows > 1 THEN 'many' END,
			CASE WHEN toplevel THEN 'top' END), ', ' ORDER BY query DESC)
		FROM pg_stat_statements WHERE query ~ '^REFRESH|counted FROM public.source'})
	  if $installed{pg_stat_statements};
	$seen{pg_stat_kcache} = query(
		q{SELECT string_agg(DISTINCT substring(query, '^REFRESH|counted'), ', ')
		FROM pg_stat_kcache_detail WHERE query ~ '^REFRESH|counted FROM public.source'})
	  if $installed{pg_stat_kcache};
	$seen{auto_explain} = join ', ',
	  ($log =~ /Query Text: (REFRESH).*\n\t.*Seq Scan on public.source .*actual/),
	  ($log =~ /Query Text: .*(counted)/)
	  if $installed{auto_explain};
	$seen{pgaudit} = join ', ',
	  ($log =~ /AUDIT: SESSION,\d+,\d+,DDL,(REFRESH) MATERIALIZED VIEW,/),
	  ($log =~ /AUDIT: SESSION,\d+,\d+,READ,SELECT,.*(counted) FROM public.source/)
	  if $installed{pgaudit};
	return \%seen;
}

sub method
{
	return query('SELECT method FROM bigbrotr_refresher.plan()');
}

# What is expected, of those that are installed
sub expected
{
	my (%seen) = @_;

	return { map { $_ => $seen{$_} } grep { $installed{$_} } keys %seen };
}

foreach my $library (qw(pg_stat_statements pg_stat_kcache auto_explain pgaudit))
{
	SKIP: {
		skip("$library is not installed", 1) unless $installed{$library};
		pass("$library is installed");
	}
}

# ---- ours first, as it should be ---------------------------------------------------------

start_node('first', 'bigbrotr_refresher', @libraries);
query('CREATE EXTENSION pgaudit') if $installed{pgaudit};
is(method(), 'merge', 'listed first, it merges');
foreach my $way ($run, $refresh, $command)
{
	my $top = $way eq $refresh ? '' : ' top';

	is_deeply(
		seen($way),
		expected(
			pg_stat_statements => "REFRESH 1 many$top, counted 1",
			pg_stat_kcache => 'counted',
			auto_explain => 'REFRESH, counted',
			pgaudit => 'REFRESH, counted'),
		'and all of them see it');
}
nothing_broke($node);
$node->stop;

# ---- the others first --------------------------------------------------------------------

start_node('last', @libraries, 'bigbrotr_refresher');
is(method(), 'merge', 'listed last, it merges');
foreach my $way ($run, $refresh, $command)
{
	is_deeply(
		seen($way),
		expected(
			pg_stat_statements => 'counted 1',
			pg_stat_kcache => 'counted',
			auto_explain => 'REFRESH, counted',
			pgaudit => 'counted'),
		'and they see the queries but not the command');
}

# An event trigger of pgaudit fails where pgaudit has not seen the command.
SKIP: {
	skip('pgaudit is not installed', 7) unless $installed{pgaudit};
	query('CREATE EXTENSION pgaudit');
	is(method(), 'refresh concurrently', 'it does not merge what it must not hide');
	foreach my $way ($run, $refresh, $command)
	{
		like(seen($way)->{pgaudit}, qr/REFRESH/, 'but leaves it to the server');
	}
	query('DROP EXTENSION pgaudit');
	is(method(), 'merge', 'without the trigger, it merges');
}

# Nor does it merge a part where a trigger in C may be such a one.  (It is never
# fired.)
SKIP: {
	skip('pg_stat_statements is not installed', 1)
	  unless $installed{pg_stat_statements};
	query(q{
		CREATE FUNCTION in_c() RETURNS event_trigger LANGUAGE c
		AS '$libdir/bigbrotr_refresher', 'bigbrotr_refresher_status';
		CREATE EVENT TRIGGER in_c ON ddl_command_end
		WHEN TAG IN ('CREATE COLLATION') EXECUTE FUNCTION in_c()});
	my (undef, undef, $error) = $node->psql('postgres',
		"SELECT bigbrotr_refresher.refresh('seen', 'id = 10')");
	like(
		$error,
		qr/ERROR:  cannot refresh materialized view "seen" in part
DETAIL:  It is not merged: an event trigger calls in_c\(\), whose library may be listed before.*
HINT:  List "bigbrotr_refresher" first/,
		'a part is refused');
	query('DROP EVENT TRIGGER in_c');
}
nothing_broke($node);
$node->stop;
done_testing();
