"""Fixtures for a suite of one's own: does a view, or code over data frames, know the future?

Add ``pytest_plugins = ["assay.testing.look_ahead"]`` to ``conftest.py``, and write::

    def test_my_features_do_not_know_the_future(assert_no_look_ahead, prices):
        assert_no_look_ahead(my_features, prices, entity="symbol", look_back=20)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import polars as pl
import pytest

from assay.features import FeatureView, LookAheadReport, OfflineDriver, detect_look_ahead
from assay.features.parity.look_ahead import Compute


class AssertNoLookAhead(Protocol):
    """What the fixture gives: fails the test where a value knew the future."""

    def __call__(
        self,
        features: FeatureView | Compute,
        rows: pl.DataFrame,
        *,
        beside: Mapping[str, pl.DataFrame] | None = None,
        entity: str | None = None,
        look_back: int | None = None,
        cuts: int = 10,
        seed: int = 0,
    ) -> LookAheadReport: ...


@pytest.fixture
def assert_no_look_ahead() -> AssertNoLookAhead:
    """:func:`assay.features.detect_look_ahead` as an assertion.

    Takes a view (its entity and look-back are then the view's own) or a function from rows to
    features; says which feature changed, at which moment, and from what to what.
    """

    def check(
        features: FeatureView | Compute,
        rows: pl.DataFrame,
        *,
        beside: Mapping[str, pl.DataFrame] | None = None,
        entity: str | None = None,
        look_back: int | None = None,
        cuts: int = 10,
        seed: int = 0,
    ) -> LookAheadReport:
        compute: Compute
        if isinstance(features, FeatureView):
            compute, entity = OfflineDriver(features).run, features.entity
            look_back = features.remembered if look_back is None else look_back
        else:
            compute = features
        report = detect_look_ahead(
            compute, rows, beside=beside, entity=entity or "entity", look_back=look_back,
            cuts=cuts, seed=seed,
        )  # fmt: skip
        if not report.holds:
            lines = ("values know what was not there yet:", *report.explain())
            pytest.fail("\n  ".join(lines), pytrace=False)
        return report

    return check
