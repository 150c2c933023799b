/*
 * One screen for an administrator.  Programs should read the function, which
 * returns everything.
 */
CREATE VIEW status AS
SELECT s.database,
    s.pid,
    s.state,
    s.next_due,
    (SELECT string_agg(r.view || ' for '
            || date_trunc('second', greatest(clock_timestamp() - r.since, '0'))
            || coalesce(' (' || round(100 * r.share) || ' %)', ''), ', ')
        FROM unnest(s.refreshing, s.refreshing_since, s.refreshing_share)
            AS r(view, since, share)) AS refreshing,
    s.cycle_start,
    s.cycle_duration AS duration,
    s.views_total AS views,
    s.views_refreshed AS refreshed,
    s.views_failed AS failed,
    s.views_skipped AS skipped
FROM status() AS s;
COMMENT ON VIEW status IS
'a row for each database that is served: what its worker is doing now, and the cycle that runs or the last one; the function status() tells more';
COMMENT ON COLUMN status.database IS 'the database';
COMMENT ON COLUMN status.pid IS 'process ID of the worker; null: there is none';
COMMENT ON COLUMN status.state IS
'resting: there is no worker, as nothing is due; idle: it waits until something is; refreshing, disabled; stopped: it failed or could not be started, or the server is a standby';
COMMENT ON COLUMN status.next_due IS
'when the next view is due; null: unknown, never, or a cycle runs';
COMMENT ON COLUMN status.refreshing IS
'the views that are being refreshed now, for how long, and in brackets what share that is of the time that the last successful refresh took; null: none';
COMMENT ON COLUMN status.cycle_start IS
'when the cycle that runs, or else the last one, started; null: none since the server started';
COMMENT ON COLUMN status.duration IS 'how long that cycle took; null: it is not over';
COMMENT ON COLUMN status.views IS 'how many views were due in that cycle';
COMMENT ON COLUMN status.refreshed IS 'how many of them were refreshed';
COMMENT ON COLUMN status.failed IS 'how many of them failed';
COMMENT ON COLUMN status.skipped IS
'how many of them were left out, as nothing that they read had changed';

/*
 * A view is degraded if the last attempt of anything that it reads, directly
 * or through other views, failed.
 */
CREATE VIEW views AS
WITH RECURSIVE last AS MATERIALIZED (
    SELECT p."position", p.view, p.depends_on, p.due, p.refresh_interval,
        p.start_time, s.last_attempt, s.last_success, s.duration, s.outcome, s.sqlstate,
        s.error, coalesce(s.failures, 0) AS failures, s.data_as_of,
        p.window_after, p.window_until, p.window_backlog,
        p.held_back_by, p.held_back_since
    FROM plan() AS p LEFT JOIN view_state AS s ON s.view = p.view
), reads AS MATERIALIZED (
    SELECT l.view, d.read
    FROM last AS l, unnest(l.depends_on) AS d(read)
), degraded(view) AS (
    SELECT r.view FROM reads AS r
    JOIN last AS l ON l.view = r.read WHERE l.failures > 0
    UNION
    SELECT r.view FROM reads AS r JOIN degraded AS d ON d.view = r.read
)
SELECT l.view,
    l.last_attempt,
    l.last_success,
    l.duration,
    l.outcome,
    l.sqlstate,
    l.error,
    l.failures,
    l.due AS next_due,
    l.data_as_of,
    EXISTS (SELECT FROM degraded AS d WHERE d.view = l.view) AS is_degraded,
    l.refresh_interval,
    l.start_time,
    l.window_after,
    l.window_until,
    l.window_backlog,
    l.held_back_by,
    l.held_back_since
FROM last AS l
ORDER BY l."position";
COMMENT ON VIEW views IS
'a row for each view of the list: its last refresh, its next one, the age of its data, and whether something that it reads has failed';
COMMENT ON COLUMN views.view IS 'the view, quoted as in SQL';
COMMENT ON COLUMN views.last_attempt IS 'when the last attempt started; null: none is known';
COMMENT ON COLUMN views.last_success IS
'when the last successful refresh started; null: none is known';
COMMENT ON COLUMN views.duration IS 'how long the last attempt took';
COMMENT ON COLUMN views.outcome IS 'of the last attempt: refreshed, failed or skipped';
COMMENT ON COLUMN views.sqlstate IS 'code of the error if the last attempt failed';
COMMENT ON COLUMN views.error IS 'message of the error if the last attempt failed';
COMMENT ON COLUMN views.failures IS 'failures in a row; 0: the last attempt did not fail';
COMMENT ON COLUMN views.next_due IS
'when the view is due again, by its interval or as a retry; null: at once';
COMMENT ON COLUMN views.data_as_of IS
'age of the rows of the view: the start of their refresh, or the data_as_of of what it read if that is older; null: unknown';
COMMENT ON COLUMN views.is_degraded IS
'whether something that the view reads, directly or through others, failed when it was last tried';
COMMENT ON COLUMN views.refresh_interval IS 'time from one refresh to the next';
COMMENT ON COLUMN views.start_time IS
'time of the day that the interval counts from; null: it counts from the last cycle';
COMMENT ON COLUMN views.window_after IS
'where the next window starts, if the table is filled by windows';
COMMENT ON COLUMN views.window_until IS 'how far the next window could reach now';
COMMENT ON COLUMN views.window_backlog IS
'how much there is to fold now, in seconds or transactions; null: unknown';
COMMENT ON COLUMN views.held_back_by IS
'process ID of what holds the window back; 0: a prepared transaction; null: nothing does';
COMMENT ON COLUMN views.held_back_since IS 'since when that is so';

