"""Challengers of a desk: compared with the champion, and a canary watched until it ends.

The paired log and the registry's log are all that a verdict rests on: whoever looks, a server, a
person or a schedule, comes to the same one, and :func:`watch_canary` acts on it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from assay.delivery.canary import (
    CanaryFinding,
    CanaryPolicy,
    CanaryState,
    add_removed,
    advance,
    begin,
    expired,
    judge,
)
from assay.delivery.deployments import end_canary
from assay.delivery.outcomes import differences, harm_tests, mean_differences, realised_values
from assay.delivery.pair_history import PairHistory
from assay.delivery.paired import ShadowComparison, compare, shadow_evidence
from assay.delivery.scorecard import Scorecard
from assay.domain.evidence import Evidence
from assay.domain.instants import render
from assay.domain.verdicts import Verdict
from assay.domain.versions import ALPHA_WEIGHTS
from assay.errors import AssayError, Conflict, NotFound, Refused, Unavailable
from assay.orchestration.canary_page import canary_page, write_scorecard
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.code import measuring_code
from assay.orchestration.scorecards import keep_scorecard
from assay.orchestration.shadow_page import shadow_page, write_shadow_page
from assay.registry import VersionRecord
from assay.registry.deployments import CanaryDeployment, deployments_of
from assay.serving import OnnxModel
from assay.serving.challengers.pair_log import PairReader
from assay.serving.challengers.pairs import Pair
from assay.serving.challengers.summaries import DaySummary, removed_segments, summaries_path
from assay.serving.telemetry.metrics import Sample
from assay.storage.locks import FileLock


@dataclass(frozen=True, slots=True)
class ChallengerFiles:
    """Where a desk's service writes what this reads; absolute paths."""

    pairs: Path
    feedback: Path


def compare_shadow(desk: Desk, files: ChallengerFiles, name: str, version: str) -> ShadowComparison:
    """A challenger beside today's champion, over the pairs since its shadow or canary began.

    Raises
    ------
    NotFound: it is not deployed and left no pairs beside this champion.
    """
    registry = desk.registry
    record, champion = registry.get(name, version), registry.resolve(name)
    now = deployments_of(registry, name)
    shadow = now.shadows.get(record.version)
    history = PairHistory(
        files.pairs, model=name, challenger=record.digest, champion=champion.digest,
        since=0 if shadow is None else shadow.since,
    )  # fmt: skip
    found = compare(
        history.pairs(), model=name, champion=champion.version, challenger=record.version,
        centre=_centre(desk, record), removed=history.removed,
    )  # fmt: skip
    is_canary = now.canary is not None and now.canary.version == record.version
    if not found.rows and shadow is None and not is_canary:
        raise NotFound(
            f"{name} {record.version} never ran beside {champion.version}",
            hint=f"assay shadow start {name} {record.version} --reason ...",
        )
    realised = realised_values(files.feedback)
    if not realised:
        return found
    daily = differences(history.pairs(), realised, centre=_centre(desk, record))
    return replace(found, outcomes=mean_differences(daily, pnl=record.kind == ALPHA_WEIGHTS))


def write_comparison(desk: Desk, found: ShadowComparison) -> Path:
    """Write the page of a comparison; its path."""
    folder = desk.layout.root / "reports" / "models" / found.model
    return write_shadow_page(folder, found, _rests_on(desk, found))


def _rests_on(desk: Desk, found: ShadowComparison) -> list[tuple[str, str]]:
    """Names and digests by which a comparison can be found again."""
    registry = desk.registry
    record, champion = registry.get(found.model, found.challenger), registry.resolve(found.model)
    begun = deployments_of(registry, found.model).shadows.get(record.version)
    since = "not in shadow now" if begun is None else (
        f"{render(begun.since)}, log entry {begun.seq}, by {begun.by}"
    )  # fmt: skip
    return [
        ("in shadow since", since),
        (f"challenger {record.version}", record.digest),
        (f"champion {champion.version}", champion.digest),
        ("inputs: pairs and sums", found.digest),
        ("written", f"{render(registry.now())} by assay {version_of('assay')}"),
    ]


