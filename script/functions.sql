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
    OUT not_merged_because text,
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
ROWS 20 -- so few that jit does not compile the view "views", which takes a second
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_plan';
COMMENT ON FUNCTION plan() IS
'the next cycle explained: a row for each view of the list
position: its place if one view is refreshed at a time
stage: no view begins before all of an earlier stage have ended
view: the view, quoted as in SQL
method: function, procedure, merge, refresh, refresh concurrently or window; null: see error
error: why the view cannot be refreshed
depends_on: the views of the list that it reads, directly or through plain views
due: when it is due; null: at once
refresh_interval: time from one refresh to the next
skippable: whether it can be left out when nothing that it reads has changed
not_skippable_because: why not
not_merged_because: why a materialized view is refreshed by REFRESH rather than by a merge; null: it is not
advice: what one can do for the view, in sentences; null: nothing
start_time: time of the day that the interval counts from; null: it counts from the last cycle
settings: what the list sets for this view alone
window_after: where the next window starts, if the table is filled by windows
window_until: how far the next window could reach now
window_backlog: how much there is to fold now, in seconds or transactions; null: unknown
held_back_by: process ID of what holds the window back; 0: a prepared transaction; null: nothing does
held_back_since: since when that is so';

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
    OUT refreshing_since timestamptz[],
    OUT refreshing_share double precision[],
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
'a row for each database that is served: what its worker is doing now, its last cycles, and its totals since the server started
database: the database
pid: process ID of the worker; null: there is none
state: resting, idle, refreshing, disabled or stopped, as in the view "status"
worker_start: when the worker started; null: there is none
cycle_start: when the cycle that runs, or else the last one, started
cycle_duration: how long that cycle took; null: it is not over
next_due: when the next view is due; null: unknown, never, or a cycle runs
views_total: how many views were due in that cycle
views_refreshed, views_failed, views_skipped: what came of them so far
refreshing: the views that are being refreshed now
refreshing_since: since when each of them is
refreshing_share: for how long each of them is, as a share of what its last successful refresh took: 0.5 is half of it; null: that is unknown
refreshed_total, failed_total, skipped_total: outcomes of views since the server started
cycles_success: cycles since the server started, without those that failed
cycles_failed: cycles in which views failed and none was refreshed
consecutive_failures: such cycles in a row, up to the last one
cycle_duration_seconds_bucket: how many cycles took no longer than 1, 5, 10, 30, 60, 120, 300, 600, 1800 and 3600 seconds
cycle_duration_seconds_sum: how long all cycles took together
cycle_duration_seconds_count: how many there were
last_cycle_start: when the last cycle that is over started
last_cycle_duration: how long it took
last_views_total: how many views were due in it
last_views_refreshed, last_views_failed, last_views_skipped: what came of them';

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
'start a cycle of all views of this database now; with wait, return its counts when it ends
views: how many views were due
refreshed, failed, skipped: what came of them
duration: how long the cycle took';

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
