"""What a reader has to know about one measurement before believing a gate that rests on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One measurement in words; pages and commands are written from it.

    Attributes
    ----------
    name: the name that evidence has, and that policies ask for.
    meaning: one line without a full stop.
    protects: what goes wrong without a gate on it.
    formula: how the number comes about, in plain text.
    convention: units, sample, and the choices on which public libraries differ.
    source: author, year, title; or where the rule comes from when it is ours.
    lies: when the number misleads.
    reading: how to read it, and what to look at beside it.
    against_champion: whether it compares with the version in production.
    repeatable: whether it can be taken again from what is recorded; False for what was observed
        at a moment, such as hours in shadow.
    definition: counts up when the definition changes, so that old numbers do not compare with new.
    """

    name: str
    meaning: str
    protects: str
    formula: str
    convention: str
    source: str
    lies: str
    reading: str
    against_champion: bool = False
    repeatable: bool = True
    definition: int = 1

    @property
    def convention_id(self) -> str:
        """The name of the definition, such as ``rank_ic/1``."""
        return f"{self.name}/{self.definition}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "convention_id": self.convention_id}
