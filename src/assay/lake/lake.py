"""The lake as one object: the folder, the clock, and the names of what is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from assay.domain.clock import Clock
from assay.errors import NotFound, did_you_mean
from assay.lake.bronze import Bronze
from assay.lake.snapshots import Table

LAYERS: Final = ("silver", "gold", "quarantine")
_TABLE_NAME = re.compile(r"(?P<layer>[a-z]+)/(?P<table>[a-z][a-z0-9_]{0,63})")


class Lake:
    """Bronze and the snapshot tables under ``root``.

    ``root`` holds ``bronze/``, ``silver/``, ``gold/`` and ``quarantine/``. Folders appear with the
    first write.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root = root
        self.clock = clock
        self.bronze = Bronze(root / "bronze", clock)

    def table(self, name: str) -> Table:
        """The table ``<layer>/<name>``, for example ``silver/rates``; it may still be empty.

        Raises
        ------
        NotFound: the name is not of that form or the layer does not exist.
        """
        require_table_name(name)
        return Table(self.root / name, name, self.clock)

    def tables(self) -> list[str]:
        """Names of all tables that have a current snapshot."""
        pointers = (path for layer in LAYERS for path in self.root.glob(f"{layer}/*/current"))
        return sorted(path.parent.relative_to(self.root).as_posix() for path in pointers)


def require_table_name(name: str) -> None:
    """Refuse what is no name of a table.

    Raises
    ------
    NotFound: the name is not of the form ``<layer>/<name>`` or the layer does not exist.
    """
    match = _TABLE_NAME.fullmatch(name)
    if match is None:
        raise NotFound(
            f"table name {name!r}: expected <layer>/<name> in lower case",
            hint="for example silver/rates or gold/fx_core",
        )
    if match["layer"] not in LAYERS:
        raise NotFound(
            f"table name {name!r}: there is no layer {match['layer']!r}",
            hint=did_you_mean(match["layer"], LAYERS),
        )
