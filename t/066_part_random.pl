# Parts of views, at random: views of many shapes, conditions of many kinds, over
# tables that change in all ways.  After refresh(view, condition) the rows for
# which the condition holds must be exactly those that the whole view would have,
# computed first and then filtered; and all others must not have been touched.
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

my $seconds = $ENV{BIGBROTR_REFRESHER_RANDOM_SECONDS} // 20;
my $wanted = $ENV{BIGBROTR_REFRESHER_RANDOM_CASES} // 0;

srand(random_seed());

my $node = merging_node('part_random', jit => 'off');
$node->start;
make_checks($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub pick
{
	return $_[ rand @_ ];
}

# ---- tables ------------------------------------------------------------------------

my $has_icu =
  query("SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'") eq 't';
my $has_citext = query(
	"SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'");

query("CREATE COLLATION same_case (provider = icu, locale = 'und-u-ks-level2',
	deterministic = false)") if $has_icu;
query('CREATE EXTENSION citext') if $has_citext;

# The columns of the table "base" beside "id" and "v": each with values, and with
# conditions on it.
my %column = (
	p => {
		type => 'int',
		values => [ 0 .. 5 ],
		conditions => [
			'p = 1', 'p IN (1, 2)', 'p = ANY (\'{0,3}\')', 'p % 2 = 1',
			'p IS NULL', 'p > 2', 'p BETWEEN 1 AND 3', 'p <> 2',
			'p IS DISTINCT FROM 1', 'coalesce(p, 0) = 0', 'p = NULL',
			'CASE WHEN p > 1 THEN p = 2 ELSE p IS NULL END',
			'NOT (p = 4)', 'p IS NOT NULL AND -p < -1',
			'p = 1 OR p IS NULL', '(p, p) IN ((1, 1), (2, 2))',
			'p NOT IN (1, NULL)', 'nullif(p, 3) IS NULL',
			'greatest(p, 2) = 2', 'mv.p::text = \'5\'', 'p IN (6, 1)' ]
	},
	n => {
		type => 'numeric',
		values => [ 1, '1.0', '1.00', 2, '2.0', '-0.5', "'NaN'", 0, '0.0' ],
		conditions => [
			'n = 1', 'n::text = \'1.0\'', 'scale(n) = 1', 'n > 0.5',
			'n IS NULL', 'n IN (1.00, 2)', 'n::text LIKE \'%0\'',
			'n = \'NaN\'', 'abs(n) < 1', 'n::text = \'1\' OR n = 2',
			'trim_scale(n) = n' ]
	},
	f => {
		type => 'float8',
		values => [ 0, "'-0'", 1, "'NaN'" ],
		conditions =>
		  [ 'f = 0', 'f::text = \'-0\'', 'f > 0', 'f IS NULL', 'f = \'NaN\'' ]
	},
	t => {
		type => 'text',
		values => [ map { "'$_'" } '', 'a', 'A', 'b', 'ab', 'a ' ],
		conditions => [
			't = \'a\'', 't LIKE \'a%\'', 't || \'x\' > \'b\'', 't IS NULL',
			'length(t) = 1', 'upper(t) = \'A\'', 't IN (\'\', \'A\')',
			't COLLATE "C" < \'a\'' ]
	},
	c => {
		type => $has_icu ? 'text COLLATE same_case' : 'text',
		values => [ map { "'$_'" } 'a', 'A', 'b', 'B' ],
		conditions => [
			'c = \'a\'', 'c COLLATE "C" = \'a\'', 'upper(c) = \'B\'',
			'c IS NULL', 'c > \'a\'', 'c COLLATE "C" IN (\'A\', \'b\')' ]
	},
	x => {
		type => $has_citext ? 'citext' : 'text',
		values => [ map { "'$_'" } 'a', 'A', 'b', 'B' ],
		conditions => [
			'x::text = \'a\'', 'x::text < \'a\'', 'x IS NULL',
			'lower(x::text) = \'b\'' ]
	},
	j => {
		type => 'jsonb',
		values => [ map { "'$_'" } '[1]', '[1.0]', '{"a": 1}', 'null' ],
		conditions => [
			'j = \'[1]\'', 'j::text = \'[1.0]\'', 'j IS NULL',
			'j @> \'{"a": 1}\'' ]
	},
	b => {
		type => 'bpchar',
		values => [ map { "'$_'" } 'a', 'a ', 'b' ],
		conditions => [ 'b = \'a\'', 'octet_length(b) = 1', 'b IS NULL' ]
	},
	i => {
		type => 'interval',
		values => [ map { "'$_'" } '1 month', '30 days', '720 hours', '1 day' ],
		conditions => [ 'i = \'30 days\'', 'i IS NULL', 'i > \'2 days\'' ]
	});
my @names = sort keys %column;
my %conditions = (
	id => [
		'id = 3', 'id % 4 = 1', 'id > 10', 'id IN (1, 2, 5, 11)', 'id < 0',
		'id BETWEEN 2 AND 12' ],
	s => [ 's = \'1.0\'', 's > \'1\'', 's IS NULL', 's = \'a\'', 's LIKE \'A%\'' ],
	g => [ 'g = 0', 'g = 1', 'g IN (1, 2, 3)' ],
	q => [ 'q = 1', 'q IS NULL', 'q > 2' ],
	(map { $_ => $column{$_}{conditions} } @names));

query('CREATE SEQUENCE ids;
	CREATE TABLE base (id int, v int, '
	  . join(', ', map { "$_ $column{$_}{type}" } @names) . ');
	CREATE INDEX ON base (id); CREATE INDEX ON base (p); CREATE INDEX ON base (n);
	CREATE INDEX ON base (c); CREATE INDEX ON base (t); CREATE INDEX ON base (x);
	CREATE TABLE other (p int, n numeric, note text);
	CREATE INDEX ON other (p)');
query(q{CREATE VIEW firsts AS SELECT DISTINCT ON (c) c, id, v FROM base ORDER BY c, id;
	CREATE VIEW sums AS SELECT n, sum(v) AS v, min(id) AS id FROM base GROUP BY n});

sub value
{
	my ($name) = @_;

	return rand() < 0.15 ? 'NULL' : pick(@{ $column{$name}{values} });
}

sub insert_rows
{
	my ($count) = @_;

	return 'INSERT INTO base VALUES '
	  . join(', ', map {
		  '(' . join(', ', 'nextval(\'ids\')', int(rand(10)), map { value($_) } @names) . ')'
	  } 1 .. $count);
}

sub random_change
{
	my $name = pick(@names);
	my $where = pick('true', 'id % 2 = 0', 'id % 7 = ' . int(rand(7)),
		'p = ' . int(rand(6)), 'p IS NULL');

	return pick(
		insert_rows(1 + rand(5)),
		insert_rows(1 + rand(5)),
		"UPDATE base SET $name = " . value($name) . " WHERE $where",
		"UPDATE base SET $name = " . value($name) . " WHERE $where",
		"UPDATE base SET v = v + 1 WHERE $where",
		'UPDATE base SET p = (p + 1) % 6',
		"DELETE FROM base WHERE $where AND id % 3 = 0",
		'UPDATE base SET id = CASE WHEN id % 2 = 0 THEN id + 1 ELSE id - 1 END',
		'INSERT INTO other VALUES (' . int(rand(6)) . ', 1.0, \'new\')',
		'DELETE FROM other WHERE p = ' . int(rand(6)));
}

# ---- views -------------------------------------------------------------------------

# A view: its query, and the columns of a unique index.  COLUMN stands for one of
# the columns above that the index does not name, chosen at random.  "ids" are the
# ids of a group, which tell which rows it was made of.
my $ids = 'string_agg(id::text, \' \' ORDER BY id) AS ids';
my @views = (
	[ 'SELECT id, p, v, t FROM base', 'id' ],
	[ 'SELECT id, base AS whole FROM base', 'id' ],
	[ 'SELECT id, COLUMN, v FROM base WHERE v > 2 ORDER BY v', 'id', 'COLUMN' ],
	[ 'SELECT id, COLUMN FROM base', 'COLUMN', 'id' ],
	[ "SELECT COLUMN, sum(v), $ids FROM base GROUP BY COLUMN", 'COLUMN' ],
	[ "SELECT COLUMN, sum(v), $ids FROM base GROUP BY COLUMN", 'COLUMN' ],
	[ "SELECT p, COLUMN, $ids FROM base GROUP BY p, COLUMN", 'p', 'COLUMN' ],
	[ "SELECT p, $ids FROM base GROUP BY p HAVING count(*) > 1", 'p' ],
	# What is grouped by is not what is shown.
	[ "SELECT n::text AS s, $ids FROM base GROUP BY n", 's' ],
	[ "SELECT c COLLATE \"C\" AS s, $ids FROM base GROUP BY c", 's' ],
	[ "SELECT x::text AS s, $ids FROM base GROUP BY x", 's' ],
	[ "SELECT q.n::text AS s, sum(v), min(id) FROM sums AS q GROUP BY q.n::text", 's' ],
	[ 'SELECT c COLLATE "C" AS s, id, v FROM firsts', 's' ],
	[ 'SELECT c, id, v FROM firsts', 'c' ],
	[ 'SELECT n, v, id FROM sums', 'n' ],
	[ 'SELECT id, n, v FROM sums', 'id' ],
	[ 'SELECT (n * 1)::text AS s, v FROM (SELECT n, sum(v) OVER (PARTITION BY n) AS v, row_number() OVER (PARTITION BY n ORDER BY id) AS r FROM base) AS w WHERE r = 1', 's' ],
	[ 'SELECT DISTINCT COLUMN FROM base', 'COLUMN' ],
	[ 'SELECT DISTINCT p, COLUMN FROM base', 'p', 'COLUMN' ],
	[ 'SELECT DISTINCT ON (COLUMN) COLUMN, id, v FROM base ORDER BY COLUMN, id', 'COLUMN' ],
	[ 'SELECT DISTINCT ON (COLUMN) COLUMN, id, v FROM base ORDER BY COLUMN, id', 'id' ],
	[ "SELECT p, c, grouping(p, c) AS g, $ids FROM base GROUP BY GROUPING SETS ((p), (c), (p, c), ())", 'p', 'c', 'g' ],
	[ "SELECT p, t, grouping(p, t) AS g, $ids FROM base GROUP BY ROLLUP (p, t)", 'p', 't', 'g' ],
	[ "SELECT p, n, grouping(p, n) AS g, sum(v) FROM base GROUP BY CUBE (p, n)", 'g', 'p', 'n' ],
	[ 'SELECT p, COLUMN FROM base UNION SELECT p, COLUMN FROM base WHERE v > 3', 'p', 'COLUMN' ],
	[ 'SELECT COLUMN, p FROM base EXCEPT SELECT COLUMN, p FROM base WHERE v > 5', 'COLUMN', 'p' ],
	[ 'SELECT COLUMN, p FROM base INTERSECT SELECT COLUMN, p FROM base WHERE v > 2', 'COLUMN', 'p' ],
	[ 'SELECT n::text AS s FROM (SELECT n FROM base UNION SELECT n FROM other) AS u', 's' ],
	[ 'SELECT 1 AS q, id, p FROM base UNION ALL SELECT 2, id, p FROM base WHERE v < 5', 'q', 'id' ],
	[ "SELECT p, count(*)::int AS q FROM base GROUP BY p UNION ALL SELECT p, -1 FROM other GROUP BY p", 'p', 'q' ],
	[ 'SELECT p, id, row_number() OVER (PARTITION BY p ORDER BY id) AS r, sum(v) OVER (PARTITION BY p) FROM base', 'p', 'id', 'WINDOW' ],
	[ 'SELECT COLUMN, id, sum(v) OVER (PARTITION BY COLUMN), row_number() OVER (PARTITION BY COLUMN ORDER BY id) AS r FROM base', 'COLUMN', 'id', 'WINDOW' ],
	[ 'SELECT id, r FROM (SELECT id, row_number() OVER (ORDER BY id) AS r FROM base) AS w', 'id' ],
	[ 'SELECT p, r::int AS q, id FROM (SELECT p, id, rank() OVER (PARTITION BY p ORDER BY id) AS r FROM base) AS w WHERE r <= 2', 'p', 'q' ],
	[ 'SELECT id, base.p, note, other.p AS q FROM base LEFT JOIN (SELECT p, min(note) AS note FROM other GROUP BY p) AS other ON other.p = base.p', 'id' ],
	[ 'SELECT other.p AS q, base.p, count(*) FROM base LEFT JOIN other ON other.p = base.p AND base.v > 3 GROUP BY 1, 2', 'q', 'p' ],
	[ 'SELECT p, count(id) AS ids, count(note) FROM base FULL JOIN other USING (p) GROUP BY p', 'p' ],
	[ 'SELECT n, count(id) AS ids, count(note) FROM base FULL JOIN other USING (n) GROUP BY n', 'n' ],
	[ 'SELECT a.p, b.p AS q, count(*) FROM base AS a RIGHT JOIN other AS b ON a.p = b.p AND a.v > 4 GROUP BY 1, 2', 'q', 'p' ],
	[ 'SELECT a.id, b.n FROM base AS a JOIN (SELECT DISTINCT n FROM other) AS b ON a.n = b.n', 'id', 'n' ],
	[ 'SELECT p, (SELECT count(*) FROM other AS o WHERE o.p = b.p) AS k, sum(v) FROM base AS b GROUP BY p', 'p' ],
	[ 'SELECT g.p, l.id, l.v FROM (SELECT DISTINCT p FROM base) AS g CROSS JOIN LATERAL (SELECT id, v FROM base AS b WHERE b.p = g.p ORDER BY v DESC, id LIMIT 1) AS l', 'p' ],
	[ 'SELECT id, p FROM (SELECT id, p FROM base ORDER BY id LIMIT 10) AS l', 'id' ],
	[ "WITH w AS (SELECT COLUMN, $ids FROM base GROUP BY COLUMN) SELECT * FROM w", 'COLUMN' ],
	[ 'WITH w AS MATERIALIZED (SELECT id, p FROM base) SELECT a.id, b.p, a.p AS q FROM w AS a JOIN w AS b ON a.id = b.id', 'id' ],
	[ 'WITH RECURSIVE r AS (SELECT id, p FROM base WHERE p = 0 UNION SELECT b.id, b.p FROM r JOIN base AS b ON b.id = r.id + 1) SELECT * FROM r', 'id' ],
	[ 'SELECT id, unnest(ARRAY[1, 2, p]) AS q FROM base WHERE p > 2', 'id', 'q' ],
	[ 'SELECT p, g AS q FROM (SELECT DISTINCT p FROM base) AS b, generate_series(1, 3) AS g', 'p', 'q' ],
	[ 'SELECT a.COLUMN, count(*) FROM base AS a WHERE EXISTS (SELECT FROM base AS b WHERE b.COLUMN = a.COLUMN AND b.id > a.id) GROUP BY a.COLUMN', 'COLUMN' ],
	[ 'SELECT COLUMN, p, max(v), (array_agg(id ORDER BY id))[1] AS first FROM base WHERE COLUMN IS NOT NULL GROUP BY COLUMN, p', 'COLUMN', 'p' ],
	[ 'SELECT VALUES_ALIAS.q, count(id) FROM (VALUES (1), (2), (NULL)) AS VALUES_ALIAS(q) LEFT JOIN base ON p = q GROUP BY q', 'q' ]);

sub random_condition
{
	my (@key) = @_;
	my @all = map { @{ $conditions{$_} } } @key;
	my @inexact = grep { /^[nfcxjbi]$/ } @key;

	# Of values that are equal but not the same, a query returns any.  A condition
	# that reads them has the query run whole, so that it returns the same one.
	my $one = pick(map { @{ $conditions{$_} } } @inexact ? @inexact : @key);
	my $two = pick(@all);

	return pick($one, $one, $one, "$one AND $two", "$one OR ($two)",
		"NOT ($one)", "($one) IS NOT TRUE", "($one) IS NULL", 'true', 'NULL',
		"NULL OR $one", "($one) = ($two)");
}

# ---- cases -------------------------------------------------------------------------

# Refreshes a part of the view "mv"; returns the SQLSTATE, and what is wrong after
# it.  An error must be one of a unique index that the rows would break.
query(
	q{CREATE FUNCTION refresh_part(query text, condition text, key text)
	RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		state text;
		wrong text := '';
		number int;
		path text := current_setting('search_path');
	BEGIN
		DROP TABLE IF EXISTS pg_temp.whole, pg_temp.result, pg_temp.kept;
		EXECUTE 'CREATE TEMPORARY TABLE whole AS ' || query;
		-- As the condition of a refresh is read
		PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
		EXECUTE format('CREATE TEMPORARY TABLE kept AS SELECT mv.ctid AS place,
			mv.xmin AS version FROM public.mv WHERE (%s) IS NOT TRUE', condition);
		EXECUTE format('CREATE TEMPORARY TABLE result AS
			SELECT * FROM public.mv WHERE (%s) IS NOT TRUE
			UNION ALL SELECT * FROM pg_temp.whole AS mv WHERE %s', condition, condition);
		PERFORM set_config('search_path', path, true);
		state := checks.try(format('SELECT bigbrotr_refresher.refresh(%L, %L)',
			'mv', condition));
		IF state <> '00000' THEN
			IF checks.try(format('CREATE UNIQUE INDEX ON pg_temp.result (%s)', key))
				<> state THEN
				wrong := ' it failed';
			END IF;
			RETURN state || wrong;
		END IF;
		SELECT count(*) INTO number FROM (SELECT mv::text FROM public.mv
			EXCEPT ALL SELECT result::text FROM pg_temp.result) AS x;
		IF number > 0 THEN
			wrong := format(' %s rows too many', number);
		END IF;
		SELECT count(*) INTO number FROM (SELECT result::text FROM pg_temp.result
			EXCEPT ALL SELECT mv::text FROM public.mv) AS x;
		IF number > 0 THEN
			wrong := wrong || format(' %s rows are missing', number);
		END IF;
		SELECT count(*) INTO number FROM pg_temp.kept WHERE NOT EXISTS
			(SELECT FROM public.mv WHERE mv.ctid = place AND mv.xmin = version);
		IF number > 0 THEN
			wrong := wrong || format(' %s other rows were touched', number);
		END IF;
		SELECT string_agg(checks.index_differs(indexrelid), ' ') INTO path
		FROM pg_index WHERE indrelid = 'public.mv'::regclass;
		RETURN state || wrong || CASE WHEN path <> '' THEN ' ' || path ELSE '' END;
	END $$;
	CREATE EXTENSION bigbrotr_refresher});

my %count = (parts => 0, broken => 0, refused => 0);
my $script;

sub run_case
{
	my ($query, @key) = @{ pick(@views) };
	my %shown = map { $_ => 1 } @key;
	my $name = pick(grep { !$shown{$_} } @names);
	my $window = $key[-1] eq 'WINDOW' && pop @key;
	my @turns;

	s/COLUMN/$name/g foreach $query, @key;
	@key = do { my %seen; grep { !$seen{$_}++ } @key };
	my $key = join(', ', @key);
	$script = '';
	foreach my $sql (
		'SET client_min_messages = error; DROP MATERIALIZED VIEW IF EXISTS mv;
		TRUNCATE base, other; ' . insert_rows(10 + rand(30))
		  . '; INSERT INTO other SELECT i % 7, 1 + i % 2, i::text FROM generate_series(0, '
		  . int(rand(9)) . ') AS i',
		"CREATE MATERIALIZED VIEW mv AS $query")
	{
		$script .= "$sql;\n";
		query($sql);
	}
	# A view that has no such index is none for this test.
	$script .= "CREATE UNIQUE INDEX ON mv ($key);\n";
	return ''
	  if query("SELECT checks.try('CREATE UNIQUE INDEX ON mv ($key)')") ne '00000';
	foreach my $turn (1 .. 6)
	{
		my $condition = random_condition(@key);
		my $sql = join(";\n",
			'SET client_min_messages = error',
			"SET enable_seqscan = " . pick('on', 'off'),
			"SET enable_hashagg = " . pick('on', 'off'),
			"SET maintenance_work_mem = '" . pick('1MB', '64MB') . "'",
			(map { random_change() } 1 .. 1 + rand(2)),
			"SELECT refresh_part(\$q\$$query\$q\$, \$c\$$condition\$c\$, '$key')");
		my $said;

		$script .= "$sql;\n";
		$said = (split /\n/, query($sql))[-1];
		$count{parts}++;
		$count{broken}++ if $said eq '23505';
		$count{refused}++ if $said =~ /^0A000/;
		next if $said =~ /^0A000/ && $window;
		return $said if $said !~ /^(00000|23505)$/;
		# Now and then all of it, so that not everything is old
		if ($said eq '23505' || rand() < 0.3)
		{
			$script .= "REFRESH MATERIALIZED VIEW mv;\n";
			return ''
			  if query("SELECT checks.try('REFRESH MATERIALIZED VIEW mv')") ne '00000';
		}
	}
	return '';
}

my $end = time() + $seconds;
my $number = 0;
my $wrong = '';
while ($wrong eq '' && ($wanted ? $number < $wanted : $number < 20 || time() < $end))
{
	$number++;
	$wrong = run_case();
	diag("case $number: $wrong\n$script") if $wrong ne '';
}
is($wrong, '', 'each part is what the whole view would have there');
note("$number views, $count{parts} parts, $count{broken} of them with duplicates, "
	  . "$count{refused} refused");
cmp_ok($count{parts}, '>', 2 * ($count{broken} + $count{refused}),
	'most were refreshed');
nothing_broke($node);

$node->stop;
done_testing();
