-- Is all well with the refresher?  One row for Nagios, cron or a script: 0, 1 or
-- 2 (OK, WARNING, CRITICAL), and a line that says why.  With its exit code:
--
--     psql -XqAtF ' ' -d bigbrotr -f check.sql | { read -r code text || exit 2; echo "$text"; exit "$code"; }
--
-- For a member of pg_monitor, in the database whose views are refreshed.  The
-- limits are those of alerts.yml.  On a standby all is well.

SET search_path = pg_catalog, pg_temp;

WITH worker AS (
  SELECT * FROM bigbrotr_refresher.status()
  WHERE database = current_database()
), view AS (
  SELECT *, greatest(last_success,
    CASE WHEN outcome = 'skipped' THEN last_attempt END) AS up_to_date
  FROM bigbrotr_refresher.views
), problem(code, text) AS (
  SELECT 2, format('no worker refreshes the views of %s', current_database())
  WHERE NOT EXISTS (
    SELECT FROM worker
    WHERE state <> 'stopped'
      AND (state <> 'resting'
        OR next_due > clock_timestamp() - interval '30 seconds'))
  UNION ALL
  SELECT 1, 'bigbrotr_refresher.enabled is off'
  WHERE NOT current_setting('bigbrotr_refresher.enabled')::boolean
    OR EXISTS (SELECT FROM worker WHERE state = 'disabled')
  UNION ALL
  SELECT 1, format('a cycle takes %s, longer than the shortest interval',
    date_trunc('second', w.duration))
  FROM (SELECT greatest(last_cycle_duration, CASE WHEN state = 'refreshing'
      THEN clock_timestamp() - cycle_start END) AS duration FROM worker) AS w
  WHERE w.duration > (SELECT min(refresh_interval) FROM view)
  UNION ALL
  SELECT 1, p.text
  FROM view AS v, LATERAL (VALUES
    (v.failures > 0,
      format('%s failed %s times in a row (%s)', v.view, v.failures,
        left(regexp_replace(v.error, '\s+', ' ', 'g'), 200))),
    (v.is_degraded, format('%s is made of a view that fails', v.view)),
    (clock_timestamp() - v.up_to_date
        > 2 * greatest(v.refresh_interval, interval '1 minute')
        AND current_setting('bigbrotr_refresher.history_retention') <> '0',
      format('%s was last refreshed at %s', v.view,
        date_trunc('second', v.last_success))),
    (v.held_back_since < clock_timestamp() - interval '1 hour',
      format('the windows of %s are held back by %s', v.view,
        CASE v.held_back_by WHEN 0 THEN 'a prepared transaction'
          ELSE format('process %s', v.held_back_by) END)),
    (v.window_backlog IS NOT NULL AND clock_timestamp() - v.data_as_of
        > 2 * v.refresh_interval + interval '10 minutes'
        AND current_setting('bigbrotr_refresher.history_retention') <> '0',
      format('what %s was made of is of %s', v.view,
        date_trunc('second', v.data_as_of)))
  ) AS p(is_so, text)
  WHERE p.is_so
)
SELECT coalesce(max(code), 0) AS code,
  CASE max(code) WHEN 2 THEN 'CRITICAL: ' WHEN 1 THEN 'WARNING: ' ELSE 'OK: ' END
  || coalesce(string_agg(text, '; ' ORDER BY code DESC, text),
    CASE WHEN pg_is_in_recovery() THEN 'a standby, which refreshes nothing'
      ELSE (SELECT format('%s views, data as of %s', count(*),
          coalesce(date_trunc('second', min(data_as_of))::text || ' or later'
            || CASE WHEN count(*) > count(data_as_of)
              THEN format(', but %s of unknown age', count(*) - count(data_as_of)) ELSE '' END,
            'unknown'))
        FROM view) END) AS text
FROM problem WHERE NOT pg_is_in_recovery();
