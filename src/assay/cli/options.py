"""Options that many commands share, and how a command opens its desk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from assay.orchestration.desk import Desk

DeskOption: TypeAlias = Annotated[
    Path, typer.Option("--desk", metavar="DIR", help="The desk project's folder.")
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; progress goes to standard error.")
]
HERE = Path()


def open_desk(path: Path) -> Desk:
    """Open the desk of a command; imported late so that help needs nothing."""
    from assay import bootstrap

    return bootstrap.open_desk(path)
