"""A challenger beside the champion as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.delivery.paired import ShadowComparison
from assay.delivery.scorecard import (
    DAY_COLUMNS,
    remarks,
    rows_of_days,
    which_is_better,
)
from assay.orchestration.report import words
from assay.orchestration.report.document import header, render_document, section, texts
from assay.orchestration.report.html import Markup, element
from assay.storage.files import write_atomic

_ABSENT = "not measured"


def write_shadow_page(
    folder: Path, found: ShadowComparison, rests: Sequence[tuple[str, str]]
) -> Path:
    """Write ``shadow_VERSION.html``; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shadow_{found.challenger}.html"
    write_atomic(path, shadow_page(found, rests).encode())
    return path


def shadow_page(found: ShadowComparison, rests: Sequence[tuple[str, str]]) -> str:
    """The comparison as one HTML document.

    Parameters
    ----------
    rests: names and digests of what was compared.
    """
    hours = _ABSENT if found.stable_hours is None else f"{found.stable_hours:,.1f}"
    facts = (
        ("Pairs", f"{found.pairs:,} of {found.rows:,} rows"),
        ("Hours without an incident", hours),
        ("Dropped", f"{found.dropped:,}"),
        ("First pair", _ABSENT if found.first is None else words.moment(found.first)),
        ("Last pair", _ABSENT if found.last is None else words.moment(found.last)),
    )
    title = f"{found.model} {found.challenger} beside {found.champion}"
    return render_document(
        title,
        header(f"Assay · shadow · {found.model}", title, facts=facts),
        element(
            "main",
            section("Which is better", element("p", which_is_better(found))),
            section("To know about the pairs",
                    element("ul", [element("li", one) for one in remarks(found)])),
            section("Agreement", _agreement(found), intro="On the same inputs. Versions that agree "
                    "are no better or worse for it."),
            section("Latency", _latency(found), intro="Milliseconds. The champion's are of whole "
                    "answers, the challenger's of its model alone: compare each with its own."),
            section("Rows without an answer", _errors(found), intro="By reason."),
            section("Days", texts(DAY_COLUMNS, rows_of_days(found)),
                    intro="The latest first. Where pairs were removed, their sums are left."),
            section("By entity", _entities(found), intro="The largest disagreement first. Spreads "
                    "are standard deviations of the champion over all entities; opposite side is "
                    "the share of pairs where one says up and the other down."),
            section("What this rests on", texts(("what", "which"), rests)),
        ),
    )  # fmt: skip


def _agreement(found: ShadowComparison) -> Markup:
    live = found.live
    rows = [
        ("rank correlation", _number(live.rank_correlation), "1"),
        ("population stability index", _number(live.psi), "0"),
        ("Kolmogorov-Smirnov distance", _number(found.ks), "0"),
        ("Wasserstein distance, in spreads of the champion", _number(found.wasserstein), "0"),
        ("Kullback-Leibler divergence", _number(found.kl), "0"),
        ("Jensen-Shannon divergence", _number(found.js), "0"),
        ("median over the champion's median", _number(live.median_ratio), "1"),
    ]
    return texts(("what", "value", "of equal versions"), rows)


def _latency(found: ShadowComparison) -> Markup:
    who = {
        "champion": f"champion {found.champion}, whole answer",
        "challenger": f"challenger {found.challenger}, model alone",
    }
    rows = [
        (who[one], *(_number(values[key]) for key in ("p50", "p95", "p99")))
        for one, values in found.latency_ms.items()
    ]
    return texts(("who", "p50", "p95", "p99"), rows)


def _errors(found: ShadowComparison) -> Markup:
    if not found.errors:
        return element("p", "None.", class_="empty")
    rows = [(f"{count:,}", why) for why, count in found.errors.items()]
    return texts(("rows", "reason"), rows)


def _entities(found: ShadowComparison) -> Markup:
    rows = [
        (
            one.entity,
            f"{one.pairs:,}",
            f"{one.errors:,}",
            _number(one.mean_difference),
            _number(one.spreads),
            _number(one.opposite),
        )
        for one in found.entities
    ]
    columns = ("entity", "pairs", "errors", "mean difference", "in spreads", "opposite side")
    return texts(columns, rows) if rows else element("p", "No pairs.", class_="empty")


def _number(value: float | None) -> str:
    return _ABSENT if value is None else words.figure(value)
