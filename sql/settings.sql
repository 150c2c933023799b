--
-- When a view is due, and the settings that it has for itself
--
\pset format unaligned
\pset tuples_only on
\pset null -
CREATE EXTENSION bigbrotr_refresher;
SET client_min_messages = warning;

-- What is in force is what a new session has: hence \c after each reload.

CREATE SCHEMA s;
CREATE TABLE s.seen (what text);
CREATE FUNCTION s.see() RETURNS void LANGUAGE sql AS $$
	INSERT INTO s.seen VALUES (concat_ws(' ', current_setting('work_mem'),
		current_setting('enable_sort'), current_setting('app.mode', true)))
$$;
SELECT format('CREATE FUNCTION s.%s_refresh() RETURNS void
			   LANGUAGE sql AS ''SELECT s.see()''', letter)
FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e']) AS letter \gexec

--
-- What is written is what is shown.
--
ALTER SYSTEM SET bigbrotr_refresher.views = 's.a @ 1d from 03:00, s.b @ 7d FROM 3:05 , s.c@1h from 00:15:30(work_mem=1MB), s.d (work_mem = 2MB,Seat.x = -1.5e3 , app.mode = Word, work_mem.x = ''''); s.e @ 90s ( app.mode = ''in quotes'', app.x = ''a, b); c @ 1h'', app.y=''it''''s'', app.z = ''1''); "f (g = h)", s.g (app.path = /some/where-else_1:2.3, app.plus = +1)';
SELECT pg_reload_conf() \gset
\c -
SELECT view, refresh_interval, start_time, settings FROM bigbrotr_refresher.plan();
SELECT view, next_due, refresh_interval, start_time FROM bigbrotr_refresher.views;

--
-- When each is due.  (There is no worker, so the time zone is the session's.)
--
INSERT INTO bigbrotr_refresher.view_state
	(view, cycle_start, schedule_start, failures)
SELECT 's.' || letter, start, start, 0
FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e']) AS letter,
	 CAST('2020-03-28 03:00+01' AS timestamptz) AS start;
SET TimeZone = 'Europe/Berlin';
SELECT view, due FROM bigbrotr_refresher.plan() WHERE view LIKE 's._';
SET TimeZone = 'America/New_York';
SELECT view, due FROM bigbrotr_refresher.plan() WHERE view LIKE 's._';
SET TimeZone = 'Asia/Kathmandu';
SELECT view, next_due FROM bigbrotr_refresher.views WHERE view LIKE 's._';
SET TimeZone = 'UTC';
-- What has failed is retried before, by an interval of its own if it has one.
UPDATE bigbrotr_refresher.view_state SET failures = 2;
ALTER SYSTEM SET bigbrotr_refresher.views = 's.a @ 1d from 03:00, s.b @ 1d from 03:00 (retry_interval = 1h), s.c @ 1h from 00:15 (retry_interval = 40min), s.d @ 1d (retry_interval = 0), s.e @ 1d (retry_interval = 2min)';
SELECT pg_reload_conf() \gset
\c -
SET TimeZone = 'UTC';
SELECT view, due FROM bigbrotr_refresher.plan();
UPDATE bigbrotr_refresher.view_state SET failures = 0;

-- The same for the default interval
ALTER SYSTEM SET bigbrotr_refresher.views = 's.a, s.b @ 1d, s.c @ 1d from 5:00';
ALTER SYSTEM SET bigbrotr_refresher.start_time = '4:30';
SELECT pg_reload_conf() \gset
\c -
SET TimeZone = 'Europe/Berlin';
SELECT view, due, refresh_interval, start_time FROM bigbrotr_refresher.plan();
ALTER SYSTEM SET bigbrotr_refresher.interval = '6h';
SELECT pg_reload_conf() \gset
\c -
SET TimeZone = 'Europe/Berlin';
SELECT view, due, refresh_interval, start_time FROM bigbrotr_refresher.plan();
-- It has to wait for an interval that fits.
ALTER SYSTEM SET bigbrotr_refresher.interval = '7h';
SELECT pg_reload_conf() \gset
\c -
SET TimeZone = 'Europe/Berlin';
SELECT view, due, refresh_interval, start_time FROM bigbrotr_refresher.plan();
ALTER SYSTEM RESET bigbrotr_refresher.interval;
ALTER SYSTEM RESET bigbrotr_refresher.start_time;

--
-- Settings that are refused.  Each is the failure of its view.
--
CREATE TABLE s.lists (id int, settings text);
INSERT INTO s.lists VALUES
	-- ours
	(1, 'refresh_timeout = 10min, lock_timeout = 1s, retry_interval = 0, skip_unchanged = on, merge = off'),
	(2, 'refresh_timeout = soon'),
	(3, 'lock_timeout = -1'),
	(4, 'retry_interval = 367d'),
	(5, 'skip_unchanged = maybe'),
	(6, 'merge = sometimes'),
	(7, 'interval = 1h'),
	(8, 'max_workers = 2'),
	(9, 'bigbrotr_refresher.merge = off'),
	(10, 'window_delay = 1h, max_window = 0'),
	(11, 'window_delay = 1s'),
	(12, 'max_window = -1'),
	-- the server's
	(20, 'work_mem = 256MB, JIT = off, temp_file_limit = 1GB, Synchronous_Commit = local'),
	(21, 'work_memory = 1MB'),
	(22, 'work_mem = much'),
	(23, 'work_mem = 1'),
	(24, 'jit = off, work_mem = 1MB, enable_sort = 2'),
	(25, 'plan_cache_mode = ''no such'''),
	(26, 'TimeZone = ''No/Where'''),
	(27, 'datestyle = ''ISO, DMY'''),
	(28, 'app.mode = x, plpgsql.variable_conflict = use_column'),
	-- what no view may have
	(40, 'max_connections = 10'),
	(41, 'server_version = 1'),
	(42, 'autovacuum = off'),
	(43, 'log_connections = on'),
	(44, 'search_path = s'),
	(45, 'statement_timeout = 1min'),
	(46, 'default_transaction_isolation = serializable'),
	(47, 'default_transaction_read_only = off'),
	(48, 'transaction_isolation = serializable'),
	(49, 'role = postgres'),
	(50, 'session_authorization = postgres'),
	(51, 'seed = 0.5'),
	(52, 'exit_on_error = on'),
	(53, 'track_counts = off'),
	(54, 'quote_all_identifiers = on');
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L',
			  string_agg(format('s.a%s (%s)', id, settings), ', ' ORDER BY id))
