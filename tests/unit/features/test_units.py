"""Units follow from those of the columns, and what makes no sense in them is refused."""

from __future__ import annotations

import pickle

import pytest

from assay.errors import DefinitionError
from assay.features import (
    FeatureView,
    Manifest,
    Sessions,
    TimeWindow,
    col,
    day_number,
    day_of_week,
    where,
)
from assay.features.definition.units import Unit

MID, VOLUME, OTHER = col("mid"), col("volume"), col("other")
UNITS = {"mid": "USD/EUR", "volume": "EUR"}


def units(**features):
    view = FeatureView(
        "v", "s", "e", {"m": MID, "n": VOLUME, "o": OTHER, **features}, Sessions(1), units=UNITS
    )
    return [view.feature_units[name] for name in features]


@pytest.mark.parametrize(
    ("expression", "unit"),
    [
        (MID, "USD/EUR"),
        (OTHER, None),
        (MID * VOLUME, "USD"),
        (VOLUME / MID, "EUR**2/USD"),
        (1 / MID, "EUR/USD"),
        (MID * 10_000 + 1.5, "USD/EUR"),
        (MID.simple_return(1), "1"),
        (MID.log_return(1).rolling_std(5).log(), "1"),
        (MID / MID.rolling_mean(5), "1"),
        (MID - MID.rolling_median(TimeWindow(9, 9)), "USD/EUR"),
        (MID.rolling_var(5), "USD**2/EUR**2"),
        (MID.rolling_var(5).sqrt(), "USD/EUR"),
        (MID**2, "USD**2/EUR**2"),
        (VOLUME**0.5, "EUR**(1/2)"),
        (MID.rolling_cov(VOLUME, 5), "USD"),
        (MID.rolling_beta(VOLUME, 5), "USD/EUR**2"),
        (MID.rolling_corr(VOLUME, 5), "1"),
        (VOLUME.rolling_slope(5), "EUR/rows"),
        (MID.rolling_count(5), "rows"),
        ((MID > 1.1).time_since(5), "s"),
        (where(MID > 1.0, VOLUME, 0.0), "EUR"),
        (VOLUME.clip(0, 9).fill_missing(0), "EUR"),
        (MID + OTHER, "USD/EUR"),
        (MID * OTHER, None),
        (MID / OTHER, None),
        (day_of_week(), "1"),
        (day_number(), "days"),
        (MID.cs_rank(), "1"),
        (MID.ewm_mean(span=3, horizon=9), "USD/EUR"),
    ],
)
def test_the_unit_of_a_feature_follows_from_its_columns(expression, unit):
    assert units(f=expression) == [unit]


@pytest.mark.parametrize(
    ("expression", "words", "hint"),
    [
        (MID * MID, "USD/EUR times USD/EUR", "simple_return"),
        (MID * MID.lag(1), "USD/EUR times USD/EUR", "x**2"),
        (MID + VOLUME, "add of USD/EUR and EUR", "one unit"),
        (MID > VOLUME, "lt of EUR and USD/EUR", "one unit"),
        (where(MID > 1, MID, VOLUME), "where of USD/EUR and EUR", "one unit"),
        (MID.log(), "log of USD/EUR", "log_return"),
        ((MID * 2).exp(), "exp of USD/EUR", "divide"),
        (MID.rolling_var(5) - MID, r"sub of USD\*\*2/EUR\*\*2 and USD/EUR", "one unit"),
        (MID.rolling_count(5) + MID.simple_return(1), "add of rows and 1", "one unit"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_way_out(expression, words, hint):
    with pytest.raises(DefinitionError, match=f"view v: feature f: .*{words}") as refused:
        units(f=expression)
    assert hint in str(refused.value.hint)


@pytest.mark.parametrize("text", ["", "USD EUR/", "*USD", "USD**", "2", "USD//EUR", "USD^2"])
def test_a_unit_that_cannot_be_read_is_named(text):
    with pytest.raises(DefinitionError, match="expected names joined"):
        Unit.parse(text)


def test_a_unit_reads_as_it_is_written():
    for text in ("1", "USD", "USD/EUR", "price**2", "1/s", "USD*lots/EUR**2"):
        assert str(Unit.parse(text)) == text
    assert Unit.parse("USD*EUR/EUR") == Unit.parse("USD")


def test_a_view_without_units_is_not_judged():
    view = FeatureView("v", "s", "e", {"f": MID.log() + MID.rolling_count(3)}, Sessions(1))
    assert view.feature_units == {"f": None}


def test_units_change_no_manifest_travel_along_and_belong_to_columns_that_are_read():
    plain = FeatureView("v", "s", "e", {"f": MID.diff()}, Sessions(1))
    told = FeatureView("v", "s", "e", {"f": MID.diff()}, Sessions(1), units={"mid": "USD/EUR"})
    assert Manifest.of(plain).hash == Manifest.of(told).hash
    assert pickle.loads(pickle.dumps(told)).feature_units == {"f": "USD/EUR"}
    with pytest.raises(DefinitionError, match="column 'mdi'") as refused:
        FeatureView("v", "s", "e", {"f": MID.diff()}, Sessions(1), units={"mdi": "USD"})
    assert "mid" in str(refused.value.hint)
