/* bigbrotr_refresher--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION bigbrotr_refresher" to load this file. \quit

-- Made here, so that it is the extension's and goes with it; and so that one
-- that somebody else made, and could change, is refused.
CREATE SCHEMA bigbrotr_refresher;

-- Temporary objects of the session that runs this would come first otherwise.
SET LOCAL search_path TO bigbrotr_refresher, pg_temp;

/*
 * A row for each attempt.  It is written in the transaction of the refresh, so
 * it is there exactly if the refresh was committed.
 */
CREATE TABLE history (
    id bigint GENERATED ALWAYS AS IDENTITY,
    view text NOT NULL,
    cycle_start timestamptz,
    schedule_start timestamptz,
    started_at timestamptz NOT NULL,
    duration interval NOT NULL,
    outcome text NOT NULL,
    method text,
    sqlstate text,
    error text,
    failures integer NOT NULL,
    wal_bytes bigint NOT NULL,
    shared_blks_hit bigint NOT NULL,
    shared_blks_read bigint NOT NULL,
    temp_blks_read bigint NOT NULL,
    temp_blks_written bigint NOT NULL,
    data_as_of timestamptz,
    rows_inserted bigint,
    rows_updated bigint,
    rows_deleted bigint,
    condition text,
    window_after text,
    window_until text,
    rows_changed bigint,
    PRIMARY KEY (view, id)
);
CREATE INDEX ON history (started_at);
CREATE INDEX ON history (cycle_start);
CREATE INDEX history_id_in_cycle_idx ON history (id) WHERE cycle_start IS NOT NULL;
-- Refreshes of parts may be many.
CREATE INDEX history_whole_idx ON history (view, id) WHERE condition IS NULL;
COMMENT ON TABLE history IS
'past refreshes: a row for each attempt, kept for bigbrotr_refresher.history_retention';
COMMENT ON COLUMN history.id IS 'ascends with each attempt of a view';
COMMENT ON COLUMN history.view IS 'the view, quoted as in SQL';
COMMENT ON COLUMN history.cycle_start IS
'when the cycle started; null: it was refreshed outside of a cycle';
COMMENT ON COLUMN history.schedule_start IS
'where the schedule of the view counts from: the start of its last cycle that was not a retry';
COMMENT ON COLUMN history.started_at IS 'when the attempt started';
COMMENT ON COLUMN history.duration IS 'how long the attempt took';
COMMENT ON COLUMN history.outcome IS 'refreshed, failed or skipped';
COMMENT ON COLUMN history.method IS
'function, procedure, merge, refresh, refresh concurrently or window; null: none was found';
COMMENT ON COLUMN history.sqlstate IS 'code of the error if it failed';
COMMENT ON COLUMN history.error IS 'message of the error if it failed';
COMMENT ON COLUMN history.failures IS 'failures of the view in a row, with this one';
COMMENT ON COLUMN history.wal_bytes IS 'write-ahead log written, in bytes';
COMMENT ON COLUMN history.shared_blks_hit IS 'blocks found in shared buffers';
COMMENT ON COLUMN history.shared_blks_read IS 'blocks read into shared buffers';
COMMENT ON COLUMN history.temp_blks_read IS 'blocks of temporary files read';
COMMENT ON COLUMN history.temp_blks_written IS 'blocks of temporary files written';
COMMENT ON COLUMN history.data_as_of IS
'age of the rows of the view after the attempt: its own start, or the data_as_of of what it read if that is older; null: only some were refreshed';
COMMENT ON COLUMN history.rows_inserted IS
'rows that were inserted; null: it was not merged, so all were written';
COMMENT ON COLUMN history.rows_updated IS 'rows that were updated; null: not merged';
COMMENT ON COLUMN history.rows_deleted IS 'rows that were deleted; null: not merged';
COMMENT ON COLUMN history.condition IS
'only the rows for which this holds were refreshed; null: all';
COMMENT ON COLUMN history.window_after IS
'where the window started: with this by transaction, after this by time; null: no window';
COMMENT ON COLUMN history.window_until IS
'where the window ended: before this by transaction, with this by time; null: no window';
COMMENT ON COLUMN history.rows_changed IS
'rows that the function of the window says it has changed; null: it did not say';

