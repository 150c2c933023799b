--
-- plan(): what is read by functions with a body in standard SQL
--
\pset format unaligned
\pset tuples_only on
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;

CREATE SCHEMA f;
CREATE TABLE f.base (x int);

-- Each view but "source" is listed before what it reads by a function: called
-- in the query, by another function, through plain views on both sides, by an
-- operator, an aggregate, the default of an argument, in FROM, in a subquery.
CREATE MATERIALIZED VIEW f.z_source AS SELECT x FROM f.base;
CREATE FUNCTION f.counts() RETURNS bigint STABLE
BEGIN ATOMIC SELECT count(*) FROM f.z_source; END;
CREATE FUNCTION f.counts_too() RETURNS bigint STABLE
BEGIN ATOMIC SELECT f.counts() + 1; END;
CREATE VIEW f.above_source AS SELECT x FROM f.z_source;
CREATE FUNCTION f.rows() RETURNS SETOF int STABLE
BEGIN ATOMIC SELECT x FROM f.above_source; END;
CREATE VIEW f.above_rows AS SELECT * FROM f.rows() AS rows(x);
CREATE FUNCTION f.adds(a int, b text) RETURNS bigint STABLE
BEGIN ATOMIC SELECT a + count(*) FROM f.z_source; END;
CREATE OPERATOR f.### (FUNCTION = f.adds, LEFTARG = int, RIGHTARG = text);
CREATE FUNCTION f.step(a bigint, b int) RETURNS bigint STABLE
BEGIN ATOMIC SELECT a + b + (SELECT count(*) FROM f.z_source); END;
CREATE AGGREGATE f.total(int) (SFUNC = f.step, STYPE = bigint, INITCOND = 0);
CREATE FUNCTION f.with_default(a bigint DEFAULT f.counts()) RETURNS bigint
LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
CREATE MATERIALIZED VIEW f.a_called AS SELECT f.counts();
CREATE MATERIALIZED VIEW f.a_called_by_another AS SELECT f.counts_too();
CREATE MATERIALIZED VIEW f.a_through_views AS SELECT x FROM f.above_rows;
CREATE MATERIALIZED VIEW f.a_operator AS SELECT 1 OPERATOR(f.###) 'a'::text AS x;
CREATE MATERIALIZED VIEW f.a_aggregate AS SELECT f.total(x) FROM f.base;
CREATE MATERIALIZED VIEW f.a_default AS SELECT f.with_default();
CREATE MATERIALIZED VIEW f.a_from AS SELECT * FROM f.rows() AS rows(x);
CREATE MATERIALIZED VIEW f.a_subquery AS
	SELECT x FROM f.base WHERE x IN (SELECT f.counts() WHERE f.counts() > 0);

-- A target's own refresh function, with a relation and without
CREATE TABLE f.a_table (x bigint);
CREATE FUNCTION f.a_table_refresh() RETURNS void
BEGIN ATOMIC INSERT INTO f.a_table SELECT f.counts() FROM f.a_table; END;
CREATE PROCEDURE f.a_alone_refresh()
BEGIN ATOMIC DELETE FROM f.base WHERE x IN (SELECT x FROM f.above_source); END;
CREATE MATERIALIZED VIEW f.a_both AS SELECT x FROM f.a_table;
CREATE FUNCTION f.a_both_refresh() RETURNS void
BEGIN ATOMIC SELECT count(*) FROM f.above_source; END;

-- What is called in a string nobody knows; a type is not read.
CREATE FUNCTION f.hidden() RETURNS bigint LANGUAGE sql
AS 'SELECT count(*) FROM f.z_source';
CREATE FUNCTION f.takes(a f.z_source) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE MATERIALIZED VIEW f.a_hidden AS SELECT f.hidden();
CREATE MATERIALIZED VIEW f.a_type AS SELECT f.takes(NULL::f.z_source);

ALTER SYSTEM SET bigbrotr_refresher.views = 'f.a_both, f.a_alone, f.a_table, f.*';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, method, depends_on FROM bigbrotr_refresher.plan();

-- A view and a function that refer to each other are not followed for ever,
-- nor is a function that refers to itself.
SET client_min_messages = warning;
CREATE OR REPLACE FUNCTION f.counts() RETURNS bigint STABLE
BEGIN ATOMIC
	SELECT CASE WHEN false THEN f.counts_too() + f.counts() END
	FROM f.above_rows, f.above_source;
END;
CREATE OR REPLACE VIEW f.above_rows AS
	SELECT rows.x FROM f.rows() AS rows(x) WHERE f.counts() > 0;
SELECT view, depends_on FROM bigbrotr_refresher.plan()
WHERE view IN ('f.a_called', 'f.a_called_by_another', 'f.a_through_views');

-- A function that is no longer called no longer counts.
CREATE OR REPLACE FUNCTION f.counts_too() RETURNS bigint STABLE
BEGIN ATOMIC SELECT 1::bigint; END;
SELECT view, depends_on FROM bigbrotr_refresher.plan()
WHERE view = 'f.a_called_by_another';

DROP SCHEMA f CASCADE;
DROP EXTENSION bigbrotr_refresher;
ALTER SYSTEM RESET bigbrotr_refresher.views;
