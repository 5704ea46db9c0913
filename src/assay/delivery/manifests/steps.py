"""The steps of a promotion: what each does, and what it finds.

A step is a function of what the attempt began with. Doing it again, in whatever process, has the
same effect and finds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import polars as pl

from assay.delivery.manifests.state import Attempt, InUse, ViewState
from assay.delivery.manifests.values import ManifestPromotion, largest
from assay.domain.instants import Instant, render
from assay.domain.order import ORDER_COLUMNS
from assay.errors import Refused
from assay.features import FeatureView, Manifest, compare
from assay.features.offline.arrivals import as_known_history
from assay.features.offline.sessions import SessionCalendar
from assay.features.online import (
    NamedRows,
    ServedView,
    StoredRow,
    batches_of,
    readings_of,
)
from assay.registry import EventType

_VERSION = ("event_time", "known_time")


class Steps:
    """The steps of one attempt.

    Parameters
    ----------
    initiated_by: who is named as the publisher.
    """

    def __init__(
        self, where: ManifestPromotion, manifest: Manifest, attempt: Attempt, initiated_by: str
    ) -> None:
        self.where = where
        self.view = where.view
        self.manifest = manifest
        self.attempt = attempt
        self.by = initiated_by
        self._steps: Mapping[EventType, Callable[[ViewState], dict[str, Any]]] = {
            EventType.MANIFEST_PUBLISH: self._publish,
            EventType.MANIFEST_WARM_UP: self._warm_up,
            EventType.MANIFEST_PARITY: self._parity,
            EventType.MANIFEST_CHECK: self._check,
        }

    def take(self, step: EventType, state: ViewState) -> dict[str, Any]:
        """Do a step; what it found. Two only move the pointer: their entry is all there is to do.

        Raises
        ------
        Refused: the step says no.
        """
        do = self._steps.get(step)
        return {} if do is None else do(state)

    # -- steps ----------------------------------------------------------------------------------

    def _publish(self, _: ViewState) -> dict[str, Any]:
        note = self.where.catalogue.publish(self.manifest, by=self.by)
        return {"url": self.where.catalogue.url, **note.to_json()}

    def _warm_up(self, _: ViewState) -> dict[str, Any]:
        # What an attempt that was killed here wrote is written again, with the same bits.
        self.where.checkpoint(self.attempt.namespace).unlink(missing_ok=True)
        feed = self.where.feed(self.attempt.namespace)
        past, live = self.arrivals[: self._split], self.arrivals[self._split :]
        if past.height:
            feed.warm_up(past)
        rows: list[StoredRow] = []
        for batch in batches_of(self.view, live):
            rows += feed.take(batch)
        feed.checkpoint()
        if not rows:
            self._refuse(
                f"the {live.height:,} facts since {render(self.attempt.since)} gave no row",
                hint="warm up on more: --event-times, or more --minutes",
            )
        return {
            "facts": self.arrivals.height,
            "live": live.height,
            "rows": len(rows),
            "entities": len({row.entity for row in rows}),
            "since": render(self.attempt.since),
        }

    def _parity(self, _: ViewState) -> dict[str, Any]:
        held = self._held()
        foreign = sorted({row.manifest for row in held} - {self.manifest.hash})
        if foreign:
            self._refuse(f"rows in {self.attempt.namespace} follow manifest {foreign[0]}")
        report = compare(
            self.history,
            _frame(self.view, held),
            keys=(self.view.entity, *_VERSION),
            features=self.view.feature_names,
        )
        if not report.holds:
            first = report.differences[0] if report.differences else None
            example = (
                ""
                if first is None
                else f"; {first.feature} at {first.key}: history {first.offline!r}, "
                f"online {first.online!r}"
            )
            self._refuse(
                f"parity with history does not hold: {report.bitwise_equal:,} of "
                f"{report.values_compared:,} values are equal, {report.missing} rows missing, "
                f"{report.extra} extra{example}",
                hint=f"assay parity run {self.view.name}",
            )
        return {
            "policy": "bitwise",
            "rows": len(held),
            "values": report.values_compared,
            "equal": report.bitwise_equal,
        }

    def _check(self, state: ViewState) -> dict[str, Any]:
        """Read as the canary does, and compare with history and with what production reads."""
        pointed = self.where.active.read().get(self.view.name)
        taken = None if pointed is None else pointed.taken_by(canary=True)
        if taken is None or taken.namespace != self.attempt.namespace:
            self._refuse(f"the canary reads {taken}, expected {self.attempt.namespace}")
        moment = largest(self.arrivals["known_time"])
        wanted = {
            str(row[0]): np.array(row[1:], dtype=np.float64) for row in self._newest().iter_rows()
        }
        read = NamedRows(self.where.catalogue.get(taken.manifest), self.where.catalogue.get)
        every = self.arrivals[self.view.entity].cast(pl.String).unique().sort().to_list()
        both = [taken] if state.active is None else [taken, state.active]
        found = self.where.store.read_views({one.namespace: every for one in both}, moment)
        canary = dict(zip(every, found[taken.namespace], strict=True))
        for entity in sorted(wanted):
            row = canary[entity]
            values = None if row is None else read.values(row)
            if values is None or values.tobytes() != wanted[entity].tobytes():
                self._refuse(
                    f"the canary reads {None if values is None else values.tolist()} for {entity} "
                    f"as of {render(moment)}, history says {wanted[entity].tolist()}"
                )
        against = {"compared": 0, "differ": 0}
        if state.active is not None:
            production = dict(zip(every, found[state.active.namespace], strict=True))
            against = self._against_production(state.active, production, canary, moment)
        return {"as_of": render(moment), "entities": len(wanted), **against}

    def _against_production(
        self,
        active: InUse,
        production: Mapping[str, StoredRow | None],
        canary: Mapping[str, StoredRow | None],
        moment: Instant,
    ) -> dict[str, int]:
        """How many rows both have of one event time, and how many of those differ by a bit.

        That they differ is reported and no reason to stop: history is what the canary was held
        against, and it may be production that is wrong.
        """
        manifest = self.where.catalogue.get(active.manifest)
        readings = readings_of(
            ServedView(active.namespace, manifest.ttl), list(production.values()), moment,
            calendar=SessionCalendar.of(self.arrivals),
        )  # fmt: skip
        as_before = NamedRows(manifest, self.where.catalogue.get)
        compared = differ = 0
        for entity, reading in zip(production, readings, strict=True):
            if reading is None or reading.stale:
                continue
            row = canary[entity]
            if row is None:
                self._refuse(
                    f"production answers for {entity} as of {render(moment)}, and the canary has "
                    "no row of it: it had no fact in the stretch that was warmed up on",
                    hint="warm up on more: --event-times, or more --minutes",
                )
            if row.event_time == reading.row.event_time:
                mine, theirs = as_before.values(row), as_before.values(reading.row)
                compared += 1
                differ += mine is None or theirs is None or mine.tobytes() != theirs.tobytes()
        return {"compared": compared, "differ": differ}

    # -- what steps work on ---------------------------------------------------------------------

    @cached_property
    def arrivals(self) -> pl.DataFrame:
        """Every version of every fact of the attempt's snapshot."""
        return self.where.facts.arrivals(self.attempt.snapshot)

    @cached_property
    def history(self) -> pl.DataFrame:
        """The versions of rows that a feed issues in the stretch, computed from history."""
        rule = self.where.rule
        rows, before = (
            as_known_history(
                self.view, arrivals, margin=rule.margin, close_with_batch=rule.close_with_batch
            )
            for arrivals in (self.arrivals, self.arrivals[: self._split])
        )
        return rows.join(
            before, on=[self.view.entity, *_VERSION], how="anti", maintain_order="left"
        )

    @cached_property
    def _split(self) -> int:
        """Where the stretch begins: with the first arrival that became known in it."""
        found = (self.arrivals["known_time"] >= self.attempt.since).arg_max()
        return 0 if found is None else int(found)

    def _newest(self) -> pl.DataFrame:
        """Of each entity in the stretch the row that counts at its end."""
        ordered = self.history.sort(self.view.entity, *ORDER_COLUMNS)
        newest = ordered.unique(self.view.entity, keep="last", maintain_order=True)
        return newest.select(self.view.entity, *self.view.feature_names)

    def _held(self) -> list[StoredRow]:
        store, namespace = self.where.store, self.attempt.namespace
        names = store.entities(namespace)
        return [row for entity in names for row in store.history(namespace, entity)]

    def _refuse(self, reason: str, hint: str | None = None) -> NoReturn:
        raise Refused(
            f"view {self.view.name}, manifest {self.manifest.hash[:12]}: {reason}", hint=hint
        )


def _frame(view: FeatureView, rows: list[StoredRow]) -> pl.DataFrame:
    values = np.array([row.values for row in rows]).reshape(len(rows), len(view.feature_names))
    return pl.DataFrame(
        [
            pl.Series(view.entity, [row.entity for row in rows], dtype=pl.String),
            *(
                pl.Series(name, [getattr(row, name) for row in rows], dtype=pl.Int64)
                for name in _VERSION
            ),
            *(pl.Series(name, values[:, i]) for i, name in enumerate(view.feature_names)),
        ]
    )
