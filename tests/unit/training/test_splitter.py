"""The schemes inside scikit-learn: real cross-validation, real searches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from assay.errors import ContractViolation, DefinitionError
from assay.training import (
    CombinatorialPurged,
    RowTimes,
    Splitter,
    WalkForward,
    assemble_paths,
    combinatorial_purged,
    purged_k_fold,
    walk_forward,
)
from assay.training.splits import NANOS_PER_DAY as DAY

ROWS = 120
SCHEMES = [
    WalkForward(folds=3),
    CombinatorialPurged(groups=5, tested=1, embargo_days=2),
    CombinatorialPurged(groups=6, tested=2),
]


def times(rows: int = ROWS, horizon: int = 3) -> RowTimes:
    days = np.arange(rows, dtype=np.int64) * DAY
    return RowTimes.of(days, days + 1, days + horizon * DAY, days + horizon * DAY + 1)


def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((ROWS, 3))
    return x, x @ np.array([1.0, -0.5, 0.0]) + 0.1 * generator.standard_normal(ROWS)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_splitter_gives_the_splits_of_its_scheme(scheme: object) -> None:
    splitter = Splitter(times(), scheme)
    found = list(splitter.split(*data()))
    expected = (
        walk_forward(times(), scheme)
        if isinstance(scheme, WalkForward)
        else combinatorial_purged(times(), scheme)
    )
    assert len(found) == splitter.get_n_splits() == len(expected)
    for (train, test), split in zip(found, expected, strict=True):
        assert train.tolist() == split.train_index.tolist()
        assert test.tolist() == split.test_index.tolist()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scikit_learn_validates_and_searches_with_it(scheme: object) -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = data()
    splitter = Splitter(times(), scheme)
    scores = model_selection.cross_val_score(linear.Ridge(), x, y, cv=splitter)
    by_hand = [
        linear.Ridge().fit(x[train], y[train]).score(x[test], y[test])
        for train, test in splitter.split(x)
    ]
    assert scores.tolist() == by_hand
    search = model_selection.GridSearchCV(linear.Ridge(), {"alpha": [0.1, 1e4]}, cv=splitter)
    assert search.fit(x, y).best_params_ == {"alpha": 0.1}
    train, _ = next(splitter.split(x))
    inner = model_selection.GridSearchCV(
        linear.Ridge(), {"alpha": [0.1, 1e4]}, cv=splitter.take(train)
    )
    assert inner.fit(x[train], y[train]).best_params_ == {"alpha": 0.1}


def test_a_k_fold_predicts_every_row_once() -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = data()
    splitter = Splitter(times(), CombinatorialPurged(groups=5, tested=1))
    predicted = model_selection.cross_val_predict(linear.Ridge(), x, y, cv=splitter)
    assert np.isfinite(predicted).all()
    folds = purged_k_fold(times(), 5)
    assert [one.train_index.tolist() for one in folds] == [
        train.tolist() for train, _ in splitter.split(x)
    ]


def test_the_splitter_travels_to_other_processes_and_refuses_other_rows() -> None:
    splitter = pickle.loads(pickle.dumps(Splitter(times(), SCHEMES[0])))
    assert splitter.get_n_splits() == 3
    with pytest.raises(ContractViolation, match="X has 7 rows") as refusal:
        list(splitter.split(np.zeros((7, 2))))
    assert "take" in (refusal.value.hint or "")


def test_schemes_and_predictions_that_do_not_fit_are_refused() -> None:
    for wrong in ((1, 1, 0), (4, 4, 0), (4, 0, 0), (4, 2, -1)):
        with pytest.raises(DefinitionError, match="combinatorial"):
            CombinatorialPurged(*wrong)
    scheme = CombinatorialPurged(4, 2)
    with pytest.raises(ContractViolation, match="3 dates"):
        combinatorial_purged(times(3), scheme)
    splits = combinatorial_purged(times(), scheme)
    with pytest.raises(ContractViolation, match="split 0 has 0 predictions"):
        assemble_paths(times(), scheme, splits, {})
