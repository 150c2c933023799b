/*
 * What a while of archiving brings: a new relay, events of known and of new
 * authors and of a kind never seen before, a NIP-11 document, and some old
 * events deleted.  Each run adds another such batch.  Run it as "writer".
 */
\set ON_ERROR_STOP on

BEGIN;

SELECT count(*) + 1 AS change, extract(epoch FROM now())::bigint AS now
FROM relay
WHERE url LIKE 'wss://new-%.example'
\gset

DELETE FROM event
WHERE id IN (SELECT id FROM event ORDER BY created_at, id LIMIT 50);

INSERT INTO relay (url, network, discovered_at)
VALUES (format('wss://new-%s.example', :change), 'clearnet', :now);

INSERT INTO event (id, pubkey, created_at, kind, tags, tagvalues, content, sig)
SELECT
	sha256(convert_to(format('change %s event %s', :change, n), 'UTF8')),
	/* Ten authors of data.sql, the busiest among them, and ten new ones. */
	sha256(convert_to(
		CASE
			WHEN n % 20 < 10 THEN format('pubkey %s', n % 20)
			ELSE format('change %s pubkey %s', :change, n % 20)
		END, 'UTF8')),
	:now - n / 100,
	kind,
	CASE WHEN kind >= 30000 THEN '[["d", "article-0"]]' ELSE '[]' END::jsonb,
	CASE WHEN kind >= 30000 THEN '{article-0}' ELSE '{}' END::text[],
	format('Change %s, event %s', :change, n),
	sha512(convert_to(format('change %s sig %s', :change, n), 'UTF8'))
FROM generate_series(0, 199) AS n,
	LATERAL (
		SELECT (ARRAY[1, 0, 30023, 7, 10002, 30078, 3, 20001, 1, 9800 + :change]
			)[1 + n / 20] AS kind
	) AS k;

/* On the new relay and, if it is there, on the busiest. */
INSERT INTO event_relay (event_id, relay_url, seen_at)
SELECT sha256(convert_to(format('change %s event %s', :change, n), 'UTF8')),
	url, :now
FROM generate_series(0, 199) AS n, relay
WHERE url IN ('wss://relay-1.example', format('wss://new-%s.example', :change));

/* Both run a new release of their software, and say so alike. */
WITH document AS (
	INSERT INTO metadata (id, type, data)
	SELECT sha256(convert_to(data::text, 'UTF8')), 'nip11_info', data
	FROM (
		SELECT jsonb_build_object('data', jsonb_build_object(
			'name', 'Relay of change ' || :change,
			'software', 'strfry',
			'version', '4.' || :change,
			'supported_nips', '[1, 11, 86]'::jsonb))
	) AS d(data)
	RETURNING id, type
)
INSERT INTO relay_metadata (relay_url, generated_at, metadata_type, metadata_id)
SELECT url, :now, type, id
FROM document, relay
WHERE url IN ('wss://relay-1.example', format('wss://new-%s.example', :change))
ON CONFLICT (relay_url, generated_at, metadata_type)
	DO UPDATE SET metadata_id = excluded.metadata_id;

COMMIT;
