--
-- plan(): what is refreshed after what
--
\pset format unaligned
\pset tuples_only on
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;

-- None before what it reads, neither by its position nor by its stage, and
-- nothing twice: rows that break a rule.
CREATE VIEW broken_rules AS
	WITH plan AS MATERIALIZED (SELECT * FROM bigbrotr_refresher.plan())
	SELECT 'reads what comes later' AS rule, reader.view, read.view AS other
	FROM plan AS reader
	LEFT JOIN plan AS read ON read.view = ANY (reader.depends_on)
	WHERE read.position >= reader.position OR read.stage > reader.stage
	UNION ALL
	SELECT 'reads what is not there', view, name
	FROM plan CROSS JOIN unnest(depends_on) AS name
	WHERE name NOT IN (SELECT view FROM plan)
	UNION ALL
	SELECT 'is there twice', view, NULL FROM plan
	GROUP BY view HAVING count(*) > 1
	UNION ALL
	SELECT 'comes before an earlier stage', late.view, early.view
	FROM plan AS late
	JOIN plan AS early ON early.position > late.position AND early.stage < late.stage
	UNION ALL
	SELECT 'has the wrong position', view, NULL
	FROM (SELECT *, row_number() OVER (ORDER BY position) AS n FROM plan) AS numbered
	WHERE position <> n OR stage < 1
	UNION ALL
	SELECT 'says that it reads nothing by NULL', view, NULL
	FROM plan WHERE depends_on IS NULL;

--
-- One list, and everything that can be between two views
--
CREATE SCHEMA o;
CREATE TABLE o.base (x int);
CREATE MATERIALIZED VIEW o.a AS SELECT x FROM o.base;
CREATE MATERIALIZED VIEW o.b AS SELECT x FROM o.a;
-- through one plain view, two and five
CREATE VIEW o.v1 AS SELECT x FROM o.a;
CREATE VIEW o.v2 AS SELECT x FROM o.v1;
CREATE VIEW o.v3 AS SELECT x FROM o.v2;
CREATE VIEW o.v4 AS SELECT x FROM o.v3;
CREATE VIEW o.v5 AS SELECT x FROM o.v4;
CREATE MATERIALIZED VIEW o.c1 AS SELECT x FROM o.v1;
CREATE MATERIALIZED VIEW o.c2 AS SELECT x FROM o.v2;
CREATE MATERIALIZED VIEW o.c5 AS SELECT x FROM o.v5;
-- a diamond, closed through a plain view
CREATE VIEW o.v_b_c5 AS SELECT b.x FROM o.b JOIN o.c5 USING (x);
CREATE MATERIALIZED VIEW o.d AS SELECT x FROM o.v_b_c5;
-- one in which a plain view is reached on two ways
CREATE VIEW o.left_way AS SELECT x FROM o.v2;
CREATE VIEW o.right_way AS SELECT x FROM o.v2;
CREATE MATERIALIZED VIEW o.both_ways AS
	SELECT l.x FROM o.left_way AS l JOIN o.right_way AS r USING (x);
-- in subqueries, in expressions and as a whole row
CREATE MATERIALIZED VIEW o.hidden AS
	WITH q AS (SELECT (SELECT max(x) FROM o.b) AS x)
	SELECT x, EXISTS (SELECT FROM o.c1) AS e FROM q
	WHERE x IN (SELECT (c2).x FROM o.c2)
	UNION ALL SELECT count(c5), true FROM o.c5;
-- nothing at all
CREATE MATERIALIZED VIEW o.alone AS SELECT 1 AS x;

ALTER SYSTEM SET bigbrotr_refresher.views =
	'o.a, o.b, o.c1, o.c2, o.c5, o.d, o.both_ways, o.hidden, o.alone';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;

-- The same, listed the wrong way round
ALTER SYSTEM SET bigbrotr_refresher.views =
	'o.hidden, o.both_ways, o.d, o.c5, o.c2, o.c1, o.b, o.a, o.alone';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;

