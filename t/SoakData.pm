# What happens to the databases and to what is in them in the soak.

package SoakData;

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use SoakChecks;
use SoakViews;

our @EXPORT = qw(data_events);

# As SoakEvents.pm has them: the weight, the code, and what it needs.
sub data_events
{
	return (
		drop_view => [ 4, \&_drop_view ],
		recreate_view => [ 3, \&_recreate_view ],
		rename_view => [ 3, \&_rename_view ],
		replace_function => [ 5, \&_replace_function ],
		bad_document => [ 2, \&_bad_document ],
		role => [ 4, \&_role, 'alone' ],
		drop_database => [ 3, \&_drop_database, 'alone' ],
		guest => [ 3, \&_guest ],
		writers => [ 3, \&_writers ],
		prepared => [ 3, \&_prepared ],
		locks => [ 5, \&_locks ],
		ddl => [ 4, \&_ddl ],
		deadlock => [ 3, \&_deadlock ],
		maintenance => [ 3, \&_maintenance ],
		delete_history => [ 2, \&_delete_history ],
		break_history => [ 2, \&_break_history ],
		extension => [ 3, \&_extension ]);
}

# ---- views and their functions ---------------------------------------------------

# Choose a view that will not be what it was: its database and its name.
sub _harmed_view
{
	my ($scene) = @_;
	my $database = $scene->a_database;
	my $view = $scene->leaf($database);

	$scene->touch($database, $view);
	$scene->hurt($database, $view);
	lose_rows($scene, $database) if is_marked($view);
	return ($database, $view);
}

sub _drop_view
{
	my ($scene) = @_;
	my ($database, $view) = _harmed_view($scene);
	my $definition =
	  $scene->sql($database, "SELECT soak.definition('$view')");

	$scene->mid_cycle($database);
	$scene->insist($database, "DROP MATERIALIZED VIEW $view");
	$scene->repair_by(sub { $scene->insist($database, $definition) });
	return;
}

# Dropped and made again, with other views running on.
sub _recreate_view
{
	my ($scene) = @_;
	my ($database, $view) = _harmed_view($scene);
	my $definition =
	  $scene->sql($database, "SELECT soak.definition('$view')");

	foreach (1 .. 1 + int($scene->random * 3))
	{
		$scene->mid_cycle($database);
		$scene->insist($database,
			"BEGIN; DROP MATERIALIZED VIEW $view; $definition; COMMIT;");
	}
	return;
}

# What is away may be refreshed as well, and is nobody's business.
sub _rename_view
{
	my ($scene) = @_;
	my ($database, $view) = _harmed_view($scene);
	my ($schema, $name) = $view =~ /^(?:(\w+)\.)?(\w+)$/;
	my $away = ($schema ? "$schema." : '') . "${name}_away";

	$scene->hurt($database, $away);
	$scene->mid_cycle($database);
	$scene->insist($database,
		"ALTER MATERIALIZED VIEW $view RENAME TO ${name}_away");
	$scene->repair_by(
		sub {
			$scene->insist($database,
				"ALTER MATERIALIZED VIEW $away RENAME TO $name");
		});
	return;
}

