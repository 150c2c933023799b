/*
 * The board: one page of HTML that shows everything.
 *
 * All text that is not ours goes through board_text(), and is put only into
 * text, never into an attribute.  The page is also well-formed XML, so that
 * the server can check it, and plain ASCII, so that it is valid in every
 * encoding.
 */

CREATE FUNCTION board_text(content text)
RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_board_text';
COMMENT ON FUNCTION board_text(text) IS 'a text, escaped for the page that board() returns';

CREATE FUNCTION board_span(span interval)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE
        WHEN s < 1 THEN round(s * 1000) || ' ms'
        WHEN s < 10 THEN trim_scale(round(s, 1)) || ' s'
        WHEN s < 60 THEN floor(s) || ' s'
        WHEN s < 600 THEN concat(floor(s / 60), ' min',
            ' ' || nullif(floor(s % 60), 0) || ' s')
        WHEN s < 3600 THEN floor(s / 60) || ' min'
        WHEN s < 36000 THEN concat(floor(s / 3600), ' h',
            ' ' || nullif(floor(s % 3600 / 60), 0) || ' min')
        WHEN s < 86400 THEN floor(s / 3600) || ' h'
        WHEN s < 864000 THEN concat(floor(s / 86400), ' d',
            ' ' || nullif(floor(s % 86400 / 3600), 0) || ' h')
        ELSE floor(s / 86400) || ' d' END
    FROM abs(extract(epoch FROM span)) AS s;
END;
COMMENT ON FUNCTION board_span(interval) IS 'how long, in words of the page that board() returns';

/*
 * The attempts of a cycle in lanes.  Each goes to the first free lane.  A
 * process refreshes one view after the other, so there are as many lanes as
 * there were processes at work at once.  A backlog of windows may take any
 * number of attempts; the first 2,000 are enough for a drawing.
 */
CREATE FUNCTION board_lanes(
    cycle timestamptz,
    OUT view text,
    OUT outcome text,
    OUT started_at timestamptz,
    OUT duration interval,
    OUT lane integer)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    WITH RECURSIVE attempts AS MATERIALIZED (
        SELECT h.view, h.outcome, h.started_at, h.duration,
            row_number() OVER (ORDER BY h.started_at, h.id) AS n
        FROM history AS h
        WHERE h.cycle_start = cycle ORDER BY h.started_at, h.id LIMIT 2000
    ), times AS MATERIALIZED (
        -- Start times and durations come from different clocks.
        SELECT array_agg(a.started_at + interval '1 ms' ORDER BY a.n) AS starts,
            array_agg(a.started_at + a.duration ORDER BY a.n) AS ends
        FROM attempts AS a
    ), packed(n, lane, free) AS (
        SELECT 1, 1, t.ends[1:1] FROM times AS t
        UNION ALL
        SELECT p.n + 1, l.lane, p.free[:l.lane - 1] || t.ends[p.n + 1] || p.free[l.lane + 1:]
        FROM packed AS p, times AS t, LATERAL (
            SELECT coalesce(min(f.lane), cardinality(p.free) + 1)::integer AS lane
            FROM unnest(p.free) WITH ORDINALITY AS f(free, lane)
            WHERE f.free <= t.starts[p.n + 1]) AS l
        WHERE p.n < cardinality(t.starts)
    )
    SELECT a.view, a.outcome, a.started_at, a.duration, p.lane
    FROM packed AS p JOIN attempts AS a ON a.n = p.n
    ORDER BY a.n;
END;
COMMENT ON FUNCTION board_lanes(timestamptz) IS
'a cycle, for board(): which of its attempts one process can have made
view, outcome, started_at, duration: the attempt, as in the history
lane: the number of the process, from 1';

/*
 * The last finished cycle of all views of the list, or, if there is none, the
 * last cycle: a row for each lane, a bar for each attempt.
 */
