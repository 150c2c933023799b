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
COMMENT ON FUNCTION status() IS
'a row for each database that is served: what its worker is doing now, its last cycles, and its totals since the server started';

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
