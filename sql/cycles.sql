--
-- A row for each cycle
--
SET client_min_messages = warning;
CREATE EXTENSION bigbrotr_refresher;
SET timezone = 'UTC';

-- Nothing yet
SELECT * FROM bigbrotr_refresher.cycles;

CREATE PROCEDURE attempt(cycle timestamptz, views integer, whole boolean,
	view text, "start" interval, duration interval, outcome text)
LANGUAGE sql BEGIN ATOMIC
	INSERT INTO bigbrotr_refresher.history
		(view, cycle_start, cycle_views, cycle_whole, started_at, duration,
		 outcome, failures, wal_bytes, shared_blks_hit, shared_blks_read,
		 temp_blks_read, temp_blks_written)
	VALUES (view, cycle, views, whole, cycle + "start", duration, outcome,
		0, 0, 0, 0, 0, 0);
END;

-- All views, of which one begins late and one ends late
CALL attempt('2026-03-01 12:00', 4, true, 'a', '1 s', '90 s', 'refreshed');
CALL attempt('2026-03-01 12:00', 4, true, 'b', '2 s', '3 s', 'failed');
CALL attempt('2026-03-01 12:00', 4, true, 'c', '5 s', '1 ms', 'skipped');
CALL attempt('2026-03-01 12:00', 4, true, 'd', '80 s', '1 s', 'refreshed');
-- Some: a retry
CALL attempt('2026-03-01 12:05', 1, false, 'b', '0', '3 s', 'refreshed');
-- A backlog of windows, which is folded, and one of which the last part fails
CALL attempt('2026-03-01 13:00', 2, false, 'w', '0', '1 s', 'refreshed');
CALL attempt('2026-03-01 13:00', 2, false, 'w', '1 s', '1 s', 'refreshed');
CALL attempt('2026-03-01 13:00', 2, false, 'x', '2 s', '1 s', 'refreshed');
CALL attempt('2026-03-01 13:00', 2, false, 'x', '3 s', '1 s', 'failed');
-- Broken off after two of four views
CALL attempt('2026-03-02 12:00', 4, true, 'a', '1 s', '2 s', 'refreshed');
CALL attempt('2026-03-02 12:00', 4, true, 'b', '3 s', '4 s', 'refreshed');
-- By an older clock, written last
CALL attempt('2026-02-01 12:00', 1, true, 'a', '0', '0', 'skipped');
-- Outside of any cycle
INSERT INTO bigbrotr_refresher.history
	(view, started_at, duration, outcome, failures, wal_bytes,
	 shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written)
VALUES ('alone', '2026-03-09 12:00:00+00', '1 s', 'refreshed', 0, 0, 0, 0, 0, 0);

SELECT * FROM bigbrotr_refresher.cycles;
SELECT cycle_start FROM bigbrotr_refresher.cycles
WHERE is_whole AND views = refreshed + failed + skipped;

-- The last cycles of a long history are read by the index, without the others.
INSERT INTO bigbrotr_refresher.history
	(view, cycle_start, cycle_views, cycle_whole, started_at, duration,
	 outcome, failures, wal_bytes, shared_blks_hit, shared_blks_read,
	 temp_blks_read, temp_blks_written)
SELECT 'v' || v, c, 13, true, c + v * interval '1 s', '1 s', 'refreshed',
	0, 0, 0, 0, 0, 0
FROM generate_series('2026-04-01'::timestamptz, '2026-05-01', '30 min') AS c,
	generate_series(1, 13) AS v;
ANALYZE bigbrotr_refresher.history;
CREATE FUNCTION rows_read(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
	RETURN (SELECT sum((node ->> 'Actual Rows')::numeric)::bigint
		FROM jsonb_path_query(plan::jsonb,
			'strict $.** ? (@."Relation Name" == "history")') AS node);
END $$;
SELECT count(*) AS rows FROM bigbrotr_refresher.history;
SELECT rows_read('SELECT * FROM bigbrotr_refresher.cycles
	ORDER BY cycle_start DESC LIMIT 10') BETWEEN 130 AND 150 AS few;
SELECT rows_read($$SELECT * FROM bigbrotr_refresher.cycles
	WHERE cycle_start = '2026-03-01 12:00'$$) AS of_one_cycle;
SELECT rows_read('SELECT * FROM bigbrotr_refresher.timeline()') < 100 AS few;
SELECT cycle_start, views, refreshed, attempts, is_whole
FROM bigbrotr_refresher.cycles ORDER BY cycle_start DESC LIMIT 2;

-- What stands in the caller's way is not used.
CREATE SCHEMA shadow;
CREATE TABLE shadow.history (view text);
CREATE FUNCTION shadow.max(timestamptz) RETURNS timestamptz
LANGUAGE sql AS 'SELECT NULL::timestamptz';
SET search_path = shadow, pg_catalog;
SELECT duration FROM bigbrotr_refresher.cycles LIMIT 1;
RESET search_path;

DROP SCHEMA shadow CASCADE;
DROP PROCEDURE attempt;
DROP FUNCTION rows_read;
DROP EXTENSION bigbrotr_refresher;