CREATE FUNCTION board_cycle()
RETURNS text
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH running AS MATERIALIZED (
        SELECT max(s.cycle_start) AS start FROM status() AS s
        WHERE s.database = current_database() AND s.cycle_duration IS NULL
    ), cycle AS MATERIALIZED (
        SELECT n.cycle_start AS start, n.cycle_whole AS whole
        FROM history AS n
        WHERE n.cycle_whole IS NOT NULL
            AND n.cycle_start IS DISTINCT FROM (SELECT r.start FROM running AS r)
        ORDER BY n.cycle_whole DESC, n.id DESC LIMIT 1
    ), attempts AS MATERIALIZED (
        SELECT a.*, extract(epoch FROM a.started_at - c.start) AS after,
            extract(epoch FROM a.duration) AS seconds
        FROM cycle AS c, board_lanes(c.start) AS a
    ), total AS MATERIALIZED (
        SELECT greatest(max(a.after + a.seconds), 0.001) AS seconds,
            count(*) AS attempts,
            count(*) FILTER (WHERE a.outcome = 'refreshed') AS refreshed,
            count(*) FILTER (WHERE a.outcome = 'failed') AS failed,
            count(*) FILTER (WHERE a.outcome = 'skipped') AS skipped,
            string_agg(format('<bdi>%s</bdi>', board_text(a.view)), ', '
                ORDER BY a.started_at, a.view)
                FILTER (WHERE a.outcome = 'skipped') AS skipped_views
        FROM attempts AS a
    ), step AS (
        SELECT coalesce(min(s.seconds), t.seconds / 4) AS seconds
        FROM total AS t LEFT JOIN unnest(ARRAY[0.001, 0.002, 0.005, 0.01, 0.02,
            0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200,
            1800, 3600, 7200, 14400, 28800, 86400]) AS s(seconds)
            ON s.seconds >= t.seconds / 5
        GROUP BY t.seconds
    ), ticks AS MATERIALIZED (
        SELECT round(100 * n * s.seconds / t.seconds, 3) AS x,
            CASE WHEN n = 0 THEN '0' ELSE board_span(n * s.seconds * interval '1 s') END AS label
        FROM total AS t, step AS s,
            generate_series(0, floor(t.seconds / s.seconds * 0.97)) AS n
    ), grid AS (
        SELECT string_agg(format('<line x1="%s%%" x2="%s%%" y2="26"/>', k.x, k.x), '' ORDER BY k.x) AS lines,
            string_agg(format('<text x="%s%%" y="13"%s>%s</text>', k.x,
                CASE WHEN k.x > 0 THEN ' text-anchor="middle"' END, k.label), '' ORDER BY k.x) AS labels
        FROM ticks AS k
    ), bars AS (
        SELECT a.lane, a.started_at, a.view, greatest(round(100 * a.after / t.seconds, 3), 0) AS x,
            greatest(round(100 * a.seconds / t.seconds, 3), 0.3) AS width,
            a.outcome, a.after, a.duration,
            -- A letter is 7 pixels wide, the page at least 340 and usually 900.
            12 + 7 * length(a.view) AS wanted
        FROM attempts AS a, total AS t
    ), lanes AS (
        SELECT b.lane, string_agg(format(
            '<svg class="bar %s" x="%s%%" y="3" width="%s%%" height="20">'
            '<title>%s: %s, started after %s, took %s</title>'
            '<rect width="100%%" height="20" rx="2"/>%s</svg>',
            CASE WHEN b.outcome IN ('failed', 'skipped') THEN b.outcome ELSE 'refreshed' END,
            least(b.x, 99.7), b.width, board_text(b.view), board_text(b.outcome),
            board_span(b.after * interval '1 s'), board_span(b.duration),
            CASE WHEN b.wanted <= 8.2 * b.width THEN format('<text class="%s" x="6" y="14">%s</text>',
                CASE WHEN b.wanted > 2.6 * b.width THEN 'wide' ELSE 'any' END, board_text(b.view)) END),
            '' ORDER BY b.started_at, b.view) AS bars
        FROM bars AS b GROUP BY b.lane
    )
    SELECT CASE WHEN t.attempts = 0 THEN
        '<p>The history has no cycle that is over.</p>'
    ELSE format(
        '<p>%s started %s and took %s: %s refreshed, %s failed, %s skipped. '
        'Views in one lane were refreshed one after the other, as by one process.%s</p>'
        '<div class="lanes">%s<div class="lane axis"><span></span>'
        '<svg width="100%%" height="16" aria-hidden="true" xmlns="http://www.w3.org/2000/svg">%s</svg>'
        '</div></div>'
        '%s',
        CASE WHEN c.whole THEN 'The last cycle of all views' ELSE 'The last cycle' END,
        to_char(c.start, 'YYYY-MM-DD HH24:MI:SS'), board_span(t.seconds * interval '1 s'),
        t.refreshed, t.failed, t.skipped,
        CASE WHEN t.attempts = 2000 THEN ' These are the first 2,000 attempts; no more are shown.' END,
        (SELECT string_agg(format(
            '<div class="lane"><span>lane %s</span>'
            '<svg width="100%%" height="26" role="group" aria-label="lane %s" xmlns="http://www.w3.org/2000/svg">'
            '<g class="grid">%s</g>%s</svg></div>',
            l.lane, l.lane, g.lines, l.bars), '' ORDER BY l.lane) FROM lanes AS l),
        g.labels,
        '<p>Skipped, as nothing that they read had changed: ' || t.skipped_views || '.</p>') END
    FROM total AS t LEFT JOIN cycle AS c ON true LEFT JOIN grid AS g ON true;
