# Helpers for the tests of skip_unchanged.
#
# The worker rests while a test changes something, and is let run for one
# complete cycle, in which everything is due.  So a test says exactly what had
# happened before a cycle, and nothing depends on when it started.

package Skipping;

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(
  skipping_node change rest next_cycle next_outcomes make_different different
);
our @EXPORT_OK = qw(is_different_sql);

# skipping_node(NAME, SETTING => VALUE, ...): a node whose worker rests.
sub skipping_node
{
	my ($name, %settings) = @_;

	return new_node(
		$name,
		enabled => 'off',
		views => 'nothing',
		interval => '1s',
		'bigbrotr_refresher.retry_interval' => 0,
		'bigbrotr_refresher.skip_unchanged' => 'on',
		%settings);
}

# change(NODE, SQL [, DATABASE]): change something; on return the server's
# statistics have it.
sub change
{
	my ($node, $sql, $database) = @_;

	$sql .= ';' unless $sql =~ /;\s*$/;
	$node->safe_psql($database // 'postgres',
		"$sql\nSELECT pg_stat_force_next_flush();");
	return;
}

# When nothing can have run any more, in each node
my %rested_at;

# rest(NODE [, DATABASE]): wait until the worker of the database rests.  What
# it has refreshed before is not due for a second.
sub rest
{
	my ($node, $database) = @_;

	_rest($node, $database // 'postgres');
	$rested_at{ $node->name } = time();
	return;
}

# Without the extension the worker stays.
sub _rest
{
	my ($node, $database) = @_;
	my $workers = "SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'bigbrotr_refresher' AND datname = '$database'";
	my $disabled = "($workers AND state = 'idle' AND query = 'disabled') = 1";
	my $gone = "state = 'disabled' AND pid IS NULL
		FROM bigbrotr_refresher.status() WHERE database = '$database'";

	wait_until(
		"the worker of $database rests",
		sub {
			return 't' eq $node->safe_psql($database, "SELECT $disabled")
			  || (
				$node->safe_psql($database,
					"SELECT count(*) FROM pg_extension
					 WHERE extname = 'bigbrotr_refresher'")
				&& 't' eq $node->safe_psql($database, "SELECT $gone"));
		});
	return;
}

# next_cycle(NODE [, DATABASE]): let the worker run; returns the log of its
# first complete cycle.  Another one may have begun before it rests again, and
# some views have had their turn in it; so wait until all are due.
sub next_cycle
{
	my ($node, $database) = @_;
	my $due = ($rested_at{ $node->name } // 0) + 1;

	_rest($node, $database // 'postgres');
	wait_until('all views are due', sub { time() > $due });
	my $offset = log_size($node);
	configure($node, enabled => 'on');
	my $log =
	  wait_for_line($node, 'bigbrotr_refresher: cycle_completed.*\n', $offset);
	configure($node, enabled => 'off');
	rest($node, $database);
	return $log =~ s/(bigbrotr_refresher: cycle_completed.*?\n).*/$1/sr;
}

# next_outcomes(NODE [, DATABASE]): what became of each view in the next cycle,
# as a hash: refreshed, skipped, failed.
sub next_outcomes
{
	my %name = (
		view_refreshed => 'refreshed',
		view_skipped => 'skipped',
		view_refresh_failed => 'failed');

	return map { $_->{view} => $name{ $_->{event} } }
	  grep { $name{ $_->{event} } } events(next_cycle(@_));
}

# is_different_sql(SCHEMA): what makes a function is_different() there, which says
# whether a materialized view is not what its query returns now.
sub is_different_sql
{
	my ($schema) = @_;

	return "CREATE FUNCTION $schema.is_different(view regclass)" . q{
		RETURNS boolean LANGUAGE plpgsql AS $$
		DECLARE
			query text := rtrim(pg_get_viewdef(view), ';');
			result boolean;
		BEGIN
			EXECUTE format(
				'SELECT EXISTS ((SELECT * FROM %1$s EXCEPT ALL (%2$s))
				UNION ALL ((%2$s) EXCEPT ALL SELECT * FROM %1$s))', view, query)
			INTO result;
			RETURN result;
		END $$;
	};
}

# Make the function that different() needs.
sub make_different
{
	my ($node) = @_;

	$node->safe_psql('postgres', is_different_sql('public'));
	return;
}

# different(NODE, CONDITION): the names of those materialized views that are
# not what their query returns now, of those that the condition on pg_class "c"
# chooses.
sub different
{
	my ($node, $condition) = @_;

	return $node->safe_psql('postgres',
		"SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid)
		 FROM pg_class AS c WHERE c.relkind = 'm' AND ($condition)
			AND public.is_different(c.oid)");
}

1;
