"""What a proof looks like: days that differ, distances, bits, distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from assay.domain.instants import parse
from assay.features.parity import DayRoots, FeatureParity
from assay.orchestration.parity.proving import Distribution, ViewProof
from assay.orchestration.report import words
from assay.orchestration.report.charts import Axis, Level, Line, bar_chart, line_chart
from assay.orchestration.report.html import Markup
from assay.orchestration.report.performance import panel
from assay.orchestration.report.values import Curve

_BARS: Final = 62  # bars of a chart over days
_FEATURES: Final = 12  # features of a chart, the worst ones
_PICTURES: Final = 6  # plots in all: distributions fill what the others leave


def pictures_of(proof: ViewProof) -> list[Markup]:
    """The plots of one view."""
    bits = _bits_chart(proof)
    plots = [_days_chart(proof), _distance_chart(proof), *([] if bits is None else [bits])]
    return plots + [_picture(proof, one) for one in _drawn(proof)[: _PICTURES - len(plots)]]


def unequal(days: Sequence[DayRoots]) -> list[DayRoots]:
    """The days whose roots differ."""
    return [day for day in days if not day.equal]


def _days_chart(proof: ViewProof) -> Markup:
    """Which part of the days is equal and which differs, in as many bars as fit."""
    size = max(1, math.ceil(len(proof.days) / _BARS))
    parts = [proof.days[n : n + size] for n in range(0, len(proof.days), size)]
    labels = [words.day(parse(part[0].day)) for part in parts]
    different = [len(unequal(part)) for part in parts]
    share = [100 * bad / len(part) for part, bad in zip(parts, different, strict=True)]
    bad = sum(different)
    says = (
        f"All {words.count(len(proof.days))} days have the same root on both sides."
        if not bad
        else f"{words.count(bad)} of {words.count(len(proof.days))} days have another root online, "
        "in another colour."
    )
    return panel(
        "Days with equal roots, per cent",
        says,
        [],
        bar_chart(
            title="Days with equal roots, per cent",
            description=says,
            labels=labels,
            values=[100 - one for one in share],
            marked=share,
            every=max(1, math.ceil(len(labels) / 3)),
            say=lambda k: f"from {labels[k]}: {different[k]} of {len(parts[k])} days differ",
        ),
        f"A day is a UTC day of event time; a bar is {size} of them. Its root is a hash over every "
        "row of the day: entity, times, order, manifest and the bits of all values. One bit of one "
        "value changes it.",
    )


def _distance_chart(proof: ViewProof) -> Markup:
    measured = [one for one in proof.report.features if one.wasserstein is not None]
    measured.sort(key=lambda one: (-(one.wasserstein or 0.0), one.name))
    shown = measured[:_FEATURES]
    limit = Level(proof.policy.wasserstein, "limit")
    values = [min(one.wasserstein or 0.0, 10.0) for one in shown]
    over = sum((one.wasserstein or 0.0) > proof.policy.wasserstein for one in measured)
    constant = sum(one.degenerate for one in proof.report.features)
    says = (
        f"No feature is further apart than {words.figure(max(values, default=0.0))} of its "
        f"spread. The line is the limit, {proof.policy.wasserstein:g}."
        if not over
        else f"{words.count(over)} of {words.count(len(measured))} features are further apart than "
        f"the limit, {proof.policy.wasserstein:g}, which is the line."
    )
    says += _in_order([one for one in shown if one.wasserstein])
    if constant:
        says += f" {words.count(constant)} do not vary and have no spread to measure in."
    return panel(
        "Distance of the distributions",
        says,
        [],
        bar_chart(
            title="Distance of the distributions by feature",
            description=says,
            labels=_ranks(shown),
            values=values,
            levels=[limit],
            say=lambda k: f"{shown[k].name}: {words.figure(values[k])} of the spread",
        ),
        "The first Wasserstein distance between all values of history and all values online, in "
        "units of the standard deviation of history. The largest of up to "
        f"{_FEATURES} features; bars end at 10. All entities together: a feature whose level "
        "differs between entities hides a change of one of them, which the bits do not.",
        levels=[limit],
    )


def _bits_chart(proof: ViewProof) -> Markup | None:
    """How many of the last bits differ, where any does."""
    shown = sorted(
        (one for one in proof.report.features if one.equal < one.compared),
        key=lambda one: (one.equal - one.compared, one.name),
    )[:_FEATURES]
    if not shown:
        return None
    values = [100 * (1 - one.equal / one.compared) for one in shown]
    says = (
        f"{words.count(sum(one.equal < one.compared for one in proof.report.features))} features "
        f"have values with other bits; up to {words.figure(proof.report.largest_ulp)} ULP."
        f"{_in_order(shown)}"
    )
    return panel(
        "Values with other bits, per cent",
        says,
        [],
        bar_chart(
            title="Values with other bits by feature, per cent",
            description=says,
            labels=_ranks(shown),
            values=values,
            say=lambda k: (
                f"{shown[k].name}: {words.count(shown[k].compared - shown[k].equal)} of "
                f"{words.count(shown[k].compared)}, largest ULP {words.count(shown[k].largest_ulp)}"
            ),
        ),
        "A value is equal when its 64 bits are. A ULP is one step between neighbouring floats.",
    )


def _ranks(shown: Sequence[FeatureParity]) -> list[str]:
    """Numbers instead of names, which are too long to stand below bars."""
    return [str(number) for number in range(1, len(shown) + 1)]


def _in_order(shown: Sequence[FeatureParity]) -> str:
    names = [f"{number}\N{NO-BREAK SPACE}{one.name}" for number, one in enumerate(shown, start=1)]
    return f" Bars: {', '.join(names)}." if names else ""


def _drawn(proof: ViewProof) -> list[Distribution]:
    """The distributions to draw, the most distant first."""
    found = {one.name: one for one in proof.report.features}

    def distance(one: Distribution) -> tuple[float, int]:
        feature: FeatureParity = found[one.feature]
        return -(feature.wasserstein or 0.0), feature.equal - feature.compared

    varying = [one for one in proof.distributions if not found[one.feature].degenerate]
    return sorted(varying, key=distance)


def _picture(proof: ViewProof, one: Distribution) -> Markup:
    # Without the two ends: single extremes would press everything else onto one line.
    count = len(one.offline)
    shares = tuple(100 * k / (count - 1) for k in range(1, count - 1))
    lines = [
        Line(Curve("history", shares, one.offline[1:-1]), "s1"),
        Line(Curve("online", shares, one.online[1:-1]), "s2 dashed"),
    ]
    (feature,) = [item for item in proof.report.features if item.name == one.feature]
    apart = feature.wasserstein or 0.0
    says = (
        "The same on both sides: one line lies on the other."
        if apart == 0
        else f"{words.figure(apart)} of the spread apart."
    )
    x_axis = Axis(0.0, 100.0, ((10.0, "10%"), (50.0, "50%"), (90.0, "90%")))
    return panel(
        f"Distribution of {one.feature}",
        says,
        lines,
        line_chart(
            title=f"Quantiles of {one.feature}",
            description=says,
            lines=lines,
            x_axis=x_axis,
        ),
        "Quantiles from 2.5% to 97.5% of all numbers of either side, all entities together.",
    )
