"""Measurements of scores of returns: skill, what trading them would have earned, and luck."""

from __future__ import annotations

from typing import Final

from assay.validation.catalogue.explanation import Explanation

SKILL: Final = (
    Explanation(
        name="ic",
        meaning="mean daily correlation of its scores with the returns that followed",
        protects="trading a score that does not order the instruments",
        formula="IC_t = Pearson correlation over instruments on date t; value = mean of IC_t",
        convention="Dates are the sample, never pooled rows; dates with too few instruments or "
        "constant scores are left out. Interval from Newey-West over dates.",
        source="Grinold and Kahn (1999), Active Portfolio Management, chapter 6",
        lies="A single outlying return can carry a date. Overlapping labels make it look steadier "
        "than it is, which is why the lag covers their overlap.",
        reading="0.02 is a usual smallest size for daily data. Look at the interval and at rank "
        "IC.",
    ),
    Explanation(
        name="rank_ic",
        meaning="the same correlation on ranks",
        protects="an information coefficient that rests on a handful of extreme returns",
        formula="IC_t = Spearman correlation over instruments on date t, ties get mean ranks",
        convention="As for ic, on average ranks.",
        source="Spearman (1904), The proof and measurement of association between two things",
        lies="It ignores sizes: small right calls can hide one large wrong one.",
        reading="Far below ic: the skill lies in few instruments. Far above: the tails are wrong.",
    ),
    Explanation(
        name="brier",
        meaning="mean squared error of its probabilities",
        protects="position sizes taken from probabilities that are no probabilities",
        formula="BS = mean((p - y)^2); decomposed into reliability - resolution + uncertainty",
        convention="Lower is better, 0.25 is what always saying one half scores. With bins, the "
        "within-bin terms are reported.",
        source="Brier (1950), Verification of forecasts expressed in terms of probability; Murphy "
        "(1973); Stephenson, Coelho and Jolliffe (2008)",
        lies="For rare outcomes saying never scores well. It mixes calibration and skill.",
        reading="Compare with the uncertainty term: above it the model is worse than the base "
        "rate.",
    ),
    Explanation(
        name="ece",
        meaning="how far stated probabilities are from observed frequencies, bias removed",
        protects="confidence that is not earned",
        formula="sum over bins of n_b/n |mean y - mean p|, less what a perfectly calibrated model "
        "of the same sample would show",
        convention="Equal-mass bins; the null is simulated with outcomes drawn from the stated "
        "probabilities. The plain estimate is biased upward by binning and is never judged.",
        source="Naeini, Cooper and Hauskrecht (2015); Kumar, Liang and Ma (2019), Verified "
        "uncertainty calibration",
        lies="A model that always says the base rate is perfectly calibrated and useless.",
        reading="Read it beside the reliability diagram with its null band, and with brier.",
    ),
)

