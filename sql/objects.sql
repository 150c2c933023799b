--
-- What the extension consists of: names, columns, comments and rights
--
SET client_min_messages = warning;
CREATE EXTENSION bigbrotr_refresher;
CREATE ROLE regress_nobody;
CREATE ROLE regress_monitor IN ROLE pg_monitor;

-- All that belongs to it; there is nothing else in its schema.  (What board() is
-- made of is looked at by its own test.)
CREATE VIEW member AS
	SELECT classid, objid, objsubid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND
		refobjid = (SELECT oid FROM pg_extension
					WHERE extname = 'bigbrotr_refresher');
CREATE VIEW relation AS
	SELECT oid, relname AS name, relkind AS kind FROM pg_class
	WHERE relnamespace = 'bigbrotr_refresher'::regnamespace AND
		relkind <> 'i';
SELECT p.oid::regprocedure,
	   p.prokind AS kind, l.lanname, p.provolatile AS volatile,
	   p.proparallel AS parallel, p.prosecdef AS definer,
	   p.proisstrict AS strict, EXISTS (SELECT FROM member AS m
			WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid) AS member
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND p.proname !~ '^board_'
ORDER BY p.proname COLLATE "C", p.pronargs;
SELECT name, kind, EXISTS (SELECT FROM member AS m
		WHERE m.classid = 'pg_class'::regclass AND m.objid = r.oid) AS member
FROM relation AS r ORDER BY name COLLATE "C";
SELECT n.nspname, EXISTS (SELECT FROM member AS m
		WHERE m.classid = 'pg_namespace'::regclass AND m.objid = n.oid) AS member
FROM pg_namespace AS n WHERE n.nspname = 'bigbrotr_refresher';
SELECT extversion, extrelocatable, extnamespace::regnamespace
FROM pg_extension WHERE extname = 'bigbrotr_refresher';
SELECT superuser, trusted, relocatable, requires
FROM pg_available_extension_versions WHERE name = 'bigbrotr_refresher';

-- Columns, in their order
SELECT r.name, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
	   a.attnotnull AS not_null, a.attidentity AS identity
FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
WHERE a.attnum > 0 AND r.kind IN ('r', 'v')
ORDER BY r.name COLLATE "C", a.attnum;
SELECT p.oid::regproc, arg.mode, arg.name, format_type(arg.type, NULL) AS type
FROM pg_proc AS p,
	unnest(p.proallargtypes, p.proargmodes, p.proargnames)
		WITH ORDINALITY AS arg(type, mode, name, position)
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND p.proname !~ '^board_'
ORDER BY p.proname COLLATE "C", p.pronargs, arg.position;
-- The rows of a view and of a cycle, the newest cycle, with all views or not,
-- and what is too old are found by an index.
SELECT indexdef FROM pg_indexes WHERE schemaname = 'bigbrotr_refresher'
ORDER BY tablename, indexname COLLATE "C";

-- Rows of others replace ours, or are dropped.
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger
WHERE tgrelid IN (SELECT oid FROM relation) ORDER BY 1, 2;
INSERT INTO bigbrotr_refresher.view_state (view, failures) VALUES ('mine', 0);
INSERT INTO bigbrotr_refresher.view_state (view, failures) VALUES ('mine', 1);
UPDATE bigbrotr_refresher.view_state SET failures = 2;
SELECT view, failures FROM bigbrotr_refresher.view_state;
DELETE FROM bigbrotr_refresher.view_state;
SELECT count(*) FROM bigbrotr_refresher.view_state;
CREATE TABLE elsewhere ();
CREATE TRIGGER late AFTER INSERT ON elsewhere
FOR EACH ROW EXECUTE FUNCTION bigbrotr_refresher.admit_row();
INSERT INTO elsewhere DEFAULT VALUES;
DROP TABLE elsewhere;

-- A dump has the rows, and goes on counting.
SELECT c.oid::regclass, e.condition
FROM pg_extension, unnest(extconfig, extcondition) AS e(id, condition)
	JOIN pg_class AS c ON c.oid = e.id
WHERE extname = 'bigbrotr_refresher' ORDER BY c.relname COLLATE "C";

-- Everything is described, every column too.
SELECT p.oid::regprocedure, split_part(obj_description(p.oid, 'pg_proc'), E'\n', 1)
	AS comment