END;
COMMENT ON FUNCTION board_cycle() IS 'the part of board() that shows the last cycle';

/*
 * The results of each view in the last days: a drawing and the rows changed.
 * Only the last 20,000 attempts are read.
 */
CREATE FUNCTION board_days(
    OUT view text,
    OUT cells text,
    OUT rows_changed numeric,
    OUT cell interval)
RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH since AS MATERIALIZED (
        SELECT greatest(n.now - interval '48 days', coalesce(
            (SELECT h.started_at FROM history AS h
            ORDER BY h.started_at DESC OFFSET 20000 LIMIT 1),
            (SELECT min(h.started_at) FROM history AS h))) AS since, n.now
        FROM statement_timestamp() AS n(now)
    ), scale AS MATERIALIZED (
        SELECT e.since, e.now, c.cell, date_bin(c.cell, e.now,
            date_trunc('day', e.now)) - 47 * c.cell AS first
        FROM since AS e, LATERAL (
            SELECT coalesce(min(c.cell), interval '24 hours') AS cell
            FROM unnest(ARRAY[interval '1 minute', interval '10 minutes',
                interval '1 hour', interval '6 hours']) AS c(cell)
            WHERE e.now - e.since <= 47 * c.cell) AS c
    ), cells AS (
        SELECT h.view, s.cell, s.first,
            floor(extract(epoch FROM h.started_at - s.first)
                / extract(epoch FROM s.cell))::integer AS x,
            count(*) FILTER (WHERE h.outcome = 'refreshed') AS refreshed,
            count(*) FILTER (WHERE h.outcome = 'failed') AS failed,
            count(*) FILTER (WHERE h.outcome = 'skipped') AS skipped,
            sum(coalesce(h.rows_changed, h.rows_inserted + h.rows_updated
                + h.rows_deleted)) AS rows_changed
        FROM scale AS s, history AS h
        WHERE h.started_at >= greatest(s.since, s.first)
            AND h.started_at <= s.now AND h.condition IS NULL
        GROUP BY 1, 2, 3, 4
    )
    SELECT c.view, string_agg(format('<g class="cell"><title>%s: %s</title>%s%s</g>',
            to_char(c.first + c.x * c.cell, CASE WHEN c.cell < interval '24 hours'
                THEN 'YYYY-MM-DD HH24:MI' ELSE 'YYYY-MM-DD' END),
            concat_ws(', ', nullif(c.refreshed, 0) || ' refreshed',
                nullif(c.failed, 0) || ' failed', nullif(c.skipped, 0) || ' skipped',
                trim(to_char(c.rows_changed, '999,999,999,999,999,990')) || ' rows changed'),
            CASE WHEN c.refreshed + c.skipped > 0 THEN format(
                '<rect class="%s" x="%s%%" width="1.7%%" y="%s" height="%s"/>',
                CASE WHEN c.refreshed > 0 THEN 'refreshed' ELSE 'skipped' END,
                round(c.x / 0.48, 3),
                CASE WHEN c.refreshed > 0 THEN 1 ELSE 6 END,
                CASE WHEN c.failed > 0 THEN 7 WHEN c.refreshed > 0 THEN 16 ELSE 6 END) END,
            CASE WHEN c.failed > 0 THEN format(
                '<rect class="failed" x="%s%%" width="1.7%%" y="%s" height="%s"/>',
                round(c.x / 0.48, 3),
                CASE WHEN c.refreshed + c.skipped > 0 THEN 9 ELSE 1 END,
                CASE WHEN c.refreshed + c.skipped > 0 THEN 8 ELSE 16 END) END),
            '' ORDER BY c.x),
        sum(c.rows_changed), max(c.cell)
    FROM cells AS c GROUP BY c.view;
