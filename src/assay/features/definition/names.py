"""Names that files, columns and stores can carry."""

from __future__ import annotations

import re

from assay.errors import DefinitionError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def check_name(what: str, name: object) -> None:
    """Refuse a name that files and stores could not carry."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{what} {name!r}: expected a lower-case letter, then up to 63 letters, digits or _"
        )
