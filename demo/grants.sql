/*
 * Who may do what.  The functions stay with the superuser who runs this, so
 * that no weaker role can change what the refresher runs; the views go to
 * the refresher, since only its owner may refresh a view.
 */
SELECT format('ALTER MATERIALIZED VIEW %I OWNER TO refresher', matviewname),
	format('REVOKE ALL ON FUNCTION %I() FROM PUBLIC',
		   matviewname || '_refresh'),
	format('GRANT EXECUTE ON FUNCTION %I() TO refresher',
		   matviewname || '_refresh')
FROM pg_catalog.pg_matviews
WHERE schemaname = 'public'
\gexec

GRANT CONNECT ON DATABASE :"DBNAME" TO refresher, writer, reader;

GRANT USAGE ON SCHEMA public TO refresher, writer, reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
GRANT SELECT ON relay, event, event_relay, metadata, relay_metadata
	TO refresher;
GRANT SELECT, INSERT, UPDATE, DELETE
	ON relay, event, event_relay, metadata, relay_metadata
	TO writer;
