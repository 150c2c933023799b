"""Windows: what one costs beside its function, and against merging a view of
the same aggregate."""

import statistics
import time

import report
import server

DATABASE = "windows"

# How much cheaper a window must be than a merge, with 1 % of the rows new
CHEAPER = 20


async def measure(options):
    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    server.psql(DATABASE, "-c", "CREATE EXTENSION bigbrotr_refresher")
    report.heading("Windows")
    await measure_dispatch(options)
    await measure_merge(options)


def function(name, key, source):
    """A table of counts by a key, and the function that fills it."""
    return f"""
        CREATE TABLE {name} (key bigint PRIMARY KEY, n bigint, v bigint);
        CREATE FUNCTION {name}_refresh(after xid8, until xid8) RETURNS int
        LANGUAGE plpgsql AS $$
        DECLARE
            changed int;
        BEGIN
            INSERT INTO public.{name} AS t
            SELECT {key}, count(*), sum(v) FROM public.{source}
            WHERE x >= after AND x < until GROUP BY 1
            ON CONFLICT (key) DO UPDATE
            SET n = t.n + excluded.n, v = t.v + excluded.v;
            GET DIAGNOSTICS changed = ROW_COUNT;
            RETURN changed;
        END $$;
        GRANT ALL ON {name} TO {server.ROLE};"""


# ---- beside the function ------------------------------------------------


async def measure_dispatch(options):
    count = 20 if options.quick else 200
    rounds = options.rounds if options.quick else 4 * options.rounds
    ours = [f"w{n:03}" for n in range(count)]
    theirs = [f"p{n:03}" for n in range(count)]

    server.say(f"making {count} tables")
    tables = server.SCRATCH / "tables.sql"
    tables.write_text(f"""
        CREATE TABLE news (id bigint, v int, x xid8 DEFAULT pg_current_xact_id());
        CREATE INDEX ON news (x);
        CREATE TABLE checkpoints (target text PRIMARY KEY, until xid8);
        GRANT ALL ON news, checkpoints TO {server.ROLE};"""
        + "".join(function(name, "id % 10", "news") for name in ours + theirs)
        + "".join(f"INSERT INTO checkpoints VALUES ('{name}', '0');"
                  for name in theirs))
    server.psql(DATABASE, "-f", tables)
    script = server.SCRATCH / "windows.sql"
    script.write_text("".join(f"""
        BEGIN;
        SELECT until AS after FROM checkpoints WHERE target = '{name}' FOR UPDATE \\gset
        SELECT pg_snapshot_xmin(pg_current_snapshot()) AS until \\gset
        SELECT {name}_refresh(:'after', :'until');
        UPDATE checkpoints SET until = :'until' WHERE target = '{name}';
        COMMIT;
        """ for name in theirs))
    connection = await server.serve(DATABASE, ", ".join(ours))

    async def run_worker(retention):
        await server.configure(connection,
                               bigbrotr_refresher__history_retention=retention)
        await server.idle(connection)
        begin = time.monotonic()
        row = await connection.fetchrow(
            "SELECT * FROM bigbrotr_refresher.run(true)")
        seconds = time.monotonic() - begin
        if row["refreshed"] != count:
            raise RuntimeError(f"not all windows were folded: {row}")
        return seconds

    async def run_psql():
        begin = time.monotonic()
        server.psql(DATABASE, "-f", script, role=server.ROLE)
        return time.monotonic() - begin

    ways = {
        "worker": lambda: run_worker(None),
        "worker, no history": lambda: run_worker(0),
        "psql": run_psql,
    }
    times = {name: [] for name in ways}
    server.say("windows, beside their functions")
    for number in range(rounds + 1):
        for name, way in ways.items():
            await connection.execute(
                "INSERT INTO news SELECT n, n FROM generate_series(1, 100) AS n")
            seconds = await way()
            if number > 0:      # the first window is another one
                times[name].append(1000 * seconds / count)
    medians = {name: statistics.median(values)
               for name, values in times.items()}
    report.paragraph(f"""
        {count} tables, {rounds} rounds of some new rows; milliseconds of a
        window, its function included: the whole of `run(true)`, and a psql that
        calls such functions and writes checkpoints in the same transactions,
        divided by their number. psql writes no history.""")
    report.table(("", "median ms", "min", "max", "to psql"),
                 [(name, *report.spread(values, 3),
                   f"{medians[name] / medians['psql']:.2f}")
                  for name, values in times.items()])
    report.goal("a window, to psql's", medians["worker"] / medians["psql"], 1)
    print()
    await server.configure(connection,
                           bigbrotr_refresher__history_retention=None)
    await connection.close()


