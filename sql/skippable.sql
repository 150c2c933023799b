--
-- plan(): which views skip_unchanged can leave out, and why others never are
--
\pset format unaligned
\pset tuples_only on
\pset null -
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;
CREATE SCHEMA yes;
CREATE SCHEMA no;

CREATE TABLE plain (id int PRIMARY KEY, a text, j jsonb, at timestamptz);
CREATE TABLE other (id int, plain_id int REFERENCES plain, kind int);
INSERT INTO plain VALUES (1, 'a', '{"k": [1, 2]}', '2020-01-01');
INSERT INTO other VALUES (1, 1, 1);
CREATE TABLE parted (id int, a text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)
	PARTITION BY LIST (id);
CREATE TABLE parted_1_1 PARTITION OF parted_1 DEFAULT;
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE grandchild () INHERITS (child);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE moods (m mood, ms mood[]);
CREATE TYPE own_row AS (x int, y int);
CREATE TYPE own_range AS RANGE (subtype = int);
CREATE DOMAIN own_plain_domain AS int;
CREATE TABLE typed (id int, r own_row, rs own_row[], d own_plain_domain,
	g own_range, p point, k regclass, f float8, b bytea);
INSERT INTO typed VALUES (1, (1, 1), '{}', 1, '[1,2)', '(1,1)', 'plain', 1.5, '\x41');
CREATE COLLATION own_collation (locale = 'C');

--
-- What can be skipped
--
SET search_path = yes, public;
CREATE MATERIALIZED VIEW columns AS SELECT id, a, at FROM plain;
CREATE MATERIALIZED VIEW constant AS SELECT 1 AS x, '2020-01-01'::date AS d;
CREATE MATERIALIZED VIEW joins AS
	SELECT p.id, o.kind, q.a FROM plain AS p
	LEFT JOIN other AS o ON o.plain_id = p.id
	FULL JOIN plain AS q ON q.id = p.id
	CROSS JOIN LATERAL (SELECT max(r.kind) FROM other AS r WHERE r.id = p.id) AS l;
CREATE MATERIALIZED VIEW aggregates AS
	SELECT kind, count(*), count(DISTINCT id) AS ids, sum(id)::numeric(10, 2),
		max(id) FILTER (WHERE kind > 1), array_agg(id ORDER BY id DESC),
		percentile_cont(0.5) WITHIN GROUP (ORDER BY id)
	FROM other GROUP BY ROLLUP (kind) HAVING count(*) > 0;
CREATE MATERIALIZED VIEW windows AS
	SELECT id, row_number() OVER w, lag(kind) OVER w,
		sum(id) OVER (ORDER BY id RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)
	FROM other WINDOW w AS (PARTITION BY kind ORDER BY id);
CREATE MATERIALIZED VIEW sets AS
	SELECT id FROM plain UNION SELECT id FROM other
	EXCEPT ALL (SELECT 3 INTERSECT SELECT 4) ORDER BY 1 LIMIT 10 OFFSET 1;
CREATE MATERIALIZED VIEW ctes AS
	WITH RECURSIVE c (n) AS (
		SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3
	), m AS MATERIALIZED (SELECT id FROM plain)
	SELECT n, id FROM c, m;
CREATE MATERIALIZED VIEW subqueries AS
	SELECT id, (SELECT max(kind) FROM other), ARRAY(SELECT o.id FROM other AS o)
	FROM plain WHERE id IN (SELECT plain_id FROM other)
		AND EXISTS (SELECT FROM other AS o WHERE o.plain_id = plain.id);
CREATE MATERIALIZED VIEW sources AS
	SELECT s.n, u.x, v.y FROM generate_series(1, 3) WITH ORDINALITY AS s (n, o),
		unnest(ARRAY[1, 2]) AS u (x), (VALUES (1), (2)) AS v (y),
		ROWS FROM (generate_series(1, 2), unnest(ARRAY['a', 'b'])) AS r (a, b);
CREATE MATERIALIZED VIEW jsonb_functions AS
	SELECT id, j -> 'k' AS k, j ->> 'k' AS t, j #> '{k,0}' AS p, e.value,
		j @> '{"k": []}' AS c, (j['k'])[0] AS s, jsonb_array_length(j -> 'k') AS n
	FROM plain, jsonb_array_elements(j -> 'k') AS e;
