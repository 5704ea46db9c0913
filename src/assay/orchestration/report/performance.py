"""Plots of what the models said against what happened, out of sample."""

from __future__ import annotations

from collections.abc import Sequence

from assay.domain.instants import Instant
from assay.orchestration.report import words
from assay.orchestration.report.charts import Axis, Level, Line, line_chart
from assay.orchestration.report.html import Markup, element
from assay.orchestration.report.values import (
    Curve,
    DirectionPicture,
    ForecastPicture,
    ModelSheet,
    VolatilityPicture,
)

_LOOKS = ("s1", "s2 dashed", "s4 dotted", "s5 dashdot")


def pictures_of(model: ModelSheet) -> Markup:
    """The plots of one model, or why there are none."""
    if model.picture is not None:
        return element("div", drawn(model.picture), class_="charts")
    return element("p", f"No plots: {model.no_picture or 'none for this kind of model'}.",
                   class_="empty")  # fmt: skip


def drawn(picture: VolatilityPicture | DirectionPicture) -> list[Markup | None]:
    """The plots of one record, each with its heading."""
    if isinstance(picture, VolatilityPicture):
        return _volatility(picture)
    return [_equity(picture), _drawdown(picture), _ic(picture)]


def panel(
    heading: str,
    says: str,
    lines: Sequence[Line],
    drawing: Markup,
    how: str,
    *,
    levels: Sequence[Level] = (),
    wide: bool = False,
) -> Markup:
    """A plot with its heading, what it says in one sentence, its legend, and how it was made."""
    named = [
        *((line.curve.name, "filled" if line.filled else line.look) for line in lines),
        *((level.label, f"level {level.look}".strip()) for level in levels),
    ]
    legend = element(
        "ul",
        [element("li", element("span", class_=f"swatch {look}"), name) for name, look in named],
        class_="legend",
    )
    return element(
        "figure",
        element(
            "figcaption",
            element("h4", heading),
            element("p", says),
            legend if len(named) > 1 else None,
        ),
        drawing,
        element("details", element("summary", "How this is measured"), element("p", how)),
        class_="card panel wide" if wide else "card panel",
    )


def _roles(picture: VolatilityPicture, curves: Sequence[Curve]) -> list[Curve]:
    """The curves, named by the role that their version had."""
    names = {picture.candidate: f"{picture.candidate} (candidate)"}
    if picture.champion is None:
        names = {picture.candidate: picture.candidate}
    else:
        names[picture.champion] = f"{picture.champion} (champion then)"
    return [Curve(names.get(curve.name, curve.name), curve.x, curve.y) for curve in curves]


def _volatility(picture: VolatilityPicture) -> list[Markup | None]:
    return [
        _exceedances(picture),
        _loss(picture),
        _calibration(picture),
        *(_forecast(picture, one) for one in picture.forecasts),
    ]


def _exceedances(picture: VolatilityPicture) -> Markup:
    curves = _roles(picture, picture.exceedances)
    lines = [Line(curve, look) for curve, look in zip(curves, _LOOKS, strict=False)]
    expected = 100 * picture.level
    levels = [Level(expected, f"expected {words.signed(expected, 0)}%")]
    says = "Too few dates for a rolling year."
    if curves[0].y:
        below = sum(y < expected for y in curves[0].y) / len(curves[0].y)
        last = words.signed(curves[0].y[-1], 1)
        says = (
            f"{picture.candidate}: {last}% in the latest year, {words.signed(expected, 0)}% "
            f"expected. Below the line, {words.share(below, 0)} of the time, it was too cautious; "
            "above it, too bold."
        )
    return panel(
        "Losses beyond the forecast value at risk",
        says,
        lines,
        line_chart(
            title="Share of losses beyond the forecast value at risk over time",
            description=says,
            lines=lines,
            unit="%",
            levels=levels,
            zero=True,
        ),
        "Each session, the share of instruments whose log return fell below the Gaussian "
        f"{words.share(picture.level, 0)} quantile of the forecast; mean of the 250 sessions up to "
        f"the date. {words.count(picture.rows)} forecasts out of sample.",
        levels=levels,
        wide=True,
    )


def _loss(picture: VolatilityPicture) -> Markup | None:
    curve = picture.loss_difference
    if curve is None or not curve.y:
        return None
    mean = curve.y[-1] / max(1, picture.dates)
    less = "less" if mean < 0 else "more"
    says = (
        f"Over {words.count(picture.dates)} dates {picture.candidate} lost "
        f"{words.figure(abs(mean))} {less} a date than {picture.champion}. While the line falls, "
        "the candidate is the better one."
    )
    if not any(curve.y):
        says = f"{picture.candidate} and {picture.champion} forecast the same numbers."
    levels = [Level(0.0, "equally good")]
    line = Line(curve, "s1")
    return panel(
        "Forecast loss, candidate minus champion, added up",
        says,
        [line],
        line_chart(
            title="Running sum of the difference in QLIKE loss, candidate minus champion",
            description=says,
            lines=[line],
            levels=levels,
        ),
        "QLIKE loss log h + r²/h with h the forecast variance and r the log return that followed; "
        "difference averaged over instruments on each session, then added up.",
        levels=levels,
    )


