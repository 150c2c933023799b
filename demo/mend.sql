/* Takes back what break.sql did.  Run it as "writer". */
\set ON_ERROR_STOP on

BEGIN;

/* The mention of it in relay_metadata goes with the document. */
DELETE FROM metadata
WHERE type = 'nip11_info'
	AND data -> 'data' -> 'supported_nips' @> '99999999999';

DELETE FROM relay WHERE url = 'wss://broken.example';

COMMIT;
