"""Promotion policies: which gates a candidate must pass, as data that a desk owns.

A policy file (``configs/gates.yaml``) has one set of gates per kind of model, and named sets for
special cases such as baselines::

    kinds:
      risk_model:
        gates:
          var_coverage:                 # the gate's name
            evidence: var_coverage      # what it judges; the gate's name when left out
            rule: ">="                  # <=, >=, <, >, between, equals
            threshold: 0.05             # one number; [low, high] for between (both ends pass)
            severity: hard              # hard blocks, soft warns
            min_sample: 250             # fewer is INDETERMINATE
            expires_days: 30            # measured longer ago is INDETERMINATE; never when left out
            replayed: refuse            # or allow: whether what was measured on a replay counts
            enabled: true               # false needs `why`
          max_drawdown_no_deeper:
            evidence: max_drawdown
            compare: champion           # judge the value minus the champion's own, same data only
            margin: 0.02                # stands in for the threshold
            rule: "<="
            severity: hard
            without_champion: wait      # or waive: not asked while the line has no champion
    policies:
      baseline:
        gates: ...

:mod:`assay.delivery.policy_files` reads such a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from assay.domain.canonical import content_hash
from assay.domain.verdicts import Severity
from assay.errors import NotFound, did_you_mean
from assay.validation.catalogue import CATALOGUE


class Compare(StrEnum):
    """Whose evidence of the same name is taken off a value before it is judged."""

    CHAMPION = "champion"


class Untraced(StrEnum):
    """Whether evidence counts that does not say what it was taken from."""

    REFUSE = "refuse"
    ALLOW = "allow"


class Replayed(StrEnum):
    """Whether evidence that was measured on a replay of the past counts."""

    REFUSE = "refuse"
    ALLOW = "allow"


class WithoutChampion(StrEnum):
    """What becomes of a gate against the champion while there is none."""

    WAIT = "wait"
    WAIVE = "waive"


class Rule(StrEnum):
    """How a value is compared with a threshold."""

    AT_MOST = "<="
    AT_LEAST = ">="
    BELOW = "<"
    ABOVE = ">"
    BETWEEN = "between"
    EQUALS = "equals"


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule over one piece of evidence.

    Attributes
    ----------
    name: the gate's name, unique in its set.
    evidence: the name of the evidence it judges.
    rule, threshold: the comparison; ``threshold`` has two ends for ``between``, else one. With
        ``compare`` it is the margin by which the value has to differ.
    severity: hard blocks, soft warns.
    min_sample: smallest sample size that may decide; at least 1.
    enabled, why: a gate that is switched off says why, and reports repeat it.
    compare: whose evidence of the same name is taken off first; None for nobody's.
    expires_days: age in days beyond which evidence no longer decides; None for never.
    replayed: whether evidence measured on a replay counts.
    without_champion: what a gate against the champion does while the line has none.
    """

    name: str
    evidence: str
    rule: Rule
    threshold: tuple[float, ...]
    severity: Severity
    min_sample: int = 1
    enabled: bool = True
    why: str | None = None
    compare: Compare | None = None
    expires_days: float | None = None
    replayed: Replayed = Replayed.REFUSE
    without_champion: WithoutChampion = WithoutChampion.WAIT

    @property
    def condition(self) -> str:
        """The rule in words and numbers, for example ``<= 0.1`` or ``between 0.8 and 1.2``."""
        against = "" if self.compare is None else f" against the {self.compare}"
        return f"{self.rule} " + " and ".join(_shortest(end) for end in self.threshold) + against

    @property
    def against_champion(self) -> bool:
        """Whether it compares with the version in production, by itself or by its evidence."""
        known = CATALOGUE.get(self.evidence)
        return self.compare is not None or (known is not None and known.against_champion)

    def holds(self, value: float) -> bool:
        """Whether a finite ``value`` satisfies the rule."""
        bound = self.threshold[0]
        match self.rule:
            case Rule.AT_MOST:
                return value <= bound
            case Rule.AT_LEAST:
                return value >= bound
            case Rule.BELOW:
                return value < bound
            case Rule.ABOVE:
                return value > bound
            case Rule.EQUALS:
                return value == bound
            case Rule.BETWEEN:
                return bound <= value <= self.threshold[1]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the later keys only where they say something, so that a policy which
        does not use them keeps the digest that it had before there were any.
        """
        later = {
            "compare": None if self.compare is None else str(self.compare),
            "expires_days": self.expires_days,
            "replayed": None if self.replayed is Replayed.REFUSE else str(self.replayed),
            "without_champion": None
            if self.without_champion is WithoutChampion.WAIT
            else str(self.without_champion),
        }
        return {
            "name": self.name,
            "evidence": self.evidence,
            "rule": str(self.rule),
            "threshold": list(self.threshold),
            "severity": str(self.severity),
            "min_sample": self.min_sample,
            "enabled": self.enabled,
            "why": self.why,
            **{key: value for key, value in later.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class Policy:
    """Sets of gates by kind of model, and by name.

    Attributes
    ----------
    kinds: gates of each kind of model, in the order of the file.
    named: gates of each named policy (and of kinds that a desk made up).
    untraced: whether evidence counts that does not say what it was taken from.
    """

    kinds: Mapping[str, tuple[Gate, ...]]
    named: Mapping[str, tuple[Gate, ...]]
    untraced: Untraced = Untraced.ALLOW

    def gates(self, name: str) -> tuple[Gate, ...]:
        """The gates for a kind of model or a named policy.

        Raises
        ------
        NotFound: there is no such kind and no such policy; nothing is promoted by default.
        """
        found = self.kinds.get(name) or self.named.get(name)
        if found is None:
            raise NotFound(
                f"no gates for {name!r}: this policy has "
                f"{', '.join(sorted({*self.kinds, *self.named}))}",
                hint=did_you_mean(name, {*self.kinds, *self.named}),
            )
        return found

    def to_json(self) -> dict[str, Any]:
        # Only where it is refused: policies of before keep the digest that they had.
        untraced = {} if self.untraced is Untraced.ALLOW else {"untraced": str(self.untraced)}
        sets = {
            section: {name: [gate.to_json() for gate in gates] for name, gates in sets.items()}
            for section, sets in (("kinds", self.kinds), ("policies", self.named))
        }
        return {**sets, **untraced}

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's meaning: comments and layout of the file do not change it."""
        return content_hash(self.to_json())


def _shortest(number: float) -> str:
    text = f"{number:g}"
    return text if float(text) == number else repr(number)