MONEY: Final = (
    Explanation(
        name="sharpe_after_costs",
        meaning="annualised Sharpe ratio of trading its scores, after costs",
        protects="skill that costs eat",
        formula="mean / standard deviation of dated net returns x sqrt(252)",
        convention="ddof 1, no risk-free rate, no financing; costs on traded notional against the "
        "drifted book. Interval from the HAC variance of z - SR/2 (z^2 - 1).",
        source="Sharpe (1994), The Sharpe ratio; Lo (2002), The statistics of Sharpe ratios",
        lies="Autocorrelated returns, sold tails and short samples inflate it; sqrt(252) is right "
        "only without autocorrelation, and the adjusted ratio stands beside it.",
        reading="Look at the interval, at twice and three times the costs, and at the controls: "
        "one bar late it must not collapse, on shuffled returns it must vanish.",
    ),
    Explanation(
        name="significance",
        meaning="p-value that trading its scores earns more than nothing after costs",
        protects="taking a lucky backtest for an edge",
        formula="t = mean net return / HAC standard error; p = P(t_(T-1) > t)",
        convention="One-sided, Bartlett kernel with floor(4 (T/100)^(2/9)) lags.",
        source="Newey and West (1987), A simple, positive semi-definite, heteroskedasticity and "
        "autocorrelation consistent covariance matrix",
        lies="It knows nothing of the other recipes that were tried: see deflated_sharpe, pbo, "
        "spa.",
        reading="0.10 or less passes, and means little when twenty recipes were tried.",
    ),
    Explanation(
        name="max_drawdown",
        meaning="largest fall of the backtest's equity from a peak, as a share of the peak",
        protects="a path that nobody would have held through",
        formula="max over t of 1 - equity_t / max over s <= t of equity_s",
        convention="After costs, compounded, over dates; the starting equity is a peak.",
        source="Magdon-Ismail and Atiya (2004), Maximum drawdown",
        lies="It is one number of one path, grows with the length of the sample, and a backtest "
        "knows no intraday low.",
        reading="Compare only over equal dates; max_drawdown_vs_champion does.",
    ),
    Explanation(
        name="sharpe_vs_champion",
        meaning="annualised Sharpe ratio after costs minus the champion's on the same dates",
        protects="paying for a change that brings nothing",
        formula="SR(candidate) - SR(champion), both traded on the rows that both scored, at the "
        "same prices and costs",
        convention="Annualised with sqrt(252), ddof 1; dates on which only one of them has scores "
        "are left out. Interval by the studentised block bootstrap.",
        source="Jobson and Korkie (1981); Ledoit and Wolf (2008), Robust performance hypothesis "
        "testing with the Sharpe ratio",
        lies="Two strategies that are nearly the same differ by noise: the interval is what "
        "counts.",
        reading="At least +0.1 is asked for. The side notes hold both ratios.",
        against_champion=True,
    ),
    Explanation(
        name="max_drawdown_vs_champion",
        meaning="maximum drawdown minus the champion's on the same dates",
        protects="buying a better ratio with a deeper hole",
        formula="MDD(candidate) - MDD(champion), on the rows that both scored",
        convention="As max_drawdown, equal dates, prices and costs; positive is deeper.",
        source="Magdon-Ismail and Atiya (2004), Maximum drawdown",
        lies="A single path: the next hole need not respect the order of the last ones.",
        reading="No worse than by 0.02 is asked for.",
        against_champion=True,
    ),
)

LUCK: Final = (
    Explanation(
        name="deflated_sharpe",
        meaning="probability that its Sharpe ratio is above what the best of all trials is by luck",
        protects="choosing the luckiest of many recipes",
        formula="DSR = PSR(SR0), SR0 = sd of trial ratios x mean of the largest of N normals; "
        "error at SR0, with autocorrelation, times the variance of that maximum",
        convention="The form of 2025 on per-period ratios, raw kurtosis; the one of 2014 stands "
        "beside it. N counts every training run and version of the line, failed ones too, and the "
        "effective number stands beside it. The spread of the trials is never taken below that of "
        "pure noise.",
        source="Lopez de Prado, Lipton and Zoonekynd (2025), How to use the Sharpe ratio; Bailey "
        "and Lopez de Prado (2014), The deflated Sharpe ratio",
        lies="Trials that nobody recorded are not counted. Highly correlated trials count in full, "
        "which is too strict: look at the effective number.",
        reading="A probability: above 0.95 passes. Look at the number of trials first. In "
        "simulations at most 4 % of noise passed, and 82 % of strategies with a true ratio of 2.",
    ),
    Explanation(
        name="pbo",
        meaning="probability that the trial chosen in sample is below the median out of sample",
        protects="a selection among trials that only fits noise",
        formula="CSCV: over all halves of S blocks, omega = rank out of sample of the best in "
        "sample / (N + 1); PBO = share of logit(omega) <= 0",
        convention="rank/(N+1) and <= 0, which counts ties against the model; other public "
        "conventions give other numbers on the same data.",
        source="Bailey, Borwein, Lopez de Prado and Zhu (2017), The probability of backtest "
        "overfitting",
        lies="Pure noise scores 0.5 with a standard deviation near 0.2, so that a low value comes "
        "by "
        "chance with few trials. It judges the selection, not the model.",
        reading="Below 0.2 passes: 5 to 8 % of noise in simulations, 86 % of choices with a true "
        "ratio of 2. Read it with N, S and the band that noise would give. Trials with different "
        "costs are told apart by their costs alone, which is no skill; near copies of one good "
        "model look overfitted. Fewer than five trials decide nothing.",
    ),
    Explanation(
        name="spa",
        meaning="p-value that the best of all trials is no better than the benchmark",
        protects="data snooping over a family of models",
        formula="T = max(0, max_k sqrt(n) mean(d_k) / w_k); p from the stationary bootstrap of T",
        convention="Studentised, each resample by its own spread; the consistent p-value, with the "
        "lower and the upper one beside it; automatic block length; p = (1 + #) / (B + 1).",
        source="Hansen (2005), A test for superior predictive ability; Politis and Romano (1994)",
        lies="It says that some trial beats the benchmark, not that this one does. A public "
        "library leaves the studentisation out and answers 0.63 where this is 0.02.",
        reading="0.10 or less passes. Cash and the champion are both benchmarks, the harder one "
        "decides; the side notes hold both.",
        against_champion=True,
    ),
    Explanation(
        name="min_track_record",
        meaning="share of the track record that is needed for its Sharpe ratio to be believed",
        protects="deciding before there is enough to decide on",
        formula="MinTRL = 1 + (1 - g3 SR + (g4-1)/4 SR^2) (Z / (SR - SR*))^2; value = T / MinTRL",
        convention="Per-period ratio, raw kurtosis, 95 %. A ratio at or below SR* needs for ever.",
        source="Bailey and Lopez de Prado (2012), The Sharpe ratio efficient frontier",
        lies="It takes returns as independent; autocorrelation makes the true length longer.",
        reading="1 or more: the record is long enough.",
    ),
)

