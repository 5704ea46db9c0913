"""The configuration files of a desk in their canonical form.

The files are ``assay.yaml`` and every YAML file under ``configs/``. A file's canonical form is its
content without comments, order and spelling. A password inside of an address is left out: what is
signed can be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import content_hash, sha256_hex
from assay.errors import AssayError
from assay.storage.documents import parse_yaml

_SUFFIXES: Final = (".yaml", ".yml")
_SECRET: Final = re.compile(r"([a-z][a-z0-9+.-]*://[^/@:\s]*):[^/\s]*@", re.IGNORECASE)


def canonical_configuration(root: Path) -> dict[str, Any]:
    """The canonical form of each configuration file below a desk's folder, by its path.

    One that cannot be read as YAML stands as the SHA-256 of its bytes: that it is broken is for
    whoever needs it to say.
    """
    return {
        path.relative_to(root).as_posix(): _canonical(path)
        for path in sorted(_files(root))
        if path.is_file()
    }


def configuration_digests(root: Path) -> dict[str, str]:
    """The SHA-256 of the canonical form of each configuration file, by its path."""
    return {file: content_hash(form) for file, form in canonical_configuration(root).items()}


def _files(root: Path) -> Iterator[Path]:
    yield root / "assay.yaml"
    for suffix in _SUFFIXES:
        yield from (root / "configs").rglob(f"*{suffix}")


def _canonical(path: Path) -> Any:
    data = path.read_bytes()
    try:
        return _plain(parse_yaml(data.decode("utf-8"), source=str(path), text_keys=False))
    except (AssayError, UnicodeDecodeError):
        return {"not_yaml": sha256_hex(data)}


def _plain(value: Any) -> Any:
    """A value of YAML as one of JSON, without passwords in addresses."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return _SECRET.sub(r"\1:***@", value)
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int):
        return value
    # An infinity has no JSON; its text is as good to compare.
    return value if isinstance(value, float) and abs(value) < float("inf") else repr(value)
