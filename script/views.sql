/*
 * One screen for an administrator.  Programs read the function, which has all
 * that is known.
 */
CREATE VIEW status AS
SELECT s.database,
    s.pid,
    s.state,
    s.next_due,
    nullif(array_to_string(s.refreshing, ', '), '') AS refreshing,
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
'the views that are being refreshed now; null: none';
COMMENT ON COLUMN status.cycle_start IS
'when the cycle that runs, or else the last one, started; null: none since the server started';
COMMENT ON COLUMN status.duration IS 'how long that cycle took; null: it is not over';
COMMENT ON COLUMN status.views IS 'how many views were due in that cycle';
COMMENT ON COLUMN status.refreshed IS 'how many of them were refreshed';
COMMENT ON COLUMN status.failed IS 'how many of them failed';
COMMENT ON COLUMN status.skipped IS
'how many of them were left out, as nothing that they read had changed';

/*
 * A view is degraded if anything that it reads, directly or through others,
 * failed when it was last tried.
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
            WHERE n.cycle_start IS NOT NULL ORDER BY n.id DESC LIMIT 1))
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
'a cycle drawn as bars, for psql: that which started then, by default the last one';
