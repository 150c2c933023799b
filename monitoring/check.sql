-- Is all well with the refresher?  One row for Nagios, cron or a script: 0, 1 or
-- 2 (OK, WARNING, CRITICAL), and a line that says why.  With its exit code:
--
--     psql -XqAtF ' ' -d bigbrotr -f check.sql | { read -r code text || exit 2; echo "$text"; exit "$code"; }
--
-- For a member of pg_monitor, in the database whose views are refreshed.  The
-- limits are those of alerts.yml.  On a standby all is well.

WITH problem(code, text) AS (
  SELECT 2, format('no worker refreshes the views of %s', current_database())
  WHERE NOT pg_is_in_recovery() AND NOT EXISTS (
    SELECT FROM bigbrotr_refresher.status()
    WHERE database = current_database() AND state <> 'stopped'
      AND (state <> 'resting'
        OR next_due > clock_timestamp() - interval '30 seconds'))
  UNION ALL
  SELECT 1, 'bigbrotr_refresher.enabled is off'
  WHERE NOT current_setting('bigbrotr_refresher.enabled')::boolean
    AND NOT pg_is_in_recovery()
  UNION ALL
  SELECT 1, p.text
  FROM bigbrotr_refresher.views AS v, LATERAL (VALUES
    (v.failures > 0,
      format('%s failed %s times in a row (%s)', v.view, v.failures,
        left(regexp_replace(v.error, '\s+', ' ', 'g'), 200))),
    (v.is_degraded, format('%s is made of a view that fails', v.view)),
    (clock_timestamp() - greatest(v.last_success,
        CASE WHEN v.outcome = 'skipped' THEN v.last_attempt END)
        > 2 * greatest(v.refresh_interval, interval '1 minute'),
      format('%s was last refreshed at %s', v.view,
        date_trunc('second', v.last_success))),
    (v.held_back_since < clock_timestamp() - interval '1 hour',
      format('the windows of %s are held back by process %s', v.view,
        v.held_back_by))
  ) AS p(is_so, text)
  WHERE p.is_so AND NOT pg_is_in_recovery()
)
SELECT coalesce(max(code), 0) AS code,
  CASE max(code) WHEN 2 THEN 'CRITICAL: ' WHEN 1 THEN 'WARNING: ' ELSE 'OK: ' END
  || coalesce(string_agg(text, '; ' ORDER BY code DESC, text),
    (SELECT format('%s views, data as of %s or later', count(*),
      date_trunc('second', min(data_as_of)))
    FROM bigbrotr_refresher.views WHERE NOT pg_is_in_recovery())) AS text
FROM problem;
