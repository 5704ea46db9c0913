"""python -m benchmarks.size_and_power [REPETITIONS]: simulate, and write the page with its plots.

Without a number the page is written again from the results that are there.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from benchmarks.size_and_power.page import TITLES, render_page, render_plot

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "size_and_power.json"
PAGES = ROOT / "docs" / "explanation"
SEED = 20_261_121


def simulate(repetitions: int) -> None:
    """Run every family; each is kept as soon as it is done."""
    families = {}
    for family in TITLES:
        started = time.monotonic()
        module = importlib.import_module(f"benchmarks.size_and_power.{family}")
        generator = np.random.default_rng((SEED, zlib.crc32(family.encode())))
        families[family] = module.rows(repetitions, generator)
        RESULTS.write_text(json.dumps(families, indent=1) + "\n")
        sys.stdout.write(f"{family}: {time.monotonic() - started:.0f} s\n")
        sys.stdout.flush()


def write() -> None:
    """Write the page and its plots from the results."""
    families = json.loads(RESULTS.read_text())
    (PAGES / "size-and-power.md").write_text(render_page(families))
    for family, rows in families.items():
        (PAGES / f"size-{family}.svg").write_text(render_plot(TITLES[family], rows))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        simulate(int(sys.argv[1]))
    write()
