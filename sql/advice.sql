--
-- plan(): why a view is not merged, and what one can do
--
\pset format unaligned
\pset tuples_only on
\pset null -
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;
CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE ROLE regress_poor;
CREATE SCHEMA v;
GRANT CREATE ON SCHEMA v TO regress_poor;
CREATE TABLE v.source AS SELECT 1 AS id;
GRANT SELECT ON v.source TO regress_poor;
CREATE MATERIALIZED VIEW v.merged AS SELECT id FROM v.source;
CREATE MATERIALIZED VIEW v.empty AS SELECT id FROM v.source WITH NO DATA;
CREATE MATERIALIZED VIEW v.elsewhere USING own_heap AS SELECT id FROM v.source;
CREATE MATERIALIZED VIEW v.off AS SELECT id FROM v.source;
CREATE MATERIALIZED VIEW v.off_indexed AS SELECT id FROM v.source;
CREATE UNIQUE INDEX ON v.off_indexed (id);
CREATE MATERIALIZED VIEW v.off_poor AS SELECT id FROM v.source;
CREATE UNIQUE INDEX ON v.off_poor (id);
ALTER MATERIALIZED VIEW v.off_poor OWNER TO regress_poor;
CREATE MATERIALIZED VIEW v.distrusted AS SELECT id FROM v.source;
CREATE FUNCTION v.distrusted_refresh() RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION v.distrusted_refresh() OWNER TO regress_poor;
SELECT current_database() AS this \gset
REVOKE TEMPORARY ON DATABASE :"this" FROM PUBLIC;
CREATE FUNCTION say() RETURNS TABLE (view text, method text, not_merged_because text,
	advice text) LANGUAGE sql AS $$
	SELECT p.view, p.method, p.not_merged_because, nullif(regexp_replace(p.advice,
		'^No worker refreshes it: "bigbrotr_refresher.databases" does not name this database\. Add the database to it, and reload the configuration\. ?',
		''), '')
	FROM bigbrotr_refresher.plan() AS p ORDER BY p.view
$$;
ALTER SYSTEM SET bigbrotr_refresher.views =
	'v.*, v.off (merge = off), v.off_indexed (merge = off), v.off_poor (merge = off), v.absent';
SELECT pg_reload_conf() \gset
\c -
SELECT * FROM say();
SET bigbrotr_refresher.merge = off;
SELECT view, advice FROM say() WHERE view IN ('v.merged', 'v.off_poor');
RESET bigbrotr_refresher.merge;
--
-- Timeouts that are almost certainly meant to be in seconds are warned of, where
-- they are set and by plan(), and are in force all the same.
--
SET client_min_messages = warning;
ALTER SYSTEM SET bigbrotr_refresher.views = 
	'v.merged, v.off (refresh_timeout = 600), v.empty (refresh_timeout = 0.1, lock_timeout = 0), v.elsewhere (refresh_timeout = 600ms, lock_timeout = 1000)';
\set VERBOSITY default
ALTER SYSTEM SET bigbrotr_refresher.refresh_timeout = 600;
-- (Whoever only looks at the files is not told.)
SELECT count(*) FROM pg_file_settings WHERE setting = '600';
ALTER SYSTEM SET bigbrotr_refresher.refresh_timeout = '600s';
ALTER SYSTEM SET bigbrotr_refresher.lock_timeout = '1s';
ALTER SYSTEM SET bigbrotr_refresher.lock_timeout = '999ms';
ALTER SYSTEM RESET bigbrotr_refresher.lock_timeout;
ALTER DATABASE :"this" SET bigbrotr_refresher.lock_timeout = 30;
ALTER ROLE regress_poor SET bigbrotr_refresher.refresh_timeout = 1;
SELECT pg_reload_conf() \gset
\c -
SHOW bigbrotr_refresher.lock_timeout;
SHOW bigbrotr_refresher.refresh_timeout;
SELECT view, advice FROM say();
ALTER DATABASE :"this" RESET bigbrotr_refresher.lock_timeout;
SET bigbrotr_refresher.refresh_timeout = 5;
ALTER SYSTEM RESET bigbrotr_refresher.refresh_timeout;
ALTER SYSTEM RESET bigbrotr_refresher.views;
SELECT pg_reload_conf() \gset
\c -
SET client_min_messages = warning;
GRANT TEMPORARY ON DATABASE :"this" TO PUBLIC;
DROP FUNCTION say;
DROP SCHEMA v CASCADE;
DROP OWNED BY regress_poor;
DROP ROLE regress_poor;
DROP ACCESS METHOD own_heap;
DROP EXTENSION bigbrotr_refresher;