INPUTS: Final = (
    Explanation(
        name="ablation",
        meaning="p-value of the feature group whose absence would improve the model most",
        protects="carrying a group of features that makes the model worse",
        formula="for each group g: d_t = loss_t(with all) - loss_t(without g), mean over the "
        "instruments of date t; p_g = P(t > HAC t of d); value = min(1, G min_g p_g)",
        convention="Refitted without the group over the same purged folds with the same seeds; "
        "log loss or QLIKE; Bonferroni over G groups. A high p-value passes.",
        source="Diebold and Mariano (1995) applied to leaving a group out; Bonferroni (1936)",
        lies="Correlated groups stand in for each other: none is missed alone, and both may be "
        "useless. A high p-value of a short sample proves nothing.",
        reading="Below 0.05: at least one group does harm, and the side notes name it. The bars "
        "show what each group is worth.",
    ),
    Explanation(
        name="feature_importance_consistency",
        meaning="rank correlation of its feature importances with the champion's",
        protects="a model that reaches a similar score for quite other reasons",
        formula="importance_f = mean rise of the out-of-sample loss when column f is permuted; "
        "value = Spearman correlation over the features that both use",
        convention="Permutation within the tested rows of each purged fold, fixed seeds, the "
        "champion measured in the same way on its own training set.",
        source="Breiman (2001), Random forests; Fisher, Rudin and Dominici (2019), All models are "
        "wrong, but many are useful",
        lies="Correlated features share importance at random, which lowers it. Few features make "
        "it coarse.",
        reading="Near 1: the same reasons. Below 0.5 somebody should say why.",
        against_champion=True,
    ),
)

PATHS: Final = (
    Explanation(
        name="path_rank_ic",
        meaning="median over cross-validation paths of its mean daily rank correlation",
        protects="a record that rests on the one order in which history happened to come",
        formula="one mean rank correlation for each path of the combinatorial purged splits; value "
        "= their median",
        convention="Every path predicts every date once, each date by a model that was trained "
        "without it; labels purged on both sides of each test stretch, embargo after it.",
        source="Lopez de Prado (2018), Advances in financial machine learning, chapter 12",
        lies="Paths share their data: their spread is no confidence interval. Models learn from "
        "what came later, so that a path is no record that anyone could have had.",
        reading="Far from the walk-forward's rank IC: the record depends on the period.",
    ),
    Explanation(
        name="path_sharpe",
        meaning="median over cross-validation paths of its Sharpe ratio after costs",
        protects="a Sharpe ratio that one stretch of history made",
        formula="annualised Sharpe ratio after costs of each path; value = their median",
        convention="As path_rank_ic, and as sharpe_after_costs on each path.",
        source="Lopez de Prado (2018), Advances in financial machine learning, chapter 12",
        lies="As path_rank_ic.",
        reading="Look at the share of paths below zero in the side notes.",
    ),
)

RETURNS: Final = (*SKILL, *MONEY, *LUCK, *PATHS, *INPUTS)
