# Merging, at random: views of all kinds, with indexes of all kinds, over tables
# that change in all ways.  After each merge the view must have exactly the rows
# of its query, its indexes must agree with them, and a merge must fail exactly
# where a plain REFRESH of a twin fails.
#
# BIGBROTR_REFRESHER_RANDOM_SEED repeats a run, BIGBROTR_REFRESHER_RANDOM_SECONDS
# says for how long to go on, or BIGBROTR_REFRESHER_RANDOM_CASES for how many
# views.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Merging;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{BIGBROTR_REFRESHER_RANDOM_SECONDS} // 30;
my $wanted = $ENV{BIGBROTR_REFRESHER_RANDOM_CASES} // 0;

srand(random_seed());

my $node = merging_node('merge_random', log_temp_files => 0);
$node->start;
make_checks($node);

sub pick
{
	return $_[ rand @_ ];
}

sub chance
{
	my ($part) = @_;

	return rand() < $part;
}

# ---- tables ------------------------------------------------------------------------

# A collation for which "a" and "A" are equal, if the server has ICU.
my $collation =
  $node->safe_psql('postgres',
	"SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'") eq 't'
  ? 'same_case'
  : '"C"';
$node->safe_psql('postgres',
	"CREATE COLLATION same_case (provider = icu, locale = 'und-u-ks-level2',
		deterministic = false)") if $collation eq 'same_case';

# Of each type: values, and what one can do with it
my %type = (
	int => { values => [ map { "($_)" } -2 .. 20 ], sorts => 1 },
	text => {
		values =>
		  [ map { "'$_'" } '', 'a', 'A', 'b', 'B', 'ab', 'a ', 'aB' ],
		sorts => 1
	},
	"text COLLATE $collation" => {
		values => [ map { "'$_'" } 'a', 'A', 'b', 'B', 'c', 'C' ],
		sorts => 1
	},
	big => {
		type => 'text',
		values => [
			map {
				(   "repeat('$_', 3000)",
					"(SELECT string_agg(md5('$_' || i), '')
					 FROM generate_series(1, 200) AS i)")
			} 'a' .. 'e'
		]
	},
	numeric => {
		values => [ map { "'$_'::numeric" } '1', '1.0', '1.00', '2', '-0.5', 'NaN', 'Infinity', '0', '0.00' ],
		sorts => 1
	},
	float8 => {
		values => [ map { "'$_'::float8" } '0', '-0', '1', 'NaN', 'Infinity', '1e-300' ],
		sorts => 1
	},
	jsonb => {
		values => [ map { "'$_'::jsonb" } '{}', '[1]', '[1.0]', '{"a": 1}', '{"a": 1.0}', 'null', '{"a": [1, 2]}' ],
		sorts => 1
	},
	json => { values => [ map { "'$_'::json" } '{}', '{ }', '[1]' ] },
	point => { values => [ map { "'$_'::point" } '(0,0)', '(1,1)', '(-0,0)', '(2,1)' ] },
	'int[]' => {
		values => [ map { "'$_'::int[]" } '{}', '{1}', '{1,2}', '{NULL}', '[0:1]={1,2}', '{{1},{2}}' ],
		sorts => 1
	},
	int4range => {
		values => [ map { "'$_'::int4range" } 'empty', '[1,5)', '[1,4]', '(,3]', '[10,)' ],
		sorts => 1
	},
	pair => {
		values => [ map { "ROW($_)::pair" } "1, 'a'", "1, 'A'", "NULL, 'a'", 'NULL, NULL', '2, NULL', "3, repeat('x', 2500)" ],
		sorts => 1
	},
	positive => { values => [ map { "$_\::positive" } 1 .. 5 ], sorts => 1 },
	bytea => { values => [ map { "'\\x$_'::bytea" } '', '00', '0000', 'ff' ], sorts => 1 },
	'char(3)' => { values => [ map { "'$_'" } '', 'a', 'ab' ], sorts => 1 },
	interval => {
		values => [ map { "'$_'::interval" } '1 month', '30 days', '720 hours', '1 day' ],
		sorts => 1
	},
	bool => { values => [ 'true', 'false' ], sorts => 1 },
	name => { values => [ map { "'$_'::name" } 'a', 'b', 'c' ], sorts => 1 },
	timestamptz => {
		values => [ map { "'$_'::timestamptz" } '2024-01-01', 'infinity', '2024-01-01 00:00:00.000001' ],
		sorts => 1
	});

