/*
 * How what was counted differs from its source; no row if it does not.
 */
SELECT 'daily_counts' AS target, day::text AS key, c.observations AS counted, s.observations AS there
FROM daily_counts AS c
FULL JOIN (
    SELECT (to_timestamp(observed_at) AT TIME ZONE 'UTC')::date AS day, kind, count(*) AS observations
    FROM event_observation GROUP BY 1, 2) AS s USING (day, kind)
WHERE c.observations IS DISTINCT FROM s.observations
UNION ALL
SELECT 'pubkey_kind_stats', pubkey, c.observations, s.observations
FROM pubkey_kind_stats AS c
FULL JOIN (
    SELECT pubkey, kind, count(*) AS observations
    FROM event_observation GROUP BY pubkey, kind) AS s USING (pubkey, kind)
WHERE c.observations IS DISTINCT FROM s.observations
UNION ALL
SELECT 'relay_software_counts', software, c.relays, s.relays
FROM relay_software_counts AS c
FULL JOIN (
    SELECT document ->> 'software' AS software, count(*) AS relays
    FROM (SELECT DISTINCT ON (relay) document FROM relay_document
        ORDER BY relay, associated_at DESC) AS latest
    GROUP BY 1) AS s USING (software)
WHERE c.relays IS DISTINCT FROM s.relays;
