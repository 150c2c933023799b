--
-- Windows: which function is used, where the first one starts, who may say so
--
\pset format unaligned
\pset tuples_only on
\pset null -
SET client_min_messages = warning;
CREATE EXTENSION bigbrotr_refresher;
SELECT name, setting, unit, vartype, min_val, max_val FROM pg_settings WHERE name ~ '^bigbrotr_refresher.*window' ORDER BY name;
CREATE SCHEMA w;
CREATE TABLE w.source (id int GENERATED ALWAYS AS IDENTITY, kind int,
	by xid8 DEFAULT pg_current_xact_id());

--
-- The method
--
CREATE TABLE w.by_xid (kind int, n bigint);
CREATE FUNCTION w.by_xid_refresh(after xid8, until xid8) RETURNS bigint
LANGUAGE sql AS $$
	INSERT INTO w.by_xid
	SELECT kind, count(*) FROM w.source WHERE by >= after AND by < until
	GROUP BY kind;
	SELECT count(*) FROM w.by_xid
$$;
CREATE TABLE w.by_second (after bigint, until bigint);
CREATE FUNCTION w.by_second_refresh(after bigint, until bigint) RETURNS void
LANGUAGE sql AS 'INSERT INTO w.by_second VALUES (after, until)';
CREATE TABLE w.by_time (after timestamptz, until timestamptz) PARTITION BY RANGE (until);
CREATE TABLE w.by_time_all PARTITION OF w.by_time DEFAULT;
CREATE PROCEDURE w.by_time_refresh(after timestamptz, until timestamptz)
LANGUAGE sql AS 'INSERT INTO w.by_time VALUES (after, until)';
CREATE FUNCTION w.alone_refresh(bigint, bigint) RETURNS int LANGUAGE sql AS 'SELECT 1';

-- One without arguments comes first.
CREATE TABLE w.has_both ();
CREATE FUNCTION w.has_both_refresh() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.has_both_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';

-- What a table was made by must not be guessed.
CREATE TABLE w.ambiguous ();
CREATE FUNCTION w.ambiguous_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE w.ambiguous_refresh(bigint, bigint) LANGUAGE sql AS '';
CREATE FUNCTION w.ambiguous_refresh(timestamptz, timestamptz) RETURNS void LANGUAGE sql AS '';