CREATE MATERIALIZED VIEW expressions AS
	SELECT CASE WHEN id > 1 THEN 'x' ELSE lower(a) || '!' END AS a,
		coalesce(a, 'none') AS b, greatest(id, 2) AS c, nullif(id, 2) AS d,
		a LIKE 'a%' AS e, a ~ '^a' AS f, (id, a) < (2, 'b') AS g,
		id = ANY (ARRAY[1, 2]) AS h, at > '2020-01-01' AS i,
		id::text::varchar(3) AS k, at AT TIME ZONE 'UTC' AS l, a IS DISTINCT FROM 'b' AS m,
		extract(epoch FROM at AT TIME ZONE 'UTC') AS n, md5(a) AS o, substring(a FROM 1) AS q
	FROM plain WHERE id IS NOT NULL;
CREATE MATERIALIZED VIEW enums AS
	SELECT m, count(*) FROM moods, unnest(ms) WHERE m < 'happy' GROUP BY m ORDER BY m;
CREATE MATERIALIZED VIEW of_partition AS SELECT id FROM parted_1;
CREATE MATERIALIZED VIEW of_partitioned AS SELECT id, tableoid AS t FROM parted;
CREATE MATERIALIZED VIEW of_parent AS SELECT id FROM parent;
CREATE MATERIALIZED VIEW of_parent_only AS SELECT id FROM ONLY parent;
CREATE VIEW public.middle_1 AS SELECT id, a FROM plain;
CREATE VIEW public.middle_2 WITH (security_barrier, security_invoker) AS
	SELECT id FROM middle_1 WHERE a > '';
CREATE MATERIALIZED VIEW of_views AS
	SELECT x.id FROM middle_2 AS x JOIN middle_2 AS y USING (id) JOIN middle_1 USING (id);
CREATE MATERIALIZED VIEW of_matviews AS SELECT id FROM of_views JOIN columns USING (id);
CREATE MATERIALIZED VIEW by_function AS SELECT id FROM plain;
CREATE FUNCTION by_function_refresh() RETURNS void
	LANGUAGE sql AS 'REFRESH MATERIALIZED VIEW yes.by_function';
CREATE MATERIALIZED VIEW collated AS
	SELECT a COLLATE own_collation AS a FROM plain ORDER BY a COLLATE own_collation;
CREATE MATERIALIZED VIEW columns_unread AS
	SELECT t.id FROM typed AS t JOIN plain AS p ON p.id = t.id;
CREATE MATERIALIZED VIEW join_using AS SELECT id FROM plain FULL JOIN other USING (id);
CREATE MATERIALIZED VIEW record_fields AS
	SELECT (jsonb_each(j)).key, (jsonb_each(j)).value FROM plain;
CREATE MATERIALIZED VIEW records AS
	SELECT count(DISTINCT (id, a)), max(a) FILTER (WHERE ROW(id, a) = ROW(1, 'a')) FROM plain;
CREATE MATERIALIZED VIEW search_and_cycle AS
	WITH RECURSIVE c (n) AS (
		SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3
	) SEARCH DEPTH FIRST BY n SET o CYCLE n SET is_cycle USING path
	SELECT n FROM c ORDER BY o;
CREATE MATERIALIZED VIEW texts AS SELECT f::text, b::text FROM typed;
RESET search_path;

--
-- What cannot
--
CREATE SEQUENCE seq;
CREATE TABLE secured (id int);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE TABLE secured_parent (id int);
CREATE TABLE secured_child () INHERITS (secured_parent);
ALTER TABLE secured_child ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION own_sql(int) RETURNS int IMMUTABLE
	LANGUAGE sql AS 'SELECT $1 + 1';
CREATE FUNCTION own_plpgsql(int) RETURNS int IMMUTABLE
	LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT max(id) FROM public.plain); END';
CREATE FUNCTION own_rows() RETURNS SETOF int IMMUTABLE
	LANGUAGE sql AS 'SELECT id FROM public.plain';