/*
 * Read in the order of the index on cycle_start, so that the last few cycles
 * of a long history can be read without the others.  (Since 16, an aggregate
 * with DISTINCT would sort all of it.)  A table that is filled by windows may
 * have several attempts in a cycle, of which only the last one can fail.
 */
CREATE VIEW cycles AS
SELECT c.cycle_start,
    c.duration,
    c.views,
    (SELECT count(DISTINCT t.view) FROM unnest(c.tried) AS t(view))::integer
        - c.failed - c.skipped AS refreshed,
    c.failed,
    c.skipped,
    c.attempts,
    c.is_whole
FROM (
    SELECT h.cycle_start,
        max(h.started_at + h.duration) - min(h.started_at) AS duration,
        max(h.cycle_views) AS views,
        array_agg(h.view) AS tried,
        (count(*) FILTER (WHERE h.outcome = 'failed'))::integer AS failed,
        (count(*) FILTER (WHERE h.outcome = 'skipped'))::integer AS skipped,
        count(*)::integer AS attempts,
        bool_or(h.cycle_whole) AS is_whole
    FROM history AS h
    WHERE h.cycle_start IS NOT NULL
    GROUP BY h.cycle_start
    ORDER BY h.cycle_start DESC
) AS c;
COMMENT ON VIEW cycles IS
'a row for each cycle of the history, the last one first: how long it took, and what came of its views; a retry is a cycle of its own';
COMMENT ON COLUMN cycles.cycle_start IS 'when the cycle started';
COMMENT ON COLUMN cycles.duration IS
'from the start of its first attempt to the end of its last one, so far if the cycle still runs';
COMMENT ON COLUMN cycles.views IS
'how many views were due; more than those that follow: the cycle still runs, was broken off, or some of its rows are gone';
COMMENT ON COLUMN cycles.refreshed IS 'how many of them were refreshed';
COMMENT ON COLUMN cycles.failed IS 'how many of them failed';
COMMENT ON COLUMN cycles.skipped IS 'how many of them were left out, as nothing that they read had changed';
COMMENT ON COLUMN cycles.attempts IS
'how many attempts there were: a table that is filled by windows may have several in one cycle';
COMMENT ON COLUMN cycles.is_whole IS
'whether all views of the list were due, rather than only some';

CREATE FUNCTION timeline(
    cycle timestamptz DEFAULT NULL,
    OUT view text,
    OUT outcome text,
    OUT started_after interval,
    OUT duration interval,
    OUT bar text)
RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH cycle AS (
        SELECT h.view, h.outcome, h.started_at, h.duration, h.id
        FROM history AS h
        WHERE h.cycle_start = coalesce(cycle,
            (SELECT n.cycle_start FROM history AS n
            WHERE n.cycle_whole IS NOT NULL
            ORDER BY n.cycle_whole DESC, n.id DESC LIMIT 1))
    ), scale AS (
        SELECT min(c.started_at) AS start,
            greatest(extract(epoch FROM
                max(c.started_at + c.duration) - min(c.started_at)),
                0.000001) / 50 AS seconds
        FROM cycle AS c
    ), bars AS (
        SELECT c.*, s.start,
            least(floor(extract(epoch FROM c.started_at - s.start)
                / s.seconds), 49)::integer AS first,
            greatest(round(extract(epoch FROM c.duration)
                / s.seconds), 1)::integer AS length
        FROM cycle AS c, scale AS s
    )
    SELECT b.view, b.outcome, b.started_at - b.start, b.duration,
        rpad(repeat(' ', b.first) || repeat(
            CASE b.outcome WHEN 'failed' THEN 'x' WHEN 'skipped' THEN '.'
            ELSE '#' END, b.length), 50)
    FROM bars AS b
    ORDER BY b.started_at, b.id;
END;
COMMENT ON FUNCTION timeline(timestamptz) IS
'a cycle drawn as bars, for psql: that which started then, by default the last one of all views of the list, or if there is none, the last one
view: the view, quoted as in SQL
outcome: refreshed, failed or skipped
started_after: when its attempt started, from the start of the first one
duration: how long it took
bar: 50 characters for the length of the cycle; #: refreshed, x: failed, .: skipped';
