--
-- refresh(view, condition): what a condition may be, whose it may be, and which
-- rows it stands for
--
\pset format unaligned
\pset tuples_only on
\pset null -
SET client_min_messages = warning;
CREATE EXTENSION bigbrotr_refresher;
CREATE ROLE regress_owner;
CREATE ROLE regress_member IN ROLE regress_owner;
CREATE ROLE regress_weak;
CREATE SCHEMA p;
CREATE SCHEMA trap;
GRANT ALL ON SCHEMA p, trap TO regress_owner, regress_weak;
GRANT USAGE ON SCHEMA bigbrotr_refresher TO regress_owner, regress_weak;
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.refresh(text, text)
TO regress_owner, regress_weak;

-- Refreshes a part, and says how that ends.
CREATE FUNCTION try(condition text, view text DEFAULT 'p.totals') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM bigbrotr_refresher.refresh(view, condition);
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', SQLSTATE || ': ' || left(SQLERRM, 150),
		nullif(left(detail, 250), ''), nullif(hint, ''));
END $$;

SET ROLE regress_owner;
CREATE TABLE p.orders (customer int, day date, amount int);
CREATE INDEX ON p.orders (customer);
CREATE SEQUENCE p.s;
INSERT INTO p.orders
SELECT g % 5, date '2024-01-01' + g % 3, g FROM generate_series(1, 30) AS g;
CREATE MATERIALIZED VIEW p.totals AS
SELECT customer, day, sum(amount) AS total FROM p.orders GROUP BY customer, day;
RESET ROLE;

-- Without a unique index there is nothing to pair rows by.
SELECT try('customer = 1');
SELECT try('true');
CREATE UNIQUE INDEX ON p.totals ((customer + 0), day);
CREATE UNIQUE INDEX ON p.totals (customer, day) WHERE customer > 0;
SELECT try('customer = 1');
CREATE UNIQUE INDEX totals_idx ON p.totals (customer, day) INCLUDE (total);

-- What it does, and what is kept of it
UPDATE p.orders SET amount = amount + 1000;
SELECT try('customer = 1');
SELECT try('customer = 3 AND day > ''2024-01-01''');
SELECT customer, day, total FROM p.totals WHERE total > 1000 ORDER BY 1, 2;
SELECT view, outcome, method, failures, condition, rows_inserted, rows_updated,
	rows_deleted, data_as_of, cycle_start
FROM bigbrotr_refresher.history ORDER BY id;
-- The view is as old as it was.
SELECT count(*) FROM bigbrotr_refresher.view_state;
SELECT bigbrotr_refresher.refresh('p.totals');
SELECT condition FROM bigbrotr_refresher.history ORDER BY id DESC LIMIT 1;
SELECT data_as_of AS known FROM bigbrotr_refresher.view_state \gset
SELECT try('customer = 1');
SELECT data_as_of = :'known', last_success = :'known' FROM bigbrotr_refresher.view_state;
SELECT bigbrotr_refresher.refresh('p.totals', NULL);
SELECT bigbrotr_refresher.refresh(NULL, 'true');
SELECT try('true', 'p.orders');
SELECT try('true', 'p.absent');
SELECT try('true', 'p.totals, p.orders');
SELECT try('true', 'p.*');

-- ---- what is one expression ---------------------------------------------------------
\pset tuples_only off
SELECT condition, try(condition) FROM (VALUES
	(''), (' '), ('*'), ('totals.*'), ('customer'), ('1'), ('true, true'),
	('true AS x'), ('customer = 1)'), ('(customer = 1'), ('true) OR (true'),
	('customer = 1;'), ('true; DROP TABLE p.orders'), ('SELECT true'),
	('customer = 1 FROM p.orders'), ('true WHERE true'), ('true GROUP BY customer'),
	('true HAVING true'), ('true ORDER BY 1'), ('true LIMIT 1'), ('true OFFSET 1'),
	('true FOR UPDATE'), ('true UNION SELECT true'), ('DISTINCT true'),
	('DISTINCT ON (customer) true'), ('true WINDOW w AS ()'), ('ALL true'),
	('true INTO x'), ('customer = 1 -- all is well'), ('customer /* this */ = 1'),
	('customer := 1'), (E'customer = 1 \\gexec'), ('WITH x AS (SELECT 1) SELECT true'))
	AS c(condition);