# ---- against a merge ------------------------------------------------------


async def measure_merge(options):
    rows = 50_000 if options.quick else 2_500_000

    connection = await server.connect(DATABASE)
    # refresh() makes a plan of what is listed.
    await server.configure(connection, bigbrotr_refresher__enabled="off",
                           bigbrotr_refresher__views="counts_by_day")
    server.say(f"making {rows:,} rows")
    await connection.execute(
        f"""CREATE TABLE events AS
            SELECT id AS id, id % 1000 AS v, id * 1000::bigint / {rows} AS day,
                pg_current_xact_id() AS x
            FROM generate_series(1, {rows}) AS id""", timeout=3600)
    await connection.execute(
        "ALTER TABLE events ALTER x SET DEFAULT pg_current_xact_id()")
    await connection.execute("CREATE INDEX ON events (x)")
    await connection.execute("VACUUM ANALYZE events", timeout=3600)
    results = []
    for name, key, new in (
            ("by day", "day", "1001 + $1::int"),
            ("by author", "hashint8(id) % 10000", "1001")):
        results.append(await compare(connection, options, name, key, new, rows))
    report.paragraph(f"""
        The same aggregate over {rows:,} rows, of which 1 % are new: as a
        materialized view that is merged, and as a table that is filled by
        windows; seconds, medians, by `refresh()` in one session.""")
    report.table(("", "merge", "window", "times cheaper"),
                 [(name, f"{merge:.4f}", f"{window:.4f}",
                   f"{merge / window:.1f}") for name, merge, window in results])
    name, merge, window = results[0]
    report.goal(f"a window, to a merge, {name}", window / merge, 1 / CHEAPER)
    print()
    await connection.close()


async def compare(connection, options, name, key, new, rows):
    table = "counts_" + name.replace(" ", "_")
    times = {"merge": [], "window": []}
    await connection.execute(function(table, key, "events"))
    await connection.execute(
        f"""CREATE MATERIALIZED VIEW {table}_view AS
            SELECT {key} AS key, count(*) AS n, sum(v) AS v
            FROM events GROUP BY 1""", timeout=3600)
    await connection.execute(f"CREATE UNIQUE INDEX ON {table}_view (key)")
    await connection.execute(f"SELECT bigbrotr_refresher.refresh('{table}')",
                             timeout=3600)
    for number in range(options.rounds):
        server.say(f"1 % of the rows are new, {name}")
        await connection.execute(
            f"""INSERT INTO events (id, v, day)
                SELECT {rows} + id, id % 1000,
                    {new.replace('$1::int', str(number))}
                FROM generate_series(1, {rows // 100}) AS id""", timeout=3600)
        await connection.execute(f"VACUUM ANALYZE events, {table}",
                                 timeout=3600)
        for way, target in (("merge", f"{table}_view"), ("window", table)):
            begin = time.monotonic()
            await connection.execute(
                f"SELECT bigbrotr_refresher.refresh('{target}')", timeout=3600)
            times[way].append(time.monotonic() - begin)
    different = await connection.fetchval(
        f"""SELECT count(*) FROM {table}_view AS v FULL JOIN {table} AS t
            USING (key) WHERE (v.n, v.v) IS DISTINCT FROM (t.n, t.v)""")
    if different:
        raise RuntimeError(f"{different} rows of {table} are not as they must be")
    return (name, statistics.median(times["merge"]),
            statistics.median(times["window"]))
