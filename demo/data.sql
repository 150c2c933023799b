/*
 * Generated data for the tables of schema.sql.  It is the same each time
 * but for its dates, which lie in the sixty days before now, and it is
 * skewed as the real thing is: a few relays hold most of the events, a few
 * authors write most of them, and there are more of them every day.
 */
\if :{?scale}
\else
	\set scale 1
\endif

/* Relays and authors grow more slowly than what they write. */
SELECT
	round(40000 * scale)::integer AS events,
	CASE WHEN scale > 0 THEN greatest(20, round(400 * sqrt(scale))) ELSE 0
		END::integer AS relays,
	greatest(20, round(4000 * scale ^ 0.75))::integer AS pubkeys,
	extract(epoch FROM now())::bigint AS now
FROM CAST(:'scale' AS float8) AS scale
\gset gen_

BEGIN;
SET LOCAL synchronous_commit = off;
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;

/*
 * Foreign keys checked row by row would take most of the time, for rows that
 * are drawn from the tables which they point to.
 */
SET LOCAL session_replication_role = replica;

/* A random number a row needs a fixed order of rows to be the same again. */
SET LOCAL max_parallel_workers_per_gather = 0;
SELECT setseed(0.5) AS setseed \gset gen_

/* Of twenty relays, fifteen are in the clear and all networks appear. */
CREATE TEMPORARY TABLE gen_relay ON COMMIT DROP AS
SELECT
	n,
	network,
	CASE network
		WHEN 'clearnet' THEN format('wss://relay-%s.example', n)
		WHEN 'tor' THEN format('ws://%s.onion',
							   substr(md5('tor' || n) || md5('or' || n), 1, 56))
		WHEN 'i2p' THEN format('ws://%s.b32.i2p',
							   substr(md5('i2p' || n) || md5('2p' || n), 1, 52))
		WHEN 'loki' THEN format('ws://%s.loki',
								substr(md5('loki' || n) || md5('ki' || n), 1, 52))
	END AS url
FROM (
	SELECT
		n,
		CASE
			WHEN n % 20 IN (7, 13) THEN 'tor'
			WHEN n % 20 IN (11, 17) THEN 'i2p'
			WHEN n % 20 = 19 THEN 'loki'
			ELSE 'clearnet'
		END AS network
	FROM generate_series(1, :gen_relays) AS n
) AS r;

INSERT INTO relay (url, network, discovered_at)
SELECT url, network, :gen_now - 86400 * 60 - (random() * 86400 * 300)::bigint
FROM gen_relay;

/* Events in the order of their time; about one in forty in the last hour. */
CREATE TEMPORARY TABLE gen_event ON COMMIT DROP AS
SELECT
	n,
	sha256(convert_to('event ' || n, 'UTF8')) AS id,
	floor(:gen_pubkeys * random() ^ 3)::integer AS author,
	:gen_now - floor(86400 * 60 * (1 - n::float8 / :gen_events) ^ 2)::bigint
		AS created_at,
	(ARRAY[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		   7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 4, 4, 9735, 9735, 1059,
		   1984, 5, 0, 0, 0, 3, 3, 10002, 10002, 10050,
		   30023, 30023, 30078, 30078, 30078, 20001, 22242, 555]
	)[1 + floor(random() * 56)] AS kind,
	random() AS r
FROM generate_series(1, :gen_events) AS n;

/* What a tag names is in "tagvalues" too, where an index could find it. */
INSERT INTO event (id, pubkey, created_at, kind, tags, tagvalues, content, sig)
SELECT
	id,
	sha256(convert_to('pubkey ' || author, 'UTF8')),
	created_at,
	kind,
	tags,
	ARRAY(SELECT tag ->> 1 FROM jsonb_array_elements(tags) AS tag
		  WHERE length(tag ->> 0) = 1),
	content,
	sha512(convert_to('sig ' || n, 'UTF8'))