-- ---- what is allowed in it -----------------------------------------------------------
SELECT condition, try(condition) FROM (VALUES
	('NULL'), ('customer IS NULL'), ('customer = 1 AND NOT day = ''2024-01-01'''),
	('customer IN (1, 2)'), ('customer = ANY (''{1,2}'')'), ('(customer, day) = (1, ''2024-01-01'')'),
	('p.totals.customer = 1'), ('totals.customer = 1'), ('customer::text LIKE ''1%'''),
	('CASE customer WHEN 1 THEN true END'), ('coalesce(customer, 0) BETWEEN 1 AND 2'),
	('extract(year FROM day) = 2024'), ('customer OPERATOR(pg_catalog.=) 1'),
	('isfinite(day)'), ('customer = ''1'''), ('day = ''2024-01-01''::date'),
	-- Columns
	('total = 1'), ('customer = 1 AND total = 1'), ('nothing = 1'), ('other.customer = 1'),
	('totals IS NOT NULL'), ('(totals).customer = 1'), ('totals.tableoid = 1'),
	('ctid = ''(0,1)'''), ('xmin::text = ''1'''),
	-- Subqueries and what reads tables
	('customer = (SELECT 1)'), ('EXISTS (TABLE p.orders)'), ('customer IN (SELECT 1)'),
	('customer = ANY (ARRAY(SELECT 1))'), ('customer = ALL (TABLE p.absent)'),
	('table_to_xml(''pg_authid'', true, true, '''') IS NULL'),
	('query_to_xml(''TABLE pg_authid'', true, true, '''') IS NULL'),
	('database_to_xml(true, true, '''') IS NULL'), ('cursor_to_xml(''c'', 1, true, true, '''') IS NULL'),
	('ts_rewrite(''a'', ''TABLE pg_authid'') IS NULL'), ('ts_stat(''SELECT 1'') IS NULL'),
	('nextval(''p.s'') = 1'), ('currval(''p.s'') = 1'), ('lastval() = 1'),
	('''pg_class''::regclass = 1'), ('customer::regclass IS NULL'),
	('''pg_class''::regclass::oid = 1'), ('to_regclass(''pg_class'') IS NULL'),
	('''regress_owner''::regrole IS NULL'), ('''english''::regconfig IS NULL'),
	('to_tsvector(''english'', ''a'') IS NULL'), ('pg_relation_size(1) > 0'),
	('satisfies_hash_partition(1, 1, 1, 1)'), ('has_table_privilege(1, ''SELECT'')'),
	('pg_get_viewdef(1) IS NULL'), ('pg_read_file(''postgresql.conf'') IS NULL'),
	('set_config(''work_mem'', ''1MB'', false) IS NULL'), ('current_setting(''work_mem'') IS NULL'),
	('lo_import(''x'') IS NULL'), ('pg_sleep(10) IS NULL'), ('pg_terminate_backend(1)'),
	-- What is not the same tomorrow
	('day = current_date'), ('current_user = ''x'''), ('now() > day'), ('random() > 0.5'),
	('day::text = ''x'''), ('''now''::text::date = day'), ('to_char(day, ''D'') = ''1'''),
	-- Other kinds of expressions
	('count(*) > 1'), ('sum(customer) OVER () > 1'), ('generate_series(1, 2) = 1'),
	('grouping(customer) = 1'), ('$1'), ('customer = $1'), ('DEFAULT'), ('customer = DEFAULT'),
	('CURRENT OF c'),
	('bigbrotr_refresher.refresh(''p.totals'') IS NULL'),
	('ROW(customer, day) IS NULL'), ('unnest(ARRAY[true])'))
	AS c(condition);
-- Where it is
SELECT bigbrotr_refresher.refresh('p.totals', 'customer = 1 AND total = 3');
SELECT bigbrotr_refresher.refresh('p.totals', 'customer = 1 OR now() > day');
SELECT bigbrotr_refresher.refresh('p.totals', 'customer = 1 OR customer = (SELECT 1)');
SELECT bigbrotr_refresher.refresh('p.totals', 'customer = 1 LIMIT 5');
SELECT bigbrotr_refresher.refresh('p.totals', 'customer = 1; SELECT 1');
\pset tuples_only on

-- Of 100 kB
SELECT try(repeat('(', 50000) || 'true' || repeat(')', 50000)) ~ '^(42601: memory exhausted|54001: stack depth)';
SELECT try(repeat('NOT ', 25000) || 'true') ~ '^(42601: memory exhausted|54001: stack depth)';
SELECT try('1' || repeat(' + 1', 100000) || ' > 0') ~ '^(54001: stack depth|done)';
SELECT try('customer IN (' || (SELECT string_agg(g::text, ', ') FROM generate_series(1, 20000) AS g) || ')');

-- ---- what weaker users have made -----------------------------------------------------

-- Whoever runs something of this is told of.
SET ROLE regress_weak;
CREATE FUNCTION trap.see(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql
AS $$ BEGIN RAISE WARNING '% runs as %', what, current_user; RETURN true; END $$;
CREATE FUNCTION trap.equals(int, int) RETURNS boolean IMMUTABLE
LANGUAGE sql AS $$ SELECT trap.see('equals') $$;
CREATE OPERATOR trap.= (LEFTARG = int, RIGHTARG = int, FUNCTION = trap.equals);
CREATE FUNCTION trap.abs(int) RETURNS int IMMUTABLE
LANGUAGE sql AS $$ SELECT trap.see('abs')::int $$;
CREATE DOMAIN trap.int8 AS text CHECK (trap.see('domain'));
CREATE DOMAIN trap.text AS pg_catalog.text CHECK (trap.see('domain'));
CREATE TYPE trap.pair AS (a trap.int8);
CREATE DOMAIN trap.number AS int;
CREATE FUNCTION trap.cast(int) RETURNS trap.pair IMMUTABLE
LANGUAGE sql AS $$ SELECT trap.see('cast'); SELECT NULL::trap.pair $$;
RESET ROLE;
CREATE CAST (int AS trap.pair) WITH FUNCTION trap.cast AS IMPLICIT;
SET search_path = trap, pg_catalog, public;
SELECT condition, public.try(condition) FROM (VALUES
	('customer = 1'), ('abs(customer) = 1'), ('''x''::int8 = 1'), ('''1''::text = ''1'''),
	('customer OPERATOR(trap.=) 1'), ('trap.abs(customer) = 1'), ('trap.see(''x'')'),
	('''x''::trap.int8 = ''x'''), ('customer::trap.number = 1'), ('customer::trap.pair IS NULL'),
	('ROW(''x'')::trap.pair IS NULL'), ('''(x)''::pair IS NULL')) AS c(condition);
RESET search_path;
-- What is temporary does not come first either.
CREATE DOMAIN pg_temp.date AS pg_catalog.date CHECK (trap.see('temporary domain'));
SELECT try('day = ''2024-01-01''::date');
-- Constants of types that run something are read with the owner's rights, as the
-- view's query is.
SELECT try('''(x)''::trap.pair IS NULL');
SHOW search_path;
SELECT current_user = session_user;

-- ---- types that are compared in their own way ---------------------------------------------
CREATE TYPE p.level AS ENUM ('low', 'high');
CREATE DOMAIN p.code AS text;
CREATE TABLE p.kinds (id int, level p.level, code p.code, n numeric);
INSERT INTO p.kinds VALUES (1, 'low', 'a', 1.0), (2, 'high', 'A', 2), (3, NULL, 'b', 1.00);
CREATE MATERIALIZED VIEW p.of_kinds AS SELECT id, level, code, n FROM p.kinds;
CREATE UNIQUE INDEX ON p.of_kinds (id, level, code);
UPDATE p.kinds SET n = n + 1;
SELECT try('level = ''low''', 'p.of_kinds');
SELECT try('level::text = ''low''', 'p.of_kinds');
SELECT try('level = ''low''::p.level AND code = ''a''', 'p.of_kinds');
SELECT try('level = ''low''::level', 'p.of_kinds');
SELECT try('code > ''A''', 'p.of_kinds');
SELECT try('code::p.code = ''a''', 'p.of_kinds');
SELECT id, n FROM p.of_kinds ORDER BY id;

-- Equal is not the same: the group has both rows, whichever the condition finds.
CREATE TABLE p.prices AS SELECT * FROM (VALUES (1.0, 1), (1.00, 10), (2.0, 100)) AS v(price, amount);
CREATE MATERIALIZED VIEW p.by_price AS
SELECT price, sum(amount) FROM p.prices GROUP BY price;
CREATE UNIQUE INDEX ON p.by_price (price);
CREATE MATERIALIZED VIEW p.by_text AS
SELECT price::text AS shown, sum(amount) FROM p.prices GROUP BY price;
CREATE UNIQUE INDEX ON p.by_text (shown);
CREATE MATERIALIZED VIEW p.by_both AS
SELECT shown, sum FROM (SELECT price::text AS shown, sum(amount) FROM p.prices GROUP BY price) AS s;
CREATE UNIQUE INDEX ON p.by_both (shown);
UPDATE p.prices SET amount = amount * 2;
SELECT try('price::text = ''1.0''', 'p.by_price');
SELECT try('scale(price) = 2', 'p.by_price');
SELECT price = 1, sum FROM p.by_price ORDER BY price;
SELECT try('shown = ''1.0''', 'p.by_text');
SELECT shown, sum FROM p.by_text ORDER BY shown;
SELECT try('shown = ''1.0''', 'p.by_both');
SELECT shown, sum FROM p.by_both ORDER BY shown;

-- ---- views of which no part is to be had ---------------------------------------------------
CREATE MATERIALIZED VIEW p.limited AS SELECT customer, day FROM p.totals ORDER BY customer, day LIMIT 3;
CREATE MATERIALIZED VIEW p.offset AS SELECT customer, day FROM p.totals ORDER BY customer, day OFFSET 3;
CREATE MATERIALIZED VIEW p.ranked AS
SELECT customer, day, rank() OVER (PARTITION BY customer ORDER BY day) FROM p.totals;
CREATE MATERIALIZED VIEW p.chance AS SELECT customer, day, random() FROM p.totals;
CREATE MATERIALIZED VIEW p.sampled AS SELECT customer, day FROM p.totals TABLESAMPLE SYSTEM (50);
CREATE MATERIALIZED VIEW p.empty AS SELECT customer, day FROM p.totals WITH NO DATA;
CREATE VIEW p.chance_view AS SELECT customer, day, random() FROM p.totals;
CREATE MATERIALIZED VIEW p.of_view AS SELECT customer, day FROM p.chance_view;
SELECT format('CREATE UNIQUE INDEX ON p.%I (customer, day)', name)
FROM unnest(ARRAY['limited', 'offset', 'ranked', 'chance', 'sampled', 'empty', 'of_view']) AS name \gexec
SELECT name, try('customer = 1', 'p.' || name)
FROM unnest(ARRAY['limited', '"offset"', 'ranked', 'chance', 'sampled', 'empty', 'of_view']) AS name;
SELECT try('customer = 1 AND day = ''2024-01-01''', 'p.ranked');

-- ---- who may -----------------------------------------------------------------------------
SET ROLE regress_owner;
SELECT try('customer = 1');
SET ROLE regress_member;
SELECT try('customer = 1');
SET ROLE regress_weak;
SELECT try('customer = 1');
RESET ROLE;
SELECT current_setting('server_version_num')::int >= 170000 AS has_maintain \gset
\if :has_maintain
GRANT MAINTAIN ON p.totals TO regress_weak;
\endif
GRANT SELECT ON p.totals, p.orders TO regress_weak;
SET ROLE regress_weak;
SELECT try('customer = 1');
SELECT try('pg_read_file(''x'') IS NULL');
RESET ROLE;
-- The owner need not be allowed to read his own view, but what is below it.
REVOKE ALL ON p.totals FROM regress_owner;
SELECT try('customer = 1');
GRANT ALL ON p.totals TO regress_owner;
ALTER TABLE p.orders OWNER TO CURRENT_USER;
REVOKE ALL ON p.orders FROM regress_owner;
SELECT try('customer = 1');

-- Row-level security is that of the owner, and no condition sees past it.
GRANT SELECT ON p.orders TO regress_owner;
ALTER TABLE p.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON p.orders TO regress_owner USING (amount > 1025);
SELECT try('customer IN (1, 2)');
SELECT try('1 / (customer - 3) > 0');
SELECT customer, count(*) FROM p.totals GROUP BY customer ORDER BY customer;
DROP POLICY few ON p.orders;
SELECT try('customer = 4');
SELECT count(*) FROM p.totals WHERE customer = 4;
ALTER TABLE p.orders DISABLE ROW LEVEL SECURITY;

-- ---- where it may be ------------------------------------------------------------------------
BEGIN READ ONLY;
SELECT bigbrotr_refresher.refresh('p.totals', 'true');
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR TABLE p.totals;
SELECT bigbrotr_refresher.refresh('p.totals', 'true');
ROLLBACK;
-- By a query of the view itself
SELECT bigbrotr_refresher.refresh('p.totals', format('customer = %s', customer)) FROM p.totals;
-- Several in one statement
UPDATE p.orders SET amount = amount + 1;
SELECT bigbrotr_refresher.refresh('p.totals', format('customer = %s', customer))
FROM (SELECT DISTINCT customer FROM p.orders) AS o;
SELECT count(*) FROM (TABLE p.totals EXCEPT ALL
	SELECT customer, day, sum(amount) FROM p.orders GROUP BY customer, day) AS x;
INSERT INTO p.orders VALUES (6, '2024-01-01', 1), (7, '2024-01-01', 2);
SELECT bigbrotr_refresher.refresh('p.totals', 'customer IN (6, 7)'),
	bigbrotr_refresher.refresh('p.totals', 'customer > 5');
SELECT customer, total FROM p.totals WHERE customer > 5 ORDER BY 1;
-- The rest is old, and may be in the way.
CREATE UNIQUE INDEX ON p.totals (total) WHERE customer > 5;
UPDATE p.orders SET amount = 2 WHERE customer = 6;
DELETE FROM p.orders WHERE customer = 7;
SELECT try('customer = 6');
SELECT try('customer = 7');
SELECT try('customer = 6');
SELECT customer, total FROM p.totals WHERE customer > 5 ORDER BY 1;
-- Without merging
ALTER SYSTEM SET bigbrotr_refresher.merge = 'off';
SELECT pg_reload_conf() \gset
\c -
\pset format unaligned
\pset tuples_only on
SELECT bigbrotr_refresher.refresh('p.totals', 'true');
-- What the list sets for the view comes first.
ALTER SYSTEM SET bigbrotr_refresher.views = 'p.totals (merge = worker)';
SELECT pg_reload_conf() \gset
\c -
\pset format unaligned
\pset tuples_only on
SELECT bigbrotr_refresher.refresh('p.totals', 'true');
ALTER SYSTEM SET bigbrotr_refresher.views = '*, p.totals (merge = off)';
ALTER SYSTEM RESET bigbrotr_refresher.merge;
SELECT pg_reload_conf() \gset
\c -
\pset format unaligned
\pset tuples_only on
SELECT bigbrotr_refresher.refresh('p.totals', 'true');
SELECT bigbrotr_refresher.refresh('p.of_kinds', 'true');
ALTER SYSTEM RESET bigbrotr_refresher.views;
SELECT pg_reload_conf() \gset
\c -
SET client_min_messages = warning;

-- ---- by a trigger of the table ------------------------------------------------------------------
CREATE FUNCTION p.refresh_totals() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP <> 'INSERT' THEN
		PERFORM bigbrotr_refresher.refresh('p.totals', format('customer = %L', OLD.customer));
	END IF;
	IF TG_OP <> 'DELETE' THEN
		PERFORM bigbrotr_refresher.refresh('p.totals', format('customer = %L', NEW.customer));
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refresh_totals AFTER INSERT OR UPDATE OR DELETE ON p.orders
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION p.refresh_totals();
GRANT ALL ON p.orders TO regress_weak;
SELECT bigbrotr_refresher.refresh('p.totals');
SET ROLE regress_weak;
BEGIN;
UPDATE p.orders SET customer = 8 WHERE customer = 1;
INSERT INTO p.orders VALUES (NULL, '2024-01-01', 5);
DELETE FROM p.orders WHERE customer = 2;
SELECT count(*) FROM p.totals WHERE customer IN (1, 2);
COMMIT;
RESET ROLE;
SELECT count(*) FROM p.totals WHERE customer IN (1, 2);
-- (Its function should have known of NULL.)
SELECT customer, total, total IS NOT DISTINCT FROM (SELECT sum(amount) FROM p.orders AS o
	WHERE o.customer = t.customer AND o.day = t.day) FROM p.totals AS t
WHERE customer = 8 OR customer IS NULL ORDER BY day;

DROP EXTENSION bigbrotr_refresher;
DROP SCHEMA p, trap CASCADE;
DROP FUNCTION try;
DROP OWNED BY regress_owner, regress_member, regress_weak;
DROP ROLE regress_owner, regress_member, regress_weak;