def record_shadow(
    desk: Desk, found: ShadowComparison, *, initiated_by: str
) -> tuple[Evidence, Evidence]:
    """Record hours and rank correlation as evidence of the challenger, and keep the scorecard."""
    registry = desk.registry
    record, champion = registry.get(found.model, found.challenger), registry.resolve(found.model)
    evidence = shadow_evidence(
        found,
        measured_at=registry.now(),
        model_digest=record.digest,
        champion_digest=champion.digest,
        manifest=registry.metadata(found.model, record.version).manifest_hash,
        code=measuring_code(),
    )
    at = render(registry.now())
    stem = f"shadow-{record.version}-{at[:19].replace('-', '').replace(':', '')}Z"
    keep_scorecard(
        desk, found.model, stem,
        {"kind": "shadow", "version": record.version, "digest": record.digest,
         "champion_digest": champion.digest, "at": at, "by": initiated_by,
         "comparison": found.to_json()},
        shadow_page(found, _rests_on(desk, found)),
    )  # fmt: skip
    registry.record_evidence(found.model, record.version, evidence, initiated_by=initiated_by)
    return evidence


@dataclass(frozen=True, slots=True)
class CanaryLook:
    """What a look at a canary found, and whether it ended with it.

    ``scorecard`` is None where none was written.
    """

    name: str
    canary: CanaryDeployment
    finding: CanaryFinding
    comparison: ShadowComparison
    ended: bool
    scorecard: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "canary": self.canary.to_json(),
            "finding": self.finding.to_json(),
            "comparison": self.comparison.to_json(),
            "ended": self.ended,
            "scorecard": None if self.scorecard is None else str(self.scorecard),
        }


def look_at_canary(
    desk: Desk,
    files: ChallengerFiles,
    name: str,
    policy: CanaryPolicy,
    canary: CanaryDeployment | None = None,
) -> CanaryLook:
    """Judge a canary on everything since its revision began; nothing is changed.

    Parameters
    ----------
    canary: one that has just ended beside today's champion; None for the one that runs.

    Raises
    ------
    NotFound: the model has no canary.
    """
    registry = desk.registry
    canary = canary or deployments_of(registry, name).canary
    if canary is None:
        raise NotFound(f"{name} has no canary", hint=f"assay canary start {name} VERSION")
    champion = registry.resolve(name)
    record = registry.get(name, canary.version)

    def history(revision: int | None) -> PairHistory:
        # Read again for each purpose: a busy desk's pairs of a week are no list to keep.
        return PairHistory(
            files.pairs, model=name, challenger=canary.digest, champion=champion.digest,
            revision=revision,
        )  # fmt: skip

    state = begin(
        policy, champion_digest=champion.digest, digest=canary.digest, revision=canary.revision
    )
    tests = _outcome_tests(desk, files, record, lambda: history(None).pairs(), canary)
    own = history(canary.revision)
    state = add_removed(advance(state, own.pairs(), policy), own.removed())
    finding = judge(state, policy, outcomes=tests)
    found = compare(
        own.pairs(), model=name, champion=champion.version, challenger=canary.version,
        centre=_centre(desk, record), removed=own.removed,
    )  # fmt: skip
    return CanaryLook(name, canary, finding, found, ended=False)


