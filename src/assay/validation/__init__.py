"""From out-of-sample predictions to evidence.

1. The numbers come from :mod:`assay.statistics`; here they become records.
2. One file per family measures: :mod:`~assay.validation.volatility` (QLIKE, VaR coverage,
   calibration slope), :mod:`~assay.validation.information` (IC, rank IC),
   :mod:`~assay.validation.sharpe` (Sharpe after costs, significance) over
   :mod:`~assay.validation.backtest`, which is a face of :mod:`assay.portfolio`,
   :mod:`~assay.validation.robustness` (the paths of combinatorial cross-validation), and
   :mod:`~assay.validation.artefacts` (ONNX parity, schema, signature, rebuilt training set).
3. :mod:`~assay.validation.kinds` puts together what one kind of model needs.
4. :mod:`~assay.validation.known` lists every name that evidence may have.

Every measurement returns :class:`~assay.domain.evidence.Evidence` with its convention and sample
size. Poor data (too short, constant, missing) gives a value of None and says why; it never gives
NaN and never raises. Tables that break their contract raise
:class:`~assay.errors.ContractViolation`.

What measures is imported when it is first asked for: reading a policy, and with it a promotion and
a rollback, needs the names alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay.validation.known import KNOWN_EVIDENCE

if TYPE_CHECKING:
    from assay.validation.artefacts import onnx_parity, schema, signature, training_set_rebuilt
    from assay.validation.backtest import Backtest, Costs, Market, label_shuffle, simulate
    from assay.validation.information import ic, rank_ic
    from assay.validation.kinds import alpha_evidence, risk_evidence
    from assay.validation.robustness import path_evidence
    from assay.validation.sharpe import sharpe_after_costs, significance
    from assay.validation.volatility import calibration_slope, qlike_vs_champion, var_coverage

_LATER = {
    "Backtest": "assay.validation.backtest",
    "Costs": "assay.validation.backtest",
    "Market": "assay.validation.backtest",
    "alpha_evidence": "assay.validation.kinds",
    "calibration_slope": "assay.validation.volatility",
    "ic": "assay.validation.information",
    "label_shuffle": "assay.validation.backtest",
    "onnx_parity": "assay.validation.artefacts",
    "path_evidence": "assay.validation.robustness",
    "qlike_vs_champion": "assay.validation.volatility",
    "rank_ic": "assay.validation.information",
    "risk_evidence": "assay.validation.kinds",
    "schema": "assay.validation.artefacts",
    "sharpe_after_costs": "assay.validation.sharpe",
    "signature": "assay.validation.artefacts",
    "significance": "assay.validation.sharpe",
    "simulate": "assay.validation.backtest",
    "training_set_rebuilt": "assay.validation.artefacts",
    "var_coverage": "assay.validation.volatility",
}

__all__ = [
    "KNOWN_EVIDENCE",
    "Backtest",
    "Costs",
    "Market",
    "alpha_evidence",
    "calibration_slope",
    "ic",
    "label_shuffle",
    "onnx_parity",
    "path_evidence",
    "qlike_vs_champion",
    "rank_ic",
    "risk_evidence",
    "schema",
    "sharpe_after_costs",
    "signature",
    "significance",
    "simulate",
    "training_set_rebuilt",
    "var_coverage",
]


def __getattr__(name: str) -> Any:
    # The statistics cost half a second of imports, and a rollback does not wait for them.
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
