/*
 * BigBrotr's roles, apart from the superuser that owns the database: made
 * only where they are missing, since roles are the whole server's.
 */
DO $$
DECLARE
	r		name;
BEGIN
	FOREACH r IN ARRAY ARRAY['refresher', 'writer', 'reader']
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = r) THEN
			EXECUTE format('CREATE ROLE %I LOGIN', r);
		END IF;
	END LOOP;
END
$$;