/*
 * A row for each view: what is known of it after its last attempt, and written
 * together with the row of that.  It is replaced often, and no column that
 * changes is indexed.
 */
CREATE TABLE view_state (
    view text PRIMARY KEY,
    cycle_start timestamptz,
    schedule_start timestamptz,
    data_as_of timestamptz,
    failures integer NOT NULL,
    refresh_duration interval,
    rows_changed bigint,
    change_mark text,
    last_attempt timestamptz,
    last_success timestamptz,
    duration interval,
    outcome text,
    sqlstate text,
    error text
) WITH (fillfactor = 50);
COMMENT ON TABLE view_state IS
'what is known of each view after its last attempt, for bigbrotr_refresher to go on with; see the view "views"';
COMMENT ON COLUMN view_state.view IS 'the view, quoted as in SQL';
COMMENT ON COLUMN view_state.cycle_start IS
'when the last cycle started that the view took part in';
COMMENT ON COLUMN view_state.schedule_start IS
'where the schedule of the view counts from: the start of its last cycle that was not a retry';
COMMENT ON COLUMN view_state.data_as_of IS
'age of the rows of the view: the start of their refresh, or the data_as_of of what it read if that is older';
COMMENT ON COLUMN view_state.failures IS 'failures in a row; 0: the last attempt did not fail';
COMMENT ON COLUMN view_state.refresh_duration IS 'how long the last successful refresh took';
COMMENT ON COLUMN view_state.rows_changed IS
'rows that this refresh has inserted, updated and deleted; 0 if it was not merged';
COMMENT ON COLUMN view_state.change_mark IS
'stands for what that refresh read, as far as skip_unchanged needs to know it';
COMMENT ON COLUMN view_state.last_attempt IS 'when the last attempt started; null: unknown';
COMMENT ON COLUMN view_state.last_success IS 'when the last successful refresh started; null: unknown';
COMMENT ON COLUMN view_state.duration IS 'how long the last attempt took';
COMMENT ON COLUMN view_state.outcome IS 'of the last attempt: refreshed, failed or skipped';
COMMENT ON COLUMN view_state.sqlstate IS 'code of the error if the last attempt failed';
COMMENT ON COLUMN view_state.error IS 'message of the error if the last attempt failed';

/*
 * A row for each table that is filled by windows: where the last one ended.  It
 * is written in the transaction of the window, and is never pruned.
 */
CREATE TABLE windows (
    target text PRIMARY KEY,
    kind text NOT NULL,
    until text NOT NULL,
    written_by xid8 NOT NULL,
    folded_at timestamptz NOT NULL,
    looked_at timestamptz,
    prepared xid[],
    prepared_since timestamptz[]
) WITH (fillfactor = 50);
COMMENT ON TABLE windows IS
'where the last window of each table ended that is filled by windows; to be set by set_window()';
COMMENT ON COLUMN windows.target IS 'the table with its schema, quoted as in SQL';
COMMENT ON COLUMN windows.kind IS
'xid8: windows are by transaction; bigint: by seconds since 1970; timestamptz: by time';
COMMENT ON COLUMN windows.until IS
'what was folded: all before this by transaction, all up to this by time';
COMMENT ON COLUMN windows.written_by IS
'the transaction that has written the row: its xmin, unless it was restored from a dump';
COMMENT ON COLUMN windows.folded_at IS 'when the row was written';
COMMENT ON COLUMN windows.looked_at IS
'no transaction that was not seen then had begun earlier; null: by transaction, or set by hand';
COMMENT ON COLUMN windows.prepared IS 'the prepared transactions that were seen then';
COMMENT ON COLUMN windows.prepared_since IS 'the earliest that each of them can have begun';

