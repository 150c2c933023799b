"""A cycle over BigBrotr's views, by the extension and by the others."""

import asyncio
import statistics
import time

import report
import server
import service

# BigBrotr's list, in its order
VIEWS = """
    relay_metadata_latest event_stats relay_stats kind_counts
    kind_counts_by_relay pubkey_counts pubkey_counts_by_relay network_stats
    event_daily_counts events_replaceable_latest events_addressable_latest
    relay_software_counts supported_nip_counts
""".split()

MODES = {
    "Server defaults": {},
    "`jit` off for all": {"jit": "off"},
}

# A refresh in one process, for the processor time that the work takes
SERIAL = {"max_parallel_workers_per_gather": 0,
          "max_parallel_maintenance_workers": 0}


class Bench:
    """The ways to run a cycle.  Each returns the seconds that it took."""

    def __init__(self, connection, loop, reads):
        self.connection = connection
        self.service = loop
        self.reads = reads      # what each view reads
        self.serial_runs = []   # of run_serial: (processor time, durations)
        self.latencies = []     # of two workers, in ms
        self.histories = {}     # by workers: the durations of each cycle

    async def run_unmerged(self):
        """Two workers, with CONCURRENTLY left to the server."""
        await server.configure(self.connection,
                               bigbrotr_refresher__merge="off",
                               bigbrotr_refresher__max_workers=2)
        await server.idle(self.connection)
        seconds = await self._run()
        await server.configure(self.connection,
                               bigbrotr_refresher__merge=None)
        return seconds

    async def run_extension(self, workers):
        await server.configure(self.connection,
                               bigbrotr_refresher__max_workers=workers)
        await server.idle(self.connection)
        seconds = await self._run()
        history = await self._history()
        self.histories.setdefault(workers, []).append(
            {row["view"]: row["seconds"] for row in history})
        if workers == 2:
            self.latencies += latencies(history)
        return seconds

    async def run_serial(self):
        """One worker, without parallel query."""
        await server.configure(self.connection,
                               bigbrotr_refresher__max_workers=1, **SERIAL)
        await server.gone(self.connection)
        postmaster = server.postmaster_pid()
        before = server.processor_seconds(postmaster, True)
        seconds = await self._run()
        # The worker's, which has ended, and that of nobody else.
        await server.gone(self.connection)
        used = server.processor_seconds(postmaster, True) - before
        durations = {row["view"]: row["seconds"]
                     for row in await self._history()}
        self.serial_runs.append((used, durations))
        await server.configure(self.connection, **dict.fromkeys(SERIAL))
        return seconds

    async def run_psql(self):
        return run_script(VIEWS)

    async def run_pair(self):
        """Two psql without parallel query, with the views divided by hand."""
        durations = (self.serial_runs[-1][1] if self.serial_runs
                     else self.histories[1][-1])
        streams = divide(durations, self.reads)
        start = time.monotonic()
        await asyncio.gather(*(
            asyncio.to_thread(run_script, views, settings=SERIAL)
            for views in streams))
        return time.monotonic() - start

    async def run_cron(self):
        """A job of pg_cron's whose function refreshes all; it runs once."""
        connection = self.connection
        await connection.execute("INSERT INTO cron_turn VALUES (1)")
        # The releases before 1.5 know no seconds.
        old = await connection.fetchval(
            "SELECT extversion < '1.5' FROM pg_extension"
            " WHERE extname = 'pg_cron'")
        job = await connection.fetchval(
            "SELECT cron.schedule('bench', $1, 'SELECT refresh_all()')",
            "* * * * *" if old else "1 seconds")
        await connection.execute(
            "UPDATE cron.job SET username = $1 WHERE jobid = $2",
            server.ROLE, job)
        row = None
        while row is None:
            time.sleep(0.2)
            row = await connection.fetchrow(
                "SELECT status, extract(epoch FROM end_time - start_time)"
                " AS seconds, return_message FROM cron.job_run_details"
                " WHERE jobid = $1 AND end_time IS NOT NULL"
                " ORDER BY runid LIMIT 1", job)
        await connection.execute("SELECT cron.unschedule($1::bigint)", job)
        if row["status"] != "succeeded":
            raise RuntimeError(row["return_message"])
        return float(row["seconds"])

    async def run_service(self):
        start = time.monotonic()
        if await self.service.cycle():
            raise RuntimeError("a view was not refreshed")
        return time.monotonic() - start

    async def _run(self):
        start = time.monotonic()
        row = await self.connection.fetchrow(
            "SELECT * FROM bigbrotr_refresher.run(true)")
        if row["refreshed"] != len(VIEWS):
            raise RuntimeError(f"not all views were refreshed: {row}")
        return time.monotonic() - start

    async def _history(self):
        """The last cycle."""
        return await self.connection.fetch(
            "SELECT view, extract(epoch FROM started_at)::float8 AS start,"
            " extract(epoch FROM duration)::float8 AS seconds"
            " FROM bigbrotr_refresher.history WHERE cycle_start ="
            " (SELECT max(cycle_start) FROM bigbrotr_refresher.history)"
            " ORDER BY started_at")


