-- What the history of an hourly schedule has after two days, with a failure now
-- and then, and views that are often skipped.
INSERT INTO bigbrotr_refresher.history (view, cycle_start, cycle_views, cycle_whole, schedule_start,
	started_at, duration, outcome, method, sqlstate, error, failures, wal_bytes,
	shared_blks_hit, shared_blks_read, temp_blks_read, temp_blks_written,
	data_as_of, rows_inserted, rows_updated, rows_deleted)
SELECT v.view, c, 13, true, c, c + n * interval '0.2 s', interval '0.2 s', o.outcome, 'merge',
	CASE WHEN o.outcome = 'failed' THEN '57014' END,
	CASE WHEN o.outcome = 'failed' THEN 'canceling statement due to refresh timeout' END,
	(o.outcome = 'failed')::int, 0, 0, 0, 0, 0, c,
	r.rows / 3, r.rows, r.rows / 7
FROM (SELECT view, row_number() OVER () AS n FROM bigbrotr_refresher.views) AS v,
	generate_series(date_trunc('hour', now()) - interval '46 hours',
		now() - interval '1 hour', '1 hour') WITH ORDINALITY AS g(c, k),
	LATERAL (SELECT CASE WHEN (n * 7 + k) % 61 = 0 THEN 'failed'
		WHEN n IN (4, 9) AND k % 3 > 0 THEN 'skipped' ELSE 'refreshed' END) AS o(outcome),
	LATERAL (SELECT CASE WHEN o.outcome = 'refreshed'
		THEN (n * 37 + k * 11) % 97 END) AS r(rows)
ORDER BY c, n;
