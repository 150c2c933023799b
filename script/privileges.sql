-- pg_monitor may read.  The right to run something must be granted.
GRANT USAGE ON SCHEMA bigbrotr_refresher TO pg_monitor;
GRANT SELECT ON history, view_state, windows, status, views, cycles TO pg_monitor;
REVOKE ALL ON FUNCTION plan(), status(), run(boolean), refresh(text),
    refresh(text, text), set_window(text, text), timeline(timestamptz), admit_row()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION plan(), status(), timeline(timestamptz)
TO pg_monitor;

-- The parts of board() run with the rights of its caller, too.
REVOKE ALL ON FUNCTION board(), board_style(), board_windows(views[]),
    board_next(views[]), board_failures(views[]), board_views(views[]),
    board_days(), board_cycle(),
    board_lanes(timestamptz), board_span(interval), board_text(text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION board(), board_style(), board_windows(views[]),
    board_next(views[]), board_failures(views[]), board_views(views[]),
    board_days(), board_cycle(),
    board_lanes(timestamptz), board_span(interval), board_text(text)
TO pg_monitor;