--
-- Stages
--
-- Where nothing contradicts it, the list is followed.
ALTER SYSTEM SET bigbrotr_refresher.views =
	'o.alone, o.a; o.c1, o.b, o.c5; o.d; o.c2';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
-- A view goes to the stage of what it reads, and takes its readers along.
ALTER SYSTEM SET bigbrotr_refresher.views =
	'o.d, o.c2; o.b, o.alone; o.c1; o.a; o.c5';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;

--
-- Wildcards
--
-- They add what is not named elsewhere, in the order of names.
ALTER SYSTEM SET bigbrotr_refresher.views = 'o.hidden; o.*, o.d; o.alone';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;
-- That of one schema goes before that of all, wherever it stands.  Names are
-- short where the short name means the same.
CREATE SCHEMA p;
CREATE MATERIALIZED VIEW p.a AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW p."B" AS SELECT x FROM o.b;
CREATE MATERIALIZED VIEW p.z AS SELECT x FROM p.a JOIN o.a USING (x);
CREATE MATERIALIZED VIEW alone AS SELECT 1 AS x;
CREATE SCHEMA no_views;
CREATE TABLE no_views.t (x int);
CREATE VIEW no_views.v AS SELECT x FROM o.a;
ALTER SYSTEM SET bigbrotr_refresher.views = '*; o.alone; p.*; no_views.*; o.a';
SELECT pg_reload_conf() \gset
\c -
SET search_path = p, o, public;
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
RESET search_path;
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;
DROP MATERIALIZED VIEW alone;
DROP SCHEMA no_views CASCADE;
SET client_min_messages = warning;
DROP SCHEMA p CASCADE;

--
-- What is not a materialized view
--
-- A table and a plain view that have refresh functions are waited for; a
-- function without a relation is not, and where something that is not listed
-- stands between, nothing is known.
CREATE FUNCTION o.base_refresh() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION o.v3_refresh() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION o.alone_too_refresh() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION o.reads_d() RETURNS int LANGUAGE sql AS 'SELECT max(x) FROM o.d';
CREATE MATERIALIZED VIEW o.by_function AS SELECT o.reads_d() AS x;
ALTER SYSTEM SET bigbrotr_refresher.views =
	'o.by_function, o.c5, o.c1, o.v3, o.d, o.a, o.base, o.alone_too';
SELECT pg_reload_conf() \gset
\c -
SELECT position, view, method, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;
-- What cannot be refreshed is waited for, and fails, in its turn.
DROP FUNCTION o.base_refresh, o.v3_refresh;
SELECT position, view, method, depends_on FROM bigbrotr_refresher.plan();
-- b stands between d and a, and is not listed.
ALTER SYSTEM SET bigbrotr_refresher.views = 'o.d, o.a, nothing';
SELECT pg_reload_conf() \gset
\c -
SELECT position, view, depends_on FROM bigbrotr_refresher.plan();

--
-- The catalogs are read anew each time.
--
CREATE OR REPLACE VIEW o.v_b_c5 AS SELECT a.x FROM o.a;
SELECT position, view, depends_on FROM bigbrotr_refresher.plan();
SET client_min_messages = warning;
DROP SCHEMA o CASCADE;

