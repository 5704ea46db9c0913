"""A model's way to its features: stored rows, what a request adds, and the columns it reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from assay.domain.instants import Instant, render
from assay.errors import AssayError, IncompatibleVersion, did_you_mean
from assay.serving.inputs.feature_source import FeatureSource, SourceRow
from assay.serving.inputs.read_rows import ReadRows
from assay.serving.inputs.request_inputs import RequestInputs, refuse_inputs, taker
from assay.serving.inputs.rows import LARGEST
from assay.serving.models.live_model import LiveModel, LiveModels
from assay.serving.rejections import (
    MANIFEST_MISMATCH,
    NO_FEATURES,
    STALE_FEATURES,
    UNAVAILABLE,
    UNKNOWN_INSTRUMENT,
    Rejected,
)


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """Where one model's features come from.

    Attributes
    ----------
    source: the stored rows.
    inputs: what a request brings and the features made of it; None for a model without such.
    take: takes the model's columns out of a row's values, followed by what the request adds.
    read_rows: what the model answered to the rows that it read last.
    """

    model: LiveModel
    source: FeatureSource
    inputs: RequestInputs | None
    take: Callable[[list[float]], Sequence[float]]
    read_rows: ReadRows = field(default_factory=ReadRows)

    @classmethod
    def of(
        cls,
        model: LiveModel,
        sources: Mapping[str, FeatureSource],
        requests: Mapping[str, RequestInputs],
    ) -> Self | None:
        """The way of a model; None where there are no sources, or it names no manifest.

        Parameters
        ----------
        sources, requests: by the hash of the manifest that models name.

        Raises
        ------
        IncompatibleVersion: nothing here has the model's manifest, or one of its columns.
        """
        if model.manifest is None or not sources:
            return None
        inputs = requests.get(model.manifest)
        source = sources.get(model.manifest) if inputs is None else inputs.source
        if source is None:
            raise IncompatibleVersion(
                f"{model.name} {model.version} reads features of manifest {model.manifest}: the "
                f"desk's views are {', '.join(sorted({*sources, *requests}))}",
                hint="serve it with the views it was trained on, or train again",
            )
        names = (*source.names, *(inputs.names if inputs is not None else ()))
        place = {name: index for index, name in enumerate(names)}
        for name in model.schema.names:
            if name not in place:
                raise IncompatibleVersion(
                    f"{model.name} {model.version} reads feature {name!r}, which its view lacks",
                    hint=did_you_mean(name, place),
                )
        return cls(model, source, inputs, taker([place[name] for name in model.schema.names]))

    def read(self, request: Mapping[str, float] | None) -> dict[str, float] | None:
        """What a request brought, in order; None for a model that takes nothing.

        Raises
        ------
        Rejected: it is not what the model takes.
        """
        if self.inputs is not None:
            return self.inputs.read(request)
        if request:
            raise refuse_inputs(f"{self.model.name} v{self.model.version}", request)
        return None

    def rows(self, instruments: Sequence[str], moment: Instant) -> list[SourceRow | None]:
        """The stored rows as of a moment, None where there is none; may wait for the store.

        Raises
        ------
        Rejected: the store cannot be read.
        """
        try:
            return self.source.rows(instruments, moment)
        except AssayError as error:
            raise _unreadable(error) from error

    def fit(
        self, row: SourceRow | None, instrument: str, moment: Instant, *, refuse_stale: bool
    ) -> SourceRow:
        """A row of :meth:`rows`, found fit to be read by the model.

        Raises
        ------
        Rejected: there is none, it follows another manifest, or it is stale.
        """
        if row is None:
            raise self._missing(instrument, moment)
        if row.manifest != self.source.manifest:
            raise Rejected(
                MANIFEST_MISMATCH,
                f"the stored features of {instrument} follow manifest {row.manifest}: "
                f"{self.model.name} v{self.model.version} reads {self.source.manifest}",
                found=row.manifest,
                expected=self.source.manifest,
            )
        if max(row.event_time, row.known_time) > moment:
            # A store that keeps the latest row only cannot answer about the past.
            raise Rejected(
                NO_FEATURES,
                f"the features of {instrument} that are kept were known at "
                f"{render(row.known_time)}, after {render(moment)}",
                found=render(moment),
                expected=f"{render(max(row.event_time, row.known_time))} or later",
            )
        if row.stale and refuse_stale:
            raise Rejected(
                STALE_FEATURES,
                f"the features of {instrument} are of {render(row.event_time)} and had gone stale "
                f"at {render(moment)}",
                found=render(row.event_time),
                expected="features within their time to live",
                hint="ingest newer facts; serving.refuse_stale: false answers with stale: true",
            )
        return row

    def features(self, row: SourceRow, brought: Mapping[str, float] | None) -> list[float]:
        """The model's columns in order: of the stored row, and of what the request brought.

        Raises
        ------
        Rejected: a feature of the request has no value that the model can read.
        """
        values: list[float] = row.values.tolist()
        if self.inputs is None or brought is None:
            return list(self.take(values))
        made = self.inputs.extend(values, brought)
        features = list(self.take(values))
        if not math.hypot(*made) <= LARGEST:
            self._check_made(self.inputs, features, row, brought)
        return features

    def _check_made(
        self,
        inputs: RequestInputs,
        features: list[float],
        row: SourceRow,
        brought: Mapping[str, float],
    ) -> None:
        """Refuse a feature of the request that the model reads, and that it cannot read."""
        for name, value in zip(self.model.schema.names, features, strict=True):
            fits = abs(value) <= LARGEST or (self.model.model.allow_missing and math.isnan(value))
            if name in inputs.view.features and not fits:
                stored = dict(zip(self.source.names, row.values.tolist(), strict=True))
                raise inputs.unusable(name, value, stored, brought)

    def _missing(self, instrument: str, moment: Instant) -> Rejected:
        try:
            known = self.source.entities()
        except AssayError as error:
            return _unreadable(error)
        if instrument not in known:
            return Rejected(
                UNKNOWN_INSTRUMENT,
                f"no features of instrument {instrument[:80]!r} are kept",
                found=instrument,
                expected=f"one of {len(known)} instruments",
                hint=did_you_mean(instrument[:80], known) if known else None,
            )
        return Rejected(
            NO_FEATURES,
            f"no features of {instrument} were known at {render(moment)}",
            found=render(moment),
            expected="a later moment",
        )


@dataclass(frozen=True, slots=True)
class WiredModels:
    """Everything that is exchanged when another version becomes live.

    Attributes
    ----------
    wiring, canaries: by the name of the model; none for one that reads nothing that is kept here.
    may_wait: whether reading features may wait for another machine.
    """

    live: LiveModels
    wiring: Mapping[str, Wiring]
    canaries: Mapping[str, Wiring]
    may_wait: bool

    @classmethod
    def of(cls, live: LiveModels, wire: Callable[[LiveModel], Wiring | None]) -> Self:
        """All of them, as ``wire`` finds each its way.

        Raises
        ------
        IncompatibleVersion: one of them reads features that nothing here has.
        """
        wired = {name: wire(model) for name, model in live.models.items()}
        canaries = {name: wire(route.model) for name, route in live.canaries.items()}
        found = {name: one for name, one in wired.items() if one is not None}
        return cls(
            live,
            found,
            {name: one for name, one in canaries.items() if one is not None},
            any(one.source.may_wait for one in found.values()),
        )


def _unreadable(error: AssayError) -> Rejected:
    return Rejected(
        UNAVAILABLE,
        f"features cannot be read: {error.message}",
        found="unreadable",
        expected="a readable feature store",
        hint=error.hint,
    )
