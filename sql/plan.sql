--
-- plan(): what a name stands for, and by which method it is refreshed
--
\pset format unaligned
\pset tuples_only on
\pset null -
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;

-- What is in force is what a new session has: hence \c after each reload.

--
-- What is populated is merged.
--
CREATE SCHEMA mv;
CREATE TABLE mv.source AS
	SELECT n AS id, n AS other, 1 AS same FROM generate_series(1, 3) AS n;

DO $$
DECLARE
	view text;
BEGIN
	FOREACH view IN ARRAY ARRAY['bare', 'nonunique', 'uniq', 'uniq_two',
		'uniq_include', 'uniq_nulls', 'uniq_beside_partial', 'partial',
		'expression', 'mixed', 'invalid', 'deferred', 'empty', 'filled_later',
		'emptied_later', 'dropped_index']
	LOOP
		EXECUTE format('CREATE MATERIALIZED VIEW mv.%I AS SELECT * FROM mv.source', view);
	END LOOP;
END
$$;
CREATE INDEX ON mv.nonunique (id);
CREATE UNIQUE INDEX ON mv.uniq (id);
CREATE UNIQUE INDEX ON mv.uniq_two (other, id);
CREATE UNIQUE INDEX ON mv.uniq_include (id) INCLUDE (same);
CREATE UNIQUE INDEX ON mv.uniq_nulls (id) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX ON mv.uniq_beside_partial (id) WHERE id > 1;
CREATE UNIQUE INDEX ON mv.uniq_beside_partial ((id + 1));
CREATE UNIQUE INDEX ON mv.uniq_beside_partial (id);
CREATE UNIQUE INDEX ON mv.partial (id) WHERE id > 0;
CREATE UNIQUE INDEX ON mv.expression ((id + 1));
CREATE UNIQUE INDEX ON mv.mixed (id, (id + 1));
\set VERBOSITY sqlstate
CREATE UNIQUE INDEX CONCURRENTLY invalid_same_idx ON mv.invalid (same);
\set VERBOSITY default
-- There is no way to a deferrable index on a materialized view but this.
CREATE UNIQUE INDEX deferred_idx ON mv.deferred (id);
UPDATE pg_index SET indimmediate = false
WHERE indexrelid = 'mv.deferred_idx'::regclass;
CREATE UNIQUE INDEX ON mv.empty (id);
REFRESH MATERIALIZED VIEW mv.empty WITH NO DATA;
CREATE UNIQUE INDEX ON mv.filled_later (id);
REFRESH MATERIALIZED VIEW mv.filled_later WITH NO DATA;
REFRESH MATERIALIZED VIEW mv.filled_later;
CREATE UNIQUE INDEX ON mv.emptied_later (id);
REFRESH MATERIALIZED VIEW CONCURRENTLY mv.emptied_later;
REFRESH MATERIALIZED VIEW mv.emptied_later WITH NO DATA;
CREATE UNIQUE INDEX dropped_idx ON mv.dropped_index (id);
DROP INDEX mv.dropped_idx;

ALTER SYSTEM SET bigbrotr_refresher.views = 'mv.*';
SELECT pg_reload_conf() \gset
\c -
SELECT view, method, error FROM bigbrotr_refresher.plan();

-- Without merging: REFRESH, with CONCURRENTLY where the server can do that.
ALTER SYSTEM SET bigbrotr_refresher.merge = off;
SELECT pg_reload_conf() \gset
\c -
SELECT view, method, error FROM bigbrotr_refresher.plan();

