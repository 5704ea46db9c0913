"""Live evidence about a version that is already in production, and its withdrawal.

Gates judge before; the guard judges after, on what the version really answers:

1. :func:`measure` compares the new version's predictions with those of the version before it on
   the same inputs (rank correlation, population stability index), and what was served with what
   the model gives when it is computed again, bit for bit.
2. :func:`judge` holds the numbers against a :class:`GuardPolicy`: FAIL, PASS, or INDETERMINATE
   when there is too little to tell.
3. :func:`enforce` acts on a FAIL: it writes ``rollback.requested`` with the finding into the
   registry's log and rolls back to the version before. Nothing else makes it act.

Measuring and judging are pure. A broken limit is a FAIL even where another number is missing:
waiting for it would leave a version live that is known to be wrong. A missing number is never a
PASS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.delivery.rollback import Rollback, rollback
from assay.domain.verdicts import Verdict
from assay.errors import Conflict, ContractViolation
from assay.registry import Entry, ModelRegistry
from assay.statistics.information import average_ranks
from assay.statistics.stability import population_stability, psi_null_quantile

FloatArray = npt.NDArray[np.float64]

BUCKETS = 10
NULL_LEVEL = 0.99


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """What live evidence must hold.

    Attributes
    ----------
    rank_correlation: least Spearman correlation with the version before, in [-1, 1].
    psi: largest population stability index; :func:`psi_limit` widens it for few rows.
    min_rows: rows below which a number decides nothing, at least 2.
    parity: whether every served prediction must have the bits of the recomputed one.
    """

    rank_correlation: float = 0.95
    psi: float = 0.25
    min_rows: int = 20
    parity: bool = True

    def __post_init__(self) -> None:
        # A limit that is not a number would never be broken.
        if not -1.0 <= self.rank_correlation <= 1.0:
            raise ContractViolation(
                f"rank correlation of at least {self.rank_correlation}: expected -1 to 1"
            )
        if not (math.isfinite(self.psi) and self.psi > 0):
            raise ContractViolation(f"PSI of at most {self.psi}: expected a positive number")
        if self.min_rows < 2:
            raise ContractViolation(f"min_rows {self.min_rows}: expected at least 2")


@dataclass(frozen=True, slots=True)
class LiveEvidence:
    """What was measured. A number that could not be computed, or is not finite, is None.

    Attributes
    ----------
    rows: pairs of finite predictions, new version and version before on the same input.
    rank_correlation: Spearman's, ties at their average rank; None when one side is constant.
    psi: population stability index of the new predictions; None when those of the
        version before are constant.
    parity_share: share of served predictions whose bits equal the recomputed ones'.
    median_ratio: median new prediction over that of the version before; for the reader, no
        limit is on it.
    psi_buckets, parity_rows: how many buckets and rows stand behind the two numbers.
    undefined: rows with a prediction that is NaN or infinite; one of them excludes a PASS.
    """

    rows: int
    rank_correlation: float | None = None
    psi: float | None = None
    parity_share: float | None = None
    median_ratio: float | None = None
    psi_buckets: int = 0
    parity_rows: int = 0
    undefined: int = 0

    def __post_init__(self) -> None:
        for name in ("rank_correlation", "psi", "parity_share", "median_ratio"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                # NaN compares as false with every limit: it must not reach one.
                object.__setattr__(self, name, None)

    def to_json(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class GuardFinding:
    """The guard's verdict with its reasons in words and the numbers behind them.

    A FAIL states what is broken, INDETERMINATE what is missing, PASS what holds.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    evidence: LiveEvidence

    @property
    def reason(self) -> str:
        """The reasons as one sentence for the log."""
        return "; ".join(self.reasons)

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": str(self.verdict),
            "reasons": list(self.reasons),
            "evidence": self.evidence.to_json(),
        }


