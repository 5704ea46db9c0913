"""The root of the command line: commands grouped by what a person wants to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli import (
    access,
    audit,
    challengers,
    config,
    data,
    delivery,
    evidence,
    gates,
    keys,
    lineage,
    models,
    online,
    openssf,
    paper,
    parity,
    registry,
    replay,
    report,
    requests,
    serve,
)
from assay.cli.options import JsonOption
from assay.cli.output import Output

START, DATA, MODELS, RECORD = "Start", "Data and features", "Models", "The record"
SERVING = "Serving"

app = typer.Typer(
    name="assay",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Features served live are the features trained on; the model in production passed its "
        "gates, is signed and was approved by two people."
    ),
    epilog="Start with: assay demo",
)


@app.command(rich_help_panel=START)
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to create; must not exist yet.")],
    name: Annotated[str | None, typer.Option(help="What the desk is called.")] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Whose key to create; repeat for several people. Default: your user name.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a new desk project, with keys: private ones outside of it, public ones inside."""
    import getpass

    from assay import bootstrap
    from assay.registry.keyring import PURPOSES

    identities = identity or [getpass.getuser()]
    members = [bootstrap.Member(one, tuple(PURPOSES)) for one in dict.fromkeys(identities)]
    made = bootstrap.create_desk(folder, name=name, members=members)
    output = Output(as_json=as_json)
    output.line(f"created desk {folder} with keys of {', '.join(made)}")
    output.line("private keys lie in your configuration folder, readable by you alone")
    output.next_step(f"cd {folder}", "assay ingest")
    output.result({"desk": str(folder), "identities": made})


@app.command(rich_help_panel=START)
def demo(
    desk: Annotated[
        Path, typer.Option("--desk", metavar="DIR", help="Where to keep the demo's desk.")
    ] = Path("fx-demo"),
    as_json: JsonOption = False,
) -> None:
    """Take real FX rates from raw facts to a signed model in production, and withdraw it."""
    from assay.cli.demo import run_demo

    run_demo(desk, Output(as_json=as_json))


app.command(rich_help_panel=DATA)(data.ingest)
data.features.command("materialize")(online.materialize)
data.features.command("backfill")(online.backfill)
data.features.command("status")(online.status)
app.add_typer(data.features, rich_help_panel=DATA)
app.add_typer(parity.parity, rich_help_panel=DATA)
app.add_typer(requests.requests, rich_help_panel=DATA)
app.command(rich_help_panel=MODELS)(models.train)
app.add_typer(gates.gates, rich_help_panel=MODELS)
app.add_typer(evidence.evidence, rich_help_panel=MODELS)
app.add_typer(evidence.nightly, rich_help_panel=MODELS)
app.add_typer(paper.paper, rich_help_panel=MODELS)
models.models.command("sql")(registry.sql)
models.models.command("lifecycle")(registry.lifecycle)
models.models.command("adopt")(registry.adopt)
models.models.command("claim")(registry.claim)
models.models.command("pack")(lineage.pack)
models.models.command("check-pack")(lineage.check_pack)
models.models.command("bom")(lineage.bom)
models.models.command("compare")(lineage.compare)
models.models.command("lineage")(lineage.lineage)
models.models.command("openssf-sign")(openssf.openssf_sign)
models.models.command("openssf-verify")(openssf.openssf_verify)
app.add_typer(models.models, rich_help_panel=MODELS)
app.command(rich_help_panel=RECORD)(report.report)
app.command(rich_help_panel=SERVING)(serve.serve)
app.command(rich_help_panel=SERVING)(serve.kill)
app.add_typer(delivery.delivery, rich_help_panel=MODELS)
app.command(rich_help_panel=RECORD)(replay.replay)
app.add_typer(challengers.shadow, rich_help_panel=SERVING)
app.add_typer(challengers.canary, rich_help_panel=SERVING)
models.models.command("serve")(access.models_serve)
app.add_typer(access.access, rich_help_panel=RECORD)
app.add_typer(audit.audit, rich_help_panel=RECORD)
app.add_typer(keys.keys, rich_help_panel=RECORD)
app.add_typer(config.config, rich_help_panel=RECORD)
app.command(rich_help_panel=RECORD)(audit.doctor)
