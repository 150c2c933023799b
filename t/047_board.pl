# The page of board(): right in every encoding, on a standby, while views are
# refreshed, and when nothing is.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'board',
	allows_streaming => 1,
	databases => 'postgres, latin, euc, ascii',
	views => '*',
	interval => '1h');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0;
	CREATE DATABASE euc ENCODING 'EUC_JP' TEMPLATE template0;
	CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0;
});

sub page
{
	my ($database, $of) = @_;

	return ($of // $node)
	  ->safe_psql($database // 'postgres', 'SELECT bigbrotr_refresher.board()');
}

# ---- encodings ---------------------------------------------------------------

# A name in the bytes of its database; how the page has it.  The last two bytes
# in EUC_JP are a character that is not in Unicode.
my %names = (
	latin => [ "caf\xe9", 'caf&#233;' ],
	euc => [ "\xa4\xa2\xa9\xa1", '&#12354;&#65533;' ],
	ascii => [ "caf\xe9", 'caf&#65533;' ]);

foreach my $database (sort keys %names)
{
	my ($name, $written) = @{ $names{$database} };

	# A client of another encoding gets the same page.
	$node->safe_psql(
		$database, "SET client_encoding = '" . {
			latin => 'LATIN1', euc => 'EUC_JP', ascii => 'SQL_ASCII'
		  }->{$database} . "';
		CREATE EXTENSION bigbrotr_refresher;
		CREATE MATERIALIZED VIEW \"$name\" AS SELECT 1 AS x");
	my $page = page($database);
	like($page, qr/<bdi>"?\Q$written\E(&#34;)?<\/bdi>|<bdi>&#34;\Q$written\E&#34;<\/bdi>/,
		"$database: the name is right");
	unlike($page, qr/[^\n -~]/, "$database: and the page is ASCII");
}

# ---- while views are refreshed -----------------------------------------------

$node->safe_psql(
	'postgres', q{
	ALTER DATABASE postgres SET bigbrotr_refresher.views = 'first; held';
	CREATE EXTENSION bigbrotr_refresher;
	CREATE MATERIALIZED VIEW first AS SELECT 1 AS x;
	CREATE MATERIALIZED VIEW held AS SELECT 1 AS x;
	CREATE FUNCTION held_refresh() RETURNS void LANGUAGE sql AS
	'SELECT pg_advisory_xact_lock(1); REFRESH MATERIALIZED VIEW public.held';
	SELECT FROM bigbrotr_refresher.run(true);
});
like(page(), qr/Nothing is being refreshed now/, 'nothing is being refreshed');
like(page(), qr/>resting<|>idle</, 'the worker is at rest');
like(page(), qr/The last cycle of all views started .*: 2 refreshed, 0 failed/,
	'the last cycle is told');

my $lock = hold($node, 'postgres', 1);
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.run()');
wait_for_waiter($node, 'postgres', 1);
like(page(), qr/>refreshing</, 'the worker is at work');
like(
	page(),
	qr/<li class="running"><bdi>held<\/bdi> for [0-9.]+ m?s, \d+ % of what its last refresh took<svg/,
	'the current view is shown, with its progress');
like(page(), qr/The last cycle of all views started .*: 2 refreshed, 0 failed/,
	'a cycle that is not over is not the last one');
$lock->quit;
wait_until('the cycle is over',
	sub { page() =~ /Nothing is being refreshed now/ });

# ---- when nothing is -----------------------------------------------------------

configure_and_rest($node, enabled => 'off');
wait_until('the worker is disabled', sub { page() =~ />disabled</ });
like(page(), qr/Nothing is refreshed: bigbrotr_refresher.enabled is off/,
	'the page says that the worker is disabled');
configure_and_rest($node, databases => 'latin');
wait_until('it is not served', sub { page() =~ />not served</ });
like(page(), qr/No worker serves this database/,
	'the page says that nobody serves the database');

# It needs nothing but what a standby has.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my $page = page('postgres', $standby);
like($page, qr/This server is a standby/, 'the page says that of a standby');
like($page, qr/<svg class="bar refreshed"/, 'and shows what its primary did');
$standby->stop;
$node->stop;

done_testing();
