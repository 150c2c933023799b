--
-- A cycle drawn as bars
--
SET client_min_messages = warning;
CREATE EXTENSION bigbrotr_refresher;
SET timezone = 'UTC';

-- Nothing yet
SELECT * FROM bigbrotr_refresher.timeline();

INSERT INTO bigbrotr_refresher.history
	(view, cycle_start, cycle_views, cycle_whole, started_at, duration, outcome,
	 failures, wal_bytes, shared_blks_hit, shared_blks_read, temp_blks_read,
	 temp_blks_written)
SELECT view, c, count(*) OVER (PARTITION BY c), false, c + "start"::interval,
	duration::interval, outcome, 0, 0, 0, 0, 0, 0
FROM (VALUES
	-- one after the other, the last one before
	('2026-03-01 12:00:00+00'::timestamptz, 'first', '0 s', '10 s', 'refreshed'),
	('2026-03-01 12:00:00+00', 'second', '10 s', '20 s', 'refreshed'),
	('2026-03-01 12:00:00+00', 'third', '30 s', '10 s', 'failed'),
	('2026-03-01 12:00:00+00', '"Odd, ""name"""', '40 s', '10 s', 'skipped'),
	-- some at once, some too short to see, and one inserted out of order
	('2026-03-02 12:00:00+00', 'short', '200 s', '1 ms', 'refreshed'),
	('2026-03-02 12:00:00+00', 'long', '0 s', '200 s', 'refreshed'),
	('2026-03-02 12:00:00+00', 'beside', '2 s', '100 s', 'refreshed'),
	('2026-03-02 12:00:00+00', 'nothing', '102 s', '0 s', 'skipped'),
	('2026-03-02 12:00:00+00', 'end', '199.999 s', '1 us', 'failed'),
	-- a cycle of one view that took no time at all, and one over midnight
	('2026-03-03 12:00:00+00', 'only', '0 s', '0 s', 'refreshed'),
	('2026-03-04 23:59:59+00', 'night', '0 s', '25 hours', 'refreshed')
) AS v(c, view, "start", duration, outcome);
-- Refreshed outside of a cycle, later than all
INSERT INTO bigbrotr_refresher.history
	(view, started_at, duration, outcome, failures, wal_bytes,
	 shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written)
VALUES ('alone', '2026-03-09 12:00:00+00', '1 s', 'refreshed', 0, 0, 0, 0, 0, 0);

SELECT * FROM bigbrotr_refresher.timeline('2026-03-01 12:00:00+00');
SELECT * FROM bigbrotr_refresher.timeline('2026-03-02 12:00:00+00');
SELECT * FROM bigbrotr_refresher.timeline('2026-03-03 12:00:00+00');

-- By default the last cycle of all views; if there is none, the last one
SELECT * FROM bigbrotr_refresher.timeline();
SELECT count(*) FROM bigbrotr_refresher.timeline(NULL);
UPDATE bigbrotr_refresher.history SET cycle_whole = true
WHERE cycle_start <= '2026-03-02 12:00:00+00';
SELECT * FROM bigbrotr_refresher.timeline();
-- The last is the one that was written last, wherever the clock stood.
INSERT INTO bigbrotr_refresher.history
	(view, cycle_start, cycle_views, cycle_whole, started_at, duration, outcome,
	 failures, wal_bytes, shared_blks_hit, shared_blks_read, temp_blks_read,
	 temp_blks_written)
VALUES ('early', '2026-02-01', 1, true, '2026-02-01', '1 s', 'refreshed',
	0, 0, 0, 0, 0, 0);
SELECT view FROM bigbrotr_refresher.timeline();

-- No such cycle
SELECT * FROM bigbrotr_refresher.timeline('2026-03-01 12:00:01+00');

-- No bar is longer than the picture.
SELECT h.cycle_start, max(length(t.bar)), min(length(t.bar)),
	   min(length(btrim(t.bar)))
FROM (SELECT DISTINCT cycle_start FROM bigbrotr_refresher.history) AS h,
	bigbrotr_refresher.timeline(h.cycle_start) AS t
WHERE h.cycle_start IS NOT NULL
GROUP BY h.cycle_start ORDER BY h.cycle_start;

-- What stands in the caller's way is not used.
CREATE SCHEMA shadow;
CREATE TABLE shadow.history (view text);
CREATE FUNCTION shadow.max(timestamptz) RETURNS timestamptz
LANGUAGE sql AS 'SELECT NULL::timestamptz';
SET search_path = shadow, pg_catalog;
SELECT view FROM bigbrotr_refresher.timeline();
RESET search_path;

DROP SCHEMA shadow CASCADE;
DROP EXTENSION bigbrotr_refresher;
