"""How often a process with nothing to do wakes up, and what it holds."""

import time

import report
import server

DATABASE = "idle"


async def measure(options):
    seconds = 10 if options.quick else 60

    server.psql("postgres", "-c", f"CREATE DATABASE {DATABASE}")
    server.psql(DATABASE, "-c", "CREATE EXTENSION bigbrotr_refresher",
                "-c", "CREATE FUNCTION nothing_refresh() RETURNS void"
                      " LANGUAGE sql AS ''")
    connection = await server.serve(DATABASE, "nothing")
    pids = {
        "bigbrotr_refresher": await server.launcher_pid(connection),
        "pg_cron, without a job": await connection.fetchval(
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'pg_cron launcher'"),
    }
    await server.gone(connection)
    others = len(server.workers()) - 1
    await connection.close()

    time.sleep(2)
    server.say(f"looking at idle processes for {seconds} s")
    before = {name: switches(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    woken = {name: switches(pid) - before[name]
             for name, pid in pids.items()}

    report.heading("Idle")
    report.paragraph(f"""
        How often the process was given a core by the operating system, in
        {seconds} seconds in which nothing was due.""")
    report.table(("", "times", "an hour"),
                 [(name, number, f"{3600 // seconds * number:,}")
                  for name, number in woken.items()])
    private = server.status_of(pids["bigbrotr_refresher"])["RssAnon"] / 1024
    report.goal("wake-ups of the launcher", woken["bigbrotr_refresher"], 0)
    report.goal("private memory of the launcher", private, 10, " MB")
    report.goal("other processes", others, 0)
    print()


def switches(pid):
    status = server.status_of(pid)
    return (status["voluntary_ctxt_switches"]
            + status["nonvoluntary_ctxt_switches"])
