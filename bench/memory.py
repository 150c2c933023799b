"""Memory of the worker after few cycles and after many."""

import report
import server

DATABASE = "memory"

# The server's default of temp_buffers, in kB
BUFFERS = 8192

# What is refreshed, by how many workers, with how much of temp_buffers in kB
CASES = {
    "a function that does nothing": ("nothing", 1, BUFFERS),
    "a concurrent refresh": ("concurrent", 1, BUFFERS),
    "likewise, `temp_buffers = 800kB`": ("concurrent", 1, 800),
    "both, two workers": ("nothing, concurrent", 2, BUFFERS),
}

# Cycles between two looks
BATCH = 100


async def measure(options):
    steps = (10, 100, 1000) if options.quick else (100, 1000, 10000)

    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    server.psql(DATABASE, "-c", f"""
        CREATE EXTENSION bigbrotr_refresher;
        CREATE FUNCTION nothing_refresh() RETURNS void LANGUAGE sql AS '';
        CREATE MATERIALIZED VIEW concurrent AS SELECT 1 AS n;
        CREATE UNIQUE INDEX ON concurrent (n);
        ALTER MATERIALIZED VIEW concurrent OWNER TO {server.ROLE};
        ALTER DATABASE {DATABASE} SET synchronous_commit = off""")

    rows = {}
    for case, (views, workers, buffers) in CASES.items():
        server.psql(DATABASE, "-c", f"""
            ALTER ROLE {server.ROLE} IN DATABASE {DATABASE}
            SET temp_buffers = '{buffers}kB'""")
        rows[case] = await measure_case(case, views, workers, steps)

    report.heading("Memory")
    report.paragraph("""
        Resident memory of the worker after so many cycles, and the greatest
        that was seen until then. What it shares with the others (VmRSS) grows
        with the pages of shared buffers that it has touched; what it has for
        itself (RssAnon) must not, but for the buffers of temporary tables
        being filled once, up to temp_buffers. What PostgreSQL keeps of each
        temporary table's type ends with a worker, so a worker that has grown
        by that is replaced by another one.""")
    report.table(
        ("", "cycles", "RssAnon kB", "greatest", "VmRSS kB", "workers"),
        [(case, *(f"{number:,}" for number in row))
         for case in CASES for row in rows[case]])
    for case, (views, _, buffers) in CASES.items():
        first, last = (rows[case][i][1] for i in (0, -1))
        text = f"growth of RssAnon, {case}"
        if "concurrent" in views and buffers == BUFFERS:
            last -= buffers
            text += ", beside temp_buffers"
        report.goal(text, last / first, 1.2)
    print()


async def measure_case(case, views, workers, steps):
    """Returns a row a step: cycles, RssAnon, the greatest one, VmRSS, and how
    many workers there were."""
    rows = []
    greatest = 0
    connection = await server.serve(DATABASE, views)
    await server.configure(connection, bigbrotr_refresher__max_workers=workers)
    pids = {await server.worker_pid(connection)}
    done = 0
    for step in steps:
        server.say(f"memory: {case}, {step} cycles")
        while done < step:
            batch = min(step - done, BATCH)
            await connection.execute(
                f"DO 'BEGIN FOR n IN 1 .. {batch} LOOP PERFORM"
                " bigbrotr_refresher.run(true); END LOOP; END'")
            done += batch
            await server.idle(connection)
            pid = await server.worker_pid(connection)
            status = server.status_of(pid)
            pids.add(pid)
            greatest = max(greatest, status["RssAnon"])
        rows.append((step, status["RssAnon"], greatest, status["VmRSS"],
                     len(pids)))
    await server.configure(connection, bigbrotr_refresher__max_workers=None)
    await connection.close()
    return rows
