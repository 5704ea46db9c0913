"""Bronze to silver in one step: rates, quarantine, market and universe, each as a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from assay.domain.instants import NANOS_PER_SECOND
from assay.lake.contracts import RatesContract
from assay.lake.lake import Lake
from assay.lake.market import build_market
from assay.lake.silver import build_rates, by_year
from assay.lake.universe import UniverseRule


@dataclass(frozen=True, slots=True)
class RefinementReport:
    """What silver was made of.

    ``facts = accepted + repeated + quarantined``, where ``quarantined`` counts by reason.
    ``snapshots`` has the id of every table written, ``position`` the facts of bronze behind them.
    """

    position: int
    facts: int
    accepted: int
    repeated: int
    quarantined: Mapping[str, int]
    extreme: int
    sessions: int
    instruments: int
    members: tuple[str, ...]
    snapshots: Mapping[str, str]
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def refine(
    lake: Lake, source: str, *, contract: RatesContract, rule: UniverseRule
) -> RefinementReport:
    """Rebuild the silver tables of ``source`` from all of bronze and commit them.

    Everything is computed again each time, so silver is a function of bronze and of the two rules
    alone; when nothing has changed, nothing is written and the snapshot ids are the same.
    """
    seconds: dict[str, float] = {}
    mark = lake.clock.now()

    def lap(step: str) -> None:
        nonlocal mark
        now = lake.clock.now()
        seconds[step] = (now - mark) / NANOS_PER_SECOND
        mark = now

    position = lake.bronze.position
    facts = lake.bronze.read(source)
    lap("read_bronze")
    rates = build_rates(facts, contract)
    lap("rates")
    market = build_market(rates.rates, rule)
    lap("market")
    frames: dict[str, pl.DataFrame | dict[str, pl.DataFrame]] = {
        "silver/rates": by_year(rates.rates),
        "quarantine/rates": rates.quarantine,
        "silver/market": by_year(market.market),
        "silver/universe_currencies": market.universe.currencies,
        "silver/universe_instruments": market.universe.instruments,
    }
    snapshots = {name: lake.table(name).commit(frame).id for name, frame in frames.items()}
    lap("commit")
    return RefinementReport(
        position=position,
        facts=len(facts),
        accepted=len(rates.rates),
        repeated=rates.repeated,
        quarantined=rates.quarantined_by_reason,
        extreme=int(rates.rates["extreme"].sum()),
        sessions=rates.rates["event_time"].n_unique(),
        instruments=market.market["instrument"].n_unique(),
        members=tuple(market.universe.members()),
        snapshots=snapshots,
        seconds=seconds,
    )