def divide(durations, reads):
    """Two lists: what reads or is read in one, the rest longest first to
    where less is to be done."""
    chain = set(view for view in VIEWS if reads[view]).union(*reads.values())
    streams = ([view for view in VIEWS if view in chain], [])
    for view in sorted(set(VIEWS) - chain, key=durations.get, reverse=True):
        min(streams, key=lambda stream: sum(map(durations.get, stream))
            ).append(view)
    return streams


def run_script(views, database="bigbrotr", settings=()):
    """psql, with a file of one SELECT a view; its connection not counted."""
    script = server.SCRATCH / f"loop-{views[0]}.sql"
    script.write_text("\n".join([
        *(f"SET {name} = {settings[name]};" for name in settings),
        "SELECT clock_timestamp() AS start \\gset",
        "\\o /dev/null",
        *(f"SELECT {view}_refresh();" for view in views),
        "\\o",
        "SELECT extract(epoch FROM clock_timestamp()"
        " - :'start'::timestamptz);"]))
    return float(server.psql(database, "-f", script, role=server.ROLE))


def latencies(history):
    """From the end of a refresh to the start of what waited for that: a
    process or what it reads.  In ms; the end is before the commit."""
    ends = sorted(row["start"] + row["seconds"] for row in history)
    found = []
    for row in history:
        before = [end for end in ends if end <= row["start"]]
        if before:
            found.append(1000 * (row["start"] - before[-1]))
    return found


def critical_path(durations, reads):
    """The longest chain of views that read each other, in seconds."""
    lengths = {}
    for view in reads:          # in an order in which they can be refreshed
        lengths[view] = durations[view] + max(
            (lengths[read] for read in reads[view]), default=0)
    return max(lengths.values())


async def load(scale):
    server.say(f"making data of scale {scale:g}")
    start = time.monotonic()
    server.psql("bigbrotr", "-v", f"scale={scale}",
                "-f", server.SOURCE / "demo" / "all.sql",
                "-c", "CREATE EXTENSION bigbrotr_refresher")
    calls = "\n".join(f"PERFORM {view}_refresh();" for view in VIEWS)
    server.psql("bigbrotr", "-c", f"""
        CREATE TABLE cron_turn (n int);
        GRANT SELECT, DELETE ON cron_turn TO {server.ROLE};
        CREATE FUNCTION refresh_all() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            DELETE FROM cron_turn;
            IF FOUND THEN
                {calls}
            END IF;
        END $$""")
    server.say(f"made in {time.monotonic() - start:.0f} s")


async def measure(options):
    await load(options.scale)
    server.say("first cycles, not measured")
    connection = await server.serve("bigbrotr", ", ".join(VIEWS))
    counts = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM event) AS events,"
        " (SELECT count(*) FROM event_relay) AS relays")
    # The second one finds the views as all later ones do.
    await connection.execute("VACUUM (ANALYZE)")
    await connection.execute("SELECT bigbrotr_refresher.run(true)")
    await connection.execute("VACUUM (ANALYZE)")
    await connection.execute("CHECKPOINT")
    rows = await connection.fetch(
        'SELECT view, depends_on FROM bigbrotr_refresher.plan()'
        ' ORDER BY "position"')
    reads = {row["view"]: row["depends_on"] or [] for row in rows}

    report.heading("A cycle")
    report.paragraph(f"""
        BigBrotr's 13 views over {counts['events']:,} events, which are
        {counts['relays']:,} times on relays, refreshed by their functions,
        each time of the same data; {options.rounds} rounds, in each of which
        every way has its turn. Ratios are to the fastest of psql, pg_cron and
        asyncpg. Two psql at once, without parallel query, with the views
        divided by hand after what each took before, show what two cores of
        this machine are worth to such work.""")
    modes = list(MODES.items())
    for mode, settings in modes[:1] if options.defaults else modes:
        await server.configure(connection, **settings)
        # The pool's connection is to have what is set now.
        loop = await service.Service.create(server.SCRATCH, server.ROLE,
                                            "bigbrotr", VIEWS)
        bench = Bench(connection, loop, reads)
        times, usage = await measure_rounds(bench, mode, options.rounds)
        report_mode(mode, bench, times, usage, reads)
        await loop.close()
        await server.configure(connection, **dict.fromkeys(settings))
    await connection.close()


