"""Who acts in a demonstration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class People:
    """The author trains, two others approve, the operator promotes and withdraws."""

    author: str
    approvers: tuple[str, str]
    operator: str
