"""How long it takes to plan, by the number of views."""

import statistics
import time

import report
import server

DATABASE = "planning"


async def measure(options):
    sizes = (10, 100, 1000) if options.quick else (100, 1000, 10000)

    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    server.psql(DATABASE, "-c", "CREATE EXTENSION bigbrotr_refresher",
                "-c", "CREATE TABLE source (n int)")
    connection = await server.connect(DATABASE)
    await server.configure(connection, bigbrotr_refresher__views="*")

    rows = []
    made = 0
    for size in sizes:
        server.say(f"making {size} materialized views")
        while made < size:
            made += 1
            await connection.execute(
                f"CREATE MATERIALIZED VIEW m{made} AS SELECT n FROM source")
        await connection.execute("VACUUM ANALYZE")
        rows.append((size, [await plan(size) for _ in range(options.rounds)]))
    await connection.close()

    report.heading("Planning")
    report.paragraph(f"""
        `plan()` of all materialized views of a database, all of which read
        one table; {options.rounds} times, each by a new connection, whose
        caches are empty, and then a second time by the same.""")
    report.table(
        ("views", "first ms", "ms a view", "second ms", "ms a view"),
        [(f"{size:,}", *both(size, times)) for size, times in rows])
    per_view = [statistics.median(second for _, second in times) / size
                for size, times in rows]
    report.goal("ms a view, of the most views to those of the middle",
                per_view[-1] / per_view[-2], 1.5)
    print()


def both(size, times):
    for which in (0, 1):
        median = statistics.median(pair[which] for pair in times)
        yield f"{median:.1f}"
        yield f"{median / size:.4f}"


async def plan(size):
    """Plan twice, and return how many ms each took."""
    connection = await server.connect(DATABASE)
    times = []
    for _ in range(2):
        start = time.monotonic()
        views = await connection.fetchval(
            "SELECT count(*) FROM bigbrotr_refresher.plan()")
        times.append(1000 * (time.monotonic() - start))
        if views != size:
            raise RuntimeError(f"{views} views were planned")
    await connection.close()
    return times
