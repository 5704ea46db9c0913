"""Where a prediction's features come from, as serving sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.domain.instants import Instant


class SourceRow(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One entity's features as of a moment.

    Attributes
    ----------
    values: float64, one per name of the source, in its order; missing ones NaN.
    event_time, known_time: when they happened, and when they were known.
    manifest: hash of the definition that computed them; the source's own, or another one.
    stale: whether the time to live had run out at the moment asked about.
    origin: the stored row's own array, if it is the same object as long as the row is the same and
        nobody can write to it: what a model answered is remembered by it.
    """

    values: NDArray[np.float64]
    event_time: Instant
    known_time: Instant
    manifest: str
    stale: bool
    origin: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source is: ``reachable``, ``fresh`` (some entity is not stale), and words about it."""

    reachable: bool
    fresh: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"reachable": self.reachable, "fresh": self.fresh, "detail": self.detail}


class FeatureSource(Protocol):
    """Rows of one feature view. Called from several threads."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of a row's values."""
        ...

    @property
    def manifest(self) -> str:
        """Hash of the manifest that models name which read these features."""
        ...

    @property
    def may_wait(self) -> bool:
        """Whether :meth:`rows` may wait for another machine, and not only for this one's disk."""
        ...

    def rows(self, entities: Sequence[str], as_of: Instant) -> list[SourceRow | None]:
        """One row per entity, in their order: the latest that had happened and was known at
        ``as_of``, or None where there is none.

        Raises
        ------
        AssayError: the store cannot be read.
        """
        ...

    def entities(self) -> Collection[str]:
        """Every entity that has a row; asked only to explain that one has none."""
        ...

    def refresh(self) -> None:
        """Take notice of what changed beside the rows; asked about once a second by a thread of
        its own, so that reading a calendar again delays no request.

        Raises
        ------
        AssayError: it cannot be read; what was known before stays.
        """
        ...

    def state(self, as_of: Instant) -> SourceState:
        """Whether the source can be read and is fresh; does not raise."""
        ...


@runtime_checkable
class FollowsUse(Protocol):
    """Sources that change with the manifests in use."""

    def follow(self) -> None:
        """Take notice of another manifest in use; from any thread.

        Raises
        ------
        AssayError: it cannot be read; what was known before stays.
        """
        ...


@runtime_checkable
class StatesAtOnce(Protocol):
    """Sources, by what models name, whose rows can be read together."""

    def states(self, as_of: Instant) -> Mapping[str, SourceState]:
        """The state of every source, as each of them tells it; does not raise."""
        ...


def states_of(sources: Mapping[str, FeatureSource], as_of: Instant) -> Mapping[str, SourceState]:
    """Whether each source can be read and is fresh; in one round trip where that is possible."""
    if isinstance(sources, StatesAtOnce):
        return sources.states(as_of)
    return {key: source.state(as_of) for key, source in sources.items()}
