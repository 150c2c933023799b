--
-- What a role may do with the extension, with nothing and with each grant; and
-- what others may have prepared for the one who installs it
--
\pset format unaligned
\pset tuples_only on
\pset null -
SET client_min_messages = warning;
CREATE ROLE regress_none;
CREATE ROLE regress_usage;
CREATE ROLE regress_monitor IN ROLE pg_monitor;
CREATE ROLE regress_refresh;

-- ---- prepared for the one who installs it ----------------------------------

-- In his own session: what is temporary comes first, but not here.
CREATE TEMPORARY TABLE history (id int, view text);
CREATE TEMPORARY VIEW status AS SELECT 1 AS temporary;
CREATE FUNCTION pg_temp.plan() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false);
-- In a schema that comes first for him
CREATE SCHEMA early;
GRANT ALL ON SCHEMA early TO regress_none;
SET ROLE regress_none;
CREATE TABLE early.history (id int, view text);
CREATE FUNCTION early.plan() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION early.status() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION early.equal(pg_catalog.text, pg_catalog.text) RETURNS boolean
LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE OPERATOR early.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text,
	FUNCTION = early.equal);
CREATE FUNCTION early.unnest(pg_catalog.text[]) RETURNS SETOF pg_catalog.text
LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION early.pg_extension_config_dump(regclass, pg_catalog.text) RETURNS void
LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
-- A REFRESH fires event triggers, but only a superuser may make one.
CREATE FUNCTION early.spy() RETURNS event_trigger
LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE EVENT TRIGGER spy ON ddl_command_start EXECUTE FUNCTION early.spy();
-- His default privileges are his, and give nobody else's objects away.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC;
RESET ROLE;
SET search_path = early, pg_catalog, public;
CREATE EXTENSION bigbrotr_refresher;
SELECT bigbrotr_refresher.refresh(NULL);
SELECT * FROM bigbrotr_refresher.run(NULL);
DO $$ BEGIN
	PERFORM pg_catalog.count(*) FROM bigbrotr_refresher.views;
	PERFORM pg_catalog.count(*) FROM bigbrotr_refresher.status;
	PERFORM pg_catalog.count(*) FROM bigbrotr_refresher.timeline();
END $$;
RESET search_path;
SELECT count(*) FROM pg_extension AS e, unnest(e.extconfig) AS t(oid)
JOIN pg_class AS c ON c.oid = t.oid
WHERE extname = 'bigbrotr_refresher' AND
	c.relnamespace <> 'bigbrotr_refresher'::regnamespace;
SELECT DISTINCT relpersistence FROM pg_class
WHERE relnamespace = 'bigbrotr_refresher'::regnamespace;
-- Nothing of it depends on anything that is not the server's or its own.
SELECT DISTINCT d.refclassid::regclass, pg_describe_object(d.refclassid, d.refobjid, 0)
FROM pg_depend AS d
WHERE d.refobjid IN (SELECT oid FROM pg_class
					 WHERE relnamespace IN ('early'::regnamespace, pg_my_temp_schema())
					 UNION ALL SELECT oid FROM pg_proc
					 WHERE pronamespace IN ('early'::regnamespace, pg_my_temp_schema())
					 UNION ALL SELECT oid FROM pg_type
					 WHERE typnamespace IN ('early'::regnamespace, pg_my_temp_schema())
					 UNION ALL SELECT oid FROM pg_operator
					 WHERE oprnamespace = 'early'::regnamespace)
	AND (d.classid, d.objid) IN (SELECT classid, objid FROM pg_depend
								 WHERE deptype = 'e');
SELECT has_schema_privilege('regress_none', 'bigbrotr_refresher', 'USAGE, CREATE');
DISCARD TEMP;

-- ---- what each may do --------------------------------------------------------

