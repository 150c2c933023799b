# What the tests of windows share: a source that sessions write to in every way
# that there is, and tables that are filled from it by windows.

package Windows;

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Utils;
use Refresher;

our @EXPORT = qw(windows_node make_source make_target start_writers
  differences gaps end_prepared);

# A node, not started, whose worker folds the targets again and again.
sub windows_node
{
	my ($name, %settings) = @_;

	return new_node(
		$name,
		max_prepared_transactions => 20,
		max_connections => 60,
		restart_after_crash => 'on',
		interval => '1s',
		'bigbrotr_refresher.retry_interval' => '1s',
		'bigbrotr_refresher.window_delay' => '5s',
		%settings);
}

# The source "rows", and what there is to say of it.  Whoever reads rows by time
# finds them by "at" or "second": stamped up to window_delay before their
# transaction began.
sub make_source
{
	my ($node, $database) = @_;

	$node->safe_psql(
		$database // 'postgres', q{
		CREATE TABLE rows (id bigint GENERATED ALWAYS AS IDENTITY, kind int,
			by xid8 DEFAULT pg_current_xact_id(),
			at timestamptz DEFAULT now(),
			second bigint DEFAULT floor(extract(epoch FROM now())));
		CREATE INDEX ON rows (by);
		CREATE INDEX ON rows (at);
		CREATE INDEX ON rows (second);
		CREATE FUNCTION write(kind int, n int DEFAULT 1) RETURNS void
		LANGUAGE sql VOLATILE AS $$
			INSERT INTO rows (kind, at, second)
			SELECT kind, s.at, floor(extract(epoch FROM s.at))
			FROM generate_series(1, n) AS g, LATERAL (SELECT CASE (random() * 4)::int + 0 * g
				WHEN 0 THEN now() WHEN 1 THEN clock_timestamp()
				WHEN 2 THEN statement_timestamp()
				WHEN 3 THEN date_trunc('second', now())
				ELSE now() - interval '4.999 s' END) AS s(at)
		$$;});
	return;
}

# make_target(NODE, NAME, TYPE [, BODY]): a table filled by windows of a type;
# BODY is run first.
sub make_target
{
	my ($node, $name, $type, $body) = @_;
	my %column = (xid8 => 'by', bigint => 'second', timestamptz => 'at');
	my $window =
	  $type eq 'xid8'
	  ? 'by >= after AND by < until'
	  : "$column{$type} > after AND $column{$type} <= until";

	$body //= '';
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (kind int PRIMARY KEY, n bigint, ids numeric);
		CREATE FUNCTION ${name}_refresh(after $type, until $type) RETURNS int
		LANGUAGE plpgsql AS \$\$
		DECLARE
			changed int;
		BEGIN
			$body
			INSERT INTO $name AS t
			SELECT kind, count(*), sum(id::numeric * id) FROM rows
			WHERE $window GROUP BY kind
			ON CONFLICT (kind) DO UPDATE
			SET n = t.n + excluded.n, ids = t.ids + excluded.ids;
			GET DIAGNOSTICS changed = ROW_COUNT;
			RETURN changed;
		END
		\$\$});
	return;
}

# start_writers(NODE [, SCRIPT...]): pgbench with clients that write, and run
# these scripts too.  Returns the process; it ends by kill_kill(), or when it
# has lost all of its connections.
sub start_writers
{
	my ($node, @scripts) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $number = 0;
	my @files;

	foreach my $script (
		'SELECT write(1);',
		'SELECT write(2, 5);',
		# Long ones, such that windows end while they are on their way
		q{BEGIN; SELECT write(3); \sleep 300 ms
			SELECT write(3); COMMIT;},
		q{BEGIN; \sleep 700 ms
			SELECT write(4); COMMIT;},
		q{BEGIN; SELECT write(5); SAVEPOINT a; SELECT write(5); ROLLBACK TO a;
			SAVEPOINT b; SELECT write(5); RELEASE b; COMMIT;},
		q{BEGIN; SELECT write(6); ROLLBACK;},
		# Prepared, and for a while in no process
		q{\set id random(1, 1000000000)
			BEGIN; SELECT write(7); PREPARE TRANSACTION 'p:id'; \sleep 100 ms
			COMMIT PREPARED 'p:id';},
		q{\set id random(1, 1000000000)
			BEGIN; SELECT write(8); \sleep 50 ms
			PREPARE TRANSACTION 'p:id'; ROLLBACK PREPARED 'p:id';},
		# Several transactions of one message
		q{BEGIN\; SELECT pg_sleep(0.05)\; SELECT write(9)\; COMMIT\; SELECT write(9);},
		# Its transactions begin at an unknown time.
		q{SET track_activities = off; BEGIN; SELECT write(10); \sleep 20 ms
			SELECT write(10); COMMIT; RESET track_activities;},
		@scripts)
	{
		my $file = "$folder/" . $number++;
		my $text = $script;

		# Meta-commands have lines of their own.
		$text =~ s/\s*(\\(?:sleep|set)[^\n;]*)\n?/\n$1\n/g;
		append_to_file($file, "$text\n");
		push @files, '-f', $number == 1 ? "$file\@20" : $file;
	}
	return IPC::Run::start(
		[
			$node->config_data('--bindir') . '/pgbench',
			'-n', '-c', 16, '-j', 2, '-T', 100000, '-h', $node->host,
			'-p', $node->port, @files, 'postgres'
		],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

# End what the sessions have left prepared, one way or the other.
sub end_prepared
{
	my ($node) = @_;

	foreach my $id (split /\n/,
		$node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'))
	{
		my $how = rand() < 0.5 ? 'COMMIT' : 'ROLLBACK';

		# A client that is about to be told that the server is gone may have
		# been faster.
		$node->psql('postgres', "$how PREPARED '$id'");
	}
	return;
}

# differences(NODE, TARGET...): how each target differs from its source; ''
# if none does.
sub differences
{
	my ($node, @targets) = @_;

	return join '', map {
		$node->safe_psql(
			'postgres', qq{
			WITH wanted AS (SELECT kind, count(*) AS n,
				sum(id::numeric * id) AS ids FROM rows GROUP BY kind)
			SELECT format(E'%s %s: %s rows, not %s\n', '$_', kind, t.n, w.n)
			FROM wanted AS w FULL JOIN $_ AS t USING (kind)
			WHERE (t.n, t.ids) IS DISTINCT FROM (w.n, w.ids) ORDER BY kind})
	} @targets;
}

# Where in the history a window does not start where the one before it has
# ended; '' if nowhere.
sub gaps
{
	my ($node) = @_;

	return $node->safe_psql(
		'postgres', q{
		SELECT format('%s %s: %s to %s', view, id, before, window_after)
		FROM (SELECT view, id, window_after, lag(window_until)
				OVER (PARTITION BY view ORDER BY id) AS before
			FROM bigbrotr_refresher.history WHERE window_until IS NOT NULL
				AND outcome <> 'failed') AS h
		WHERE before <> window_after ORDER BY view, id});
}

1;
