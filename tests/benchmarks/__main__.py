"""Run every benchmark in turn and print one table in Markdown.

``python -m tests.benchmarks [NAME ...] [--json FILE]``: a name is that of a file, ``bench_<name>.py``, whose ``main()``
returns a list of rows. A row has ``what``, ``figure``, ``against`` (the named alternative, or an aim) and ``ratio``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

COLUMNS = ("what", "figure", "against", "ratio")


def machine() -> str:
    """The machine in words: processor, cores, memory, Python."""
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{name}, {os.cpu_count()} cores, {pages:.0f} GiB, Python {platform.python_version()}"


def main() -> None:
    """Command line of ``make bench``."""
    here = Path(__file__).parent
    known = sorted(path.stem.removeprefix("bench_") for path in here.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *known], help="which benchmarks; all without a name")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    print(f"Machine: {machine()}\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for name in options.names or known:
        print(f"… {name}", file=sys.stderr)
        for row in importlib.import_module(f"tests.benchmarks.bench_{name}").main():
            rows.append({"benchmark": name, **row})
            print("| " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
