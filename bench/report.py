"""The report: headings, paragraphs and tables of Markdown."""

import datetime
import os
import pathlib
import platform
import statistics
import textwrap

import server


def heading(text):
    print(f"\n## {text}\n", flush=True)


def paragraph(text):
    print(textwrap.fill(" ".join(text.split()), 78), flush=True)
    print(flush=True)


def table(columns, rows):
    """Print a table; numbers are strings already."""
    cells = [list(columns)] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]

    def line(row):
        return "| " + " | ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))) + " |"

    print(line(cells[0]))
    print("|" + "|".join(
        "-" * (width + 2) if i == 0 else "-" * (width + 1) + ":"
        for i, width in enumerate(widths)) + "|")
    for row in cells[1:]:
        print(line(row))
    print(flush=True)


def goal(text, value, limit, unit=""):
    """Say whether what must be reached is."""
    verdict = "reached" if value <= limit else "**missed**"
    print(f"- {text}: {value:.3g}{unit} of at most {limit:.3g}{unit}, "
          f"{verdict}", flush=True)


def spread(values, digits=2):
    """The median, and the least and greatest."""
    return (f"{statistics.median(values):.{digits}f}",
            f"{min(values):.{digits}f}", f"{max(values):.{digits}f}")


def machine(versions):
    """Describe where this was measured."""
    cpu = "unknown"
    for row in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            cpu = row.partition(":")[2].strip()
            break
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    release = platform.freedesktop_os_release()["PRETTY_NAME"]
    print("# Results of bench/run\n")
    table(("", "measured with"), [
        ("command", f"`{os.environ['BENCH_COMMAND'].strip()}`"),
        ("date", datetime.date.today().isoformat()),
        ("version", os.environ["BENCH_COMMIT"]),
        ("machine", f"{server.CORES} cores, {cpu}, "
                    f"{memory / 1024 ** 2:.0f} GiB"),
        ("system", f"{release}, Linux {platform.release()}"),
        *versions])
