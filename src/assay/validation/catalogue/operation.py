"""Measurements of a version at work: parity, paper, shadow, drift, nights, latency."""

from __future__ import annotations

from typing import Final

from assay.validation.catalogue.explanation import Explanation

_OURS: Final = "a rule of this package"

OPERATION: Final = (
    Explanation(
        name="feature_parity",
        meaning="share of feature values that are the same bits online and offline",
        protects="a model that sees other features live than it was trained on",
        formula="equal values / compared values, of the proof kept for the view's snapshot",
        convention="Bitwise, two NaN are equal; a proof by another build of the kernel or of "
        "another snapshot does not count.",
        source=_OURS,
        lies="A proof is about its snapshot: later rows are proven by the next one.",
        reading="1 or nothing. assay parity run makes the proof.",
        repeatable=False,
    ),
    Explanation(
        name="paper_trading_hours",
        meaning="hours of paper trading without an incident",
        protects="finding out with money",
        formula="hours from the start of paper trading, or from the last incident, until now",
        convention="Live hours. Replayed hours count only where a policy allows it.",
        source=_OURS,
        lies="Quiet hours prove little; a weekend is two days of nothing.",
        reading="24 or more passes.",
        repeatable=False,
    ),
    Explanation(
        name="paper_pnl_after_costs",
        meaning="profit and loss of paper trading after costs, as a share of equity",
        protects="a book that loses in practice what it earned on paper",
        formula="final equity / starting equity - 1 of the paper account",
        convention="After spread, commission and slippage of the paper broker.",
        source=_OURS,
        lies="Weeks of it cannot tell an edge from luck: a Sharpe difference of 1 takes most of a "
        "year at a correlation of 0.9. A soft gate.",
        reading="Above 0 is nice to have; look for a loss that the backtest cannot explain.",
        repeatable=False,
    ),
    Explanation(
        name="nightly_greens",
        meaning="consecutive nightly runs without a failure",
        protects="promoting in the week in which something is broken",
        formula="nights in a row, back from the last recorded one, each green, none left out",
        convention="One verdict per UTC date; any red of a night makes it red. No value when the "
        "last night is more than two days ago.",
        source=_OURS,
        lies="A night is green when its checks are: it says nothing about what they do not check.",
        reading="7 or more passes. The side notes name the last red night and why.",
        repeatable=False,
    ),
    Explanation(
        name="drift_psi",
        meaning="largest population stability index of its inputs and predictions",
        protects="promoting a model onto data that it has never seen the like of",
        formula="PSI = sum over bins of (q - p) ln(q / p), reference quantile bins; the largest",
        convention="10 bins with open ends and one for missing, Laplace 0.5; effective sample size "
        "decides whether it can be judged.",
        source="Yurdakul (2018), Statistical properties of the population stability index",
        lies="With 60 rows it exceeds 0.1 by chance seven times of ten; persistent features have "
        "far fewer effective rows than rows.",
        reading="Below 0.1 none, to 0.25 moderate, above significant.",
        repeatable=False,
    ),
    Explanation(
        name="shadow_stable_hours",
        meaning="hours in shadow without an incident",
        protects="a model that fails on live inputs in ways that history has not",
        formula="hours from the start of the shadow, the last row without an answer, or the last "
        "gap of more than 26 hours, to the last pair",
        convention="All live inputs, nothing acts on the answers; a new version starts again. "
        "Pairs that were removed count by their sums.",
        source=_OURS,
        lies="Hours in which nothing happened look like stability.",
        reading="24 or more passes.",
        repeatable=False,
    ),
    Explanation(
        name="shadow_rank_correlation",
        meaning="rank correlation of its live predictions with the champion's",
        protects="a challenger that does something quite different without anybody asking",
        formula="Spearman correlation over paired live predictions",
        convention="Same inputs, same moments; over the pairs that are kept, from the moment that "
        "the measurement names.",
        source="Spearman (1904), The proof and measurement of association between two things",
        lies="A better model may well differ: a soft gate. An input that is asked a hundred times "
        "counts a hundred times.",
        reading="Below 0.95 somebody should say why.",
        against_champion=True,
        repeatable=False,
    ),
    Explanation(
        name="serving_p95_ms",
        meaning="95th percentile of the time from request to answer, in milliseconds",
        protects="signals that come too late",
        formula="95th percentile over the requests that the version served",
        convention="End to end inside the server, online features included.",
        source=_OURS,
        lies="A percentile over a quiet night says nothing about the open.",
        reading="200 ms or less passes.",
        repeatable=False,
    ),
)
