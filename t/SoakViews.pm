# What the databases of the soak hold beside BigBrotr's schema, and what the
# load does with them.
#
# The views of the technique of t/028_crash.pl tell in which transaction they
# were refreshed, so that the history can be held against them at any moment.

package SoakViews;

use strict;
use warnings;

use Exporter qw(import);
use Refresher;
use Skipping qw(is_different_sql);

our @EXPORT = qw(
  make_database make_extension extension_sql load_scripts compare_sql
  different_sql broken_sql windows_sql windows_behind_sql windows_state_sql reset_windows_sql
  random_list invalid_list hopeless is_marked windows
);

# Views that can never be refreshed, whatever is or is not done to them
my %hopeless = map { $_ => 1 } qw(broken late not_there);

sub hopeless
{
	my ($view) = @_;

	return $hopeless{$view};
}

# Views that tell in which transaction they were refreshed
sub is_marked
{
	my ($view) = @_;

	return $view =~ /^(fast|concurrent|plain|steps|reader)$/;
}

# Tables that are filled by windows
my @windows = qw(soak.by_xid soak.by_time);

sub windows { return @windows; }

my @thirteen = qw(
  relay_metadata_latest event_stats relay_stats kind_counts
  kind_counts_by_relay pubkey_counts pubkey_counts_by_relay network_stats
  event_daily_counts events_replaceable_latest events_addressable_latest
  relay_software_counts supported_nip_counts
);

# random_list(SCENE): a list of views, in one order or another, which takes in
# all of them.
sub random_list
{
	my ($scene) = @_;
	my $odd = join ', ', 'broken; slow; late, bare, locks', @windows;

	return $scene->pick(
		"*, $odd",
		"relay_metadata_latest; event_stats @ 2s, *;"
		  . " relay_software_counts, supported_nip_counts; $odd",
		"relay_software_counts, supported_nip_counts, $odd,"
		  . ' relay_metadata_latest, *',
		"public.*, soak.*, $odd, not_there",
		"reader @ 2s, $odd, plain; *; soak.\"Odd; name\" @ 3s",
		"reader @ 2s from 00:00:01 (jit = off), $odd, plain (merge = off);"
		  . " * (work_mem = 128kB, app.mode = 'a, (b)'); not_there (x = 1)",
		join(', ', @thirteen)
		  . "; fast, plain, concurrent, steps, reader, soak.*; $odd",
		"soak.*; *; $odd");
}

# A list that is none
sub invalid_list
{
	my ($scene) = @_;

	return $scene->pick(
		'', 'a,', 'a;;b', '1a', '"a', 'a.b.c', '*.*', 'a, a',
		'fast @ 0s', 'fast @ 367d', 'fast @', 'n' x 64, "fast, b\x01c",
		'*, fast @ 1 fortnight', ',' x 1000, 'fast @ 7s from 00:00',
		'fast (jit)', 'fast (jit = off', "fast (jit = 'off)");
}

# make_database(SCENE, NAME): a database with all that it needs.
sub make_database
{
	my ($scene, $database) = @_;

	$scene->sql('postgres', "CREATE DATABASE $database");

	# Sorting is to need files.
	$scene->sql('postgres', "ALTER DATABASE $database SET work_mem = '64kB'");
	$scene->sql($database, 'CREATE EXTENSION amcheck');
	load_demo($scene->node, $database) if $database eq 'bigbrotr';
	$scene->sql($database, _relations());
	$scene->sql($database, _functions());
	$scene->sql($database, _windows());
	$scene->sql($database, _tools());
	make_extension($scene, $database);
	return;
}

sub make_extension
{
	my ($scene, $database) = @_;

	return $scene->insist($database, extension_sql());
}

