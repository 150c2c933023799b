"""How far one server goes: views, workers, dependencies, history."""

import statistics
import time

import report
import server

DATABASE = "scale"
WORKERS = (1, 2, 8)


async def measure(options):
    sizes = (20, 200) if options.quick else (100, 1000, 10000)
    depth = 200 if options.quick else 5000
    width = 100 if options.quick else 1000
    history = (1000, 20000) if options.quick else (10000, 1000000)

    await many_views(options, sizes)
    await dependencies(options, depth, width)
    await long_history(options, history)


def create(database):
    server.psql("postgres", "-c", f"CREATE DATABASE {database}",
                # To compile a query of a thousand tables takes seconds.
                "-c", f"ALTER DATABASE {database} SET jit = off")
    server.psql(database, "-c", "CREATE EXTENSION bigbrotr_refresher",
                "-c", f"GRANT ALL ON SCHEMA public TO {server.ROLE}")
    server.psql(database, "-c", "CREATE TABLE source (n int)", role=server.ROLE)


async def drop(database):
    connection = await server.connect("postgres")
    await server.configure(connection, bigbrotr_refresher__databases="",
                           bigbrotr_refresher__views=None,
                           bigbrotr_refresher__max_workers=None)
    await connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
    await connection.close()


def execute_all(database, statements, batch=500):
    """As the role that refreshes, a transaction a batch."""
    for first in range(0, len(statements), batch):
        server.psql(database, "-c", "; ".join(statements[first:first + batch]),
                    role=server.ROLE)


async def cycle(connection, views):
    """A cycle by run(), in ms; all views must be refreshed."""
    row = await connection.fetchrow(
        "SELECT * FROM bigbrotr_refresher.run(true)")
    if row["refreshed"] != views:
        raise RuntimeError(f"{row['refreshed']} of {views} were refreshed")
    return 1000 * row["duration"].total_seconds()


async def median_cycle(connection, views, rounds):
    return statistics.median(
        [await cycle(connection, views) for _ in range(rounds)])


# ---- many views ------------------------------------------------------------

async def many_views(options, sizes):
    rounds = min(options.rounds, 3)
    create(DATABASE)
    found = {}
    made = 0
    for size in sizes:
        server.say(f"{size} materialized views")
        execute_all(DATABASE, [
            f"CREATE MATERIALIZED VIEW m{n} AS SELECT n FROM source"
            for n in range(made, size)])
        made = size
        connection = await server.serve(DATABASE, "*")
        for workers in WORKERS:
            await server.configure(connection,
                                   bigbrotr_refresher__max_workers=workers)
            found[size, workers] = await median_cycle(
                connection, size, rounds) / size
        await connection.close()
    await drop(DATABASE)

    report.heading("Many views")
    report.paragraph(f"""
        Cycles of materialized views of one empty table: ms a view, planning
        included; medians of {rounds} cycles.""")
    report.table(
        ("views", *(f"{workers} workers" for workers in WORKERS)),
        [(f"{size:,}", *(f"{found[size, workers]:.3f}" for workers in WORKERS))
         for size in sizes])
    for workers in WORKERS:
        report.goal(f"{workers} workers: a view of {sizes[-1]:,}, to one of "
                    f"{sizes[0]:,}",
                    found[sizes[-1], workers] / found[sizes[0], workers], 1.5)
    print()


# ---- dependencies ----------------------------------------------------------

async def dependencies(options, depth, width):
    rounds = min(options.rounds, 3)
    shapes = {
        "views of one table":
            [f"CREATE MATERIALIZED VIEW m{n} AS SELECT n FROM source"
             for n in range(depth)],
        "a chain":
            [f"CREATE MATERIALIZED VIEW m{n} AS SELECT n FROM "
             + (f"m{n - 1}" if n else "source") for n in range(depth)],
        f"the last reads {width:,} others":
            [f"CREATE MATERIALIZED VIEW m{n} AS SELECT n FROM source"
             for n in range(depth - 1)]
            + [f"CREATE MATERIALIZED VIEW m{depth - 1} AS "
               + " UNION ALL ".join(f"SELECT n FROM m{n}"
                                    for n in range(width))],
    }
    rows = []
    for shape, statements in shapes.items():
        server.say(f"{depth} views: {shape}")
        create(DATABASE)
        execute_all(DATABASE, statements)
        connection = await server.serve(DATABASE, "*")
        await server.configure(connection, bigbrotr_refresher__max_workers=1)
        plan = await median_time(
            connection, "SELECT count(*) FROM bigbrotr_refresher.plan()", rounds)
        views = await median_time(
            connection, "SELECT count(*) FROM bigbrotr_refresher.views", rounds)
        rows.append((shape, plan, views,
                     await median_cycle(connection, depth, rounds) / depth))
        await connection.close()
        await drop(DATABASE)

    report.heading("Deep and wide dependencies")
    report.paragraph(f"""
        {depth:,} materialized views, refreshed by one worker; medians of
        {rounds}.""")
    report.table(
        ("", "plan() ms", "views ms", "cycle, ms a view"),
        [(shape, f"{plan:.0f}", f"{views:.0f}", f"{each:.3f}")
         for shape, plan, views, each in rows])
    for shape, plan, _, each in rows[1:]:
        report.goal(f"{shape}: the cycle, to views of one table",
                    each / rows[0][3], 1.5)
        report.goal(f"{shape}: plan(), to views of one table",
                    plan / rows[0][1], 1.5)
    print()


