"""The whole main job on one desk, from raw facts to a version in production and back out again.

1. Ingest the sources; refine them into silver.
2. Compute the features over history (gold), and event by event; compare every bit.
3. Hold back the months that are replayed live. Train the baseline on what was known before them;
   judge it under the policy for baselines; approve and promote it.
4. Train the challenger and the direction model; judge them; promote what passes, say why not.
5. Drill: withdraw what is live with one command, and end with what the gates allow.
6. Replay the last months through the live side: online driver, online store, a real server. A
   broken version is forced live and withdrawn by the guard. Prove everything that was served.
7. Verify every version and the log, and say what is live.

Each step can be repeated: a second journey over the same facts adds no fact, no version and no
entry to the log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from assay.delivery.approvals import approve
from assay.delivery.promotion import Promotion, break_glass, promote
from assay.delivery.rollback import rollback
from assay.domain.evidence import Evidence
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.domain.verdicts import GateResult, Outcome
from assay.domain.versions import Stage
from assay.features import warm_kernel
from assay.orchestration.building import FeatureBuild, ParityProof, build_features, prove_parity
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.noise import keep_noise, kept_noise, noise_control
from assay.orchestration.ingestion import Ingestion, ingest
from assay.orchestration.judging import judge_version
from assay.orchestration.kept_proofs import keep_proof
from assay.orchestration.live import LiveReplay, record_last_sessions, replay_live
from assay.orchestration.modelling import TrainingRun, register_run, train_recipe
from assay.orchestration.people import People
from assay.orchestration.progress import Progress
from assay.registry import Entry, EventOutcome, EventType, LiveAnswer, Registration

DRILL: Final = "drill: show that what is live can be withdrawn"
DRILL_END: Final = "end of the drill: back to the version that passed its gates"
FORCED: Final = "drill: force a refused version live, to show that it is recorded and withdrawn"


@dataclass(frozen=True, slots=True)
class VersionStory:
    """One version: where it came from, what its gates said, what became of it.

    ``gates`` are the recorded verdicts; ``promotion`` is None when it was not promoted now.
    """

    recipe: str
    run: TrainingRun
    registration: Registration
    evidence: tuple[Evidence, ...]
    gates: tuple[GateResult, ...]
    switched_off: tuple[str, ...]
    outcome: Outcome
    promotion: Promotion | None
    stage: Stage

    @property
    def name(self) -> str:
        return f"{self.registration.name} {self.registration.version}"

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "name": self.registration.name,
            "version": self.registration.version,
            "digest": self.registration.digest,
            "new": self.registration.created,
            "stage": str(self.stage),
            "run": self.run.to_json(),
            "evidence": [item.to_json() for item in self.evidence],
            "gates": [item.to_json() for item in self.gates],
            "switched_off": list(self.switched_off),
            "outcome": str(self.outcome),
            "promotion": None if self.promotion is None else self.promotion.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A rollback as the log holds it. ``seconds`` is None when an earlier journey did it."""

    name: str
    from_version: str | None
    to_version: str
    reason: str
    at: int
    seq: int
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "from_version": self.from_version,
            "to_version": self.to_version,
            "reason": self.reason,
            "at": render(self.at),
            "seq": self.seq,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Journey:
    """Everything that one journey did and found."""

    ingestion: Ingestion
    build: FeatureBuild
    parity: ParityProof
    versions: tuple[VersionStory, ...]
    withdrawals: tuple[Withdrawal, ...]
    replay: LiveReplay
    live: tuple[LiveAnswer, ...]
    problems: tuple[str, ...]
    log_entries: int
    kernel_seconds: float
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def new_versions(self) -> int:
        """Versions that this journey added to the registry."""
        return sum(story.registration.created for story in self.versions)

    @property
    def nothing_new(self) -> bool:
        """Whether everything had been there before."""
        return (
            self.ingestion.added == 0
            and self.new_versions == 0
            and not self.build.changed
            and self.replay.recorded
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "facts": self.ingestion.to_json(),
            "features": self.build.to_json(),
            "parity": self.parity.to_json(),
            "versions": [story.to_json() for story in self.versions],
            "rollbacks": [item.to_json() for item in self.withdrawals],
            "replay": self.replay.to_json(),
            "live": [answer.to_json() for answer in self.live],
            "problems": list(self.problems),
            "log_entries": self.log_entries,
            "nothing_new": self.nothing_new,
            "new_facts": self.ingestion.added,
            "new_versions": self.new_versions,
            "seconds": {"kernel": self.kernel_seconds, **self.seconds},
        }


