"""What people declare about a line of models: ``configs/models.yaml``, all of it optional.

::

    fx_vol:
      materiality: high                # high, medium or low: the desk's own tier
      owner: head.of.desk
      validator: model.risk            # who examined it; never its author
      intended_use: Sizing of FX positions from one session to the next.
      limits: [No use for options., Not for currencies with a managed rate.]
      not_tested: [Behaviour while a central bank intervenes.]
      revalidate_by: 2027-06-30

It is no part of a version: what somebody says about a model today is not what was signed when it
was made. A pack says so, and names the SHA-256 of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import sha256_hex
from assay.errors import ConfigurationError, did_you_mean
from assay.storage.documents import read_mapping

FILE: Final = Path("configs/models.yaml")
TIERS: Final = ("high", "medium", "low")
_LISTS: Final = ("limits", "not_tested")


@dataclass(frozen=True, slots=True)
class Declared:
    """What is declared about one model; None and empty where nothing is."""

    materiality: str | None = None
    owner: str | None = None
    validator: str | None = None
    intended_use: str | None = None
    limits: tuple[str, ...] = ()
    not_tested: tuple[str, ...] = ()
    revalidate_by: str | None = None
    source_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            item.name: list(value) if isinstance(value, tuple) else value
            for item in fields(self)
            for value in (getattr(self, item.name),)
        }


def read_declared(root: Path, model: str) -> Declared:
    """What the desk in ``root`` declares about a model.

    Raises
    ------
    ConfigurationError: the file has another form; names the key and what was expected.
    """
    path = root / FILE
    if not path.is_file():
        return Declared()
    document = read_mapping(path)
    found = document.get(model)
    if found is None:
        return Declared()
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"{FILE}: {model}: expected keys such as materiality and limits")
    known = [item.name for item in fields(Declared) if item.name != "source_sha256"]
    values: dict[str, Any] = {"source_sha256": sha256_hex(path.read_bytes())}
    for key, value in found.items():
        if key not in known:
            raise ConfigurationError(
                f"{FILE}: {model}: unknown key {key!r}", hint=did_you_mean(str(key), known)
            )
        values[key] = _value(f"{FILE}: {model}.{key}", str(key), value)
    return Declared(**values)


def _value(place: str, key: str, value: Any) -> Any:
    if key in _LISTS:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigurationError(f"{place} is {value!r}: expected a list of sentences")
        return tuple(value)
    if key == "revalidate_by":
        try:
            return (value if isinstance(value, date) else date.fromisoformat(value)).isoformat()
        except (TypeError, ValueError):
            raise ConfigurationError(
                f"{place} is {value!r}: expected a date such as 2027-06-30"
            ) from None
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{place} is {value!r}: expected text")
    if key == "materiality" and value not in TIERS:
        raise ConfigurationError(
            f"{place} is {value!r}: expected {', '.join(TIERS)}", hint=did_you_mean(value, TIERS)
        )
    return value
