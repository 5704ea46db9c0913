"""One page about a desk, for whoever answers for its risk.

1. :func:`gather` reads the desk (registry, log, training runs, lake) into frozen values.
2. ``series`` turns tables of predictions into series to draw, as the evidence was measured.
3. ``charts`` draws them as inline SVG; ``summary``, ``verdicts``, ``performance``, ``record`` and
   ``foundations`` make the sections; ``html`` escapes all text.
4. :func:`render_page` puts them into one HTML file that needs nothing else.
5. A parity proof is kept with the lake by :func:`keep_proof`, so that a later page can show it.

A page says what is on the disk: the same desk and the same clock give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from assay.orchestration.desk import Desk
from assay.orchestration.kept_proofs import keep_proof, kept_proof
from assay.orchestration.report.gathering import gather
from assay.orchestration.report.page import render_page
from assay.orchestration.report.values import DeskReport
from assay.storage.files import write_atomic

__all__ = ["DeskReport", "gather", "keep_proof", "kept_proof", "render_page", "write_report"]


def write_report(desk: Desk, path: Path | None = None) -> Path:
    """Write the desk's page to ``path`` (default: ``reports/report.html`` in the desk)."""
    target = path or desk.layout.root / "reports" / "report.html"
    write_atomic(target, render_page(gather(desk)).encode("utf-8"))
    return target