-- Names what a role can do of all that could be done; what it must be allowed
-- to do first is in front.
CREATE FUNCTION try(role text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	attempt text;
	said text;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', role);
	FOREACH attempt IN ARRAY ARRAY[
		'TABLE bigbrotr_refresher.status', 'TABLE bigbrotr_refresher.views',
		'TABLE bigbrotr_refresher.history',
		'SELECT FROM bigbrotr_refresher.plan()',
		'SELECT FROM bigbrotr_refresher.status()',
		'SELECT FROM bigbrotr_refresher.timeline()',
		'SELECT FROM bigbrotr_refresher.run()',
		'SELECT FROM bigbrotr_refresher.refresh(''early.secret'')',
		'INSERT INTO bigbrotr_refresher.history SELECT',
		'UPDATE bigbrotr_refresher.history SET view = view',
		'DELETE FROM bigbrotr_refresher.history',
		'TRUNCATE bigbrotr_refresher.history',
		'LOCK bigbrotr_refresher.history',
		'SELECT nextval(''bigbrotr_refresher.history_id_seq'')',
		'CREATE TABLE bigbrotr_refresher.x ()',
		'CREATE TRIGGER t BEFORE INSERT ON bigbrotr_refresher.history
			EXECUTE FUNCTION suppress_redundant_updates_trigger()',
		'SET bigbrotr_refresher.enabled = off',
		'DROP EXTENSION bigbrotr_refresher']
	LOOP
		BEGIN
			EXECUTE attempt;
			said := 'done';
		EXCEPTION WHEN OTHERS THEN
			said := SQLERRM;
		END;
		IF said !~ '^permission denied|^must be owner|^parameter .* cannot be changed now'
		THEN
			RETURN NEXT concat_ws(': ', attempt, said);
		END IF;
	END LOOP;
	RESET ROLE;
END $$;
CREATE MATERIALIZED VIEW early.secret AS SELECT 1 AS x;
REVOKE ALL ON SCHEMA early FROM regress_none;
GRANT EXECUTE ON FUNCTION try TO PUBLIC;
\echo none:
SELECT try('regress_none');
\echo usage of the schema:
GRANT USAGE ON SCHEMA bigbrotr_refresher TO regress_usage;
SELECT try('regress_usage');
\echo pg_monitor:
SELECT try('regress_monitor');
\echo refresh:
GRANT USAGE ON SCHEMA bigbrotr_refresher TO regress_refresh;
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.refresh(text) TO regress_refresh;
SELECT try('regress_refresh');
\echo run:
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.run TO regress_usage;
SELECT try('regress_usage');

-- ---- refresh() is what the caller could do himself ----------------------------

CREATE FUNCTION early.open_refresh() RETURNS void LANGUAGE plpgsql
AS $$ BEGIN RAISE 'it runs'; END $$;
CREATE PROCEDURE early.closed_refresh() LANGUAGE plpgsql
AS $$ BEGIN RAISE 'it runs'; END $$;
CREATE MATERIALIZED VIEW early.own AS SELECT 1 AS x;
ALTER MATERIALIZED VIEW early.own OWNER TO regress_refresh;
\set VERBOSITY terse
SET ROLE regress_refresh;
-- In a schema that he may not use, he can call nothing.
SELECT bigbrotr_refresher.refresh('early.open');
SELECT bigbrotr_refresher.refresh('early.closed');
SELECT bigbrotr_refresher.refresh('early.own');
RESET ROLE;
GRANT USAGE ON SCHEMA early TO regress_refresh;
REVOKE EXECUTE ON PROCEDURE early.closed_refresh FROM PUBLIC;
SET ROLE regress_refresh;
SELECT bigbrotr_refresher.refresh('early.open');
SELECT bigbrotr_refresher.refresh('early.closed');
\set VERBOSITY sqlstate
SELECT bigbrotr_refresher.refresh('early.secret');
\set VERBOSITY terse
SELECT bigbrotr_refresher.refresh('early.own');
-- It is not for read-only transactions.
BEGIN READ ONLY;
SELECT bigbrotr_refresher.refresh('early.own');
ROLLBACK;
RESET ROLE;

-- A query of a view that refreshes views does so as the view's owner.
CREATE MATERIALIZED VIEW early.other AS SELECT 1 AS x;
CREATE FUNCTION early.try(name text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	PERFORM bigbrotr_refresher.refresh(name);
	RETURN 1;
END $$;
CREATE MATERIALIZED VIEW early.hidden AS SELECT early.try('early.other') AS x
WITH NO DATA;
ALTER MATERIALIZED VIEW early.hidden OWNER TO regress_refresh;
\set VERBOSITY sqlstate
SELECT bigbrotr_refresher.refresh('early.hidden');
\set VERBOSITY terse

-- A temporary table in the place of a view has no function.
CREATE FUNCTION own_refresh() RETURNS void LANGUAGE sql AS '';
SET ROLE regress_refresh;
CREATE TEMPORARY TABLE own ();
CREATE FUNCTION pg_temp.own_refresh() RETURNS void LANGUAGE plpgsql
AS $$ BEGIN RAISE 'it runs'; END $$;
SELECT bigbrotr_refresher.refresh('own');
SELECT bigbrotr_refresher.refresh('pg_temp.own');
RESET ROLE;

SET client_min_messages = warning;
DROP EXTENSION bigbrotr_refresher;
DROP SCHEMA early CASCADE;
DROP FUNCTION try, own_refresh;
DROP OWNED BY regress_none, regress_usage, regress_monitor, regress_refresh;
DROP ROLE regress_none, regress_usage, regress_monitor, regress_refresh;
