"""How late a fact may come and still change rows that were issued."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.errors import Conflict, ContractViolation, DefinitionError

_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Lateness:
    """What a feed over a view allows, and what history reproduces.

    Attributes
    ----------
    event_times: rows of the last so many event times are issued again when a fact comes late or is
        revised: of an entity where the view has no barrier, of all entities together where it has
        one. Facts that come later still count for the windows of later rows.
    closes_with_batch: whether the end of a batch completes its latest event time, otherwise the
        first arrival of a later one does. For views with a barrier.
    """

    event_times: int
    closes_with_batch: bool = False

    def __post_init__(self) -> None:
        if type(self.event_times) is not int or not 1 <= self.event_times <= _MOST:
            raise DefinitionError(
                f"lateness: event_times {self.event_times!r}, expected a whole number from 1 to "
                f"{_MOST:,}",
                hint="how many event times back a late fact may change rows that were issued",
            )
        if type(self.closes_with_batch) is not bool:
            raise DefinitionError(
                f"lateness: closes_with_batch {self.closes_with_batch!r}, expected true or false"
            )

    def to_json(self) -> dict[str, Any]:
        """What a manifest says about it."""
        return {"event_times": self.event_times, "closes_with_batch": self.closes_with_batch}


def lateness_for(
    view: str, declared: Lateness | None, event_times: int | None, closes_with_batch: bool | None
) -> Lateness | None:
    """What a driver of a view goes by: what the view declares, or else what the driver is given.

    None where neither says how many event times.

    Raises
    ------
    Conflict: the driver is given something else than the view declares.
    ContractViolation: what the driver is given is out of range.
    """
    if declared is None:
        if event_times is None:
            return None
        try:
            return Lateness(event_times, bool(closes_with_batch))
        except DefinitionError:
            raise ContractViolation(
                f"margin {event_times!r}: expected at least one event time, at most {_MOST:,}"
            ) from None
    given = (
        ("margin", event_times, declared.event_times),
        ("close_with_batch", closes_with_batch, declared.closes_with_batch),
    )
    for what, value, ours in given:
        if value is not None and value != ours:
            raise Conflict(
                f"view {view} declares a lateness of {ours!r}, but {what} is {value!r}",
                hint=f"leave {what} out: history and feed go by the view",
            )
    return declared
