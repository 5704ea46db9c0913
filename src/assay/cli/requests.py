"""Commands on past requests: what models with request-time features learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output

requests = typer.Typer(
    name="requests", no_args_is_help=True, help="Past requests, for request-time features."
)


@requests.command("add")
def requests_add(
    view: Annotated[str, typer.Argument(help="A request view of the desk.")],
    file: Annotated[Path, typer.Argument(help="Past requests: a .parquet or .csv file.")],
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Store past requests in the lake; what is stored already is not added again."""
    from assay.orchestration.past_requests import add_requests, read_requests

    output = Output(as_json=as_json)
    done = add_requests(open_desk(desk), view, read_requests(file))
    output.line(
        f"{done.table}: {done.added:,} requests added, {done.rows:,} stored, snapshot "
        f"{done.snapshot[:12]}"
    )
    output.next_step("assay train RECIPE")
    output.result(done.to_json())