FROM (
	SELECT
		*,
		CASE
			WHEN kind IN (1, 4, 1059) THEN
				jsonb_build_array(jsonb_build_array('p', peer),
								  jsonb_build_array('t', topic))
			WHEN kind IN (5, 6, 7, 1984, 9735) THEN
				jsonb_build_array(jsonb_build_array('e', target),
								  jsonb_build_array('p', peer))
			WHEN kind = 3 THEN
				jsonb_build_array(jsonb_build_array('p', peer),
								  jsonb_build_array('p', target))
			WHEN kind IN (10002, 10050) THEN
				jsonb_build_array(
					jsonb_build_array('r', 'wss://relay-1.example', 'write'))
			WHEN kind = 30023 THEN
				jsonb_build_array(
					jsonb_build_array('title', 'Article ' || n % 7),
					jsonb_build_array('d', 'article-' || n % 7),
					jsonb_build_array('t', topic))
			/* An author's settings: some have no name, some two. */
			WHEN kind = 30078 AND n % 5 = 0 THEN '[]'
			WHEN kind = 30078 THEN
				jsonb_build_array(jsonb_build_array('d', 'app-' || n % 3),
								  jsonb_build_array('d', 'not the first'))
			ELSE '[]'
		END AS tags,
		CASE
			WHEN kind = 0 THEN
				jsonb_build_object('name', 'author ' || author, 'about',
								   'written at ' || created_at)::text
			WHEN kind IN (6, 7, 22242) THEN '+'
			WHEN kind = 30023 THEN repeat(md5('article ' || n) || ' ', 30)
			ELSE repeat(md5('note ' || n) || ' ', 1 + floor(r * 8)::integer)
		END AS content
	FROM (
		SELECT
			*,
			md5('a' || floor(r * 997)) || md5('b' || floor(r * 997)) AS peer,
			md5('c' || n) || md5('d' || n) AS target,
			'topic-' || floor(r * r * 50) AS topic
		FROM gen_event
	) AS e
) AS e
ORDER BY n;

/*
 * Each event on one to six relays, three on average.  Relays draw with
 * the fourth power of their rank; the last twentieth has nothing at all.
 */
INSERT INTO event_relay (event_id, relay_url, seen_at)
SELECT e.id, r.url, e.created_at + e.n::bigint * s.relay % 900
FROM (
	SELECT DISTINCT
		n,
		1 + floor(0.95 * :gen_relays * random() ^ 4)::integer AS relay
	FROM (
		SELECT n, generate_series(1, 1 + floor(r * 5.5)::integer)
		FROM gen_event
	) AS copy
) AS s
JOIN gen_event AS e USING (n)
JOIN gen_relay AS r ON r.n = s.relay;

/*
 * What the relays say of themselves, and what was measured of them, each
 * four times, fifteen days apart.  Some of it does not change from one time
 * to the next, and is then one document.
 */
CREATE TEMPORARY TABLE gen_metadata ON COMMIT DROP AS
SELECT
	url AS relay_url,
	:gen_now - 86400 * 15 * (4 - generation) - n % 3600 AS generated_at,
	type,
	jsonb_build_object('data', data, 'logs',
					   jsonb_build_object('success', true)) AS data
FROM (
	SELECT *, random() AS r
	FROM gen_relay, generate_series(1, 4) AS generation
) AS g
CROSS JOIN LATERAL (
	VALUES
		('nip11_info', jsonb_build_object(
			'name', 'Relay ' || n,
			'software', (ARRAY['strfry', 'strfry', 'strfry', 'strfry',
							   'nostr-rs-relay', 'nostr-rs-relay', 'khatru',
							   'nostream', 'rnostr', ''])[1 + n % 10],
			'version', format('%s.%s', n % 3, (n + generation) / 50 % 4),
			'supported_nips', (
				SELECT jsonb_agg(nip)
				FROM unnest(ARRAY[1, 2, 4, 9, 11, 12, 15, 16, 17, 20, 22, 28,
								  33, 40, 42, 45, 50, 65, 70, 77]
					) WITH ORDINALITY AS nips(nip, rank)
				WHERE rank <= 5 OR (n + rank) % (rank / 3) = 0))),
		('nip66_rtt', jsonb_build_object(
			'rtt_open', 40 + floor(r * 900),
			'rtt_read', 60 + floor(r * 1100),
			'rtt_write', 70 + floor(r * 1300))),
		('nip66_ssl', jsonb_build_object(
			'ssl_valid', n % 30 <> 0, 'ssl_issuer', 'CA ' || n % 4)),
		('nip66_geo', jsonb_build_object(
			'geo_country', (ARRAY['DE', 'US', 'FI', 'JP', 'CA'])[1 + n % 5])),
		('nip66_net', jsonb_build_object('net_asn', 64512 + n % 40)),
		('nip66_dns', jsonb_build_object('dns_ns', 'ns' || n % 9 || '.example')),
		('nip66_http', jsonb_build_object(
			'http_server', (ARRAY['nginx', 'caddy', 'none'])[1 + n % 3]))
) AS document(type, data)
WHERE (type IN ('nip11_info', 'nip66_rtt') OR network = 'clearnet')
	/* Not every relay publishes a document. */
	AND NOT (type = 'nip11_info' AND n % 9 = 0);

INSERT INTO metadata (id, type, data)
SELECT DISTINCT sha256(convert_to(data::text, 'UTF8')), type, data
FROM gen_metadata;

INSERT INTO relay_metadata (relay_url, generated_at, metadata_type, metadata_id)
SELECT relay_url, generated_at, type, sha256(convert_to(data::text, 'UTF8'))
FROM gen_metadata;

COMMIT;

/* Not left to autovacuum: plans are to be good from the first cycle on. */
VACUUM (ANALYZE) relay, event, event_relay, metadata, relay_metadata;
