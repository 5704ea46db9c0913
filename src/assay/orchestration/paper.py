"""Paper trading of a version: its predictions and the desk's prices, into an account on disk.

1. Decisions are what the version predicted: live, from the log of the desk's service; replayed,
   from the out-of-sample record of its training run. The predictions made between two prices are
   one decision, each instrument's last, known when the last of them was.
2. Prices are those of the view's source, each as it was first known. A price that became known only
   after the one that followed it is left out: nobody could have traded at it.
3. The account takes what it has not had yet, in order of time (:mod:`assay.portfolio.paper`). A run
   can be repeated, or killed, at any moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from assay.domain.canonical import sha256_hex
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant, parse
from assay.domain.provenance import Provenance
from assay.domain.versions import ALPHA_WEIGHTS
from assay.errors import ConfigurationError, NotFound, Tampered
from assay.features.offline.labels import PriceTable
from assay.orchestration.desk import Desk
from assay.orchestration.evidence import one_date_per_session
from assay.orchestration.evidence.code import measuring_code
from assay.orchestration.modelling import price_table, recorded_prices, sealed_run
from assay.orchestration.progress import Progress
from assay.orchestration.provenance import git_revision
from assay.portfolio import (
    Decision,
    Limits,
    PaperAccount,
    PaperRecord,
    PaperTerms,
    Prices,
    Terms,
    TradingCosts,
    instrument_of,
    paper_evidence,
    quote_currencies,
    rates_into,
    read_journal,
    read_record,
    verify,
)
from assay.registry import VersionRecord
from assay.validation import Costs
from assay.validation.catalogue import CATALOGUE

LIVE: Final = "journal.jsonl"
REPLAY: Final = "replay.jsonl"


@dataclass(frozen=True, slots=True)
class PaperAssumptions:
    """What a new account is opened with.

    Attributes
    ----------
    currency: of the account. equity: to start with, in it.
    basis_points: cost of trading one unit of notional, one way.
    """

    currency: str = "USD"
    equity: float = 1_000_000.0
    basis_points: float = Costs().basis_points

    @property
    def terms(self) -> Terms:
        """The book of the desk's evidence, in an account that pays its costs."""
        standard = Costs().terms
        return Terms(
            weighting=standard.weighting,
            limits=Limits(position=standard.limits.position),
            costs=TradingCosts(commission_bps=self.basis_points),
            currency=self.currency,
        )


@dataclass(frozen=True, slots=True)
class PaperRun:
    """What one run did.

    Attributes
    ----------
    journal: where the account is. decisions, prices: taken by this run.
    late: decisions that came after prices which the account had taken already; each is an incident.
    strangers: instruments that the account was not opened with; they are left out.
    """

    name: str
    version: str
    journal: Path
    decisions: int
    prices: int
    late: int
    strangers: tuple[str, ...]
    record: PaperRecord

    @property
    def evidence(self) -> list[Evidence]:
        """Hours and profit, as the journal proves them."""
        return paper_evidence(self.record)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "journal": str(self.journal),
            "decisions": self.decisions,
            "prices": self.prices,
            "late": self.late,
            "strangers": list(self.strangers),
            "evidence": [one.to_json() for one in self.evidence],
        }


def paper_journal(desk: Desk, name: str, version: str, *, replay: bool) -> Path:
    """Where the paper account of a version is."""
    folder = desk.layout.root / "artifacts" / "paper" / name / version
    return folder / (REPLAY if replay else LIVE)


def traded_version(desk: Desk, name: str, version: str | None) -> VersionRecord:
    """The version that was named, or the one in production.

    Raises
    ------
    NotFound: there is none. ConfigurationError: its predictions are no scores of returns.
    """
    record = desk.registry.resolve(name) if version is None else desk.registry.get(name, version)
    kind = desk.registry.metadata(name, record.version).kind
    if kind != ALPHA_WEIGHTS:
        raise ConfigurationError(
            f"{name} {record.version} is of kind {kind!r}: only scores of returns "
            f"({ALPHA_WEIGHTS}) are traded on paper"
        )
    return record


