/*
 * A small database in the shape of BigBrotr's next one: no materialized
 * views, but tables that functions fill by windows.  Two sources, and six
 * targets of three kinds: what is current, what is counted, and what is made
 * anew from time to time.
 *
 * Windows are by the second in which a row was observed, as there; one target
 * (pubkey_kind_stats) has them by transaction, which is exact whatever the
 * clocks say: see docs/windows.md.
 */
CREATE TABLE event_observation (
    event_id bigint NOT NULL,
    relay text NOT NULL,
    pubkey text NOT NULL,
    kind integer NOT NULL,
    created_at bigint NOT NULL,
    observed_at bigint NOT NULL DEFAULT floor(extract(epoch FROM now())),
    observed_by xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (event_id, relay)
);
CREATE INDEX ON event_observation (observed_at);
CREATE INDEX ON event_observation (observed_by);

CREATE TABLE relay_document (
    relay text NOT NULL,
    document jsonb NOT NULL,
    associated_at bigint NOT NULL DEFAULT floor(extract(epoch FROM now())),
    PRIMARY KEY (relay, associated_at)
);
CREATE INDEX ON relay_document (associated_at);

/* ---- what is current ---- */

CREATE TABLE relay_document_current (
    relay text PRIMARY KEY,
    document jsonb NOT NULL,
    associated_at bigint NOT NULL
);

CREATE FUNCTION relay_document_current_refresh(p_after bigint, p_until bigint)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    INSERT INTO public.relay_document_current AS c
    SELECT DISTINCT ON (d.relay) d.relay, d.document, d.associated_at
    FROM public.relay_document AS d
    WHERE d.associated_at > p_after AND d.associated_at <= p_until
    ORDER BY d.relay, d.associated_at DESC
    ON CONFLICT (relay) DO UPDATE
    SET document = excluded.document, associated_at = excluded.associated_at
    WHERE excluded.associated_at > c.associated_at;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

CREATE TABLE replaceable_event_current (
    pubkey text,
    kind integer,
    event_id bigint NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (pubkey, kind)
);

CREATE FUNCTION replaceable_event_current_refresh(p_after bigint, p_until bigint)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    INSERT INTO public.replaceable_event_current AS c
    SELECT DISTINCT ON (e.pubkey, e.kind)
        e.pubkey, e.kind, e.event_id, e.created_at
    FROM public.event_observation AS e
    WHERE e.observed_at > p_after AND e.observed_at <= p_until
        AND (e.kind IN (0, 3) OR e.kind BETWEEN 10000 AND 19999)
    ORDER BY e.pubkey, e.kind, e.created_at DESC, e.event_id
    ON CONFLICT (pubkey, kind) DO UPDATE
    SET event_id = excluded.event_id, created_at = excluded.created_at
    WHERE (excluded.created_at, -excluded.event_id) > (c.created_at, -c.event_id);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

/* ---- what is counted: a row that came twice would be seen ---- */

CREATE TABLE daily_counts (
    day date,
    kind integer,
    observations bigint NOT NULL,
    PRIMARY KEY (day, kind)
);

CREATE FUNCTION daily_counts_refresh(p_after bigint, p_until bigint)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    INSERT INTO public.daily_counts AS c
    SELECT (to_timestamp(e.observed_at) AT TIME ZONE 'UTC')::date, e.kind, count(*)
    FROM public.event_observation AS e
    WHERE e.observed_at > p_after AND e.observed_at <= p_until
    GROUP BY 1, 2
    ON CONFLICT (day, kind) DO UPDATE
    SET observations = c.observations + excluded.observations;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

CREATE TABLE pubkey_kind_stats (
    pubkey text,
    kind integer,
    observations bigint NOT NULL,
    PRIMARY KEY (pubkey, kind)
);

-- By transaction: the window begins with "after" and ends before "until".
CREATE FUNCTION pubkey_kind_stats_refresh(after xid8, until xid8)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    INSERT INTO public.pubkey_kind_stats AS s
    SELECT e.pubkey, e.kind, count(*)
    FROM public.event_observation AS e
    WHERE e.observed_by >= after AND e.observed_by < until
    GROUP BY e.pubkey, e.kind
    ON CONFLICT (pubkey, kind) DO UPDATE
    SET observations = s.observations + excluded.observations;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

-- It is made of what is current, and only where that has changed.
CREATE TABLE relay_software_counts (
    software text PRIMARY KEY,
    relays bigint NOT NULL
);

CREATE FUNCTION relay_software_counts_refresh(p_after bigint, p_until bigint)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    IF NOT EXISTS (SELECT FROM public.relay_document AS d
            WHERE d.associated_at > p_after AND d.associated_at <= p_until) THEN
        RETURN 0;
    END IF;
    DELETE FROM public.relay_software_counts;
    INSERT INTO public.relay_software_counts
    SELECT coalesce(c.document ->> 'software', 'unknown'), count(*)
    FROM public.relay_document_current AS c GROUP BY 1;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

/* ---- what is made anew ---- */

CREATE TABLE rolling_windows (
    hours integer PRIMARY KEY,
    observations bigint NOT NULL
);

CREATE FUNCTION rolling_windows_refresh()
RETURNS void
LANGUAGE sql AS $$
    DELETE FROM public.rolling_windows;
    INSERT INTO public.rolling_windows
    SELECT w.hours, count(e.event_id)
    FROM (VALUES (1), (24)) AS w(hours)
    LEFT JOIN public.event_observation AS e
        ON e.observed_at > extract(epoch FROM now()) - w.hours * 3600
    GROUP BY w.hours;
$$;
