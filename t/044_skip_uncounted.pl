# Changes that the server has not counted, since somebody has turned that off
# for a while: they are seen all the same.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Skipping;
use Test::More;

my $node = skipping_node(
	'uncounted',
	enabled => 'on',
	views => 'watched, gate',
	interval => '1h');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE TABLE source (n int);
	CREATE MATERIALIZED VIEW watched AS SELECT count(*) AS n FROM source;
	CREATE FUNCTION gate_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1)';
});

# The worker and its helpers have read the configuration as it is now, if they
# were between two views.  Within one, they have only got the signal.
sub counting
{
	my ($value) = @_;

	configure($node, track_counts => $value);
	return;
}

sub view
{
	return $node->safe_psql('postgres', 'SELECT n FROM watched');
}

sub table
{
	return $node->safe_psql('postgres', 'SELECT count(*) FROM source');
}

# cycle_while(CODE): a cycle in which CODE runs while the second view is being
# refreshed, and one after it.  Returns what became of the first view in both.
sub cycle_while
{
	my ($code) = @_;
	my $session = hold($node, 'postgres', 1);
	my $offset = log_size($node);
	my @seen;

	configure($node, interval => '1s');
	wait_for_waiter($node, 'postgres', 1);
	$code->();
	$session->query_safe('SELECT pg_advisory_unlock(1)');
	my $log = wait_for_line(
		$node,
		'view_\w+ view=watched\b(?s:.*)cycle_completed(?s:.*)view_\w+ view=watched\b(?s:.*)cycle_completed',
		$offset);
	configure($node, interval => '1h');
	$node->poll_query_until('postgres',
		"SELECT next_due > now() + interval '10 min'
		 FROM bigbrotr_refresher.status()")
	  or die 'the worker does not rest';
	$session->quit;
	while ($log =~ /(view_refreshed|view_skipped) view=watched\b/g)
	{
		push @seen, $1;
	}
	return @seen[0, 1];
}

sub insert
{
	change($node, 'INSERT INTO source VALUES (1)');
	return;
}

# ---- all is counted ---------------------------------------------------------------

cycle_while(sub { });
is(join(' ', cycle_while(sub { })),
	'view_skipped view_skipped', 'nothing has changed, nothing is done');
is(join(' ', cycle_while(\&insert)),
	'view_skipped view_refreshed', 'what has changed is seen in the next cycle');
is(view(), table(), 'it is up to date');

# ---- not counted -------------------------------------------------------------------

# Off, a change, and on, all while a view is being refreshed
my @seen = cycle_while(
	sub {
		counting('off');
		insert();
		counting('on');
	});
is($seen[1], 'view_refreshed', 'off and on within the refresh of a view');
is(view(), table(), 'it is up to date');

# Off before it, on within it
counting('off');
@seen = cycle_while(
	sub {
		insert();
		counting('on');
	});
is($seen[1], 'view_refreshed', 'off before the cycle and on within it');
is(view(), table(), 'it is up to date');

# While the worker rests
cycle_while(sub { });
counting('off');
insert();
counting('on');
@seen = cycle_while(sub { });
is($seen[0], 'view_refreshed', 'off and on while the worker rests');
is(view(), table(), 'it is up to date');

# While there is no launcher: the next one cannot know.
my $launcher = "SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'bigbrotr_refresher launcher'";
my $pid = $node->safe_psql('postgres', $launcher);
cycle_while(sub { });
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
counting('off');
insert();
counting('on');
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM ($launcher) AS l WHERE pid <> $pid")
  or die 'there is no other launcher';
@seen = cycle_while(sub { });
is($seen[0], 'view_refreshed', 'while there is no launcher');
is(view(), table(), 'it is up to date');

# Other reloads do no harm.
cycle_while(sub { });
configure($node, log_lock_waits => 'on');
is(join(' ', cycle_while(sub { })),
	'view_skipped view_skipped', 'another reload changes nothing');

nothing_broke($node);
$node->stop;
done_testing();
