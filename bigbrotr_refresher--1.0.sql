/* bigbrotr_refresher--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION bigbrotr_refresher" to load this file. \quit

CREATE FUNCTION plan(
    OUT "position" integer,
    OUT stage integer,
    OUT view text,
    OUT method text,
    OUT error text,
    OUT depends_on text[],
    OUT due timestamptz)
RETURNS SETOF record
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'bigbrotr_refresher_plan';
COMMENT ON FUNCTION plan() IS
'the next cycle explained: what is refreshed in which order, how, after what, and when it is due';

REVOKE ALL ON FUNCTION plan() FROM PUBLIC;
GRANT USAGE ON SCHEMA @extschema@ TO pg_monitor;
GRANT EXECUTE ON FUNCTION plan() TO pg_monitor;
