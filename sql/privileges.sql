--
-- Who may install the extension and use it, and that it leaves nothing
--
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;

CREATE ROLE regress_public;
CREATE ROLE regress_owner;
CREATE ROLE regress_monitor IN ROLE pg_monitor;
CREATE ROLE regress_granted;
-- To create schemas in a database is not enough to install it there.
SELECT format('GRANT CREATE ON DATABASE %I TO regress_owner', current_database())
\gexec

-- What there is before
CREATE TABLE objects AS
	SELECT 'pg_class'::regclass AS catalog, 0::oid AS id WHERE false;
CREATE VIEW now AS
	SELECT 'pg_class'::regclass AS catalog, oid AS id FROM pg_class
	UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc
	UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type
	UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
	UNION ALL SELECT 'pg_extension'::regclass, oid FROM pg_extension
	UNION ALL SELECT 'pg_default_acl'::regclass, oid FROM pg_default_acl
	UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
	UNION ALL SELECT 'pg_description'::regclass, objoid FROM pg_description
	UNION ALL SELECT 'pg_init_privs'::regclass, objoid FROM pg_init_privs
	UNION ALL SELECT 'pg_depend'::regclass, objid FROM pg_depend
	UNION ALL SELECT 'pg_shdepend'::regclass, objid FROM pg_shdepend;
INSERT INTO objects SELECT catalog, id FROM now;

\set VERBOSITY sqlstate
SET ROLE regress_owner;
CREATE EXTENSION bigbrotr_refresher;
RESET ROLE;
\set VERBOSITY terse
-- Where its objects are is not a choice.
CREATE EXTENSION bigbrotr_refresher SCHEMA public;
\set VERBOSITY default
CREATE EXTENSION bigbrotr_refresher;
ALTER EXTENSION bigbrotr_refresher SET SCHEMA public;

-- Those who may read all statistics may read the plan.
ALTER SYSTEM SET bigbrotr_refresher.views = '"no such view"';
SELECT pg_reload_conf() \gset
\c -
SET ROLE regress_monitor;
SELECT view FROM bigbrotr_refresher.plan();
-- Others may not,
SET ROLE regress_public;
SELECT view FROM bigbrotr_refresher.plan();
RESET ROLE;
GRANT USAGE ON SCHEMA bigbrotr_refresher TO regress_public, regress_granted;
SET ROLE regress_public;
SELECT view FROM bigbrotr_refresher.plan();
-- unless they are allowed to.
RESET ROLE;
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.plan TO regress_granted;
SET ROLE regress_granted;
SELECT view FROM bigbrotr_refresher.plan();
RESET ROLE;

-- PUBLIC may do nothing with anything in the schema.
SELECT p.oid::regprocedure FROM pg_proc AS p
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND
	has_function_privilege('regress_public', p.oid, 'EXECUTE');
SELECT c.oid::regclass FROM pg_class AS c
WHERE c.relnamespace = 'bigbrotr_refresher'::regnamespace AND
	c.relkind IN ('r', 'p', 'v', 'm') AND
	has_table_privilege('regress_public', c.oid,
						'SELECT, INSERT, UPDATE, DELETE, TRUNCATE');
SELECT has_schema_privilege('regress_monitor', 'bigbrotr_refresher', 'CREATE'),
	   has_schema_privilege('regress_public', 'bigbrotr_refresher', 'CREATE');

-- Everything in the schema belongs to the extension, and is described.
SELECT p.oid::regprocedure FROM pg_proc AS p
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND
	(obj_description(p.oid, 'pg_proc') IS NULL OR
	 NOT EXISTS (SELECT FROM pg_depend
				 WHERE objid = p.oid AND deptype = 'e'));

-- Dropped, it leaves nothing; and it can come back.
REVOKE ALL ON SCHEMA bigbrotr_refresher FROM regress_public, regress_granted;
DROP EXTENSION bigbrotr_refresher;
(SELECT catalog, id::regproc FROM now EXCEPT ALL
 SELECT catalog, id::regproc FROM objects) LIMIT 10;
CREATE EXTENSION bigbrotr_refresher;
SELECT view FROM bigbrotr_refresher.plan();
DROP EXTENSION bigbrotr_refresher;

-- The parameters are the server's, with or without the extension.
SHOW bigbrotr_refresher.views;

ALTER SYSTEM RESET bigbrotr_refresher.views;
DROP VIEW now;
DROP TABLE objects;
SELECT format('REVOKE ALL ON DATABASE %I FROM regress_owner', current_database())
\gexec
DROP ROLE regress_public, regress_owner, regress_monitor, regress_granted;