class _Stopwatch:
    """Names the steps for the progress line and keeps their durations."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def step(self, name: str, words: str) -> Iterator[None]:
        self._progress.event(words)
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def travel(
    desk: Desk,
    people: People,
    progress: Progress,
    *,
    recipes: Sequence[str],
    view: str,
    environment: Mapping[str, str],
) -> Journey:
    """Run the journey; see the module's docstring for its steps.

    Parameters
    ----------
    recipes: in the order in which they are trained and judged, the baseline first.
    view: the feature view that the recipes read.
    environment: of the server process that the live replay starts.
    """
    watch = _Stopwatch(progress)
    with watch.step("ingest", "ingesting"):
        ingestion = ingest(desk, progress)
    progress.event("preparing the kernel")
    kernel_seconds = warm_kernel()
    with watch.step("features", "computing features over history"):
        build = build_features(desk, view, progress)
    with watch.step("parity", "computing the same features event by event"):
        parity = prove_parity(desk, view, progress)
        # Before anything is judged: a gate asks for the proof.
        keep_proof(desk, parity)
    with watch.step("hold_back", "holding back the months that are replayed live"):
        (source,) = desk.sources.sources.values()
        recording = record_last_sessions(source)
    known_by = recording.live_from - 1
    stories = [_tell(desk, people, recipe, known_by, watch, progress) for recipe in recipes]
    with watch.step("withdraw", "withdrawing what is live, and putting things right"):
        withdrawals = _drill(desk, people, stories[0].registration.name)
    with watch.step("live", "replaying the last months through the live side"):
        replay = replay_live(
            desk,
            people,
            progress,
            view_name=view,
            model=stories[0].registration.name,
            recording=recording,
            environment=environment,
        )
    with watch.step("verify", "verifying every version and the log"):
        problems, entries = _verify(desk)
    return Journey(
        ingestion=ingestion,
        build=build,
        parity=parity,
        versions=tuple(_refreshed(desk, story) for story in stories),
        withdrawals=withdrawals,
        replay=replay,
        live=tuple(
            desk.registry.live_at(name, desk.registry.now()) for name in desk.registry.names()
        ),
        problems=problems,
        log_entries=entries,
        kernel_seconds=kernel_seconds,
        seconds=watch.seconds,
    )


def _tell(
    desk: Desk,
    people: People,
    recipe: str,
    known_by: Instant,
    watch: _Stopwatch,
    progress: Progress,
) -> VersionStory:
    with watch.step("train", f"training {recipe}"):
        run = train_recipe(desk, recipe, progress, known_by=known_by)
        made = register_run(desk, run, author=people.author)
    registry = desk.registry
    if registry.gate_record(made.name, made.version) is None:
        with watch.step("judge", f"judging {made.name} {made.version}"):
            judge_version(
                desk, made.name, made.version, initiated_by=people.operator, progress=progress
            )
    record = registry.gate_record(made.name, made.version)
    assert record is not None
    if (
        record.policy == run.record["recipe"]["kind"]
        and kept_noise(desk, made.name, made.version) is None
    ):
        with watch.step("noise", f"judging models that know nothing beside {made.name}"):
            keep_noise(desk, noise_control(desk, made.name, made.version, progress=progress))
    promotion = None
    if record.outcome is Outcome.PROMOTABLE and made.stage is Stage.STAGED:
        with watch.step("promote", f"approving and promoting {made.name} {made.version}"):
            promotion = _promote(desk, people, made)
    return VersionStory(
        recipe=recipe,
        run=run,
        registration=made,
        evidence=registry.evidence(made.name, made.version),
        gates=record.results,
        switched_off=record.switched_off,
        outcome=record.outcome,
        promotion=promotion,
        stage=made.stage,
    )


def _promote(desk: Desk, people: People, made: Registration) -> Promotion:
    for person in people.approvers:
        approve(
            desk.registry,
            made.name,
            made.version,
            person,
            clock=desk.clock,
            valid_for=desk.layout.approval_nanos / NANOS_PER_SECOND,
            access=desk.access,
        )
    return promote(
        desk.registry,
        made.name,
        made.version,
        initiated_by=people.operator,
        clock=desk.clock,
        monotonic=time.monotonic,
        reason="passed its gates",
        policy=desk.policy,
        promotions_log=desk.layout.promotions,
        access=desk.access,
    )


def _drill(desk: Desk, people: People, name: str) -> tuple[Withdrawal, ...]:
    """Withdraw what is live, once in the life of a model; an earlier drill is told, not repeated.

    Where a challenger was promoted, it is withdrawn and brought back. Where it was refused, it is
    forced into production by breaking the glass, which the log says for ever, and withdrawn.
    """
    registry = desk.registry
    done = tuple(
        _withdrawal(name, entry, None)
        for entry in registry.history(name)
        if entry.type is EventType.ROLLBACK and entry.outcome is EventOutcome.DONE
    )
    champion = registry.current(name)
    if done or champion is None:
        return done
    if registry.list(name, Stage.ARCHIVED):
        withdrawn = _withdraw(desk, people, name, None, DRILL, keep=True)
        return withdrawn, _withdraw(desk, people, name, champion.version, DRILL_END, keep=True)
    refused = registry.list(name, Stage.STAGED)
    if not refused:
        return ()
    break_glass(
        registry,
        name,
        refused[-1].version,
        initiated_by=people.operator,
        reason=FORCED,
        clock=desk.clock,
        monotonic=time.monotonic,
        promotions_log=desk.layout.promotions,
        access=desk.access,
    )
    return (_withdraw(desk, people, name, champion.version, DRILL, keep=False),)


def _withdraw(
    desk: Desk, people: People, name: str, target: str | None, reason: str, *, keep: bool
) -> Withdrawal:
    back = rollback(
        desk.registry,
        name,
        target,
        reason=reason,
        initiated_by=people.operator,
        monotonic=time.monotonic,
        keep=keep,
    )
    return _withdrawal(name, desk.registry.history(name)[-1], back.seconds)


def _withdrawal(name: str, entry: Entry, seconds: float | None) -> Withdrawal:
    return Withdrawal(
        name=name,
        from_version=entry.from_version,
        to_version=entry.to_version or "",
        reason=entry.reason,
        at=entry.at,
        seq=entry.seq,
        seconds=seconds,
    )


def _verify(desk: Desk) -> tuple[tuple[str, ...], int]:
    registry = desk.registry
    problems = [
        f"{record.name} {record.version}: {problem.file}: {problem.reason}"
        for record in registry.list()
        for problem in registry.validate(record.name, record.version).problems
    ]
    log = registry.verify_log()
    return (*problems, *(str(problem) for problem in log.problems)), log.entries


def _refreshed(desk: Desk, story: VersionStory) -> VersionStory:
    made = story.registration
    return replace(story, stage=desk.registry.get(made.name, made.version).stage)