# With a column that takes down the transaction in which a row was written.  Whoever
# runs cycles is somebody for whom disabled is disabled.  The
# checkpoints go with the extension, and without them windows begin anew.
sub extension_sql
{
	return 'BEGIN; CREATE EXTENSION bigbrotr_refresher;
		ALTER TABLE bigbrotr_refresher.history
			ADD COLUMN xact xid8 DEFAULT pg_current_xact_id();
		GRANT USAGE ON SCHEMA bigbrotr_refresher TO writer;
		GRANT EXECUTE ON FUNCTION bigbrotr_refresher.run TO writer;
		TRUNCATE ' . join(', ', @windows) . '; COMMIT;';
}

# Windows by time begin anew: after the clock was set, say.
sub reset_windows_sql
{
	return q{BEGIN;
		DELETE FROM bigbrotr_refresher.windows WHERE target = 'soak.by_time';
		TRUNCATE soak.by_time;
		COMMIT;};
}

# Tables, and views of every kind
sub _relations
{
	return q{
	CREATE SCHEMA soak;
	GRANT USAGE ON SCHEMA soak TO PUBLIC;
	CREATE TABLE soak.control (paused boolean);
	INSERT INTO soak.control VALUES (false);
	-- What is older than this is not compared.
	CREATE TABLE soak.horizon (xact xid8);
	INSERT INTO soak.horizon VALUES ('0');
	CREATE TABLE soak.marker (view text, xact xid8 DEFAULT pg_current_xact_id());
	CREATE TABLE soak.a (n int);
	CREATE TABLE soak.b (n int);
	CREATE TABLE soak.unique_late (x int UNIQUE DEFERRABLE INITIALLY DEFERRED);

	CREATE MATERIALIZED VIEW fast AS SELECT pg_current_xact_id() AS xact;
	CREATE MATERIALIZED VIEW plain AS SELECT pg_current_xact_id() AS xact;
	CREATE MATERIALIZED VIEW concurrent AS
		SELECT 1 AS id, pg_current_xact_id() AS xact;
	CREATE UNIQUE INDEX ON concurrent (id);
	CREATE MATERIALIZED VIEW steps AS SELECT pg_current_xact_id() AS xact;
	CREATE MATERIALIZED VIEW reader AS
		SELECT pg_current_xact_id() AS xact FROM plain;
	CREATE MATERIALIZED VIEW soak."Odd; name" AS SELECT n FROM soak.a;
	CREATE UNIQUE INDEX ON soak."Odd; name" (n);
	CREATE MATERIALIZED VIEW soak.nothing AS SELECT n FROM soak.b WHERE false;
	CREATE VIEW soak.between AS SELECT n + 1 AS n FROM soak."Odd; name";
	CREATE MATERIALIZED VIEW soak.through AS
		SELECT count(*) AS count, sum(n) FROM soak.between;
	CREATE MATERIALIZED VIEW soak.later AS SELECT n FROM soak.b WITH NO DATA;
	SELECT format('ALTER MATERIALIZED VIEW %s OWNER TO refresher', oid::regclass)
	FROM pg_class WHERE relkind = 'm' AND relowner <> 'refresher'::regrole
	\gexec
	GRANT TEMPORARY ON DATABASE :"DBNAME" TO refresher;
	GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
	GRANT ALL ON ALL TABLES IN SCHEMA soak TO PUBLIC;
	};
}

