"""The online store against the authoritative snapshot, by counts and hashes, on a schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from assay.domain.clock import Clock
from assay.domain.instants import MAX_INSTANT, Instant, render
from assay.domain.verdicts import Verdict
from assay.errors import AssayError, ConfigurationError, IntegrityError
from assay.features.definition.manifest import Manifest
from assay.features.definition.views import FeatureView
from assay.features.online.store import MAX_VERSIONS, OnlineStore
from assay.features.parity.answers import check_answers
from assay.features.parity.days import DayRoots
from assay.features.parity.horizon import Horizon
from assay.features.parity.policy import ParityPolicy
from assay.features.parity.stored import (
    StoreComparison,
    compare_store,
    complete_since,
    read_stored,
)


@dataclass(frozen=True, slots=True)
class Authority:
    """What history says: every version of every row of a view as it was known.

    ``snapshot`` is the id of the table that the rows were computed from or read from; ``rows`` has
    the view's key columns and features.
    """

    snapshot: str
    rows: pl.DataFrame


@dataclass(frozen=True, slots=True)
class StoreValidation:
    """What one look at the store found.

    Attributes
    ----------
    verdict: PASS when every day has the same rows and the same root on both sides, and every answer
        is the one that was known; FAIL when one is not; INDETERMINATE when there was nothing to
        compare or the comparison could not be made.
    findings: what is wrong, rows by name; empty with PASS.
    days: row counts and roots by UTC day of event time.
    comparison: value by value; None where it could not be made.
    """

    view: str
    manifest: str
    snapshot: str | None
    at: Instant
    verdict: Verdict
    findings: tuple[str, ...]
    days: tuple[DayRoots, ...]
    comparison: StoreComparison | None

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the snapshot and of the store."""
        return sum(day.offline_rows for day in self.days), sum(day.online_rows for day in self.days)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; of the comparison it holds the horizon."""
        offline, online = self.rows
        return {
            "view": self.view,
            "manifest": self.manifest,
            "snapshot": self.snapshot,
            "at": render(self.at),
            "verdict": str(self.verdict),
            "findings": list(self.findings),
            "horizon": None if self.comparison is None else self.comparison.horizon.to_json(),
            "offline_rows": offline,
            "online_rows": online,
            "answers": None
            if self.comparison is None or self.comparison.answers is None
            else self.comparison.answers.to_json(),
            "days": [day.to_json() for day in self.days],
        }


class OfflineStoreValidator:
    """Compares row counts and hashes of the authoritative snapshot with the online store.

    It has no thread: a scheduler calls :meth:`validate_if_due` as often as it likes, and the clock
    decides; :meth:`validate` looks at once.

    Parameters
    ----------
    view: whose rows.
    store: the online store.
    authority: gives what history says; asked anew at each look.
    clock: where "now" comes from.
    every: nanoseconds from one look to the next.
    since: the first event time to compare. By default from when on the store can be complete, see
        :func:`assay.features.parity.stored.complete_since`.
    max_versions: rows that the store keeps of an entity.

    Raises
    ------
    ConfigurationError: ``every`` is not positive.
    """

    def __init__(
        self,
        view: FeatureView,
        store: OnlineStore,
        authority: Callable[[], Authority],
        clock: Clock,
        *,
        every: int,
        since: Instant | None = None,
        max_versions: int = MAX_VERSIONS,
    ) -> None:
        if every < 1:
            raise ConfigurationError(f"validator of {view.name}: every {every} ns, expected more")
        self._view, self._store, self._authority, self._clock = view, store, authority, clock
        self._every, self._since, self._max_versions = every, since, max_versions
        self._next: Instant | None = None

    def validate_if_due(self) -> StoreValidation | None:
        """A look when the time for it has come, otherwise None. The first call always looks."""
        if self._next is not None and self._clock.now() < self._next:
            return None
        return self.validate()

    def validate(self) -> StoreValidation:
        """Compare now. What goes wrong on the way is part of the result, never raised."""
        now = self._clock.now()
        self._next = now + self._every
        snapshot = None
        try:
            authority = self._authority()
            snapshot = authority.snapshot
            stored = read_stored(self._view, self._store, authority.rows)
            since = self._since
            if since is None:
                since = complete_since(authority.rows, stored, max_versions=self._max_versions)
            if since is None:
                said = f"there is nothing to compare: the store has no rows of {self._view.name}"
                return self._result(now, Verdict.INDETERMINATE, snapshot, (said,))
            horizon = Horizon(since, MAX_INSTANT)
            answers = check_answers(self._view, self._store, authority.rows, horizon)
            compared = compare_store(self._view, stored, authority.rows, horizon, answers=answers)
        except IntegrityError as error:
            return self._result(now, Verdict.FAIL, snapshot, (error.message,))
        except AssayError as error:
            return self._result(now, Verdict.INDETERMINATE, snapshot, (error.message,))
        judged = compared.judge(ParityPolicy())
        findings = (*_by_day(compared), *judged.reasons)
        return self._result(now, judged.verdict, snapshot, findings, compared)

    def _result(
        self,
        now: Instant,
        verdict: Verdict,
        snapshot: str | None,
        findings: tuple[str, ...],
        comparison: StoreComparison | None = None,
    ) -> StoreValidation:
        return StoreValidation(
            view=self._view.name,
            manifest=Manifest.of(self._view).hash,
            snapshot=snapshot,
            at=now,
            verdict=verdict,
            findings=findings,
            days=() if comparison is None else comparison.days,
            comparison=comparison,
        )


def _by_day(compared: StoreComparison) -> list[str]:
    """Each day whose roots differ, with the first row that makes them differ."""
    found = []
    for day in compared.days:
        if day.first is not None:
            entity, event_time, known_time, *_ = day.first
            found.append(
                f"{day.day}: {day.offline_rows} rows in history, {day.online_rows} in the store; "
                f"first {day.what}: {entity} at {render(event_time)}, known {render(known_time)}"
            )
    return found