--
-- Circles, which are made by replacing a plain view
--
CREATE SCHEMA r;
CREATE VIEW r.v AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW r.a AS SELECT x FROM r.v;
CREATE MATERIALIZED VIEW r.b AS SELECT x FROM r.a;
CREATE MATERIALIZED VIEW r.c AS SELECT x FROM r.b;
-- before the circle, and after it
CREATE MATERIALIZED VIEW r.before AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW r.after AS SELECT x FROM r.b;
CREATE MATERIALIZED VIEW r.after_after AS SELECT x FROM r.after;
CREATE OR REPLACE VIEW r.v AS SELECT x FROM r.c JOIN r.before USING (x);
-- one that reads itself
CREATE VIEW r.v_self AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW r.self AS SELECT x FROM r.v_self;
CREATE OR REPLACE VIEW r.v_self AS SELECT x FROM r.self;
-- plain views that read each other, which no one can select from
CREATE VIEW r.v_one AS SELECT 1 AS x;
CREATE VIEW r.v_two AS SELECT x FROM r.v_one;
CREATE MATERIALIZED VIEW r.over_plain AS SELECT x FROM r.v_two;
CREATE OR REPLACE VIEW r.v_one AS SELECT v_two.x FROM r.v_two JOIN r.before USING (x);
ALTER SYSTEM SET bigbrotr_refresher.views = 'r.*';
SELECT pg_reload_conf() \gset
\c -
SELECT position, view, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;
-- The first of the circle by the list goes first.
ALTER SYSTEM SET bigbrotr_refresher.views =
	'r.after_after, r.after, r.c, r.b, r.a, r.self; r.before';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan();
TABLE broken_rules;
-- Two circles that have a view in common
CREATE VIEW r.w AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW r.k AS SELECT w.x FROM r.w JOIN r.a USING (x);
CREATE OR REPLACE VIEW r.w AS SELECT k.x FROM r.k;
CREATE OR REPLACE VIEW r.v AS SELECT c.x FROM r.c JOIN r.k USING (x);
ALTER SYSTEM SET bigbrotr_refresher.views = '*';
SELECT pg_reload_conf() \gset
\c -
SELECT count(*), count(DISTINCT view) FROM bigbrotr_refresher.plan();
TABLE broken_rules;
SET client_min_messages = warning;
DROP SCHEMA r CASCADE;

--
-- Deep and wide
--
-- Two hundred plain views between two materialized ones, and two hundred
-- materialized ones in a row
CREATE SCHEMA deep;
CREATE MATERIALIZED VIEW deep.bottom AS SELECT 1 AS x;
CREATE VIEW deep.v0 AS SELECT x FROM deep.bottom;
CREATE MATERIALIZED VIEW deep.m0 AS SELECT 1 AS x;
DO $$
BEGIN
	FOR n IN 1..200 LOOP
		EXECUTE format('CREATE VIEW deep.v%s AS SELECT x FROM deep.v%s', n, n - 1);
		EXECUTE format('CREATE MATERIALIZED VIEW deep.m%s AS SELECT x FROM deep.m%s', n, n - 1);
	END LOOP;
END
$$;
CREATE MATERIALIZED VIEW deep.a_top AS SELECT x FROM deep.v200 WITH NO DATA;
ALTER SYSTEM SET bigbrotr_refresher.views =
	'deep.a_top, deep.bottom; deep.m200, deep.*';
SELECT pg_reload_conf() \gset
\c -
SELECT position, stage, view, depends_on FROM bigbrotr_refresher.plan()
WHERE view !~ 'm\d' OR view ~ 'm(0|1|2|50|100|199|200)$';
TABLE broken_rules;

-- Five hundred that read one, and one that reads all of them, itself and
-- through a plain view
CREATE SCHEMA wide;
CREATE MATERIALIZED VIEW wide."0" AS SELECT 1 AS x;
DO $$
BEGIN
	FOR n IN 1..500 LOOP
		EXECUTE format('CREATE MATERIALIZED VIEW wide."%s" AS SELECT 1 AS x FROM wide."0"', n);
	END LOOP;
	EXECUTE (SELECT 'CREATE VIEW wide.v AS ' ||
			 string_agg(format('SELECT x FROM wide."%s"', n), ' UNION ALL ')
			 FROM generate_series(1, 400) AS n);
	EXECUTE (SELECT 'CREATE MATERIALIZED VIEW wide." all" AS SELECT x FROM wide.v UNION ALL ' ||
			 string_agg(format('SELECT x FROM wide."%s"', n), ' UNION ALL ')
			 FROM generate_series(300, 500) AS n);
