"""Plots of one version's page that the desk's page does not have."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.domain.evidence import Evidence
from assay.orchestration.report import words
from assay.orchestration.report.charts import Axis, Level, Line, bar_chart, line_chart
from assay.orchestration.report.html import Markup, element
from assay.orchestration.report.performance import panel
from assay.orchestration.report.values import Curve
from assay.statistics.overfitting import Overfitting
from assay.statistics.reliability import Reliability

_BARS = 20


def rolling_ratio(curve: Curve) -> Markup:
    """The Sharpe ratio of every 250 dates."""
    line = Line(curve, "s1")
    says = "Too few dates for a rolling year."
    if curve.y:
        below = sum(y < 0 for y in curve.y) / len(curve.y)
        says = (
            f"{words.signed(curve.y[-1], 2)} over the latest year, between "
            f"{words.signed(min(curve.y), 2)} and {words.signed(max(curve.y), 2)} before; below "
            f"zero {words.share(below, 0)} of the time."
        )
    levels = [Level(0.0, "nothing earned")]
    return panel(
        "Sharpe ratio, rolling year",
        says,
        [line],
        line_chart(
            title="Annualised Sharpe ratio after costs of the 250 dates up to each date",
            description=says,
            lines=[line],
            levels=levels,
        ),
        "Mean over standard deviation (ddof 1) of the dated returns after costs of the 250 dates "
        "up to the date, times the root of 252. Years overlap: neighbours are almost the same.",
        levels=levels,
    )


def cost_stress(piece: Evidence) -> Markup | None:
    """The Sharpe ratio at once, twice and three times the assumed costs, and before costs."""
    ratios: list[tuple[str, float]] = []
    gross = piece.details.get("sharpe_gross")
    if gross is not None:
        ratios.append(("none", gross))
    for multiple in (1, 2, 3):
        found = piece.details.get(f"at_{multiple}x_costs") or {}
        if found.get("sharpe") is not None:
            ratios.append((f"{multiple} times", found["sharpe"]))
    if not ratios:
        return None
    says = "; ".join(f"{name} {words.signed(ratio, 2)}" for name, ratio in ratios)
    x = Axis(0.5, len(ratios) + 0.5, tuple((k + 1.0, name) for k, (name, _) in enumerate(ratios)))
    places = tuple(k + 1.0 for k in range(len(ratios)))
    line = Line(Curve("Sharpe ratio", places, tuple(ratio for _, ratio in ratios)), "s1", dots=True)
    levels = [Level(0.0, "nothing earned")]
    return panel(
        "Costs",
        f"Annualised Sharpe ratio by how much of the assumed costs is charged: {says}.",
        [line],
        line_chart(
            title="Sharpe ratio by multiple of the assumed costs",
            description=says,
            lines=[line],
            levels=levels,
            x_axis=x,
            zero=True,
        ),
        f"The same trades charged {words.figure(piece.details.get('basis_points', 0.0))} basis "
        "points of traded notional, not at all, twice and three times.",
        levels=levels,
    )


def overfitting_picture(found: Overfitting) -> Markup | None:
    """Where the trial that was best in sample ended outside, over all splits."""
    if found.value is None or not len(found.logits):
        return None
    share = 1.0 / (1.0 + np.exp(-found.logits))
    counts, _ = np.histogram(share, bins=_BARS, range=(0.0, 1.0))
    splits = len(share)
    bars = [100.0 * int(one) / splits for one in counts]
    low = [value if k < _BARS // 2 else 0.0 for k, value in enumerate(bars)]
    says = (
        f"In {words.share(found.value, 0)} of {words.count(splits)} splits the trial that was best "
        "in one half was not above the median in the other."
    )
    if found.null_interval is not None:
        a, b = found.null_interval
        says += (
            f" Worthless trials of equal costs would show {words.share(a, 0)} to "
            f"{words.share(b, 0)}."
        )
    return panel(
        "Probability of backtest overfitting",
        says,
        [],
        bar_chart(
            title="Rank out of sample of the trial that was best in sample, over all splits",
            description=says,
            labels=[f"{100 * k // _BARS}%" for k in range(_BARS)],
            values=[value - part for value, part in zip(bars, low, strict=True)],
            marked=low,
            say=lambda k: (
                f"{words.figure(bars[k])}% of splits end at rank "
                f"{100 * k // _BARS} to {100 * (k + 1) // _BARS}% outside"
            ),
        ),
        f"{found.convention}. Marked bars are splits that count as overfitted.",
    )


def reliability_picture(found: Reliability) -> Markup | None:
    """Observed frequency against stated probability, with the band of a perfect forecaster."""
    if not len(found.forecast):
        return None
    x = tuple(100 * float(one) for one in found.forecast)
    observed = Curve("observed", x, tuple(100 * float(one) for one in found.observed))
    diagonal = Curve("as stated", x, x)
    band = None
    if len(found.low):
        band = (
            Curve("low", x, tuple(100 * float(one) for one in found.low)),
            Curve("high", x, tuple(100 * float(one) for one in found.high)),
        )
    outside = 0
    if band is not None:
        outside = int(((found.observed < found.low) | (found.observed > found.high)).sum())
    together = "unknown" if found.p_value is None else words.figure(found.p_value)
    says = (
        f"{outside} of {len(x)} groups lie outside of where a perfect forecaster would; p-value "
        f"for all together {together}."
    )
    lines = [Line(observed, "s1", dots=True), Line(diagonal, "s2 dashed")]
    ticks = tuple((x[k], f"{x[k]:.1f}%") for k in sorted({0, len(x) // 2, len(x) - 1}))
    return panel(
        "Reliability of the probabilities",
        says,
        lines,
        line_chart(
            title="Observed share of rises against the stated probability",
            description=says,
            lines=lines,
            unit="%",
            band=band,
            x_axis=Axis(min(x), max(x) if max(x) > min(x) else min(x) + 1.0, ticks),
        ),
        "Groups of equally many rows by stated probability. The band holds 95% of outcomes drawn "
        "with the stated probabilities, group by group, as if rows were independent: instruments "
        "move together, so the true band is wider.",
    )


def ablation_picture(piece: Evidence | None) -> Markup:
    """What the loss does without each group of features, or why nobody asked."""
    groups: Any = None if piece is None else piece.details.get("groups")
    if piece is None or not isinstance(groups, dict) or not groups:
        reason = "it was not measured" if piece is None else piece.details.get("undefined")
        return element("p", f"Ablation by feature group: {reason or 'no groups'}.", class_="empty")
    names = list(groups)
    effect = [float(groups[name].get("loss_rise") or 0.0) for name in names]
    places = tuple(float(k + 1) for k in range(len(names)))
    line = Line(Curve("loss without the group less loss with all", places, tuple(effect)), "s1",
                dots=True)  # fmt: skip
    says = "Above zero: the model is worse without the group."
    levels = [Level(0.0, "worth nothing")]
    return panel(
        "Ablation by feature group",
        says,
        [line],
        line_chart(
            title="Change of the out-of-sample loss without each group of features",
            description=says,
            lines=[line],
            levels=levels,
            x_axis=Axis(
                0.5, len(names) + 0.5,
                tuple((k + 1.0, name) for k, name in enumerate(names)),
            ),
            zero=True,
        ),
        piece.convention,
        levels=levels,
    )  # fmt: skip
