"""Many databases on one server, with few places for workers."""

import asyncio
import pathlib
import time

import report
import server

TEMPLATE = "many"
PLACES = 8


async def measure(options):
    count = 40 if options.quick else 500
    interval = 70

    server.say(f"making {count} databases")
    connection = await server.connect("postgres")
    await server.configure(
        connection, max_worker_processes=PLACES,
        bigbrotr_refresher__databases="",
        bigbrotr_refresher__views="*",
        bigbrotr_refresher__interval=f"{interval}s")
    await connection.close()
    server.control("restart")
    server.psql("postgres", "-c", f"CREATE DATABASE {TEMPLATE}")
    server.psql(TEMPLATE, "-c", "CREATE EXTENSION bigbrotr_refresher",
                "-c", f"GRANT ALL ON SCHEMA public TO {server.ROLE}")
    server.psql(TEMPLATE, "-c", "CREATE MATERIALIZED VIEW v AS SELECT 1 AS n",
                role=server.ROLE)
    for n in range(count):
        server.psql("postgres", "-c",
                    f"CREATE DATABASE {TEMPLATE}_{n} TEMPLATE {TEMPLATE}"
                    " STRATEGY file_copy")
    connection = await server.connect(TEMPLATE)
    meter = server.Usage()
    start = time.monotonic()
    await server.configure(connection, bigbrotr_refresher__databases="*")
    await wait_for_cycles(connection, count, 1)
    first = time.monotonic() - start
    used, _ = meter.stop()

    await spread(connection, count, interval)
    rounds = 2 if options.quick else 4
    server.say(f"{count} databases, {rounds} intervals of {interval} s")
    base = await cycles(connection)
    await asyncio.sleep(rounds * interval)
    done = {name: number - base[name]
            for name, number in (await cycles(connection)).items()}
    late, waits = await lateness(connection, count)

    await server.configure(connection, bigbrotr_refresher__interval="7d")
    await wait_for_rest(connection)
    await asyncio.sleep(2)
    pid = await connection.fetchval(
        "SELECT pid FROM pg_stat_activity"
        " WHERE backend_type = 'bigbrotr_refresher launcher'")
    # The session that asks is the only other one.
    rest = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'bigbrotr_refresher'")
    private = private_kb(pid)
    switches = server.status_of(pid)["voluntary_ctxt_switches"]
    time.sleep(10)
    switches = server.status_of(pid)["voluntary_ctxt_switches"] - switches
    await connection.close()

    report.heading("Many databases")
    report.paragraph(f"""
        {count} databases with one view each and an interval of {interval} s,
        on a server with max_worker_processes = {PLACES}. All of them for the
        first time: {first:.1f} s, of {used:.1f} s of processor time, which is
        {1000 * used / count:.0f} ms a database, process included. In
        {rounds} intervals each was refreshed {min(done.values())} to
        {max(done.values())} times. From when a view was due to the start of
        its refresh, process included, in ms: median {late[len(late) // 2]:.0f},
        99th percentile {late[len(late) * 99 // 100]:.0f}, of {len(late)} that
        did not wait for a place ({waits} did).""")
    report.paragraph(f"""
        At rest: {rest} workers; the launcher has {private / 1024:.1f} MB for
        itself, and woke up {switches} times in 10 s.""")
    report.goal("the rarest database, to the most frequent",
                max(done.values()) - min(done.values()), 1)
    report.goal("start of a view, 99th percentile",
                late[len(late) * 99 // 100], 100, " ms")
    report.goal("the launcher's memory", private / 1024, 10, " MB")
    report.goal("wake-ups at rest", switches, 0)
    print()


async def spread(connection, count, interval):
    """Have the databases become due one after another."""
    await server.configure(connection, bigbrotr_refresher__enabled="off")
    for n in range(count):
        server.psql(f"{TEMPLATE}_{n}", "-c", f"""
            UPDATE bigbrotr_refresher.view_state
            SET schedule_start = date_trunc('second', now())
                + {interval * n / count} * interval '1 s'""")
    time.sleep(interval)
    await server.configure(connection, bigbrotr_refresher__enabled="on")


async def cycles(connection):
    rows = await connection.fetch(
        "SELECT database, cycles_success FROM bigbrotr_refresher.status()")
    return {row["database"]: row["cycles_success"] for row in rows}


async def wait_for_cycles(connection, count, number):
    while True:
        done = await cycles(connection)
        if len(done) > count and min(done.values()) >= number:
            return
        await asyncio.sleep(0.1)


async def wait_for_rest(connection):
    while await connection.fetchval(
            "SELECT bool_or(state <> 'resting' OR next_due < now() + '1h')"
            " FROM bigbrotr_refresher.status()"):
        await asyncio.sleep(0.1)


async def lateness(connection, count):
    """From when a view was due to its start, in ms, sorted; and how many were
    so late that their schedule counts from their start."""
    late = []
    waits = 0
    for n in range(count):
        database = await server.connect(f"{TEMPLATE}_{n}")
        for row in await database.fetch(
                "SELECT 1000 * extract(epoch FROM started_at - cycle_start)"
                " AS late, cycle_start - lag(cycle_start) OVER (ORDER BY id)"
                " > interval '71 s' AS waited"
                " FROM bigbrotr_refresher.history OFFSET 2"):
            if row["waited"]:
                waits += 1
            else:
                late.append(float(row["late"]))
        await database.close()
    return sorted(late), waits


def private_kb(pid):
    """Memory that a process shares with no other one."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines()
               if line.startswith("Private_"))
