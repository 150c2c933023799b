"""Memory of the worker after few cycles and after many."""

import report
import server

DATABASE = "memory"

CASES = {
    "a function that does nothing": ("nothing", 1),
    "a concurrent refresh": ("concurrent", 1),
    "both, two workers": ("nothing, concurrent", 2),
}


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

    rows = []
    for case, (views, workers) in CASES.items():
        connection = await server.serve(DATABASE, views)
        await server.configure(connection,
                               bigbrotr_refresher__max_workers=workers)
        pid = await server.worker_pid(connection)
        done = 0
        for step in steps:
            server.say(f"memory: {case}, {step} cycles")
            while done < step:
                batch = min(step - done, 500)
                await connection.execute(
                    f"DO 'BEGIN FOR n IN 1 .. {batch} LOOP PERFORM"
                    " bigbrotr_refresher.run(true); END LOOP; END'")
                done += batch
            await server.idle(connection)
            status = server.status_of(pid)
            rows.append((case, step, status["RssAnon"], status["VmRSS"]))
        await server.configure(connection,
                               bigbrotr_refresher__max_workers=None)
        await connection.close()

    report.heading("Memory")
    report.paragraph("""
        Resident memory of the worker after so many cycles. What
        it shares with the others (VmRSS) grows with the pages of shared
        buffers that it has touched; what it has for itself (RssAnon) must
        not.""")
    report.table(("", "cycles", "RssAnon kB", "VmRSS kB"),
                 [(case, f"{step:,}", f"{anon:,}", f"{rss:,}")
                  for case, step, anon, rss in rows])
    for case in CASES:
        anon = [row[2] for row in rows if row[0] == case]
        report.goal(f"growth of RssAnon, {case}", anon[-1] / anon[0], 1.2)
    print()