END;
COMMENT ON FUNCTION board_days() IS
'the part of board() that shows the last days of each view
view: the view, quoted as in SQL
cells: a drawing, from old to new
rows_changed: how many rows were inserted, updated and deleted; null: unknown
cell: the time that one cell stands for';

/*
 * A row for each view: the age of its data, in units of its interval.
 */
CREATE FUNCTION board_views(list views[])
RETURNS text
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH views AS MATERIALIZED (
        SELECT v.*, row_number() OVER () AS place, n.now,
            extract(epoch FROM n.now - v.data_as_of) / nullif(extract(epoch FROM v.refresh_interval), 0) AS age
        FROM unnest(list) AS v, statement_timestamp() AS n(now)
    ), days AS MATERIALIZED (
        SELECT d.* FROM board_days() AS d
    ), said AS (
        SELECT v.*, CASE WHEN v.failures > 0 THEN 'failing'
            WHEN v.data_as_of IS NULL THEN 'no data'
            WHEN v.now - v.data_as_of > 2 * greatest(v.refresh_interval, interval '1 min') THEN 'late'
            WHEN v.is_degraded THEN 'degraded'
            WHEN coalesce(v.next_due, v.now) <= v.now THEN 'due'
            ELSE 'fresh' END AS state
        FROM views AS v
    ), lines AS (
        SELECT v.place, format(
            '<tr role="row" class="view"><th role="rowheader" scope="row"><bdi>%s</bdi>'
            '<span class="state %s">%s</span></th>'
            '<td role="cell" class="age">'
            '<svg width="100%%" height="18" aria-hidden="true" xmlns="http://www.w3.org/2000/svg">'
            '<rect class="track" width="100%%" y="5" height="8"/>'
            '<rect class="fill %s" width="%s%%" y="5" height="8"/>'
            '<line class="due" x1="33.3%%" x2="33.3%%" y2="18"/>'
            '<line class="late" x1="66.6%%" x2="66.6%%" y2="18"/></svg>'
            '<span>%s</span></td><td role="cell" class="times"><span>%s</span> <span>%s</span></td>'
            '<td role="cell" class="days">'
            '<svg width="100%%" height="18" role="group" aria-label="the last days" xmlns="http://www.w3.org/2000/svg">'
            '<rect class="track" width="100%%" y="1" height="16"/>%s</svg></td>'
            '<td role="cell" class="number">%s<span class="label"> rows changed</span></td></tr>',
            board_text(v.view), replace(v.state, ' ', '-'), v.state,
            replace(v.state, ' ', '-'), coalesce(round(least(greatest(v.age, 0), 3) * 33.3, 2), 0),
            coalesce(board_span(v.now - v.data_as_of) || ' of ' || board_span(v.refresh_interval), 'never refreshed'),
            CASE WHEN v.last_success IS NULL THEN 'never' ELSE board_span(v.now - v.last_success) || ' ago' END
                || CASE WHEN v.outcome = 'refreshed' THEN ', took ' || board_span(v.duration) ELSE '' END,
            CASE WHEN coalesce(v.next_due, v.now) <= v.now THEN 'next at once'
                WHEN isfinite(v.next_due) THEN 'next in ' || board_span(v.next_due - v.now) ELSE 'never again' END,
            d.cells, coalesce(trim(to_char(d.rows_changed, '999,999,999,999,999,990')), '&#8211;')) AS line
        FROM said AS v LEFT JOIN days AS d ON d.view = v.view
    )
    SELECT CASE WHEN count(l.line) = 0 THEN '<p>There are no views in the list.</p>'
    ELSE format('<p>How old the data are, in intervals of the view%s.</p>'
        '<table role="table"><thead role="rowgroup"><tr role="row">'
        '<th role="columnheader" scope="col">View</th>'
        '<th role="columnheader" scope="col" class="age">Age of the data</th>'
        '<th role="columnheader" scope="col">Refreshed</th>'
        '<th role="columnheader" scope="col">Last %s</th>'
        '<th role="columnheader" scope="col" class="number">Rows changed</th></tr></thead>'
        '<tbody role="rowgroup">%s</tbody></table>',
        '; and what became of it in the last ' || d.span || ', by a cell for each ' || board_span(d.cell),
        coalesce(d.span, 'days'), string_agg(l.line, '' ORDER BY l.place)) END
    FROM (SELECT max(d.cell) AS cell, board_span(48 * max(d.cell)) AS span FROM days AS d) AS d
        LEFT JOIN lines AS l ON true
    GROUP BY d.cell, d.span;