# Functions and procedures that refresh, or fail.  None takes a time by the
# clock, which may be set while it waits.
sub _functions
{
	return q{
	CREATE FUNCTION soak.mark(name text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO soak.marker VALUES (name);
		PERFORM count(*) FROM generate_series(1, (random() * 5000)::int);
		EXECUTE format('REFRESH MATERIALIZED VIEW public.%I', name);
		PERFORM count(*) FROM generate_series(1, (random() * 5000)::int);
	END $$;
	CREATE FUNCTION fast_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT soak.mark('fast') $$;
	CREATE FUNCTION reader_refresh() RETURNS void
	LANGUAGE sql AS $$ SELECT soak.mark('reader') $$;
	CREATE PROCEDURE steps_refresh() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO soak.marker VALUES ('step');
		COMMIT;
		PERFORM soak.mark('steps');
	END $$;
	CREATE FUNCTION broken_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO soak.marker VALUES ('broken');
		RAISE EXCEPTION 'broken';
	END $$;
	CREATE FUNCTION late_refresh() RETURNS void LANGUAGE sql AS $$
		INSERT INTO soak.marker VALUES ('late');
		INSERT INTO soak.unique_late VALUES (1), (1) $$;

	-- No relation, but a session that is not as it was
	CREATE FUNCTION bare_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('search_path', 'pg_catalog', false);
		PERFORM set_config('work_mem', '1MB', false);
		PERFORM pg_advisory_lock(pg_backend_pid());
		CREATE TEMPORARY TABLE soak_temporary (n int) ON COMMIT DROP;
	END $$;

	-- What all others wait for
	CREATE FUNCTION slow_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM count(*) FROM generate_series(1, (random() * 4000000)::int);
	END $$;

	-- What may get into a deadlock
	CREATE FUNCTION locks_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		LOCK TABLE soak.a IN EXCLUSIVE MODE;
		PERFORM count(*) FROM generate_series(1, 30000);
		LOCK TABLE soak.b IN EXCLUSIVE MODE;
	END $$;
	};
}

# A source, and tables that are filled from it by windows.  Rows are stamped up
# to window_delay before their transaction began.
sub _windows
{
	my $fold = sub {
		my ($type, $window) = @_;

		return qq{(after $type, until $type) RETURNS void LANGUAGE sql AS \$\$
			INSERT INTO soak.by_%1\$s AS t
			SELECT kind, count(*), sum(id::numeric * id) FROM soak.rows
			WHERE $window GROUP BY kind
			ON CONFLICT (kind) DO UPDATE
			SET n = t.n + excluded.n, ids = t.ids + excluded.ids \$\$;};
	};
	my $by_xid =
	  sprintf $fold->('xid8', 'by >= after AND by < until'), 'xid';
	my $by_time =
	  sprintf $fold->('timestamptz', 'at > after AND at <= until'), 'time';

	return qq{
	CREATE TABLE soak.rows (id bigint GENERATED ALWAYS AS IDENTITY, kind int,
		by xid8 DEFAULT pg_current_xact_id(), at timestamptz);
	CREATE INDEX ON soak.rows (by);
	CREATE INDEX ON soak.rows (at);
	CREATE TABLE soak.by_xid (kind int PRIMARY KEY, n bigint, ids numeric);
	CREATE TABLE soak.by_time (kind int PRIMARY KEY, n bigint, ids numeric);
	CREATE FUNCTION soak.write(kind int, n int DEFAULT 1) RETURNS void
	LANGUAGE sql VOLATILE AS \$\$
		INSERT INTO soak.rows (kind, at)
		SELECT kind, CASE g % 3 WHEN 0 THEN now() WHEN 1 THEN clock_timestamp()
			ELSE now() - interval '4.999 s' END
		FROM generate_series(1, n) AS g
	\$\$;
	CREATE FUNCTION soak.by_xid_refresh$by_xid
	CREATE FUNCTION soak.by_time_refresh$by_time
	GRANT ALL ON ALL TABLES IN SCHEMA soak TO PUBLIC;
	};
}

# What the events and the checks need
sub _tools
{
	return q{
	-- All that makes a materialized view, to make it again
	CREATE FUNCTION soak.definition(v regclass) RETURNS text
	LANGUAGE sql SET search_path = pg_catalog AS $$
		SELECT format('CREATE MATERIALIZED VIEW %s AS %s', v, pg_get_viewdef(v))
			|| coalesce((SELECT string_agg(pg_get_indexdef(indexrelid) || ';', ' ')
				FROM pg_index WHERE indrelid = v), '')
			|| format('ALTER MATERIALIZED VIEW %s OWNER TO refresher;'
				' GRANT SELECT ON %1$s TO PUBLIC', v)
	$$;
	} . is_different_sql('soak');
}

# What does not fit between the history and the views; nothing, if all is well.
sub compare_sql
{
	return q{
	WITH history AS MATERIALIZED (
		SELECT id, regexp_replace(view, '^public\.', '') AS view, outcome, xact
		FROM bigbrotr_refresher.history
	), written AS (
		SELECT view, xact FROM history WHERE outcome = 'refreshed'
	), content AS (
		SELECT 'fast' AS view, xact FROM fast
		UNION ALL SELECT 'plain', xact FROM plain
		UNION ALL SELECT 'concurrent', xact FROM concurrent
		UNION ALL SELECT 'steps', xact FROM steps
		UNION ALL SELECT 'reader', xact FROM reader
	)
	SELECT 'data without a row', view, xact FROM soak.marker AS m
	WHERE view <> 'step' AND xact >= (SELECT xact FROM soak.horizon)
		AND NOT EXISTS (SELECT FROM written AS w
			WHERE w.view = m.view AND w.xact = m.xact)
	UNION ALL
	SELECT 'row without data', view, xact FROM written AS w
	WHERE view IN ('fast', 'steps', 'reader')
		AND xact >= (SELECT xact FROM soak.horizon) AND NOT EXISTS (
			SELECT FROM soak.marker AS m WHERE m.view = w.view AND m.xact = w.xact)
	UNION ALL
	SELECT 'two rows of one refresh', view, xact FROM written
	WHERE xact >= (SELECT xact FROM soak.horizon)
	GROUP BY view, xact HAVING count(*) > 1
	UNION ALL
	SELECT 'the newest row is not that of the data', c.view, c.xact
	FROM content AS c LEFT JOIN (SELECT DISTINCT ON (h.view) h.view, h.xact
		FROM history AS h WHERE h.outcome = 'refreshed'
		ORDER BY h.view, h.id DESC) AS n USING (view)
	WHERE n.xact IS DISTINCT FROM c.xact
		AND greatest(c.xact, n.xact) >= (SELECT xact FROM soak.horizon)
	UNION ALL
	SELECT 'must have failed', view, xact FROM written
	WHERE view IN ('broken', 'late')};
}

# Where a target is not what the same aggregate gives over its source, up to its
# checkpoint, and where the history has a gap or an overlap; nothing, if all is
# well, at any moment.
sub windows_sql
{
	my $differences = sub {
		my ($target, $condition) = @_;

		return qq{
		SELECT format('%s %s: %s rows, not %s', '$target', kind, t.n, w.n)
		FROM (SELECT r.kind, count(*) AS n, sum(r.id::numeric * r.id) AS ids
			FROM soak.rows AS r JOIN bigbrotr_refresher.windows AS c
				ON c.target = '$target' AND $condition
			GROUP BY r.kind) AS w FULL JOIN $target AS t USING (kind)
		WHERE (t.n, t.ids) IS DISTINCT FROM (w.n, w.ids)};
	};

	return $differences->('soak.by_xid', 'r.by < c.until::xid8') . ' UNION ALL '
	  . $differences->('soak.by_time', 'r.at <= c.until::timestamptz') . q{
	UNION ALL
	SELECT format('%s %s: a window until %s, then one after %s',
		view, id, before, window_after)
	FROM (SELECT view, id, window_after,
			lag(window_until) OVER (PARTITION BY view ORDER BY id) AS before
		FROM bigbrotr_refresher.history
		WHERE window_until IS NOT NULL AND outcome <> 'failed'
			AND xact >= (SELECT xact FROM soak.horizon)) AS h
	WHERE before <> window_after};
}

# Do the windows not reach the last rows yet?
sub windows_behind_sql
{
	return q{
	SELECT EXISTS (SELECT FROM soak.rows) AND (
		SELECT count(*) < 2 OR bool_or(CASE c.kind
			WHEN 'xid8' THEN c.until::xid8 <= (SELECT r.by FROM soak.rows AS r
				ORDER BY r.by DESC LIMIT 1)
			ELSE c.until::timestamptz < (SELECT max(r.at) FROM soak.rows AS r) END)
		FROM bigbrotr_refresher.windows AS c)};
}

# What keeps them from it
sub windows_state_sql
{
	return q{
	SELECT * FROM bigbrotr_refresher.windows;
	SELECT 'rows', count(*), max(by::text::numeric), max(at), pg_current_snapshot(),
		clock_timestamp() FROM soak.rows;
	SELECT 'prepared', * FROM pg_prepared_xacts;
	SELECT 'running', pid, datname, backend_type, xact_start, backend_xid, backend_xmin
	FROM pg_stat_activity WHERE coalesce(backend_xid, backend_xmin) IS NOT NULL;
	SELECT * FROM bigbrotr_refresher.history WHERE view ~ 'soak.by_'
	ORDER BY id DESC LIMIT 6};
}

# The materialized views that are not what their query returns now, of those
# whose query returns the same again.
sub different_sql
{
	return q{
	SELECT coalesce(string_agg(c.oid::regclass::text, ', '), '')
	FROM pg_class AS c WHERE relkind = 'm' AND relname NOT IN
			('fast', 'plain', 'concurrent', 'steps', 'reader', 'event_stats')
		AND soak.is_different(c.oid)};
}

# Raises an error if an index of a materialized view, or its table, is broken.
sub broken_sql
{
	return q{
	SELECT count(bt_index_check(x.indexrelid, true))
	FROM pg_index AS x JOIN pg_class AS v ON v.oid = x.indrelid
	JOIN pg_class AS i ON i.oid = x.indexrelid
	JOIN pg_am AS a ON a.oid = i.relam
	WHERE v.relkind = 'm' AND a.amname = 'btree' AND x.indisvalid;
	SELECT format('%s (%s,%s): %s', v.oid::regclass, h.blkno, h.offnum, h.msg)
	FROM pg_class AS v, verify_heapam(v.oid) AS h WHERE v.relkind = 'm'};
}

# load_scripts(): by name, the database, the program, the seconds until it runs
# again, and what it runs.  One that changes nothing that is checked goes on
# while the load pauses.
sub load_scripts
{
	my $asked = q{
	SELECT database, pid, state, refreshing FROM bigbrotr_refresher.status();
	SELECT * FROM bigbrotr_refresher.views;
	SELECT * FROM bigbrotr_refresher.history ORDER BY started_at DESC LIMIT 20;
	SELECT * FROM bigbrotr_refresher.timeline();
	};
	my $calls = q{
	SELECT paused FROM soak.control \gset
	\if :paused
	\else
	SELECT soak.write(1, 3);
	SET ROLE writer;
	SELECT * FROM bigbrotr_refresher.run(true);
	RESET ROLE;
	SELECT bigbrotr_refresher.refresh('fast');
	SELECT bigbrotr_refresher.refresh('plain');
	SELECT bigbrotr_refresher.refresh('concurrent');
	SELECT bigbrotr_refresher.refresh('steps');
	SELECT bigbrotr_refresher.refresh('soak."Odd; name"');
	SELECT bigbrotr_refresher.refresh('soak.by_xid');
	BEGIN;
	SELECT soak.write(2);
	SELECT bigbrotr_refresher.refresh('soak.by_time');
	COMMIT;
	\endif
	};

	return (
		events => [
			'bigbrotr', 'pgbench -n -T 3 -R 15 -c 1 -U writer',
			0.3, _script_of_events()
		],
		rows => [
			'bigbrotr', 'pgbench -n -T 3 -R 20 -c 4',
			0.3, _script_of_rows()
		],
		documents => [
			'bigbrotr', 'pgbench -n -T 2 -R 5 -c 1', 0.4,
			_script_of_documents()
		],
		readers => [
			'bigbrotr', 'psql -Xq', 0.4,
			join '',
			"LISTEN refreshed;\n",
			(map { "SELECT count(*) FROM $_;\n" } @thirteen),
			"SELECT xact FROM plain, soak.nothing;\n",
			$asked
		],
		callers => [ 'bigbrotr', 'psql -Xq', 1, $calls ],
		refreshers => [
			'bigbrotr', 'psql -Xq',
			1, "SELECT bigbrotr_refresher.refresh('kind_counts');\n"
			  . "REFRESH MATERIALIZED VIEW CONCURRENTLY network_stats;\n"
			  . 'REFRESH MATERIALIZED VIEW CONCURRENTLY soak."Odd; name";' . "\n"
		],
		shoppers => [ 'shop', 'psql -Xq', 1.5, $calls . $asked ]);
}

# Events come and go, as many as there were.
sub _script_of_events
{
	return q{
	SELECT NOT paused AS go FROM soak.control \gset
	\if :go
	\set n random(1, 1000000000)
	BEGIN;
	INSERT INTO event (id, pubkey, created_at, kind, tags, tagvalues, content, sig)
	SELECT sha256(convert_to(format('soak %s %s', :n, g), 'UTF8')),
		sha256(convert_to('pubkey ' || :n % 40, 'UTF8')),
		1700000000 + :n % 5000000, (ARRAY[0, 1, 3, 7, 10002, 30023])[1 + :n % 6],
		'[["d", "soak"]]', '{soak}', 'soak', '\x00'
	FROM generate_series(1, 5) AS g ON CONFLICT DO NOTHING;
	INSERT INTO event_relay SELECT e.id, r.url, 1700000000
	FROM event AS e, (SELECT url FROM relay ORDER BY url OFFSET :n % 15 LIMIT 3) AS r
	WHERE e.id IN (SELECT sha256(convert_to(format('soak %s %s', :n, g), 'UTF8'))
		FROM generate_series(1, 5) AS g) ON CONFLICT DO NOTHING;
	DELETE FROM event WHERE id IN (SELECT id FROM event
		WHERE id >= sha256(convert_to(:n::text, 'UTF8')) ORDER BY id LIMIT 5);
	COMMIT;
	\endif
	};
}

# Windows end while these transactions are on their way.
sub _script_of_rows
{
	return q{
	SELECT NOT paused AS go FROM soak.control \gset
	\if :go
	\set kind random(3, 6)
	\set pause random(1, 300)
	BEGIN;
	SELECT soak.write(:kind);
	SAVEPOINT a;
	SELECT soak.write(7);
	ROLLBACK TO a;
	\sleep :pause ms
	SELECT soak.write(:kind, 3);
	COMMIT;
	\endif
	};
}

sub _script_of_documents
{
	return q{
	SELECT NOT paused AS go FROM soak.control \gset
	\if :go
	\set n random(1, 1000)
	BEGIN;
	DELETE FROM metadata WHERE id = sha256(convert_to('soak ' || :n % 50, 'UTF8'));
	INSERT INTO metadata (id, type, data)
	SELECT sha256(convert_to('soak ' || :n % 50, 'UTF8')), 'nip11_info',
		jsonb_build_object('data', jsonb_build_object('name', 'soak',
			'software', 'soak ' || :n % 7, 'version', :n::text,
			'supported_nips', jsonb_build_array(1, :n % 90)));
	INSERT INTO relay_metadata (relay_url, generated_at, metadata_type, metadata_id)
	SELECT url, extract(epoch FROM now())::bigint, 'nip11_info',
		sha256(convert_to('soak ' || :n % 50, 'UTF8'))
	FROM relay ORDER BY url OFFSET :n % 15 LIMIT 2
	ON CONFLICT (relay_url, generated_at, metadata_type)
		DO UPDATE SET metadata_id = excluded.metadata_id;
	INSERT INTO soak.a SELECT :n WHERE :n NOT IN (SELECT n FROM soak.a);
	DELETE FROM soak.a WHERE n = :n * 7 % 1000;
	COMMIT;
	\endif
	};
}

1;