def run_paper(
    desk: Desk,
    name: str,
    version: str | None,
    progress: Progress,
    *,
    predictions: Path | None,
    assumptions: PaperAssumptions | None = None,
) -> PaperRun:
    """Feed a version's paper account with what has come since the last run.

    Parameters
    ----------
    version: None for the one in production.
    predictions: the log of the desk's service; None replays the version's out-of-sample record
        into an account of its own, which is marked as replayed.
    assumptions: of a new account; an existing one keeps its own.

    Raises
    ------
    NotFound: no such version, no prices, or no prediction of it yet.
    ConfigurationError: its predictions are no scores of returns.
    Conflict: the account was opened with other assumptions than the ones given.
    """
    chosen = traded_version(desk, name, version)
    replay = predictions is None
    run = sealed_run(desk, desk.registry.metadata(name, chosen.version))
    if predictions is None:
        table, known_at = recorded_prices(desk, run)
        made = one_date_per_session(run.predictions())
        scored = made.select("instrument", pl.col("as_of").alias("known"), "prediction")
    else:
        table, known_at = price_table(desk, run.record["recipe"]["view"]), desk.clock.now()
        scored = _logged(predictions, name, chosen.version)
    if scored.is_empty():
        raise NotFound(
            f"no prediction of {name} {chosen.version} is in {predictions}",
            hint="let the service answer with it, or add --replay",
        )
    moments, prices = _as_first_known(table, known_at)
    decisions = _grouped(scored, moments, f"{name}/{chosen.version}")
    journal = paper_journal(desk, name, chosen.version, replay=replay)
    terms = _terms_of(journal, chosen, table, assumptions, replay=replay)
    progress.event(f"{len(decisions):,} decisions and {len(moments):,} prices for {journal}")
    fed = _feed(journal, terms, decisions, prices)
    lines = read_journal(journal)
    return PaperRun(name, chosen.version, journal, *fed, record=read_record(lines))


def _terms_of(
    journal: Path,
    chosen: VersionRecord,
    table: PriceTable,
    assumptions: PaperAssumptions | None,
    *,
    replay: bool,
) -> PaperTerms:
    existing = read_journal(journal) if journal.exists() else []
    if existing and assumptions is None:
        return PaperTerms.from_json(existing[0])
    wanted = assumptions or PaperAssumptions()
    if existing:
        names: Sequence[str] = [one["name"] for one in existing[0]["instruments"]]
    else:
        names = sorted(table.frame[table.entity].unique().to_list())
    return PaperTerms(
        subject={
            "model": chosen.name,
            "version": chosen.version,
            "digest": chosen.digest,
            "prices": table.name,
        },
        instruments=tuple(instrument_of(name) for name in names),
        currencies=quote_currencies(names, wanted.currency),
        terms=wanted.terms,
        starting_equity=wanted.equity,
        replayed=replay,
    )


def _feed(
    journal: Path, terms: PaperTerms, decisions: Sequence[Decision], prices: Sequence[Prices]
) -> tuple[int, int, int, tuple[str, ...]]:
    """Feed what is new, in order of time; how many decisions, prices, late ones, and strangers."""
    known = {one.name for one in terms.instruments}
    strangers: set[str] = set()
    taken = [0, 0, 0]
    with PaperAccount(journal, terms) as account:
        reached = account.last_prices
        events: list[tuple[Instant, int, Decision | Prices]] = [
            *((one.known, 1, one) for one in decisions),
            # From the prices before the first decision on: their rates size it.
            *((one.at, 0, one) for one in _from(prices, decisions[0].known if decisions else 0)),
        ]
        for at, _, event in sorted(events, key=lambda one: one[:2]):
            if isinstance(event, Prices):
                if reached is None or at > reached:
                    strangers |= set(event.mid) - known
                    mid = {name: mid for name, mid in event.mid.items() if name in known}
                    rates = rates_into(terms.terms.currency, terms.currencies, event.mid)
                    taken[1] += account.take(Prices(at, mid, rates=rates)) is not None
                continue
            strangers |= set(event.scores) - known
            scores = {name: one for name, one in event.scores.items() if name in known}
            decision = Decision(event.id, at, scores)
            if reached is not None and at < reached:
                if not account.knows(decision.id):
                    reason = f"decision {decision.id} came too late to be traded"
                    taken[2] += account.incident(at, reason)
                continue
            taken[0] += account.decide(decision)
    return taken[0], taken[1], taken[2], tuple(sorted(strangers))


def _from(prices: Sequence[Prices], first: Instant) -> Sequence[Prices]:
    before = sum(one.at <= first for one in prices)
    return prices[max(0, before - 1) :]