def watch_canary(
    desk: Desk, files: ChallengerFiles, name: str, policy: CanaryPolicy, *, initiated_by: str
) -> CanaryLook:
    """Judge a canary, write its scorecard, and end it on a breach or when its time is over.

    Production is not touched: the champion answers for everything again. A canary that ended or
    began anew during the look is left alone, and so is its scorecard.
    """
    look = look_at_canary(desk, files, name, policy)
    breach = look.finding.verdict is Verdict.FAIL
    over = expired(policy, since=look.canary.since, now=desk.registry.now())
    if breach or over:
        reason = (
            look.finding.reason if breach
            else f"undecided after {policy.longest_hours:g} hours: {look.finding.reason}"
        )  # fmt: skip
        try:
            end_canary(
                desk.registry, name, initiated_by=initiated_by, reason=reason,
                revision=look.canary.revision, finding=look.finding.to_json(), requested=breach,
            )  # fmt: skip
        except (Conflict, NotFound, Refused):
            breach = over = False  # it ended or began anew meanwhile: nothing is left to end
    return write_card(desk, look, ended=breach or over)


def write_card(desk: Desk, look: CanaryLook, *, ended: bool = False) -> CanaryLook:
    """Write the scorecard of a look; the look with its path.

    The last one of each canary is kept. That of its end is the last: where the canary ended or
    began anew during a look that did not end it, nothing is written.
    """
    folder = desk.layout.root / "reports" / "models" / look.name
    # Whoever ends a canary does so before this: under the lock it is either seen here, or its
    # scorecard is written after this one.
    with FileLock(folder / "canary_scorecard.lock"):
        if not ended and not _still_runs(desk, look):
            return replace(look, ended=False, scorecard=None)
        return _write_card(desk, folder, look, ended=ended)


def _still_runs(desk: Desk, look: CanaryLook) -> bool:
    now = deployments_of(desk.registry, look.name).canary
    return now is not None and now.revision == look.canary.revision


def _write_card(desk: Desk, folder: Path, look: CanaryLook, *, ended: bool) -> CanaryLook:
    card = Scorecard(
        look.name, look.canary, look.finding, look.comparison, ended=ended, at=desk.clock.now()
    )
    path = write_scorecard(folder, card)
    canary = look.canary
    keep_scorecard(
        desk, look.name, f"canary-{canary.version}-{canary.revision:06d}",
        {"kind": "canary", "version": canary.version, "at": render(card.at), "ended": ended,
         "canary": canary.to_json(), "finding": look.finding.to_json(),
         "comparison": look.comparison.to_json()},
        canary_page(card),
    )  # fmt: skip
    return replace(look, ended=ended, scorecard=path)


@dataclass(frozen=True, slots=True)
class Running:
    """A canary that a server has loaded, and the champion beside it."""

    version: str
    digest: str
    champion_digest: str
    revision: int


