"""The paired log of challengers, compared.

A pair is what the champion and a challenger answer to the same input. What is compared is about one
challenger's bytes beside one champion's bytes: another version on either side begins anew.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from assay.delivery.guard import LiveEvidence, measure
from assay.delivery.outcomes import OutcomeMeans
from assay.delivery.pair_history import LIVE_WITHIN, DayCounts, ShadowDay, Stability
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant, render
from assay.domain.provenance import Provenance
from assay.serving.challengers.pairs import Pair
from assay.serving.challengers.summaries import DaySummary
from assay.statistics.distances import kolmogorov_smirnov, scaled_wasserstein
from assay.statistics.stability import bin_counts, divergences, quantile_edges


@dataclass(frozen=True, slots=True)
class EntityDisagreement:
    """How far two versions differ for one entity.

    ``mean_difference`` is the mean absolute difference, ``spreads`` that in standard deviations of
    the champion over all entities (None where it never varies); ``opposite`` the share of pairs on
    different sides of zero (of one half for probabilities).
    """

    entity: str
    pairs: int
    errors: int
    mean_difference: float | None
    spreads: float | None
    opposite: float | None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """A challenger beside the champion on the same live inputs.

    What adds up is of all pairs ever made: rows, errors, days and hours. What does not is of the
    ``kept_pairs``, from ``kept_since`` on.

    Attributes
    ----------
    rows, pairs: rows that the challenger was asked, and those that both answered.
    errors: rows that it could not answer, by reason. dropped: rows that it did not get to.
    first, last, stable_hours: of all pairs; hours from the start, the last incident or the last gap
        to the last pair. incident: what the last incident was, None for none.
    stale: rows with stale features. days: by day, the oldest first.
    replayed: whether some pairs are about moments long before they were made.
    kept_pairs, kept_since: how many are kept, and when the first of them was made. distinct: how
        many different pairs of answers there are among them.
    live: rank correlation, PSI and median ratio. ks, wasserstein, kl, js: distances of the two
        distributions; None where they are undefined.
    latency_ms: p50, p95 and p99 of ``champion`` (the whole answer) and ``challenger`` (its model).
    entities: the largest disagreement first.
    outcomes: which was nearer to what was realised, over the pairs that are kept; None where no
        outcome of them was reported.
    """

    model: str
    champion: str
    challenger: str
    rows: int
    pairs: int
    errors: Mapping[str, int]
    dropped: int
    live: LiveEvidence
    ks: float | None
    wasserstein: float | None
    kl: float | None
    js: float | None
    latency_ms: Mapping[str, Mapping[str, float | None]]
    entities: Sequence[EntityDisagreement]
    first: Instant | None
    last: Instant | None
    stable_hours: float | None
    incident: str | None
    replayed: bool
    stale: int
    kept_pairs: int
    distinct: int
    kept_since: Instant | None
    days: Sequence[ShadowDay]
    outcomes: OutcomeMeans | None = None
    digest: str = field(repr=False, default="")

    @property
    def summarised(self) -> int:
        """Rows that are known by their sums only."""
        return sum(one.rows - one.kept_rows for one in self.days)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "champion": self.champion,
            "challenger": self.challenger,
            "rows": self.rows,
            "pairs": self.pairs,
            "errors": dict(self.errors),
            "dropped": self.dropped,
            **{key: value for key, value in self.live.to_json().items()
               if key in {"rank_correlation", "psi", "median_ratio"}},
            "ks": self.ks,
            "wasserstein": self.wasserstein,
            "kl": self.kl,
            "js": self.js,
            "latency_ms": {key: dict(value) for key, value in self.latency_ms.items()},
            "entities": [one.to_json() for one in self.entities],
            "first": None if self.first is None else render(self.first),
            "last": None if self.last is None else render(self.last),
            "stable_hours": self.stable_hours,
            "incident": self.incident,
            "replayed": self.replayed,
            "stale": self.stale,
            "kept_pairs": self.kept_pairs,
            "distinct": self.distinct,
            "kept_since": None if self.kept_since is None else render(self.kept_since),
            "days": [one.to_json() for one in self.days],
            "outcomes": None if self.outcomes is None else self.outcomes.to_json(),
            "inputs_digest": self.digest,
        }  # fmt: skip


def compare(
    pairs: Iterable[Pair],
    *,
    model: str,
    champion: str,
    challenger: str,
    centre: float = 0.0,
    removed: Callable[[], Sequence[DaySummary]] | None = None,
) -> ShadowComparison:
    """Compare a challenger with the champion over pairs in the order in which they were made.

    They are read once, and forty bytes of each are kept.

    Parameters
    ----------
    champion, challenger: their versions, for the reader.
    centre: what divides up from down: 0, or one half for probabilities.
    removed: sums of older pairs; asked when all pairs were read.
    """
    seen = _Seen(centre)
    for pair in pairs:
        seen.take(pair)
    kept_since = seen.stable.first
    known = len(seen.ours)
    older = [] if removed is None else removed()
    seen.add(older)
    ours, theirs = np.array(seen.ours), np.array(seen.theirs)
    both = np.isfinite(ours) & np.isfinite(theirs)
    new, old = ours[both], theirs[both]
    kl, js = _divergences(old, new)
    return ShadowComparison(
        model=model,
        champion=champion,
        challenger=challenger,
        rows=known + sum(one.rows for one in older),
        pairs=len(new) + sum(one.pairs for one in older),
        errors=seen.errors,
        dropped=seen.dropped,
        live=measure(new, old),
        ks=kolmogorov_smirnov(old, new).value,
        wasserstein=scaled_wasserstein(old, new).value,
        kl=kl,
        js=js,
        latency_ms={
            "champion": _quantiles(seen.champion_ms),
            "challenger": _quantiles(seen.challenger_ms),
        },
        entities=_by_entity(seen.entities, theirs[np.isfinite(theirs)]),
        first=seen.stable.first,
        last=seen.stable.last,
        stable_hours=seen.stable.hours,
        incident=seen.stable.incident,
        replayed=seen.replayed,
        stale=seen.stale,
        kept_pairs=len(new),
        distinct=len(np.unique(old + 1j * new)),
        kept_since=kept_since,
        days=seen.days.days(),
        digest=seen.digest.hexdigest(),
    )


class _Seen:
    """What is kept of pairs while they pass."""

    def __init__(self, centre: float) -> None:
        self._centre = centre
        self.ours, self.theirs = array("d"), array("d")
        self.champion_ms, self.challenger_ms = array("d"), array("d")
        self.errors: dict[str, int] = {}
        self.entities: dict[str, list[float]] = {}
        self.dropped = self.stale = 0
        self.stable = Stability()
        self.days = DayCounts()
        self.replayed = False
        self.digest = hashlib.sha256()

    def take(self, pair: Pair) -> None:
        self.digest.update(msgspec.json.encode(pair) + b"\n")
        new, old = pair.shadow, pair.prediction
        self.ours.append(math.nan if new is None else new)
        self.theirs.append(math.nan if old is None else old)
        if pair.shadow_ms is not None:
            self.challenger_ms.append(pair.shadow_ms)
        if pair.champion_ms is not None:
            self.champion_ms.append(pair.champion_ms)
        self.dropped += pair.dropped
        self.stale += bool(pair.stale)
        self.replayed = self.replayed or pair.recorded - pair.at > LIVE_WITHIN
        failed = None if pair.shadow is not None else pair.recorded
        self.stable.take(pair.recorded, pair.recorded, failed, pair.error)
        self.days.take(pair)
        # Pairs, errors, sum of differences, on opposite sides.
        sums = self.entities.setdefault(pair.instrument or "(features given)", [0.0] * 4)
        if new is None:
            reason = pair.error or "no answer"
            self.errors[reason] = self.errors.get(reason, 0) + 1
            sums[1] += 1
        elif old is not None:
            sums[0] += 1
            sums[2] += abs(new - old)
            sums[3] += (new > self._centre) != (old > self._centre)

    def add(self, older: Sequence[DaySummary]) -> None:
        """Sums of pairs that were made before those that were taken."""
        before = Stability()
        for one in older:
            self.digest.update(msgspec.json.encode(one) + b"\n")
            self.dropped += one.dropped
            self.stale += one.stale
            self.replayed = self.replayed or one.behind > LIVE_WITHIN
            before.take(one.first, one.last, one.failed, one.failure)
            for reason, count in one.errors.items():
                self.errors[reason] = self.errors.get(reason, 0) + count
        before.follow(self.stable)
        self.stable = before
        self.days.add(older)


def shadow_evidence(
    found: ShadowComparison,
    *,
    measured_at: Instant,
    model_digest: str,
    champion_digest: str,
    manifest: str | None,
    code: Mapping[str, str],
) -> tuple[Evidence, Evidence]:
    """``shadow_stable_hours`` and ``shadow_rank_correlation``, as the gates read them.

    Where no live pair was made neither has a value: hours in which nothing was asked prove nothing.
    """

    def provenance(convention: str) -> Provenance:
        return Provenance(
            measured_at=measured_at, convention_id=convention, model_digest=model_digest,
            inputs_digest=found.digest, manifest=manifest, code=code, champion=found.champion,
            champion_digest=champion_digest, replayed=found.replayed,
        )  # fmt: skip

    details = {
        "rows": found.rows,
        "dropped": found.dropped,
        "errors": sum(found.errors.values()),
        "summarised": found.summarised,
        "kept_since": None if found.kept_since is None else render(found.kept_since),
    }
    hours = Evidence(
        "shadow_stable_hours", found.stable_hours, found.pairs,
        "hours from the start of the shadow, its last incident or its last gap of more than 26 "
        "hours to its last pair; an incident is a row that was not answered with a finite number",
        details={**details, "incident": found.incident},
        provenance=provenance("shadow_stable_hours/1"),
    )  # fmt: skip
    ranks = Evidence(
        "shadow_rank_correlation", found.live.rank_correlation, found.kept_pairs,
        "Spearman correlation of the challenger's and the champion's predictions on the same live "
        "inputs, over all pairs that are kept, ties at their average rank",
        details={**details, "psi": found.live.psi},
        provenance=provenance("shadow_rank_correlation/1"),
    )  # fmt: skip
    return hours, ranks


def _quantiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return dict.fromkeys(("p50", "p95", "p99"))
    found = np.quantile(np.array(values), [0.5, 0.95, 0.99])
    return dict(zip(("p50", "p95", "p99"), found.tolist(), strict=True))


def _divergences(
    old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]
) -> tuple[float | None, float | None]:
    if len(old) < 2 or old.min() == old.max():
        return None, None
    edges = quantile_edges(np.sort(old), 10)
    kl, js = divergences(bin_counts(np.sort(old), edges), bin_counts(np.sort(new), edges))
    return kl.value, js.value


def _by_entity(
    entities: Mapping[str, Sequence[float]], known: npt.NDArray[np.float64]
) -> list[EntityDisagreement]:
    spread = float(np.std(known)) if len(known) > 1 else 0.0
    found = []
    for entity, (pairs, errors, away, opposite) in entities.items():
        mean = away / pairs if pairs else None
        found.append(
            EntityDisagreement(
                entity,
                int(pairs),
                int(errors),
                mean,
                mean / spread if mean is not None and spread else None,
                opposite / pairs if pairs else None,
            )
        )
    return sorted(found, key=lambda one: (-one.errors, -(one.mean_difference or 0.0), one.entity))
