# What the tests of merging share: a server on which every REFRESH MATERIALIZED
# VIEW CONCURRENTLY is merged, and what must hold of a view after it.

package Merging;

use strict;
use warnings;

use Exporter qw(import);
use Refresher;

our @EXPORT = qw(
  merging_node make_checks tough_session said start_query
);

# A node, not started, that merges in all sessions.  No worker runs.
sub merging_node
{
	my ($name, %settings) = @_;

	return new_node(
		$name,
		databases => '',
		'bigbrotr_refresher.merge' => 'all',
		fsync => 'off',
		synchronize_seqscans => 'off',
		%settings);
}

# Functions in the schema "checks" of a database:
#
# try(SQL): its SQLSTATE, 00000 if it succeeds.
# text_of(view): all of its rows, sorted.
# differs(view, query [, probes]): how a view is different from its query, or
# one of its indexes from its rows; '' if all is well.  A probe is a condition
# by which rows are looked up, with indexes and without.
sub make_checks
{
	my ($node, $database) = @_;

	$node->safe_psql(
		$database // 'postgres', q{
	CREATE EXTENSION IF NOT EXISTS amcheck;
	CREATE SCHEMA checks;
	CREATE FUNCTION checks.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE sql;
		RETURN '00000';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;

	CREATE FUNCTION checks.text_of(view text, condition text DEFAULT 'true')
	RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		rows text;
	BEGIN
		EXECUTE format('SELECT count(*) || md5(string_agg(md5(view_rows::text), '''''
			' ORDER BY md5(view_rows::text))) FROM %s AS view_rows WHERE %s',
			view, condition) INTO rows;
		RETURN rows;
	END $$;

	CREATE FUNCTION checks.index_differs(index regclass) RETURNS text
	LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM public.bt_index_check(index, true);
		RETURN '';
	EXCEPTION WHEN OTHERS THEN
		RETURN format('index %s: %s; ', index, SQLERRM);
	END $$;

	CREATE FUNCTION checks.differs(view text, query text,
		probes text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		result text := '';
		number bigint;
		part text;
		probe text;
		by_scan text;
	BEGIN
		DROP TABLE IF EXISTS pg_temp.expected_rows;
		EXECUTE 'CREATE TEMPORARY TABLE expected_rows AS ' || query;
		EXECUTE format('SELECT count(*) FROM (
			SELECT view_rows::text FROM %s AS view_rows EXCEPT ALL
			SELECT expected_rows::text FROM pg_temp.expected_rows) AS more',
			view) INTO number;
		IF number > 0 THEN
			result := format('%s rows too many; ', number);
		END IF;
		EXECUTE format('SELECT count(*) FROM (
			SELECT expected_rows::text FROM pg_temp.expected_rows EXCEPT ALL
			SELECT view_rows::text FROM %s AS view_rows) AS less',
			view) INTO number;
		IF number > 0 THEN
			result := result || format('%s rows are missing; ', number);
		END IF;
		FOR part IN
			SELECT checks.index_differs(i.indexrelid)
			FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
			JOIN pg_am AS a ON a.oid = c.relam
			WHERE i.indrelid = view::regclass AND i.indisvalid AND
				a.amname = 'btree'
		LOOP
			result := result || part;
		END LOOP;
		SELECT count(*), min(msg) INTO number, part
		FROM public.verify_heapam(view::regclass);
		IF number > 0 THEN
			result := result || format('heap: %s; ', part);
		END IF;
		FOREACH probe IN ARRAY probes LOOP
			PERFORM set_config('enable_seqscan', 'on', true),
				set_config('enable_indexscan', 'off', true),
				set_config('enable_bitmapscan', 'off', true);
			by_scan := checks.text_of(view, probe);
			PERFORM set_config('enable_seqscan', 'off', true),
				set_config('enable_indexscan', 'on', true),
				set_config('enable_bitmapscan', 'on', true);
			IF checks.text_of(view, probe) IS DISTINCT FROM by_scan THEN
				result := result || format('rows where %s; ', probe);
			END IF;
			PERFORM set_config('enable_seqscan', 'on', true);
		END LOOP;
		RETURN result;
	END $$;
	});
	return;
}

# A session that survives its errors
sub tough_session
{
	my ($node) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->set_query_timer_restart;
	$session->query('\set VERBOSITY verbose');
	return $session;
}

# What came of a query in a session: its SQLSTATE and message, or its result.
sub said
{
	my ($session, $sql) = @_;
	my $result = $session->query($sql);
	my ($error) = $session->{stderr} =~ /(?:ERROR|FATAL):  (.*)/;

	$session->{stderr} = '';
	return $error // $result;
}

# Send a query, whose end is not waited for.
my $sent = 0;

sub start_query
{
	my ($session, $sql) = @_;

	$sent++;
	$session->query_until(qr/sent $sent/, "\\echo sent $sent\n$sql;\n");
	return;
}

1;