END;
COMMENT ON FUNCTION board_views(views[]) IS
'the part of board() that shows the views
list: the views of the list, as in "views", in its order; so in all parts';

/*
 * What failed and why, and what reads that.
 */
CREATE FUNCTION board_failures(list views[])
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH views AS MATERIALIZED (
        SELECT v.*, row_number() OVER () AS place, n.now
        FROM unnest(list) AS v, statement_timestamp() AS n(now)
    )
    SELECT coalesce('<ul class="failures">' || string_agg(format(
            '<li class="failure"><h3><bdi>%s</bdi></h3><p>%s %s in a row; %s. %s</p><pre>'
            '<code>%s</code> <bdi>%s</bdi></pre></li>',
            board_text(v.view), v.failures,
            CASE WHEN v.failures = 1 THEN 'failure' ELSE 'failures' END,
            coalesce('last refreshed ' || board_span(v.now - v.last_success) || ' ago', 'never refreshed'),
            CASE WHEN coalesce(v.next_due, v.now) <= v.now THEN 'It is tried again at once.'
                WHEN isfinite(v.next_due) THEN format('It is tried again in %s.', board_span(v.next_due - v.now)) END,
            board_text(v.sqlstate), board_text(left(v.error, 1000))), '' ORDER BY v.place)
            FILTER (WHERE v.failures > 0) || '</ul>',
            '<p>Nothing: no view failed when it was last tried.</p>')
        || coalesce('<p>Refreshed, but from rows of views that fail: '
            || string_agg(format('<bdi>%s</bdi>', board_text(v.view)), ', ' ORDER BY v.place)
            FILTER (WHERE v.is_degraded AND v.failures = 0) || '.</p>', '')
    FROM views AS v;
END;
COMMENT ON FUNCTION board_failures(views[]) IS 'the part of board() that shows what has failed';

/*
 * What is refreshed now, and what comes next.
 */
