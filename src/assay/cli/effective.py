"""How the answer to what was really live is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.domain.instants import MAX_INSTANT, render

if TYPE_CHECKING:
    from assay.cli.output import Output
    from assay.orchestration.effective import EffectiveAnswer

_SHOWN = 20


def show_effective(output: Output, found: EffectiveAnswer) -> None:
    """Servers as a table, then the latest gaps, then what is wrong with the record."""
    if not found.servers:
        output.line("no server is known to have run then")
    else:
        output.table(
            ("server", "had", "ready at", "agrees", "its line", "its end"),
            (
                (
                    one.process.name,
                    one.load.version if one.load else "nothing",
                    render(one.load.ready_at) if one.load else "-",
                    "yes" if one.agrees else "NO",
                    one.load.signed_by if one.load else "-",
                    f"none known, last heard {render(one.process.heard_at)[:19]}"
                    if one.process.stopped_at == MAX_INSTANT
                    else render(one.process.stopped_at),
                )
                for one in found.servers
            ),
        )
    for gap in found.gaps[-_SHOWN:]:
        other = " (same number, OTHER digest)" if gap.other_digest else ""
        output.line(
            f"gap of {gap.seconds:.3f} s from {render(gap.start)}: {gap.server} had "
            f"{gap.effective or 'nothing'}, meant was {gap.intended or 'nothing'}{other}"
        )
    if len(found.gaps) > _SHOWN:
        output.line(f"and {len(found.gaps) - _SHOWN} earlier ones; --json lists them all")
    for problem in found.problems:
        output.line(f"NOT RELIABLE: {problem}")
    for note in found.notes:
        output.line(f"note: {note}")