SELECT pg_catalog.pg_extension_config_dump('history', '');
SELECT pg_catalog.pg_extension_config_dump('history_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('view_state', '');
SELECT pg_catalog.pg_extension_config_dump('windows', '');

/*
 * Each server writes its own rows.  Those of another one, which a publication
 * for all tables brings, are dropped; also where session_replication_role is
 * "replica", as it is for logical replication.
 */
CREATE FUNCTION drop_replicated()
RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_drop_replicated';
COMMENT ON FUNCTION drop_replicated() IS
'drops the rows that logical replication brings from another server';

CREATE TRIGGER drop_replicated
BEFORE INSERT OR UPDATE OR DELETE ON history
FOR EACH ROW EXECUTE FUNCTION drop_replicated();
ALTER TABLE history ENABLE ALWAYS TRIGGER drop_replicated;

CREATE TRIGGER drop_replicated
BEFORE INSERT OR UPDATE OR DELETE ON view_state
FOR EACH ROW EXECUTE FUNCTION drop_replicated();
ALTER TABLE view_state ENABLE ALWAYS TRIGGER drop_replicated;

CREATE TRIGGER drop_replicated
BEFORE INSERT OR UPDATE OR DELETE ON windows
FOR EACH ROW EXECUTE FUNCTION drop_replicated();
ALTER TABLE windows ENABLE ALWAYS TRIGGER drop_replicated;

CREATE FUNCTION plan(
    OUT "position" integer,
    OUT stage integer,
    OUT view text,
    OUT method text,
    OUT error text,
    OUT depends_on text[],
    OUT due timestamptz,
    OUT refresh_interval interval,
    OUT skippable boolean,
    OUT not_skippable_because text,
    OUT advice text,
    OUT start_time time,
    OUT settings text,
    OUT window_after text,
    OUT window_until text,
    OUT window_backlog bigint,
    OUT held_back_by integer,
    OUT held_back_since timestamptz)
RETURNS SETOF record
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
ROWS 20 -- so few that the view "views" is not compiled by jit, which takes a second
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_plan';
COMMENT ON FUNCTION plan() IS
'the next cycle explained: what is refreshed in which order, how, after what, and when it is due (null: at once)';

CREATE FUNCTION status(
    OUT database text,
    OUT pid integer,
    OUT state text,
    OUT worker_start timestamptz,
    OUT cycle_start timestamptz,
    OUT cycle_duration interval,
    OUT next_due timestamptz,
    OUT views_total integer,
    OUT views_refreshed integer,
    OUT views_failed integer,
    OUT views_skipped integer,
    OUT refreshing text[],
    OUT refreshed_total bigint,
    OUT failed_total bigint,
    OUT skipped_total bigint,
    OUT cycles_success bigint,
    OUT cycles_failed bigint,
    OUT consecutive_failures integer,
    OUT cycle_duration_seconds_bucket bigint[],
    OUT cycle_duration_seconds_sum double precision,
    OUT cycle_duration_seconds_count bigint,
    OUT last_cycle_start timestamptz,
    OUT last_cycle_duration interval,
    OUT last_views_total integer,
    OUT last_views_refreshed integer,
    OUT last_views_failed integer,
    OUT last_views_skipped integer)
RETURNS SETOF record
LANGUAGE C STRICT VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_status';
COMMENT ON FUNCTION status() IS 'what the view "status" shows';

CREATE VIEW status AS SELECT * FROM status();
COMMENT ON VIEW status IS
'a row for each database that is served: what its worker is doing now, and its totals since the server started';

CREATE FUNCTION run(
    wait boolean DEFAULT false,
    OUT views integer,
    OUT refreshed integer,
    OUT failed integer,
    OUT skipped integer,
    OUT duration interval)
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_run';
COMMENT ON FUNCTION run(boolean) IS
'start a cycle of all views of this database now; with wait, return its counts when it ends';

CREATE FUNCTION refresh(view text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_refresh';
COMMENT ON FUNCTION refresh(text) IS
'refresh one view here, in this transaction and with the rights of the caller';

CREATE FUNCTION refresh(view text, condition text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_refresh_part';
COMMENT ON FUNCTION refresh(text, text) IS
'refresh the rows of one materialized view for which a condition on columns of a unique index holds, in this transaction; for its owner alone';

CREATE FUNCTION set_window(target text, until text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_set_window';
COMMENT ON FUNCTION set_window(text, text) IS
'say where the last window of a table ended, as its owner: what is in there up to that is not folded again';

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

-- Monitoring may look; to run something, one must be granted it.
GRANT USAGE ON SCHEMA bigbrotr_refresher TO pg_monitor;
GRANT SELECT ON history, view_state, windows, status, views TO pg_monitor;
REVOKE ALL ON FUNCTION plan(), status(), run(boolean), refresh(text),
    refresh(text, text), set_window(text, text), timeline(timestamptz), drop_replicated()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION plan(), status(), timeline(timestamptz)
TO pg_monitor;