CREATE FUNCTION board_next(list views[])
RETURNS text
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH hand AS (
        SELECT string_agg(format(
            '<li class="running">'
            '<bdi>%s</bdi> for %s%s<svg width="100%%" height="8" aria-hidden="true" xmlns="http://www.w3.org/2000/svg">'
            '<rect class="track" width="100%%" height="8"/><rect class="fill %s" width="%s%%" height="8"/>'
            '</svg></li>',
            board_text(r.view), board_span(greatest(clock_timestamp() - r.since, '0')),
            ', ' || round(100 * r.share) || ' % of what its last refresh took',
            CASE WHEN r.share > 1 THEN 'late' ELSE 'fresh' END,
            coalesce(round(100 * least(r.share, 1)), 0)), '') AS items
        FROM status() AS s, unnest(s.refreshing, s.refreshing_since, s.refreshing_share) AS r(view, since, share)
        WHERE s.database = current_database()
    ), due AS (
        SELECT greatest(date_trunc('second', v.next_due), n.now) AS due, n.now,
            string_agg(format('<bdi>%s</bdi>', board_text(v.view)), ', ' ORDER BY v.place) AS names
        FROM (SELECT *, row_number() OVER () AS place FROM unnest(list)) AS v, statement_timestamp() AS n(now)
        WHERE v.next_due IS NULL OR isfinite(v.next_due)
        GROUP BY 1, 2
    )
    SELECT coalesce('<p>Being refreshed now:</p><ul class="hand">' || h.items || '</ul>', '<p>Nothing is being refreshed now.</p>')
        || coalesce((SELECT '<dl class="next">' || string_agg(format('<div><dt>%s</dt><dd>%s</dd></div>',
            CASE WHEN d.due > d.now THEN format('in %s <small>%s</small>', board_span(d.due - d.now), to_char(d.due, 'YYYY-MM-DD HH24:MI:SS'))
                ELSE 'at once' END, d.names), '' ORDER BY d.due) || '</dl>' FROM due AS d), '')
    FROM hand AS h;
END;
COMMENT ON FUNCTION board_next(views[]) IS 'the part of board() that shows what is refreshed now and what comes next';

/*
 * The tables that are filled window by window; null if there are none.
 */
CREATE FUNCTION board_windows(list views[])
RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT '<p>The backlog is in seconds, or in transactions where windows are by transaction.</p><ul>'
        || string_agg(format('<li class="window"><bdi>%s</bdi>: a backlog of %s, from <code>%s</code> up to <code>%s</code>%s</li>',
        board_text(v.view), coalesce(v.window_backlog::text, 'unknown size'),
        coalesce(board_text(v.window_after), 'the start'), coalesce(board_text(v.window_until), 'now'),
        CASE WHEN v.held_back_by = 0 THEN '; a prepared transaction holds it back'
            WHEN v.held_back_by IS NOT NULL THEN format('; process %s holds it back', v.held_back_by) END
        || coalesce(' for ' || board_span(statement_timestamp() - v.held_back_since), '')), '') || '</ul>'
    FROM unnest(list) AS v
    WHERE v.window_until IS NOT NULL OR v.window_after IS NOT NULL;
END;
COMMENT ON FUNCTION board_windows(views[]) IS 'the part of board() that shows the windows';

CREATE FUNCTION board_style()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b222c; --dim: #55606e; --line: #d9dfe6;
  --track: #edf0f4; --good: #2b6cb0; --bad: #b3261e; --idle: #7b8694; --warn: #9a5b00; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --ink: #e4e8ee; --dim: #9aa6b4; --line: #2c343f;
  --track: #1e252e; --good: #6ea8e0; --bad: #ff8a80; --idle: #8b97a5; --warn: #f0b357; --on: #10151b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; max-width: 75ch; overflow-wrap: anywhere; }
