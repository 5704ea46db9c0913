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
"""

from assay.validation.artefacts import onnx_parity, schema, signature, training_set_rebuilt
from assay.validation.backtest import Backtest, Costs, Market, label_shuffle, simulate
from assay.validation.information import ic, rank_ic
from assay.validation.kinds import alpha_evidence, risk_evidence
from assay.validation.known import KNOWN_EVIDENCE
from assay.validation.robustness import path_evidence
from assay.validation.sharpe import sharpe_after_costs, significance
from assay.validation.volatility import calibration_slope, qlike_vs_champion, var_coverage

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
