"""Models from training sets, without looking ahead.

1. A desk declares a :class:`Recipe`: inputs, label, estimator, seeds, walk-forward
   (:mod:`~assay.training.recipe`; :func:`load_recipes` reads them from its files).
2. The training set, a frame from the point-in-time join, is checked and its usable rows taken
   (:mod:`~assay.training.dataset`).
3. Rows are cut into folds by date, purged on label intervals, embargoed
   (:mod:`~assay.training.splits`; :mod:`~assay.training.splitter` offers the same to scikit-learn).
4. Each fold fits a model and predicts the block it has not seen; the final model is fitted on
   everything known (:mod:`~assay.training.fitting`). The learner is XGBoost
   (:mod:`~assay.training.estimators`, :mod:`~assay.training.trees`), LightGBM
   (:mod:`~assay.training.lightgbm_ensemble`) or a scikit-learn estimator
   (:mod:`~assay.training.sklearn_ensemble`), as :mod:`~assay.training.learners` declares it;
   probabilities can be calibrated (:mod:`~assay.training.calibration`).
5. The final model becomes one self-contained ONNX file (:mod:`~assay.training.onnx_export`), which
   is compared with the native model on real rows and at every split threshold, and timed
   (:mod:`~assay.training.onnx_checks`). Models that were fitted elsewhere become one by
   :mod:`~assay.training.conversion`.
6. :func:`train` does 2 to 5 and returns a frozen :class:`TrainingResult`
   (:mod:`~assay.training.run`).
7. :func:`train_on_shuffled_labels` sees that nothing is learnt where there is nothing to learn
   (:mod:`~assay.training.label_shuffle`).
8. :func:`ablate` trains again without each group of features, :func:`permutation_importance` asks
   what each one is worth (:mod:`~assay.training.ablation`).
"""

from assay.training.ablation import (
    Ablation,
    ablate,
    importance_consistency,
    permutation_importance,
)
from assay.training.label_shuffle import ShuffledLabels, train_on_shuffled_labels
from assay.training.learners import (
    Boosting,
    Calibration,
    EarlyStopping,
    LightGBM,
    SklearnEstimator,
)
from assay.training.recipe import (
    Baseline,
    Estimator,
    LabelDeclaration,
    Recipe,
    Regression,
    RiseProbability,
    VarianceCorrection,
    load_recipes,
)
from assay.training.run import TrainingResult, train, train_baseline
from assay.training.splits import (
    CombinatorialPurged,
    RowTimes,
    Split,
    WalkForward,
    assemble_paths,
    combinatorial_purged,
    purged_k_fold,
    walk_forward,
)
from assay.training.splitter import Splitter

__all__ = [
    "Ablation",
    "Baseline",
    "Boosting",
    "Calibration",
    "CombinatorialPurged",
    "EarlyStopping",
    "Estimator",
    "LabelDeclaration",
    "LightGBM",
    "Recipe",
    "Regression",
    "RiseProbability",
    "RowTimes",
    "ShuffledLabels",
    "SklearnEstimator",
    "Split",
    "Splitter",
    "TrainingResult",
    "VarianceCorrection",
    "WalkForward",
    "ablate",
    "assemble_paths",
    "combinatorial_purged",
    "importance_consistency",
    "load_recipes",
    "permutation_importance",
    "purged_k_fold",
    "train",
    "train_baseline",
    "train_on_shuffled_labels",
    "walk_forward",
]