def measure(
    predictions: npt.ArrayLike,
    champion_predictions: npt.ArrayLike,
    *,
    served: npt.ArrayLike | None = None,
    recomputed: npt.ArrayLike | None = None,
) -> LiveEvidence:
    """Measure a version in production.

    Parameters
    ----------
    predictions, champion_predictions: shape (n,), of the new version and of the version before it
        on the same inputs in the same order. Pairs that are not finite are counted and left out.
    served, recomputed: shape (m,), what was answered and what the same version gives for the
        recorded inputs; both or neither.

    Raises
    ------
    ContractViolation: lengths differ, an array is not one-dimensional, or one of ``served`` and
        ``recomputed`` is missing.
    """
    new, old = _pair("predictions", predictions, "champion_predictions", champion_predictions)
    finite = np.isfinite(new) & np.isfinite(old)
    undefined = int((~finite).sum())
    new, old = new[finite], old[finite]
    psi, buckets = _stability(new, old)
    share, parity_rows = None, 0
    if served is not None and recomputed is not None:
        answered, again = _pair("served", served, "recomputed", recomputed)
        equal = answered.view(np.uint64) == again.view(np.uint64)
        parity_rows = len(equal)
        share = float(equal.mean()) if parity_rows else None
        undefined += int((~np.isfinite(answered)).sum())
    elif served is not None or recomputed is not None:
        raise ContractViolation("parity needs both served and recomputed predictions: got one")
    return LiveEvidence(
        rows=len(new),
        rank_correlation=_rank_correlation(new, old),
        psi=psi,
        parity_share=share,
        median_ratio=_median_ratio(new, old),
        psi_buckets=buckets,
        parity_rows=parity_rows,
        undefined=undefined,
    )


def psi_limit(evidence: LiveEvidence, policy: GuardPolicy) -> float:
    """The largest PSI allowed for this many rows and buckets.

    Between two samples of one distribution PSI is about chi-squared with B - 1 degrees of freedom
    times (1/n + 1/m) (Yurdakul 2018). The limit is the policy's or the 99 % quantile of that,
    whichever is larger: 20 rows differ by more than 0.25 through chance alone. The quantile is for
    independent samples; predictions on the same inputs vary less, so it errs towards patience.
    """
    if evidence.psi_buckets < 2 or evidence.rows < 1:
        return policy.psi
    null = psi_null_quantile(evidence.psi_buckets, evidence.rows, evidence.rows, level=NULL_LEVEL)
    return max(policy.psi, null)


def judge(evidence: LiveEvidence, policy: GuardPolicy) -> GuardFinding:
    """The verdict over live evidence, with reasons that a person can read.

    FAIL if a limit is broken on at least ``policy.min_rows`` rows; otherwise INDETERMINATE if a
    number is missing, rests on fewer rows or some predictions are not finite; otherwise PASS.
    """
    if evidence.rows < policy.min_rows:
        answers = [_too_few("predictions beside the version before", evidence.rows, policy)]
    else:
        answers = [_judge_ranks(evidence, policy), _judge_stability(evidence, policy)]
    if policy.parity:
        answers.append(_judge_parity(evidence, policy))
    if evidence.undefined:
        why = f"{evidence.undefined} predictions are NaN or infinite, expected none"
        answers.append((Verdict.INDETERMINATE, why))
    given = {verdict for verdict, _ in answers}
    verdict = next(
        item for item in (Verdict.FAIL, Verdict.INDETERMINATE, Verdict.PASS) if item in given
    )
    return GuardFinding(verdict, tuple(why for found, why in answers if found is verdict), evidence)