def _calibration(picture: VolatilityPicture) -> Markup:
    curves = _roles(picture, picture.calibration)
    lines = [Line(curve, look, dots=True) for curve, look in zip(curves, _LOOKS, strict=False)]
    worst = max(curves[0].y, key=lambda ratio: abs(ratio - 1), default=1.0)
    says = (
        f"{curves[0].name}: from calm to wild, what happened was within "
        f"{words.share(abs(worst - 1), 0)} of what was forecast."
    )
    ticks = tuple((float(k), str(k)) for k in range(1, 11))
    levels = [Level(1.0, "as forecast")]
    return panel(
        "Calibration by tenth of the forecast",
        says,
        lines,
        line_chart(
            title="Realised over forecast volatility by tenth of the forecast",
            description=says,
            lines=lines,
            levels=levels,
            x_axis=Axis(0.5, 10.5, ticks),
        ),
        "All forecasts sorted by size and cut into ten equal parts, 1 the calmest. In each part: "
        "root of mean squared return over root of mean forecast variance. Above 1, more happened "
        "than was forecast.",
        levels=levels,
    )


def _forecast(picture: VolatilityPicture, one: ForecastPicture) -> Markup:
    curves = _roles(picture, one.forecasts)
    lines = [
        Line(one.outcome, "s3 thin", filled=True),
        *(Line(curve, f"{look} thin") for curve, look in zip(curves, _LOOKS, strict=False)),
    ]
    says = "The price did not move."
    if one.outcome.y:
        highest = max(one.outcome.y)
        when: Instant = int(one.outcome.x[one.outcome.y.index(highest)])
        says = (
            f"The latest five years at most. The wildest month began on {words.day(when)}: "
            f"{words.signed(highest, 0)}% a year."
        )
    return panel(
        f"{one.instrument.replace('_', '/')} volatility",
        says,
        lines,
        line_chart(
            title=f"Volatility of {one.instrument}, forecast and outcome",
            description=says,
            lines=lines,
            unit="%",
            logarithmic=True,
        ),
        "Annualised with 252 sessions, logarithmic scale. The outcome at a date is the root mean "
        "square of the 20 daily returns after it, so it is not known at that date; the forecast is "
        "of the next session.",
    )


def _equity(picture: DirectionPicture) -> Markup:
    lines = [Line(curve, look) for curve, look in zip(
        picture.equity, ("s3", "s1", "s2 dashed", "s5 dotted"), strict=False)]  # fmt: skip
    levels = [Level(100.0, "start")]
    ends = {curve.name: curve.y[-1] for curve in picture.equity if curve.y}
    says = "; ".join(f"{name} {words.signed(end, 0)}" for name, end in ends.items())
    says = f"100 at the start became: {says}." if ends else "There is no dated return."
    return panel(
        f"Equity of trading {picture.candidate}",
        says,
        lines,
        line_chart(
            title=f"Equity from trading version {picture.candidate}, at several costs",
            description=says,
            lines=lines,
            levels=levels,
            logarithmic=True,
        ),
        "A simulation out of sample: scores less their mean across instruments, gross exposure 1, "
        "entered at the first fix after the decision and held to the next. Costs of "
        f"{words.figure(picture.basis_points)} basis points of traded notional, one way. No "
        "financing, no market impact. Logarithmic scale.",
        levels=levels,
        wide=True,
    )


def _drawdown(picture: DirectionPicture) -> Markup:
    lines = [Line(curve, look) for curve, look in zip(
        picture.drawdown, ("s1", "s5 dotted"), strict=False)]  # fmt: skip
    deepest = {curve.name: min(curve.y) for curve in picture.drawdown if curve.y}
    says = "; ".join(f"{name} {words.signed(fall, 0)}%" for name, fall in deepest.items())
    says = f"Deepest fall below an earlier peak: {says}." if deepest else "There is none."
    return panel(
        "Drawdown",
        says,
        lines,
        line_chart(
            title="Fall of equity below its earlier peak", description=says, lines=lines, unit="%",
            zero=True,
        ),
        "Equity over its highest value so far, minus one. The starting equity is a peak.",
    )  # fmt: skip


def _ic(picture: DirectionPicture) -> Markup | None:
    if picture.ic is None:
        return None
    mean, low, high = picture.ic
    line = Line(mean, "s1")
    sure = sum(y > 0 for y in low.y) / len(low.y)
    says = (
        f"{words.signed(mean.y[-1], 3)} over the latest year. In {words.share(sure, 0)} of years "
        "the whole interval lies above zero."
    )
    levels = [Level(0.0, "no skill")]
    if picture.ic_required is not None:
        label = f"required {words.figure(picture.ic_required)} over all"
        levels.append(Level(picture.ic_required, label, look="b"))
    return panel(
        "Information coefficient, rolling year",
        says,
        [line],
        line_chart(
            title="Rolling mean of the daily correlation of scores and returns, with its interval",
            description=says,
            lines=[line],
            levels=levels,
            band=(low, high),
        ),
        "Pearson correlation across instruments of score and forward return on each date, mean of "
        "the 250 dates up to it. The band is its 95% interval with Newey-West variance. The gate "
        "is about the mean over the whole record.",
        levels=levels,
    )