# A refresh function or procedure becomes another, or is somebody else's.
sub _replace_function
{
	my ($scene) = @_;
	my $database = $scene->a_database;
	my ($view) = grep { !/^soak|^concurrent$/ }
	  map { $scene->leaf($database) } 1 .. 20;

	return unless $view;
	my $function = "${view}_refresh";
	my $definition = $scene->sql($database,
		"SELECT pg_get_functiondef('$function'::regproc)");
	my %ways = (
		'raises an error' => [ 1, "CREATE PROCEDURE $function() LANGUAGE plpgsql
			AS 'BEGIN INSERT INTO soak.marker VALUES (''broken'');
				RAISE EXCEPTION ''soak''; END'" ],
		'commits, then raises an error' => [ 1, "CREATE PROCEDURE $function()
			LANGUAGE plpgsql AS 'BEGIN COMMIT; PERFORM 1 / 0; END'" ],
		'commits' => [ 0, "CREATE PROCEDURE $function() LANGUAGE plpgsql
			AS 'BEGIN COMMIT; "
			  . (is_marked($view)
				? "PERFORM soak.mark(''$view'')"
				: "REFRESH MATERIALIZED VIEW $view; COMMIT") . "; END'" ]);

	# The view is refreshed without it then, and would not be marked.
	%ways = (
		%ways,
		'is gone' => [ 0, '' ],
		'is of somebody weak' => [ 1, "CREATE FUNCTION $function()
			RETURNS void LANGUAGE sql AS '';
			ALTER FUNCTION $function() OWNER TO writer" ],
		'does nothing' => [ 0, "CREATE FUNCTION $function() RETURNS void
			LANGUAGE sql AS ''" ])
	  unless is_marked($view);
	my $way = $scene->pick(sort keys %ways);

	$scene->touch($database, $view);
	$scene->said("whose function $way");
	$scene->hurt($database, $view) if $ways{$way}[0];

	# Between two calls a function is dropped and made by others as well.
	$scene->mid_cycle($database);
	$scene->insist($database,
		"BEGIN; DROP ROUTINE $function; $ways{$way}[1]; COMMIT;");
	$scene->repair_by(
		sub {
			$scene->insist($database,
				"BEGIN; DROP ROUTINE IF EXISTS $function; $definition; COMMIT;");
		});
	return;
}

sub _bad_document
{
	my ($scene) = @_;
	my $demo = dirname(__FILE__) . '/../demo';

	return if $scene->{touched}{'bigbrotr supported_nip_counts'};
	$scene->touch('bigbrotr', 'supported_nip_counts');
	$scene->hurt('bigbrotr', 'supported_nip_counts');
	$scene->insist('bigbrotr', slurp_file("$demo/break.sql"));
	$scene->repair_by(
		sub { $scene->insist('bigbrotr', slurp_file("$demo/mend.sql")) });
	return;
}

# ---- roles and databases -------------------------------------------------------------

# What can happen to the role depends on which it is.  That needs a restart to
# be another; so do that now and then as well.
sub _role
{
	my ($scene) = @_;
	my $role = $scene->{settings}{role};
	my %ways = (
		'' => ["ALTER DATABASE bigbrotr SET default_transaction_read_only = on",
			'ALTER DATABASE bigbrotr RESET default_transaction_read_only'],
		agent => $scene->pick(
			[ 'DROP ROLE agent', 'CREATE ROLE agent LOGIN SUPERUSER' ],
			[ 'ALTER ROLE agent NOSUPERUSER', 'ALTER ROLE agent SUPERUSER' ]),
		refresher => $scene->pick(
			[ 'ALTER ROLE refresher NOLOGIN', 'ALTER ROLE refresher LOGIN' ],
			[ 'REVOKE TEMPORARY ON DATABASE bigbrotr FROM PUBLIC, refresher',
				'GRANT TEMPORARY ON DATABASE bigbrotr TO PUBLIC, refresher' ],
			[ 'ALTER ROLE refresher RENAME TO refresher_away',
				'ALTER ROLE refresher_away RENAME TO refresher' ],
			[ 'REVOKE ALL ON event FROM refresher',
				'GRANT SELECT ON event TO refresher' ],
			[ 'ALTER MATERIALIZED VIEW plain OWNER TO writer',
				'ALTER MATERIALIZED VIEW plain OWNER TO refresher' ]));
	my ($harm, $cure) = @{ $ways{$role} };

	if ($scene->chance(0.4))
	{
		$scene->{settings}{role} = $scene->pick('', 'agent', 'refresher');
		$scene->write_settings($scene->node);
		$scene->said("from $role to $scene->{settings}{role}");
		return $scene->restart('fast');
	}
	$scene->said($harm);
	$scene->hurt_all unless $role eq '';
	$scene->mid_cycle('bigbrotr');
	$scene->insist('bigbrotr', $harm);
	if ($scene->chance(0.5))
	{
		$scene->said('and another worker');
		$scene->sql('postgres', "SELECT pg_terminate_backend($_)")
		  foreach $scene->pids('bigbrotr_refresher');
	}
	$scene->linger(3);

	# Where a default is read-only, only the worker may not care.
	$scene->repair_by(
		sub {
			$scene->insist('bigbrotr',
				"SET default_transaction_read_only = off; $cure");
		});
	return;
}

sub _drop_database
{
	my ($scene) = @_;

	$scene->hurt('shop', '*');
	lose_rows($scene, 'shop');
	$scene->mid_cycle('shop');
	$scene->insist('postgres', 'DROP DATABASE shop WITH (FORCE)');
	$scene->linger(2);
	$scene->repair_by(sub { make_database($scene, 'shop') });
	return;
}

# A database that comes, has settings of its own, gets another name, and goes
sub _guest
{
	my ($scene) = @_;
	my $name = $scene->pick('guest', 'visitor');

	my $leave = sub {
		$scene->insist('postgres', "DROP DATABASE IF EXISTS $_ WITH (FORCE)")
		  foreach ('guest', 'visitor');
	};

	# One may be there that came in the same burst.
	$leave->();
	$scene->insist('postgres', 'CREATE DATABASE guest');
	$scene->repair_by(
		sub {
			$scene->set(databases => 'bigbrotr, shop');
			$leave->();
		});
	$scene->insist('guest', q{
		CREATE EXTENSION bigbrotr_refresher;
		CREATE TABLE seen (at timestamptz);
		CREATE FUNCTION seen_refresh() RETURNS void
		LANGUAGE sql SECURITY DEFINER
		AS 'INSERT INTO public.seen VALUES (clock_timestamp())'});
	$scene->insist('postgres', "ALTER DATABASE guest SET bigbrotr_refresher.$_")
	  foreach ("views = 'seen'", "interval = '" . $scene->pick('1s', '70s') . "'");
	$scene->set(databases => "bigbrotr, shop, $name");
	$scene->insist('postgres', 'ALTER DATABASE guest RENAME TO visitor')
	  if $name eq 'visitor';
	$scene->await_sql('the guest is served', $name,
		'SELECT count(*) > 0 FROM seen')
	  if !$scene->{hurt}{bigbrotr}{'*'};
	$scene->said($name);
	if ($scene->chance(0.5))
	{
		$scene->insist('postgres',
			"ALTER DATABASE $name SET bigbrotr_refresher.enabled = off");
		$scene->linger(0.5);
	}
	return;
}

# ---- what others do -----------------------------------------------------------------------

# Sessions that hold locks for a while, on tables, views and the history.
sub _locks
{
	my ($scene) = @_;
	my $database = $scene->a_database;

	lose_rows($scene, $database);
	$scene->hurt($database, '*');
	foreach (1 .. 1 + int($scene->random * 3))
	{
		my $mode = $scene->pick('ACCESS EXCLUSIVE', 'ROW EXCLUSIVE', 'EXCLUSIVE',
			'SHARE');
		my @tables = qw(bigbrotr_refresher.history bigbrotr_refresher.view_state
		  bigbrotr_refresher.windows soak.a soak.b soak.marker soak.by_xid);

		push @tables, qw(event event_relay relay metadata event_p3)
		  if $database eq 'bigbrotr';
		my $view = $scene->leaf($database);
		my $statement = $scene->pick(
			"LOCK TABLE " . $scene->pick(@tables) . " IN $mode MODE",
			"LOCK TABLE " . $scene->pick(@tables) . " IN $mode MODE",
			"SELECT count(*) FROM $view",
			"DROP MATERIALIZED VIEW $view CASCADE",
			"REFRESH MATERIALIZED VIEW $view");

		$scene->said($statement);
		$scene->begin($database, 'BEGIN', $statement,
			'SELECT pg_sleep(' . sprintf('%.2f', $scene->random * 2) . ')',
			'ROLLBACK');
	}
	return;
}

# Transactions that are on their way for long, so that windows have to wait
sub _writers
{
	my ($scene) = @_;
	my $database = $scene->a_database;

	foreach (1 .. 1 + int($scene->random * 4))
	{
		my $hidden = $scene->chance(0.3) ? 'off' : 'on';
		my $end = $scene->pick('COMMIT', 'COMMIT', 'ROLLBACK');

		$scene->begin(
			$database, "SET track_activities = $hidden",
			'BEGIN', 'SELECT soak.write(8)',
			'SELECT pg_sleep(' . sprintf('%.2f', $scene->random * 3) . ')',
			'SELECT soak.write(9, 3)', $end);
	}
	$scene->mid_cycle($database);
	return;
}

# A transaction that is in no process for a while
sub _prepared
{
	my ($scene) = @_;
	my $name = 'soak_' . ++$scene->{names};
	my $end = $scene->pick('COMMIT', 'COMMIT', 'ROLLBACK');
	$scene->try('bigbrotr',
		"BEGIN; SELECT soak.write(10, 3); PREPARE TRANSACTION '$name'");

	# Whoever was told that the server is gone may have been faster.
	$scene->repair_by(
		sub {
			$scene->insist('bigbrotr', "
				SELECT format('$end PREPARED %L', gid) FROM pg_prepared_xacts
				WHERE gid = '$name'
				\\gexec\n");
		});
	$scene->said($end);
	$scene->mid_cycle('bigbrotr');
	return;
}

# Tables change in ways that views do not mind.
sub _ddl
{
	my ($scene) = @_;
	my $table = $scene->pick(qw(relay event event_relay metadata relay_metadata));
	my $name = 'soak_' . ++$scene->{names};
	my $n = int($scene->random * 10);
	my ($harm, $cure) = @{ $scene->pick(
			[ "ALTER TABLE $table ADD COLUMN $name int DEFAULT 1",
				"ALTER TABLE $table DROP COLUMN $name" ],
			[ "CREATE INDEX $name ON $table ((true))", "DROP INDEX $name" ],
			[ "CREATE UNIQUE INDEX $name ON events_addressable_latest
				(pubkey, kind, d_tag)", "DROP INDEX $name" ],
			[ "ALTER TABLE $table ADD CONSTRAINT $name CHECK (true)",
				"ALTER TABLE $table DROP CONSTRAINT $name" ],
			[ "CREATE VIEW $name AS SELECT * FROM pubkey_counts_by_relay",
				"DROP VIEW $name" ],
			[ "CREATE OR REPLACE VIEW soak.between AS
				SELECT n + $n AS n FROM soak.\"Odd; name\"", 'SELECT' ]) };

	$scene->said($harm =~ s/\s+/ /gr);
	$scene->mid_cycle('bigbrotr');
	$scene->insist('bigbrotr', $harm);
	$scene->repair_by(sub { $scene->insist('bigbrotr', $cure) });
	return;
}

# Sessions that lock what a view's function locks, the other way round.  Either
# may be the one that fails.
sub _deadlock
{
	my ($scene) = @_;
	my $database = $scene->a_database;

	$scene->hurt($database, 'locks');
	$scene->mid_cycle($database);
	foreach (1 .. 3)
	{
		$scene->begin($database,
			map { ('BEGIN', 'LOCK TABLE soak.b IN EXCLUSIVE MODE',
					'SELECT pg_sleep(0.1)',
					'LOCK TABLE soak.a IN EXCLUSIVE MODE', 'ROLLBACK') } 1 .. 5);
		$scene->linger(0.5);
	}
	return;
}

sub _maintenance
{
	my ($scene) = @_;
	my $database = $scene->a_database;
	my $view = $scene->leaf($database);

	$scene->hurt($database, '*');
	foreach (1 .. 1 + int($scene->random * 3))
	{
		my $statement = $scene->pick(
			"VACUUM FULL $view", 'VACUUM FULL bigbrotr_refresher.history',
			'VACUUM FULL pg_class', 'VACUUM (FREEZE, ANALYZE)',
			'ANALYZE', 'CHECKPOINT',
			'SELECT pg_stat_reset()', 'SELECT pg_switch_wal()',
			'REINDEX TABLE bigbrotr_refresher.history',
			'REINDEX TABLE pg_class');

		$scene->said($statement);
		$scene->begin($database, $statement);
		$scene->linger(0.5);
	}
	return;
}

# ---- the history and the extension -----------------------------------------------------------

sub _delete_history
{
	my ($scene) = @_;
	my $database = $scene->a_database;

	return if $scene->{broken_history}{$database};
	my $statement = $scene->pick(
		'TRUNCATE bigbrotr_refresher.history',
		'TRUNCATE bigbrotr_refresher.view_state',
		'DELETE FROM bigbrotr_refresher.history WHERE id % 3 = 0',
		'DELETE FROM bigbrotr_refresher.history');

	$scene->said("$statement in $database");
	lose_rows($scene, $database);
	$scene->mid_cycle($database);
	$scene->insist($database, $statement);
	return;
}

# Trouble with the table costs rows, never a refresh.
sub _break_history
{
	my ($scene) = @_;
	my $database = $scene->a_database;
	my ($harm, $cure) = @{ $scene->pick(
			[ 'ALTER TABLE bigbrotr_refresher.history
				ADD CONSTRAINT soak CHECK (view < \'k\') NOT VALID',
				'ALTER TABLE bigbrotr_refresher.history DROP CONSTRAINT soak' ],
			[ 'ALTER TABLE bigbrotr_refresher.history RENAME outcome TO away',
				'ALTER TABLE bigbrotr_refresher.history RENAME away TO outcome'
			]) };

	return if $scene->{broken_history}{$database};
	$scene->{broken_history}{$database} = 1;
	$scene->said(($harm =~ s/\s+/ /gr) . " in $database");
	lose_rows($scene, $database);
	$scene->hurt($database, '*');
	$scene->mid_cycle($database);
	$scene->insist($database, $harm);
	$scene->linger(2);
	$scene->repair_by(
		sub {
			$scene->{broken_history}{$database} = 0;
			$scene->insist($database, $cure);
		});
	return;
}

# The extension goes, and comes again now or later.
sub _extension
{
	my ($scene) = @_;
	my $database = $scene->a_database;
	my $drop = 'DROP EXTENSION bigbrotr_refresher';

	return if $scene->{broken_history}{$database};
	lose_rows($scene, $database);
	$scene->hurt($database, '*');
	$scene->mid_cycle($database);
	if ($scene->chance(0.4))
	{
		$scene->said("at once, in $database");
		return $scene->insist($database, extension_sql() =~ s/BEGIN;/BEGIN; $drop;/r);
	}
	$scene->said("in $database");
	$scene->{broken_history}{$database} = 1;
	$scene->insist($database, $drop);
	$scene->linger(2);
	$scene->repair_by(
		sub {
			$scene->{broken_history}{$database} = 0;
			make_extension($scene, $database);
		});
	return;
}

1;
