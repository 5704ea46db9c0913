"""Champion and challenger: from what is known to what should be done next.

:func:`next_steps` is a pure function: the same situation and configuration give the same steps,
whoever asks, and nothing is done by asking. A staged version goes this way, one step at a time:

1. it is put in shadow beside the champion;
2. after ``shadow_mode_days`` without an incident its shadow is recorded as evidence and the gates
   judge it;
3. where they say PROMOTABLE, it becomes the canary (one at a time);
4. a canary that does harm ends at once, and so does one that is undecided for too long; a version
   whose canary has ended does not become one again by itself;
5. a canary that passes waits for its approvals, which people give, and is promoted.

What is unknown is never taken for good: a missing number makes a version wait and says for what.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from assay.domain.verdicts import Outcome, Verdict
from assay.domain.versions import ALPHA_WEIGHTS, SemanticVersion
from assay.errors import ContractViolation


class Action(StrEnum):
    """What can be done about a challenger; the earlier, the more urgent."""

    END_CANARY = "end_canary"
    STOP_SHADOW = "stop_shadow"
    PROMOTE = "promote"
    START_CANARY = "start_canary"
    RECORD_SHADOW = "record_shadow"
    START_SHADOW = "start_shadow"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class RetrainConfig:
    """When a challenger goes on.

    Attributes
    ----------
    shadow_mode_days: days in shadow without an incident.
    min_sharpe_improvement, max_drawdown_tolerance: against the champion, for models whose
        predictions are positions.
    auto_rollback_enabled: whether a canary that does harm is ended without asking.
    canary_share: of the entities.
    """

    shadow_mode_days: float = 7.0
    min_sharpe_improvement: float = 0.1
    max_drawdown_tolerance: float = 0.02
    auto_rollback_enabled: bool = True
    canary_share: float = 0.1

    def __post_init__(self) -> None:
        values = (self.shadow_mode_days, self.min_sharpe_improvement, self.max_drawdown_tolerance)
        if not all(math.isfinite(one) and one >= 0 for one in values):
            raise ContractViolation(f"{self}: expected finite numbers from 0 on")
        if not 0.0 < self.canary_share <= 0.5:
            raise ContractViolation(f"canary_share {self.canary_share}: expected 0 to 0.5")


@dataclass(frozen=True, slots=True)
class ChallengerState:
    """What is known about one challenger. None stands for what is not known.

    Attributes
    ----------
    shadow_hours: in shadow without an incident. shadow_recorded: whether that is evidence already.
    outcome: of the gates, as recorded about this champion, this evidence and this policy.
    sharpe_improvement, drawdown_worsening: out of sample, against the champion.
    is_canary, canary, canary_over: whether it is the canary, its verdict, and whether its longest
        time is over. canaries_ended: how often a canary of it was ended.
    approved: whether enough people have approved that outcome.
    """

    version: str
    digest: str
    kind: str
    in_shadow: bool = False
    shadow_hours: float | None = None
    shadow_recorded: bool = False
    outcome: Outcome | None = None
    refused_by: tuple[str, ...] = ()
    sharpe_improvement: float | None = None
    drawdown_worsening: float | None = None
    is_canary: bool = False
    canary: Verdict | None = None
    canary_reason: str = ""
    canary_over: bool = False
    canaries_ended: int = 0
    approved: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about one model: its champion and every challenger of it.

    ``head`` is the entry of the registry's log up to which this was read.
    """

    model: str
    champion: str | None
    head: int
    challengers: tuple[ChallengerState, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Step:
    """One action and why; ``by_people`` marks what nobody should do unasked, ``hint`` is what a
    person can type about it.
    """

    model: str
    version: str
    action: Action
    reasons: tuple[str, ...]
    by_people: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""

    @property
    def reason(self) -> str:
        """The reasons as one sentence for the log."""
        return "; ".join(self.reasons)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "version": self.version,
            "action": str(self.action),
            "reasons": list(self.reasons),
            "by_people": self.by_people,
            "details": dict(self.details),
            "hint": self.hint,
        }


def next_steps(situation: Situation, config: RetrainConfig) -> tuple[Step, ...]:
    """The next step of every challenger, the most urgent first; nothing is done."""
    if situation.champion is None:
        return tuple(_first(situation, one) for one in situation.challengers)
    has_canary = any(one.is_canary for one in situation.challengers)
    steps = [_next(situation, one, config, has_canary) for one in situation.challengers]
    order = list(Action)
    return tuple(
        sorted(
            steps,
            key=lambda step: (order.index(step.action), _newest_first(step.version)),
        )
    )


def next_step(situation: Situation, config: RetrainConfig) -> Step | None:
    """The one step to take now; None where there is only waiting."""
    for step in next_steps(situation, config):
        if step.action is not Action.WAIT and not step.by_people:
            return step
    return None


def _first(situation: Situation, one: ChallengerState) -> Step:
    """What a version needs where none is in production yet: people."""
    refusal = _refusal(one) if one.outcome is Outcome.REFUSED else ()
    command = "gates check" if refusal else "models promote"
    return _step(
        situation, one, Action.WAIT, "nothing is in production to be compared with", *refusal,
        hint=f"assay {command} {situation.model} {one.version}",
    )  # fmt: skip


