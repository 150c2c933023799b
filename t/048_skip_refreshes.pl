# skip_unchanged, and who refreshes: what is done to materialized views below,
# by whatever session, and what the view's own function does.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use SkipCases;
use Skipping;
use Test::More;

my $node = skipping_node('skip_refreshes');
$node->start;

my $chain = q{
	CREATE TABLE t (id int);
	INSERT INTO t VALUES (1), (2), (3);
	CREATE MATERIALIZED VIEW m AS SELECT DISTINCT id FROM t;
	CREATE VIEW w AS SELECT id FROM m;
	CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, max(id) FROM w;
};

# refreshing_if_free(SCHEMA, LOCK, otherwise => SQL, always => SQL): a function that
# refreshes the view "v" if this advisory lock is free, and what else it does.
sub refreshing_if_free
{
	my ($schema, $lock, %sql) = @_;

	return "CREATE FUNCTION v_refresh() RETURNS void LANGUAGE plpgsql
		SET search_path = $schema AS \$\$
		BEGIN
			IF pg_try_advisory_xact_lock($lock) THEN
				REFRESH MATERIALIZED VIEW v;
			ELSE
				@{[ $sql{otherwise} // '' ]}
			END IF;
			@{[ $sql{always} // '' ]}
		END \$\$;";
}

my @cases = (
	# Materialized views below
	[
		chain => $chain . q{CREATE UNIQUE INDEX ON m (id);},
		[ q{INSERT INTO t VALUES (1)}, 'skipped', m => 'refreshed' ],
		[ q{INSERT INTO t VALUES (4)}, 'refreshed', m => 'refreshed' ],
		[ q{DELETE FROM t WHERE id = 2}, 'refreshed', m => 'refreshed' ],
		[ q{CREATE INDEX ON m (id, id)}, 'skipped', m => 'skipped' ]
	],
	[
		chain_plain => $chain,
		[ q{INSERT INTO t VALUES (4)}, 'refreshed', m => 'refreshed' ]
	],
	[
		by_hand => q{
			CREATE TABLE t (id int);
			CREATE SCHEMA apart;
			CREATE MATERIALIZED VIEW apart.m AS SELECT id FROM t;
			CREATE UNIQUE INDEX ON apart.m (id);
			CREATE MATERIALIZED VIEW v AS SELECT id FROM apart.m;
		},
		[ q{INSERT INTO t VALUES (1)}, 'skipped' ],
		[ q{REFRESH MATERIALIZED VIEW apart.m}, 'refreshed' ],
		[ q{REFRESH MATERIALIZED VIEW CONCURRENTLY apart.m}, 'skipped' ],
		[
			q{INSERT INTO t VALUES (2);
			REFRESH MATERIALIZED VIEW CONCURRENTLY apart.m}, 'refreshed'
		],
		[ q{REFRESH MATERIALIZED VIEW v}, 'refreshed' ],
		[ q{}, 'skipped' ],
		[ q{REFRESH MATERIALIZED VIEW v WITH NO DATA}, 'refreshed' ],
		[ q{GRANT SELECT ON v TO public}, 'any' ],
		[ q{}, 'skipped' ]
	],

	# A refresh by a snapshot that is older than the worker's
	[
		repeatable => $plain,
		[
			in_session('repeatable',
				'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t'),
			'skipped'
		],
		[ q{INSERT INTO t VALUES (10)}, 'refreshed' ],
		[ in_session('repeatable', 'REFRESH MATERIALIZED VIEW v; COMMIT'), 'refreshed' ],
		[ q{}, 'skipped' ]
	],
	[
		serializable => $plain . q{CREATE UNIQUE INDEX ON v (id);},
		[
			in_session('serializable',
				'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM t'),
			'skipped'
		],
		[ q{DELETE FROM t WHERE id = 3}, 'refreshed' ],
		[ in_session('serializable', 'REFRESH MATERIALIZED VIEW v'), undef ],
		[ in_session('serializable', 'COMMIT'), 'refreshed' ],
		[ q{}, 'skipped' ]
	],
	[
		repeatable_below => q{
			CREATE TABLE t (id int);
			CREATE SCHEMA apart_too;
			CREATE MATERIALIZED VIEW apart_too.m AS SELECT id FROM t;
			CREATE MATERIALIZED VIEW v AS SELECT id FROM apart_too.m;
		},
		[
			in_session('repeatable_below',
				'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t'),
			'skipped'
		],
		[
			q{INSERT INTO t VALUES (1); REFRESH MATERIALIZED VIEW apart_too.m},
			'refreshed'
		],
		[
			in_session('repeatable_below',
				'REFRESH MATERIALIZED VIEW apart_too.m; COMMIT'),
			'refreshed'
		]
	],

	# A function that refreshes the view, or does not
	[
		by_function => $plain . refreshing_if_free('by_function', 1),
		[ q{INSERT INTO t VALUES (10)}, 'refreshed' ],
		[ holding(1, 'INSERT INTO t VALUES (11)'), undef ],
		[ releasing(1), 'refreshed' ]
	],

	# GRANT writes the same row of a catalog as REFRESH does.
	[
		by_function_grant => $plain . refreshing_if_free(
			'by_function_grant', 2, always => 'GRANT SELECT ON v TO public;'),
		[ q{INSERT INTO t VALUES (10)}, 'refreshed' ],
		[ q{}, 'skipped' ],
		[ holding(2, 'INSERT INTO t VALUES (11)'), undef ],
		[ releasing(2), 'refreshed' ]
	],
	[
		by_function_undone => $plain . q{
			CREATE TABLE undo (done boolean);
			INSERT INTO undo VALUES (false);
			CREATE FUNCTION v_refresh() RETURNS void LANGUAGE plpgsql
			SET search_path = by_function_undone AS $$
			BEGIN
				BEGIN
					REFRESH MATERIALIZED VIEW v;
					IF (SELECT done FROM undo) THEN
						RAISE division_by_zero;
					END IF;
				EXCEPTION WHEN division_by_zero THEN
					GRANT SELECT ON v TO public;
				END;
			END $$;},
		[ q{INSERT INTO t VALUES (10)}, 'refreshed' ],
		[ q{INSERT INTO t VALUES (11); UPDATE undo SET done = true}, undef ],
		[ q{UPDATE undo SET done = false}, 'refreshed' ]
	],
	[
		by_function_settings => $plain . q{
			CREATE TABLE f (x float8);
			INSERT INTO f VALUES (0.1 + 0.2);
			DROP MATERIALIZED VIEW v;
			CREATE MATERIALIZED VIEW v AS SELECT x::text FROM f;
			} . refreshing_if_free(
				'by_function_settings', 3,
				otherwise => q{
					SET LOCAL extra_float_digits = -5;
					REFRESH MATERIALIZED VIEW v;}),
		[ holding(3, 'INSERT INTO f VALUES (1)'), undef ],
		[ releasing(3), 'refreshed' ],
		[ q{}, 'skipped' ]
	],
	[
		by_procedure => $plain . q{
			CREATE PROCEDURE v_refresh() LANGUAGE plpgsql AS $$
			BEGIN
				REFRESH MATERIALIZED VIEW by_procedure.v;
				COMMIT;
				PERFORM 1;
				COMMIT;
			END $$;},
		[ q{INSERT INTO t VALUES (10)}, 'refreshed' ],
		[ q{}, 'skipped' ],
		[ q{DELETE FROM t}, 'refreshed' ],
		[ q{}, 'skipped' ]
	],
	[
		by_procedure_undone => $plain . q{
			CREATE TABLE undo (done boolean);
			INSERT INTO undo VALUES (false);
			CREATE PROCEDURE v_refresh() LANGUAGE plpgsql AS $$
			BEGIN
				REFRESH MATERIALIZED VIEW by_procedure_undone.v;
				IF (SELECT done FROM by_procedure_undone.undo) THEN
					ROLLBACK;
					GRANT SELECT ON by_procedure_undone.v TO public;
				END IF;
			END $$;},
		[ q{INSERT INTO t VALUES (11); UPDATE undo SET done = true}, undef ],
		[ q{UPDATE undo SET done = false}, 'refreshed' ]
	]);

run_cases($node, \@cases, not_listed => [qw(apart apart_too)]);
$node->stop;
done_testing();
