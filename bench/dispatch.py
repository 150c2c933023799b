"""What it costs to refresh a view, beside the refresh: functions that do
nothing."""

import statistics
import time

import cycles
import report
import server
import service

DATABASE = "dispatch"

# Where the history row of each is flushed to disk, and where it is not
MODES = {
    "Server defaults": {},
    "`synchronous_commit` off for all": {"synchronous_commit": "off"},
}


async def measure(options):
    count = 100 if options.quick else 1000
    rounds = options.rounds if options.quick else 4 * options.rounds
    views = [f"f{n:04}" for n in range(1, count + 1)]

    server.say(f"making {count} functions that do nothing")
    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    server.psql(DATABASE, "-c", "CREATE EXTENSION bigbrotr_refresher")
    connection = await server.connect(DATABASE)
    for view in views:
        await connection.execute(
            f"CREATE FUNCTION {view}_refresh() RETURNS void"
            " LANGUAGE plpgsql AS 'BEGIN END'")
    await connection.close()
    connection = await server.serve(DATABASE, ", ".join(views))

    report.heading("Dispatch")
    report.paragraph(f"""
        {count:,} functions that do nothing, {rounds} rounds; milliseconds of
        a view, the whole of `run(true)` with planning divided by their
        number, history rows included unless it says otherwise. The others
        write nothing, so they never wait for the disk.""")
    for mode, settings in MODES.items():
        await server.configure(connection, **settings)
        await measure_mode(connection, mode, views, rounds)
        await server.configure(connection, **dict.fromkeys(settings))
    await connection.close()


async def measure_mode(connection, mode, views, rounds):
    loop = await service.Service.create(server.SCRATCH, server.ROLE,
                                        DATABASE, views)

    async def run(**settings):
        await server.configure(
            connection,
            **{f"bigbrotr_refresher__{k}": v for k, v in settings.items()})
        await server.idle(connection)
        start = time.monotonic()
        row = await connection.fetchrow(
            "SELECT * FROM bigbrotr_refresher.run(true)")
        seconds = time.monotonic() - start
        if row["refreshed"] != len(views):
            raise RuntimeError(f"not all functions were called: {row}")
        return seconds

    async def run_service():
        start = time.monotonic()
        await loop.cycle()
        return time.monotonic() - start

    async def run_psql():
        return cycles.run_script(views, DATABASE)

    ways = {
        "max_workers = 1": lambda: run(max_workers=1, history_retention=None),
        "max_workers = 1, no history":
            lambda: run(max_workers=1, history_retention=0),
        "max_workers = 2": lambda: run(max_workers=2, history_retention=None),
        "psql": run_psql,
        "asyncpg": run_service,
    }
    times = {name: [] for name in ways}
    server.say(f"dispatch, {mode}")
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(1000 * await way() / len(views))
    await loop.close()

    medians = {name: statistics.median(values)
               for name, values in times.items()}
    print(f"### {mode}\n")
    report.table(
        ("", "median ms", "min", "max", "to psql", "to asyncpg"),
        [(name, *report.spread(values, 3),
          f"{medians[name] / medians['psql']:.2f}",
          f"{medians[name] / medians['asyncpg']:.2f}")
         for name, values in times.items()])
    report.goal("dispatch, to psql's",
                medians["max_workers = 1"] / medians["psql"], 1)
    report.goal("dispatch, to asyncpg's",
                medians["max_workers = 1"] / medians["asyncpg"], 0.4)
    print()
