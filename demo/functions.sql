/*
 * A refresh function for each of the views, as BigBrotr has them: plpgsql,
 * SECURITY INVOKER, without a search_path of its own, and with the view's
 * name unqualified.
 */
SELECT format($$
	CREATE FUNCTION %I() RETURNS void LANGUAGE plpgsql SECURITY INVOKER AS
	'BEGIN
		REFRESH MATERIALIZED VIEW CONCURRENTLY %I;
	END'
	$$, matviewname || '_refresh', matviewname)
FROM pg_catalog.pg_matviews
WHERE schemaname = 'public'
\gexec
