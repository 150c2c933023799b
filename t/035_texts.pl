# Names and errors that are made to be taken for something else, or that are
# too long: in the log, in the history, in notifications, in pg_stat_activity.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'texts',
	enabled => 'off',
	interval => '1h',
	databases => 'utf8, latin, ascii',
	views => 'nothing',
	'bigbrotr_refresher.retry_interval' => 0,
	'bigbrotr_refresher.notify_channel' => 'refreshed');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE DATABASE utf8;
	CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0;
	CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0;
});
$node->restart;

# Our lines about the views of one database, without what is in front.  Without
# a history its worker stays, so it can be found; else PID is its process.
sub lines
{
	my ($log, $database, $pid) = @_;

	$pid //= worker_pid($node, $database);
	return
	  join("\n", $log =~ /^\S+ \S+ \S+ \[$pid\] \w+ \w+:  bigbrotr_refresher: (view_.*)$/mg);
}

# A function that fails with texts given as bytes, in hexadecimal.
sub raises
{
	my ($name, %bytes) = @_;
	my @options;

	foreach my $option (sort keys %bytes)
	{
		push @options,
		  "$option = convert_from(decode('"
		  . unpack('H*', $bytes{$option})
		  . q{', 'hex'), getdatabaseencoding())};
	}
	return "CREATE OR REPLACE FUNCTION ${name}_refresh() RETURNS void
		LANGUAGE plpgsql AS \$\$ BEGIN
			RAISE USING " . join(', ', @options) . "; END \$\$;";
}

my $duration = qr/duration=\d+\.\d\d/;
my $forged = '2026-01-01 00:00:00.000 UTC [1] 00000 LOG:  bigbrotr_refresher:'
  . ' view_refreshed view=forged';

# ---- errors, in three encodings ----------------------------------------------

# What ends a line for some readers, and what could forge a pair
my $ends = join('', map { "$_$forged" } "\n", "\r", "\x0b", "\x1e");
my $wide = join('', map { "$_$forged" } "\xc2\x85", "\xe2\x80\xa8",
	"\xe2\x80\xa9", "\xc2\x9b");

$node->safe_psql(
	'utf8', raises(
		'lines',
		MESSAGE => "a$ends$wide",
		DETAIL => "b$ends$wide",
		HINT => "c$ends$wide")
	  . raises('plain', MESSAGE => "d\xc3\xa9\xe2\x82\xac")
	  . raises('pairs', MESSAGE => 'e duration=0 sqlstate=00000 error="')
	  . raises('sign', MESSAGE => 'f=1')
	  . raises('formats', MESSAGE => '%s%m%n%1$s', HINT => '%s%m%n%1$s')
	  . raises('backslash', MESSAGE => 'g\\n', DETAIL => 'h\\n"')
	  . raises('empty', MESSAGE => ''));
$node->safe_psql(
	'latin', raises('lines', MESSAGE => "a\x85$forged\xe9", DETAIL => "b\x85$forged")
	  . raises('plain', MESSAGE => "d\xe9"));
$node->safe_psql(
	'ascii', raises('lines', MESSAGE => "a\x85$forged\xe9$wide", DETAIL => "b\xff$wide")
	  . raises('plain', MESSAGE => "d\xc3\xa9"));
my $offset = log_size($node);
configure($node,
	enabled => 'on',
	views => 'lines, plain, pairs, sign, formats, backslash, empty');
wait_for_line($node, '(?:cycle_completed(?:.*\n)*.*){3}', $offset);
my $log = log_since($node, $offset);

unlike($log, qr/^2026-01-01 00:00:00/m, 'no line is forged');
unlike(
	$log,
	qr/[\r\x0b\x0c\x1c-\x1e]|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]/,
	'nor what other readers take for one');
