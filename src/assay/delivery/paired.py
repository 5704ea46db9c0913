"""The paired log of challengers: read, and compared.

A pair is what the champion and a challenger answer to the same input. What is compared is about one
challenger's bytes beside one champion's bytes: another version on either side begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from assay.delivery.guard import LiveEvidence, measure
from assay.domain.canonical import sha256_hex
from assay.domain.evidence import Evidence
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.domain.provenance import Provenance
from assay.serving.shadowing import Pair
from assay.statistics.distances import kolmogorov_smirnov, scaled_wasserstein
from assay.statistics.stability import bin_counts, divergences, quantile_edges

_HOUR = 3_600 * NANOS_PER_SECOND
LIVE_WITHIN = _HOUR
"""A pair about a moment that lay further back than this when it was made is replayed."""
LARGEST_GAP = _HOUR * 26
"""Hours in shadow count from the last stretch without pairs that was longer: a daily desk has one
pair of closes each day, and a night without a server must not look like stability."""


class PairReader:
    """Reads a paired log from where it was left; lines that are cut off or torn are left out.

    Attributes
    ----------
    unreadable: lines that were no pair.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode: int | None = None
        self._decoder = msgspec.json.Decoder(Pair)
        self.unreadable = 0

    def read(self) -> Iterator[Pair]:
        """Pairs that came since the last time, oldest first."""
        try:
            with self._path.open("rb") as handle:
                state = os.fstat(handle.fileno())
                if state.st_ino != self._inode or state.st_size < self._offset:
                    self._inode, self._offset = state.st_ino, 0
                handle.seek(self._offset)
                for line in handle:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    try:
                        yield self._decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        self.unreadable += 1
        except FileNotFoundError:
            return


def pairs_of(
    path: Path, *, model: str, challenger: str, champion: str | None = None, since: Instant = 0
) -> list[Pair]:
    """Pairs of one challenger's digest, beside one champion's digest where that is given.

    Parameters
    ----------
    since: pairs that were made before this are left out, ns UTC.
    """
    return [
        one
        for one in PairReader(path).read()
        if one.model == model
        and one.challenger_digest == challenger
        and one.recorded >= since
        and champion in {None, one.champion_digest}
    ]


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

    Attributes
    ----------
    rows, pairs: rows that the challenger was asked, and those that both answered.
    errors: rows that it could not answer, by reason. dropped: rows that it did not get to.
    live: rank correlation, PSI and median ratio. ks, wasserstein, kl, js: distances of the two
        distributions; None where they are undefined.
    latency_ms: p50, p95 and p99 of ``champion`` (the whole answer) and ``challenger`` (its model).
    entities: the largest disagreement first.
    stable_hours: from the start, the last incident or the last gap to the last pair.
    incident: what the last incident was, None for none.
    replayed: whether some pairs are about moments long before they were made.
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
    digest: str = field(repr=False, default="")

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
            "inputs_digest": self.digest,
        }  # fmt: skip


