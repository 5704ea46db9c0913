"""A generated desk: a known volatility, a known driver of it, and noise."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assay.training import (
    Boosting,
    LabelDeclaration,
    Recipe,
    RiseProbability,
    VarianceCorrection,
    WalkForward,
)

DAY = 86_400 * 10**9
HOUR = DAY // 24
FEATURES = ("ewm_vol", "driver", "noise_1", "noise_2")
SMALL = Boosting(rounds=25, depth=3, learning_rate=0.15, min_child_weight=10.0, bins=32)


def make_frame(days: int = 120, instruments: int = 5, *, label: str, seed: int = 7) -> pl.DataFrame:
    """Returns with volatility ewm_vol * exp(0.6 tanh(driver)) and drift from the driver."""
    rng = np.random.default_rng(seed)
    rows = days * instruments
    day = np.repeat(np.arange(days), instruments)
    ewm_vol = np.exp(0.5 * rng.standard_normal(rows) - 5.0)
    driver, noise_1, noise_2 = rng.standard_normal((3, rows))
    volatility = ewm_vol * np.exp(0.6 * np.tanh(driver))
    returns = volatility * (rng.standard_normal(rows) + 0.8 * np.tanh(driver))
    if label == "squared":
        returns -= volatility * 0.8 * np.tanh(driver)
    fix = day * DAY + 14 * HOUR
    start = fix if label == "squared" else fix + DAY
    return pl.DataFrame(
        {
            "instrument": [f"I{number}" for _ in range(days) for number in range(instruments)],
            "as_of": fix + 2 * HOUR,
            "event_time": fix,
            "ewm_vol": ewm_vol,
            "driver": driver,
            "noise_1": noise_1,
            "noise_2": noise_2,
            "label": returns**2 if label == "squared" else returns,
            "label_start": start,
            "label_end": start + DAY,
            "label_known": start + DAY + 2 * HOUR,
        }
    )


@pytest.fixture(scope="session")
def vol_recipe() -> Recipe:
    return Recipe(
        name="vol",
        kind="risk_model",
        view="daily",
        label=LabelDeclaration("squared_log_return"),
        estimator=VarianceCorrection("ewm_vol", SMALL),
        description="A test.",
        walk_forward=WalkForward(folds=3, initial_share=0.4),
    )


@pytest.fixture(scope="session")
def direction_recipe() -> Recipe:
    return Recipe(
        name="direction",
        kind="alpha_weights",
        view="daily",
        label=LabelDeclaration("log_return", entry=1),
        estimator=RiseProbability(SMALL),
        description="A test.",
        seeds=(1, 2, 3),
        walk_forward=WalkForward(folds=3, initial_share=0.4),
    )


@pytest.fixture(scope="session")
def vol_frame() -> pl.DataFrame:
    return make_frame(label="squared")


@pytest.fixture(scope="session")
def direction_frame() -> pl.DataFrame:
    return make_frame(label="signed")


@pytest.fixture(scope="session")
def long_vol_frame() -> pl.DataFrame:
    return make_frame(400, 10, label="squared")


@pytest.fixture(scope="session")
def long_direction_frame() -> pl.DataFrame:
    return make_frame(400, 10, label="signed")
