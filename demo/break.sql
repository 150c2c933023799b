/*
 * A relay whose NIP-11 document holds a number that is no NIP's: it is JSON
 * that the archive takes, but it overflows the integer of
 * supported_nip_counts.  mend.sql removes it.  Run it as "writer".
 */
\set ON_ERROR_STOP on

BEGIN;

INSERT INTO relay (url, network, discovered_at)
VALUES ('wss://broken.example', 'clearnet', extract(epoch FROM now())::bigint)
ON CONFLICT DO NOTHING;

WITH document AS (
	SELECT jsonb_build_object('data', jsonb_build_object(
		'name', 'Broken',
		'software', 'strfry',
		'version', '0.0',
		'supported_nips', '[1, 11, 99999999999]'::jsonb)) AS data
), stored AS (
	INSERT INTO metadata (id, type, data)
	SELECT sha256(convert_to(data::text, 'UTF8')), 'nip11_info', data
	FROM document
	ON CONFLICT DO NOTHING
	RETURNING id, type
)
INSERT INTO relay_metadata (relay_url, generated_at, metadata_type, metadata_id)
SELECT 'wss://broken.example', extract(epoch FROM now())::bigint, type, id
FROM stored;

COMMIT;
