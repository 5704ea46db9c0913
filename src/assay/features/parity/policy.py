"""What a comparison must show: by bits, or by how far the distributions are apart."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from assay.domain.verdicts import Verdict
from assay.errors import ConfigurationError
from assay.features.parity.comparison import FeatureParity, ParityReport


class ParityRule(StrEnum):
    """What counts as parity of values."""

    BITS = "bits"
    DISTRIBUTION = "distribution"


@dataclass(frozen=True, slots=True)
class ParityPolicy:
    """What must hold. Missing and extra rows are a breach under either rule.

    Attributes
    ----------
    rule: BITS asks for the same 64 bits everywhere. DISTRIBUTION asks that no value is missing on
        one side only, and that no feature's Wasserstein distance exceeds the limit: for stores that
        were filled by another kernel.
    wasserstein: the limit, in units of the reference's spread. A feature that does not vary has no
        spread to measure in; its values must then be equal.
    """

    rule: ParityRule = ParityRule.BITS
    wasserstein: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.wasserstein < float("inf"):
            raise ConfigurationError(
                f"parity policy: Wasserstein limit {self.wasserstein}, expected zero or more"
            )

    def judge(self, report: ParityReport) -> Judgement:
        """The verdict on a comparison; INDETERMINATE when nothing was compared."""
        reasons = []
        if report.missing:
            reasons.append(f"{rows_are(report.missing)} missing online")
        if report.extra:
            reasons.append(f"{rows_are(report.extra)} online and not in history")
        reasons += [said for one in report.features for said in self._breaches(one)]
        if reasons:
            return Judgement(Verdict.FAIL, tuple(reasons))
        if not report.values_compared:
            return Judgement(Verdict.INDETERMINATE, ("no value was compared",))
        return Judgement(Verdict.PASS, ())

    def describe(self) -> str:
        """The policy in one sentence."""
        if self.rule is ParityRule.BITS:
            return "every value has the same 64 bits, and no row is missing or extra"
        return (
            f"no feature's distributions are further apart than {self.wasserstein:g} of the "
            "reference's spread, no value is missing on one side only, and no row is missing or "
            "extra"
        )

    def to_json(self) -> dict[str, Any]:
        return {"rule": str(self.rule), "wasserstein": self.wasserstein, "says": self.describe()}

    def _breaches(self, feature: FeatureParity) -> list[str]:
        different = feature.compared - feature.equal
        of = f"of {feature.compared:,} values"
        if self.rule is ParityRule.BITS:
            return [f"{feature.name}: {different:,} {of} differ"] if different else []
        found = []
        if feature.one_missing:
            found.append(f"{feature.name}: {feature.one_missing:,} {of} are missing on one side")
        distance = feature.wasserstein
        if distance is not None and distance > self.wasserstein:
            found.append(
                f"{feature.name}: distance {distance:.3g} of the reference's spread exceeds "
                f"{self.wasserstein:g}"
            )
        changed = different - feature.one_missing - feature.nan_against_null
        if feature.degenerate and changed:
            found.append(
                f"{feature.name}: the reference does not vary, so its values must be equal; "
                f"{changed:,} {of} differ"
            )
        return found


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with what speaks against it; no reasons where it is PASS."""

    verdict: Verdict
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"verdict": str(self.verdict), "reasons": list(self.reasons)}


def rows_are(count: int) -> str:
    """``1 row is``, ``2 rows are``."""
    return "1 row is" if count == 1 else f"{count:,} rows are"
