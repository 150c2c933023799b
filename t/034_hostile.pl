# Weaker roles who want the worker's rights: by functions that take the place
# of trusted ones, by what they leave in its session, by triggers of the
# history, and by settings of the database that they own.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $node = new_node(
	'hostile',
	enabled => 'off',
	interval => '1h',
	'bigbrotr_refresher.retry_interval' => 0);
$node->start;

# Whatever runs leaves a row that says as whom.
my $seen = q{
	CREATE TABLE seen (what text, who name DEFAULT current_user);
	GRANT INSERT ON seen TO public;
};
$node->safe_psql(
	'postgres', $seen . q{
	CREATE ROLE weak;
	CREATE ROLE strong SUPERUSER;
	GRANT CREATE ON SCHEMA public TO weak;
	CREATE SCHEMA weak AUTHORIZATION weak;
	GRANT USAGE ON SCHEMA weak TO public;
	CREATE FUNCTION gate_1_refresh() RETURNS void
	LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)';
});

# What has run, and as whom; "us" for the superuser.
sub seen
{
	my ($database) = @_;

	return $node->safe_psql(
		$database // 'postgres',
		"WITH gone AS (DELETE FROM public.seen RETURNING *)
		 SELECT what, CASE WHEN r.oid = 10 THEN 'us' ELSE who END
		 FROM gone LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = who
		 ORDER BY what, who");
}

# ---- functions in the place of others ----------------------------------------

$node->safe_psql(
	'postgres', q{
	SELECT format('CREATE MATERIALIZED VIEW %I AS SELECT 1 AS x', name)
	FROM unnest(ARRAY['taken', 'definer', 'configured', 'called', 'aggregate',
		'windowed', 'overloaded', 'overloaded_call', 'elsewhere']) AS name
	\gexec
	CREATE FUNCTION overloaded_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO seen VALUES ('ours') $$;
	CREATE PROCEDURE overloaded_call_refresh()
	LANGUAGE sql AS $$ INSERT INTO seen VALUES ('ours, called') $$;
	CREATE FUNCTION windowed_refresh() RETURNS bigint
	LANGUAGE internal WINDOW AS 'window_row_number';
	ALTER FUNCTION windowed_refresh OWNER TO weak;

	SET ROLE weak;
	SET search_path = public;
	CREATE FUNCTION taken_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('taken') $$;
	CREATE FUNCTION definer_refresh() RETURNS void SECURITY DEFINER
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('definer') $$;
	CREATE FUNCTION configured_refresh() RETURNS void SET work_mem = '1MB'
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('configured') $$;
	CREATE PROCEDURE called_refresh()
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('called') $$;
	CREATE FUNCTION weak.count_up(bigint) RETURNS bigint LANGUAGE sql
	AS $$ INSERT INTO public.seen VALUES ('aggregate'); SELECT $1 $$;
	CREATE AGGREGATE aggregate_refresh(*)
		(SFUNC = weak.count_up, STYPE = bigint);

	CREATE FUNCTION overloaded_refresh(int DEFAULT 1) RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('default') $$;
	CREATE FUNCTION overloaded_refresh(VARIADIC text[] DEFAULT '{}')
	RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('variadic') $$;
	CREATE FUNCTION overloaded_refresh(anyelement DEFAULT 'x'::text)
	RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('polymorphic') $$;
	CREATE PROCEDURE overloaded_call_refresh(int DEFAULT 1)
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('call') $$;

	CREATE FUNCTION weak.elsewhere_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('elsewhere') $$;
	CREATE FUNCTION weak.alone_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO public.seen VALUES ('alone') $$;
});
my $log = cycle(
	$node,
	enabled => 'on',
	views => 'taken, definer, configured, called, aggregate, windowed, '
	  . 'elsewhere, weak.alone');
is( outcomes($log),
	'taken definer configured called aggregate windowed elsewhere'
	  . ' weak.alone:42501',
	'a view is refreshed without the function that a weak role has made');
is(seen(), '', 'which does not run');
is( join(' ', map { "$_->{view}:$_->{owner}" }
		  grep { $_->{event} eq 'function_refused' } events($log)),
	'taken:weak definer:weak configured:weak called:weak',
	'the log says so');
$log = cycle($node, views => 'overloaded, overloaded_call');
is(outcomes($log), 'overloaded overloaded_call',
	'nor does one with defaults stand in the way of one without arguments');
is(seen(), "ours|us\nours, called|us", 'it is the latter that runs');

# ---- what changes between the plan and the call --------------------------------

$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION given_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO seen VALUES ('given') $$;
	CREATE FUNCTION demoted_refresh() RETURNS void
	LANGUAGE sql AS $$ INSERT INTO seen VALUES ('demoted') $$;
	ALTER FUNCTION demoted_refresh OWNER TO strong;
});
my $session = hold($node, 'postgres', 1);
configure($node, views => 'gate_1, demoted, given');
wait_for_waiter($node, 'postgres', 1);
my $giver = session($node, 'postgres');
$giver->query_safe('BEGIN; ALTER FUNCTION given_refresh OWNER TO weak');
$node->safe_psql('postgres', 'ALTER ROLE strong NOSUPERUSER');
$session->query_safe('SELECT pg_advisory_unlock(1)');
$node->poll_query_until(
	'postgres', "SELECT count(*) = 1
	 FROM pg_locks JOIN pg_stat_activity USING (pid)
	 WHERE backend_type = 'bigbrotr_refresher' AND NOT granted
		AND locktype = 'object' AND objid = 'given_refresh'::regproc")
  or die 'the worker does not wait for the function';
$giver->query_safe('COMMIT');
$log = cycle_since($node);
is( outcomes($log),
	'gate_1 demoted:42501 given:42501',
	'an owner who is not trusted any more, or is another one, is noticed');
is(seen(), '', 'in time');
$giver->quit;

# ---- what is left in the session -------------------------------------------------

# The body of a loop over what is tried; each attempt that succeeds leaves a row.
my $try_attempt = q{
		LOOP
			BEGIN
				EXECUTE attempt;
				INSERT INTO public.seen VALUES (attempt);
			EXCEPTION WHEN OTHERS THEN
				NULL;
			END;
		END LOOP;
};

$node->safe_psql(
	'postgres', q{
	CREATE TABLE source AS SELECT 'right'::text AS x;
	CREATE SEQUENCE numbers;
	CREATE TABLE looked (number serial, what text);
	SET ROLE weak;
	SET search_path = public;
	CREATE FUNCTION weak.gain(pg_catalog.text) RETURNS boolean
	LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES ('gain');
		ALTER ROLE weak SUPERUSER;
		RETURN true;
	EXCEPTION WHEN insufficient_privilege THEN
		RETURN true;
	END $$;
	CREATE FUNCTION weak.leave() RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		attempt text;
	BEGIN
		FOREACH attempt IN ARRAY ARRAY[
			'SET ROLE NONE', 'RESET ROLE', 'RESET SESSION AUTHORIZATION',
			'SET SESSION AUTHORIZATION DEFAULT',
			'SET session_replication_role = replica',
			'SET bigbrotr_refresher.enabled = off',
			'SET LOCAL bigbrotr_refresher.views = ''weak.alone''',
			'ALTER ROLE weak SUPERUSER',
			'CREATE TEMPORARY TABLE source (x text)',
			'CREATE TEMPORARY VIEW source AS SELECT 1 AS x',
			'CREATE TYPE pg_temp.source AS (x text)',
			'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
			'PREPARE p AS SELECT 1', 'LISTEN refreshed',
			'CREATE DOMAIN pg_temp.text AS pg_catalog.text
				CHECK (weak.gain(VALUE))',
			'CREATE DOMAIN pg_temp.date AS pg_catalog.date
				CHECK (weak.gain(VALUE::pg_catalog.text))',
			'CREATE FUNCTION pg_temp.looks_refresh() RETURNS void
				LANGUAGE sql AS ''INSERT INTO public.seen
				VALUES (''''pg_temp'''')''',
			'SET search_path = weak', 'SET work_mem = ''64kB''',
			'SELECT pg_catalog.set_config(''custom.left'', ''weak'', false)',
			'SELECT pg_catalog.pg_advisory_lock(77)']
		} . $try_attempt . q{
		RETURN 1;
	END $$;
	CREATE MATERIALIZED VIEW trap AS SELECT weak.leave() AS x WITH NO DATA;
	RESET ROLE;

	CREATE FUNCTION looks_refresh() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		last text := '-';
		found text;
	BEGIN
		EXECUTE 'SELECT 1::text, ''2000-01-01''::date';
		BEGIN
			last := lastval();
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			NULL;
		END;
		EXECUTE $q$ SELECT concat_ws(' ',
			current_user = (SELECT rolname FROM pg_roles WHERE oid = 10),
			session_user = (SELECT rolname FROM pg_roles WHERE oid = 10),
			(SELECT x FROM source),
			(SELECT count(*) FROM pg_cursors),
			(SELECT count(*) FROM pg_prepared_statements),
			quote_nullable(nullif(current_setting('custom.left', true), '')),
			current_setting('search_path'), current_setting('work_mem'),
			current_setting('session_replication_role'),
			(SELECT count(*) FROM pg_locks
			 WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
			(SELECT count(*) FROM pg_class
			 WHERE relnamespace = pg_my_temp_schema()),
			(SELECT count(*) FROM pg_type
			 WHERE typnamespace = pg_my_temp_schema()),
			(SELECT count(*) FROM pg_proc
			 WHERE pronamespace = pg_my_temp_schema())) $q$ INTO found;
		INSERT INTO public.looked (what) VALUES (found || ' ' || last);
	END $$;
	CREATE MATERIALIZED VIEW concurrent AS SELECT 1 AS x;
	CREATE UNIQUE INDEX ON concurrent (x);

	CREATE FUNCTION leaves_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		CREATE TEMPORARY TABLE source AS SELECT 'wrong' AS x;
		CREATE TEMPORARY SEQUENCE own;
		PERFORM nextval('public.numbers');
		PERFORM set_config('custom.left', 'x', false);
		PERFORM pg_advisory_lock(78);
		EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1';
		EXECUTE 'PREPARE p AS SELECT 1';
		SET session_replication_role = replica;
		SET search_path = weak;
		SET SESSION AUTHORIZATION weak;
	END $$;
	CREATE FUNCTION resets_refresh() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		SET SESSION AUTHORIZATION weak;
		SET SESSION AUTHORIZATION DEFAULT;
		RESET SESSION AUTHORIZATION;
		SET ROLE weak;
		RESET ROLE;
		RESET ALL;
		PERFORM public.looks_refresh();
	END $$;
	CREATE PROCEDURE breaks_refresh() LANGUAGE plpgsql AS $$
	DECLARE
		r record;
	BEGIN
		CREATE TEMPORARY TABLE source AS SELECT 'wrong' AS x;
		FOR r IN SELECT generate_series(1, 5) AS n LOOP
			SET ROLE weak;
			COMMIT;
			PERFORM 1 / (3 - r.n);
		END LOOP;
	END $$;
});
$log = cycle($node,
	views => 'looks; concurrent; trap; resets; leaves; pg_temp.looks; breaks');
is( outcomes($log),
	'looks concurrent trap resets leaves pg_temp.looks:3F000 breaks:22012',
	'functions leave this and that');
unlike(
	seen(),
	qr/^(?:SET ROLE|SET SESSION|SET session|SET bigbrotr|SET LOCAL|RESET|ALTER|PREPARE|LISTEN|DECLARE|CREATE TEMP|CREATE TYPE|.*\|us$)/m,
	'a view\'s query becomes nobody else, and leaves nothing by that name');
my @after = qw(concurrent trap leaves breaks);
foreach my $view (@after)
{
	cycle($node, views => "before_$view");
	$log = cycle($node, views => "$view; looks");
	like(outcomes($log), qr/^$view\S* looks$/, "a view after $view");
	unlike(seen(), qr/\|us$|^gain\|/m, "is in no trap of $view");
}
is( $node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles
		WHERE rolname = 'weak'"),
	'f', 'the weak role is as weak as before');
is( $node->safe_psql(
		'postgres', "SELECT count(*), count(DISTINCT what), min(what)
		FROM looked"),
	'6|1|t t right 0 0 NULL "$user", public 4MB origin 0 0 0 0 -',
	'nothing is left of any view to another');
is( $node->safe_psql(
		'postgres', "SELECT count(*) FROM pg_class AS c
		JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname LIKE 'pg\\_temp%'"),
	'0',
	'nor in temporary schemas');

# ---- the history of an owner who is not to be trusted -----------------------------

# The owner comes by himself: as him, a superuser would still be one.
sub as_keeper
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql,
		extra_params => [ '-U', 'keeper' ]);
}

# Everything that a table can run: as its owner, who becomes nobody else.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE ROLE keeper LOGIN;
	CREATE SCHEMA keeper AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA keeper TO public;
	GRANT USAGE, CREATE ON SCHEMA bigbrotr_refresher TO keeper;
	GRANT USAGE ON SEQUENCE bigbrotr_refresher.history_id_seq TO keeper;
	ALTER TABLE bigbrotr_refresher.history OWNER TO keeper;
});
as_keeper(
	q{
	CREATE TABLE keeper.later (x int);
	CREATE FUNCTION keeper.climb(place text) RETURNS boolean
	LANGUAGE plpgsql AS $$
	DECLARE
		attempt text;
	BEGIN
		INSERT INTO public.seen VALUES (place);
		FOREACH attempt IN ARRAY ARRAY['SET ROLE NONE',
			'SET SESSION AUTHORIZATION DEFAULT', 'RESET ROLE',
			'CREATE TEMPORARY TABLE source (x text)',
			'ALTER ROLE keeper SUPERUSER']
		} . $try_attempt . q{
		RETURN true;
	END $$;
	CREATE FUNCTION keeper.fixed(place text) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN keeper.climb(place); END';
	CREATE FUNCTION keeper.on_row() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM keeper.climb(TG_NAME);
		RETURN coalesce(NEW, OLD);
	END $$;

	ALTER TABLE bigbrotr_refresher.history
		ADD COLUMN a boolean DEFAULT keeper.climb('default'),
		ADD COLUMN b boolean GENERATED ALWAYS AS
			(keeper.fixed('generated' || left(view, 0))) STORED,
		ADD CHECK (keeper.climb('check'));
	CREATE DOMAIN keeper.label AS text CHECK (keeper.climb('domain'));
	ALTER TABLE bigbrotr_refresher.history
		ADD COLUMN c keeper.label DEFAULT 'x';
	CREATE INDEX ON bigbrotr_refresher.history 
		(keeper.fixed('index' || left(view, 0)))
		WHERE keeper.fixed('predicate' || left(view, 0));
	CREATE TRIGGER on_row
	BEFORE INSERT OR UPDATE OR DELETE ON bigbrotr_refresher.history
	FOR EACH ROW EXECUTE FUNCTION keeper.on_row();
	CREATE TRIGGER on_statement
	AFTER INSERT OR UPDATE OR DELETE ON bigbrotr_refresher.history
	FOR EACH STATEMENT EXECUTE FUNCTION keeper.on_row();
	CREATE CONSTRAINT TRIGGER constrained
	AFTER INSERT ON bigbrotr_refresher.history
	FOR EACH ROW EXECUTE FUNCTION keeper.on_row();
	CREATE RULE ruled AS ON INSERT TO bigbrotr_refresher.history
	DO ALSO SELECT keeper.climb('rule');
	CREATE POLICY ours ON bigbrotr_refresher.history
	USING (keeper.climb('policy'));
	ALTER TABLE bigbrotr_refresher.history
		ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE TABLE keeper.child () INHERITS (bigbrotr_refresher.history);
});
seen();
configure($node, views => 'taken; windowed');
configure($node, 'bigbrotr_refresher.history_retention' => '1s');
$node->safe_psql('postgres',
	'SELECT FROM bigbrotr_refresher.run(true)') foreach (1 .. 2);
is( $node->safe_psql(
		'postgres', "SELECT string_agg(DISTINCT what, ' ' ORDER BY what),
			string_agg(DISTINCT who, ' ') FROM public.seen"),
	'check constrained default domain generated index on_row on_statement'
	  . ' policy predicate rule|keeper',
	'whatever the table runs, it runs as its owner, who cannot be another');
$node->safe_psql('postgres', 'TRUNCATE seen');
$node->safe_psql('postgres', 'SELECT FROM bigbrotr_refresher.plan()');
$node->safe_psql('postgres', "SELECT bigbrotr_refresher.refresh('windowed')");
is( $node->safe_psql(
		'postgres', "SELECT string_agg(DISTINCT who, ' '),
			bool_or(what ~ '[A-Z]') FROM public.seen"),
	'keeper|f',
	'in sessions too');

# A deferred trigger of another table would run when nobody watches.
$node->safe_psql('postgres', 'TRUNCATE seen');
as_keeper(
	q{
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON keeper.later
	DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION keeper.on_row();
	CREATE OR REPLACE FUNCTION keeper.on_row() RETURNS trigger
	LANGUAGE plpgsql AS $$
	BEGIN
		IF TG_TABLE_NAME = 'history' THEN
			INSERT INTO keeper.later VALUES (1);
		END IF;
		INSERT INTO public.seen VALUES (TG_NAME);
		RETURN coalesce(NEW, OLD);
	END $$});
is( $node->safe_psql('postgres',
		'SELECT views, refreshed FROM bigbrotr_refresher.run(true)'),
	'2|2', 'put off, it costs no refresh');
is( $node->safe_psql(
		'postgres', "SELECT count(*) FROM public.seen WHERE who <> 'keeper'"),
	'0',
	'and runs as nobody but its owner, if it does');
is( $node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles
		WHERE rolname = 'keeper'"),
	'f', 'the owner of the history is as weak as before');

# A function that is called in a session is found in the same way as by the
# worker.
$node->safe_psql(
	'postgres', q{
	SELECT bigbrotr_refresher.refresh('overloaded');
	SELECT bigbrotr_refresher.refresh('overloaded_call')});
like(seen(), qr/^ours\|us\nours, called\|us$/m,
	'a session calls what the worker calls');
$session->quit;

# ---- the owner of the database ---------------------------------------------------

$node->safe_psql('postgres',
	'CREATE ROLE landlord; CREATE DATABASE owned OWNER landlord');
$node->safe_psql(
	'owned', $seen . q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION kept_refresh() RETURNS void LANGUAGE sql
	AS $$ INSERT INTO public.seen VALUES ('kept') $$;
	CREATE MATERIALIZED VIEW public.plain AS SELECT 1 AS x;
	CREATE MATERIALIZED VIEW public.indexed AS SELECT 1 AS x;
	CREATE UNIQUE INDEX ON public.indexed (x);
	SET SESSION AUTHORIZATION landlord;
	CREATE SCHEMA early;
	CREATE FUNCTION early.trapped() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES ('trapped');
		RETURN true;
	END $$;
	-- Operators and functions of the server's names, and types
	DO $$
	DECLARE
		type pg_catalog.text;
		name pg_catalog.text;
	BEGIN
		FOREACH type IN ARRAY ARRAY['text', 'int8', 'int4', 'timestamptz',
			'oid', 'name', 'tid', 'interval', 'bool']
		LOOP
			EXECUTE format('CREATE FUNCTION early.both(pg_catalog.%1$s,
				pg_catalog.%1$s) RETURNS pg_catalog.bool LANGUAGE sql
				AS ''SELECT early.trapped()''', type);
			FOREACH name IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '||',
				'~~', '-', '+']
			LOOP
				EXECUTE format('CREATE OPERATOR early.%1$s
					(LEFTARG = pg_catalog.%2$s, RIGHTARG = pg_catalog.%2$s,
					FUNCTION = early.both)', name, type);
			END LOOP;
			EXECUTE format('CREATE FUNCTION early.max(pg_catalog.%s)
				RETURNS pg_catalog.bool LANGUAGE sql
				AS ''SELECT early.trapped()''', type);
			EXECUTE format('CREATE DOMAIN early.%1$I AS pg_catalog.%1$s
				CHECK (early.trapped())', type);
		END LOOP;
	END $$;
	CREATE FUNCTION early.now() RETURNS pg_catalog.timestamptz
	LANGUAGE sql AS 'SELECT early.trapped(); SELECT pg_catalog.now()';
	CREATE FUNCTION early.unnest(pg_catalog.text[]) RETURNS pg_catalog.text
	LANGUAGE sql AS 'SELECT early.trapped(); SELECT $1[1]';
	-- As whom one comes, and what one can take back of that
	CREATE FUNCTION early.climb_refresh() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		attempt pg_catalog.text;
	BEGIN
		INSERT INTO public.seen VALUES ('climb');
		FOREACH attempt IN ARRAY ARRAY['SET ROLE NONE',
			'SET SESSION AUTHORIZATION DEFAULT',
			'ALTER ROLE landlord SUPERUSER']
		LOOP
			BEGIN
				EXECUTE attempt;
			EXCEPTION WHEN OTHERS THEN
				NULL;
			END;
		END LOOP;
	END $$;
});
my @settings = (
	'search_path = early, pg_catalog, public',
	'session_authorization = landlord', 'role = landlord',
	'exit_on_error = on',
	'row_security = off', 'check_function_bodies = off',
	'quote_all_identifiers = on', 'transform_null_equals = on',
	'standard_conforming_strings = off',
	"DateStyle = 'German'",
	"IntervalStyle = 'iso_8601'",
	"TimeZone = 'Asia/Tokyo'",
	'default_transaction_read_only = on',
	'default_transaction_deferrable = on',
	'default_transaction_isolation = serializable',
	'statement_timeout = 1', 'lock_timeout = 1',
	'idle_in_transaction_session_timeout = 1',
	'transaction_timeout = 1');
my $name = 'climb; kept; plain; indexed; nothing';
foreach my $setting (@settings)
{
	# Some are not for everyone to set, or not there in all majors.
	my ($code, undef, $error) = $node->psql('postgres',
		"SET SESSION AUTHORIZATION landlord;
		 ALTER DATABASE owned SET $setting");
	note("$setting: $error") if $code;
}
$node->safe_psql('postgres',
	'ALTER ROLE landlord SET search_path = early');
configure($node, views => $name,
	'bigbrotr_refresher.history_retention' => undef);
$node->append_conf('postgresql.conf', conf_lines(databases => 'owned'));
$node->stop;
my $offset = log_size($node);
$node->start;
$log = wait_for_line($node, 'cycle_completed', $offset);
my $us = $node->safe_psql('postgres',
	'SELECT rolname FROM pg_roles WHERE oid = 10');
like($log, qr/worker_started database=owned role=\Q$us\E /,
	'with every setting that the owner of the database can make');
is( outcomes($log),
	'climb:42501 kept plain indexed nothing:42883',
	'the worker is who it connected as, and does its work');
unlike($log, qr/FATAL:  (?!the database system)|history_failed/,
	'an error does not end it');
$node->safe_psql('postgres', 'ALTER DATABASE owned RESET ALL');
is(seen('owned'), 'kept|us', 'nothing of the owner\'s has run');
is( $node->safe_psql(
		'owned', 'SELECT view, outcome, method
		FROM bigbrotr_refresher.history ORDER BY id'),
	join("\n",
		'climb|failed|', 'kept|refreshed|function',
		'plain|refreshed|merge', 'indexed|refreshed|merge',
		'nothing|failed|'),
	'the history says what it always says');
is( $node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles
		WHERE rolname = 'landlord'"),
	'f', 'the owner of the database is as weak as before');

# A session's own temporary tables are not what the worker sees.
is( $node->safe_psql(
		'owned', "CREATE TEMPORARY TABLE plain ();
		SELECT method FROM bigbrotr_refresher.plan() WHERE view = 'plain'"),
	'merge',
	'the plan is the worker\'s, whatever is in the session that asks');

# Nor does anything run of what a session of a superuser asks there.
$node->safe_psql(
	'owned', q{
	SET search_path = early, pg_catalog, public;
	SET quote_all_identifiers = on;
	TABLE bigbrotr_refresher.views;
	TABLE bigbrotr_refresher.status;
	TABLE bigbrotr_refresher.history;
	SELECT FROM bigbrotr_refresher.plan();
	SELECT FROM bigbrotr_refresher.timeline();
	SELECT FROM bigbrotr_refresher.run(true);
	SELECT bigbrotr_refresher.refresh('public.plain');
	SELECT bigbrotr_refresher.refresh('public.kept')});
is(seen('owned'), "kept|us\nkept|us", 'nor in a session of a superuser');
is( $node->safe_psql(
		'owned', "SELECT count(*) FROM bigbrotr_refresher.history
		WHERE view ~ '\"'"),
	'0',
	'a view has one label, whatever a session has set');

$node->stop;
done_testing();