FROM pg_proc AS p
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND p.proname !~ '^board_'
ORDER BY p.proname COLLATE "C", p.pronargs;
SELECT name, obj_description(oid, 'pg_class') FROM relation
WHERE kind IN ('r', 'v') ORDER BY name COLLATE "C";
SELECT r.name, a.attname, col_description(a.attrelid, a.attnum)
FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
WHERE a.attnum > 0 AND r.kind IN ('r', 'v')
ORDER BY r.name COLLATE "C", a.attnum;
SELECT r.name, a.attname AS column_without_comment
FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
WHERE a.attnum > 0 AND NOT a.attisdropped AND r.kind IN ('r', 'v', 'm', 'p') AND
	coalesce(col_description(a.attrelid, a.attnum), '') = ''
ORDER BY r.name COLLATE "C", a.attnum;

-- The comment of a function explains what it returns.
SELECT p.oid::regprocedure, arg.name AS not_explained
FROM pg_proc AS p,
	unnest(p.proargmodes, p.proargnames) WITH ORDINALITY AS arg(mode, name, number)
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND
	arg.mode IN ('o', 't') AND
	coalesce(obj_description(p.oid, 'pg_proc'), '') !~
		format('(^|\n)([a-z_]+, )*%s(, [a-z_]+)*: ', arg.name)
ORDER BY p.proname COLLATE "C", arg.number;

-- Who may do what: the owner everything, monitoring may look, others nothing.
SELECT role, p.oid::regprocedure AS may_call
FROM unnest(ARRAY['regress_monitor', 'regress_nobody']) AS role, pg_proc AS p
WHERE p.pronamespace = 'bigbrotr_refresher'::regnamespace AND p.proname !~ '^board_' AND
	has_function_privilege(role, p.oid, 'EXECUTE')
ORDER BY role, p.proname COLLATE "C", p.pronargs;
SELECT role, r.name, privilege
FROM unnest(ARRAY['regress_monitor', 'regress_nobody']) AS role, relation AS r,
	unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
				 'REFERENCES', 'TRIGGER']) AS privilege
WHERE r.kind IN ('r', 'v') AND has_table_privilege(role, r.oid, privilege)
ORDER BY role, r.name COLLATE "C", privilege;
SELECT role, privilege, has_sequence_privilege(role,
		'bigbrotr_refresher.history_id_seq', privilege) AS sequence
FROM unnest(ARRAY['regress_monitor', 'regress_nobody']) AS role,
	unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS privilege
ORDER BY role, privilege;
SELECT role, privilege, has_schema_privilege(role, 'bigbrotr_refresher', privilege) AS schema
FROM unnest(ARRAY['regress_monitor', 'regress_nobody']) AS role,
	unnest(ARRAY['USAGE', 'CREATE']) AS privilege
ORDER BY role, privilege;

-- What that comes to
SET ROLE regress_monitor;
SELECT count(*) FROM bigbrotr_refresher.status;
SELECT count(*) FROM bigbrotr_refresher.history;
SELECT count(*) > 0 AS some FROM bigbrotr_refresher.views;
SELECT count(*) FROM bigbrotr_refresher.cycles;
SELECT count(*) FROM bigbrotr_refresher.timeline();
SELECT * FROM bigbrotr_refresher.run(true);
INSERT INTO bigbrotr_refresher.history (view) VALUES ('forged');
DELETE FROM bigbrotr_refresher.history;
SET ROLE regress_nobody;
SELECT count(*) FROM bigbrotr_refresher.status;
SELECT count(*) FROM bigbrotr_refresher.history;
SELECT count(*) FROM bigbrotr_refresher.views;
SELECT count(*) FROM bigbrotr_refresher.plan();
SELECT count(*) FROM bigbrotr_refresher.timeline();
SELECT * FROM bigbrotr_refresher.run();
SELECT bigbrotr_refresher.refresh('x');
RESET ROLE;

-- Rights that were granted do not reach further.
GRANT USAGE ON SCHEMA bigbrotr_refresher TO regress_nobody;
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.run TO regress_nobody;
SET ROLE regress_nobody;
SELECT * FROM bigbrotr_refresher.run();
SELECT count(*) FROM bigbrotr_refresher.history;
RESET ROLE;
REVOKE ALL ON SCHEMA bigbrotr_refresher FROM regress_nobody;
REVOKE ALL ON FUNCTION bigbrotr_refresher.run FROM regress_nobody;

-- Up to date
ALTER EXTENSION bigbrotr_refresher UPDATE;

DROP VIEW member;
DROP VIEW relation;
DROP EXTENSION bigbrotr_refresher;
DROP ROLE regress_nobody, regress_monitor;
