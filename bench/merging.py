"""Merges against the server's own ways to refresh, in turn on views that are
alike."""

import asyncio
import statistics
import time

import report
import server

DATABASE = "merging"

# The same view three times: refreshed CONCURRENTLY, plainly, and by merging
WAYS = ("concurrently", "plain", "merge")

# Part of the rows that change before each refresh, in per cent
PARTS = (0, 1, 10, 30, 100)

# Ratios that must be reached: to CONCURRENTLY, to plain
GOALS = {
    ("same order", 0): (0.15, 0.35),
    ("same order", 1): (0.10, 0.35),
    ("same order", 10): (0.15, 0.6),
    ("same order", 100): (0.5, 3),
    ("random order", 0): (0.3, 1.3),
    ("column of NULLs", 0): (0.08, None),
    ("5 million rows, same order", 0): (0.5, None),
    ("5 million rows, random order", 0): (0.5, None),
}


async def measure(options):
    rows = 3000 if options.quick else 300_000
    many = 50_000 if options.quick else 5_000_000

    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    connection = await server.connect(DATABASE)
    await connection.execute("CREATE EXTENSION pg_stat_statements")
    await connection.execute(
        f"""CREATE TABLE source AS
            SELECT id, id % 100 AS grp, md5(id::text) AS word,
                id * 1.5 AS amount, now() AS changed_at, NULL::text AS nothing
            FROM generate_series(1, {rows}) AS id""")
    await connection.execute("ALTER TABLE source ADD PRIMARY KEY (id)")
    await connection.execute("VACUUM ANALYZE source")
    columns = "id, grp, word, amount, changed_at"
    results = []
    for name, query, indexes, parts in (
            ("same order", f"SELECT {columns} FROM source",
             ("UNIQUE INDEX ON {} (id)", "INDEX ON {} (grp)"), PARTS),
            ("random order",
             f"SELECT {columns} FROM source ORDER BY md5(id::text || random())",
             ("UNIQUE INDEX ON {} (id)", "INDEX ON {} (grp)"), (0, 10)),
            ("column of NULLs", f"SELECT {columns}, nothing FROM source",
             ("UNIQUE INDEX ON {} (id)", "UNIQUE INDEX ON {} (nothing)"), (0,)),
            ("wide rows",
             f"SELECT {columns}, repeat(word, 200) AS wide FROM source"
             " WHERE id % 10 = 0",
             ("UNIQUE INDEX ON {} (id)",), (0, 10))):
        results += await compare(connection, options, name, query, indexes,
                                 parts, "source", "word = md5(random()::text)")
    await connection.execute(
        f"""CREATE TABLE many AS SELECT id, id % 1000 AS n
            FROM generate_series(1, {many}) AS id""")
    await connection.execute("VACUUM ANALYZE many")
    for name, query in (
            ("5 million rows, same order", "SELECT id, n FROM many"),
            ("5 million rows, random order",
             "SELECT id, n FROM many ORDER BY hashint4(id)")):
        results += await compare(connection, options, name, query,
                                 ("UNIQUE INDEX ON {} (id)",), (0, 10), "many",
                                 "n = n + 1")
    tell(results)
    await tell_growth(connection, rows)
    await tell_reader(connection)
    await connection.close()


async def make(connection, query, indexes, fillfactor=100):
    """Make the three views."""
    for way in WAYS:
        await connection.execute(
            f"DROP MATERIALIZED VIEW IF EXISTS by_{way}")
        await connection.execute(
            f"CREATE MATERIALIZED VIEW by_{way} WITH (fillfactor={fillfactor})"
            f" AS {query}")
        for index in indexes:
            await connection.execute("CREATE " + index.format(f"by_{way}"))
        await connection.execute(f"VACUUM ANALYZE by_{way}")


async def refresh(connection, way):
    """Refresh one of them, and return the seconds that took."""
    concurrently = "" if way == "plain" else "CONCURRENTLY"
    begin = time.monotonic()
    await connection.execute(
        f"REFRESH MATERIALIZED VIEW {concurrently} by_{way}", timeout=3600)
    return time.monotonic() - begin


async def merge_for(connection, way):
    await server.configure(
        connection,
        bigbrotr_refresher__merge="all" if way == "merge" else "off")
    # So that this session has read it, too
    while await connection.fetchval(
            "SHOW bigbrotr_refresher.merge") != (
                "all" if way == "merge" else "off"):
        await asyncio.sleep(0.01)


async def compare(connection, options, name, query, indexes, parts, table,
                  change):
    """The times of each way for each part of the rows that changes."""
    results = []
    await make(connection, query, indexes)
    for part in parts:
        server.say(f"{name}, {part} % changed")
        times = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            if part > 0:
                await connection.execute(
                    f"UPDATE {table} SET {change} WHERE random() < {part / 100}",
                    timeout=3600)
                await connection.execute(f"VACUUM ANALYZE {table}",
                                         timeout=3600)
            for way in WAYS:
                await merge_for(connection, way)
                times[way].append(await refresh(connection, way))
                await connection.execute(f"VACUUM by_{way}", timeout=3600)
        results.append((name, part, times))
    return results


