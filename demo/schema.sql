/*
 * BigBrotr's tables: which relay was found when, which event was seen on
 * which relay, and what was learnt about each relay.  Times are epoch
 * seconds.
 */
CREATE TABLE relay (
	url			text PRIMARY KEY,
	network		text NOT NULL
				CHECK (network IN ('clearnet', 'tor', 'i2p', 'loki')),
	discovered_at bigint NOT NULL
);

CREATE TABLE event (
	id			bytea PRIMARY KEY,
	pubkey		bytea NOT NULL,
	created_at	bigint NOT NULL,
	kind		integer NOT NULL,
	tags		jsonb NOT NULL,
	tagvalues	text[] NOT NULL,
	content		text NOT NULL,
	sig			bytea NOT NULL
) PARTITION BY HASH (id);

CREATE TABLE event_relay (
	event_id	bytea NOT NULL REFERENCES event ON DELETE CASCADE,
	relay_url	text NOT NULL REFERENCES relay ON DELETE CASCADE,
	seen_at		bigint NOT NULL,
	PRIMARY KEY (event_id, relay_url)
) PARTITION BY HASH (event_id);

SELECT format('CREATE TABLE %I PARTITION OF %I'
			  ' FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
			  parent || '_p' || remainder, parent, remainder)
FROM unnest(ARRAY['event', 'event_relay']) AS parent,
	generate_series(0, 15) AS remainder
\gexec

/* One document may describe many relays, and one relay many times. */
CREATE TABLE metadata (
	id			bytea,
	type		text
				CHECK (type IN ('nip11_info', 'nip66_rtt', 'nip66_ssl',
								'nip66_geo', 'nip66_net', 'nip66_dns',
								'nip66_http')),
	data		jsonb NOT NULL,
	PRIMARY KEY (id, type)
);

CREATE TABLE relay_metadata (
	relay_url	text REFERENCES relay ON DELETE CASCADE,
	generated_at bigint,
	metadata_type text,
	metadata_id bytea NOT NULL,
	PRIMARY KEY (relay_url, generated_at, metadata_type),
	FOREIGN KEY (metadata_id, metadata_type) REFERENCES metadata (id, type)
		ON DELETE CASCADE
);

/* What the foreign keys' cascades and a reader's commonest questions need. */
CREATE INDEX ON event (created_at);
CREATE INDEX ON event_relay (relay_url);
CREATE INDEX ON relay_metadata (metadata_id, metadata_type);
