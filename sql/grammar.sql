--
-- The grammar of the list of views
--
-- ALTER SYSTEM runs the check hook: a list that is refused says where it is
-- wrong, and why.
--
\pset format unaligned
\pset tuples_only on
CREATE EXTENSION bigbrotr_refresher;

-- Lists of views that are refused
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L', list)
FROM (VALUES
	-- nothing in it
	(1, ''),
	(2, '   '),
	(3, E' \t '),
	-- an item is missing
	(10, ','),
	(11, ';'),
	(12, 'a,'),
	(13, 'a;'),
	(14, 'a , ; b'),
	(15, 'a;;b'),
	(16, ', a'),
	(17, 'a, ;'),
	(18, '@ 1h'),
	-- what is no name
	(20, '1a'),
	(21, 'a-b'),
	(22, 'a b'),
	(23, '$a'),
	(24, '''a'''),
	(25, 'a, b(), c'),
	(26, 'a # comment'),
	(27, '"a"b'),
	(28, 'a"b"'),
	(29, U&'a,\00A0b c'),
	-- quotes
	(30, '"a'),
	(31, 'a, "b, c'),
	(32, '"'),
	(33, '""'),
	(34, 'a.""'),
	(35, '"a""'),
	(36, '"""'),
	-- dots
	(40, 'a.b.c'),
	(41, 'a.'),
	(42, '.a'),
	(43, 'a..b'),
	(44, 'a.b.'),
	(45, 'a., b'),
	-- wildcards
	(50, '*.a'),
	(51, '*.*'),
	(52, 's.*.a'),
	(53, '**'),
	(54, 'a*'),
	(55, 'a.*b'),
	(56, '*a'),
	-- names that SQL would cut
	(60, repeat('n', 64)),
	(61, '"' || repeat('n', 64) || '"'),
	(62, 'a, ' || repeat('s', 64) || '.a'),
	(63, repeat('n', 60) || '.' || repeat('n', 70)),
	(64, '"' || repeat('""', 64) || '"'),
	(65, repeat(U&'\00E4', 32)),
	-- names given twice
	(70, 'a, a'),
	(71, 'a; b, c; a'),
	(72, 'a, A'),
	(73, 'a, "a"'),
	(74, 's.a, s . a'),
	(75, '"S".a, s.a, "S"."a"'),
	(76, '*, a, *'),
	(77, 's.*, *, "s".*'),
	(78, 'a @ 1h, a @ 2h'),
	(79, 'a, "a;b", "a;b"'),
	-- intervals
	(80, 'a @'),
	(81, 'a @ , b'),
	(82, 'a, b @; c'),
	(83, 'a @ soon'),
	(84, 'a @ 1 fortnight'),
	(85, 'a @ 1h 30min'),
	(86, 'a @ 1h @ 2h'),
	(87, 'a @ -1h'),
	(88, 'a @ 1H'),
	(89, 'a @ "1h"'),
	(90, 'a @ NaN'),
	(91, 'a @ 1e99'),
	(92, 'a @ ' || repeat('1', 70)),
	(93, 'a @ ' || repeat('1', 63)),
	(94, 'a @ h'),
	(95, '@@'),
	(96, 'a @ 1kB'),
	(97, 'a @ 1h b'),
	-- the bounds, one second to 366 days, in each unit
	(100, 'a @ 0'),
	(101, 'a @ 499999us'),
	(102, 'a @ 499ms'),
	(103, 'a @ 0.4s'),
	(104, 'a @ 0.008min'),
	(105, 'a @ 31622401'),
	(106, 'a @ 31622400600000us'),
	(107, 'a @ 31622400600ms'),
	(108, 'a @ 31622401s'),
	(109, 'a @ 527041min'),
	(110, 'a @ 8785h'),
	(111, 'a @ 366.03d'),
	(112, 'a @ 367d'),
	(113, 'a @ 2147483647d'),
	-- the place is counted in characters
	(120, U&'\00E4\00F6\00FC, \65E5\672C \8A9E'),
	(121, U&'"\+01F600" @ 1h; b b'),
	-- times of the day
	(130, 'a from 03:00'),
	(131, 'a @ from 03:00'),
	(132, 'a @ 1d from'),
	(133, 'a @ 1d from , b'),
	(134, 'a @ 1d from noon'),
	(135, 'a @ 1d from 3'),
	(136, 'a @ 1d from 24:00'),
	(137, 'a @ 1d from 03:60'),
	(138, 'a @ 1d from 03:00:60'),
	(139, 'a @ 1d from 03:0'),
	(140, 'a @ 1d from 003:00'),
	(141, 'a @ 1d from 03:00:00.5'),
	(142, 'a @ 1d from 03:00 PM'),
	(143, 'a @ 1d from -3:00'),
	(144, 'a @ 1d from 03:00 from 04:00'),
	(145, 'a @ 1d from03:00'),
	(146, 'a @ 1dfrom 03:00'),
	(147, 'a @ 1d from ' || repeat('1', 64)),
	(148, 'a @ 1h30min from 03:00'),
	(149, 'a @ 7h from 03:00'),
	(150, 'a @ 36h from 03:00'),
	(151, 'b, a @ 86399 from 0:00'),
	(152, 'a @ 1d from ''03:00'''),
	-- settings
	(160, 'a ()'),
	(161, 'a ('),
	(162, 'a )'),
	(163, 'a (b'),
	(164, 'a (b)'),
	(165, 'a (b, c = d)'),
	(166, 'a (b ='),
	(167, 'a (b = )'),
	(168, 'a (b = c'),
	(169, 'a (b = c,)'),
	(170, 'a (b = c,'),
	(171, 'a (b = c d)'),
	(172, 'a (b = c; d = e)'),
	(173, 'a (b = 10 min)'),
	(174, 'a (b == c)'),
	(175, 'a (= c)'),
	(176, 'a (1b = c)'),
	(177, 'a ("b" = c)'),
	(178, 'a (.b = c)'),
	(179, 'a (b = ''c)'),
	(180, 'a (b = ''c''''d)'),
	(181, 'a (b = ''c''d'')'),
	(182, 'a (b = "c")'),
	(183, 'a (b = c(d))'),
	(184, 'a (b = c) d'),
	(185, 'a (b = c) @ 1h'),
	(186, 'a (b = c) (d = e)'),
	(187, 'a (b = c)), d'),
	(188, '(b = c)'),
	(189, 'a @ (b = c)'),
	(190, 'a @ 1d from (b = c)'),
	(191, 'a @ 1d (b = c) from 03:00'),
	(192, 'a (b = c, d = e, B = f)'),
	(193, 'a (b = c), a (b = d)'),
	(194, 'a (' || (SELECT string_agg(format('p%s = 1', n), ',')
					FROM generate_series(1, 101) AS n) || ')')
) AS refused(id, list)
ORDER BY id \gexec

-- A list of five thousand items with a mistake at its end.  (The message
-- repeats the list.)
\set VERBOSITY sqlstate
\set ECHO none
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L',
			  string_agg('view_' || n % 4999, ', ' ORDER BY n))
FROM generate_series(1, 5000) AS n \gexec
\set ECHO all
\set VERBOSITY default

-- None of them stands in the file.
SELECT count(*) FROM pg_file_settings
WHERE name = 'bigbrotr_refresher.views';

-- The same bounds from within, and what is rounded to them
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L', list)
FROM (VALUES
	(1, 'a @ 1'),
	(2, 'a @ 500001us'),
	(3, 'a @ 501ms'),
	(4, 'a @ 0.6s'),
	(5, 'a @ 0.02min'),
	(6, 'a @ 31622400'),
	(7, 'a @ 31622400400000us'),
	(8, 'a @ 31622400400ms'),
	(9, 'a @ 31622400s'),
	(10, 'a @ 527040min'),
	(11, 'a @ 8784h'),
	(12, 'a @ 366d'),
	(13, 'a @ 7.01d'),
	(14, 'a@90s,b@15min;c@1.5h'),
	(15, E'a  @\t90  s  , b @ 0x3C ; c'),
	(16, 'a @ 9e1'),
	(17, 'a @ 1d from 0:00, b@1h FROM 23:59:59'),
	(18, 'a @ 86400s from 03:00, b @ 1440min from 03:00, c @ 366d from 03:00'),
	(19, E'a @ 1s\tfrom  03:00 ; b'),
	(20, '"From" @ 1d, from @ 1d from 3:00'),
	(21, 'a (' || (SELECT string_agg(format('p%s = 1', n), ',')
				   FROM generate_series(1, 100) AS n) || ')')
) AS accepted(id, list)
ORDER BY id \gexec

--
-- Lists that are accepted, and what each is taken for: stages in brackets,
-- with the views in them.  (None of them exists, and a wildcard is seen only
-- where its schema is missed.)
--
CREATE FUNCTION stages() RETURNS text
LANGUAGE sql AS $$
	SELECT string_agg('[' || views || ']', ' ' ORDER BY stage)
	FROM (SELECT stage, string_agg(view, ' ' ORDER BY position) AS views
		  FROM bigbrotr_refresher.plan() GROUP BY stage) AS stages
$$;

CREATE PROCEDURE reload()
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_reload_conf();
END
$$;

-- One look whether the list is in force.  A session takes it over only
-- between two commands.
CREATE PROCEDURE look(list text, look integer)
LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('bigbrotr_refresher.views') <> list THEN
		PERFORM pg_sleep(0.001 * look);
	END IF;
END
$$;

-- Set a list, have the server read it, wait for it, and show it.
CREATE FUNCTION statements(list text) RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L', list)
	UNION ALL
	SELECT 'CALL reload()'
	UNION ALL
	SELECT format('CALL look(%L, %s)', list, look)
	FROM generate_series(1, 150) AS look
	UNION ALL
	SELECT format('SELECT %L, stages()', list)
$$;

\pset fieldsep '  =>  '
\set ECHO none
SELECT statement
FROM (VALUES
	-- items and stages
	(1, 'a'),
	(2, 'a,b'),
	(3, 'b, a;c;e,d'),
	(4, E'  a\t,b ;\tc  '),
	(5, 'a @ 1h, b@90s; c @ 500001 us, d @ 7d ; e'),
	-- folding and quoting
	(10, 'Event_Stats, RELAY$1, _a, a1'),
	(11, '"Event_Stats", event_stats'),
	(12, '"a,b", "c;d", "e@f", "g.h", " i ", "j""k", "*"'),
	(13, '""""'),
	(14, '"a" , "select", "1", Table'),
	(15, '"a"@1h,"b @ 1h";"c"'),
	-- qualified names
	(20, 's.a, "S".a, s."A", "s.a"'),
	(21, 's . a , t. b, t .c'),
	(22, 'a, s.a, t.a, a.s'),
	-- wildcards
	(30, '*'),
	(31, '*, nowhere.*'),
	(32, 'a; * ; b'),
	(33, '"*"'),
	(34, 'nowhere . * @ 1h, "Nowhere".*; * @ 2d'),
	-- names of 63 bytes
	(40, repeat('n', 63)),
	(41, '"' || repeat('n', 62) || '"""'),
	(42, repeat('s', 63) || '.' || repeat('n', 63)),
	(43, repeat(U&'\00E4', 31)),
	-- beyond ASCII, where nothing is folded
	(50, U&'\00C4rger, \00E4rger, \65E5\672C\8A9E, "\+01F600"')
) AS accepted(id, list), statements(list) WITH ORDINALITY AS s(statement, n)
ORDER BY id, n \gexec

-- A list of five thousand items
SELECT format('ALTER SYSTEM SET bigbrotr_refresher.views = %L',
			  string_agg('"View ' || n || '" @ 1h',
						 CASE n % 2 WHEN 0 THEN ', ' ELSE '; ' END
						 ORDER BY n))
FROM generate_series(1, 5000) AS n \gexec
\set ECHO all
\pset fieldsep '|'

-- A list of five thousand items.  (A new session starts from what is in
-- force.)
SELECT pg_reload_conf() \gset
\c -
SELECT count(*), max(stage), bool_and(view = format('"View %s"', position))
FROM bigbrotr_refresher.plan();

--
-- A list in a file is refused on reload as well, and what was in force stays
-- in force.
--
ALTER SYSTEM RESET bigbrotr_refresher.views;
SELECT current_setting('data_directory') || '/list.conf' AS file \gset

COPY (SELECT 'bigbrotr_refresher.views = ''a; b''') TO :'file';
SELECT pg_reload_conf() \gset
\c -
SHOW bigbrotr_refresher.views;
SELECT stages();

COPY (SELECT unnest(ARRAY['bigbrotr_refresher.views = ''a; b; a''',
						  'bigbrotr_refresher.interval = ''2h'''])) TO :'file';
SELECT name, setting, applied, error FROM pg_file_settings
WHERE sourcefile = :'file';
SELECT pg_reload_conf() \gset
\c -
SHOW bigbrotr_refresher.views;
SHOW bigbrotr_refresher.interval;
SELECT stages();

-- The default
COPY (SELECT '') TO :'file';
SELECT pg_reload_conf() \gset
\c -
SELECT replace(stages(), ' ', E'\n');

DROP FUNCTION statements, stages;
DROP PROCEDURE look, reload;
DROP EXTENSION bigbrotr_refresher;
