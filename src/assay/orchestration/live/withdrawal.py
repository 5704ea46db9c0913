"""A version with swapped columns is forced live: gates refuse it, the guard withdraws it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.delivery.guard import GuardPolicy, LiveEvidence, enforce, judge, measure
from assay.delivery.promotion import break_glass
from assay.domain.instants import Instant
from assay.domain.verdicts import Outcome, Severity, Verdict
from assay.errors import Unavailable
from assay.features import FeatureView
from assay.features.online import StoredRow
from assay.orchestration.desk import Desk
from assay.orchestration.judging import judge_version
from assay.orchestration.live.proof import Answer
from assay.orchestration.people import People
from assay.orchestration.progress import Progress, Silent
from assay.orchestration.swapped import swapped_candidate
from assay.serving import OnnxModel

REASON = "drill: a version with swapped columns, to see that the guard withdraws it"
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Broken:
    """The version that exists to be caught, and what the gates said about it."""

    name: str
    version: str
    outcome: Outcome
    refused_by: tuple[str, ...]
    swapped: tuple[str, str]
    model: OnnxModel


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """How a broken version came and went. Times are in seconds of the replay's own clock."""

    broken: Broken
    finding: Mapping[str, Any]
    requested_seq: int
    rolled_back_to: str
    rollback_seq: int | None
    promotion_to_first_answer: float
    first_to_last_bad_answer: float
    bad_answers: int

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.broken.name,
            "version": self.broken.version,
            "swapped": list(self.broken.swapped),
            "gates": str(self.broken.outcome),
            "refused_by": list(self.broken.refused_by),
            "finding": dict(self.finding),
            "requested_seq": self.requested_seq,
            "rolled_back_to": self.rolled_back_to,
            "rollback_seq": self.rollback_seq,
            "seconds_from_promotion_to_first_answer": self.promotion_to_first_answer,
            "seconds_from_first_to_last_bad_answer": self.first_to_last_bad_answer,
            "bad_answers": self.bad_answers,
        }


def broken_version(desk: Desk, people: People, name: str, models: dict[str, OnnxModel]) -> Broken:
    """Register and judge the newest learned version of a line with two of its columns swapped.

    Its model is added to ``models``, under the label that answers carry.
    """
    registry = desk.registry
    parent = max(
        (record for record in registry.list(name) if not record.baseline),
        key=lambda record: record.semantic,
    )
    opened = registry.open_version(name, parent.version)
    first, second = opened.schema.names[0], _scale(opened.schema.names)
    metadata = replace(
        opened.metadata,
        version=str(registry.next_version(name)),
        created_at=desk.clock.now(),
        config={**opened.metadata.config, "swapped": [first, second]},
    )
    candidate = swapped_candidate(opened, metadata, first, second)
    made = registry.register(candidate, reason=REASON)
    judged = judge_version(
        desk, name, made.version, initiated_by=people.operator, progress=Silent()
    )
    refused_by = tuple(
        gate.name
        for gate in judged.gates.results
        if gate.severity is Severity.HARD and gate.verdict is Verdict.FAIL
    )
    version = registry.open_version(name, made.version)
    model = OnnxModel.from_bytes(version.onnx, version.schema)
    models[f"v{made.version}"] = model
    return Broken(name, made.version, judged.gates.outcome, refused_by, (first, second), model)


def _scale(names: Sequence[str]) -> str:
    """The column that sets the forecast's scale, where there is one."""
    return "ewm_vol_94" if "ewm_vol_94" in names[1:] else names[-1]


def watch(
    desk: Desk,
    people: People,
    broken: Broken,
    *,
    ask: Callable[[Instant], list[Answer]],
    moments: Sequence[Instant],
    champion: Mapping[str, OnnxModel],
    rows: Callable[[Sequence[str], Instant], list[StoredRow | None]],
    view: FeatureView,
    progress: Progress,
) -> Withdrawal:
    """Force a broken version live, ask until it answers, and let the guard take it back.

    Parameters
    ----------
    ask: asks the server about every member as of a moment.
    moments: when rows arrived, newest first: the guard looks back until it has enough answers.
    champion: models by the label of their version; the one live before is among them.
    rows: the stored rows of instruments as of a moment.

    Raises
    ------
    Unavailable: the server did not follow within half a minute.
    """
    registry = desk.registry
    before = registry.resolve(broken.name)
    sound = champion[f"v{before.version}"]
    break_glass(
        registry,
        broken.name,
        broken.version,
        initiated_by=people.operator,
        reason=REASON,
        clock=desk.clock,
        monotonic=time.monotonic,
        promotions_log=desk.layout.promotions,
    )
    promoted = time.monotonic()
    label = f"v{broken.version}"
    bad = _until(lambda: ask(moments[0]), label)
    first = time.monotonic()
    progress.event(
        f"{broken.name} {broken.version} answers; the guard compares it with the champion"
    )
    policy = GuardPolicy()
    for moment in moments[1:]:
        if len(bad) >= policy.min_rows:
            break
        bad += ask(moment)
    finding = judge(_measured(bad, broken.model, sound, rows, view), policy)
    done = enforce(
        registry,
        broken.name,
        finding,
        initiated_by=people.operator,
        monotonic=time.monotonic,
        version=broken.version,
    )
    if done is None:
        raise Unavailable(f"the guard let {broken.name} {broken.version} pass: {finding}")
    requested, back = done
    last, count = first, len(bad)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        answers = [one for one in ask(moments[0]) if one.version == label]
        if not answers:
            break
        last, count = time.monotonic(), count + len(answers)
        if last > deadline:
            raise Unavailable(f"the server still answers with {broken.version} after a rollback")
    progress.event(f"withdrawn: {broken.name} {back.to_version} answers again")
    return Withdrawal(
        broken=broken,
        finding=finding.to_json(),
        requested_seq=requested.seq,
        rolled_back_to=back.to_version,
        rollback_seq=back.seq,
        promotion_to_first_answer=first - promoted,
        first_to_last_bad_answer=last - first,
        bad_answers=count,
    )


def _until(ask: Callable[[], list[Answer]], version: str) -> list[Answer]:
    """Ask until a version answers everything; its answers."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answers = ask()
        if answers and all(answer.version == version for answer in answers):
            return answers
    raise Unavailable(f"version {version} did not answer within {_PATIENCE_SECONDS:.0f} s")


def _measured(
    answers: Sequence[Answer],
    spoiled: OnnxModel,
    sound: OnnxModel,
    rows: Callable[[Sequence[str], Instant], list[StoredRow | None]],
    view: FeatureView,
) -> LiveEvidence:
    """The new version's answers beside both versions' predictions from the same stored rows."""
    stored = [rows([answer.instrument], answer.moment)[0] for answer in answers]
    values = np.array([row.values for row in stored if row is not None])

    def again(model: OnnxModel) -> NDArray[np.float64]:
        columns = [view.feature_names.index(name) for name in model.schema.names]
        return model.predict(values[:, columns].astype(np.float32))

    served = np.array([answer.prediction for answer in answers])
    return measure(served, again(sound), served=served, recomputed=again(spoiled))