def _as_first_known(
    table: PriceTable, known_at: Instant
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[Prices]]:
    """The moments of the prices, and the prices as they were first known."""
    first = (
        table.frame.filter(pl.col("known_time") <= known_at)
        .sort("event_time", "known_time", "source_rank", "sequence")
        .unique([table.entity, "event_time"], keep="first", maintain_order=True)
    )
    if first.is_empty():
        raise NotFound(f"table {table.name} has no price", hint="assay ingest")
    known = first.group_by("event_time").agg(pl.col("known_time").min()).sort("event_time")
    following = known.with_columns(next_known=pl.col("known_time").shift(-1)).drop("known_time")
    first = first.join(following, on="event_time", how="left").filter(
        pl.col("next_known").is_null() | (pl.col("known_time") <= pl.col("next_known"))
    )
    prices = []
    for (at,), rows in first.sort("event_time", table.entity).group_by(
        ["event_time"], maintain_order=True
    ):
        pairs = zip(rows[table.entity], rows[table.column], strict=True)
        mid = {name: float(price) for name, price in pairs if price is not None}
        prices.append(Prices(int(str(at)), mid))
    return np.array([one.at for one in prices], dtype=np.int64), prices


def _grouped(
    scored: pl.DataFrame, moments: np.ndarray[tuple[int], np.dtype[np.int64]], subject: str
) -> list[Decision]:
    """One decision for the predictions between two prices; none after the last one yet."""
    stretch = np.searchsorted(moments, scored["known"].to_numpy(), side="right")
    table = (
        scored.with_columns(pl.Series("stretch", stretch))
        .filter(pl.col("stretch") < len(moments))
        .sort("known")
        .unique(["instrument", "stretch"], keep="last", maintain_order=True)
    )
    decisions = []
    for _, rows in table.group_by(["stretch"], maintain_order=True):
        known = max(rows["known"].to_list())
        pairs = zip(rows["instrument"], rows["prediction"], strict=True)
        scores = {name: float(score) for name, score in pairs if score is not None}
        decisions.append(Decision(f"{subject}@{known}", known, scores))
    return sorted(decisions, key=lambda one: one.known)


def _logged(log: Path, name: str, version: str) -> pl.DataFrame:
    """What a version predicted from stored features, by the log of predictions."""
    rows = [
        (line["instrument"], parse(line["timestamp"]), float(line["prediction"]))
        for line in _lines(log)
        if line.get("model") == name
        and str(line.get("version")).removeprefix("v") == version
        and line.get("instrument") is not None
    ]
    schema = {"instrument": pl.String, "known": pl.Int64, "prediction": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _lines(log: Path) -> Iterator[Mapping[str, Any]]:
    if not log.exists():
        return
    with log.open("rb") as handle:
        for raw in handle:
            try:
                line = json.loads(raw)
            except ValueError:
                continue  # torn by a crash; the service writes the whole line or counts it
            if isinstance(line, dict):
                yield line


def paper_record(desk: Desk, name: str, version: str | None, *, replay: bool) -> PaperRun:
    """What a version's paper account holds, without feeding it.

    Raises
    ------
    NotFound: it has none.
    """
    chosen = traded_version(desk, name, version)
    journal = paper_journal(desk, name, chosen.version, replay=replay)
    try:
        record = read_record(read_journal(journal))
    except NotFound:
        flag = " --replay" if replay else ""
        raise NotFound(
            f"{name} {chosen.version} has no paper account: {journal}",
            hint=f"assay paper run {name} {chosen.version}{flag}",
        ) from None
    return PaperRun(name, chosen.version, journal, 0, 0, 0, (), record)


def record_paper(desk: Desk, run: PaperRun, *, initiated_by: str) -> None:
    """Record hours and profit with the version, for its gates, and what they were taken from.

    Live hours are dated to the last price that the account has seen: an account that nobody feeds
    grows old. A replay is dated to now, and marked for gates that do not count replays.

    Raises
    ------
    Tampered: the account is not what it was written as.
    ContractViolation: it is the account of another version.
    """
    problems = verify(run.journal)
    if problems:
        raise Tampered(
            f"{run.journal} is not as it was written: {problems[0]}",
            hint=f"assay paper show {run.name} {run.version} --verify",
        )
    metadata = desk.registry.metadata(run.name, run.version)
    terms, marks, now = run.record.terms, run.record.marks, desk.clock.now()
    live = marks and not terms.replayed
    origin = Provenance(
        measured_at=min(now, int(marks[-1]["at"])) if live else now,
        convention_id="",
        model_digest=terms.subject["digest"],
        run=metadata.parent_run,
        inputs_digest=sha256_hex(run.journal.read_bytes()),
        manifest=metadata.manifest_hash,
        code=measuring_code(),
        commit=git_revision(desk.layout.root),
        replayed=terms.replayed,
    )
    traced = [
        replace(one, provenance=replace(origin, convention_id=CATALOGUE[one.name].convention_id))
        for one in run.evidence
    ]
    desk.registry.record_evidence(run.name, run.version, traced, initiated_by=initiated_by)