is( join(' ', map { $_->{event} } grep { ($_->{view} // '') eq 'forged' }
		  events($log)),
	'', 'nor is an event');

my $utf8 = lines($log, 'utf8');
like($utf8, qr/^view_refresh_failed view=lines $duration sqlstate=P0001 error="a\\n2026.*\\r2026.*\\x0b2026.*\\x1e2026.*\\xc2\\x852026.*\\xe2\\x80\\xa82026.*\\xe2\\x80\\xa92026.*\\xc2\\x9b2026[^"]*"$more/m,
	'what could is escaped');
like($utf8, qr/view=plain $duration sqlstate=P0001 error=d\xc3\xa9\xe2\x82\xac$more/,
	'other characters are not');
like($utf8, qr/view=pairs $duration sqlstate=P0001 error="e duration=0 sqlstate=00000 error=\\""$more/,
	'no pair of key and value is forged');
like($utf8, qr/view=sign $duration sqlstate=P0001 error="f=1"$more/,
	'nor can it be split');
like($utf8, qr/view=formats $duration sqlstate=P0001 error=%s%m%n%1\$s$more/,
	'formats are text');
like($log, qr/HINT:  %s%m%n%1\$s$/m, 'in hints too');
like($utf8, qr/view=backslash $duration sqlstate=P0001 error="g\\\\n"$more/,
	'a backslash is told from an escape');
like($log, qr/DETAIL:  h\\n"$/m, 'the lines of a detail are as they are');
like($utf8, qr/view=empty $duration sqlstate=P0001 error=""$more/,
	'what is empty is seen');
like(lines($log, 'latin'), qr/view=lines $duration sqlstate=P0001 error="a\\x85\Q$forged\E\xe9"$more/,
	'in LATIN1, control characters are escaped');
like(lines($log, 'latin'), qr/view=plain $duration sqlstate=P0001 error=d\xe9$more/,
	'and no others');
like(lines($log, 'ascii'), qr/view=lines $duration sqlstate=P0001 error="a\\x85\Q$forged\E\\xe9\\xc2\\x85\Q$forged\E/m,
	'in SQL_ASCII, what would be in UTF-8, and what is no character there');
like(lines($log, 'ascii'), qr/view=plain $duration sqlstate=P0001 error=d\xc3\xa9$more/,
	'and no others');
like($log, qr/DETAIL:  b\\xff\\xc2\\x85/, 'nor in a detail');

# ---- texts as long as memory ------------------------------------------------

$node->safe_psql('utf8', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION deep(n int) RETURNS int LANGUAGE plpgsql
	AS 'BEGIN RETURN deep(n + 1); END';
	CREATE FUNCTION deep_refresh() RETURNS void LANGUAGE plpgsql
	AS 'BEGIN PERFORM deep(1); END';
	CREATE FUNCTION giant_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE USING MESSAGE = repeat(U&'\00e9', 5000000),
			DETAIL = repeat('d', 10000000), HINT = repeat('h', 10000000);
	END $$;
	CREATE FUNCTION after_refresh() RETURNS void LANGUAGE sql AS ''});
$offset = log_size($node);
configure($node, views => 'giant, deep, after');
wait_for_line($node, 'view=after', $offset);
$log = wait_for_line($node, '(?:cycle_completed(?:.*\n)*.*){3}', $offset);
my ($pid) = $log =~ /\[(\d+)\] P0001 .*view=giant/;
is( join(' ', lines($log, 'utf8', $pid) =~ /view=(\w+)/g),
	'giant deep after', 'the longest texts cost their own views only');
like($log, qr/view=giant $duration sqlstate=P0001 error=(?:\xc3\xa9){1000}$more/,
	'they are cut');
like($log, qr/DETAIL:  d{10000}$/m, 'in details');
like($log, qr/HINT:  h{10000}$/m, 'and hints');
like($log, qr/view=deep $duration sqlstate=54001 /,
	'nor does recursion without an end cost others');
cmp_ok(length($log), '<', 200_000, 'all this is short');
is( $node->safe_psql(
		'utf8', "SELECT length(error), octet_length(error)
		FROM bigbrotr_refresher.history WHERE view = 'giant'"),
	'10000|20000',
	'in the history too');

# ---- names -----------------------------------------------------------------------

# Of views, with and without schemas, as long as can be
my @names = (
	'"; DROP TABLE precious; --', "'); DROP TABLE precious; --",
	"a\nb\r\nc", "tab\tbell\x07", 'a duration=0 sqlstate=00000 error=',
	'%s%m%n%1$s', 'back\\slash\\n', ' leading', 'trailing ',
	"\xc3\xa9" x 31, '"' x 63, "x\xe2\x80\xa8y\xc2\x85z", 'a.b', 'a, b; c @ 1h',
	'$1', 'SELECT');
$node->safe_psql('utf8', 'CREATE TABLE precious ()');
my $sql = '';
my @schemas = ('public', "odd \"schema\";\n\xe2\x80\xa8x=1");
foreach my $schema (@schemas)
{
	my $quoted = '"' . $schema =~ s/"/""/gr . '"';

	$sql .= "CREATE SCHEMA IF NOT EXISTS $quoted;\n";
	$sql .= "CREATE MATERIALIZED VIEW $quoted.\"" . s/"/""/gr
	  . "\" AS SELECT 1 AS x;\n" foreach @names;
}
$node->safe_psql('utf8', "SET client_min_messages = warning;\n$sql");
my $listener = session($node, 'utf8');
$listener->query_safe('LISTEN refreshed');
$offset = log_size($node);
configure($node, views => '*');
$log = wait_for_line($node, 'cycle_completed refreshed=32 failed=0 ', $offset);
my @events =
  grep { $_->{event} eq 'view_refreshed' && $_->{duration} =~ /^\d+\.\d\d$/ }
  events($log);
is(scalar(@events), 32, 'a line for each view of an odd name');
is( scalar(grep { /view_refreshed/ && !/ view=(?:\w+|"(?:[^"\\]|\\.)*") $duration(?: database=\w+)?(?: (?:inserted|updated|deleted)=\d+)*$/ }
			split(/\n/, $log)),
	'0',
	'of which each has just a view and plain values');
is( join("\n", sort map { unescape($_->{view}) } @events),
	join(
		"\n",
		sort split(
			/\x01/,
			$node->safe_psql(
				'utf8', "SELECT string_agg(CASE nspname
					WHEN 'public' THEN '' ELSE quote_ident(nspname) || '.' END
					|| quote_ident(relname), E'\\x01')
				FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
				WHERE relkind = 'm'"))),
	'each tells its name without doubt');
is( $node->safe_psql(
		'utf8', "SELECT count(DISTINCT h.view), count(*)
		FROM bigbrotr_refresher.history AS h
		JOIN bigbrotr_refresher.plan() AS p USING (view)"),
	'32|32',
	'the history and the plan have the same names');
my $notes = $listener->query_safe('SELECT 1');
is( scalar(() = $notes =~ /Asynchronous notification "refreshed" with payload "/g),
	32,
	'who listens has heard of each');
$listener->quit;
is($node->safe_psql('utf8', "SELECT to_regclass('precious') IS NOT NULL"),
	't', 'what is in a name is not run');
is($node->safe_psql('utf8',
		q{SELECT bigbrotr_refresher.refresh('"""; DROP TABLE precious; --"')}),
	'', 'nor in a session');

# What was escaped, as it was.
sub unescape
{
	my ($value) = @_;
	my %escapes = (n => "\n", r => "\r", t => "\t");

	return $value unless $value =~ s/^"(.*)"$/$1/s;
	$value =~ s{\\(?:x([0-9a-f]{2})|(.))}
		{defined $1 ? chr(hex $1) : $escapes{$2} // $2}ge;
	return $value;
}

# Of what is in hand
$node->safe_psql(
	'utf8', q{
	CREATE FUNCTION "held"" (1/1) %s_refresh"() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)'});
my $session = hold($node, 'utf8', 1);
configure($node, views => '"held"" (1/1) %s"');
wait_for_waiter($node, 'utf8', 1);
is( $node->safe_psql(
		'utf8', "SELECT query = 'refreshing public.\"held\"\" (1/1) %s\" (1/1)',
			application_name ~ '^[ -~]*\$'
		FROM pg_stat_activity WHERE backend_type = 'bigbrotr_refresher'
			AND datname = 'utf8'"),
	't|t',
	'pg_stat_activity shows what is in hand, quoted');
$session->quit;

# ---- databases and roles, of another encoding -----------------------------------

my $odd = "x\" y=1 \\ %s caf\xe9";
my $quoted = '"' . $odd =~ s/"/""/gr . '"';

$node->safe_psql('latin',
	"SET client_encoding = 'LATIN1';
	 CREATE DATABASE $quoted ENCODING 'UTF8' TEMPLATE template0;
	 CREATE ROLE $quoted SUPERUSER LOGIN");
$node->append_conf(
	'postgresql.conf',
	conf_lines(
		databases => $quoted,
		role => $odd,
		views => "\"caf\xe9\", nothing"));
configure($node, views => undef);
$node->stop;
$offset = log_size($node);
$node->start;
$log = wait_for_line($node, 'cycle_completed', $offset);
my $escaped = 'x\\" y=1 \\\\ %s caf\\xe9';
like(
	$log,
	qr/worker_started database="\Q$escaped\E" role="\Q$escaped\E" views=2 /,
	'names that are no text here are escaped');
like($log, qr/view="\\"caf\\\\xe9\\"" /, 'those in the list too');

$node->stop;
done_testing();
