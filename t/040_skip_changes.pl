# skip_unchanged, one kind of change after the other: a view is refreshed in
# the next cycle when something that it reads has changed, and skipped when
# nothing has.

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

my $node =
  skipping_node('skip_changes', max_prepared_transactions => 10);
$node->start;

my $major = $node->safe_psql('postgres',
	"SELECT current_setting('server_version_num')::int / 10000");

my $partitioned = q{
	CREATE TABLE t (id int, a text, unused int) PARTITION BY RANGE (id);
	CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
	CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)
		PARTITION BY LIST (id);
	CREATE TABLE t21 PARTITION OF t2 FOR VALUES IN (11, 12);
	CREATE TABLE t22 PARTITION OF t2 DEFAULT;
	CREATE TABLE t3 (id int, a text, unused int);
	INSERT INTO t VALUES (1, 'a'), (2, 'b'), (11, 'c'), (15, 'd');
	INSERT INTO t3 VALUES (21, 'e');
	CREATE MATERIALIZED VIEW v AS SELECT id, a FROM t;
};

my $inherited = q{
	CREATE TABLE t (id int, a text);
	CREATE TABLE c1 () INHERITS (t);
	CREATE TABLE c2 (id int, a text);
	INSERT INTO t VALUES (1, 'a');
	INSERT INTO c1 VALUES (2, 'b');
	INSERT INTO c2 VALUES (3, 'c');
	CREATE MATERIALIZED VIEW v AS SELECT id, a FROM t;
};

my $middle = q{
	CREATE TABLE t (id int, a text);
	INSERT INTO t VALUES (1, 'a'), (2, 'b');
	CREATE VIEW w1 AS SELECT id, a FROM t;
	CREATE VIEW w2 AS SELECT id, a FROM w1;
	CREATE MATERIALIZED VIEW v AS SELECT id, a FROM w2;
};

