"""What a paper account's journal proves: hours without an incident, and profit after costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.domain.evidence import Evidence
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.portfolio.paper import DECISION, INCIDENT, MARK, PaperTerms
from assay.statistics.statistic import number

HOURS, PROFIT = "paper_trading_hours", "paper_pnl_after_costs"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class PaperRecord:
    """A journal, read.

    Attributes
    ----------
    terms: of the account.
    marks: the ``mark`` lines, in order.
    incidents: when each happened and what it was, in order of time; silences and ruin among them.
    decisions: how many were taken. traded: how many of them were traded.
    first_traded: when the first one was; None before.
    """

    terms: PaperTerms
    marks: tuple[Mapping[str, Any], ...]
    incidents: tuple[tuple[Instant, str], ...]
    decisions: int
    traded: int
    first_traded: Instant | None

    @property
    def since(self) -> Instant | None:
        """From when on operation was undisturbed: the first trade, or the last incident."""
        if self.first_traded is None:
            return None
        return max(self.first_traded, *(at for at, _ in self.incidents), self.first_traded)

    @property
    def hours(self) -> float:
        """Hours from then to the last mark."""
        if self.since is None:
            return 0.0
        return max(0, int(self.marks[-1]["at"]) - self.since) / NANOS_PER_SECOND / 3600

    @property
    def profit(self) -> float | None:
        """Profit after all costs, as a share of the starting equity; None before the first mark."""
        if not self.marks:
            return None
        equity = float.fromhex(self.marks[-1]["equity_exact"])
        return number(equity / self.terms.starting_equity - 1.0)


def read_record(lines: Sequence[Mapping[str, Any]]) -> PaperRecord:
    """The record of a journal's lines, as :func:`~assay.portfolio.paper.read_journal` gives them.

    Incidents are those recorded, ruin, and every silence longer than the terms allow: of prices, or
    of decisions while prices came. A silence is dated to its end.
    """
    terms = PaperTerms.from_json(lines[0])
    marks = tuple(line for line in lines if line["kind"] == MARK)
    decisions = [int(line["known"]) for line in lines if line["kind"] == DECISION]
    traded = [mark for mark in marks if mark["decision"] is not None]
    incidents = [(int(line["at"]), line["reason"]) for line in lines if line["kind"] == INCIDENT]
    if traded:
        start = int(traded[0]["at"])
        times = [int(mark["at"]) for mark in marks if mark["at"] >= start]
        incidents += _silences(times, times[-1:], terms.silence, "no prices")
        heard = sorted({start, *(known for known in decisions if known >= start)})
        incidents += _silences(heard, times[-1:], terms.silence, "no decision")
    ruined = next((mark for mark in marks if mark["ruined"]), None)
    if ruined is not None:
        incidents.append((int(marks[-1]["at"]), f"ruined at {render(int(ruined['at']))}"))
    return PaperRecord(
        terms,
        marks,
        tuple(sorted(incidents)),
        len(decisions),
        len(traded),
        int(traded[0]["at"]) if traded else None,
    )


def paper_evidence(record: PaperRecord) -> list[Evidence]:
    """``paper_trading_hours`` and ``paper_pnl_after_costs``, each marked ``replayed`` or not."""
    terms = record.terms
    shared = {"replayed": terms.replayed, "subject": dict(terms.subject)}
    source = "history played again" if terms.replayed else "what arrived"
    hours = Evidence(
        name=HOURS,
        value=record.hours if record.traded else None,
        sample_size=len(record.marks),
        convention=(
            f"hours from the first trade or the last incident to the last mark, over {source}; an "
            f"incident is one recorded, ruin, or more than {terms.longest_silence:g} hours without "
            "prices or without a decision"
        ),
        details={
            **shared,
            **({} if record.traded else {"undefined": "no decision has been traded"}),
            "since": None if record.since is None else render(record.since),
            "decisions": record.decisions,
            "decisions_traded": record.traded,
            "incidents": [
                {"at": render(at), "reason": reason} for at, reason in record.incidents[-_SHOWN:]
            ],
            "incident_count": len(record.incidents),
        },
    )
    costs = terms.terms.costs
    profit = Evidence(
        name=PROFIT,
        value=record.profit if record.traded else None,
        sample_size=len(record.marks),
        convention=(
            f"profit after all costs as a share of the starting equity, over {source}: half of "
            f"{costs.spread_bps:g} basis points of spread where none is quoted, "
            f"{costs.commission_bps:g} of commission and {costs.slippage_bps:g} of slippage on "
            f"traded notional, {costs.commission_per_trade:g} {terms.terms.currency} per order, "
            "financing as in the terms"
        ),
        details={
            **shared,
            **({} if record.traded else {"undefined": "no decision has been traded"}),
            **_sums(record),
        },
    )
    return [hours, profit]


def _sums(record: PaperRecord) -> dict[str, Any]:
    if not record.marks:
        return {}
    equity = np.array(
        [record.terms.starting_equity]
        + [float.fromhex(mark["equity_exact"]) for mark in record.marks]
    )
    fall = 1.0 - equity / np.maximum.accumulate(equity)
    held = sum(mark["held"] for mark in record.marks)
    return {
        "equity": number(equity[-1]),
        "starting_equity": record.terms.starting_equity,
        "currency": record.terms.terms.currency,
        **{
            name: number(sum(mark[name] or 0.0 for mark in record.marks))
            for name in ("profit", "financing", "spread", "slippage", "commission")
        },
        "turnover_per_mark": number(
            sum(m["turnover"] or 0.0 for m in record.marks) / len(record.marks)
        ),
        "max_drawdown": number(fall.max()),
        "unpriced_positions": sum(mark["unpriced"] for mark in record.marks) / max(held, 1),
        "ruined": any(mark["ruined"] for mark in record.marks),
        "from": render(int(record.marks[0]["at"])),
        "to": render(int(record.marks[-1]["at"])),
        "terms": record.terms.terms.to_json(),
    }


def _silences(
    times: Sequence[Instant], end: Sequence[Instant], longest: int, what: str
) -> list[tuple[Instant, str]]:
    return [
        (after, f"{what} for {(after - before) / NANOS_PER_SECOND / 3600:.0f} hours")
        for before, after in zip(times, [*times[1:], *end], strict=False)
        if after - before > longest
    ]
