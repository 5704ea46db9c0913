"""What a source says about an entity, with both of its times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from assay.domain.instants import Instant

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Observation:
    """One fact as a source reports it, before Assay has stored it.

    Attributes
    ----------
    entity: what the fact is about, for example ``EUR_USD``.
    event_time: when it happened.
    known_time: when this system could first have known it, by the source's rule.
    payload: the raw content, JSON scalars only, exactly as the source gave it.
    """

    entity: str
    event_time: Instant
    known_time: Instant
    payload: Mapping[str, Scalar]
