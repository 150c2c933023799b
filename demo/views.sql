/*
 * BigBrotr's 13 materialized views, in the default order of its list, each
 * with the unique index that a concurrent refresh needs.  No column of such
 * an index is ever null: a concurrent refresh takes rows with a null in
 * their key for new ones each time.
 */

/* The newest document of each type about each relay. */
CREATE MATERIALIZED VIEW relay_metadata_latest AS
SELECT DISTINCT ON (rm.relay_url, rm.metadata_type)
	rm.relay_url,
	rm.metadata_type,
	rm.generated_at,
	rm.metadata_id,
	m.data
FROM relay_metadata AS rm
JOIN metadata AS m ON m.id = rm.metadata_id AND m.type = rm.metadata_type
ORDER BY rm.relay_url, rm.metadata_type, rm.generated_at DESC;

CREATE UNIQUE INDEX ON relay_metadata_latest (relay_url, metadata_type);

/* One row about all events; its last columns change as time goes by. */
CREATE MATERIALIZED VIEW event_stats AS
SELECT
	1 AS singleton_key,
	count(*) AS event_count,
	count(DISTINCT pubkey) AS pubkey_count,
	count(DISTINCT kind) AS kind_count,
	min(created_at) AS first_event_at,
	max(created_at) AS last_event_at,
	count(*) FILTER (WHERE kind_class = 'regular') AS regular_count,
	count(*) FILTER (WHERE kind_class = 'replaceable') AS replaceable_count,
	count(*) FILTER (WHERE kind_class = 'ephemeral') AS ephemeral_count,
	count(*) FILTER (WHERE kind_class = 'addressable') AS addressable_count,
	count(*) FILTER (WHERE kind_class = 'other') AS other_count,
	count(*) FILTER (WHERE age BETWEEN 0 AND 3600) AS event_count_1h,
	count(*) FILTER (WHERE age BETWEEN 0 AND 86400) AS event_count_24h,
	count(*) FILTER (WHERE age BETWEEN 0 AND 7 * 86400) AS event_count_7d,
	count(*) FILTER (WHERE age BETWEEN 0 AND 30 * 86400) AS event_count_30d
FROM (
	SELECT
		pubkey,
		kind,
		created_at,
		extract(epoch FROM now())::bigint - created_at AS age,
		CASE
			WHEN kind IN (0, 3) OR kind BETWEEN 10000 AND 19999
				THEN 'replaceable'
			WHEN kind BETWEEN 30000 AND 39999 THEN 'addressable'
			WHEN kind BETWEEN 20000 AND 29999 THEN 'ephemeral'
			WHEN kind IN (1, 2) OR kind BETWEEN 4 AND 44
				OR kind BETWEEN 1000 AND 9999 THEN 'regular'
			ELSE 'other'
		END AS kind_class
	FROM event
) AS e;

CREATE UNIQUE INDEX ON event_stats (singleton_key);

/*
 * Each relay: what it holds, how quickly it has answered, and what it says
 * it is.  The last is read from relay_metadata_latest.
 */
CREATE MATERIALIZED VIEW relay_stats AS
SELECT
	r.url AS relay_url,
	r.network,
	r.discovered_at,
	coalesce(e.event_count, 0) AS event_count,
	coalesce(e.pubkey_count, 0) AS pubkey_count,
	coalesce(e.kind_count, 0) AS kind_count,
	e.first_event_at,
	e.last_event_at,
	e.last_seen_at,
	rtt.avg_rtt_open,
	rtt.avg_rtt_read,
	rtt.avg_rtt_write,
	info.data -> 'data' ->> 'name' AS nip11_name,
	info.data -> 'data' ->> 'software' AS nip11_software,
	info.data -> 'data' ->> 'version' AS nip11_version
FROM relay AS r
LEFT JOIN (
	SELECT
		er.relay_url,
		count(*) AS event_count,
		count(DISTINCT ev.pubkey) AS pubkey_count,
		count(DISTINCT ev.kind) AS kind_count,
		min(ev.created_at) AS first_event_at,
		max(ev.created_at) AS last_event_at,
		max(er.seen_at) AS last_seen_at
	FROM event_relay AS er
	JOIN event AS ev ON ev.id = er.event_id
	GROUP BY er.relay_url
) AS e ON e.relay_url = r.url
LEFT JOIN (
	SELECT
		rm.relay_url,
		round(avg((m.data -> 'data' ->> 'rtt_open')::numeric), 1)
			AS avg_rtt_open,
		round(avg((m.data -> 'data' ->> 'rtt_read')::numeric), 1)
			AS avg_rtt_read,
		round(avg((m.data -> 'data' ->> 'rtt_write')::numeric), 1)
			AS avg_rtt_write
	FROM relay_metadata AS rm
	JOIN metadata AS m ON m.id = rm.metadata_id AND m.type = rm.metadata_type
	WHERE rm.metadata_type = 'nip66_rtt'
	GROUP BY rm.relay_url
) AS rtt ON rtt.relay_url = r.url
LEFT JOIN relay_metadata_latest AS info
	ON info.relay_url = r.url AND info.metadata_type = 'nip11_info';

CREATE UNIQUE INDEX ON relay_stats (relay_url);

