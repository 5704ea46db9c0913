"""How long the package and the command line take to start: wall time of a fresh interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPEATS = 7


def seconds(*command: str) -> float:
    """Median wall seconds of a command, after one unmeasured run that fills the file cache."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def rows() -> list[dict[str, Any]]:
    bare = seconds(sys.executable, "-c", "pass")
    package = seconds(sys.executable, "-c", "import assay")
    command = seconds(str(Path(sys.executable).with_name("assay")), "--help")
    return [
        row("import assay, beyond a bare interpreter", package - bare, 0.3, bare),
        row("assay --help, whole", command, 0.5, bare),
    ]


def row(name: str, ours: float, target: float, reference: float) -> dict[str, Any]:
    return {
        "name": name,
        "unit": "s",
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "target": f"<= {target} s",
        "met": ours <= target,
    }
