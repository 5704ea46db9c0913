"""What was served against what history says: every feature value and every prediction, by bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from assay.domain.instants import Instant
from assay.domain.order import ORDER_COLUMNS
from assay.errors import NotFound
from assay.features import FeatureView, ParityReport, compare
from assay.features.online import OnlineStore
from assay.serving import OnnxModel

VERSION_KEYS = ("event_time", "known_time")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """One prediction as the server gave it."""

    instrument: str
    moment: Instant
    prediction: float
    version: str
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PredictionProof:
    """Served predictions against predictions from the offline rows of the same moments.

    ``features_compared`` are the values that the answers say they used.
    """

    compared: int
    equal: int
    features_compared: int
    features_equal: int
    missing: int
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether something was compared, and every bit is equal."""
        complete = self.missing == 0 and self.features_compared == self.features_equal
        return complete and 0 < self.compared == self.equal

    def to_json(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "equal": self.equal,
            "features_compared": self.features_compared,
            "features_equal": self.features_equal,
            "missing": self.missing,
            "differences": list(self.differences),
            "holds": self.holds,
        }


def prove_features(
    view: FeatureView, store: OnlineStore, offline: pl.DataFrame, *, since: Instant
) -> ParityReport:
    """Every version of every row that the store holds since a moment, against the offline ones."""
    rows = [
        row
        for entity in store.entities(view.name)
        for row in store.history(view.name, entity)
        if row.known_time >= since
    ]
    values = np.array([row.values for row in rows]).reshape(len(rows), len(view.feature_names))
    online = pl.DataFrame(
        {
            view.entity: [row.entity for row in rows],
            "event_time": [row.event_time for row in rows],
            "known_time": [row.known_time for row in rows],
            **{name: values[:, i] for i, name in enumerate(view.feature_names)},
        }
    )
    return compare(
        offline.filter(pl.col("known_time") >= since),
        online,
        keys=(view.entity, *VERSION_KEYS),
        features=view.feature_names,
    )


def prove_predictions(
    view: FeatureView,
    offline: pl.DataFrame,
    answers: Sequence[Answer],
    models: Mapping[str, OnnxModel],
) -> PredictionProof:
    """Predict every answer again from the offline row that was known at its moment.

    Parameters
    ----------
    models: by version as answers carry it.
    """
    rows = as_of_rows(view, offline, answers)
    equal = features_compared = features_equal = missing = 0
    differences: list[str] = []
    for version in sorted({answer.version for answer in answers}):
        if version not in models:
            raise NotFound(f"an answer names version {version}, which was not expected to be live")
        model = models[version]
        chosen = [index for index, one in enumerate(answers) if one.version == version]
        found = [index for index in chosen if rows[index] is not None]
        missing += len(chosen) - len(found)
        columns = [view.feature_names.index(name) for name in model.schema.names]
        inputs = np.array([rows[index] for index in found])[:, columns]
        again = model.predict(inputs.astype(np.float32))
        for index, values, prediction in zip(found, inputs, again, strict=True):
            answer = answers[index]
            used = np.array([answer.features[name] for name in model.schema.names])
            features_compared += len(used)
            features_equal += int((used.view(np.int64) == values.view(np.int64)).sum())
            if float(prediction) == answer.prediction:
                equal += 1
            elif len(differences) < _SHOWN:
                differences.append(
                    f"{answer.instrument} at {answer.moment}: served {answer.prediction!r}, "
                    f"offline {float(prediction)!r}"
                )
    return PredictionProof(
        compared=len(answers) - missing,
        equal=equal,
        features_compared=features_compared,
        features_equal=features_equal,
        missing=missing,
        differences=tuple(differences),
    )


def as_of_rows(
    view: FeatureView, offline: pl.DataFrame, answers: Sequence[Answer]
) -> list[np.ndarray[Any, np.dtype[np.float64]] | None]:
    """For each answer the offline row that was the largest known at its moment, or None."""
    ordered = offline.sort(view.entity, *ORDER_COLUMNS)
    values = ordered.select(view.feature_names).to_numpy()
    events, known = (ordered[name].to_numpy() for name in VERSION_KEYS)
    names = ordered[view.entity]
    starts = {name: int(names.search_sorted(name, "left")) for name in names.unique().to_list()}
    ends = {name: int(names.search_sorted(name, "right")) for name in starts}
    rows: list[np.ndarray[Any, np.dtype[np.float64]] | None] = []
    for answer in answers:
        start, end = starts.get(answer.instrument, 0), ends.get(answer.instrument, 0)
        visible = np.flatnonzero(
            (events[start:end] <= answer.moment) & (known[start:end] <= answer.moment)
        )
        rows.append(values[start + visible[-1]] if visible.size else None)
    return rows
