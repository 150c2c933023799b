"""A cycle in which nothing has changed, against one that refreshes all, and
what it costs to find that out."""

import asyncio
import statistics

import report
import server

DATABASE = "skipping"
PARTITIONS = (10, 1000)
CLOCK = "event_stats"


async def measure(options):
    cycles = 3 if options.quick else 10
    scale = 0.1 if options.quick else 4

    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    server.say(f"making data of scale {scale:g}")
    server.psql(DATABASE, "-c", "SET client_min_messages = warning",
                "-v", f"scale={scale}",
                "-f", server.SOURCE / "demo" / "all.sql",
                "-c", "CREATE EXTENSION bigbrotr_refresher")
    for number in PARTITIONS:
        make_partitions(number)
    connection = await server.serve(
        DATABASE, "*, " + ", ".join(f"parts_{n}" for n in PARTITIONS))
    await server.configure(connection,
                           bigbrotr_refresher__skip_unchanged="on")

    full = []
    for _ in range(options.rounds):
        row = await connection.fetchrow(
            "SELECT * FROM bigbrotr_refresher.run(true)")
        full.append(row["duration"].total_seconds())
    before = await connection.fetchval(
        "SELECT max(id) FROM bigbrotr_refresher.history")
    server.say(f"waiting for {cycles} cycles")
    await server.configure(connection, bigbrotr_refresher__interval="1s")
    while await connection.fetchval(
            "SELECT count(DISTINCT cycle_start) FROM bigbrotr_refresher.history"
            " WHERE id > $1", before) <= cycles:
        await asyncio.sleep(0.5)
    await server.configure(connection, bigbrotr_refresher__interval=None)
    await server.idle(connection)
    rows = await connection.fetch(
        "SELECT cycle_start, view, outcome, started_at, duration"
        " FROM bigbrotr_refresher.history WHERE id > $1", before)
    await connection.close()
    tell(scale, full, rows)


def make_partitions(number):
    """A materialized view of a table with so many partitions."""
    table = f"table_{number}"
    statements = "; ".join(
        f"CREATE TABLE {table}_{i} PARTITION OF {table} FOR VALUES IN ({i})"
        for i in range(1, number + 1))
    server.psql(
        DATABASE,
        "-c", f"CREATE TABLE {table} (n int) PARTITION BY LIST (n)",
        "-c", statements,
        "-c", f"INSERT INTO {table} SELECT generate_series(1, {number})",
        "-c", f"CREATE MATERIALIZED VIEW parts_{number}"
              f" AS SELECT count(*) FROM {table}",
        "-c", f"ALTER MATERIALIZED VIEW parts_{number}"
              f" OWNER TO {server.ROLE}",
        "-c", f"GRANT SELECT ON {table} TO {server.ROLE}")


def tell(scale, full, rows):
    starts = {row["cycle_start"] for row in rows}
    beside = []
    for start in starts:
        cycle = [row for row in rows if row["cycle_start"] == start]
        begin = min(row["started_at"] for row in cycle)
        end = max(row["started_at"] + row["duration"] for row in cycle)
        clock = sum(row["duration"].total_seconds() for row in cycle
                    if row["outcome"] == "refreshed")
        beside.append((end - begin).total_seconds() - clock)
    skipped = {}
    for row in rows:
        if row["outcome"] == "skipped":
            skipped.setdefault(row["view"], []).append(
                1000 * row["duration"].total_seconds())
    refreshed = {row["view"] for row in rows if row["outcome"] == "refreshed"}

    report.heading("Skipping")
    report.paragraph(f"""
        BigBrotr's views at scale {scale:g}, refreshed by `run(true)` ({len(full)}
        times), against {len(starts)} cycles with nothing changed and
        `skip_unchanged` on. Refreshed in these was
        {", ".join(sorted(refreshed))}, which reads the clock; its time is left
        out below.""")
    report.table(
        ("", "median s", "least", "greatest"),
        [("all refreshed", *report.spread(full, 3)),
         ("nothing changed", *report.spread(beside, 4))])
    print(f"- a cycle with nothing changed takes "
          f"{statistics.median(beside) / statistics.median(full):.4f} of one "
          "that refreshes all")
    report.goal("seconds beside the view that reads the clock",
                statistics.median(beside), 0.05, " s")
    print()
    decisions = [ms for view, times in skipped.items()
                 if not view.startswith("parts_") for ms in times]
    report.table(
        ("to decide on a view", "median ms", "least", "greatest"),
        [("BigBrotr's, 32 partitions", *report.spread(decisions, 3))] +
        [(f"one of {number:,} partitions",
          *report.spread(skipped[f"parts_{number}"], 3))
         for number in PARTITIONS])
    report.goal("ms a view of BigBrotr's", statistics.median(decisions), 1,
                " ms")
    print()
