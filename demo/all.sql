/*
 * BigBrotr's whole schema, with generated data, into an empty database:
 *
 *     psql -q -v scale=0.01 -f demo/all.sql DATABASE
 *
 * Run it as a superuser: the refresh functions belong to whoever runs it,
 * as they belong to the superuser in BigBrotr.  "scale" multiplies the
 * number of events (1: 40,000; 0: none, the bare schema).
 *
 * The views are made before the data: they are populated, though empty, so
 * that their first refresh can be a concurrent one.
 */
\set ON_ERROR_STOP on
SET client_min_messages = warning;

\ir roles.sql
\ir schema.sql
\ir views.sql
\ir functions.sql
\ir grants.sql
\ir data.sql

RESET client_min_messages;
