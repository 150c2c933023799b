# Merges and crashes: the server is stopped at once at random moments while
# sessions merge, and a standby replays it all under the server's own check of
# what each record of the log has changed.
#
# BIGBROTR_REFRESHER_RANDOM_SEED repeats the moments, as far as that goes, and
# BIGBROTR_REFRESHER_CRASHES says how often.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Merging;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(time usleep);

my $crashes = $ENV{BIGBROTR_REFRESHER_CRASHES} // 4;

srand(random_seed());

my $primary = merging_node(
	'merge_crash',
	allows_streaming => 1,
	fsync => 'on',
	maintenance_work_mem => '1MB',
	# Nothing is removed that the standby has not replayed yet.
	wal_keep_size => '4GB',
	wal_consistency_checking => 'all');
$primary->start;
make_checks($primary);

# Wide values are stored out of line.  Each merge updates, deletes and inserts
# rows; some updates are HOT.
my %query = (
	small => 'SELECT id, v, v % 7 AS w FROM base',
	wide => 'SELECT id, v, repeat(md5(v::text), CASE WHEN id % 50 = 0 THEN 300 ELSE 1 END) AS s FROM base',
	large => 'SELECT id * 30 + g AS id, v + g % 3 AS v FROM base, generate_series(0, 29) AS g');
$primary->safe_psql(
	'postgres', qq{
	CREATE SEQUENCE ids;
	CREATE TABLE base AS SELECT nextval('ids') AS id, 0 AS v FROM generate_series(1, 900);
	CREATE MATERIALIZED VIEW small WITH (fillfactor = 60) AS $query{small};
	CREATE UNIQUE INDEX ON small (id);
	CREATE INDEX ON small USING hash (w);
	CREATE MATERIALIZED VIEW wide AS $query{wide};
	CREATE UNIQUE INDEX ON wide (id);
	ALTER MATERIALIZED VIEW wide ALTER s SET STORAGE external;
	CREATE INDEX ON wide USING gin (to_tsvector('simple', left(s, 32)));
	CREATE MATERIALIZED VIEW large AS $query{large};
	CREATE UNIQUE INDEX ON large (id);
	CREATE INDEX ON large USING brin (v);
	CREATE TABLE merges (number int);
	CREATE PROCEDURE merge_on() LANGUAGE plpgsql AS \$\$
	BEGIN
		LOOP
			UPDATE base SET v = v + 1 WHERE random() < 0.1;
			UPDATE base SET id = nextval('ids') WHERE random() < 0.01;
			DELETE FROM base WHERE random() < 0.01;
			INSERT INTO base VALUES (nextval('ids'), 0), (nextval('ids'), 0);
			REFRESH MATERIALIZED VIEW CONCURRENTLY small;
			REFRESH MATERIALIZED VIEW CONCURRENTLY wide;
			REFRESH MATERIALIZED VIEW CONCURRENTLY large;
			INSERT INTO merges VALUES (1);
			IF random() < 0.2 THEN
				ROLLBACK;
			ELSE
				COMMIT;
			END IF;
		END LOOP;
	END \$\$});

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('merge_standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# How the views differ from their queries, or their indexes from their rows
sub all_differ
{
	return join('',
		map { $primary->safe_psql('postgres', "SELECT checks.differs('$_', '$query{$_}')") }
		  sort keys %query);
}

sub rows_of
{
	my ($node) = @_;

	return $node->safe_psql('postgres',
		join('; ', map { "SELECT checks.text_of('$_')" } sort keys %query));
}

foreach my $crash (1 .. $crashes)
{
	my $session = $primary->background_psql('postgres', on_error_stop => 0);
	my $before = $primary->safe_psql('postgres', 'SELECT count(*) FROM merges');

	$session->query_until(qr/begin/, "\\echo begin\nCALL merge_on();\n");
	$primary->poll_query_until('postgres',
		"SELECT count(*) > $before FROM merges")
	  or die 'nothing is merged';
	# Anywhere in what follows.
	usleep(rand(500_000));
	$primary->stop('immediate');
	$session->{run}->kill_kill;
	$primary->start;
	is(all_differ(), '', "crash $crash: the views are what their queries return");
	is( $primary->safe_psql('postgres', join('; ',
			map { "REFRESH MATERIALIZED VIEW CONCURRENTLY $_" } sort keys %query)),
		'', 'and can be merged');
	is(all_differ(), '', 'without harm');
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	is(rows_of($standby), rows_of($primary), 'the standby has the same rows');
}

# A merge is nothing for a standby, and is for the one that takes over.
my ($status, undef, $error) = $standby->psql('postgres',
	'REFRESH MATERIALIZED VIEW CONCURRENTLY small');
like(
	$error,
	qr/cannot execute REFRESH MATERIALIZED VIEW (?:during recovery|in a read-only transaction)/,
	'a standby does not merge');
$primary->stop('immediate');
$standby->promote;
$primary = $standby;
$primary->safe_psql('postgres',
	'UPDATE base SET v = v + 1; '
	  . join('; ', map { "REFRESH MATERIALIZED VIEW CONCURRENTLY $_" } sort keys %query));
is(all_differ(), '', 'promoted, it does');
$primary->command_ok([ 'pg_amcheck', '--heapallindexed', '--all' ],
	'pg_amcheck finds nothing')
  if $primary->config_data('--bindir') && -x $primary->config_data('--bindir') . '/pg_amcheck';
unlike(slurp_file($standby->logfile), qr/inconsistent page|PANIC/,
	'what was replayed is what was done');

$standby->stop;
done_testing();
