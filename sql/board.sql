--
-- The board: one page that shows all there is, whatever is in names and errors
--
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE EXTENSION bigbrotr_refresher;
CREATE ROLE regress_nobody;
CREATE ROLE regress_monitor IN ROLE pg_monitor;
CREATE SCHEMA board;
SET bigbrotr_refresher.views = 'board.*';
SET bigbrotr_refresher.interval = '1d';
SET timezone = 'UTC';

-- Without XML in the server, nothing can be said of that.
CREATE FUNCTION is_well_formed(document text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	RETURN xmlparse(document document) IS DOCUMENT;
EXCEPTION WHEN feature_not_supported THEN
	RETURN true;
END $$;
CREATE FUNCTION found(pattern text, page text DEFAULT bigbrotr_refresher.board())
RETURNS SETOF text LANGUAGE sql AS
$$ SELECT found[1] FROM regexp_matches(page, pattern, 'g') AS found $$;

-- ---- texts -------------------------------------------------------------------

SELECT bigbrotr_refresher.board_text(t) FROM (VALUES
	('plain'), (''), ('a & b'), ('<script>alert("1")</script>'), ($$'quoted'$$),
	(']]>'), ('<!--'), (E'two\nlines\tand \x01\x1b\x7f'), (U&'caf\00e9 \4e2d\+01f600'),
	(U&'\202e override \2066 isolate \2028 \0085 \fffe \fdd0 \+10ffff'), ('&amp;'), ('%s %1$s')) AS v(t);
-- No character makes a page that is none, or is not there.
SELECT count(*) AS chunks, bool_and(is_well_formed('<x>' || t || '</x>')) AS well_formed,
	bool_and(t !~ '[^ -~]') AS ascii
FROM (SELECT bigbrotr_refresher.board_text(string_agg(chr(i), '' ORDER BY i)) AS t
	FROM generate_series(1, 69632) AS i
	WHERE i NOT BETWEEN 55296 AND 57343 GROUP BY i / 256) AS t;
SELECT span, bigbrotr_refresher.board_span(span::interval) FROM unnest(ARRAY['0', '999 us', '1 ms',
	'999 ms', '1 s', '9.94 s', '59.9 s', '1 min', '9 min 59 s', '10 min 1 s', '1 h', '9 h 59 min 59 s',
	'10 h 1 min', '1 d', '1 d 1 h', '30 d 1 h', '-5 s']) AS span;

-- ---- nothing ------------------------------------------------------------------

SELECT regexp_replace(bigbrotr_refresher.board(), '<(style|footer).*</\1>|[-0-9]{10} [0-9:]{8}', '', 'g');
SELECT is_well_formed(bigbrotr_refresher.board());

-- ---- a cycle, and what came before -----------------------------------------------

CREATE TABLE name AS
SELECT name, row_number() OVER () AS n FROM unnest(ARRAY['plain', '<script>alert(1)</script>',
	'"''&amp;', ']]>', E'new\nline\x01', U&'\202ertl', U&'caf\00e9\+01f600', 'a-very-long-name-that-has-no-blank-where-it-could-be-broken-55']) AS name;
SELECT format('CREATE MATERIALIZED VIEW board.%I AS SELECT 1 AS x', name) FROM name \gexec
CREATE TABLE label AS
SELECT p.view, n.n FROM bigbrotr_refresher.plan() AS p JOIN name AS n
ON p.view = 'board.' || quote_ident(n.name);
SELECT count(*) FROM label;

-- Two at once, all of an hour ago; the fifth view was skipped, the sixth failed.
CREATE TABLE cycle AS SELECT now() - interval '1 hour' AS start;
CREATE FUNCTION attempt(view text, cycle timestamptz, after interval, duration interval, outcome text, error text,
	whole boolean DEFAULT true)
RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO bigbrotr_refresher.history (view, cycle_start, cycle_views, cycle_whole, started_at, duration, outcome, method, sqlstate, error, failures,
		wal_bytes, shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written, rows_inserted, rows_updated, rows_deleted)
	VALUES (view, cycle, 8, whole, cycle + after, duration, outcome, 'merge', CASE WHEN error <> '' THEN 'XX<&>'::text END, error, 0,
		0, 0, 0, 0, 0, 1000, 200, 30) RETURNING id;
$$;
SELECT count(attempt(view, start - d * interval '1 day', n * interval '1 s', '1 s', CASE WHEN n = d THEN 'failed' ELSE 'refreshed' END, 'x'))
FROM label, cycle, generate_series(1, 9) AS d;
SELECT count(attempt(view, start, (n - 1) / 2 * interval '1 s', '1 s', CASE n WHEN 5 THEN 'skipped' WHEN 6 THEN 'failed' ELSE 'refreshed' END,
	CASE n WHEN 6 THEN E'<img src=x onerror=alert(1)> "]]>" & \n' || U&'\202e' END) ORDER BY n)
FROM label, cycle;
-- Later, a cycle of only some: it is not drawn.
SELECT count(attempt(view, start + interval '1 s', '-1 s', '1 s', 'refreshed', NULL, false)) FROM label, cycle WHERE n = 1;
INSERT INTO bigbrotr_refresher.view_state (view, cycle_start, schedule_start, data_as_of, failures, last_attempt, last_success,
	duration, outcome, sqlstate, error)
SELECT h.view, h.cycle_start, h.cycle_start, CASE WHEN l.n <> 6 THEN h.started_at END, (h.outcome = 'failed')::int, h.started_at,
	CASE WHEN l.n <> 6 THEN h.started_at END, h.duration, h.outcome, h.sqlstate, h.error
FROM label AS l JOIN bigbrotr_refresher.history AS h ON h.view = l.view AND h.cycle_start = (SELECT start FROM cycle);
-- The seventh is late.
UPDATE bigbrotr_refresher.view_state SET data_as_of = now() - interval '49 hours'
WHERE view = (SELECT view FROM label WHERE n = 7);

CREATE TABLE page AS SELECT bigbrotr_refresher.board() AS page;
SELECT is_well_formed(page) AS well_formed, page ~ '[^\n -~]' AS beyond_ascii,
	regexp_count(page, '(?i)<script|<img|<link|javascript:|https?://(?!www.w3.org/)|<[^>]* on[a-z]+=') AS harmful,
	regexp_count(page, '&(?!(amp|lt|gt|quot|#39|#[0-9]+);)') AS stray
FROM page;
-- One bar per attempt of the cycle, one row per view, one cell per view and day
SELECT regexp_count(page, '<svg class="bar ') AS bars, regexp_count(page, 'class="lane"') AS lanes,
	regexp_count(page, 'class="view"') AS views, regexp_count(page, 'class="failure"') AS failures,
	regexp_count(page, 'class="cell"') AS cells, regexp_count(page, '<rect class="failed" x=') AS failed_cells,
	regexp_count(page, '<section') AS sections, regexp_count(page, '<h1') AS titles
FROM page;
SELECT found('<th role="rowheader" scope="row"><bdi>([^<]*)</bdi>', page), found('<span class="state [^"]*">([^<]*)</span>', page) FROM page;
SELECT found('(<svg class="bar [^>]*><title>[^<]*)</title>', page) FROM page;
SELECT found('<li class="failure">(.*?)</li>', page) FROM page;
SELECT found('>(Skipped, .*?)</p>', page) FROM page;
SELECT found('<div class="\w+"><dt>(?:Views|Failing|Late)</dt><dd>([^<]*)</dd>', page) FROM page;
SELECT DISTINCT found('class="number">([0-9,]+)<', page) FROM page;
SELECT regexp_replace(found('<dl class="next">(.*?)</dl>', page), '[-0-9]{10} [0-9:]{8}', '') FROM page;

-- A table that is filled by windows
CREATE TABLE board.folded (x xid8);
CREATE FUNCTION board.folded_refresh(after xid8, until xid8) RETURNS void LANGUAGE sql AS 'INSERT INTO board.folded VALUES (until)';
SET bigbrotr_refresher.views = 'board.*, board.folded';
SELECT FROM bigbrotr_refresher.refresh('board.folded');
SELECT regexp_replace(found('<li class="window">(.*?)</li>'), '[0-9]+', 'N', 'g');
SELECT is_well_formed(bigbrotr_refresher.board());

-- Lanes: to a lane goes what one process can have done, and none is free meanwhile.
SELECT count(attempt('v' || n, '2026-03-01 12:00+00', after::interval, took::interval, 'refreshed', NULL))
FROM (VALUES (1, '0 s', '10 s'), (2, '1 s', '3 s'), (3, '2 s', '9 s'), (4, '4 s', '1 s'), (5, '5.0002 s', '0'), (6, '10 s', '1 s'),
	(7, '10.5 s', '1 s')) AS v(n, after, took);
SELECT view, lane FROM bigbrotr_refresher.board_lanes('2026-03-01 12:00+00');
DELETE FROM bigbrotr_refresher.history WHERE view ~ '^v';

-- What the session has set changes nothing but the times.
CREATE FUNCTION page_of(settings text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE settings;
	RETURN bigbrotr_refresher.board();
END $$;
SELECT is_well_formed(page) AS well_formed, page ~ '[^\n -~]' AS beyond_ascii, regexp_count(page, '<svg class="bar ') AS bars,
	found('</h1><p>[-0-9: ]*([^<]*)</p>', page) AS zone
FROM page_of($$
	SET timezone = '<a&b>-3';
	SET intervalstyle = 'postgres_verbose';
	SET datestyle = 'SQL, DMY';
	SET bytea_output = 'escape';
	SET extra_float_digits = -15$$) AS page;
SET timezone = 'UTC'; RESET intervalstyle; RESET datestyle; RESET bytea_output; RESET extra_float_digits;
CREATE SCHEMA shadow;
CREATE FUNCTION shadow.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE OPERATOR shadow.= (LEFTARG = text, RIGHTARG = text, FUNCTION = shadow.trap);
CREATE OPERATOR shadow.!~ (LEFTARG = text, RIGHTARG = text, FUNCTION = shadow.trap);
CREATE FUNCTION shadow.replace(text, text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION shadow.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE TABLE shadow.history (view text);
CREATE FUNCTION shadow.board_text(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
BEGIN READ ONLY;
SET LOCAL search_path = shadow, pg_catalog, public;
SELECT pg_catalog.regexp_count(bigbrotr_refresher.board(), '<svg class="bar ') AS bars;
COMMIT;

-- ---- a long history ----------------------------------------------------------

-- Of 100,000 rows it reads the last 20,000.
INSERT INTO bigbrotr_refresher.history (view, cycle_start, cycle_views, cycle_whole, started_at, duration, outcome, method, failures,
	wal_bytes, shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written)
SELECT 'old', c.at, 8, NULL, c.at - interval '1 day', '1 s', 'refreshed', 'merge', 0, 0, 0, 0, 0, 0
FROM cycle, generate_series(1, 100000) AS n, LATERAL (SELECT start - n * interval '10 s' AS at) AS c;
ANALYZE bigbrotr_refresher.history;
CREATE FUNCTION rows_read() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM (
		SELECT 'bigbrotr_refresher.history'::regclass::oid AS oid
		UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = 'bigbrotr_refresher.history'::regclass) AS r
$$;
BEGIN;
SELECT rows_read() AS before \gset
SELECT regexp_count(bigbrotr_refresher.board(), 'class="view"') AS views;
SELECT rows_read() - :before BETWEEN 20000 AND 60000 AS few;
COMMIT;
DROP FUNCTION rows_read;

-- ---- who may ------------------------------------------------------------------

-- What it is made of
SELECT count(*) > 5 AS some, bool_and(EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')) AS members,
	bool_and(obj_description(p.oid, 'pg_proc') IS NOT NULL) AS described, bool_or(p.prosecdef) AS definer,
	bool_or(has_function_privilege('regress_nobody', p.oid, 'EXECUTE')) AS everybody,
	bool_and(has_function_privilege('regress_monitor', p.oid, 'EXECUTE')) AS monitor
FROM pg_proc AS p
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND p.proname ~ '^board';
SET ROLE regress_monitor;
SELECT regexp_count(bigbrotr_refresher.board(), '<svg class="bar ') AS bars;
SET ROLE regress_nobody;
SELECT bigbrotr_refresher.board();
RESET ROLE;
GRANT USAGE ON SCHEMA bigbrotr_refresher TO regress_nobody;
SET ROLE regress_nobody;
SELECT bigbrotr_refresher.board();
RESET ROLE;
REVOKE USAGE ON SCHEMA bigbrotr_refresher FROM regress_nobody;

DROP SCHEMA shadow CASCADE;
DROP FUNCTION page_of, attempt, found, is_well_formed;
DROP TABLE page, cycle, label;
DROP TABLE name;
DROP SCHEMA board CASCADE;
DROP EXTENSION bigbrotr_refresher;
DROP ROLE regress_nobody, regress_monitor;
