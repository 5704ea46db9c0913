"""Measurements of volatility forecasts."""

from __future__ import annotations

from typing import Final

from assay.validation.catalogue.explanation import Explanation

RISK: Final = (
    Explanation(
        name="qlike_vs_champion",
        meaning="p-value that its volatility forecasts lose less than the champion's",
        protects="replacing a forecast that works by one that only looks newer",
        formula="loss = log h + r^2 / h per row; d = champion's loss - candidate's, averaged by "
        "date; t = mean(d) / HAC standard error; p = P(t_(T-1) > t)",
        convention="One-sided, dates as the sample, Bartlett kernel with floor(4 (T/100)^(2/9)) "
        "lags and at least the labels' overlap, small-sample correction. Rows are those which both "
        "forecast; more than 1 % of unanswered rows gives no value.",
        source="Diebold and Mariano (1995), Comparing predictive accuracy; Harvey, Leybourne and "
        "Newbold (1997); Patton (2011), Volatility forecast comparison using imperfect volatility "
        "proxies",
        lies="One currency whose peg breaks can outweigh decades, because QLIKE punishes a "
        "forecast "
        "near zero without mercy. Nested models make the test conservative.",
        reading="0.10 or less means that the mean loss is lower and that chance is a poor "
        "explanation. Look at the side note that names the date with the largest difference.",
        against_champion=True,
    ),
    Explanation(
        name="var_coverage",
        meaning="p-value that losses beyond its value at risk come as often as stated",
        protects="limits and margins that rest on a volatility which is too low",
        formula="LR = 2 n (x log(x/p) + (1-x) log((1-x)/(1-p))), x the share of exceedances, p the "
        "stated level, n = p (1-p) / V; p-value from chi-squared with 1 degree of freedom",
        convention="n is an effective sample size: V is the Newey-West variance of the mean dated "
        "share of exceedances. Gaussian quantile at 5 %. A high p-value passes.",
        source="Kupiec (1995), Techniques for verifying the accuracy of risk measurement models; "
        "Christoffersen (1998), Evaluating interval forecasts, in the side notes",
        lies="A high p-value of a short sample proves nothing, hence the minimum of 250 dates. "
        "A good volatility with fat tails fails through the Gaussian quantile.",
        reading="Below 0.05 the share of exceedances differs from what was promised; the side "
        "notes "
        "say in which direction, and whether exceedances come in clusters.",
    ),
    Explanation(
        name="calibration_slope",
        meaning="how far realised variance moves when its forecast moves by one",
        protects="forecasts that are right on average and wrong on every day that matters",
        formula="slope b of r^2 = a + b h, weighted by 1/h^2, each date with the same weight",
        convention="Variances, not volatilities. Standard errors clustered by date, HAC over "
        "dates.",
        source="Mincer and Zarnowitz (1969), The evaluation of economic forecasts",
        lies="Noise in the forecast pulls the slope towards zero; a few extreme dates move it.",
        reading="1 is right. Below 1: the forecast overreacts. Above 1: it is too timid.",
    ),
)
