-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION bigbrotr_refresher" to load this file. \quit

-- Created here, so that it belongs to the extension and is dropped with it, and
-- so that a schema that somebody else created, and could change, is refused.
CREATE SCHEMA bigbrotr_refresher;

-- Otherwise temporary objects of the current session would come first.
SET LOCAL search_path TO bigbrotr_refresher, pg_temp;
