# Helpers look names up as their leader does; and it is said once that there are
# too few of them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'alike',
	views => 'one, two, three',
	interval => '1h',
	'bigbrotr_refresher.max_workers' => 2,
	max_worker_processes => 3,
	max_logical_replication_workers => 0);
$node->start;

# Each waits until another process is at a view as well.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE SCHEMA elsewhere;
	CREATE TABLE public.parts (n int);
	CREATE FUNCTION public.both() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(7);
		WHILE (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
			AND objid = 7) < 2
			AND EXISTS (SELECT FROM pg_stat_activity
				WHERE backend_type = 'bigbrotr_refresher helper')
			AND clock_timestamp() < now() + interval '60 s'
		LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
	CREATE FUNCTION one_refresh() RETURNS void LANGUAGE sql
	AS 'SELECT public.both()';
	CREATE FUNCTION two_refresh() RETURNS void LANGUAGE sql
	AS 'SELECT public.both()';
	CREATE FUNCTION three_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE TABLE elsewhere.done (view text);
	CREATE FUNCTION elsewhere.one_refresh() RETURNS void LANGUAGE sql
	AS $$ SELECT public.both(); INSERT INTO elsewhere.done VALUES ('one') $$;
	CREATE FUNCTION elsewhere.two_refresh() RETURNS void LANGUAGE sql
	AS $$ SELECT public.both(); INSERT INTO elsewhere.done VALUES ('two') $$;
	CREATE FUNCTION elsewhere.three_refresh() RETURNS void LANGUAGE sql
	AS $$ INSERT INTO elsewhere.done VALUES ('three') $$;
});
wait_for_rest($node, 'postgres');
my $run = 'SELECT refreshed, failed FROM bigbrotr_refresher.run(true)';
is($node->safe_psql('postgres', $run), '3|0', 'two processes work');

# The next cycle looks elsewhere, where others of these names are.
$node->safe_psql('postgres',
	'ALTER DATABASE postgres SET search_path = elsewhere');
is($node->safe_psql('postgres', $run), '3|0',
	'another search_path is that of the next cycle');
is( $node->safe_psql('postgres',
		"SELECT string_agg(view, ' ' ORDER BY view) FROM elsewhere.done"),
	'one three two',
	'a helper looks names up as its leader does');

# Somebody takes the slots, and gives them back, again and again.
my $offset = log_size($node);
configure($node, 'bigbrotr_refresher.max_workers' => 3);
foreach my $round (1 .. 3)
{
	is($node->safe_psql('postgres', $run), '3|0', 'a helper is missing');
	configure($node, 'bigbrotr_refresher.max_workers' => 3, views => 'three');
	is($node->safe_psql('postgres', $run), '1|0', 'none is missing');
	configure($node, views => undef);
}
my @missing =
  grep { $_->{event} eq 'helpers_missing' } events(log_since($node, $offset));
is(scalar(@missing), 1, 'which is said once');

$node->stop;
done_testing();
