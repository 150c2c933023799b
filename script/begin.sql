-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION bigbrotr_refresher" to load this file. \quit

-- Made here, so that it is the extension's and goes with it; and so that one
-- that somebody else made, and could change, is refused.
CREATE SCHEMA bigbrotr_refresher;

-- Temporary objects of the session that runs this would come first otherwise.
SET LOCAL search_path TO bigbrotr_refresher, pg_temp;
