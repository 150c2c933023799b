/*
 * Some more observations and documents, as if they had come just now.
 */
INSERT INTO event_observation (event_id, relay, pubkey, kind, created_at)
SELECT base.id + n, 'wss://relay' || n % 7, 'pubkey' || n % 50,
    (ARRAY[0, 1, 1, 1, 3, 7, 10002])[1 + n % 7],
    extract(epoch FROM now())::bigint - n
FROM (SELECT coalesce(max(event_id), 0) AS id FROM event_observation) AS base,
    generate_series(1, 1000) AS n;

INSERT INTO relay_document (relay, document)
SELECT 'wss://relay' || n,
    jsonb_build_object('software', (ARRAY['strfry', 'nostream'])[1 + (random() * 1)::integer])
FROM generate_series(0, 6) AS n
ON CONFLICT DO NOTHING;
