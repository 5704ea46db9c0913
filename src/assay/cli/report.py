"""The command that writes the desk's page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output


def report(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it. Default: reports/report.html."),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page about the desk: what is live and why, gates, plots, provenance."""
    from assay.orchestration.report import write_report

    output = Output(as_json=as_json)
    path = write_report(open_desk(desk), out)
    output.line(f"report: {path} ({path.stat().st_size / 1024:,.0f} KiB, opens in any browser)")
    output.result({"report": str(path), "bytes": path.stat().st_size})