END
$$;
ALTER SYSTEM SET bigbrotr_refresher.views = 'wide.*';
SELECT pg_reload_conf() \gset
\c -
SELECT count(*), count(*) FILTER (WHERE depends_on = ARRAY['wide."0"'])
FROM bigbrotr_refresher.plan();
SELECT position, view, cardinality(depends_on), depends_on[1:3]
FROM bigbrotr_refresher.plan() WHERE position IN (1, 2, 502);
-- What is read is in the order of the plan.
SELECT depends_on = (SELECT array_agg(view ORDER BY position)
					 FROM bigbrotr_refresher.plan()
					 WHERE position BETWEEN 2 AND 501)
FROM bigbrotr_refresher.plan() WHERE position = 502;
TABLE broken_rules;
SET client_min_messages = warning;
DROP SCHEMA deep CASCADE;
DROP SCHEMA wide CASCADE;

--
-- At random, but always the same: three hundred relations, of which each
-- reads up to three that were there before, listed in another order and in
-- ten stages.  What each reads is known from the catalogs in another way.
--
CREATE SCHEMA dice;
DO $$
DECLARE
	sources text;
BEGIN
	CREATE TABLE dice.t0 AS SELECT 1 AS x;
	FOR n IN 1..300 LOOP
		SELECT string_agg('dice.t' || source, ' NATURAL JOIN ')
		INTO sources
		FROM (SELECT DISTINCT ('x' || left(md5(n || '/' || k), 7))::bit(28)::int % n AS source
			  FROM generate_series(1, 1 + n % 3) AS k) AS s;
		EXECUTE format('CREATE %s dice.t%s AS SELECT x FROM %s %s',
					   CASE n % 2 WHEN 0 THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END,
					   n, sources,
					   CASE n % 2 WHEN 0 THEN '' ELSE 'WITH NO DATA' END);
	END LOOP;
END
$$;
\set ECHO none
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L',
			  string_agg(stage, '; ' ORDER BY stage))
FROM (SELECT string_agg('dice.t' || n, ', ' ORDER BY md5(n::text)) AS stage
	  FROM generate_series(1, 300) AS n
	  WHERE n % 2 = 1
	  GROUP BY left(md5(n || 'stage'), 1) > '7', n % 5) AS stages \gexec
\set ECHO all
SELECT pg_reload_conf() \gset
\c -
SELECT count(*), max(stage), sum(cardinality(depends_on)) > 150 FROM bigbrotr_refresher.plan();
TABLE broken_rules;
WITH RECURSIVE direct AS (
	SELECT DISTINCT r.ev_class AS reader, d.refobjid AS read
	FROM pg_rewrite AS r
	JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND
		d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND
		d.refobjid <> r.ev_class
), reads AS (
	SELECT reader, read FROM direct
	UNION
	SELECT reads.reader, direct.read
	FROM reads
	JOIN pg_class ON pg_class.oid = reads.read AND relkind = 'v'
	JOIN direct ON direct.reader = reads.read
), expected AS (
	SELECT reader::regclass::text AS view, read::regclass::text AS read
	FROM reads
	JOIN pg_class AS r ON r.oid = reader AND r.relkind = 'm'
	JOIN pg_class AS s ON s.oid = read AND s.relkind = 'm'
	WHERE r.relnamespace = 'dice'::regnamespace
), planned AS (
	SELECT view, unnest(depends_on) AS read FROM bigbrotr_refresher.plan()
)
(SELECT 'not found', * FROM expected EXCEPT ALL SELECT 'not found', * FROM planned)
UNION ALL
(SELECT 'invented', * FROM planned EXCEPT ALL SELECT 'invented', * FROM expected);

SET client_min_messages = warning;
DROP SCHEMA dice CASCADE;
DROP VIEW broken_rules;
DROP EXTENSION bigbrotr_refresher;
ALTER SYSTEM RESET bigbrotr_refresher.views;
