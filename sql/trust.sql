--
-- Whose functions the worker calls
--
-- The parameter "role" is empty here, so that the worker is the bootstrap
-- superuser: only a superuser and those with its privileges are trusted.
--
\pset format unaligned
\pset tuples_only on
\pset null -
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;

CREATE ROLE regress_super SUPERUSER;
CREATE ROLE regress_member;
CREATE ROLE regress_member_of_member IN ROLE regress_member;
CREATE ROLE regress_noinherit NOINHERIT;
CREATE ROLE regress_member_of_super IN ROLE regress_super;
CREATE ROLE regress_creator CREATEDB CREATEROLE REPLICATION BYPASSRLS;
CREATE ROLE regress_nobody;
CREATE ROLE "regress ""odd"" role";
-- The name of the bootstrap superuser is not known.
DO $$
BEGIN
	EXECUTE format('GRANT %I TO regress_member, regress_noinherit',
				   (SELECT rolname FROM pg_authid WHERE oid = 10));
END
$$;

-- One view for each owner of its function
CREATE SCHEMA trust;
DO $$
DECLARE
	owner name;
	role name;
BEGIN
	FOREACH owner IN ARRAY ARRAY['regress_super', 'regress_member',
		'regress_member_of_member', 'regress_noinherit',
		'regress_member_of_super', 'regress_creator', 'regress_nobody',
		'regress "odd" role']
	LOOP
		role := replace(owner, 'regress', 'of');
		EXECUTE format('CREATE MATERIALIZED VIEW trust.%I AS SELECT 1 AS x', role);
		EXECUTE format('CREATE FUNCTION trust.%I() RETURNS void LANGUAGE sql AS %L',
					   role || '_refresh', '');
		EXECUTE format('ALTER FUNCTION trust.%I() OWNER TO %I',
					   role || '_refresh', owner);
	END LOOP;
END
$$;
CREATE MATERIALIZED VIEW trust.of_us AS SELECT 1 AS x;
CREATE FUNCTION trust.of_us_refresh() RETURNS void LANGUAGE sql AS '';

-- Who owns the view does not matter, nor does SECURITY DEFINER.
CREATE MATERIALIZED VIEW trust.view_of_nobody AS SELECT 1 AS x;
ALTER MATERIALIZED VIEW trust.view_of_nobody OWNER TO regress_nobody;
CREATE FUNCTION trust.view_of_nobody_refresh() RETURNS void LANGUAGE sql AS '';
CREATE MATERIALIZED VIEW trust.refreshed_as_nobody AS SELECT 1 AS x;
ALTER MATERIALIZED VIEW trust.refreshed_as_nobody OWNER TO regress_nobody;
CREATE MATERIALIZED VIEW trust.security_definer AS SELECT 1 AS x;
CREATE FUNCTION trust.security_definer_refresh() RETURNS void LANGUAGE sql SECURITY DEFINER AS '';
ALTER FUNCTION trust.security_definer_refresh OWNER TO regress_nobody;

-- Procedures, and functions without a relation, are judged alike.
CREATE MATERIALIZED VIEW trust.procedure_of_nobody AS SELECT 1 AS x;
CREATE PROCEDURE trust.procedure_of_nobody_refresh() LANGUAGE sql AS '';
ALTER PROCEDURE trust.procedure_of_nobody_refresh OWNER TO regress_nobody;
CREATE TABLE trust.table_of_us (x int);
CREATE FUNCTION trust.table_of_us_refresh() RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION trust.table_of_us_refresh OWNER TO regress_nobody;
CREATE FUNCTION trust.alone_refresh() RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION trust.alone_refresh OWNER TO regress_nobody;

-- An overloaded function of somebody else's is not in the way.
CREATE MATERIALIZED VIEW trust.overloaded AS SELECT 1 AS x;
CREATE FUNCTION trust.overloaded_refresh(int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
ALTER FUNCTION trust.overloaded_refresh OWNER TO regress_nobody;

ALTER SYSTEM SET bigbrotr_refresher.views = 'trust.*; trust.alone, trust.table_of_us, alone';
SELECT pg_reload_conf() \gset
\c -
SELECT view, method, error FROM bigbrotr_refresher.plan();

-- One that is not trusted is not passed by, where a later schema has another.
CREATE SCHEMA trust_too;
CREATE FUNCTION trust_too.alone_refresh() RETURNS void LANGUAGE sql AS '';
SET search_path = trust, trust_too;
SELECT view, method, error FROM bigbrotr_refresher.plan() WHERE view = 'alone';
SET search_path = trust_too, trust;
SELECT view, method, error FROM bigbrotr_refresher.plan() WHERE view = 'alone';
RESET search_path;

-- It is the worker's role that counts, not that of who asks.
GRANT pg_monitor TO regress_nobody;
SET ROLE regress_nobody;
SELECT view, method, error FROM bigbrotr_refresher.plan()
WHERE view IN ('trust.of_nobody', 'trust.of_us');
RESET ROLE;

-- Ownership and membership count as they are now.
ALTER FUNCTION trust.of_nobody_refresh OWNER TO CURRENT_USER;
ALTER FUNCTION trust.of_us_refresh OWNER TO regress_nobody;
ALTER ROLE regress_super NOSUPERUSER;
ALTER ROLE regress_creator SUPERUSER;
REVOKE regress_member FROM regress_member_of_member;
SELECT view, method, error FROM bigbrotr_refresher.plan()
WHERE view IN ('trust.of_nobody', 'trust.of_us', 'trust.of_super',
			   'trust.of_creator', 'trust.of_member_of_member');

-- What a function reads counts only if it is called.
CREATE MATERIALIZED VIEW trust.read_by_function AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW trust.a_reader AS SELECT 1 AS x;
CREATE FUNCTION trust.a_reader_refresh() RETURNS void
BEGIN ATOMIC SELECT count(*) FROM trust.read_by_function; END;
SELECT view, method, depends_on FROM bigbrotr_refresher.plan()
WHERE view = 'trust.a_reader';
ALTER FUNCTION trust.a_reader_refresh OWNER TO regress_nobody;
SELECT view, method, depends_on FROM bigbrotr_refresher.plan()
WHERE view = 'trust.a_reader';

-- refresh() does the same, and tells who asks: functions are judged by him.
CREATE MATERIALIZED VIEW trust.told AS SELECT 1 AS x;
CREATE FUNCTION trust.told_refresh() RETURNS void
LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
RESET client_min_messages;
\set VERBOSITY terse
SELECT bigbrotr_refresher.refresh('trust.told');
ALTER FUNCTION trust.told_refresh OWNER TO "regress ""odd"" role";
SELECT bigbrotr_refresher.refresh('trust.told');
SELECT bigbrotr_refresher.refresh('trust.alone');
\set VERBOSITY default

SET client_min_messages = warning;
DROP SCHEMA trust CASCADE;
DROP SCHEMA trust_too CASCADE;
DROP EXTENSION bigbrotr_refresher;
DROP ROLE regress_super, regress_member, regress_member_of_member,
	regress_noinherit, regress_member_of_super, regress_creator,
	regress_nobody, "regress ""odd"" role";
ALTER SYSTEM RESET bigbrotr_refresher.views;