# The columns of the table "base", beside "id" and "part", which is a small
# number: c0, c1, ..., one of each type
my @column = map { { name => "c$_->[0]", kind => $_->[1] } }
  map { [ $_, (sort keys %type)[$_] ] } 0 .. keys(%type) - 1;

$node->safe_psql(
	'postgres', q{
	CREATE TYPE pair AS (a int, b text);
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE TABLE other (part int, note text);
	-- Is not for 13.
	CREATE FUNCTION picky(x int) RETURNS int IMMUTABLE STRICT
	LANGUAGE plpgsql AS $$ BEGIN
		IF x = 13 THEN
			RAISE 'unlucky';
		END IF;
		RETURN x % 100;
	END $$;
	CREATE TABLE base (id int, part int, }
	  . join(', ', map { "$_->{name} " . ($type{ $_->{kind} }{type} // $_->{kind}) } @column)
	  . ')');

# A random value for a column.
sub value
{
	my ($kind) = @_;

	return chance(0.2) ? 'NULL' : pick(@{ $type{$kind}{values} });
}

sub insert_rows
{
	my ($count) = @_;
	my @rows = map {
		'(' . join(', ', chance(0.97) ? "nextval('ids')" : 'NULL',
			int(rand(5)),
			map { value($_->{kind}) } @column) . ')'
	} 1 .. $count;

	return @rows
	  ? 'INSERT INTO base VALUES ' . join(",\n", @rows) : 'SELECT';
}

# A change of the tables, as SQL.
sub random_change
{
	my $column = pick(@column);
	my $where = pick(
		'true', 'id % 2 = 0', 'id % 10 = ' . int(rand(10)),
		'part = ' . int(rand(5)), 'id = ' . int(rand(50)), 'id IS NULL');

	return pick(
		insert_rows(int(rand(10))),
		insert_rows(1),
		"UPDATE base SET $column->{name} = " . value($column->{kind}) . " WHERE $where",
		"UPDATE base SET $column->{name} = " . value($column->{kind}) . " WHERE $where",
		"UPDATE base SET part = (part + 1) % 5 WHERE $where",
		# Values that are to be unique change their places, or come twice.
		'UPDATE base SET id = CASE WHEN id % 2 = 0 THEN id + 1 ELSE id - 1 END',
		'UPDATE base SET id = (SELECT min(id) + max(id) FROM base) - id',
		'UPDATE base SET id = (id * 7) % 101',
		"UPDATE base SET id = id + 1 WHERE id % 20 = 0",
		"DELETE FROM base WHERE $where",
		"INSERT INTO base SELECT * FROM base WHERE $where AND id < 10",
		'DELETE FROM base WHERE id IN (SELECT id FROM base GROUP BY id HAVING count(*) > 1)',
		'UPDATE base SET id = NULL WHERE id = ' . int(rand(50)),
		"INSERT INTO other VALUES (" . int(rand(6)) . ", 'new')",
		'DELETE FROM other WHERE part = ' . int(rand(6)),
		'TRUNCATE base; ' . insert_rows(5),
		'CLUSTER base USING base_id_idx',
		'SELECT');
}

# ---- views -------------------------------------------------------------------------

# A random view: its query, and the columns that it has, each with the kind of
# its values ("" if there are no indexes for it).
sub random_view
{
	my @chosen = grep { chance(0.4) } @column;
	my @sorting = grep { $type{ $_->{kind} }{sorts} } @chosen;
	my $list = join(', ', 'id', 'part', map { $_->{name} } @chosen);
	my $sorting = join(', ', 'part', map { $_->{name} } @sorting);
	my @names = ({ name => 'id', kind => 'int' }, { name => 'part', kind => 'int' });
	my $filter = pick('', '', ' WHERE id % 3 <> 0', ' WHERE part < 3');
	my $order = pick('', '', ' ORDER BY md5(id::text), part', ' ORDER BY id DESC');
	my @kinds = (
		[ "SELECT $list FROM base$filter$order", @names, @chosen ],
		[ "SELECT $list FROM base$filter$order", @names, @chosen ],
		[ "SELECT $list FROM base$filter$order", @names, @chosen ],
		[ "SELECT DISTINCT $sorting FROM base$filter", $names[1], @sorting ],
		[ "SELECT $list, note FROM base LEFT JOIN other USING (part)$order",
			@names, @chosen, { name => 'note', kind => 'text' } ],
		[ 'SELECT part AS id, count(*) AS n, sum(c1 IS NULL)::int AS part, array_agg(id ORDER BY id) AS a FROM (SELECT part, id, (c1 IS NULL)::int AS c1 FROM base) AS b(part, id, c1) GROUP BY part',
			@names ],
		[ 'SELECT part, count(*)::int AS id, jsonb_agg(id ORDER BY id) AS j, int4range(0, count(*)::int) AS r FROM base GROUP BY part',
			@names, { name => 'j', kind => 'jsonb' }, { name => 'r', kind => 'int4range' } ],
		[ "SELECT $sorting FROM base UNION SELECT $sorting FROM base$filter",
			$names[1], @sorting ],
		[ "SELECT $list FROM base UNION ALL SELECT $list FROM base$filter",
			@names, @chosen ],
		[ "SELECT $sorting FROM base EXCEPT ALL SELECT $sorting FROM base WHERE id % 4 = 0",
			$names[1], @sorting ],
		[ "SELECT $sorting FROM base INTERSECT SELECT $sorting FROM base WHERE id % 4 > 0",
			$names[1], @sorting ],
		[ 'SELECT id, part, base AS whole_row FROM base', @names ],
		[ 'SELECT id, part, ROW(id, c0) IS NULL AS c, row_number() OVER (PARTITION BY part ORDER BY id, base::text) AS n FROM base',
			@names ],
		[ 'SELECT id, part, 100 / (id - 17) AS quotient FROM base', @names ],
		[ "SELECT id, part, hashtext(id::text) AS h, (4294967295 - part)::oid AS o FROM base$order",
			@names, { name => 'h', kind => 'int' } ],
		[ 'SELECT FROM base' . $filter ],
		[ 'SELECT id, part, ' . join(', ', map { "CASE WHEN id % 7 = " . ($_ % 7) . " THEN part END AS x$_" } 1 .. 1598) . ' FROM base',
			@names ],
		# Larger than maintenance_work_mem, in batches; with wide rows or many
		# that are alike, also in several passes a batch
		[ "SELECT id * 100 + g AS id, part, c1 AS c FROM base, generate_series(1, 300) AS g$order", @names ],
		[ "SELECT id, part, repeat(md5(g::text), 6) AS s FROM base, generate_series(1, 200) AS g", @names ],
		[ 'SELECT id, part FROM base, generate_series(1, 400) AS g', @names ]);
	my ($query, @columns) = @{ pick(@kinds) };

	$query =~ s/sum\(c1 IS NULL\)/sum(c1)/;
	return ($query, @columns);
}

# A random index on some of these columns, as what follows CREATE, and a probe.
sub random_index
{
	my (@columns) = @_;
	my @sorting = grep { $type{ $_->{kind} }{sorts} } @columns;
	my $column = pick(@sorting);
	my $second = pick(@sorting);
	my $unique = chance(0.6) ? 'UNIQUE ' : '';
	my $has_id = grep { $_->{name} eq 'id' } @columns;
	my $name = $has_id && chance(0.6) ? 'id' : $column->{name};
	my $value = value($column->{kind});
	my @indexes = (
		[ "${unique}INDEX ON VIEW ($name)" ],
		[ "${unique}INDEX ON VIEW ($name, $second->{name})" ],
		[ "${unique}INDEX ON VIEW ($name) INCLUDE ($second->{name})" ],
		[ "${unique}INDEX ON VIEW ($name) NULLS NOT DISTINCT" ],
		[ "${unique}INDEX ON VIEW ($name DESC NULLS FIRST) WHERE part < 3" ],
		[ "${unique}INDEX ON VIEW ($name) WHERE $second->{name} IS NULL" ],
		[ "${unique}INDEX ON VIEW ((part + 1), $name)" ],
		[ "INDEX ON VIEW USING hash ($column->{name})",
			$value eq 'NULL' ? () : "$column->{name} = $value" ],
		[ "INDEX ON VIEW USING brin (part) WITH (pages_per_range = 1)",
			'part BETWEEN 1 AND 2' ]);

	push @indexes,
	  [ "${unique}INDEX ON VIEW ((id + part))" ],
	  [ "${unique}INDEX ON VIEW (abs(id)) WHERE id > 0" ],
	  [ "${unique}INDEX ON VIEW (picky(id), id)" ]
	  if $has_id;
	push @indexes,
	  [ "INDEX ON VIEW USING gin ($_->{name})", "$_->{name} \@> '{1}'::int[]" ]
	  foreach grep { $_->{kind} eq 'int[]' } @columns;
	push @indexes,
	  [ "INDEX ON VIEW USING gin ($_->{name})",
		"$_->{name} \@> '{\"a\": 1}'::jsonb" ]
	  foreach grep { $_->{kind} eq 'jsonb' } @columns;
	push @indexes,
	  [ "INDEX ON VIEW USING gist ($_->{name})", "$_->{name} && '[2,3]'::int4range" ]
	  foreach grep { $_->{kind} eq 'int4range' } @columns;
	push @indexes,
	  [ "INDEX ON VIEW USING " . pick('gist', 'spgist') . " ($_->{name})",
		"$_->{name} <@ '((0,0),(1,1))'::box" ]
	  foreach grep { $_->{kind} eq 'point' } @columns;
	return @{ pick(@indexes) };
}

# ---- cases -------------------------------------------------------------------------

# Merges "merged", and refreshes "twin" as the server does.  Returns the SQLSTATE
# of the merge, and what is wrong after it, if anything.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION compare(command text, query text, invalid boolean,
		probes text[]) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		before text := checks.text_of('merged');
		got text;
		expected text;
	BEGIN
		got := checks.try(command);
		expected := checks.try('REFRESH MATERIALIZED VIEW twin');
		-- An invalid index may be violated by rows that do not change.  Of two
		-- errors in indexes, either may come first.
		IF got <> expected AND NOT (invalid AND got = '23505') AND
			NOT (got IN ('23505', 'P0001') AND expected IN ('23505', 'P0001'))
		THEN
			RETURN format('%s SQLSTATE %s, not %s', got, got, expected);
		ELSIF got = '00000' THEN
			RETURN '00000 ' || checks.differs('merged', query, probes);
		ELSIF checks.text_of('merged') <> before THEN
			RETURN got || ' a merge that has failed has changed the view';
		END IF;
		RETURN got || ' ';
	END $$});

my $refresh = 'REFRESH MATERIALIZED VIEW CONCURRENTLY merged';
my %count = (merges => 0, failures => 0, large => 0);
my $number = 0;
my $script;

# Run SQL, and keep it, to show what led to a failure.  Returns the last line.
sub run_sql
{
	my ($sql) = @_;

	$script .= "$sql;\n";
	return (split /\n/, $node->safe_psql('postgres', "$sql;"))[-1] // '';
}

# One that may fail; returns its SQLSTATE.
sub try_sql
{
	my ($sql) = @_;

	return run_sql("SELECT checks.try(\$try\$$sql\$try\$)");
}

# What may come before a merge
sub random_disturbance
{
	my ($invalid) = @_;
	my @all = (
		'VACUUM merged',
		'ANALYZE merged',
		$invalid ? () : 'VACUUM FULL merged',
		'ALTER MATERIALIZED VIEW merged SET (fillfactor = ' . pick(20, 70, 100) . ')',
		'ALTER MATERIALIZED VIEW merged SET (toast_tuple_target = ' . pick(128, 4080) . ')',
		# Now and then a merge is undone first.
		"BEGIN; SELECT checks.try('$refresh'); ROLLBACK",
		'BEGIN; UPDATE base SET part = part + 1;'
		  . " SELECT checks.try('$refresh'); ROLLBACK");

	# Of these some fail as the merge will.
	push @all, "SELECT checks.try('REINDEX TABLE merged')",
	  "SELECT checks.try('REFRESH MATERIALIZED VIEW merged')",
	  'REINDEX TABLE CONCURRENTLY merged'
	  unless $invalid;
	return chance(0.5) ? pick(@all) : 'SELECT';
}

# Change the tables and merge; returns what is wrong then, or ''.
sub run_turn
{
	my ($query, $invalid, @probes) = @_;
	my $command = chance(0.2) ? "$refresh; $refresh" : $refresh;
	my ($state, $wrong) = run_sql(
		join(
			";\n",
			"SET maintenance_work_mem = '" . pick('1MB', '1MB', '64MB') . "'",
			(map { random_change() } 1 .. 1 + rand(3)),
			'SET client_min_messages = error',
			random_disturbance($invalid),
			"SELECT compare('$command', \$query\$$query\$query\$, '$invalid', ARRAY["
			  . join(', ', map { "\$probe\$$_\$probe\$" } @probes) . ']::text[])'
		)) =~ /^(\w+) (.*)/;

	$count{merges}++;
	$count{failures}++ if $state ne '00000';
	return $wrong;
}

sub run_case
{
	my ($query, @columns) = random_view();
	my $large = $query =~ /generate_series/;
	my $invalid = 0;
	my @probes;
	my $wrong;

	$script = '';
	run_sql('SET client_min_messages = warning;
		DROP MATERIALIZED VIEW IF EXISTS merged, twin;
		TRUNCATE base, other; DROP SEQUENCE IF EXISTS ids;
		CREATE SEQUENCE ids;
		CREATE INDEX IF NOT EXISTS base_id_idx ON base (id);
		INSERT INTO other SELECT i % 5, i::text FROM generate_series(1, '
		  . int(rand(8)) . ') AS i; '
		  . insert_rows(int($large ? 100 + rand(50) : rand(60))));
	# The query itself may fail at once.
	return '' if try_sql("CREATE MATERIALIZED VIEW merged AS $query;
		CREATE MATERIALIZED VIEW twin AS $query") ne '00000';
	foreach my $i (1 .. rand(@columns ? 5 : 0))
	{
		my ($index, @probe) = random_index(@columns);
		(my $first = $index) =~ s/VIEW/merged/;
		(my $second = $index) =~ s/VIEW/twin/;

		if (try_sql("CREATE $first; CREATE $second") eq '00000')
		{
			push @probes, @probe;
		}
		elsif ($first =~ /^UNIQUE/ && chance(0.3))
		{
			# One that the server could not make, and keeps, invalid.
			$first =~ s/INDEX/INDEX CONCURRENTLY/;
			$script .= "CREATE $first;\n";
			$node->psql('postgres', "CREATE $first");
			$invalid = 1;
		}
	}
	$count{large}++ if $large;
	foreach my $turn (1 .. ($large ? 2 : 5))
	{
		$wrong = run_turn($query, $invalid, @probes);
		return $wrong if $wrong ne '';
	}
	return '';
}

my $end = time() + $seconds;
my $wrong = '';
while ($wrong eq '' && ($wanted ? $number < $wanted : $number < 10 || time() < $end))
{
	$number++;
	$wrong = run_case();
	diag("case $number: $wrong\n$script") if $wrong ne '';
}
is($wrong, '', 'each view is what its query returns');
note("$number views, $count{large} of them large; $count{merges} merges, "
	  . "of which $count{failures} failed as a plain REFRESH does");
cmp_ok($count{merges}, '>', $count{failures}, 'views were merged');

# ---- batches on disk -----------------------------------------------------------------

# Temporary files that sessions have written so far
sub temporary_files
{
	return $node->safe_psql('postgres', "SELECT temp_files FROM pg_stat_database
		WHERE datname = 'postgres'");
}

foreach my $case (
	[ 'nothing', '64MB', 'g, g % 10 AS x', 0, 0 ],
	[ 'two files a batch', '1MB', 'g, g % 10 AS x', 8, 40 ],
	[ 'passes', '1MB', "g, g % 10 AS x, repeat('x', 400) AS y", 30, 200 ],
	[ 'many alike', '1MB', '1 AS g, g / 29999 AS x', 7, 200 ])
{
	my ($name, $memory, $list, $least, $most) = @$case;
	my $query = "SELECT $list FROM generate_series(1, 30000) AS g, source";
	my $before;
	my $files;

	$node->safe_psql(
		'postgres', "DROP TABLE IF EXISTS source CASCADE;
		CREATE TABLE source AS SELECT 0 AS z;
		CREATE MATERIALIZED VIEW large AS $query");
	$node->safe_psql('postgres', 'INSERT INTO source VALUES (1)');
	$before = temporary_files();
	$node->safe_psql(
		'postgres', "SET maintenance_work_mem = '$memory';
		SET work_mem = '64MB';
		REFRESH MATERIALIZED VIEW CONCURRENTLY large;
		SELECT pg_stat_force_next_flush()");
	$files = temporary_files() - $before;
	cmp_ok($files, '>=', $least, "$name: temporary files");
	cmp_ok($files, '<=', $most, 'but not too many');
	is( $node->safe_psql('postgres',
			"SELECT checks.differs('large', \$query\$$query\$query\$)"),
		'', 'every row is there');
}

# ---- rows without a key ---------------------------------------------------------------

# Large values of one size, in another order than before: each is compared with
# its like, and not with all of the others.
my $fetched = q{SELECT heap_blks_hit + heap_blks_read
	FROM pg_statio_user_tables WHERE relname = 'keyless'};
$node->safe_psql(
	'postgres', q{
	CREATE TABLE keys AS SELECT NULL::int AS id, repeat(md5(g::text), 100) AS s
	FROM generate_series(1, 2000) AS g;
	CREATE MATERIALIZED VIEW keyless AS TABLE keys;
	CREATE UNIQUE INDEX ON keyless (id);
	CREATE TABLE other_order AS SELECT * FROM keys ORDER BY md5(s || 'x');
	TRUNCATE keys;
	INSERT INTO keys TABLE other_order;
	SELECT pg_stat_force_next_flush()});
my $fetched_before = $node->safe_psql('postgres', $fetched);
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW CONCURRENTLY keyless;
	SELECT pg_stat_force_next_flush()');
cmp_ok($node->safe_psql('postgres', $fetched) - $fetched_before,
	'<', 20000, 'rows without a key are not each compared with all others');
is($node->safe_psql('postgres', "SELECT checks.differs('keyless', 'TABLE keys')"),
	'', 'every row is there');

# ---- values as functions return them -----------------------------------------------------

# A value that is narrower than a Datum need not fill it as one does that was
# stored; what is the same is not written all the same.
my $values = q{SELECT g AS id, hashtext(g::text) AS h, (4294967295 - g)::oid AS o,
	hashint4(g) < 0 AS b, (g - 50)::"char" AS c, (50 - g)::int2 AS s
	FROM generate_series(1, 100) AS g};
my $written = q{SELECT xmin, (SELECT sum(xmin::text::bigint) FROM valued)
	FROM pg_class WHERE relname = 'valued'};
foreach my $index ('', 'CREATE INDEX ON valued (h);', 'CREATE UNIQUE INDEX ON valued (id);',
	'CREATE UNIQUE INDEX ON valued (h);', 'CREATE UNIQUE INDEX ON valued (o);')
{
	$node->safe_psql('postgres', "DROP MATERIALIZED VIEW IF EXISTS valued;
		CREATE MATERIALIZED VIEW valued AS $values; $index");
	my $before = $node->safe_psql('postgres', $written);
	$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW CONCURRENTLY valued');
	is($node->safe_psql('postgres', $written),
		$before, "what functions return is as it was stored; $index");
}
nothing_broke($node);

$node->stop;
done_testing();