CREATE AGGREGATE own_sum(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR @@@ (RIGHTARG = int, FUNCTION = own_sql);
CREATE DOMAIN own_domain AS int CHECK (own_plpgsql(VALUE) IS NOT NULL);
CREATE FUNCTION own_less(int, int) RETURNS boolean IMMUTABLE
	LANGUAGE sql AS 'SELECT $1 > $2';
CREATE FUNCTION own_compare(int, int) RETURNS int IMMUTABLE
	LANGUAGE sql AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR <# (LEFTARG = int, RIGHTARG = int, FUNCTION = own_less);
CREATE OPERATOR CLASS own_ops FOR TYPE int USING btree AS
	OPERATOR 1 <#, OPERATOR 3 =, FUNCTION 1 own_compare(int, int);
CREATE OPERATOR public.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE FUNCTION own_point_equal(point, point) RETURNS boolean IMMUTABLE
	LANGUAGE sql AS 'SELECT $1 ~= $2';
CREATE FUNCTION own_point_hash(point) RETURNS int IMMUTABLE
	LANGUAGE sql AS 'SELECT 1';
CREATE OPERATOR #=# (LEFTARG = point, RIGHTARG = point, FUNCTION = own_point_equal);
CREATE OPERATOR CLASS own_point_ops DEFAULT FOR TYPE point USING hash AS
	OPERATOR 1 #=#, FUNCTION 1 own_point_hash(point);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TABLE watched (id int);
CREATE TABLE kept_parent (id int);
CREATE TABLE kept_child () INHERITS (kept_parent);
CREATE TABLE triggered (id int);
CREATE TRIGGER watch BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch BEFORE INSERT ON kept_child FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION watch();
-- An extension that keeps rows elsewhere makes such triggers.
SET allow_system_table_mods = on;
UPDATE pg_trigger SET tgisinternal = true
	WHERE tgrelid IN ('watched'::regclass, 'kept_child'::regclass);
RESET allow_system_table_mods;
CREATE MATERIALIZED VIEW yes.of_triggered AS SELECT id FROM triggered;
CREATE SCHEMA extended;
CREATE TABLE extended.chunk (id int);
CREATE TABLE chunked (id int) PARTITION BY LIST (id);
CREATE TABLE extended.chunk_1 PARTITION OF chunked DEFAULT;
ALTER EXTENSION bigbrotr_refresher ADD SCHEMA extended;
CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE elsewhere (id int) USING own_heap;
CREATE TABLE foreign_parent (id int);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (id int) SERVER nowhere;
CREATE FOREIGN TABLE far_child () INHERITS (foreign_parent) SERVER nowhere;

SET search_path = no, public;
CREATE MATERIALIZED VIEW clock AS SELECT now() AS x;
CREATE MATERIALIZED VIEW clock_zone AS
	SELECT id FROM plain WHERE date_trunc('day', at) = '2020-01-01';
CREATE MATERIALIZED VIEW today AS SELECT CURRENT_DATE AS x;
CREATE MATERIALIZED VIEW who AS SELECT CURRENT_USER AS x;
CREATE MATERIALIZED VIEW cast_time AS SELECT at::text FROM plain;
CREATE MATERIALIZED VIEW cast_enum AS SELECT m::text FROM moods;
CREATE MATERIALIZED VIEW volatile AS SELECT random() AS x FROM plain;
CREATE MATERIALIZED VIEW next AS SELECT nextval('seq') AS x;
CREATE MATERIALIZED VIEW setting AS SELECT current_setting('work_mem') AS x;
CREATE MATERIALIZED VIEW function_sql AS SELECT own_sql(id) FROM plain;
CREATE MATERIALIZED VIEW function_plpgsql AS SELECT own_plpgsql(id) FROM plain;
CREATE MATERIALIZED VIEW function_rows AS SELECT x FROM own_rows() AS x;
CREATE MATERIALIZED VIEW aggregate AS SELECT own_sum(id) FROM plain;
CREATE MATERIALIZED VIEW aggregate_window AS
	SELECT own_sum(id) OVER (ORDER BY id) FROM plain;
CREATE MATERIALIZED VIEW operator AS SELECT @@@ id AS x FROM plain;
CREATE MATERIALIZED VIEW operator_order AS
	SELECT id FROM plain ORDER BY id USING <# LIMIT 1;
CREATE MATERIALIZED VIEW operator_order_aggregate AS
	SELECT array_agg(id ORDER BY id USING <#) FROM plain;
CREATE MATERIALIZED VIEW operator_order_window AS
	SELECT row_number() OVER (ORDER BY id USING <#) FROM plain;
CREATE MATERIALIZED VIEW domain AS SELECT id::own_domain FROM plain;
CREATE MATERIALIZED VIEW own_name AS SELECT id <+> 1 AS x FROM plain;
CREATE MATERIALIZED VIEW type_domain AS SELECT d FROM typed;
CREATE MATERIALIZED VIEW type_row AS SELECT count(DISTINCT r) FROM typed;
CREATE MATERIALIZED VIEW type_row_array AS SELECT rs FROM typed;
CREATE MATERIALIZED VIEW type_row_field AS SELECT (r).x FROM typed;
CREATE MATERIALIZED VIEW type_range AS SELECT upper(g) FROM typed;
CREATE MATERIALIZED VIEW type_comparison AS SELECT p FROM typed;
CREATE MATERIALIZED VIEW type_alias AS SELECT k FROM typed;
CREATE MATERIALIZED VIEW lookup AS SELECT count(*) FROM ts_parse(3722::oid, 'a');
CREATE MATERIALIZED VIEW locking AS SELECT id FROM plain FOR UPDATE SKIP LOCKED;
CREATE MATERIALIZED VIEW elsewhere_trigger AS SELECT id FROM watched;
CREATE MATERIALIZED VIEW elsewhere_child AS SELECT id FROM kept_parent;
CREATE MATERIALIZED VIEW elsewhere_schema AS SELECT id FROM extended.chunk;
CREATE MATERIALIZED VIEW elsewhere_partition AS SELECT id FROM chunked;
CREATE MATERIALIZED VIEW row_whole AS SELECT count(p) FROM plain AS p;
CREATE MATERIALIZED VIEW row_subquery AS
	SELECT s IS NULL AS x FROM (SELECT id FROM plain) AS s;
CREATE MATERIALIZED VIEW system_column AS SELECT xmax AS x FROM plain;
CREATE MATERIALIZED VIEW system_catalog AS SELECT count(*) FROM pg_class;
CREATE MATERIALIZED VIEW system_view AS
	SELECT count(*) FROM information_schema.tables;
CREATE MATERIALIZED VIEW sampled AS
	SELECT id FROM plain TABLESAMPLE bernoulli (50) REPEATABLE (1);
CREATE MATERIALIZED VIEW sequence AS SELECT last_value FROM seq;
CREATE MATERIALIZED VIEW row_security AS SELECT id FROM secured;
CREATE MATERIALIZED VIEW row_security_child AS SELECT id FROM secured_parent;
CREATE MATERIALIZED VIEW access_method AS SELECT id FROM elsewhere;
CREATE MATERIALIZED VIEW text_search AS
	SELECT to_tsvector('english', a) FROM plain;
CREATE MATERIALIZED VIEW unpopulated AS SELECT id FROM plain WITH NO DATA;
CREATE MATERIALIZED VIEW unpopulated_again AS SELECT id FROM plain;
REFRESH MATERIALIZED VIEW unpopulated_again WITH NO DATA;

-- Nothing can be read from these foreign tables; a view is populated first.
ALTER FOREIGN TABLE far_child NO INHERIT foreign_parent;
CREATE MATERIALIZED VIEW foreign_child AS SELECT id FROM foreign_parent;
ALTER FOREIGN TABLE far_child INHERIT foreign_parent;
CREATE VIEW middle_far AS SELECT id FROM plain;
CREATE MATERIALIZED VIEW foreign_table AS SELECT id FROM middle_far;
CREATE OR REPLACE VIEW middle_far AS SELECT id FROM far;

-- What is not a materialized view
CREATE TABLE by_function_table (id int);
CREATE FUNCTION by_function_table_refresh() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION by_function_alone_refresh() RETURNS void LANGUAGE sql AS '';
RESET search_path;

-- What is in force is what a new session has: hence \c after each reload.
ALTER SYSTEM SET bigbrotr_refresher.views =
	'yes.*, no.*, no.by_function_table, no.by_function_alone, no.absent';
SELECT pg_reload_conf() \gset
\c -
SELECT view, skippable, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE view LIKE 'yes.%' ORDER BY view;
SELECT view, skippable, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE view LIKE 'no.%' ORDER BY view;

-- One is told what can be done, where it is wanted.
SELECT DISTINCT advice FROM bigbrotr_refresher.plan()
WHERE view LIKE 'no.%' AND method IN ('merge', 'refresh') AND
	view NOT LIKE '%unpopulated%';
SET bigbrotr_refresher.skip_unchanged = on;
SELECT DISTINCT regexp_replace(advice, '^No worker [^.]*\.databases[^.]*\. Add [^.]*\. ', '') AS advice,
	min(view) AS for_example
FROM bigbrotr_refresher.plan() WHERE view LIKE 'no.%' AND error IS NULL AND
	view NOT LIKE 'no.by_function%'
GROUP BY 1 ORDER BY 1;
-- (Nothing can be done about what is not a materialized view.)
SELECT view FROM bigbrotr_refresher.plan()
WHERE NOT skippable AND error IS NULL AND
	advice !~ '^No worker [^.]*\.databases[^.]*\. Add [^.]*\. [A-Z]';
RESET bigbrotr_refresher.skip_unchanged;
-- What counts is what there is now.
ALTER TABLE secured_child DISABLE ROW LEVEL SECURITY;
ALTER FOREIGN TABLE far_child NO INHERIT foreign_parent;
CREATE OR REPLACE VIEW no.middle_far AS SELECT id FROM other;
REFRESH MATERIALIZED VIEW no.unpopulated;
ALTER TABLE parted_1_1 ENABLE ROW LEVEL SECURITY;
SELECT view, skippable, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE skippable <> (view LIKE 'yes.%') ORDER BY view;

-- Without counters, nothing can.
SET track_counts = off;
SELECT DISTINCT skippable, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE view LIKE 'yes.%' ORDER BY 2;
RESET track_counts;
CREATE ROLE regress_uncounted;
ALTER ROLE regress_uncounted SET track_counts = 'OFF';
SELECT DISTINCT skippable, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE view LIKE 'yes.%' ORDER BY 2;
ALTER ROLE regress_uncounted SET track_counts = on;
ALTER ROLE regress_uncounted IN DATABASE template1 SET track_counts = off;
SELECT DISTINCT skippable, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE view LIKE 'yes.c%' ORDER BY 2;
SELECT current_database() AS this \gset
ALTER DATABASE :"this" SET track_counts = no;
SELECT DISTINCT skippable, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE view LIKE 'yes.%' ORDER BY 2;
ALTER DATABASE :"this" RESET track_counts;
ALTER ROLE ALL SET track_counts = off;
SET bigbrotr_refresher.skip_unchanged = on;
SELECT DISTINCT not_skippable_because, substring(advice FROM 'Reset .*') FROM bigbrotr_refresher.plan()
WHERE view LIKE 'yes.%' ORDER BY 1;
RESET bigbrotr_refresher.skip_unchanged;
ALTER ROLE ALL RESET track_counts;
ALTER ROLE regress_uncounted IN DATABASE template1 RESET ALL;
DROP ROLE regress_uncounted;

SET client_min_messages = warning;
DROP SCHEMA yes, no CASCADE;

--
-- Deep and wide queries are no danger to plan().
--
CREATE SCHEMA deep;
CREATE VIEW deep.top AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW deep.of_views AS SELECT x FROM deep.top;
CREATE MATERIALIZED VIEW deep.of_shallow AS SELECT 1 AS x;
SELECT 'CREATE MATERIALIZED VIEW deep.nested AS SELECT ' || repeat('abs(', 1000) || '1'
	|| repeat(')', 1000) || ' AS x' AS nested \gset
:nested;
DO $$
BEGIN
	CREATE VIEW deep.v_0 AS SELECT 1 AS x;
	FOR n IN 1 .. 10100 LOOP
		EXECUTE format('CREATE VIEW deep.v_%s AS SELECT x FROM deep.v_%s', n, n - 1);
		IF n % 500 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END
$$;
ALTER SYSTEM SET bigbrotr_refresher.views = 'deep.*';
SELECT pg_reload_conf() \gset
\c -
CREATE OR REPLACE VIEW deep.top AS SELECT x FROM deep.v_6000;
SELECT view, skippable, not_skippable_because FROM bigbrotr_refresher.plan() ORDER BY view;
CREATE OR REPLACE VIEW deep.top AS SELECT x FROM deep.v_10100;
SELECT view, skippable, not_skippable_because FROM bigbrotr_refresher.plan() ORDER BY view;
SET max_stack_depth = '160kB';
SELECT view, skippable, not_skippable_because FROM bigbrotr_refresher.plan() ORDER BY view;
RESET max_stack_depth;
SET client_min_messages = warning;

--
-- Every place of a query is looked at, for each of these.  In each place, a
-- constant can be skipped.
--
CREATE SCHEMA places;
CREATE TABLE place (name text, query text);
INSERT INTO place VALUES
	('target', 'SELECT {} AS x FROM plain'),
	('where', 'SELECT id FROM plain WHERE id = {}'),
	('join_on', 'SELECT p.id FROM plain AS p LEFT JOIN other AS o ON o.id = {}'),
	('group_by', 'SELECT count(*) FROM plain GROUP BY id + {}'),
	('grouping_set', 'SELECT count(*) FROM plain GROUP BY GROUPING SETS ((id + {}), ())'),
	('having', 'SELECT kind FROM other GROUP BY kind HAVING max(id) > {}'),
	('order_by', 'SELECT id FROM plain ORDER BY id + {}'),
	('distinct_on', 'SELECT DISTINCT ON (id + {}) id FROM plain'),
	('limit', 'SELECT id FROM plain LIMIT {}'),
	('offset', 'SELECT id FROM plain OFFSET {}'),
	('argument', 'SELECT abs({}) AS x'),
	('aggregate', 'SELECT max(id + {}) FROM plain'),
	('aggregate_order', 'SELECT array_agg(id ORDER BY id + {}) FROM plain'),
	('aggregate_filter', 'SELECT count(*) FILTER (WHERE id = {}) FROM plain'),
	('aggregate_direct', 'SELECT percentile_disc(0.1 * abs({}) / (abs({}) + 1)) WITHIN GROUP (ORDER BY id) FROM plain'),
	('window_argument', 'SELECT lag(id, {}) OVER (ORDER BY id) FROM plain'),
	('window_partition', 'SELECT count(*) OVER (PARTITION BY id + {}) FROM plain'),
	('window_order', 'SELECT count(*) OVER (ORDER BY id + {}) FROM plain'),
	('window_frame', 'SELECT count(*) OVER (ORDER BY id ROWS abs({}) PRECEDING) FROM plain'),
	('window_named', 'SELECT count(*) OVER w FROM plain WINDOW w AS (ORDER BY id + {})'),
	('window_filter', 'SELECT count(*) FILTER (WHERE id = {}) OVER () FROM plain'),
	('case_when', 'SELECT CASE WHEN id = {} THEN 1 END AS x FROM plain'),
	('case_value', 'SELECT CASE {} WHEN 1 THEN 1 END AS x'),
	('coalesce', 'SELECT coalesce(id, {}) AS x FROM plain'),
	('greatest', 'SELECT greatest(id, {}) AS x FROM plain'),
	('array', 'SELECT ARRAY[1, {}] AS x'),
	('subscript', 'SELECT (ARRAY[1, 2])[{}] AS x'),
	('any_array', 'SELECT id FROM plain WHERE id = ANY (ARRAY[1, {}])'),
	('row_compare', 'SELECT id FROM plain WHERE (id, 1) < (2, {})'),
	('row_in', 'SELECT id FROM plain WHERE id IN (1, {})'),
	('is_null', 'SELECT {} IS NULL AS x'),
	('cast', 'SELECT {}::text AS x'),
	('subquery', 'SELECT x FROM (SELECT {} AS x FROM plain OFFSET 0) AS s'),
	('subquery_deep', 'SELECT x FROM (SELECT x FROM (SELECT x FROM (SELECT {} AS x) AS a) AS b) AS c'),
	('scalar', 'SELECT (SELECT {}) AS x FROM plain'),
	('exists', 'SELECT id FROM plain WHERE EXISTS (SELECT FROM other WHERE kind = {})'),
	('in_subquery', 'SELECT id FROM plain WHERE id IN (SELECT kind + {} FROM other)'),
	('array_subquery', 'SELECT ARRAY(SELECT kind + {} FROM other) AS x'),
	('lateral', 'SELECT s.x FROM plain, LATERAL (SELECT plain.id + {} AS x) AS s'),
	('lateral_function', 'SELECT s.x FROM plain, generate_series(id, {}) AS s (x)'),
	('rows_from', 'SELECT a FROM ROWS FROM (generate_series(1, 2), generate_series(1, {})) AS s (a, b)'),
	('values', 'SELECT x FROM (VALUES (1), ({})) AS s (x)'),
	('cte', 'WITH c AS (SELECT {} AS x) SELECT x FROM c'),
	('cte_unread', 'WITH c AS (SELECT {} AS x) SELECT 1 AS y'),
	('cte_recursive', 'WITH RECURSIVE c AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM c WHERE x < least(3, {})) SELECT x FROM c'),
	('cte_in_scalar', 'SELECT (WITH c AS MATERIALIZED (SELECT {} AS x) SELECT max(x) FROM c) AS x FROM plain'),
	('union', 'SELECT id FROM plain UNION ALL SELECT {}'),
	('except', 'SELECT id FROM plain EXCEPT (SELECT 1 INTERSECT SELECT {})'),
	('view', 'SELECT x FROM places.{view}'),
	('view_in_view', 'SELECT x FROM places.{view_in_view}'),
	('view_in_scalar', 'SELECT (SELECT max(x) FROM places.{view_in_view}) AS x FROM plain'),
	('view_in_cte', 'WITH c AS (SELECT x FROM places.{view}) SELECT x FROM c');
CREATE TABLE culprit (name text, expression text);
INSERT INTO culprit VALUES
	('none', '1'),
	('volatile', '(random() * 2)::int'),
	('stable', 'extract(day FROM now())::int'),
	('value', 'extract(day FROM CURRENT_DATE)::int'),
	('sequence', 'nextval(''seq'')::int'),
	('own_function', 'own_sql(1)'),
	('own_operator', '(@@@ 1)'),
	('domain', '(1::own_domain)'),
	('catalog', '(SELECT count(*)::int FROM pg_am)'),
	('sample', '(SELECT count(*)::int FROM plain TABLESAMPLE system (100))'),
	('secured', '(SELECT count(*)::int FROM secured)'),
	('own_aggregate', '(SELECT own_sum(id) FROM other)'),
	('own_rows', '(SELECT max(r) FROM own_rows() AS r)'),
	('own_order', '(SELECT id FROM plain ORDER BY id USING <# LIMIT 1)'),
	('whole_row', '(SELECT count(p)::int FROM plain AS p)'),
	('system_column', '(SELECT xmin::text::int FROM plain LIMIT 1)'),
	('text_search', '(SELECT length(to_tsvector(''simple'', a)) FROM plain LIMIT 1)'),
	('locks', '(SELECT id FROM plain LIMIT 1 FOR UPDATE)'),
	('row_type', '(SELECT count(DISTINCT r)::int FROM typed)'),
	('domain_column', '(SELECT d FROM typed LIMIT 1)'),
	('range_type', '(SELECT upper(g) FROM typed LIMIT 1)'),
	('comparison', '(SELECT (ARRAY[p] = ARRAY[p])::int FROM typed LIMIT 1)'),
	('lookup', '(SELECT count(*)::int FROM ts_parse(3722::oid, ''a''))'),
	('internal_trigger', '(SELECT count(*)::int FROM watched)'),
	('extension_schema', '(SELECT count(*)::int FROM chunked)'),
	('access_method', '(SELECT count(*)::int FROM elsewhere)');

-- The server does not have constructors of JSON in all its versions.
DO $$
BEGIN
	EXECUTE 'SELECT JSON_OBJECT(''k'': 1)';
	INSERT INTO place VALUES
		('json_object', 'SELECT JSON_OBJECT(''k'': {} RETURNING jsonb) AS x'),
		('json_array', 'SELECT JSON_ARRAY(1, {} RETURNING jsonb) AS x');
EXCEPTION WHEN syntax_error THEN
	NULL;
END
$$;

DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT p.name AS place, p.query, c.name AS culprit, c.expression
		FROM place AS p, culprit AS c
	LOOP
		IF r.place = 'target' THEN
			EXECUTE format('CREATE VIEW places.%I AS SELECT %s AS x',
				r.culprit || '_view', r.expression);
			EXECUTE format('CREATE VIEW places.%I AS SELECT x FROM places.%I',
				r.culprit || '_view_in_view', r.culprit || '_view');
		END IF;
		EXECUTE format('CREATE MATERIALIZED VIEW places.%I AS ', r.culprit || '_in_' || r.place)
			|| replace(replace(replace(r.query, '{}', r.expression),
				'{view}', r.culprit || '_view'),
				'{view_in_view}', r.culprit || '_view_in_view');
	END LOOP;
END
$$;
ALTER SYSTEM SET bigbrotr_refresher.views = 'places.*';
SELECT pg_reload_conf() \gset
\c -
SELECT count(*) = (SELECT count(*) FROM place, culprit) AS all_are_there
FROM bigbrotr_refresher.plan();
SELECT view, skippable FROM bigbrotr_refresher.plan()
WHERE skippable <> (view LIKE 'places.none%') OR
	skippable <> (not_skippable_because IS NULL);
SELECT DISTINCT c.name,
	regexp_replace(p.not_skippable_because, E' \\(read through .*', '') AS because
FROM bigbrotr_refresher.plan() AS p
JOIN culprit AS c ON p.view LIKE 'places.' || c.name || '_in_%'
ORDER BY 1, 2;

--
-- What the server has not in all its versions, or not in all its builds
--
CREATE SCHEMA special;
CREATE TABLE special_case (name text, query text, skippable boolean);
INSERT INTO special_case VALUES
	('xml_element', 'SELECT xmlelement(name x, at) FROM plain', false),
	('xml_serialize', 'SELECT id FROM plain WHERE XMLSERIALIZE(CONTENT NULL::xml AS text) = a', false),
	('xml_table', 'SELECT x FROM XMLTABLE(''/a'' PASSING ''<a>2020-01-01</a>'' COLUMNS x timestamptz PATH ''.'')', false),
	('json_object', 'SELECT JSON_OBJECT(''k'': id RETURNING jsonb) AS x FROM plain', true),
	('json_object_time', 'SELECT JSON_OBJECT(''k'': at RETURNING jsonb) AS x FROM plain', false),
	('json_value', 'SELECT JSON_VALUE(j, ''$.k[0]'' RETURNING timestamptz) AS x FROM plain', false),
	('json_query', 'SELECT JSON_QUERY(j, ''$.k'') AS x FROM plain', false),
	('json_table', 'SELECT x FROM plain, JSON_TABLE(j, ''$.k[*]'' COLUMNS (x timestamptz PATH ''$'' NULL ON ERROR))', false),
	('virtual', 'SELECT g FROM virtual_column', false),
	('virtual_unread', 'SELECT id FROM virtual_column', false);
DO $$
DECLARE
	r record;
BEGIN
	BEGIN
		EXECUTE 'CREATE TABLE virtual_column (id int, g int GENERATED ALWAYS AS (id + 1) VIRTUAL)';
	EXCEPTION WHEN syntax_error THEN
		NULL;
	END;
	FOR r IN SELECT * FROM special_case LOOP
		BEGIN
			EXECUTE format('CREATE MATERIALIZED VIEW special.%I AS ', r.name) || r.query;
		EXCEPTION
			WHEN syntax_error OR undefined_table OR undefined_function OR feature_not_supported THEN
				NULL;
		END;
	END LOOP;
END
$$;
ALTER SYSTEM SET bigbrotr_refresher.views = 'special.*';
SELECT pg_reload_conf() \gset
\c -
SELECT p.view, p.skippable, p.not_skippable_because
FROM bigbrotr_refresher.plan() AS p
JOIN special_case AS s ON p.view = 'special.' || s.name
WHERE p.skippable <> s.skippable;

--
-- An extension that is dropped while its name is looked up
--
CREATE SCHEMA ghost;
CREATE TABLE ghost.chunk (id int);
CREATE MATERIALIZED VIEW ghost.reader AS SELECT id FROM ghost.chunk;
SET allow_system_table_mods = on;
INSERT INTO pg_depend VALUES ('pg_namespace'::regclass, 'ghost'::regnamespace, 0,
	'pg_extension'::regclass, 1, 0, 'e');
SET bigbrotr_refresher.views = 'ghost.reader';
SELECT view, skippable, not_skippable_because FROM bigbrotr_refresher.plan();
DELETE FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND refobjid = 1;
RESET allow_system_table_mods;
ALTER SYSTEM RESET bigbrotr_refresher.views;
SELECT pg_reload_conf() \gset

ALTER EXTENSION bigbrotr_refresher DROP SCHEMA extended;

--
-- An extension that watches commands may make children of its own, anywhere.
--
CREATE SCHEMA inheriting;
SET search_path = inheriting, public;
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE partitioned (id int) PARTITION BY LIST (id);
CREATE TABLE partition PARTITION OF partitioned DEFAULT;
CREATE MATERIALIZED VIEW of_parent AS SELECT id FROM parent;
CREATE MATERIALIZED VIEW of_parent_only AS SELECT id FROM ONLY parent;
CREATE MATERIALIZED VIEW of_child AS SELECT id FROM child;
CREATE MATERIALIZED VIEW of_partitioned AS SELECT id FROM partitioned;
CREATE MATERIALIZED VIEW of_partition AS SELECT id FROM partition;
CREATE FUNCTION watch_commands() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watch_commands ON sql_drop EXECUTE FUNCTION watch_commands();
ALTER SYSTEM SET bigbrotr_refresher.views = 'inheriting.*';
SELECT pg_reload_conf() \gset
\c -
SELECT view, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE NOT skippable ORDER BY view COLLATE "C";
ALTER EXTENSION bigbrotr_refresher ADD EVENT TRIGGER watch_commands;
SELECT view, not_skippable_because FROM bigbrotr_refresher.plan()
WHERE NOT skippable ORDER BY view COLLATE "C";
ALTER EXTENSION bigbrotr_refresher DROP EVENT TRIGGER watch_commands;
DROP EVENT TRIGGER watch_commands;
ALTER SYSTEM RESET bigbrotr_refresher.views;
SELECT pg_reload_conf() \gset
DROP EXTENSION bigbrotr_refresher;
