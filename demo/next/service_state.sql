/*
 * The checkpoints of BigBrotr's own service, taken over and given back; run it
 * as the owner of the targets, while neither it nor the worker folds anything.
 */

-- Here they are.
CREATE TABLE IF NOT EXISTS service_state (
    owner text,
    state_type text,
    state_key text,
    state_value jsonb,
    PRIMARY KEY (owner, state_type, state_key)
);

-- From the service
SELECT state_key, bigbrotr_refresher.set_window(state_key,
    CASE jsonb_typeof(state_value -> 'timestamp') WHEN 'number'
    THEN state_value ->> 'timestamp' ELSE '0' END)
FROM service_state
WHERE owner = 'refresher' AND state_type = 'checkpoint'
    AND to_regprocedure(format('public.%I(bigint, bigint)', state_key || '_refresh')) IS NOT NULL;

-- To the service
INSERT INTO service_state (owner, state_type, state_key, state_value)
SELECT 'refresher', 'checkpoint', (parse_ident(target))[2],
    jsonb_build_object('timestamp', until::bigint)
FROM bigbrotr_refresher.windows
WHERE kind = 'bigint'
ON CONFLICT (owner, state_type, state_key) DO UPDATE
SET state_value = excluded.state_value;
