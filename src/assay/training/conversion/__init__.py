"""Fitted models of other libraries as one ONNX file each, exact where it matters.

1. A library's own format is read into one value, a :class:`TreeModel`
   (:mod:`~assay.training.conversion.xgboost_models`,
   :mod:`~assay.training.conversion.lightgbm_models`,
   :mod:`~assay.training.conversion.sklearn_models`); what has no exact counterpart is refused.
2. The value is written as ONNX in the library's own type
   (:mod:`~assay.training.conversion.graph`).
3. scikit-learn's other estimators are converted by skl2onnx, in float64 where it can run so;
   networks by their own libraries (:mod:`~assay.training.conversion.network_models`).
4. :func:`convert` chooses; :func:`assay.training.onnx_checks.check_parity` then compares both on
   real rows, at every split threshold and at the edges of float32.
"""

from assay.training.conversion.convert import (
    Conversion,
    NativeModel,
    convert,
    import_lightgbm,
    read_native,
)
from assay.training.conversion.tree_model import Link, TreeModel

__all__ = [
    "Conversion",
    "Link",
    "NativeModel",
    "TreeModel",
    "convert",
    "import_lightgbm",
    "read_native",
]
