"""How it is said that others have seen more of the registry's log than there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.cli.output import Output
    from assay.orchestration.desk import Desk

_SHOWN = 3


def warn_of_doubts(output: Output, desk: Desk, name: str | None = None) -> list[str]:
    """Print what contradicts the log, and return it for the answer; nothing where nothing does.

    Parameters
    ----------
    name: the model that the answer is about; None for no one in particular.
    """
    from assay.orchestration.log_doubts import HINT, LogDoubts

    found = LogDoubts(desk).about(desk.registry, name)
    for doubt in found[:_SHOWN]:
        output.line(f"WARNING: the log may lack entries: {doubt}")
    if len(found) > _SHOWN:
        output.line(f"WARNING: and {len(found) - _SHOWN} more")
    if found:
        output.next_step(HINT)
    return list(found)