def tell(results):
    report.heading("Merging")
    report.paragraph("""
        Views that are alike, refreshed in turn by one session: CONCURRENTLY
        by the server, plainly, and by merging; seconds, medians. The rows
        that change are chosen at random before each round.""")
    rows = []
    for name, part, times in results:
        median = {way: statistics.median(times[way]) for way in WAYS}
        rows.append((name, f"{part} %",
                     *(f"{median[way]:.3f}" for way in WAYS),
                     f"{median['merge'] / median['concurrently']:.3f}",
                     f"{median['merge'] / median['plain']:.3f}"))
    report.table(("", "changed", "CONCURRENTLY", "plain", "merge",
                  "to CONCURRENTLY", "to plain"), rows)
    for name, part, times in results:
        median = {way: statistics.median(times[way]) for way in WAYS}
        goals = GOALS.get((name, part), (None, None))
        for limit, way in zip(goals, ("concurrently", "plain")):
            if limit is not None:
                report.goal(f"{name}, {part} % changed, to {way}",
                            median["merge"] / median[way], limit)
    print()


async def tell_growth(connection, rows):
    """Size and write-ahead log of ten refreshes with 30 % changed."""
    table = []
    ratios = {}
    for fillfactor in (100, 70):
        await make(connection,
                   "SELECT id, grp, word, amount, changed_at FROM source",
                   ("UNIQUE INDEX ON {} (id)", "INDEX ON {} (grp)"), fillfactor)
        ways = ("concurrently", "merge")
        wal = dict.fromkeys(ways, 0)
        await connection.execute("SELECT pg_stat_reset()")
        await connection.execute("SELECT pg_stat_statements_reset()")
        for turn in range(10):
            server.say(f"30 % changed, fillfactor {fillfactor}, {turn + 1}")
            await connection.execute(
                "UPDATE source SET word = md5(random()::text)"
                " WHERE random() < 0.3")
            await connection.execute("VACUUM source")
            for way in ways:
                await merge_for(connection, way)
                before = await connection.fetchval("SELECT pg_current_wal_lsn()")
                await refresh(connection, way)
                wal[way] += await connection.fetchval(
                    "SELECT pg_current_wal_lsn() - $1::pg_lsn", before)
        await connection.execute("SELECT pg_stat_force_next_flush()")
        for way in ways:
            size = await connection.fetchval(
                f"SELECT pg_total_relation_size('by_{way}')")
            entries = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_statements"
                f" WHERE query LIKE '%by_{way}%' OR query LIKE '%newdata%'")
            hot = await connection.fetchrow(
                "SELECT n_tup_upd + n_tup_del AS changed, n_tup_hot_upd"
                f" FROM pg_stat_user_tables WHERE relname = 'by_{way}'")
            # A merge deletes and inserts a row that cannot stay on its page.
            share = hot["n_tup_hot_upd"] / max(1, hot["changed"])
            table.append((f"{way}, fillfactor {fillfactor}",
                          f"{size / 2 ** 20:.0f}",
                          f"{float(wal[way]) / 2 ** 20:.0f}",
                          f"{100 * share:.1f}", str(entries)))
            ratios[fillfactor, way] = (size, float(wal[way]), share)
    report.paragraph(f"""
        Ten refreshes of {rows:,} rows, with 30 % changed before each and no
        VACUUM of the view in between: its size with indexes, the write-ahead
        log of the refreshes, how many of its updates were HOT, and the entries
        in pg_stat_statements.""")
    report.table(("", "MB", "MB of WAL", "HOT %", "entries"), table)
    for place, text, limit in ((0, "size", 0.5), (1, "WAL", 0.6)):
        report.goal(f"{text} of ten merges, to CONCURRENTLY",
                    float(ratios[100, "merge"][place])
                    / float(ratios[100, "concurrently"][place]), limit)
    print(f"- with fillfactor 70, {100 * ratios[70, 'merge'][2]:.1f} % of the "
          "updates were HOT (95 % wanted)\n")


async def tell_reader(connection):
    """The longest that a reader waits while the view is refreshed."""
    await make(connection,
               "SELECT id, grp, word, amount, changed_at FROM source",
               ("UNIQUE INDEX ON {} (id)", "INDEX ON {} (grp)"))
    table = []
    for way in WAYS:
        await merge_for(connection, way)
        await connection.execute(
            "UPDATE source SET word = md5(random()::text)"
            " WHERE random() < 0.3")
        reader = await server.connect(DATABASE)
        task = asyncio.create_task(refresh(connection, way))
        longest = 0
        while not task.done():
            begin = time.monotonic()
            await reader.fetchval(f"SELECT word FROM by_{way} WHERE id = 1")
            longest = max(longest, time.monotonic() - begin)
            await asyncio.sleep(0)
        seconds = await task
        await reader.close()
        table.append((way, f"{1000 * seconds:.0f}", f"{1000 * longest:.1f}"))
    report.paragraph("""
        A session reads a row by the index again and again while the view is
        refreshed, 30 % changed.""")
    report.table(("", "refresh, ms", "longest read, ms"), table)
