/*
 * A row for each attempt.  It is written in the transaction of the refresh,
 * so it exists if and only if the refresh was committed.
 */
CREATE TABLE history (
    id bigint GENERATED ALWAYS AS IDENTITY,
    view text NOT NULL,
    cycle_start timestamptz,
    cycle_views integer,
    cycle_whole boolean,
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
-- The last cycle of all views is at the end, after the cycles of only some.
CREATE INDEX ON history (cycle_whole, id) WHERE cycle_whole IS NOT NULL;
-- There may be many refreshes of parts.
CREATE INDEX history_whole_idx ON history (view, id) WHERE condition IS NULL;
COMMENT ON TABLE history IS
'past refreshes: a row for each attempt, kept for bigbrotr_refresher.history_retention';
COMMENT ON COLUMN history.id IS 'ascends with each attempt of a view';
COMMENT ON COLUMN history.view IS 'the view, quoted as in SQL';
COMMENT ON COLUMN history.cycle_start IS
'when the cycle started; null: it was refreshed outside of a cycle';
COMMENT ON COLUMN history.cycle_views IS
'how many views were due in that cycle; null: outside of a cycle';
COMMENT ON COLUMN history.cycle_whole IS
'whether these were all views of the list; null: outside of a cycle';
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
 * A row for each view: its state after the last attempt, written together
 * with the attempt's row in history.  It is updated often, so no column that
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
 * A row for each table that is filled by windows: where its last window
 * ended.  It is written in the transaction of the window, and is never
 * pruned.
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
 * The rows of a dump take the place of those that a worker has written since
 * CREATE EXTENSION, and rows of another server, which a publication for all
 * tables would bring, are dropped.  The trigger must also fire when
 * session_replication_role is "replica", as in logical replication.
 */
CREATE FUNCTION admit_row()
RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_admit_row';
COMMENT ON FUNCTION admit_row() IS
'lets a row that is restored take the place of one with the same key, and drops rows that logical replication brings from another server';

CREATE TRIGGER admit_row
BEFORE INSERT OR UPDATE OR DELETE ON history
FOR EACH ROW EXECUTE FUNCTION admit_row();
ALTER TABLE history ENABLE ALWAYS TRIGGER admit_row;

CREATE TRIGGER admit_row
BEFORE INSERT OR UPDATE OR DELETE ON view_state
FOR EACH ROW EXECUTE FUNCTION admit_row();
ALTER TABLE view_state ENABLE ALWAYS TRIGGER admit_row;

CREATE TRIGGER admit_row
BEFORE INSERT OR UPDATE OR DELETE ON windows
FOR EACH ROW EXECUTE FUNCTION admit_row();
ALTER TABLE windows ENABLE ALWAYS TRIGGER admit_row;