CREATE MATERIALIZED VIEW kind_counts AS
SELECT
	kind,
	count(*) AS event_count,
	count(DISTINCT pubkey) AS pubkey_count,
	min(created_at) AS first_event_at,
	max(created_at) AS last_event_at
FROM event
GROUP BY kind;

CREATE UNIQUE INDEX ON kind_counts (kind);

CREATE MATERIALIZED VIEW kind_counts_by_relay AS
SELECT
	e.kind,
	er.relay_url,
	count(*) AS event_count,
	count(DISTINCT e.pubkey) AS pubkey_count,
	max(e.created_at) AS last_event_at
FROM event AS e
JOIN event_relay AS er ON er.event_id = e.id
GROUP BY e.kind, er.relay_url;

CREATE UNIQUE INDEX ON kind_counts_by_relay (kind, relay_url);

CREATE MATERIALIZED VIEW pubkey_counts AS
SELECT
	encode(pubkey, 'hex') AS pubkey,
	count(*) AS event_count,
	count(DISTINCT kind) AS kind_count,
	min(created_at) AS first_event_at,
	max(created_at) AS last_event_at
FROM event
GROUP BY event.pubkey;

CREATE UNIQUE INDEX ON pubkey_counts (pubkey);

/* A single event says little of where its author writes: left out. */
CREATE MATERIALIZED VIEW pubkey_counts_by_relay AS
SELECT
	encode(e.pubkey, 'hex') AS pubkey,
	er.relay_url,
	count(*) AS event_count,
	count(DISTINCT e.kind) AS kind_count,
	max(e.created_at) AS last_event_at
FROM event AS e
JOIN event_relay AS er ON er.event_id = e.id
GROUP BY e.pubkey, er.relay_url
HAVING count(*) >= 2;

CREATE UNIQUE INDEX ON pubkey_counts_by_relay (pubkey, relay_url);

CREATE MATERIALIZED VIEW network_stats AS
SELECT
	r.network,
	count(DISTINCT r.url) AS relay_count,
	count(DISTINCT er.event_id) AS event_count,
	count(DISTINCT e.pubkey) AS pubkey_count,
	count(DISTINCT e.kind) AS kind_count,
	max(e.created_at) AS last_event_at
FROM relay AS r
LEFT JOIN event_relay AS er ON er.relay_url = r.url
LEFT JOIN event AS e ON e.id = er.event_id
GROUP BY r.network;

CREATE UNIQUE INDEX ON network_stats (network);

CREATE MATERIALIZED VIEW event_daily_counts AS
SELECT
	(to_timestamp(created_at) AT TIME ZONE 'UTC')::date AS day,
	count(*) AS event_count,
	count(DISTINCT pubkey) AS pubkey_count,
	count(DISTINCT kind) AS kind_count
FROM event
GROUP BY 1;

CREATE UNIQUE INDEX ON event_daily_counts (day);

/* Of two events of the same second, the one with the lower id counts. */
CREATE MATERIALIZED VIEW events_replaceable_latest AS
SELECT DISTINCT ON (pubkey, kind)
	pubkey,
	kind,
	id AS event_id,
	created_at,
	tags,
	content
FROM event
WHERE kind IN (0, 3) OR kind BETWEEN 10000 AND 19999
ORDER BY pubkey, kind, created_at DESC, id;

CREATE UNIQUE INDEX ON events_replaceable_latest (pubkey, kind);

CREATE MATERIALIZED VIEW events_addressable_latest AS
SELECT DISTINCT ON (pubkey, kind, d_tag)
	pubkey,
	kind,
	d_tag,
	id AS event_id,
	created_at,
	tags,
	content
FROM (
	SELECT
		*,
		coalesce(jsonb_path_query_first(tags, '$[*] ? (@[0] == "d")') ->> 1,
				 '') AS d_tag
	FROM event
	WHERE kind BETWEEN 30000 AND 39999
) AS e
ORDER BY pubkey, kind, d_tag, created_at DESC, id;

CREATE UNIQUE INDEX ON events_addressable_latest (pubkey, kind, d_tag);

CREATE MATERIALIZED VIEW relay_software_counts AS
SELECT
	coalesce(nullif(data -> 'data' ->> 'software', ''), 'unknown')
		AS software,
	coalesce(nullif(data -> 'data' ->> 'version', ''), 'unknown') AS version,
	count(*) AS relay_count
FROM relay_metadata_latest
WHERE metadata_type = 'nip11_info'
GROUP BY 1, 2;

CREATE UNIQUE INDEX ON relay_software_counts (software, version);

/*
 * Relays write their own documents: what is no number is left out, but a
 * number too large for an integer makes this view's refresh fail.
 */
CREATE MATERIALIZED VIEW supported_nip_counts AS
SELECT
	nip::integer AS nip,
	count(DISTINCT relay_url) AS relay_count
FROM relay_metadata_latest,
	jsonb_array_elements_text(
		CASE jsonb_typeof(data -> 'data' -> 'supported_nips')
			WHEN 'array' THEN data -> 'data' -> 'supported_nips'
		END) AS nip
WHERE metadata_type = 'nip11_info'
	AND nip ~ '^[0-9]+$'
GROUP BY nip::integer;

CREATE UNIQUE INDEX ON supported_nip_counts (nip);