FROM s.lists \gexec
SELECT format('CREATE FUNCTION s.a%s_refresh() RETURNS void
			   LANGUAGE sql AS ''''', id)
FROM s.lists \gexec
SELECT pg_reload_conf() \gset
\c -
-- (Majors word bounds differently.)
SELECT substring(view, 4)::int AS id, method, regexp_replace(error, ' \(.*', '') FROM bigbrotr_refresher.plan() ORDER BY 1;
SELECT substring(view, 4)::int AS id, substring(advice, '(?:Write|Set|Give) .*') AS hint
FROM bigbrotr_refresher.plan() WHERE error ~ 'cannot be set for one view$' AND advice ~ 'Write|Set |Give' ORDER BY 1;

-- They hold for each view that a wildcard stands for; and for what is merged.
CREATE SCHEMA mv;
CREATE MATERIALIZED VIEW mv.one AS SELECT 1 AS x;
CREATE UNIQUE INDEX ON mv.one (x);
CREATE MATERIALIZED VIEW mv.two AS SELECT 2 AS x;
CREATE MATERIALIZED VIEW mv.three AS SELECT 3 AS x;
ALTER SYSTEM SET bigbrotr_refresher.views = 'mv.* (merge = off), mv.three (merge = worker), nowhere.* (jit = off)';
SELECT pg_reload_conf() \gset
\c -
SELECT view, method, error, settings FROM bigbrotr_refresher.plan();
CREATE UNIQUE INDEX ON mv.three (x);
SELECT bigbrotr_refresher.refresh('mv.one', 'x = 1');
SELECT bigbrotr_refresher.refresh('mv.three', 'x = 3');
ALTER SYSTEM SET bigbrotr_refresher.views = '* (merge = off), mv.* (jit = off), s.* (merge = off)';
SELECT pg_reload_conf() \gset
\c -
SELECT bigbrotr_refresher.refresh('mv.one', 'x = 1');
ALTER SYSTEM SET bigbrotr_refresher.views = 'mv.* (no_such = 1)';
SELECT pg_reload_conf() \gset
\c -
SELECT view, method, error FROM bigbrotr_refresher.plan();
SELECT bigbrotr_refresher.refresh('mv.one', 'x = 1');

--
-- refresh() goes by them, for its call only, if the view is in the list.
--
ALTER SYSTEM SET bigbrotr_refresher.views = 's.a (work_mem = 5MB, enable_sort = off, app.mode = ''of a''), s.b (work_mem = much), s.d (merge = off), mv.one (merge = off), s.mode (work_mem = 5MB, app.mode = ''of a part'')';
SELECT pg_reload_conf() \gset
\c -
CREATE ROLE regress_settings;
GRANT USAGE ON SCHEMA bigbrotr_refresher, s TO regress_settings;
GRANT EXECUTE ON FUNCTION bigbrotr_refresher.refresh(text) TO regress_settings;
GRANT INSERT ON s.seen TO regress_settings;
SET work_mem = '7MB';
SELECT bigbrotr_refresher.refresh('s.a');
SELECT bigbrotr_refresher.refresh('s.c');
SELECT bigbrotr_refresher.refresh('s.b');
SELECT bigbrotr_refresher.refresh('s.a (work_mem = 1MB)');
SELECT bigbrotr_refresher.refresh('s.a @ 1d from 3:00');
SELECT bigbrotr_refresher.refresh('mv.one');
SELECT what FROM s.seen;
SELECT method FROM bigbrotr_refresher.history WHERE view = 'mv.one' ORDER BY id DESC LIMIT 1;
SELECT current_setting('work_mem'), current_setting('enable_sort'), current_setting('app.mode', true);
-- So does a refresh of a part.
CREATE MATERIALIZED VIEW s.mode AS SELECT 1 AS x, current_setting('app.mode', true) AS mode, current_setting('work_mem') AS mem;
CREATE UNIQUE INDEX ON s.mode (x);
SELECT bigbrotr_refresher.refresh('s.mode', 'x = 1');
SELECT mode, mem FROM s.mode;
SELECT current_setting('work_mem'), current_setting('app.mode', true);
-- A function that sets something itself does so in the caller's session.
CREATE FUNCTION s.sets_refresh() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET enable_sort = on;
	RESET work_mem;
	PERFORM s.see();
END
$$;
TRUNCATE s.seen;
ALTER SYSTEM SET bigbrotr_refresher.views = 's.sets (enable_sort = off, work_mem = 5MB), s.a (temp_file_limit = 1GB)';
SELECT pg_reload_conf() \gset
\c -
SELECT bigbrotr_refresher.refresh('s.sets');
SELECT what FROM s.seen;
-- The caller needs the right to set them.
SET ROLE regress_settings;
SELECT bigbrotr_refresher.refresh('s.a');
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA s CASCADE;
DROP SCHEMA mv CASCADE;
DROP EXTENSION bigbrotr_refresher;
DROP ROLE regress_settings;
ALTER SYSTEM RESET bigbrotr_refresher.views;
