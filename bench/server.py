"""The server that is measured, and what the operating system says of it."""

import os
import pathlib
import subprocess
import sys
import time

import asyncpg

BINDIR = pathlib.Path(os.environ["BENCH_BINDIR"])
SCRATCH = pathlib.Path(os.environ["BENCH_SCRATCH"])
DATA = SCRATCH / "data"
SOURCE = pathlib.Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")

# The role that refreshes, as in BigBrotr
ROLE = "refresher"

# All else is as the server has it by default.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": str(SCRATCH),
    "shared_preload_libraries":
        "bigbrotr_refresher, pg_cron, pg_stat_statements",
    "max_worker_processes": max(8, CORES + 8),
    "cron.host": str(SCRATCH),
    "cron.database_name": "bigbrotr",
    "bigbrotr_refresher.databases": "",
    "bigbrotr_refresher.interval": "7d",
    "bigbrotr_refresher.role": ROLE,
    "bigbrotr_refresher.restart_interval": "1s",
}


def say(message):
    """Say on the standard error what is being done."""
    print(f"== {message}", file=sys.stderr, flush=True)


def run(command, *arguments):
    """Run one of PostgreSQL's programs."""
    subprocess.run(
        [BINDIR / command, *map(str, arguments)],
        check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def initialize():
    """Make the server's data directory."""
    run("initdb", "-D", DATA, "-U", "postgres", "-A", "trust", "-N",
        "--no-locale", "-E", "UTF8")
    with open(DATA / "postgresql.conf", "a", encoding="utf-8") as conf:
        for name, value in SETTINGS.items():
            conf.write(f"{name} = '{value}'\n")


def control(action):
    """Start, stop or restart the server."""
    run("pg_ctl", "-D", DATA, "-l", SCRATCH / "server.log", "-w", "-t", 300,
        action)


def psql(database, *arguments, role="postgres"):
    """Run psql, and return what it printed."""
    return subprocess.run(
        [BINDIR / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
         "-h", SCRATCH, "-U", role, "-d", database, *arguments],
        check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        text=True).stdout


async def connect(database, role="postgres"):
    return await asyncpg.connect(host=str(SCRATCH), user=role,
                                 database=database)


async def configure(connection, **settings):
    """Change settings and have the server read them; None resets one.

    A name has "__" for its dot.
    """
    for name, value in settings.items():
        name = name.replace("__", ".")
        if value is None:
            await connection.execute(f"ALTER SYSTEM RESET {name}")
        else:
            await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    before = await connection.fetchval("SELECT pg_conf_load_time()")
    await connection.execute("SELECT pg_reload_conf()")
    while await connection.fetchval("SELECT pg_conf_load_time()") == before:
        time.sleep(0.01)
    # A new connection is made after all processes were told.
    await (await connect("postgres")).close()


async def clean():
    """Undo what a part has left behind: its settings and its databases."""
    connection = await connect("postgres")
    await connection.execute("ALTER SYSTEM RESET ALL")
    await connection.close()
    control("restart")
    connection = await connect("postgres")
    for row in await connection.fetch(
            "SELECT datname FROM pg_database"
            " WHERE datname NOT IN ('bigbrotr', 'postgres')"
            " AND NOT datistemplate"):
        await connection.execute(f"DROP DATABASE {row[0]} WITH (FORCE)")
    await connection.close()
    # pg_cron needs the database, but "*" must not stand for it.
    psql("bigbrotr", "-c", "SET client_min_messages = warning",
         "-c", "DROP EXTENSION IF EXISTS bigbrotr_refresher")


async def serve(database, views):
    """Restart the server so that just this database is served, and return a
    connection to it when its first cycle has ended."""
    connection = await connect("postgres")
    await configure(connection, bigbrotr_refresher__databases=database,
                    bigbrotr_refresher__views=views)
    await connection.close()
    control("restart")
    connection = await connect(database)
    await idle(connection)
    return connection


async def idle(connection):
    """Wait until there is nothing to do."""
    while not await connection.fetchval(
            "SELECT s.state IN ('resting', 'idle') AND s.next_due > now()"
            " AND NOT EXISTS (SELECT FROM pg_stat_activity AS a"
            " WHERE a.backend_type LIKE 'bigbrotr_refresher%'"
            " AND a.state = 'active')"
            " FROM bigbrotr_refresher.status() AS s"):
        time.sleep(0.05)


async def gone(connection):
    """Wait until the worker has ended and was reaped."""
    await idle(connection)
    while workers() - {await launcher_pid(connection)}:
        time.sleep(0.01)
    time.sleep(0.1)


def workers():
    """The server's processes that are ours."""
    postmaster = postmaster_pid()
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (b"bigbrotr_refresher" in (path / "cmdline").read_bytes()
                    and int(_stat(path.name)[1]) == postmaster):
                found.add(int(path.name))
        except OSError:
            pass                # it is gone
    return found


async def launcher_pid(connection):
    return await connection.fetchval(
        "SELECT pid FROM pg_stat_activity"
        " WHERE backend_type = 'bigbrotr_refresher launcher'")


def postmaster_pid():
    return int((DATA / "postmaster.pid").read_text().split("\n")[0])


def processor_seconds(pid, children=False):
    """Processor time that a process has used, or its ended children."""
    fields = _stat(pid)
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / TICK


def _stat(pid):
    """What follows the name in /proc/PID/stat."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(") ")[2].split()


def all_seconds():
    """Processor time of the whole server, with all that has ended."""
    postmaster = postmaster_pid()
    seconds = (processor_seconds(postmaster)
               + processor_seconds(postmaster, True))
    for pid in os.listdir("/proc"):
        try:
            if pid.isdigit() and int(_stat(pid)[1]) == postmaster:
                seconds += processor_seconds(pid)
        except OSError:
            pass                # it is gone, and counted before long
    return seconds


def machine_seconds():
    """Processor time of the whole machine."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n")[0].split()
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


class Usage:
    """Processor time that the server uses from now on, and that all else
    does which is not a part of the bench."""

    def __init__(self):
        self.before = self._read()

    def stop(self):
        """Returns the server's, and how many cores others used."""
        now = self._read()
        server, ours, machine, clock = (
            b - a for a, b in zip(self.before, now))
        return server, max(0, machine - server - ours) / clock

    @staticmethod
    def _read():
        return (all_seconds(), sum(os.times()[:4]), machine_seconds(),
                time.monotonic())


def status_of(pid):
    """What /proc says of a process, as numbers (memory in kB)."""
    numbers = {}
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.split() and value.split()[0].isdigit():
            numbers[name] = int(value.split()[0])
    return numbers