async def measure_rounds(bench, mode, rounds):
    """All ways in turn, each round beginning with another one.

    Several workers come right after one that uses no parallel query either, so
    that the durations which they go by are of refreshes like theirs, as in a
    server whose settings stay what they are.
    """
    ways = {
        "max_workers = 1": lambda: bench.run_extension(1),
        "psql": bench.run_psql,
        "serial": bench.run_serial,
    }
    ways |= {
        f"max_workers = {n}": lambda n=n: bench.run_extension(n)
        for n in sorted({2, server.CORES} - {1})}
    ways |= {
        "unmerged": bench.run_unmerged,
        "pg_cron": bench.run_cron,
        "asyncpg": bench.run_service,
        "pair": bench.run_pair,
    }
    times = {name: [] for name in ways}
    usage = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds):
        first = 2 * turn % len(names)
        for name in names[first:] + names[:first]:
            meter = server.Usage()
            times[name].append(await ways[name]())
            usage[name].append(meter.stop())
            server.say(f"{mode}, round {turn + 1}: {name}"
                       f" {times[name][-1]:.2f} s, others on"
                       f" {usage[name][-1][1]:.2f} cores")
    return times, usage


def report_mode(mode, bench, times, usage, reads):
    medians = {name: statistics.median(values)
               for name, values in times.items()}
    fastest = min(medians[name] for name in ("psql", "pg_cron", "asyncpg"))
    bound, path, processor = lower_bound(bench, reads)

    print(f"### {mode}\n")
    report.table(
        ("", "median s", "min", "max", "ratio", "of bound", "processor s",
         "others"),
        [(label(name), *report.spread(values),
          f"{medians[name] / fastest:.3f}", f"{medians[name] / bound:.2f}",
          f"{statistics.median(used for used, _ in usage[name]):.2f}",
          f"{statistics.median(cores for _, cores in usage[name]):.2f}")
         for name, values in times.items()])
    report.paragraph(f"""
        Processor time is the whole server's; "others" is how many cores the
        rest of the machine took at the same time, which should be none.
        Critical path: {path:.2f} s, with each view at the faster of its
        medians with and without parallel query. Processor time of a worker
        that refreshes all without parallel query: {processor:.2f} s. Bound on
        {server.CORES} cores, the greater of the path and the processor time
        by core: {bound:.2f} s, which is {bound / fastest:.3f} of the fastest
        of the others. From the end of a refresh, before its commit, to the
        start of what waited for it, with two workers: median
        {statistics.median(bench.latencies):.2f} ms, at most
        {max(bench.latencies):.2f} ms.""")
    report.goal("two workers, to the fastest of the others",
                medians["max_workers = 2"] / fastest,
                0.66 if "jit" in mode else 0.56)
    report.goal("two workers, to the bound",
                medians["max_workers = 2"] / bound, 1.08)
    report.goal("two workers, to the views divided by hand",
                medians["max_workers = 2"] / medians["pair"], 1.05)
    used = {name: statistics.median(seconds for seconds, _ in usage[name])
            for name in ("max_workers = 2", "unmerged")}
    report.goal("processor time of two workers, to that without merging",
                used["max_workers = 2"] / used["unmerged"], 0.94)
    report.goal("start of a view, median",
                statistics.median(bench.latencies), 5, " ms")
    print()
    report_views(bench)


def label(name):
    return {"serial": "max_workers = 1, no parallel query",
            "unmerged": "max_workers = 2, merge = off",
            "pair": "two psql, divided by hand, likewise"}.get(name, name)


def view_medians(cycles):
    return {view: statistics.median(cycle[view] for cycle in cycles)
            for view in VIEWS}


def lower_bound(bench, reads):
    """The bound, and what it comes from.

    No order of refreshes is faster than the longest chain, each view of it at
    its fastest; nor can all be done in less than the processor time that they
    take at least, shared by all cores.  Parallel query takes more of that, so
    it is measured without, of the one process that then does all.
    """
    serial = view_medians([durations for _, durations in bench.serial_runs])
    parallel = view_medians(bench.histories[1])
    path = critical_path(
        {view: min(serial[view], parallel[view]) for view in VIEWS}, reads)
    processor = statistics.median(used for used, _ in bench.serial_runs)
    return max(path, processor / server.CORES), path, processor


def report_views(bench):
    serial = view_medians([durations for _, durations in bench.serial_runs])
    medians = {workers: view_medians(cycles)
               for workers, cycles in sorted(bench.histories.items())}
    report.table(
        ("seconds", "no parallel query",
         *(f"max_workers = {workers}" for workers in medians)),
        [(view, f"{serial[view]:.2f}",
          *(f"{views[view]:.2f}" for views in medians.values()))
         for view in VIEWS])
