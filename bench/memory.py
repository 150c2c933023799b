"""Memory of the launcher and of the workers, after few cycles and after many."""

import report
import server

DATABASE = "memory"

# What is refreshed, by how many workers.  "seen" notes what its process has.
CASES = {
    "a function that does nothing": ("nothing, seen", 1),
    "a merge": ("merged, seen", 1),
    "both, two workers": ("nothing, merged, seen", 2),
}

# Cycles between two looks
BATCH = 100


async def measure(options):
    steps = (10, 100, 1000) if options.quick else (100, 1000, 10000)

    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    server.psql(DATABASE, "-c", f"""
        CREATE EXTENSION bigbrotr_refresher;
        CREATE FUNCTION nothing_refresh() RETURNS void LANGUAGE sql AS '';
        CREATE MATERIALIZED VIEW merged WITH (fillfactor = 50) AS
        SELECT n, random() AS value, repeat('x', n) AS text
        FROM generate_series(1, 100) AS n;
        CREATE UNIQUE INDEX ON merged (n);
        ALTER MATERIALIZED VIEW merged OWNER TO {server.ROLE};
        CREATE TABLE look (kb int);
        CREATE FUNCTION seen_refresh() RETURNS void
        LANGUAGE sql SECURITY DEFINER AS $$
            INSERT INTO public.look SELECT substring(
                pg_read_file('/proc/self/status') FROM 'RssAnon:\\s+(\\d+)')::int
        $$;
        ALTER DATABASE {DATABASE} SET synchronous_commit = off""")

    rows = {}
    for case, (views, workers) in CASES.items():
        rows[case] = await measure_case(case, views, workers, steps)

    report.heading("Memory")
    report.paragraph("""
        What processes have for themselves (RssAnon) after so many cycles: the
        launcher, which is all that there is between two cycles, and the
        greatest that a worker or a helper had in a cycle since the row before.
        Workers come and go with the cycles; the launcher must not grow.""")
    report.table(
        ("", "cycles", "launcher kB", "worker kB, greatest"),
        [(case, *(f"{number:,}" for number in row))
         for case in CASES for row in rows[case]])
    for case in CASES:
        first, last = (rows[case][i] for i in (0, -1))
        report.goal(f"growth of the launcher, {case}", last[1] / first[1], 1.05)
        report.goal(f"growth of workers, {case}", last[2] / first[2], 1.1)
    print()


async def measure_case(case, views, workers, steps):
    """Returns a row a step: cycles, RssAnon of the launcher, and the greatest
    one of workers."""
    rows = []
    connection = await server.serve(DATABASE, views)
    await server.configure(connection, bigbrotr_refresher__max_workers=workers)
    await server.gone(connection)
    launcher = await server.launcher_pid(connection)
    done = 0
    for step in steps:
        server.say(f"memory: {case}, {step} cycles")
        await connection.execute("TRUNCATE look")
        while done < step:
            batch = min(step - done, BATCH)
            await connection.execute(
                f"DO 'BEGIN FOR n IN 1 .. {batch} LOOP PERFORM"
                " bigbrotr_refresher.run(true); END LOOP; END'")
            done += batch
        await server.gone(connection)
        rows.append((step, server.status_of(launcher)["RssAnon"],
                     await connection.fetchval("SELECT max(kb) FROM look")))
    await server.configure(connection, bigbrotr_refresher__max_workers=None)
    await connection.close()
    return rows
