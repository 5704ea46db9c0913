"""Numbers, moments and gates as a person reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from assay.domain.instants import NANOS_PER_SECOND, Instant, to_datetime
from assay.domain.verdicts import Outcome, Verdict
from assay.validation.catalogue import CATALOGUE

MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_MINUS: Final = "\N{MINUS SIGN}"
_TOGETHER: Final = "\N{NO-BREAK SPACE}"
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_COMPUTER: Final = re.compile(r"-?\d+(\.\d+)?e[+-]?\d+")
_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

GATE_TITLES: Final = {
    "qlike_vs_champion": "Forecasts lose less than the champion's",
    "var_coverage": "Losses beyond value at risk are as frequent as they should be",
    "calibration_slope": "Outcomes move one for one with forecasts",
    "onnx_parity": "The exported model answers as the trained one",
    "schema": "Inputs are the ones trained on, in order",
    "signature": "Signed with a key that the desk trusts",
    "training_set_rebuilt": "The training set was rebuilt bit for bit",
    "ic": "Scores go with the returns that follow",
    "rank_ic": "Scores order the returns that follow",
    "sharpe_after_costs": "Trading it would have paid after costs",
    "significance": "What it earned was not luck",
    "deflated_sharpe": "Better than the best of all trials is by luck",
    "min_track_record": "The record is long enough for such a ratio",
    "pbo": "The way of choosing does more than fit noise",
    "spa": "Some trial is better than cash, and than the champion",
    "brier": "Probabilities are better than a coin",
    "ece": "Probabilities mean what they say",
    "max_drawdown": "No fall that nobody would have held through",
    "sharpe_vs_champion": "Trading it pays more than the champion",
    "max_drawdown_vs_champion": "It falls no deeper than the champion",
    "ablation": "No group of features does harm",
    "feature_importance_consistency": "It rests on the features that the champion rests on",
    "dataset_compatibility": "The data that it was made from are still there",
    "feature_parity": "Features online are those of history, bit for bit",
    "onnx_p95_batch32_ms": "Fast enough on 32 rows",
    "serving_p95_ms": "Answers fast enough",
    "drift_psi": "Live inputs look like those trained on",
    "path_rank_ic": "Scores order returns whichever years trained it",
    "path_sharpe": "Trading it pays whichever years trained it",
    "paper_trading_hours": "Traded on paper long enough",
    "paper_pnl_after_costs": "Made money on paper after costs",
    "nightly_greens": "Nightly checks passed in a row",
    "shadow_stable_hours": "Ran in shadow long enough",
    "shadow_rank_correlation": "In shadow it agrees with the champion",
}
"""Gates in words; a desk's own gate is called by its name."""

GATE_NOUNS: Final = {
    "qlike_vs_champion": "Forecast loss against the champion's",
    "var_coverage": "Coverage of value at risk",
    "calibration_slope": "Calibration",
    "onnx_parity": "Difference of the exported model from the trained one",
    "schema": "Inputs as trained on",
    "signature": "Trusted signature",
    "training_set_rebuilt": "Training set rebuilt bit for bit",
    "ic": "Information coefficient",
    "rank_ic": "Rank information coefficient",
    "sharpe_after_costs": "Sharpe ratio after costs",
    "significance": "Significance of returns after costs",
    "deflated_sharpe": "Deflated Sharpe ratio",
    "min_track_record": "Length of the record",
    "pbo": "Probability of overfitting",
    "spa": "Superior predictive ability of all trials",
    "brier": "Brier score",
    "ece": "Calibration error",
}
"""What gates measure, for sentences about one that did not pass."""

_YES_NO: Final = frozenset({"schema", "signature", "training_set_rebuilt"})
_P_VALUES: Final = frozenset(
    {"qlike_vs_champion", "var_coverage", "significance", "spa", "ablation"}
)

OUTCOMES: Final = {
    Outcome.PROMOTABLE: "passed its gates",
    Outcome.REFUSED: "refused",
    Outcome.NOT_YET: "not yet",
}
VERDICTS: Final = {
    Verdict.PASS: ("✓", "pass", "pass"),
    Verdict.FAIL: ("✗", "fail", "fail"),
    Verdict.INDETERMINATE: ("?", "undecided", "open"),
}
"""A verdict's mark, word and style class: never the colour alone."""


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def share(fraction: float, digits: int = 2) -> str:
    """A fraction as per cent."""
    return f"{signed(100 * fraction, digits)}%"


def minus(number: str) -> str:
    """A written number with a true minus sign, which is as wide as a plus."""
    return number.replace("-", _MINUS)


def signed(number: float, digits: int) -> str:
    """A number with a true minus sign; zero has none."""
    rounded = f"{number:.{digits}f}"
    return minus(rounded.removeprefix("-") if float(rounded) == 0 else rounded)


def figure(number: float) -> str:
    """A number of any size in about four digits, powers of ten where they are shorter."""
    if number == 0:
        return "0"
    if not math.isfinite(number):
        return "not a number"
    size = abs(number)
    if size < 1e-3 or size >= 1e9:
        mantissa, _, exponent = f"{number:.1e}".partition("e")
        power = str(int(exponent)).translate(_SUPERSCRIPTS)
        return f"{minus(mantissa.removesuffix('.0'))}{_TOGETHER}{_TIMES}{_TOGETHER}10{power}"
    if float(number).is_integer() and size >= 1000:
        return minus(count(int(number)))
    return minus(f"{number:.4g}" if size < 1000 else f"{number:,.1f}")


def day(instant: Instant) -> str:
    """A date, UTC."""
    moment = to_datetime(instant)
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}"


def moment(instant: Instant) -> str:
    """A date and a time to the second, UTC."""
    return f"{day(instant)}, {clock(instant)} UTC"


def clock(instant: Instant) -> str:
    """The time of the day to the second, UTC."""
    return f"{to_datetime(instant):%H:%M:%S}"


def duration(nanos: int) -> str:
    """How long something took, in the unit that suits it."""
    seconds = nanos / NANOS_PER_SECOND
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 86_400:.0f} days"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def gate_title(name: str) -> str:
    """What a gate asks."""
    return GATE_TITLES.get(name) or _meaning(name)


def gate_noun(name: str) -> str:
    """What a gate measures."""
    return GATE_NOUNS.get(name) or _meaning(name)


def _meaning(name: str) -> str:
    """The catalogue's words, or the name where it is a desk's own."""
    known = CATALOGUE.get(name)
    return name if known is None else known.meaning[0].upper() + known.meaning[1:]


def prettier(sentence: str) -> str:
    """A sentence whose numbers in computer notation are written as a person would."""
    return _COMPUTER.sub(lambda found: figure(float(found[0])), sentence)


def measured(gate: str, value: float | None) -> str:
    """A gate's value with what it is."""
    if value is None:
        return "no value"
    if gate in _YES_NO and value in {0.0, 1.0}:
        return "yes" if value else "no"
    if gate in _P_VALUES:
        return f"p{_TOGETHER}={_TOGETHER}{figure(value)}"
    return figure(value)


def required(gate: str, threshold: str) -> str:
    """A gate's rule as one reads it."""
    if gate in _YES_NO and threshold == "equals 1":
        return "yes"
    rule = prettier(threshold).replace("<=", "at most").replace(">=", "at least")
    rule = rule.replace("<", "below").replace(">", "above")
    return f"p {rule}" if gate in _P_VALUES else rule
