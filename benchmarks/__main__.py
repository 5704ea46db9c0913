"""Run every benchmark, print one table and write benchmarks/results/<date>.json, which keeps what
other runs of the day measured.

Each module named in :data:`SUITES` has ``rows()``, which returns dictionaries with the keys name,
unit, ours, reference, ratio, target and met. Times on a shared machine drift, so a row carries its
reference from the same run wherever there is one; an absolute target says so.

    python -m benchmarks              all suites
    python -m benchmarks kernel cli   some of them
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SUITES = (
    "start",
    "kernel",
    "online",
    "redis_store",
    "point_in_time",
    "registry",
    "statistics",
    "onnx",
    "serving",
    "shadow",
    "peers",
    "serving_peers",
)
RESULTS = Path(__file__).parent / "results"


def number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int | float):
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return "-" if value is None else str(value)


def show(rows: list[dict[str, Any]]) -> None:
    columns = ("suite", "name", "unit", "ours", "reference", "ratio", "target", "met")
    table = Table(*columns, header_style="bold")
    for row in rows:
        table.add_row(*(number(row.get(column)) for column in columns))
    Console(width=None if sys.stdout.isatty() else 180).print(table)


def earlier(path: Path, measured: set[str]) -> list[dict[str, Any]]:
    """The rows of this day's other suites."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["suite"] not in measured]


def main(names: list[str]) -> int:
    unknown = set(names) - set(SUITES)
    if unknown:
        sys.stderr.write(f"unknown suite {sorted(unknown)}: expected some of {', '.join(SUITES)}\n")
        return 2
    rows: list[dict[str, Any]] = []
    for suite in names or SUITES:
        sys.stderr.write(f"benchmarking {suite} ...\n")
        measured = importlib.import_module(f"benchmarks.{suite}").rows()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        rows += [{"suite": suite, "measured_at": at, **row} for row in measured]
    show(rows)
    path = RESULTS / f"{datetime.now(UTC).date()}.json"
    path.parent.mkdir(exist_ok=True)
    document = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "rows": earlier(path, {row["suite"] for row in rows}) + rows,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {path.relative_to(Path.cwd())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
