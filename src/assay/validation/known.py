"""The names that evidence may have. A policy that asks for another is refused when it loads."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

KNOWN_EVIDENCE: Mapping[str, str] = MappingProxyType(
    {
        # Volatility forecasts
        "qlike_vs_champion": "p-value that its volatility forecasts lose less than the champion's",
        "var_coverage": "p-value that losses beyond its value at risk come as often as stated",
        "calibration_slope": "how far realised variance moves when its forecast moves by one",
        # Scores of returns
        "ic": "mean daily correlation of its scores with the returns that followed",
        "rank_ic": "the same correlation on ranks",
        "sharpe_after_costs": "annualised Sharpe ratio of trading its scores, after costs",
        "significance": "p-value that trading its scores earns more than nothing after costs",
        "path_rank_ic": "median over cross-validation paths of its mean daily rank correlation",
        "path_sharpe": "median over cross-validation paths of its Sharpe ratio after costs",
        # Files of the version
        "onnx_parity": "largest difference between the trained model and its ONNX form",
        "schema": "whether its declared input is the one it was trained on",
        "readable_files": "whether every file of a version that is no model can be read",
        "signature": "whether its signature verifies against a trusted key",
        "training_set_rebuilt": "whether its training set can be rebuilt with the same digest",
        # Time in operation
        "paper_trading_hours": "hours of paper trading without an incident",
        "paper_pnl_after_costs": "profit of paper trading after all costs, as a share of equity",
        "nightly_greens": "consecutive nightly runs without a failure",
        "shadow_stable_hours": "hours in shadow without an incident",
        "shadow_rank_correlation": "rank correlation of its live predictions with the champion's",
    }
)
"""Each name with its meaning in one line, for reports and for errors."""