def _next(
    situation: Situation, one: ChallengerState, config: RetrainConfig, has_canary: bool
) -> Step:
    if one.is_canary:
        return _as_canary(situation, one, config)
    if one.canaries_ended:
        times = "" if one.canaries_ended == 1 else f" {one.canaries_ended} times"
        why = f"its canary was ended{times}: a person has to begin another"
        action = Action.STOP_SHADOW if one.in_shadow else Action.WAIT
        hint = f"assay models history {situation.model}"
        return _step(situation, one, action, why, hint=hint)
    gates = f"assay gates check {situation.model} {one.version}"
    if not one.in_shadow:
        if one.outcome is Outcome.REFUSED:
            return _step(situation, one, Action.WAIT, *_refusal(one), hint=gates)
        return _step(situation, one, Action.START_SHADOW, "it is staged and was not seen live yet")
    days = None if one.shadow_hours is None else one.shadow_hours / 24.0
    if days is None or not days >= config.shadow_mode_days:
        seen = "no pairs yet" if days is None else f"{days:.2f} days without an incident"
        # Without pairs it is the service that is to be looked at.
        hint = (
            "assay serve"
            if days is None
            else f"assay shadow compare {situation.model} {one.version}"
        )
        return _step(
            situation, one, Action.WAIT, f"{seen}, expected {config.shadow_mode_days:g} days",
            hint=hint,
        )  # fmt: skip
    if not one.shadow_recorded or one.outcome is None:
        return _step(
            situation, one, Action.RECORD_SHADOW,
            f"{days:.2f} days in shadow without an incident: evidence for the gates",
        )  # fmt: skip
    if one.outcome is Outcome.REFUSED:
        return _step(situation, one, Action.STOP_SHADOW, *_refusal(one), hint=gates)
    missing = _no_improvement(one, config)
    if one.outcome is not Outcome.PROMOTABLE:
        missing = [f"the gates say {one.outcome}: {', '.join(one.refused_by) or 'no reason'}",
                   *missing]  # fmt: skip
    if has_canary:
        missing.append("another version is the canary")
    if missing:
        return _step(situation, one, Action.WAIT, *missing, hint=gates)
    return _step(
        situation, one, Action.START_CANARY,
        f"{days:.2f} days in shadow, the gates say {one.outcome}",
        details={"share": config.canary_share},
    )  # fmt: skip


def _as_canary(situation: Situation, one: ChallengerState, config: RetrainConfig) -> Step:
    if one.canary is Verdict.FAIL:
        return _step(
            situation, one, Action.END_CANARY, one.canary_reason or "it does harm",
            by_people=not config.auto_rollback_enabled,
            hint=f"assay canary stop {situation.model} --reason ...",
        )  # fmt: skip
    if one.canary_over and one.canary is not Verdict.PASS:
        why = f"undecided in its longest time: {one.canary_reason}"
        return _step(situation, one, Action.END_CANARY, why)
    if one.canary is not Verdict.PASS:
        why = one.canary_reason or "the canary has no verdict"
        return _step(situation, one, Action.WAIT, why, hint=f"assay canary check {situation.model}")
    missing = _no_improvement(one, config)
    if one.outcome is not Outcome.PROMOTABLE:
        missing.append(f"the gates say {one.outcome or 'nothing yet'}")
    approve = f"assay models approve {situation.model} {one.version} --as NAME"
    if missing:
        hint = f"assay gates check {situation.model} {one.version}"
        return _step(situation, one, Action.WAIT, *missing, hint=hint)
    if not one.approved:
        why = "its canary keeps every margin, and two people have to approve it"
        return _step(situation, one, Action.WAIT, why, hint=approve)
    return _step(
        situation, one, Action.PROMOTE,
        "its canary keeps every margin, the gates say PROMOTABLE, and it is approved",
    )  # fmt: skip


def _no_improvement(one: ChallengerState, config: RetrainConfig) -> list[str]:
    """What a model of positions lacks against the champion."""
    if one.kind != ALPHA_WEIGHTS:
        return []
    missing = []
    better, worse = one.sharpe_improvement, one.drawdown_worsening
    if better is None or not better >= config.min_sharpe_improvement:
        missing.append(
            f"Sharpe against the champion is {_number(better)}, expected at least "
            f"{config.min_sharpe_improvement:+g}"
        )
    if worse is None or not worse <= config.max_drawdown_tolerance:
        missing.append(
            f"drawdown is worse by {_number(worse)}, expected at most "
            f"{config.max_drawdown_tolerance:g}"
        )
    return missing


def _refusal(one: ChallengerState) -> Iterable[str]:
    return (f"the gates refuse it: {', '.join(one.refused_by) or 'see assay gates check'}",)


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.4g}"


def _newest_first(version: str) -> tuple[int, int, int]:
    number = SemanticVersion.parse(version)
    return (-number.major, -number.minor, -number.patch)


def _step(
    situation: Situation,
    one: ChallengerState,
    action: Action,
    *reasons: str,
    by_people: bool = False,
    details: Mapping[str, Any] | None = None,
    hint: str = "",
) -> Step:
    return Step(situation.model, one.version, action, reasons, by_people, details or {}, hint)
