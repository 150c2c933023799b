--
-- plan(): views nested so deeply that the server would plan them for minutes
--
\pset format unaligned
\pset tuples_only on
\pset null -
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;

CREATE SCHEMA n;
CREATE MATERIALIZED VIEW n.below AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW n.beside AS SELECT x FROM n.below;

-- A chain, of which the view at the end of "allowed" is still refreshed
CREATE VIEW n.chain_1 AS SELECT x FROM n.below;
-- A lattice, in which the number of ways doubles with each step
CREATE VIEW n.left_1 AS SELECT x FROM n.below;
CREATE VIEW n.right_1 AS SELECT x FROM n.below;
-- Ways doubled within a query
CREATE VIEW n.twice_1 AS SELECT x FROM n.below;
DO $$
BEGIN
	FOR i IN 2 .. 6000 LOOP
		EXECUTE format('CREATE VIEW n.chain_%s AS SELECT x FROM n.chain_%s', i, i - 1);
		IF i % 500 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
	FOR i IN 2 .. 60 LOOP
		EXECUTE format('CREATE VIEW n.left_%s AS SELECT x FROM n.left_%s JOIN n.right_%s USING (x)', i, i - 1, i - 1);
		EXECUTE format('CREATE VIEW n.right_%s AS SELECT x FROM n.left_%s JOIN n.right_%s USING (x)', i, i - 1, i - 1);
		EXECUTE format('CREATE VIEW n.twice_%s AS SELECT x FROM n.twice_%s AS a JOIN n.twice_%s AS b USING (x)', i, i - 1, i - 1);
	END LOOP;
END
$$;
CREATE MATERIALIZED VIEW n.chain_allowed AS SELECT x FROM n.chain_1000 WITH NO DATA;
CREATE MATERIALIZED VIEW n.chain_refused AS SELECT x FROM n.chain_1001 WITH NO DATA;
CREATE MATERIALIZED VIEW n.chain_long AS SELECT x FROM n.chain_6000 WITH NO DATA;
CREATE MATERIALIZED VIEW n.lattice_allowed AS SELECT x FROM n.left_10 WITH NO DATA;
CREATE MATERIALIZED VIEW n.lattice_refused AS SELECT x FROM n.left_60 WITH NO DATA;
CREATE MATERIALIZED VIEW n.twice AS SELECT x FROM n.twice_60 WITH NO DATA;
-- A materialized view ends the nesting, be it refreshed or not.
CREATE MATERIALIZED VIEW n.above AS SELECT x FROM n.chain_long WITH NO DATA;
-- So does a function.
CREATE FUNCTION n.function() RETURNS bigint
BEGIN ATOMIC SELECT count(*) FROM n.chain_1000; END;
CREATE MATERIALIZED VIEW n.calls AS SELECT n.function() AS x WITH NO DATA;

ALTER SYSTEM SET bigbrotr_refresher.views = 'n.*';
SELECT pg_reload_conf() \gset
\c -
-- Nothing of this takes long.
SET statement_timeout = '60s';
SELECT view, method, error, depends_on FROM bigbrotr_refresher.plan();
RESET statement_timeout;

-- What is dropped at once would take more locks than there are.
SET client_min_messages = warning;
DO $$
BEGIN
	DROP MATERIALIZED VIEW n.above, n.calls, n.chain_allowed, n.chain_refused, n.chain_long;
	DROP FUNCTION n.function;
	FOR i IN REVERSE 6000 .. 1 LOOP
		EXECUTE format('DROP VIEW n.chain_%s', i);
		IF i % 500 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END
$$;
DROP SCHEMA n CASCADE;
DROP EXTENSION bigbrotr_refresher;
ALTER SYSTEM RESET bigbrotr_refresher.views;