-- These do not count.
CREATE TABLE w.others ();
CREATE FUNCTION w.others_refresh(int, int) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.others_refresh(bigint, timestamptz) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.others_refresh(bigint, bigint, int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.others_refresh(VARIADIC bigint[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.others_refresh(timestamp, timestamp) RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW w.matview AS SELECT 1 AS x;
CREATE FUNCTION w.matview_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';

-- Nobody's function is in the way of one that is trusted.
CREATE ROLE regress_weak;
CREATE TABLE w.trusted ();
CREATE FUNCTION w.trusted_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.trusted_refresh() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.trusted_refresh(bigint, bigint) RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION w.trusted_refresh() OWNER TO regress_weak;
ALTER FUNCTION w.trusted_refresh(bigint, bigint) OWNER TO regress_weak;
CREATE TABLE w.distrusted ();
CREATE FUNCTION w.distrusted_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION w.distrusted_refresh(xid8, xid8) OWNER TO regress_weak;

ALTER SYSTEM SET bigbrotr_refresher.views = 'w.by_xid, w.by_second, w.by_time, w.alone, w.has_both, w.ambiguous, w.others, w.matview, w.trusted, w.distrusted';
SELECT pg_reload_conf() \gset
\c -
SET client_min_messages = warning;
SELECT view, method, error, window_after, window_until, window_backlog
FROM bigbrotr_refresher.plan();
SELECT bigbrotr_refresher.refresh('w.ambiguous');
\set VERBOSITY terse
SELECT bigbrotr_refresher.refresh('w.distrusted');
\set VERBOSITY default

--
-- By transaction
--
INSERT INTO w.source (kind) VALUES (1), (1), (2);
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT * FROM w.by_xid ORDER BY kind;
SELECT target, kind, xmin::text = written_by::text AS same FROM bigbrotr_refresher.windows;
SELECT outcome, method, window_after, window_until = (SELECT until FROM bigbrotr_refresher.windows) AS same,
	rows_changed, sqlstate
FROM bigbrotr_refresher.history;
-- What its own transaction has written comes later, in whatever subtransaction.
TRUNCATE w.by_xid;
BEGIN;
SAVEPOINT a;
INSERT INTO w.source (kind) VALUES (3);
RELEASE a;
SELECT bigbrotr_refresher.refresh('w.by_xid');
SAVEPOINT b;
INSERT INTO w.source (kind) VALUES (4);
SELECT bigbrotr_refresher.refresh('w.by_xid');
RELEASE b;
SELECT bigbrotr_refresher.refresh('w.by_xid');
COMMIT;
SELECT * FROM w.by_xid ORDER BY kind;
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT * FROM w.by_xid ORDER BY kind;
-- What is rolled back was not folded.
TRUNCATE w.by_xid;
INSERT INTO w.source (kind) VALUES (5);
BEGIN;
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT * FROM w.by_xid;
ROLLBACK;
DO $$
BEGIN
	PERFORM bigbrotr_refresher.refresh('w.by_xid');
	RAISE EXCEPTION 'undo';
EXCEPTION WHEN raise_exception THEN
	NULL;
END
$$;
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT * FROM w.by_xid;
-- The row may be frozen and moved.
VACUUM (FREEZE, FULL) bigbrotr_refresher.windows;
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT * FROM w.by_xid;
-- No window by an old snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT bigbrotr_refresher.refresh('w.by_xid');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT bigbrotr_refresher.refresh('w.by_time');
ROLLBACK;
BEGIN READ ONLY;
SELECT bigbrotr_refresher.refresh('w.by_xid');
ROLLBACK;

--
-- By time
--
SELECT bigbrotr_refresher.refresh('w.by_second');
SELECT after, until BETWEEN extract(epoch FROM now()) - 70 AND extract(epoch FROM now()) - 60 AS until
FROM w.by_second;
SELECT bigbrotr_refresher.refresh('w.by_time');
SELECT after, until BETWEEN now() - interval '70 s' AND now() - interval '60 s' AS until
FROM w.by_time;
SELECT bigbrotr_refresher.refresh('w.by_time');
SELECT count(*) FROM w.by_time AS a JOIN w.by_time AS b ON b.after = a.until;
SELECT target, kind, looked_at < folded_at AS looked, prepared FROM bigbrotr_refresher.windows
WHERE kind <> 'xid8' ORDER BY target;
SELECT view, h.window_until = n.until AS same, data_as_of <= now() - interval '60 s' AS as_of
FROM bigbrotr_refresher.history AS h JOIN bigbrotr_refresher.windows AS n ON n.target = h.view
WHERE h.id IN (SELECT max(id) FROM bigbrotr_refresher.history GROUP BY view) AND kind <> 'xid8'
ORDER BY view;
-- Whatever the settings, the checkpoint reads the same.
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'SQL, DMY';
SELECT bigbrotr_refresher.refresh('w.by_time');
RESET TimeZone;
RESET DateStyle;
SELECT count(*) FROM w.by_time AS a JOIN w.by_time AS b ON b.after = a.until;
-- A procedure cannot COMMIT.
CREATE OR REPLACE PROCEDURE w.by_time_refresh(after timestamptz, until timestamptz)
LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
SELECT bigbrotr_refresher.refresh('w.by_time');

--
-- set_window()
--
\set VERBOSITY default
SELECT bigbrotr_refresher.refresh('w.alone');
SELECT bigbrotr_refresher.set_window('w.alone', '0');
SELECT bigbrotr_refresher.refresh('w.alone');
SELECT window_after, rows_changed FROM bigbrotr_refresher.history WHERE view = 'w.alone';
SELECT bigbrotr_refresher.set_window('w.by_xid', '0');
SELECT until FROM bigbrotr_refresher.windows WHERE target = 'w.by_xid';
SELECT bigbrotr_refresher.set_window(NULL, '0');
SELECT bigbrotr_refresher.set_window('w.by_xid', NULL);
SELECT bigbrotr_refresher.set_window('w.by_xid', 'now');
SELECT bigbrotr_refresher.set_window('w.by_xid', '');
SELECT bigbrotr_refresher.set_window('w.by_xid', '-1');
SELECT bigbrotr_refresher.set_window('w.by_second', '2026-01-01');
SELECT bigbrotr_refresher.set_window('w.by_time', 'soon');
SELECT bigbrotr_refresher.set_window('w.has_both', '0');
SELECT bigbrotr_refresher.set_window('w.matview', '0');
SELECT bigbrotr_refresher.set_window('w.others', '0');
SELECT bigbrotr_refresher.set_window('w.ambiguous', '0');
SELECT bigbrotr_refresher.set_window('w.nothing', '0');
SELECT bigbrotr_refresher.set_window('w.*', '0');
\set VERBOSITY terse
SELECT bigbrotr_refresher.set_window('w.by_xid', '9223372036854775807');
SELECT bigbrotr_refresher.set_window('w.by_xid', '18446744073709551615');
SELECT bigbrotr_refresher.set_window('w.by_second', '99999999999');
SELECT bigbrotr_refresher.set_window('w.by_time', 'tomorrow');
SELECT bigbrotr_refresher.set_window('w.by_time', 'infinity');
\set VERBOSITY default
SELECT bigbrotr_refresher.set_window('w.by_time', '-infinity');
SELECT bigbrotr_refresher.set_window('w.by_second', '-5');
-- Only who owns the table may; EXECUTE alone is not enough.
CREATE ROLE regress_owner;
CREATE ROLE regress_member IN ROLE regress_owner;
GRANT USAGE ON SCHEMA bigbrotr_refresher, w TO regress_owner, regress_weak;
SET ROLE regress_owner;
SELECT bigbrotr_refresher.set_window('w.by_xid', '3');
RESET ROLE;
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.set_window(text, text) TO regress_owner, regress_weak;
ALTER TABLE w.by_xid OWNER TO regress_owner;
SET ROLE regress_weak;
SELECT bigbrotr_refresher.set_window('w.by_xid', '3');
SELECT bigbrotr_refresher.set_window('w.alone', '3');
SELECT * FROM bigbrotr_refresher.windows;
RESET ROLE;
SET ROLE regress_member;
SELECT bigbrotr_refresher.set_window('w.by_xid', '3');
RESET ROLE;
SELECT until FROM bigbrotr_refresher.windows WHERE target = 'w.by_xid';
-- Nor may anybody else fold: who sees fewer rows than the owner would lose the
-- others for good.
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.refresh(text) TO regress_owner, regress_weak;
GRANT SELECT ON w.source TO regress_owner, regress_weak;
GRANT SELECT, INSERT ON w.by_xid TO regress_weak;
ALTER TABLE w.source ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON w.source TO regress_owner USING (true);
TRUNCATE w.by_xid;
SET ROLE regress_weak;
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT bigbrotr_refresher.refresh('w.alone');
SET ROLE regress_member;
SELECT bigbrotr_refresher.refresh('w.by_xid');
RESET ROLE;
SELECT sum(n) = (SELECT count(*) FROM w.source) FROM w.by_xid;
ALTER TABLE w.source DISABLE ROW LEVEL SECURITY;

--
-- What a checkpoint must not be
--
DELETE FROM bigbrotr_refresher.windows;
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT substring(advice, '(?:No|Its) checkpoint.*') FROM bigbrotr_refresher.plan() WHERE view = 'w.by_xid';
UPDATE bigbrotr_refresher.view_state SET failures = 1 WHERE view = 'w.by_xid';
SELECT substring(advice, '(?:No|Its) checkpoint.*') FROM bigbrotr_refresher.plan() WHERE view = 'w.by_xid';
SELECT bigbrotr_refresher.set_window('w.by_xid', '3');
UPDATE bigbrotr_refresher.windows SET until = '4';
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT substring(advice, '(?:No|Its) checkpoint.*') FROM bigbrotr_refresher.plan() WHERE view = 'w.by_xid';
SELECT bigbrotr_refresher.set_window('w.by_xid', '3');
SELECT substring(advice, '(?:No|Its) checkpoint.*') FROM bigbrotr_refresher.plan() WHERE view = 'w.by_xid';
DROP FUNCTION w.by_xid_refresh(xid8, xid8);
CREATE FUNCTION w.by_xid_refresh(bigint, bigint) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT substring(advice, '(?:No|Its) checkpoint.*') FROM bigbrotr_refresher.plan() WHERE view = 'w.by_xid';
UPDATE bigbrotr_refresher.windows SET kind = 'bigint', until = 'x';
SELECT bigbrotr_refresher.refresh('w.by_xid');
UPDATE bigbrotr_refresher.windows SET kind = 'moon';
SELECT bigbrotr_refresher.refresh('w.by_xid');
SELECT view, error, window_after FROM bigbrotr_refresher.plan() WHERE view = 'w.by_xid';
-- A row below it, in a child or partition, counts.
CREATE TABLE w.child () INHERITS (w.by_second);
DELETE FROM w.by_second;
DELETE FROM bigbrotr_refresher.windows;
INSERT INTO w.child VALUES (1, 2);
SELECT bigbrotr_refresher.refresh('w.by_second');
DELETE FROM w.child;
SELECT bigbrotr_refresher.refresh('w.by_second');
SELECT after FROM w.by_second;
-- What an extension keeps elsewhere is not known to be empty: it has an internal
-- trigger on the table, a schema for its parts, or watches commands and makes
-- children.
CREATE TABLE w.watched ();
CREATE FUNCTION w.watched_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER watch BEFORE INSERT ON w.watched FOR EACH ROW EXECUTE FUNCTION w.watch();
SET allow_system_table_mods = on;
UPDATE pg_trigger SET tgisinternal = true WHERE tgrelid = 'w.watched'::regclass;
RESET allow_system_table_mods;
SELECT bigbrotr_refresher.refresh('w.watched');
SELECT bigbrotr_refresher.set_window('w.watched', '0');
SELECT bigbrotr_refresher.refresh('w.watched');
CREATE SCHEMA w_parts;
ALTER EXTENSION bigbrotr_refresher ADD SCHEMA w_parts;
CREATE TABLE w.chunked (id int) PARTITION BY LIST (id);
CREATE FUNCTION w.chunked_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';
CREATE TABLE w_parts.chunk PARTITION OF w.chunked DEFAULT;
SELECT bigbrotr_refresher.refresh('w.chunked');
ALTER EXTENSION bigbrotr_refresher DROP SCHEMA w_parts;
SELECT bigbrotr_refresher.refresh('w.chunked');
CREATE TABLE w.parent (id int);
CREATE TABLE w.part () INHERITS (w.parent);
CREATE FUNCTION w.parent_refresh(xid8, xid8) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION w.watch_commands() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watch_commands ON sql_drop EXECUTE FUNCTION w.watch_commands();
ALTER EXTENSION bigbrotr_refresher ADD EVENT TRIGGER watch_commands;
SELECT bigbrotr_refresher.refresh('w.parent');
ALTER EXTENSION bigbrotr_refresher DROP EVENT TRIGGER watch_commands;
SELECT bigbrotr_refresher.refresh('w.parent');
DROP EVENT TRIGGER watch_commands;
DROP TABLE w.watched, w.chunked, w.parent CASCADE;
DROP SCHEMA w_parts;
DELETE FROM bigbrotr_refresher.windows WHERE target IN ('w.watched', 'w.chunked', 'w.parent');

--
-- What the function returns: how many rows it has changed
--
SET client_min_messages = error;
DROP TABLE w.by_second CASCADE;
RESET client_min_messages;
TRUNCATE bigbrotr_refresher.history;
DO $$
DECLARE
	returns text;
	body text;
BEGIN
	FOR returns, body IN VALUES ('smallint', 'SELECT 2::smallint'), ('int', 'SELECT 3'),
		('bigint', 'SELECT 5000000000'), ('int', 'SELECT NULL::int'), ('void', ''),
		('text', 'SELECT ''7'''), ('SETOF int', 'VALUES (1), (NULL), (2)'), ('SETOF int', 'SELECT 1 WHERE false')
	LOOP
		CREATE TABLE w.returns ();
		EXECUTE format('CREATE FUNCTION w.returns_refresh(after xid8, until xid8) RETURNS %s LANGUAGE sql AS %L',
			returns, body);
		PERFORM bigbrotr_refresher.refresh('w.returns');
		DROP FUNCTION w.returns_refresh(xid8, xid8);
		DROP TABLE w.returns;
		DELETE FROM bigbrotr_refresher.windows;
	END LOOP;
END
$$;
SELECT outcome, rows_changed FROM bigbrotr_refresher.history ORDER BY id;

ALTER SYSTEM RESET bigbrotr_refresher.views;
SELECT pg_reload_conf() \gset
SET client_min_messages = error;
DROP SCHEMA w CASCADE;
DROP EXTENSION bigbrotr_refresher;
DROP OWNED BY regress_weak, regress_owner;
DROP ROLE regress_weak, regress_member, regress_owner;
