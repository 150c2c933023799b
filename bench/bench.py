"""Runs the parts that were asked for; see bench/run."""

import argparse
import asyncio
import os
import platform

import asyncpg

import cycles
import databases
import dispatch
import idle
import memory
import merging
import parts
import planning
import report
import scale
import server
import skipping
import windows

PARTS = {
    "cycles": cycles.measure,
    "dispatch": dispatch.measure,
    "plan": planning.measure,
    "idle": idle.measure,
    "memory": memory.measure,
    "skip": skipping.measure,
    "merge": merging.measure,
    "databases": databases.measure,
    "part": parts.measure,
    "windows": windows.measure,
    "scale": scale.measure,
}


def arguments():
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--scale", type=float)
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    options.parts = options.parts or list(PARTS)
    if not set(options.parts) <= set(PARTS):
        parser.error("there is no such part")
    options.scale = options.scale or (0.5 if options.quick else 20)
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options


async def main():
    options = arguments()
    server.initialize()
    server.control("start")
    server.psql("postgres", "-c", "CREATE DATABASE bigbrotr")
    server.psql("bigbrotr", "-c", "CREATE EXTENSION pg_cron",
                "-f", server.SOURCE / "demo" / "roles.sql")
    connection = await server.connect("bigbrotr")
    report.machine([
        ("PostgreSQL", await connection.fetchval("SHOW server_version")),
        ("pg_cron", await connection.fetchval(
            "SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'")),
        ("asyncpg", f"{asyncpg.__version__}, "
                    f"Python {platform.python_version()}"),
        ("load before", " ".join(f"{x:.2f}" for x in os.getloadavg()))])
    await connection.close()
    for part in options.parts:
        await server.clean()
        await PARTS[part](options)


asyncio.run(main())