class CanaryWatch:
    """Looks at the canaries that a server has loaded, reading each line of the log once.

    Of several processes only the one that holds the lock looks; when it dies, another one goes on
    and comes to the same state, because the log is all that there is to it. Outcomes and the
    longest time are left to :func:`watch_canary`, which a schedule runs.

    Parameters
    ----------
    initiated_by: who the log says ended a canary.
    acts: whether a canary that does harm is ended; otherwise it is only told of.
    """

    def __init__(
        self,
        desk: Desk,
        files: ChallengerFiles,
        policy: CanaryPolicy,
        *,
        initiated_by: str,
        acts: bool = True,
    ) -> None:
        self._desk = desk
        self._files = files
        self._policy = policy
        self._by = initiated_by
        self._acts = acts
        self._reader = PairReader(files.pairs)
        self._summaries: tuple[int, int] | None = None
        self._states: dict[str, CanaryState] = {}
        self._running: dict[str, Running] = {}
        self._lock = FileLock(files.pairs.with_name("canary-watch.lock"), timeout=0.0)
        self._leads = False
        self._to_end: dict[str, str] = {}
        self.findings: dict[tuple[str, str], CanaryFinding] = {}

    def look(self, running: Mapping[str, Running]) -> list[str]:
        """Judge the running canaries on what is new; the models whose canary is to end for harm."""
        if not running or not self._lead():
            self._running, self.findings = {}, {}
            return []
        if dict(running) != self._running:
            # Another canary or another champion: what was read before may be theirs.
            self._running, self._reader = dict(running), PairReader(self._files.pairs)
            self._summaries = None
            self._states = {
                name: begin(
                    self._policy, champion_digest=one.champion_digest, digest=one.digest,
                    revision=one.revision,
                )
                for name, one in running.items()
            }  # fmt: skip
            self.findings = {}
        fresh: dict[str, list[Pair]] = {name: [] for name in running}
        for pair in self._reader.read():
            if pair.model in fresh:
                fresh[pair.model].append(pair)
        removed = self._removed()
        harmful = []
        for name, pairs in fresh.items():
            state = advance(self._states[name], pairs, self._policy)
            self._states[name] = add_removed(state, removed)
            finding = judge(self._states[name], self._policy)
            self.findings[name, running[name].version] = finding
            if finding.verdict is Verdict.FAIL and self._acts:
                harmful.append(name)
                self._to_end[name] = running[name].version
        return harmful

    def _removed(self) -> list[DaySummary]:
        """Sums of what was removed before this process had read it."""
        try:
            found = summaries_path(self._files.pairs).stat()
        except FileNotFoundError:
            return []
        if (found.st_ino, found.st_size) == self._summaries:
            return []
        self._summaries = (found.st_ino, found.st_size)
        missed = removed_segments(self._files.pairs, self._reader.heads)
        self._reader.heads.update(one.head for one in missed)
        return [day for one in missed for day in one.days]

    def end_harmful(self) -> None:
        """Have the registry end the canaries that were found harmful; again until it has.

        Raises
        ------
        AssayError: the registry cannot be changed now. The next call tries again.
        """
        for name, version in list(self._to_end.items()):
            now = deployments_of(self._desk.open_registry(), name).canary
            if now is not None and now.version == version:
                watch_canary(self._desk, self._files, name, self._policy, initiated_by=self._by)
            del self._to_end[name]

    def samples(self) -> Iterable[Sample]:
        """What ``/metrics`` says about the canaries that this process looks at."""
        for (name, version), finding in sorted(self.findings.items()):
            labels = {"model": name, "version": version}
            for verdict in Verdict:
                yield (
                    "assay_canary_verdict", "gauge", "1 for the verdict over the canary.",
                    {**labels, "verdict": str(verdict)}, float(finding.verdict is verdict),
                )  # fmt: skip
            for test, one in finding.numbers.items():
                if isinstance(one, dict) and "p_harm" in one:
                    yield (
                        "assay_canary_p_of_harm", "gauge",
                        "P-value of harm, valid at any time, by test.",
                        {**labels, "test": test}, one["p_harm"],
                    )  # fmt: skip

    def _lead(self) -> bool:
        if not self._leads:
            try:
                self._lock.__enter__()  # until this process ends, however it does
            except (Unavailable, OSError):
                return False
            self._leads = True
        return True


def _outcome_tests(
    desk: Desk,
    files: ChallengerFiles,
    record: VersionRecord,
    pairs: Callable[[], Iterator[Pair]],
    canary: CanaryDeployment,
) -> Mapping[str, Any]:  # fmt: skip
    realised = realised_values(files.feedback)
    if not realised:
        return {}
    centre = _centre(desk, record)
    before = (one for one in pairs() if one.recorded < canary.since)
    after = (one for one in pairs() if one.recorded >= canary.since)
    return harm_tests(
        differences(before, realised, centre=centre),
        differences(after, realised, centre=centre),
        pnl=record.kind == ALPHA_WEIGHTS,
    )


def _centre(desk: Desk, record: VersionRecord) -> float:
    """What divides up from down in a version's answers: 0, or one half for a probability."""
    try:
        opened = desk.registry.open_version(record.name, record.version)
        model = OnnxModel.from_bytes(opened.onnx, opened.schema)
    except AssayError:
        return 0.0
    return 0.5 if model.gives_probability else 0.0