-- The server itself is of the same opinion.
CREATE FUNCTION concurrently_works(view text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'REFRESH MATERIALIZED VIEW CONCURRENTLY ' || view;
	RETURN true;
EXCEPTION WHEN OTHERS THEN
	RETURN false;
END
$$;
SELECT view, method FROM bigbrotr_refresher.plan()
WHERE (method = 'refresh concurrently') <> concurrently_works(view);

-- CONCURRENTLY takes a temporary table, which the owner of the view makes.
SET client_min_messages = warning;
CREATE ROLE regress_owner;
CREATE ROLE regress_temporary;
GRANT USAGE ON SCHEMA mv TO regress_owner, regress_temporary;
GRANT SELECT ON mv.source TO regress_owner, regress_temporary;
REVOKE TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT TEMPORARY ON DATABASE :"DBNAME" TO regress_temporary;
ALTER MATERIALIZED VIEW mv.uniq OWNER TO regress_owner;
ALTER MATERIALIZED VIEW mv.uniq_two OWNER TO regress_temporary;
SELECT view, method FROM bigbrotr_refresher.plan()
WHERE view IN ('mv.uniq', 'mv.uniq_two', 'mv.uniq_nulls');
SELECT concurrently_works('mv.uniq'), concurrently_works('mv.uniq_two');
SELECT bigbrotr_refresher.refresh('mv.uniq');
SELECT bigbrotr_refresher.refresh('mv.uniq_two');
-- A merge takes none.
ALTER SYSTEM RESET bigbrotr_refresher.merge;
SELECT pg_reload_conf() \gset
\c -
SELECT view, method FROM bigbrotr_refresher.plan() WHERE view = 'mv.uniq';
SELECT bigbrotr_refresher.refresh('mv.uniq');
GRANT TEMPORARY ON DATABASE :"DBNAME" TO PUBLIC;

SET client_min_messages = warning;
DROP SCHEMA mv CASCADE;
REVOKE ALL ON DATABASE :"DBNAME" FROM regress_temporary;
DROP ROLE regress_owner, regress_temporary;

--
-- Functions and procedures
--
CREATE SCHEMA fn;

-- Each has the first that exists of a function, a procedure and REFRESH.
CREATE MATERIALIZED VIEW fn.mv AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW fn.mv_function AS SELECT 1 AS x;
CREATE FUNCTION fn.mv_function_refresh() RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW fn.mv_procedure AS SELECT 1 AS x;
CREATE PROCEDURE fn.mv_procedure_refresh() LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW fn.mv_returns_rows AS SELECT 1 AS x;
CREATE FUNCTION fn.mv_returns_rows_refresh() RETURNS TABLE (a int, b int)
	LANGUAGE sql AS 'SELECT 1, 2';

-- What is no materialized view needs one.
CREATE TABLE fn.tab (x int);
CREATE TABLE fn.tab_function (x int);
CREATE FUNCTION fn.tab_function_refresh() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE fn.tab_procedure (x int) PARTITION BY LIST (x);
CREATE PROCEDURE fn.tab_procedure_refresh() LANGUAGE sql AS '';
CREATE VIEW fn.plain AS SELECT 1 AS x;
CREATE VIEW fn.plain_function AS SELECT 1 AS x;
CREATE FUNCTION fn.plain_function_refresh() RETURNS void LANGUAGE sql AS '';
CREATE SEQUENCE fn.seq;

-- There need not be a relation.
CREATE FUNCTION fn.alone_refresh() RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE fn.alone_procedure_refresh() LANGUAGE sql AS '';

-- Only one that is called without any argument counts.
CREATE MATERIALIZED VIEW fn.mv_default AS SELECT 1 AS x;
CREATE FUNCTION fn.mv_default_refresh(a int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW fn.mv_variadic AS SELECT 1 AS x;
CREATE FUNCTION fn.mv_variadic_refresh(VARIADIC a int[]) RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW fn.mv_overloaded AS SELECT 1 AS x;
CREATE FUNCTION fn.mv_overloaded_refresh(a int) RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE fn.mv_overloaded_refresh() LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW fn.mv_aggregate AS SELECT 1 AS x;
CREATE AGGREGATE fn.mv_aggregate_refresh(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE MATERIALIZED VIEW fn.mv_window AS SELECT 1 AS x;
CREATE FUNCTION fn.mv_window_refresh() RETURNS bigint LANGUAGE internal WINDOW AS 'window_row_number';
CREATE MATERIALIZED VIEW fn.mv_out AS SELECT 1 AS x;
CREATE FUNCTION fn.mv_out_refresh(OUT a int) LANGUAGE sql AS 'SELECT 1';
CREATE MATERIALIZED VIEW fn.mv_procedure_out AS SELECT 1 AS x;
CREATE PROCEDURE fn.mv_procedure_out_refresh(OUT a int) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION fn.alone_default_refresh(a int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION fn.alone_variadic_refresh(VARIADIC a int[]) RETURNS void LANGUAGE sql AS '';
CREATE AGGREGATE fn.alone_aggregate_refresh(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');

-- A name nearly the same is another name.
CREATE FUNCTION fn.nothing_refresh_() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION fn."Nothing_refresh"() RETURNS void LANGUAGE sql AS '';

ALTER SYSTEM SET bigbrotr_refresher.views =
	'fn.mv, fn.mv_function, fn.mv_procedure, fn.mv_returns_rows; fn.tab, fn.tab_function, fn.tab_procedure, fn.plain, fn.plain_function, fn.seq; fn.alone, fn.alone_procedure; fn.mv_default, fn.mv_variadic, fn.mv_overloaded, fn.mv_aggregate, fn.mv_window, fn.mv_out, fn.mv_procedure_out, fn.alone_default, fn.alone_variadic, fn.alone_aggregate; fn.nothing, nowhere.nothing, nowhere.*, nothing';
SELECT pg_reload_conf() \gset
\c -
SELECT view, method, error FROM bigbrotr_refresher.plan();

-- The catalogs are read each time.
CREATE FUNCTION fn.nothing_refresh() RETURNS void LANGUAGE sql AS '';
DROP PROCEDURE fn.mv_procedure_refresh;
ALTER MATERIALIZED VIEW fn.mv_function RENAME TO mv_renamed;
ALTER SCHEMA fn RENAME TO nowhere;
SELECT view, method, error FROM bigbrotr_refresher.plan()
WHERE view LIKE 'nowhere%';
ALTER SCHEMA nowhere RENAME TO fn;
SELECT view, method, error FROM bigbrotr_refresher.plan()
WHERE view IN ('fn.nothing', 'fn.mv_procedure', 'fn.mv_function');

SET client_min_messages = warning;
DROP SCHEMA fn CASCADE;

--
-- Names without a schema
--
CREATE SCHEMA one;
CREATE SCHEMA two;
CREATE MATERIALIZED VIEW two.only_two AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW one.shared AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW two.shared AS SELECT 1 AS x;
CREATE UNIQUE INDEX ON two.shared (x);
-- A function in the schema of the relation, and nowhere else
CREATE MATERIALIZED VIEW two.function_elsewhere AS SELECT 1 AS x;
CREATE FUNCTION one.function_elsewhere_refresh() RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW one.function_in_other AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW two.function_in_other AS SELECT 1 AS x;
CREATE FUNCTION two.function_in_other_refresh() RETURNS void LANGUAGE sql AS '';
CREATE TABLE one.tab (x int);
CREATE FUNCTION two.tab_refresh() RETURNS void LANGUAGE sql AS '';
-- Without a relation, the first function
CREATE FUNCTION one.alone_refresh() RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE two.alone_refresh() LANGUAGE sql AS '';
CREATE FUNCTION two.alone_two_refresh() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION one.alone_two_refresh(int) RETURNS void LANGUAGE sql AS '';

ALTER SYSTEM SET bigbrotr_refresher.views =
	'only_two, shared, function_elsewhere, function_in_other, tab, alone, alone_two, pg_class';
SELECT pg_reload_conf() \gset
\c -
SET search_path = one, two;
SELECT view, method, error FROM bigbrotr_refresher.plan();
SET search_path = two, one;
SELECT view, method, error FROM bigbrotr_refresher.plan();
SET search_path = one;
SELECT view, method, error FROM bigbrotr_refresher.plan();
SET search_path = '';
SELECT view, method, error FROM bigbrotr_refresher.plan();
-- A schema that is not there is passed by.
SET search_path = nowhere, two;
SELECT view, method FROM bigbrotr_refresher.plan() WHERE method IS NOT NULL;
-- Functions of a temporary schema do not count.
SET search_path = pg_temp, two;
CREATE FUNCTION pg_temp.alone_refresh() RETURNS void LANGUAGE sql AS '';
SELECT view, method FROM bigbrotr_refresher.plan() WHERE method IS NOT NULL;

-- Two names of one thing make one item, in the first one's place.
ALTER SYSTEM SET bigbrotr_refresher.views =
	'shared, two.shared; one.shared, alone; two.alone, one.alone, nothing, one.nothing';
SELECT pg_reload_conf() \gset
\c -
SET search_path = one, two;
SELECT position, stage, view, method, error FROM bigbrotr_refresher.plan();
SET search_path = two, one;
SELECT position, stage, view, method, error FROM bigbrotr_refresher.plan();

SET client_min_messages = warning;
DROP SCHEMA one CASCADE;
DROP SCHEMA two CASCADE;

--
-- Long names and odd names
--
CREATE SCHEMA odd;
SET client_min_messages = warning;
-- 55 bytes leave just enough room for "_refresh".  A name that is cut to
-- length must not be taken for one that is not.
SELECT format('CREATE MATERIALIZED VIEW odd.%I AS SELECT 1 AS x', name),
	   format('CREATE FUNCTION odd.%I() RETURNS void LANGUAGE sql AS %L',
			  left(name || '_refresh', 63), '')
FROM (VALUES (repeat('a', 55)), (repeat('b', 56)), (repeat('c', 63)))
	AS names(name) \gexec
SELECT format('CREATE FUNCTION odd.%I() RETURNS void LANGUAGE sql AS %L',
			  left(name || '_refresh', 63), '')
FROM (VALUES (repeat('d', 55)), (repeat('e', 56)), (repeat('f', 63)))
	AS names(name) \gexec

CREATE SCHEMA "Odd.schema";
CREATE MATERIALIZED VIEW "Odd.schema"."a ""b"".c;d,e@f" AS SELECT 1 AS x;
CREATE FUNCTION "Odd.schema"."a ""b"".c;d,e@f_refresh"() RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW "Odd.schema"."*" AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW "Odd.schema"."select" AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW "Odd.schema"."' || \%s" AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW "Odd.schema"."Case" AS SELECT 1 AS x;
CREATE UNIQUE INDEX ON "Odd.schema"."Case" (x);
CREATE FUNCTION "Odd.schema".case_refresh() RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW odd.schema AS SELECT 1 AS x;

SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L',
			  string_agg('odd.' || repeat(letter, bytes), ', ') ||
			  '; "Odd.schema"."a ""b"".c;d,e@f", "Odd.schema"."*", "Odd.schema"."select"' ||
			  ', "Odd.schema"."'' || \%s" @ 1h,"Odd.schema"."Case", "Odd.schema".case' ||
			  '; odd.schema, odd."Schema", "odd.schema", "no ""such"" schema".x, "%s%n"')
FROM (VALUES ('a', 55), ('b', 56), ('c', 63), ('d', 55), ('e', 56), ('f', 63))
	AS names(letter, bytes) \gexec
SELECT pg_reload_conf() \gset
\c -
SELECT stage, view, method, error FROM bigbrotr_refresher.plan();

SET client_min_messages = warning;
DROP SCHEMA odd CASCADE;
DROP SCHEMA "Odd.schema" CASCADE;
DROP FUNCTION concurrently_works;
--
-- A view that raises an ERROR when it is looked at
--
CREATE SCHEMA broken;
CREATE MATERIALIZED VIEW broken.a AS SELECT 1 AS x;
CREATE VIEW broken.plain AS SELECT x FROM broken.a;
CREATE MATERIALIZED VIEW broken.b AS SELECT x FROM broken.plain;
CREATE MATERIALIZED VIEW broken.c AS SELECT x FROM broken.a;
CREATE MATERIALIZED VIEW broken.d AS SELECT x FROM broken.plain;
CREATE TABLE broken.rules AS
	SELECT ev_class, ev_action FROM pg_rewrite
	WHERE ev_class IN ('broken.b'::regclass, 'broken.c'::regclass);
CREATE CAST (text AS pg_node_tree) WITHOUT FUNCTION;
UPDATE pg_rewrite SET ev_action = 'garbage'::text::pg_node_tree
WHERE ev_class IN (SELECT ev_class FROM broken.rules);
ALTER SYSTEM SET bigbrotr_refresher.views = 'broken.*';
SELECT pg_reload_conf() \gset
\c -
SELECT view, method, error, depends_on, skippable, not_skippable_because
FROM bigbrotr_refresher.plan();
SET client_min_messages = warning;
UPDATE pg_rewrite SET ev_action = r.ev_action
FROM broken.rules AS r WHERE r.ev_class = pg_rewrite.ev_class;
DROP CAST (text AS pg_node_tree);
SELECT view, method, error, depends_on, skippable, not_skippable_because
FROM bigbrotr_refresher.plan();
DROP SCHEMA broken CASCADE;

DROP EXTENSION bigbrotr_refresher;
ALTER SYSTEM RESET bigbrotr_refresher.views;
