"""A part of a view, refreshed alone, against a merge of the whole view."""

import statistics
import time

import report
import server

DATABASE = "parts"

# What a part may take of the time of the whole
GOAL = 0.01


async def measure(options):
    groups = 3000 if options.quick else 300_000
    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    connection = await server.connect(DATABASE)
    await connection.execute(
        f"""CREATE EXTENSION bigbrotr_refresher;
            CREATE TABLE orders AS
            SELECT id, id % {groups} AS customer_id, id % 1000 AS amount,
                now() - id * interval '1 second' AS ordered_at
            FROM generate_series(1, 10 * {groups}) AS id;
            CREATE INDEX ON orders (customer_id);
            CREATE MATERIALIZED VIEW totals AS
            SELECT customer_id, count(*) AS orders, sum(amount) AS total,
                max(ordered_at) AS last_order
            FROM orders GROUP BY customer_id;
            CREATE UNIQUE INDEX ON totals (customer_id)""", timeout=3600)
    await connection.execute("VACUUM ANALYZE")
    times = {"whole": [], "part": []}
    for turn in range(options.rounds):
        server.say(f"a part of a view, round {turn + 1}")
        times["whole"].append(await refresh(connection, turn, "'totals'"))
        for customer in range(20 * turn, 20 * turn + 20):
            times["part"].append(await refresh(
                connection, customer, f"'totals', 'customer_id = {customer}'"))
    wrong = await connection.fetchval(
        """SELECT count(*) FROM (
            SELECT customer_id, count(*), sum(amount), max(ordered_at)
            FROM orders GROUP BY customer_id EXCEPT ALL TABLE totals) AS x""",
        timeout=3600)
    await connection.close()
    tell(groups, times, wrong)


async def refresh(connection, customer, arguments):
    """Change one customer's rows and refresh; return the seconds of that."""
    await connection.execute(
        f"UPDATE orders SET amount = amount + 1 WHERE customer_id = {customer}")
    begin = time.monotonic()
    await connection.execute(f"SELECT bigbrotr_refresher.refresh({arguments})",
                             timeout=3600)
    return time.monotonic() - begin


def tell(groups, times, wrong):
    median = {way: statistics.median(times[way]) for way in times}
    report.heading("A part of a view")
    report.paragraph(f"""
        A view of {groups:,} groups over {10 * groups:,} rows, with an index on
        the table's column and on the view's. One group has changed; it is
        refreshed by a merge of the whole view, and alone; milliseconds, medians
        of {len(times['whole'])} and {len(times['part'])}.""")
    report.table(("whole", "part", "longest part", "rows that are wrong"),
                 [(f"{1000 * median['whole']:.1f}",
                   f"{1000 * median['part']:.2f}",
                   f"{1000 * max(times['part']):.2f}", str(wrong))])
    report.goal("a part, to the whole", median["part"] / median["whole"], GOAL)
    print()
