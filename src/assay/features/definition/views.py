"""A feature view: a named set of features over one source, keyed by an entity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from assay.domain.order import ORDER_COLUMNS
from assay.errors import ContractViolation, DefinitionError, did_you_mean
from assay.features.definition.bars import Bars
from assay.features.definition.calendars import SessionTable
from assay.features.definition.compiler import Plan, compile_features
from assay.features.definition.expressions import Expression
from assay.features.definition.lateness import Lateness
from assay.features.definition.names import check_name
from assay.features.definition.units import Unit, unit_of
from assay.features.definition.windows import Duration


@dataclass(frozen=True, slots=True)
class Sessions:
    """A time to live counted in sessions (rows of the source's calendar), for daily data."""

    count: int

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:  # True is no count
            raise DefinitionError(f"Sessions({self.count!r}): expected a whole number from 1")

    def to_json(self) -> dict[str, Any]:
        return {"sessions": self.count}


TimeToLive: TypeAlias = Sessions | Duration


@dataclass(frozen=True)
class FeatureView:
    """Named features over the rows of one source.

    Parameters
    ----------
    name: lower case, as in files and stores.
    source: the table that the rows come from.
    entity: the column that says which entity a row is about.
    features: name -> expression, in the order of the output columns.
    ttl: how long a row may be served or joined after its event time.
    members: a Boolean column; cross-sections run over rows where it is true. None means all rows.
    timezone: IANA name; calendar flags are those of the local date there.
    units: column -> unit, such as ``{"mid": "USD/EUR"}``; they change no value and no manifest, but
        an expression that makes no sense in them is refused.
    calendars: tables of the sessions that windows and flags name; those that none names are let go.
    bars: how the rows of the source are made of ticks, where they are; part of the manifest.
    lateness: how late a fact may change rows that were issued; part of the manifest. A feed of the
        view, and the history of what it issued, go by it.

    Raises
    ------
    DefinitionError: a name is illegal or taken, the time zone is unknown, or a feature cannot be
        computed.
    """

    name: str
    source: str
    entity: str
    features: Mapping[str, Expression]
    ttl: TimeToLive
    members: str | None = None
    timezone: str = "UTC"
    calendars: tuple[SessionTable, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    bars: Bars | None = None
    lateness: Lateness | None = None
    plan: Plan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, name in (("view", self.name), ("source", self.source), ("entity", self.entity)):
            check_name(f"name of the {what}", name)
        self._check_features()
        if not isinstance(self.ttl, Sessions | Duration):
            raise DefinitionError(
                f"view {self.name}: ttl {self.ttl!r}, expected Sessions(n) or Duration.of(hours=n)"
            )
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise DefinitionError(
                f"view {self.name}: unknown time zone {self.timezone!r}",
                hint="an IANA name such as Europe/Berlin, America/New_York or UTC",
            ) from None
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))
        object.__setattr__(self, "plan", compile_features(self.features, self.members))
        self._keep_calendars()
        self._check_bars()
        if self.lateness is not None and not isinstance(self.lateness, Lateness):
            raise DefinitionError(
                f"view {self.name}: lateness {self.lateness!r}, expected a Lateness",
                hint="Lateness(event_times=32), or one of load_windows(...).lateness",
            )
        object.__setattr__(self, "units", MappingProxyType(dict(self.units)))
        for name in self.units:
            if name not in self.columns:
                raise DefinitionError(
                    f"view {self.name}: a unit of column {name!r}, which no feature reads",
                    hint=did_you_mean(name, self.columns),
                )
        self.feature_units  # noqa: B018 - what makes no sense is refused here

    def _keep_calendars(self) -> None:
        """Keep the tables that are read; what is not read decides no value."""
        named: dict[str, SessionTable] = {}
        for table in self.calendars:
            if named.setdefault(table.name, table).digest != table.digest:
                raise DefinitionError(
                    f"view {self.name}: two different calendars are called {table.name}",
                    hint="every table has a name of its own",
                )
        wanted = sorted({name for _, _, name in map(_parts, self.plan.calendar) if name})
        for name in wanted:
            if name not in named:
                raise DefinitionError(
                    f"view {self.name}: calendar {name!r} is not among its calendars",
                    hint=did_you_mean(name, named)
                    if named
                    else "FeatureView(..., calendars=[sessions_of_rule(...)])",
                )
        object.__setattr__(self, "calendars", tuple(named[name] for name in wanted))

    def _check_bars(self) -> None:
        if self.bars is None:
            return
        for what, own, theirs in (
            ("source", self.source, self.bars.name),
            ("entity", self.entity, self.bars.entity),
        ):
            if own != theirs:
                raise DefinitionError(
                    f"view {self.name}: {what} {own}, but the bars {self.bars.name} make rows of "
                    f"{what} {theirs}"
                )
        for name in self.columns:
            if name not in self.bars.columns:
                raise DefinitionError(
                    f"view {self.name}: the bars {self.bars.name} have no column {name!r}",
                    hint=did_you_mean(name, self.bars.columns),
                )

    def _check_features(self) -> None:
        if not self.features:
            raise DefinitionError(f"view {self.name}: no features")
        taken = {self.entity, *ORDER_COLUMNS}
        for name, expression in self.features.items():
            check_name(f"view {self.name}: name of a feature", name)
            if name in taken:
                raise DefinitionError(
                    f"view {self.name}: feature {name} has the name of a key column",
                    hint="key columns are " + ", ".join([self.entity, *ORDER_COLUMNS]),
                )
            if not isinstance(expression, Expression):
                raise DefinitionError(
                    f"view {self.name}: feature {name} is {type(expression).__name__}, "
                    "expected an expression such as col('mid').simple_return(1)"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        # A view travels to another process as its definition and is compiled again there.
        definition = (self.name, self.source, self.entity, dict(self.features))
        rest = (self.ttl, self.members, self.timezone, self.calendars, dict(self.units))
        return FeatureView, (*definition, *rest, self.bars, self.lateness)

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.features)))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features in the order of the output."""
        return tuple(self.features)

    @cached_property
    def feature_units(self) -> Mapping[str, str | None]:
        """The unit of every feature, None where it follows from columns without one.

        A view that declares no units is not judged: it has None throughout.
        """
        if not self.units:
            return MappingProxyType(dict.fromkeys(self.features))
        columns = {name: Unit.parse(unit) for name, unit in self.units.items()}
        found: dict[str, str | None] = {}
        for name, expression in self.features.items():
            try:
                unit = unit_of(expression, columns)
            except DefinitionError as error:
                raise DefinitionError(
                    f"view {self.name}: feature {name}: {error.message}", hint=error.hint
                ) from None
            found[name] = None if unit is None else str(unit)
        return MappingProxyType(found)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the source that the view reads, besides the key columns; sorted."""
        return self.plan.columns

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The entity and the four columns of the total order."""
        return (self.entity, *ORDER_COLUMNS)

    @property
    def look_back(self) -> int:
        """Earlier rows of the same entity that a row depends on at most."""
        return self.plan.look_back

    @property
    def remembered(self) -> int:
        """Earlier rows of every entity from which all later rows follow.

        The look-back; where entities are named, their latest row as well.
        """
        return self.plan.look_back + bool(self.plan.named)

    @property
    def has_barrier(self) -> bool:
        """Whether rows of one event time are completed together, across entities."""
        return self.plan.second is not None

    def check(self, columns: Iterable[str]) -> None:
        """Refuse a source that lacks a column, naming the nearest one it has.

        Raises
        ------
        ContractViolation: a column that the view reads is not among ``columns``.
        """
        present = list(columns)
        for name in (*self.key_columns, *self.columns):
            if name not in present:
                raise ContractViolation(
                    f"view {self.name}: source {self.source} has no column {name!r}",
                    hint=did_you_mean(name, present),
                )


def _parts(kind: str) -> tuple[str, str, str]:
    return kind.partition(":")