header p, section > p, small, footer { color: var(--dim); }
section > p, footer { font-size: 14px; }
small { font-size: 12px; }
bdi { overflow-wrap: anywhere; }
ul { margin: 0; padding: 0; list-style: none; }
li { padding: 4px 0; }
code, pre { font: 13px/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 1px; margin: 20px 0 0;
  background: var(--line); border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.tiles div { background: var(--page); padding: 10px 14px; }
.tiles dt { color: var(--dim); font-size: 13px; }
.tiles dd { margin: 0; font-size: 19px; font-weight: 600; }
.tiles .alarm dd { color: var(--bad); }
.note { color: var(--bad); margin: 12px 0 0; }
.failure { border-left: 4px solid var(--bad); padding: 2px 0 2px 14px; margin: 12px 0; }
.failure p { margin: 0; color: var(--dim); font-size: 14px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 20px; margin: 12px 0 0; color: var(--dim); font-size: 13px; }
.legend svg { display: inline-block; width: 16px; height: 16px; vertical-align: -3px; margin-right: 6px; }
.lanes { margin: 8px 0; }
.lane { display: grid; grid-template-columns: 56px 1fr; align-items: center; font-size: 13px; color: var(--dim); }
svg { display: block; overflow: hidden; }
.axis svg { overflow: visible; }
.axis text { fill: var(--dim); font-size: 12px; }
.grid line { stroke: var(--line); }
.bar rect { stroke: var(--page); }
.bar text { fill: var(--on); font-size: 12px; }
rect.refreshed, .bar.refreshed rect, .fill { fill: var(--good); }
rect.failed, .bar.failed rect { fill: url(#hatch); stroke: var(--bad); }
.bar.failed text { fill: var(--ink); paint-order: stroke; stroke: var(--page); stroke-width: 10px; stroke-linejoin: round; }
rect.skipped, .bar.skipped rect { fill: var(--idle); }
.fill.late, .fill.degraded { fill: var(--warn); }
.fill.failing { fill: var(--bad); }
.track { fill: var(--track); }
line.due { stroke: var(--dim); stroke-dasharray: 2 2; }
line.late { stroke: var(--ink); stroke-width: 1.5px; }
#hatch rect { fill: var(--page); }
#hatch path { stroke: var(--bad); stroke-width: 3px; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: middle; font-weight: 400; }
thead th { color: var(--dim); font-size: 13px; }
tbody th { font-weight: 600; max-width: 260px; }
th.age, td.age { width: 21%; }
td.age span { padding-top: 2px; color: var(--dim); font-size: 12px; line-height: 1.2; display: block; }
td.days { width: 25%; min-width: 190px; }
.number { text-align: right; padding-right: 0; font-variant-numeric: tabular-nums; }
.state { display: block; color: var(--dim); font-weight: 400; font-size: 13px; }
.times span { display: block; }
.times span + span { color: var(--dim); }
.times { font-size: 13px; }
.state.failing, .state.no-data { color: var(--bad); font-weight: 600; }
.state.late, .state.degraded { color: var(--warn); font-weight: 600; }
.label { display: none; }
.next div { display: grid; grid-template-columns: 230px 1fr; padding: 6px 0; border-bottom: 1px solid var(--line); font-size: 14px; }
.next { margin: 12px 0 0; }
.hand { max-width: 560px; font-size: 14px; }
.next dd { margin: 0; }
footer { margin-top: 40px; border-top: 1px solid var(--line); padding-top: 12px; }
@media (max-width: 760px) {
  main { padding: 20px 16px 32px; }
  .wide { display: none; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, tbody { display: block; }
  tr.view { display: grid; grid-template-columns: 1fr auto; gap: 2px 12px; padding: 12px 0; border-bottom: 1px solid var(--line); }
  th, td { padding: 0; border: 0; }
  tr.view th { max-width: none; }
  td.age, td.days, td.number { grid-column: 1 / -1; width: auto; min-width: 0; text-align: left; }
  td.number { color: var(--dim); font-size: 13px; }
  td.times { text-align: right; }
  tr.view th, td.times { grid-row: 1; }
  td.days { padding-top: 4px; }
  .label { display: inline; }
  .next div { grid-template-columns: 1fr; }
}
@media print { main { max-width: none; padding: 0; } }
';
COMMENT ON FUNCTION board_style() IS 'how the page looks that board() returns';

CREATE FUNCTION board()
RETURNS text
LANGUAGE sql VOLATILE
SET jit = off -- compiling would take longer than everything else
BEGIN ATOMIC
    WITH worker AS (
        SELECT s.state, s.next_due FROM status() AS s
        WHERE s.database = current_database()
    ), list AS MATERIALIZED (
        -- Read once, so that all parts tell of the same moment.
        SELECT coalesce(array_agg(v), '{}') AS views FROM views AS v
    ), counts AS (
        SELECT count(v.view) AS views, count(*) FILTER (WHERE v.failures > 0) AS failing,
            count(*) FILTER (WHERE n.now - v.data_as_of > 2 * greatest(v.refresh_interval, interval '1 min')) AS late,
            board_span(n.now - min(v.data_as_of)) AS oldest,
            board_text(current_database()) AS database,
            board_text(to_char(n.now, 'YYYY-MM-DD HH24:MI:SS TZ')) AS now
        FROM list AS l, statement_timestamp() AS n(now) LEFT JOIN unnest(l.views) AS v ON true
        GROUP BY n.now
    ), tiles AS (
        SELECT string_agg(format('<div class="%s"><dt>%s</dt><dd>%s</dd></div>',
            CASE WHEN t.alarm THEN 'alarm' ELSE 'calm' END, t.name, t.value), '' ORDER BY t.place) AS tiles
        FROM counts AS c LEFT JOIN worker AS w ON true, LATERAL (VALUES
            (1, 'Worker', coalesce(w.state, 'not served'), coalesce(w.state, 'stopped') = 'stopped'),
            (2, 'Views', c.views::text, false),
            (3, 'Failing', c.failing::text, c.failing > 0),
            (4, 'Late', c.late::text, c.late > 0),
            (5, 'Oldest data', coalesce(c.oldest, '&#8211;'), false),
            (6, 'Next due', CASE WHEN w.next_due IS NULL OR NOT isfinite(w.next_due) THEN '&#8211;'
                WHEN w.next_due <= statement_timestamp() THEN 'at once'
                ELSE 'in ' || board_span(w.next_due - statement_timestamp()) END, false)
        ) AS t(place, name, value, alarm)
    ), sections AS (
        SELECT string_agg(format('<section id="%s"><h2>%s</h2>%s</section>', p.id, p.title, p.content), E'\n' ORDER BY p.place) AS sections
        FROM list AS l, LATERAL (VALUES
            (1, 'failures', 'What failed', board_failures(l.views)),
            (2, 'cycle', 'The last cycle', board_cycle()),
            (3, 'views', 'The views', board_views(l.views)),
            (4, 'next', 'Now and next', board_next(l.views)),
            (5, 'windows', 'Windows', board_windows(l.views))
        ) AS p(place, id, title, content)
        WHERE p.content IS NOT NULL
    )
    SELECT format($page$<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>%1$s: materialized views</title>
<style>%4$s</style>
</head>
<body>
<svg width="0" height="0" style="position: absolute" aria-hidden="true" xmlns="http://www.w3.org/2000/svg"><defs>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse">
<rect width="6" height="6"/><path d="M-1,7 L7,-1 M-1,1 L1,-1 M5,7 L7,5"/></pattern></defs></svg>
<main>
<header><h1>Views of <bdi>%1$s</bdi></h1><p>%2$s</p>
<dl class="tiles">%3$s</dl>
%6$s
<div class="legend">
<span><svg aria-hidden="true" xmlns="http://www.w3.org/2000/svg"><rect class="refreshed" width="16" height="16"/></svg>refreshed</span>
<span><svg aria-hidden="true" xmlns="http://www.w3.org/2000/svg"><rect class="failed" width="16" height="16"/></svg>failed</span>
<span><svg aria-hidden="true" xmlns="http://www.w3.org/2000/svg"><rect class="skipped" width="16" y="5" height="6"/></svg>skipped</span>
<span><svg aria-hidden="true" xmlns="http://www.w3.org/2000/svg"><line class="due" x1="8" x2="8" y2="16"/></svg>due, after one interval</span>
<span><svg aria-hidden="true" xmlns="http://www.w3.org/2000/svg"><line class="late" x1="8" x2="8" y2="16"/></svg>late, after two</span>
</div></header>
%5$s
<footer>Made by bigbrotr_refresher.board(). Times are those of this session's time zone.</footer>
</main>
</body>
</html>$page$,
        c.database, c.now, t.tiles, board_style(), s.sections,
        '<p class="note">' || CASE
            WHEN pg_is_in_recovery() THEN 'This server is a standby: it gets what its primary refreshes.'
            WHEN w.state IS NULL THEN 'No worker serves this database: bigbrotr_refresher.databases does not name it.'
            WHEN w.state = 'stopped' THEN 'There is no worker. The server log says why.'
            WHEN w.state = 'disabled' THEN 'Nothing is refreshed: bigbrotr_refresher.enabled is off.' END || '</p>')
    FROM counts AS c LEFT JOIN worker AS w ON true, tiles AS t, sections AS s;
END;
COMMENT ON FUNCTION board() IS
'a page of HTML that shows the last cycle, the age of each view, what failed, and what comes next';