def enforce(
    registry: ModelRegistry,
    name: str,
    finding: GuardFinding,
    *,
    initiated_by: str,
    monotonic: Callable[[], float],
    version: str | None = None,
) -> tuple[Entry, Rollback] | None:
    """On a FAIL, log ``rollback.requested`` and roll back to the version before; else None.

    The request is logged first: when there is nothing to go back to, or the version before does
    not load, the log still says what was found.

    Parameters
    ----------
    version: the version that the finding is about. Give it wherever time passes between measuring
        and acting: without it, whatever is in production now is withdrawn.
    monotonic: seconds on a clock that never goes back, to measure with.

    Raises
    ------
    NotFound: nothing is in production, or there is no version to go back to.
    Conflict: another version than the one judged is in production.
    Tampered, IncompatibleVersion: the version before is broken; nothing has changed.
    """
    if finding.verdict is not Verdict.FAIL:
        return None
    request = registry.request_rollback(
        name,
        initiated_by=initiated_by,
        reason=finding.reason,
        finding=finding.to_json(),
        version=version,
    )
    # Chosen before the champion is looked at again: after a promotion in between, the default
    # target would be the very version that was found wrong.
    target = registry.rollback_target(name)
    champion = registry.current(name)
    if champion is None or champion.version != request.to_version:
        raise Conflict(
            f"{name} {request.to_version} was found wrong and is not in production any more: "
            f"{champion.version if champion else 'nothing'} is",
            hint=f"assay models history {name}",
        )
    done = rollback(
        registry,
        name,
        target.version,
        reason=finding.reason,
        initiated_by=initiated_by,
        monotonic=monotonic,
    )
    return request, done


# -- measuring ----------------------------------------------------------------------------------


def _pair(
    first_name: str, first: npt.ArrayLike, second_name: str, second: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    # Widening float32 is exact, so equal bits stay equal and different ones different.
    a = np.ascontiguousarray(first, dtype=np.float64)
    b = np.ascontiguousarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ContractViolation(
            f"{first_name} of shape {a.shape} and {second_name} of shape {b.shape}: "
            "expected one number per row in both"
        )
    return a, b


def _rank_correlation(new: FloatArray, old: FloatArray) -> float | None:
    if len(new) < 2 or new.min() == new.max() or old.min() == old.max():
        return None
    x, y = average_ranks(new), average_ranks(old)
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def _stability(new: FloatArray, old: FloatArray) -> tuple[float | None, int]:
    """PSI over deciles of ``old`` and the number of its buckets."""
    found = population_stability(old, new, bins=BUCKETS)
    return found.value, int(found.details.get("bins", 0))


def _median_ratio(new: FloatArray, old: FloatArray) -> float | None:
    if len(old) == 0:
        return None
    reference = float(np.median(old))
    return float(np.median(new)) / reference if reference else None


# -- judging ------------------------------------------------------------------------------------


def _judge_ranks(evidence: LiveEvidence, policy: GuardPolicy) -> tuple[Verdict, str]:
    value, least = evidence.rank_correlation, policy.rank_correlation
    if value is None:
        return Verdict.INDETERMINATE, "rank correlation is undefined: predictions are constant"
    why = (
        f"predictions have rank correlation {value:.4g} with those of the version before on the "
        f"same {evidence.rows} inputs, expected at least {least:g}"
    )
    return Verdict.FAIL if value < least else Verdict.PASS, why


def _judge_stability(evidence: LiveEvidence, policy: GuardPolicy) -> tuple[Verdict, str]:
    value, most = evidence.psi, psi_limit(evidence, policy)
    if value is None:
        return Verdict.INDETERMINATE, "PSI is undefined: the version before predicts a constant"
    why = (
        f"predictions are distributed at PSI {value:.4g} from those of the version before over "
        f"{evidence.rows} rows, expected at most {most:.4g}"
    )
    return Verdict.FAIL if value > most else Verdict.PASS, why


def _judge_parity(evidence: LiveEvidence, policy: GuardPolicy) -> tuple[Verdict, str]:
    share, rows = evidence.parity_share, evidence.parity_rows
    if share is None:
        return Verdict.INDETERMINATE, "no served prediction was computed again"
    if rows < policy.min_rows:
        return _too_few("served predictions computed again", rows, policy)
    if share < 1.0:
        different = rows - round(share * rows)
        why = (
            f"{different} of {rows} served predictions are not, bit for bit, what the model gives "
            "when computed again, expected none"
        )
        return Verdict.FAIL, why
    return Verdict.PASS, f"all {rows} served predictions are what the model gives, bit for bit"


def _too_few(what: str, rows: int, policy: GuardPolicy) -> tuple[Verdict, str]:
    return Verdict.INDETERMINATE, f"{rows} {what}, expected at least {policy.min_rows}"
