"""One page about a desk, for whoever answers for its risk.

1. :func:`gather` reads the desk (registry, log, training runs, lake) into frozen values.
2. ``series`` turns tables of predictions into series to draw, as the evidence was measured.
3. ``charts`` draws them as inline SVG; ``summary``, ``verdicts``, ``performance``, ``record`` and
   ``foundations`` make the sections; ``html`` escapes all text.
4. :func:`render_page` puts them into one HTML file that needs nothing else.
5. A parity proof is kept with the lake by :func:`keep_proof`, so that a later page can show it.

A page says what is on the disk: the same desk and the same clock give the same bytes.

What reads a desk is imported when it is first asked for: other pages, a running server's among
them, take words and markup from here and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.orchestration.desk import Desk
from assay.storage.files import write_atomic

if TYPE_CHECKING:
    from assay.orchestration.kept_proofs import keep_proof, kept_proof
    from assay.orchestration.report.gathering import gather
    from assay.orchestration.report.page import render_page
    from assay.orchestration.report.values import DeskReport

_LATER = {
    "DeskReport": "assay.orchestration.report.values",
    "gather": "assay.orchestration.report.gathering",
    "keep_proof": "assay.orchestration.kept_proofs",
    "kept_proof": "assay.orchestration.kept_proofs",
    "render_page": "assay.orchestration.report.page",
}

__all__ = ["DeskReport", "gather", "keep_proof", "kept_proof", "render_page", "write_report"]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def write_report(desk: Desk, path: Path | None = None) -> Path:
    """Write the desk's page to ``path`` (default: ``reports/report.html`` in the desk)."""
    from assay.orchestration.report.gathering import gather
    from assay.orchestration.report.page import render_page

    target = path or desk.layout.root / "reports" / "report.html"
    write_atomic(target, render_page(gather(desk)).encode("utf-8"))
    return target
