--
-- The parameters: their defaults, their bounds, and who may change them
--
\pset format unaligned
\pset tuples_only on

SELECT name, vartype, context, boot_val, unit, min_val, max_val
FROM pg_settings
WHERE name IN ('bigbrotr_refresher.databases',
			   'bigbrotr_refresher.role',
			   'bigbrotr_refresher.restart_interval',
			   'bigbrotr_refresher.enabled',
			   'bigbrotr_refresher.views',
			   'bigbrotr_refresher.interval',
			   'bigbrotr_refresher.start_time',
			   'bigbrotr_refresher.refresh_timeout',
			   'bigbrotr_refresher.lock_timeout',
			   'bigbrotr_refresher.window_delay',
			   'bigbrotr_refresher.max_window',
			   'bigbrotr_refresher.notify_channel',
			   'bigbrotr_refresher.notify_payload')
ORDER BY name;

-- Each says what it is for.
SELECT name FROM pg_settings
WHERE name LIKE 'bigbrotr\_refresher.%' AND coalesce(short_desc, '') !~ '\.$';

-- Units
ALTER SYSTEM SET bigbrotr_refresher.interval = '90min';
ALTER SYSTEM SET bigbrotr_refresher.refresh_timeout = '5min';
ALTER SYSTEM SET bigbrotr_refresher.lock_timeout = 1500;
ALTER SYSTEM SET bigbrotr_refresher.enabled = off;
SELECT pg_reload_conf() \gset
\c -
SHOW bigbrotr_refresher.interval;
SHOW bigbrotr_refresher.refresh_timeout;
SHOW bigbrotr_refresher.lock_timeout;
SHOW bigbrotr_refresher.enabled;
ALTER SYSTEM RESET bigbrotr_refresher.interval;
ALTER SYSTEM RESET bigbrotr_refresher.refresh_timeout;
ALTER SYSTEM RESET bigbrotr_refresher.lock_timeout;
ALTER SYSTEM RESET bigbrotr_refresher.enabled;
SELECT pg_reload_conf() \gset
\c -

-- Bounds.  (Majors word the message differently.)
\set VERBOSITY sqlstate
ALTER SYSTEM SET bigbrotr_refresher.interval = 0;
ALTER SYSTEM SET bigbrotr_refresher.interval = '367d';
ALTER SYSTEM SET bigbrotr_refresher.restart_interval = 0;
ALTER SYSTEM SET bigbrotr_refresher.restart_interval = '61min';
ALTER SYSTEM SET bigbrotr_refresher.refresh_timeout = -1;
ALTER SYSTEM SET bigbrotr_refresher.lock_timeout = -1;
ALTER SYSTEM SET bigbrotr_refresher.notify_payload = 'xml';
ALTER SYSTEM SET bigbrotr_refresher.interval = '366d';
ALTER SYSTEM RESET bigbrotr_refresher.interval;
\set VERBOSITY default

-- Those of the server cannot be set for a session, a role or a database.
SET bigbrotr_refresher.databases = 'a';
SET bigbrotr_refresher.role = 'a';
SET bigbrotr_refresher.restart_interval = 1;
ALTER ROLE CURRENT_USER SET bigbrotr_refresher.databases = 'a';

-- All others can, by superusers, and are checked then.
SET bigbrotr_refresher.interval = '1h';
SHOW bigbrotr_refresher.interval;
SET bigbrotr_refresher.views = 'a,,b';
ALTER ROLE CURRENT_USER SET bigbrotr_refresher.views = 'a,,b';
ALTER DATABASE contrib_regression SET bigbrotr_refresher.views = 'a, b';
\c -
SHOW bigbrotr_refresher.views;
ALTER DATABASE contrib_regression RESET bigbrotr_refresher.views;
\c -

-- ... and by whom they allow it.
CREATE ROLE regress_tuner;
SET ROLE regress_tuner;
SET bigbrotr_refresher.interval = '1h';
RESET ROLE;
GRANT SET ON PARAMETER bigbrotr_refresher.interval TO regress_tuner;
SET ROLE regress_tuner;
SET bigbrotr_refresher.interval = '1h';
SHOW bigbrotr_refresher.interval;
SET bigbrotr_refresher.views = 'a';
RESET ROLE;
DROP OWNED BY regress_tuner;
DROP ROLE regress_tuner;
\c -

-- A misspelt one does not pass for a parameter.
SET bigbrotr_refresher.vews = 'a';

-- A time of the day, or none
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.start_time = %L', time)
FROM (VALUES
	(1, '24:00'),
	(2, '3'),
	(3, ' 3pm'),
	(4, '03:00 Europe/Berlin'),
	(5, repeat('1', 64)),
	(6, ''),
	(7, '  '),
	(8, ' 3:00 '),
	(9, '23:59:59')
) AS times(id, time)
ORDER BY id \gexec
ALTER SYSTEM RESET bigbrotr_refresher.start_time;

--
-- The names of databases
--
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.databases = %L', list)
FROM (VALUES
	(1, ','),
	(2, 'a,'),
	(3, ',a'),
	(4, 'a,,b'),
	(5, 'a b'),
	(6, 'a; b'),
	(7, 'a.b'),
	(8, '*'),
	(9, 'a @ 1h'),
	(10, '1a'),
	(11, 'a-b'),
	(12, '"a'),
	(13, '""'),
	(14, 'a, b, A'),
	(15, 'a, "a"'),
	(16, 'a, ' || repeat('n', 64)),
	(17, '"' || repeat('n', 64) || '"')
) AS refused(id, list)
ORDER BY id \gexec

SELECT format('ALTER SYSTEM SET bigbrotr_refresher.databases = %L', list)
FROM (VALUES
	(1, ''),
	(2, '  '),
	(3, 'a'),
	(4, ' a , b,c '),
	(5, 'A, "A", "a b", "a,b", "c"";d"'),
	(6, repeat('n', 63) || ', "' || repeat('m', 63) || '"'),
	(7, repeat(U&'\00E4', 31))
) AS accepted(id, list)
ORDER BY id \gexec

-- It takes a restart.
SELECT pg_reload_conf() \gset
\c -
SHOW bigbrotr_refresher.databases;
ALTER SYSTEM RESET bigbrotr_refresher.databases;
SELECT pg_reload_conf() \gset
\c -

--
-- The name of the role
--
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.role = %L', name)
FROM (VALUES
	(1, repeat('n', 64)),
	(2, repeat('n', 63)),
	(3, 'no such role')
) AS names(id, name)
ORDER BY id \gexec
ALTER SYSTEM RESET bigbrotr_refresher.role;
