"""How often a line was tried: every training run and every version, whatever became of it.

Statistics that correct for luck need to know of all attempts, not only of those that somebody
liked. A trial is one training run of the line; a version whose run is not recorded here (it was
made elsewhere, or the run's folder was removed) is a trial too. Runs that were never registered
count, and so do versions that failed or were withdrawn.

What this cannot see, and what a reader should know: attempts that were made outside of the desk,
runs whose folder was removed before a version was registered from them, and choices that were made
by looking at plots. The count is a lower bound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.domain.versions import ALPHA_WEIGHTS
from assay.errors import AssayError, NotFound
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.tables import alpha_table
from assay.orchestration.modelling import TrainingRun, load_run, sealed_run
from assay.registry import VersionRecord
from assay.validation.against_champion import net_returns


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One attempt at a line.

    Attributes
    ----------
    id: the training run, or ``version/1.2.0`` where the run is not recorded here.
    recipe, recipe_hash: what was tried, with its hyperparameters in ``hyperparameters``.
    versions: versions that were registered from it, with their stages; empty for none.
    dates: out-of-sample dates, ascending, int64 ns UTC, shape (T,). returns: what trading its
        scores would have earned on each after costs, shape (T,). Both None where there is no such
        series; ``without`` says why.
    digest: SHA-256 of the run's record, None where no run is recorded here.
    changed: whether the run is another one than its version's signature vouches for.
    """

    id: str
    recipe: str | None
    recipe_hash: str | None
    hyperparameters: dict[str, Any]
    versions: dict[str, str]
    dates: npt.NDArray[np.int64] | None = None
    returns: npt.NDArray[np.float64] | None = None
    without: str | None = None
    digest: str | None = None
    changed: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object without the series, which stay where they are."""
        return {
            "id": self.id,
            "recipe": self.recipe,
            "recipe_hash": self.recipe_hash,
            "hyperparameters": self.hyperparameters,
            "versions": self.versions,
            "dates": None if self.dates is None else len(self.dates),
            "without": self.without,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Every trial of a line, in the order of their ids.

    ``raw`` is what corrections for luck count; :meth:`matrix` is what PBO and SPA are computed on.
    """

    model: str
    trials: tuple[Trial, ...]

    @property
    def raw(self) -> int:
        """How many trials there were, with a series or without."""
        return len(self.trials)

    def matrix(self) -> TrialMatrix:
        """The series on the dates that all of them have."""
        dated = [one for one in self.trials if one.dates is not None and len(one.dates)]
        common = _common([one.dates for one in dated if one.dates is not None])
        columns = [
            one.returns[np.searchsorted(one.dates, common)]
            for one in dated
            if one.dates is not None and one.returns is not None
        ]
        values = np.stack(columns, axis=1) if columns else np.empty((len(common), 0))
        return TrialMatrix(tuple(one.id for one in dated), common, values)

    def only(self, ids: Collection[str]) -> Trials:
        """These trials, as when there were no others yet.

        Raises
        ------
        NotFound: one of them is not recorded here any more.
        """
        gone = sorted(set(ids) - {one.id for one in self.trials})
        if gone:
            raise NotFound(
                f"{self.model}: {len(gone)} of {len(ids)} trials that were counted are not "
                f"recorded here, such as {gone[0]}"
            )
        return Trials(self.model, tuple(one for one in self.trials if one.id in ids))

    def returns(self, trial: str, dates: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """The series of one trial on these dates, shape (D,); None where it lacks one of them."""
        for one in self.trials:
            if one.id == trial and one.dates is not None and one.returns is not None:
                places = np.searchsorted(one.dates, dates)
                if len(dates) and places.max() < len(one.dates):
                    there = np.array_equal(one.dates[places], dates)
                    return one.returns[places] if there else None
        return None

    def to_json(self) -> dict[str, Any]:
        matrix = self.matrix()
        return {
            "model": self.model,
            "raw": self.raw,
            "with_series": len(matrix.ids),
            "common_dates": len(matrix.dates),
            "trials": [one.to_json() for one in self.trials],
        }


@dataclass(frozen=True, slots=True, eq=False)
class TrialMatrix:
    """Dated returns of trials: ``values`` has shape (T dates, N trials), finite, one column per id.

    Columns are in the order of ``ids``. T is 0 where the trials have no date in common.
    """

    ids: tuple[str, ...]
    dates: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def trials_of(desk: Desk, model: str) -> Trials:
    """Every trial of a line, from the runs that the desk recorded and from the registry.

    A run of which a version was registered is checked against that version's signature; a run that
    does not verify keeps its place in the count and has no series.

    Raises
    ------
    NotFound: the line has neither a version nor a run.
    """
    records = desk.registry.list(model)
    runs = {run.id: run for run in recorded_runs(desk) if run.record.get("model") == model}
    if not records and not runs:
        desk.registry.check_model(model)
    made: dict[str, dict[str, str]] = {}
    elsewhere: list[VersionRecord] = []
    tampered: dict[str, str] = {}
    for record in records:
        identifier, problem = _run_of(desk, record)
        if identifier in runs:
            made.setdefault(identifier, {})[record.version] = str(record.stage)
            if problem is not None:
                tampered[identifier] = problem
        else:
            elsewhere.append(record)
    found = [_trial(desk, run, made.get(run.id, {}), tampered.get(run.id)) for run in runs.values()]
    found += [
        Trial(
            f"version/{record.version}", None, None, {}, {record.version: str(record.stage)},
            without="its training run is not recorded here",
        )
        for record in elsewhere
    ]  # fmt: skip
    return Trials(model, tuple(sorted(found, key=lambda one: one.id)))


def recorded_runs(desk: Desk) -> Iterable[TrainingRun]:
    """Every training run that is recorded in the desk and can be read, by id."""
    for folder in sorted(desk.layout.runs.glob("*/run.json")):
        try:
            yield load_run(desk, folder.parent.name)
        except AssayError:
            continue


def _run_of(desk: Desk, record: VersionRecord) -> tuple[str, str | None]:
    """The run that a version names, and what is wrong with it."""
    try:
        metadata = desk.registry.metadata(record.name, record.version)
    except AssayError as error:
        return "", error.message
    try:
        sealed_run(desk, metadata)
    except AssayError as error:
        return metadata.parent_run or "", error.message
    return metadata.parent_run or "", None


def _trial(desk: Desk, run: TrainingRun, versions: dict[str, str], problem: str | None) -> Trial:
    recipe = run.record["recipe"]
    dates = returns = None
    without = problem
    if without is None and recipe["kind"] != ALPHA_WEIGHTS:
        without = f"a {recipe['kind']} is not traded"
    if without is None:
        try:
            dates, returns = net_returns(alpha_table(desk, run))
        except AssayError as error:
            without = error.message
    if returns is not None and not np.isfinite(returns).all():
        dates = returns = None
        without = "its returns overflowed"
    return Trial(
        id=run.id,
        recipe=recipe["name"],
        recipe_hash=run.record["recipe_hash"],
        hyperparameters={"estimator": recipe["estimator"], "seeds": recipe["seeds"]},
        versions=versions,
        dates=dates,
        returns=returns,
        without=without,
        digest=run.seal,
        changed=problem is not None,
    )


def _common(dates: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    if not dates:
        return np.empty(0, dtype=np.int64)
    common = dates[0]
    for one in dates[1:]:
        common = np.intersect1d(common, one, assume_unique=True)
    return common