# ---- a long history --------------------------------------------------------

QUERIES = {
    "views": "SELECT count(*) FROM bigbrotr_refresher.views",
    "plan()": "SELECT count(*) FROM bigbrotr_refresher.plan()",
    "timeline()": "SELECT count(*) FROM bigbrotr_refresher.timeline()",
    "cycles, the last 20":
        "SELECT count(*) FROM (SELECT * FROM bigbrotr_refresher.cycles"
        " ORDER BY cycle_start DESC LIMIT 20) AS c",
    "board()": "SELECT length(bigbrotr_refresher.board())",
    "a cycle of 20 views": None,
}
VIEWS = 20


async def long_history(options, sizes):
    rounds = options.rounds
    create(DATABASE)
    execute_all(DATABASE, [
        f"CREATE MATERIALIZED VIEW m{n} AS SELECT n FROM source"
        for n in range(VIEWS)])
    connection = await server.connect(DATABASE)
    await server.configure(connection,
                           bigbrotr_refresher__history_retention="1000d")
    await connection.close()
    found = {}
    made = 0
    for size in sizes:
        server.say(f"{size} rows of history")
        server.psql(DATABASE, "-c", fill(made, size),
                    "-c", "VACUUM ANALYZE bigbrotr_refresher.history")
        made = size
        connection = await server.serve(DATABASE, "*")
        for name, query in QUERIES.items():
            found[name, size] = (
                await median_time(connection, query, rounds) if query
                else await median_cycle(connection, VIEWS, rounds))
        await connection.close()
    pruned, seconds = await prune(sizes[-1])
    await drop(DATABASE)

    report.heading("A long history")
    report.paragraph(f"""
        {VIEWS} views, refreshed each ten minutes; medians of {rounds}, in
        ms.""")
    report.table(
        ("", *(f"{size:,} rows" for size in sizes)),
        [(name, *(f"{found[name, size]:.1f}" for size in sizes))
         for name in QUERIES])
    print(f"- {pruned:,} rows that were too old were pruned in {seconds:.1f} s,"
          f" {1000 * seconds / pruned:.4f} ms a row")
    for name in QUERIES:
        report.goal(f"{name}: {sizes[-1]:,} rows, to {sizes[0]:,}",
                    found[name, sizes[-1]] / found[name, sizes[0]], 1.5)
    print()


def fill(first, last):
    """Rows of past cycles, the newest last."""
    return f"""
        INSERT INTO bigbrotr_refresher.history (view, cycle_start,
            schedule_start, started_at, duration, outcome, method, failures,
            wal_bytes, shared_blks_hit, shared_blks_read, temp_blks_read,
            temp_blks_written, data_as_of)
        SELECT 'public.m' || n % {VIEWS}, c.at, c.at,
            c.at + n % {VIEWS} * interval '1 s', '1 s', 'refreshed', 'merge',
            0, 0, 0, 0, 0, 0, c.at
        FROM generate_series({first}, {last - 1}) AS n, LATERAL (SELECT
            now() - ({last} - n) / {VIEWS} * interval '10 min') AS c(at)"""


async def median_time(connection, query, rounds):
    times = []
    for _ in range(rounds + 1):
        start = time.monotonic()
        await connection.fetchval(query)
        times.append(1000 * (time.monotonic() - start))
    return statistics.median(times[1:])     # the first one fills caches


async def prune(rows):
    """How many rows a shorter retention prunes, and in how many seconds."""
    connection = await server.connect(DATABASE)
    count = "SELECT count(*) FROM bigbrotr_refresher.history"
    before = await connection.fetchval(count)
    days = rows // VIEWS // 144 // 2
    await server.configure(
        connection, bigbrotr_refresher__history_retention=f"{days}d")
    await connection.close()
    # It prunes once an hour, and when it starts.
    server.control("restart")
    connection = await server.connect(DATABASE)
    start = time.monotonic()
    await connection.fetchval("SELECT bigbrotr_refresher.run()")
    old = "SELECT EXISTS (SELECT FROM bigbrotr_refresher.history" \
          f" WHERE started_at < now() - interval '{days} days 1 hour')"
    while await connection.fetchval(old):
        time.sleep(0.5)
    seconds = time.monotonic() - start
    after = await connection.fetchval(count)
    await server.configure(
        connection, bigbrotr_refresher__history_retention=None)
    await connection.close()
    return before - after, seconds
