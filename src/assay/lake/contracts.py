"""What a row must satisfy to enter silver, and the reasons for which it is quarantined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from assay.errors import ConfigurationError, did_you_mean


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


_Settings = TypeVar("_Settings", bound=_Dataclass)


class Reason(StrEnum):
    """Why a record was quarantined."""

    UNPARSEABLE_TIME = "unparseable_time"
    TIME_MISMATCH = "time_mismatch"
    MISSING_VALUE = "missing_value"
    WRONG_TYPE = "wrong_type"
    UNPARSEABLE_NUMBER = "unparseable_number"
    NOT_FINITE = "not_finite"
    NOT_POSITIVE = "not_positive"
    CONFLICTING_VALUES = "conflicting_values"
    IMPOSSIBLE_JUMP = "impossible_jump"


@dataclass(frozen=True, slots=True)
class RatesContract:
    """The contract of the table of exchange rates.

    Moves are absolute log changes against the last accepted rate of the same entity that was
    known at the time. A true collapse (a currency floor removed, a devaluation of a third in one
    day) must pass and be flagged; a misplaced decimal point must not pass.

    Attributes
    ----------
    time_field, value_field: where the payload holds the day (``YYYY-MM-DD``) and the rate.
    zone: time zone in which the event time must fall on that day.
    extreme_move: from here on a row is flagged ``extreme``. 0.10 is about 10 %.
    impossible_move: beyond this a row is quarantined. 1.0 is a factor of e: the largest true move
        between two sessions in the ECB's history is 0.52 (Turkish lira, February 2001).
    gap_days: after this many days without an accepted rate any level is believed, so that a
        currency that returns after years (Iceland 2008 to 2018) is not shut out.
    """

    time_field: str = "date"
    value_field: str = "rate"
    zone: str = "Europe/Berlin"
    extreme_move: float = 0.10
    impossible_move: float = 1.0
    gap_days: float = 14.0

    def __post_init__(self) -> None:
        if not 0 < self.extreme_move <= self.impossible_move < math.inf:
            raise ConfigurationError(
                f"extreme_move {self.extreme_move}, impossible_move {self.impossible_move}: "
                "expected 0 < extreme_move <= impossible_move"
            )
        if not self.gap_days > 0:
            raise ConfigurationError(f"gap_days {self.gap_days}: expected more than 0")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ConfigurationError(
                f"zone {self.zone!r}: expected an IANA time zone such as Europe/Berlin"
            ) from None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build from a configuration section.

        Raises
        ------
        ConfigurationError: a key is unknown, or a value has the wrong type or range.
        """
        return build(cls, mapping)


def build(cls: type[_Settings], mapping: Mapping[str, Any]) -> _Settings:
    """An instance of the dataclass ``cls`` from plain settings; refuses unknown keys and types.

    Every field must have a default, whose type says what is expected. Lists become tuples.
    """
    defaults = {field.name: field.default for field in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in defaults:
            raise ConfigurationError(
                f"unknown key {key!r} in {cls.__name__}", hint=did_you_mean(str(key), defaults)
            )
        values[key] = _coerce(cls.__name__, key, value, type(defaults[key]))
    return cls(**values)


def _coerce(owner: str, key: str, value: Any, expected: type) -> Any:
    if expected is tuple and isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return tuple(value)
    elif expected is float and type(value) in {int, float}:
        return float(value)
    elif type(value) is expected:
        return value
    name = "a list of texts" if expected is tuple else expected.__name__
    raise ConfigurationError(f"{owner}.{key} is {value!r}: expected {name}")