my @cases = (
	# DML
	[ insert => $plain, [ q{INSERT INTO t VALUES (10)}, 'refreshed' ] ],
	[
		update => $plain,
		[ q{UPDATE t SET a = 'new' WHERE id = 3}, 'refreshed' ],
		[ q{UPDATE t SET a = 'new' WHERE id = 30}, 'skipped' ],
		[ q{UPDATE t SET a = a WHERE id = 3}, 'any' ]
	],
	[
		delete => $plain,
		[ q{DELETE FROM t WHERE id = 3}, 'refreshed' ],
		[ q{DELETE FROM t WHERE id = 3}, 'skipped' ],
		[ q{DELETE FROM t}, 'refreshed' ]
	],
	[
		put_back => $plain,
		[
			q{BEGIN; DELETE FROM t WHERE id = 3;
			INSERT INTO t VALUES (3, 'other'); COMMIT}, 'refreshed'
		]
	],
	[ copy => $plain, [ "COPY t FROM STDIN;\n10\tx\t1\n\\.\n", 'refreshed' ] ],
	[
		copy_freeze => $plain,
		[
			"BEGIN;\nTRUNCATE t;\nCOPY t FROM STDIN (FREEZE);\n"
			  . "10\tx\t1\n\\.\nCOMMIT;\n",
			'refreshed'
		]
	],
	[
		merge => $plain,
		[
			q{MERGE INTO t USING (VALUES (1), (10)) AS s (id) ON t.id = s.id
			WHEN MATCHED THEN DELETE
			WHEN NOT MATCHED THEN INSERT VALUES (s.id)}, 'refreshed'
		],
		[
			q{MERGE INTO t USING (VALUES (2)) AS s (id) ON t.id = s.id
			WHEN MATCHED THEN UPDATE SET a = 'merged'}, 'refreshed'
		],
		[
			q{MERGE INTO t USING (VALUES (2)) AS s (id) ON t.id = s.id
			WHEN MATCHED THEN DO NOTHING}, 'skipped'
		]
	],
	[
		upsert => $plain,
		[
			q{INSERT INTO t VALUES (1, 'x') ON CONFLICT (id)
			DO UPDATE SET a = excluded.a}, 'refreshed'
		],
		[
			q{INSERT INTO t VALUES (1, 'x') ON CONFLICT DO NOTHING}, 'skipped'
		]
	],
	[
		toast => q{
			CREATE TABLE t (id int, a text);
			ALTER TABLE t ALTER a SET STORAGE EXTERNAL;
			INSERT INTO t VALUES (1, repeat('x', 10000));
			CREATE MATERIALIZED VIEW v AS SELECT id, a FROM t;
		},
		[ q{UPDATE t SET a = repeat('y', 10000)}, 'refreshed' ]
	],
	[
		trigger => q{
			CREATE TABLE s (id int);
			CREATE TABLE t (id int);
			CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql
			SET search_path = trigger
			AS 'BEGIN INSERT INTO t VALUES (new.id); RETURN NULL; END';
			CREATE TRIGGER f AFTER INSERT ON s FOR EACH ROW EXECUTE FUNCTION f();
			CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
		},
		[ q{INSERT INTO s VALUES (1)}, 'refreshed' ]
	],
	[
		cascade => q{
			CREATE TABLE p (id int PRIMARY KEY);
			CREATE TABLE t (id int REFERENCES p ON DELETE CASCADE);
			INSERT INTO p VALUES (1), (2);
			INSERT INTO t VALUES (1);
			CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
		},
		[ q{DELETE FROM p WHERE id = 2}, 'skipped' ],
		[ q{DELETE FROM p WHERE id = 1}, 'refreshed' ]
	],
	[
		referenced => q{
			CREATE TABLE t (id int PRIMARY KEY);
			CREATE TABLE r (id int REFERENCES t);
			INSERT INTO t VALUES (1), (2);
			CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
		},
		[ q{INSERT INTO r VALUES (1)}, 'skipped' ]
	],
	[
		unlogged => q{
			CREATE UNLOGGED TABLE t (id int);
			CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
		},
		[ q{INSERT INTO t VALUES (1)}, 'refreshed' ],
		[ q{ALTER TABLE t SET LOGGED}, 'refreshed' ]
	],
	[
		commits => $plain
		  . q{CREATE PROCEDURE p() LANGUAGE plpgsql AS $$
			BEGIN
				INSERT INTO commits.t VALUES (10);
				COMMIT;
				INSERT INTO commits.t VALUES (11);
				ROLLBACK;
			END $$;},
		[ q{CALL p()}, 'refreshed' ]
	],

	# Transactions that end otherwise
	[
		rollback => $plain,
		[ q{BEGIN; INSERT INTO t VALUES (10); ROLLBACK}, 'any' ],
		[ q{BEGIN; TRUNCATE t; ROLLBACK}, 'any' ]
	],
	[
		savepoint => $plain,
		[
			q{BEGIN; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT}, 'any'
		],
		[
			q{BEGIN; INSERT INTO t VALUES (10); SAVEPOINT s; DELETE FROM t;
			ROLLBACK TO s; COMMIT}, 'refreshed'
		],
		[
			q{BEGIN; INSERT INTO t VALUES (11); SAVEPOINT s; TRUNCATE t;
			ROLLBACK TO s; COMMIT}, 'refreshed'
		],
		[
			q{BEGIN; SAVEPOINT s; INSERT INTO t VALUES (12); RELEASE s; COMMIT},
			'refreshed'
		],
		[
			q{BEGIN; INSERT INTO t VALUES (13); SAVEPOINT s; TRUNCATE t;
			RELEASE s; COMMIT}, 'refreshed'
		]
	],
	[
		two_phase => $plain,
		[
			q{BEGIN; INSERT INTO t VALUES (10); PREPARE TRANSACTION 'one'},
			'skipped'
		],
		[ q{COMMIT PREPARED 'one'}, 'refreshed' ],
		[
			q{BEGIN; TRUNCATE t; PREPARE TRANSACTION 'two';
			ROLLBACK PREPARED 'two'}, 'any'
		],
		[
			q{BEGIN; DELETE FROM t WHERE id = 1; PREPARE TRANSACTION 'three'},
			'skipped'
		],
		[ q{COMMIT PREPARED 'three'}, 'refreshed' ]
	],
	[
		long => $plain,
		[ in_session('long', 'BEGIN; INSERT INTO t VALUES (10)'), 'skipped' ],
		[ q{INSERT INTO t VALUES (11)}, 'refreshed' ],
		[ in_session('long', 'COMMIT'), 'refreshed' ]
	],

	# The file
	[
		truncate => $plain,
		[ q{TRUNCATE t}, 'refreshed' ],
		[
			q{BEGIN; INSERT INTO t VALUES (1); TRUNCATE t; COMMIT},
			'refreshed'
		],
		[
			q{BEGIN; TRUNCATE t; INSERT INTO t VALUES (2); COMMIT},
			'refreshed'
		]
	],
	[
		rewrite => $plain,
		[ q{ALTER TABLE t ALTER unused TYPE bigint}, 'refreshed' ],
		[
			q{ALTER TABLE t ADD x double precision DEFAULT random()},
			'refreshed'
		],
		[ q{ALTER TABLE t SET UNLOGGED}, 'refreshed' ]
	],
	[ enum => q{
			CREATE TYPE mood AS ENUM ('sad', 'happy');
			CREATE TABLE t (m mood);
			INSERT INTO t VALUES ('happy'), ('sad');
			CREATE MATERIALIZED VIEW v AS SELECT m, rank() OVER (ORDER BY m) FROM t;
		},
		[ q{ALTER TYPE mood ADD VALUE 'fine' BEFORE 'happy'}, 'any' ],
		[ q{ALTER TYPE mood RENAME VALUE 'fine' TO 'well'}, 'any' ],
		[ q{INSERT INTO t VALUES ('well')}, 'refreshed' ]
	],
	[ cluster => $plain, [ q{CLUSTER t USING t_pkey}, 'refreshed' ] ],
	[ vacuum_full => $plain, [ q{VACUUM FULL t}, 'refreshed' ] ],
	[
		maintained => $plain . q{DELETE FROM t WHERE id > 5;},
		[ q{VACUUM t}, 'skipped' ],
		[ q{ANALYZE t}, 'skipped' ],
		[ q{VACUUM (ANALYZE, FREEZE) t}, 'skipped' ],
		[ q{REINDEX TABLE t}, 'skipped' ],
		[ q{VACUUM (ANALYZE) v}, 'skipped' ]
	],
	[
		locked => $plain,
		[ q{BEGIN; LOCK TABLE t; COMMIT}, 'skipped' ],
		[ q{SELECT id FROM t FOR UPDATE}, 'skipped' ],
		[ q{SELECT count(*) FROM t}, 'skipped' ],
		[ in_session('locked', 'BEGIN; LOCK TABLE t IN EXCLUSIVE MODE'), 'skipped' ],
		[ in_session('locked', 'COMMIT'), 'skipped' ]
	],
	[
		altered => $plain,
		[ q{ALTER TABLE t ADD x int DEFAULT 7}, 'any' ],
		[ q{ALTER TABLE t RENAME a TO b}, 'any' ],
		[ q{ALTER TABLE t RENAME TO u}, 'any' ],
		[ q{ALTER TABLE u DROP unused}, 'any' ],
		[ q{CREATE TABLE t (id int); INSERT INTO t VALUES (1)}, 'skipped' ],
		[ q{INSERT INTO u VALUES (10)}, 'refreshed' ]
	],
	[
		elsewhere => $plain . q{CREATE TABLE u (id int);},
		[ q{INSERT INTO u VALUES (1)}, 'skipped' ],
		[ q{DROP TABLE u}, 'skipped' ]
	],

	# Partitions
	[
		partition_rows => $partitioned,
		[ q{INSERT INTO t VALUES (3)}, 'refreshed' ],
		[ q{INSERT INTO t21 VALUES (12)}, 'refreshed' ],
		[ q{DELETE FROM t WHERE id = 15}, 'refreshed' ],
		[ q{UPDATE t SET id = 16 WHERE id = 1}, 'refreshed' ],
		[ q{INSERT INTO t3 VALUES (22)}, 'skipped' ]
	],
	[ partition_truncated => $partitioned, [ q{TRUNCATE t21}, 'refreshed' ] ],
	[
		partition_attached => $partitioned,
		[
			q{ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (20) TO (30)},
			'refreshed'
		],
		[ q{UPDATE t SET a = 'new' WHERE id = 21}, 'refreshed' ],
		[ q{ALTER TABLE t DETACH PARTITION t3}, 'refreshed' ],
		[ q{UPDATE t3 SET a = 'newer'}, 'skipped' ]
	],
	[
		partition_detached => $partitioned,
		[ q{ALTER TABLE t DETACH PARTITION t1 CONCURRENTLY}, 'refreshed' ],
		[ q{ALTER TABLE t2 DETACH PARTITION t21}, 'refreshed' ],
		[ q{ALTER TABLE t2 DETACH PARTITION t22}, 'refreshed' ]
	],
	[ partition_dropped => $partitioned, [ q{DROP TABLE t22}, 'refreshed' ] ],
	[
		partition_made => $partitioned,
		[
			q{CREATE TABLE t4 PARTITION OF t FOR VALUES FROM (40) TO (50);
			INSERT INTO t VALUES (41)}, 'refreshed'
		]
	],
	[
		partition_rewritten => $partitioned,
		[ q{ALTER TABLE t ALTER unused TYPE bigint}, 'refreshed' ],
		[ q{VACUUM FULL t21}, 'refreshed' ]
	],
	[
		partition_exchanged => $partitioned,
		[
			q{BEGIN;
			CREATE TABLE new (LIKE t1);
			INSERT INTO new VALUES (1, 'z');
			ALTER TABLE t DETACH PARTITION t1;
			ALTER TABLE t ATTACH PARTITION new FOR VALUES FROM (0) TO (10);
			COMMIT}, 'refreshed'
		]
	],
	[
		partition_columns => $partitioned,
		[
			q{BEGIN;
			ALTER TABLE t DETACH PARTITION t1;
			ALTER TABLE t1 DROP a;
			ALTER TABLE t1 ADD a text DEFAULT 'z';
			ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10);
			COMMIT}, 'refreshed'
		]
	],
	[
		# No row of either changes, only whose partition it is.
		partition_moved => q{
			CREATE TABLE t (id int) PARTITION BY LIST (id);
			CREATE TABLE u (id int) PARTITION BY LIST (id);
			CREATE TABLE p PARTITION OF t FOR VALUES IN (1);
			INSERT INTO t VALUES (1);
			CREATE MATERIALIZED VIEW v AS
				SELECT 't' AS what, id FROM t UNION ALL SELECT 'u', id FROM u;
		},
		[
			q{BEGIN; ALTER TABLE t DETACH PARTITION p;
			ALTER TABLE u ATTACH PARTITION p FOR VALUES IN (1); COMMIT},
			'refreshed'
		]
	],

	# Other children
	[
		inherited_rows => $inherited,
		[ q{INSERT INTO c1 VALUES (4)}, 'refreshed' ],
		[ q{TRUNCATE c1}, 'refreshed' ],
		[ q{INSERT INTO c2 VALUES (5)}, 'skipped' ]
	],
	[
		inherited_added => $inherited,
		[ q{ALTER TABLE c2 INHERIT t}, 'refreshed' ],
		[ q{INSERT INTO c2 VALUES (6)}, 'refreshed' ],
		[ q{ALTER TABLE c2 NO INHERIT t}, 'refreshed' ],
		[ q{INSERT INTO c2 VALUES (7)}, 'skipped' ],
		[
			q{CREATE TABLE c3 () INHERITS (c1); INSERT INTO c3 VALUES (8)},
			'refreshed'
		],
		[ q{DROP TABLE c3}, 'refreshed' ]
	],
	[
		inherited_first => q{
			CREATE TABLE t (id int);
			CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
		},
		[
			q{CREATE TABLE c () INHERITS (t); INSERT INTO c VALUES (1)},
			'refreshed'
		]
	],
	[
		inherited_only => q{
			CREATE TABLE t (id int);
			CREATE TABLE c () INHERITS (t);
			CREATE MATERIALIZED VIEW v AS SELECT id FROM ONLY t;
		},
		[ q{INSERT INTO c VALUES (1)}, 'skipped' ],
		[ q{INSERT INTO t VALUES (1)}, 'refreshed' ]
	],
	[
		inherited_columns => q{
			CREATE TABLE t (id int, a int);
			CREATE TABLE c () INHERITS (t);
			INSERT INTO c VALUES (1, 100);
			CREATE MATERIALIZED VIEW v AS SELECT id, a FROM t;
		},
		[
			q{BEGIN;
			ALTER TABLE c NO INHERIT t;
			ALTER TABLE c RENAME id TO x;
			ALTER TABLE c RENAME a TO id;
			ALTER TABLE c RENAME x TO a;
			ALTER TABLE c INHERIT t;
			COMMIT}, 'refreshed'
		]
	],

	# What stands between
	[
		replaced => $middle,
		[
			q{CREATE OR REPLACE VIEW w1 AS SELECT id + 1 AS id, a FROM t},
			'refreshed'
		],
		[
			q{CREATE OR REPLACE VIEW w2 AS SELECT id, a FROM w1 WHERE id = 2},
			'refreshed'
		],
		[ q{ALTER VIEW w1 RENAME TO w3}, 'any' ],
		[ q{INSERT INTO t VALUES (3)}, 'refreshed' ]
	],
	[
		reads_another => $middle . q{
			CREATE TABLE u (id int, a text);
			INSERT INTO u VALUES (10, 'u');},
		[ q{INSERT INTO u VALUES (11)}, 'skipped' ],
		[
			q{CREATE OR REPLACE VIEW w1 AS SELECT id, a FROM u}, 'refreshed'
		],
		[ q{INSERT INTO t VALUES (3)}, 'skipped' ],
		[ q{INSERT INTO u VALUES (12)}, 'refreshed' ]
	],
	[
		remade => $middle,
		[
			q{SET client_min_messages = warning;
			BEGIN; DROP VIEW w2 CASCADE;
			CREATE VIEW w2 AS SELECT id, a FROM w1;
			CREATE MATERIALIZED VIEW v AS SELECT id, a FROM w2; COMMIT},
			'refreshed'
		],
		[
			q{BEGIN; DROP MATERIALIZED VIEW v;
			CREATE MATERIALIZED VIEW v AS SELECT id FROM w2; COMMIT},
			'refreshed'
		]
	],

	# What cannot be known
	[
		row_type => q{
			CREATE TYPE c AS (a int, b int);
			CREATE TABLE t (c c);
			INSERT INTO t VALUES ((1, 1)), ((1, 2));
			CREATE MATERIALIZED VIEW v AS SELECT count(DISTINCT c) FROM t;
		},
		[ q{ALTER TYPE c DROP ATTRIBUTE b}, 'refreshed' ]
	],
	[
		locks => q{
			CREATE TABLE t (id int);
			INSERT INTO t VALUES (1), (2);
			CREATE MATERIALIZED VIEW v AS
				SELECT id FROM (SELECT id FROM t FOR UPDATE SKIP LOCKED) AS s;
		},
		[ in_session('locks', 'BEGIN; SELECT id FROM t WHERE id = 1 FOR UPDATE'), undef ],
		[ in_session('locks', 'COMMIT'), 'refreshed' ]
	],
	[
		kept_elsewhere => q{
			CREATE TABLE t (id int);
			CREATE FUNCTION divert() RETURNS trigger LANGUAGE plpgsql
			AS 'BEGIN RETURN new; END';
			CREATE TRIGGER divert BEFORE INSERT ON t
				FOR EACH ROW EXECUTE FUNCTION divert();
			SET allow_system_table_mods = on;
			UPDATE pg_trigger SET tgisinternal = true
				WHERE tgrelid = 't'::regclass;
			CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
		},
		[ q{SET track_counts = off; INSERT INTO t VALUES (1)}, 'refreshed' ]
	],
	[
		row_security => $plain,
		[ q{ALTER TABLE t ENABLE ROW LEVEL SECURITY}, 'refreshed' ],
		[ q{}, 'refreshed' ],
		[ q{ALTER TABLE t DISABLE ROW LEVEL SECURITY}, 'refreshed' ]
	]);

if ($major >= 18)
{
	push @cases,
	  [
		virtual_column => q{
			CREATE TABLE t (id int, a int GENERATED ALWAYS AS (id + 1) VIRTUAL);
			INSERT INTO t VALUES (1);
			CREATE MATERIALIZED VIEW v AS SELECT id, a FROM t;
		},
		[
			q{ALTER TABLE t ALTER a SET EXPRESSION AS (id + 2)}, 'refreshed'
		]
	  ];
}

run_cases(
	$node, \@cases,
	never => [qw(virtual_column row_type locks kept_elsewhere)]);
$node->stop;
done_testing();
