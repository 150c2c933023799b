# Logical replication of all tables, between two servers that both refresh:
# each keeps a history of its own, and replication goes on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my %node;

foreach my $name ('publisher', 'subscriber')
{
	$node{$name} = new_node(
		$name,
		allows_streaming => 'logical',
		views => 'one',
		interval => '7d',
		wal_retrieve_retry_interval => '100ms');
	$node{$name}->start;
	$node{$name}->safe_psql(
		'postgres', q{
		CREATE EXTENSION bigbrotr_refresher;
		CREATE TABLE source (id int PRIMARY KEY);
		CREATE FUNCTION one_refresh() RETURNS void LANGUAGE sql AS '';
		CREATE FUNCTION followed_refresh() RETURNS void LANGUAGE sql AS '';
	});
}
my ($publisher, $subscriber) = @node{ 'publisher', 'subscriber' };

sub run_all
{
	my ($node) = @_;

	return $node->safe_psql('postgres',
		'SELECT views, refreshed FROM bigbrotr_refresher.run(true)');
}

# All that a server has of its refreshes
sub kept
{
	my ($node) = @_;

	return $node->safe_psql(
		'postgres', 'TABLE bigbrotr_refresher.history ORDER BY view, id;
		TABLE bigbrotr_refresher.view_state ORDER BY view');
}

sub insert_source
{
	my ($id) = @_;

	$publisher->safe_psql('postgres', "INSERT INTO source VALUES ($id)");
	ok( $subscriber->poll_query_until(
			'postgres', "SELECT count(*) = 1 FROM source WHERE id = $id"),
		"row $id is replicated");
	return;
}

# ---- the first copy ---------------------------------------------------------------

# The numbers of the rows are the same here and there.
is(run_all($_), '1|1', 'a cycle on ' . $_->name)
  foreach ($publisher, $publisher, $subscriber, $subscriber);
my $own = kept($subscriber);
isnt($own, kept($publisher), 'each server has a history of its own');
$publisher->safe_psql('postgres',
	'CREATE PUBLICATION everything FOR ALL TABLES');
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION everything CONNECTION '$connection'
	PUBLICATION everything WITH (copy_data = true)");
ok( $subscriber->poll_query_until(
		'postgres', "SELECT count(*) >= 3 AND bool_and(srsubstate = 'r')
		FROM pg_subscription_rel"),
	'all tables are copied');
is(kept($subscriber), $own, 'and the history of the subscriber is its own');

# ---- rows that are inserted, updated and deleted ----------------------------------

is(run_all($publisher), '1|1', 'a cycle on the publisher');
insert_source(1);
is(kept($subscriber), $own, 'the subscriber keeps what it has');
is(run_all($subscriber), '1|1', 'a cycle on the subscriber');
$own = kept($subscriber);
$publisher->safe_psql(
	'postgres', 'UPDATE bigbrotr_refresher.history SET failures = 7;
	UPDATE bigbrotr_refresher.view_state SET failures = 7;
	UPDATE bigbrotr_refresher.view_state SET view = \'other\'');
insert_source(2);
is(kept($subscriber), $own, 'also of what is updated');
$publisher->safe_psql(
	'postgres', 'DELETE FROM bigbrotr_refresher.history;
	DELETE FROM bigbrotr_refresher.view_state');
insert_source(3);
is(kept($subscriber), $own, 'and of what is deleted');

# ---- a refresh that replication starts ---------------------------------------------

$subscriber->safe_psql(
	'postgres', q{
	CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM bigbrotr_refresher.refresh('public.followed');
		RETURN NULL;
	END $$;
	CREATE TRIGGER follow AFTER INSERT ON source
	FOR EACH ROW EXECUTE FUNCTION follow();
	ALTER TABLE source ENABLE REPLICA TRIGGER follow});
insert_source(4);
is( $subscriber->safe_psql(
		'postgres', "SELECT count(*), min(outcome)
		FROM bigbrotr_refresher.history WHERE view = 'public.followed'"),
	'1|refreshed',
	'what the subscriber refreshes by itself is in its history');
unlike(
	slurp_file($subscriber->logfile),
	qr/ERROR: |history_failed/,
	'nothing fails');

$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION everything');
nothing_broke($_) foreach ($publisher, $subscriber);
$_->stop foreach ($subscriber, $publisher);
done_testing();
