--
-- Merging in a session: with whose rights what runs, and what it may do there
--
\pset format unaligned
\pset tuples_only on
\pset null -
SET client_min_messages = warning;
ALTER SYSTEM SET bigbrotr_refresher.merge = 'all';
SELECT pg_reload_conf() \gset
\c -
SET client_min_messages = warning;
CREATE ROLE regress_owner;
CREATE ROLE regress_other;
CREATE SCHEMA r;
CREATE SCHEMA trap;
GRANT ALL ON SCHEMA r, trap TO regress_owner;
CREATE TABLE r.seen (what text, who name DEFAULT current_user, restricted text);
GRANT ALL ON r.seen TO regress_owner, regress_other;

-- Notes who runs it, and whether it could do what a security-restricted
-- operation forbids.
CREATE FUNCTION r.see(what text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	attempt text;
	done text[] := '{}';
BEGIN
	FOREACH attempt IN ARRAY ARRAY['SET ROLE NONE', 'RESET ROLE',
		'SET SESSION AUTHORIZATION DEFAULT', 'LISTEN x', 'PREPARE p AS SELECT 1',
		'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'CREATE TEMPORARY TABLE t ()',
		'SET LOCAL session_replication_role = replica', 'ALTER ROLE regress_owner SUPERUSER']
	LOOP
		BEGIN
			EXECUTE attempt;
			done := done || attempt;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
	END LOOP;
	INSERT INTO r.seen VALUES (what, DEFAULT, done::text);
	-- What is set here must not last.
	PERFORM set_config('work_mem', '77kB', false),
		set_config('search_path', 'trap, pg_catalog', false);
END $$;

SET ROLE regress_owner;
CREATE FUNCTION r.in_query(x int) RETURNS int VOLATILE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.see('query');
	RETURN x;
END $$;
CREATE FUNCTION r.in_index(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.see('index');
	RETURN x;
END $$;
CREATE FUNCTION r.in_predicate(x int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.see('predicate');
	RETURN true;
END $$;
-- One that is evaluated when the index is looked at, since it is constant
CREATE FUNCTION r.constant() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.see('constant');
	RETURN 1;
END $$;
CREATE FUNCTION r.in_domain(x int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.see('domain');
	RETURN true;
END $$;
CREATE FUNCTION r.in_operator(a int, b int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.see('operator');
	RETURN a + b;
END $$;
CREATE OPERATOR r.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = r.in_operator);
CREATE DOMAIN r.checked AS int CHECK (r.in_domain(VALUE));
-- Takes the place of the server's own for those who have it in their path
CREATE FUNCTION trap.lower(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.see('trap');
	RETURN $1;
END $$;
CREATE FUNCTION r.unqualified(x text) RETURNS text IMMUTABLE LANGUAGE plpgsql
AS $$ BEGIN RETURN lower(x); END $$;
CREATE TABLE r.base AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW r.mv AS
SELECT r.in_query(x) AS x, (x OPERATOR(r.<+>) 0)::r.checked AS y, 'A'::text AS t
FROM r.base;
CREATE UNIQUE INDEX ON r.mv (x);
CREATE UNIQUE INDEX ON r.mv (r.in_index(x));
CREATE UNIQUE INDEX ON r.mv (y) WHERE r.in_predicate(x);
CREATE INDEX ON r.mv ((x + r.constant()));
CREATE INDEX ON r.mv (r.unqualified(t));
UPDATE r.base SET x = 2;
RESET ROLE;
TRUNCATE r.seen;
\c -

-- A superuser who has a path of his own
SET search_path = trap, pg_catalog, public;
SET work_mem = '1MB';
REFRESH MATERIALIZED VIEW CONCURRENTLY r.mv;
SHOW search_path;
SHOW work_mem;
SELECT current_user = session_user;
SELECT x, y FROM r.mv;
RESET search_path;
RESET work_mem;
SELECT DISTINCT what, who, restricted FROM r.seen WHERE what <> 'trap' ORDER BY 1, 2;
SELECT DISTINCT who FROM r.seen WHERE what = 'trap';
TRUNCATE r.seen;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_owner';
-- The same by an update, and by a merge that fails
UPDATE r.base SET x = 3;
BEGIN;
UPDATE r.base SET x = NULL;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.mv;
ROLLBACK;
INSERT INTO r.base VALUES (3);
\set VERBOSITY sqlstate
REFRESH MATERIALIZED VIEW CONCURRENTLY r.mv;
\set VERBOSITY default
SHOW work_mem;
SELECT current_user = session_user;
SELECT x, y FROM r.mv;
SELECT DISTINCT who, restricted FROM r.seen;
-- refresh() does the same with what it is called for.
DELETE FROM r.base;
INSERT INTO r.base VALUES (4);
CREATE EXTENSION bigbrotr_refresher;
SELECT bigbrotr_refresher.refresh('r.mv');
SELECT x, y FROM r.mv;
SHOW work_mem;
SELECT DISTINCT who FROM r.seen;

-- Only the owner may, or who maintains it (since 17).
SET ROLE regress_other;
\set VERBOSITY sqlstate
REFRESH MATERIALIZED VIEW CONCURRENTLY r.mv;
\set VERBOSITY default
RESET ROLE;
GRANT USAGE ON SCHEMA r TO regress_other;
SET ROLE regress_other;
\set VERBOSITY sqlstate
REFRESH MATERIALIZED VIEW CONCURRENTLY r.mv;
\set VERBOSITY default
RESET ROLE;
GRANT SELECT ON r.mv, r.base TO regress_other;
SELECT current_setting('server_version_num')::int >= 170000 AS has_maintain \gset
\if :has_maintain
GRANT MAINTAIN ON r.mv TO regress_other;
\else
ALTER MATERIALIZED VIEW r.mv OWNER TO regress_other;
GRANT USAGE ON SCHEMA r, trap TO regress_other;
\endif
UPDATE r.base SET x = 5;
SET ROLE regress_other;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.mv;
RESET ROLE;

-- What the owner of a view may not read fails it; who refreshes has no say.
ALTER MATERIALIZED VIEW r.mv OWNER TO regress_owner;
ALTER TABLE r.base OWNER TO CURRENT_USER;
REVOKE ALL ON r.base FROM regress_owner;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.mv;
-- (Nobody may read it here: the planner evaluates index expressions with the
-- rights of whoever does, which is the server's own affair.)

-- Row-level security is that of the owner.
CREATE TABLE r.private AS SELECT x, x % 2 = 0 AS open FROM generate_series(1, 4) AS x;
ALTER TABLE r.private ENABLE ROW LEVEL SECURITY;
CREATE POLICY open ON r.private TO regress_owner USING (open);
GRANT SELECT ON r.private TO regress_owner;
SET ROLE regress_owner;
CREATE MATERIALIZED VIEW r.of_private AS SELECT x FROM r.private;
RESET ROLE;
INSERT INTO r.private VALUES (5, false), (6, true);
REFRESH MATERIALIZED VIEW CONCURRENTLY r.of_private;
SELECT x FROM r.of_private ORDER BY x;
SET row_security = off;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.of_private;
RESET row_security;
DROP POLICY open ON r.private;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.of_private;
SELECT count(*) FROM r.of_private;

-- A query that refreshes its own view, or another one
SET ROLE regress_owner;
CREATE FUNCTION r.recursive(name text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'REFRESH MATERIALIZED VIEW CONCURRENTLY ' || name;
	RETURN 1;
END $$;
CREATE MATERIALIZED VIEW r.itself AS SELECT 1 AS x;
CREATE TABLE r.which AS SELECT 'r.itself'::text AS name WHERE false;
CREATE MATERIALIZED VIEW r.any AS SELECT r.recursive(name) AS x FROM r.which;
INSERT INTO r.which VALUES ('r.any');
\set VERBOSITY terse
REFRESH MATERIALIZED VIEW CONCURRENTLY r.any;
UPDATE r.which SET name = 'r.itself';
REFRESH MATERIALIZED VIEW CONCURRENTLY r.any;
TABLE r.any;
UPDATE r.which SET name = 'r.mv';
REFRESH MATERIALIZED VIEW CONCURRENTLY r.any;
TABLE r.any;
RESET ROLE;

-- Rows that can stay on their page do: those that cannot do not take their room.
CREATE TABLE r.rows AS SELECT g AS id, 0 AS n, repeat('x', 40) AS s
FROM generate_series(1, 2000) AS g;
CREATE MATERIALIZED VIEW r.of_rows WITH (fillfactor = 90) AS TABLE r.rows;
CREATE UNIQUE INDEX ON r.of_rows (id);
ALTER MATERIALIZED VIEW r.of_rows SET (fillfactor = 100);
VACUUM r.of_rows;
UPDATE r.rows SET n = 1;
SELECT pg_relation_size('r.of_rows') / current_setting('block_size')::int AS pages \gset
BEGIN;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.of_rows;
SELECT pg_stat_get_xact_tuples_hot_updated('r.of_rows'::regclass) >= 8 * (:pages - 1);
COMMIT;
SELECT count(*), sum(n) FROM r.of_rows;

-- Large values that have not changed are not written again, wherever their row
-- goes.
CREATE TABLE r.large AS SELECT g AS id, 0 AS n,
	(SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 300) AS i) AS s
FROM generate_series(1, 200) AS g;
CREATE MATERIALIZED VIEW r.of_large AS TABLE r.large;
CREATE UNIQUE INDEX ON r.of_large (id);
SELECT format('SELECT count(*), count(DISTINCT chunk_id) AS values,
	md5(string_agg(chunk_id::text, '','' ORDER BY chunk_id, chunk_seq)) AS chunks
	FROM %s', reltoastrelid::regclass) AS large FROM pg_class
WHERE oid = 'r.of_large'::regclass \gset
:large \gset before_
UPDATE r.large SET n = 1;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.of_large;
:large \gset after_
SELECT :'after_values', :'before_chunks' = :'after_chunks';
UPDATE r.large SET s = upper(s) WHERE id = 7;
REFRESH MATERIALIZED VIEW CONCURRENTLY r.of_large;
:large \gset after_
SELECT :'after_values', :'before_chunks' = :'after_chunks';
SELECT count(*) FROM r.of_large JOIN r.large USING (id, n, s);

DROP EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;
DROP SCHEMA r, trap CASCADE;
DROP OWNED BY regress_owner, regress_other;
DROP ROLE regress_owner, regress_other;
ALTER SYSTEM RESET bigbrotr_refresher.merge;
SELECT pg_reload_conf() \gset