def compare(
    pairs: Sequence[Pair], *, model: str, champion: str, challenger: str, centre: float = 0.0
) -> ShadowComparison:
    """Compare a challenger with the champion over pairs in the order in which they were made.

    Parameters
    ----------
    champion, challenger: their versions, for the reader.
    centre: what divides up from down: 0, or one half for probabilities.
    """
    ours = _column(pair.shadow for pair in pairs)
    theirs = _column(pair.prediction for pair in pairs)
    both = np.isfinite(ours) & np.isfinite(theirs)
    new, old = ours[both], theirs[both]
    kl, js = _divergences(old, new)
    errors: dict[str, int] = {}
    for pair in pairs:
        if pair.shadow is None:
            reason = pair.error or "no answer"
            errors[reason] = errors.get(reason, 0) + 1
    stable, incident = _stable(pairs)
    return ShadowComparison(
        model=model,
        champion=champion,
        challenger=challenger,
        rows=len(pairs),
        pairs=int(both.sum()),
        errors=errors,
        dropped=sum(pair.dropped for pair in pairs),
        live=measure(new, old),
        ks=kolmogorov_smirnov(old, new).value,
        wasserstein=scaled_wasserstein(old, new).value,
        kl=kl,
        js=js,
        latency_ms={
            "champion": _quantiles(pair.champion_ms for pair in pairs),
            "challenger": _quantiles(pair.shadow_ms for pair in pairs),
        },
        entities=_by_entity(pairs, centre),
        first=pairs[0].recorded if pairs else None,
        last=pairs[-1].recorded if pairs else None,
        stable_hours=stable,
        incident=incident,
        replayed=any(pair.recorded - pair.at > LIVE_WITHIN for pair in pairs),
        digest=sha256_hex(b"\n".join(msgspec.json.encode(pair) for pair in pairs)),
    )


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

    details = {"rows": found.rows, "dropped": found.dropped, "errors": sum(found.errors.values())}
    hours = Evidence(
        "shadow_stable_hours", found.stable_hours, found.pairs,
        "hours from the start of the shadow, its last incident or its last gap of more than 26 "
        "hours to its last pair; an incident is a row that was not answered with a finite number",
        details={**details, "incident": found.incident},
        provenance=provenance("shadow_stable_hours/1"),
    )  # fmt: skip
    ranks = Evidence(
        "shadow_rank_correlation", found.live.rank_correlation, found.pairs,
        "Spearman correlation of the challenger's and the champion's predictions on the same live "
        "inputs, over all pairs, ties at their average rank",
        details={**details, "psi": found.live.psi},
        provenance=provenance("shadow_rank_correlation/1"),
    )  # fmt: skip
    return hours, ranks


def _column(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if one is None else one for one in values], dtype=np.float64)


def _quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    known = [one for one in values if one is not None]
    if not known:
        return dict.fromkeys(("p50", "p95", "p99"))
    found = np.quantile(np.array(known), [0.5, 0.95, 0.99])
    return dict(zip(("p50", "p95", "p99"), found.tolist(), strict=True))


def _divergences(
    old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]
) -> tuple[float | None, float | None]:
    if len(old) < 2 or old.min() == old.max():
        return None, None
    edges = quantile_edges(np.sort(old), 10)
    kl, js = divergences(bin_counts(np.sort(old), edges), bin_counts(np.sort(new), edges))
    return kl.value, js.value


def _stable(pairs: Sequence[Pair]) -> tuple[float | None, str | None]:
    incident: str | None = None
    begun: int | None = None
    last: int | None = None
    for pair in pairs:
        if last is not None and pair.recorded - last > LARGEST_GAP:
            begun, incident = pair.recorded, f"no pairs for hours before {render(pair.recorded)}"
        if pair.shadow is None:
            begun = pair.recorded
            incident = f"{render(pair.recorded)}: {pair.error or 'no answer'}"
        begun = pair.recorded if begun is None else begun
        last = pair.recorded
    if begun is None or last is None:
        return None, incident
    return (last - begun) / _HOUR, incident


def _by_entity(pairs: Sequence[Pair], centre: float) -> list[EntityDisagreement]:
    known = [one.prediction for one in pairs if one.prediction is not None]
    spread = float(np.std(known)) if len(known) > 1 else 0.0
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.instrument or "(features given)", []).append(pair)
    found = []
    for entity, members in groups.items():
        both = [(a.shadow, a.prediction) for a in members
                if a.shadow is not None and a.prediction is not None]  # fmt: skip
        away = [abs(new - old) for new, old in both]
        mean = sum(away) / len(away) if away else None
        opposite = [(new > centre) != (old > centre) for new, old in both]
        found.append(
            EntityDisagreement(
                entity,
                len(both),
                sum(one.shadow is None for one in members),
                mean,
                mean / spread if mean is not None and spread else None,
                sum(opposite) / len(opposite) if opposite else None,
            )
        )
    return sorted(found, key=lambda one: (-one.errors, -(one.mean_difference or 0.0), one.entity))
