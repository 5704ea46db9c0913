"""From a table of predictions to evidence, and the checks of a version's files."""

import math

import numpy as np
import polars as pl
import pytest

from assay.domain.canonical import canonical_bytes
from assay.domain.evidence import Evidence
from assay.domain.versions import InputSchema
from assay.errors import ContractViolation
from assay.validation import (
    KNOWN_EVIDENCE,
    alpha_evidence,
    onnx_parity,
    risk_evidence,
    schema,
    signature,
    training_set_rebuilt,
)

DAY = 86_400 * 10**9


def frame(days=80, names=6, seed=1):
    generator = np.random.default_rng(seed)
    sigma = 0.01 * np.exp(0.3 * generator.standard_normal((days, names)))
    returns = sigma * generator.standard_normal((days, names))
    return pl.DataFrame(
        {
            "instrument": np.tile([f"C{i}_USD" for i in range(names)], days),
            "as_of": np.repeat(np.arange(days, dtype=np.int64) * DAY, names),
            "sigma": sigma.ravel(),
            "returns": returns.ravel(),
            "noise": generator.standard_normal(days * names),
        }
    )


def risk(**columns):
    return (
        frame()
        .select(
            "instrument",
            "as_of",
            label=pl.col("returns") ** 2,
            prediction="sigma",
            champion=pl.col("sigma") * (0.3 * pl.col("noise")).exp(),
            realised_return="returns",
        )
        .with_columns(**columns)
    )


def alpha(**columns):
    return (
        frame()
        .select(
            "instrument",
            "as_of",
            label="returns",
            prediction=1 / (1 + (-(pl.col("noise") + 60 * pl.col("returns"))).exp()),
            next_return="returns",
        )
        .with_columns(**columns)
    )


def alpha_of(table, seed=0, **options):
    return alpha_evidence(table, generator=np.random.default_rng(seed), **options)


def test_each_kind_gives_its_evidence_under_known_names():
    names = [piece.name for piece in risk_evidence(risk())]
    assert names == ["qlike_vs_champion", "var_coverage", "calibration_slope"]
    names = [piece.name for piece in alpha_of(alpha())]
    assert names == ["ic", "rank_ic", "sharpe_after_costs", "significance"]
    assert set(names) < set(KNOWN_EVIDENCE)


def test_every_record_has_a_value_a_convention_a_sample_and_a_canonical_form():
    for piece in [*risk_evidence(risk()), *alpha_of(alpha())]:
        assert piece.value is not None, piece
        assert math.isfinite(piece.value)
        assert piece.sample_size == 80
        assert len(piece.convention) > 40
        assert canonical_bytes(piece.to_json())
        assert Evidence.from_json(piece.to_json()) == piece


def test_the_order_of_rows_changes_no_bit():
    for evidence_of, table in ((risk_evidence, risk()), (alpha_of, alpha())):
        mixed = table.sample(fraction=1.0, shuffle=True, seed=3)
        assert evidence_of(mixed) == evidence_of(table)


def test_without_a_champion_only_the_comparison_is_undefined():
    comparison, coverage, slope = risk_evidence(risk().drop("champion"))
    assert comparison.value is None
    assert coverage.value is not None
    assert slope.value is not None


def test_without_the_next_return_there_is_no_backtest_but_an_ic():
    first, second, third, fourth = alpha_of(alpha().drop("next_return"))
    assert first.value is not None
    assert second.value is not None
    assert third.value is fourth.value is None
    assert "next_return" in third.details["undefined"]


def test_an_unsigned_table_gives_a_two_sided_var():
    signed = risk_evidence(risk())[1]
    unsigned = risk_evidence(risk().drop("realised_return"))[1]
    assert "lower-tail" in signed.convention
    assert "two-sided" in unsigned.convention


def test_integers_and_all_null_columns_are_poor_data_not_errors():
    for piece in risk_evidence(risk(prediction=pl.lit(None))):
        assert piece.value is None
    for piece in alpha_of(alpha(prediction=pl.lit(1))):
        assert piece.value is None
        assert piece.details["undefined"]


@pytest.mark.parametrize("evidence_of", [risk_evidence, alpha_of])
def test_an_empty_table_is_poor_data(evidence_of):
    for piece in evidence_of((risk() if evidence_of is risk_evidence else alpha()).clear()):
        assert piece.value is None
        assert piece.sample_size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("label"), "'label' is missing"),
        (lambda t: t.rename({"prediction": "predictions"}), "did you mean 'predictions'"),
        (lambda t: t.with_columns(pl.col("as_of").cast(pl.Float64)), "'as_of' is Float64"),
        (lambda t: t.with_columns(pl.from_epoch("as_of", time_unit="ns")), "expected Int64"),
        (lambda t: t.with_columns(pl.lit("x").alias("prediction")), "'prediction' is String"),
        (lambda t: t.with_columns(pl.lit(1).alias("instrument")), "'instrument' is Int32"),
        (lambda t: t.with_columns(pl.lit(None, pl.String).alias("instrument")), "nulls"),
        (lambda t: pl.concat([t, t.head(1)]), "two rows at as_of 0"),
    ],
)
def test_a_table_that_breaks_its_contract_is_refused(change, message):
    for evidence_of, table in ((risk_evidence, risk()), (alpha_of, alpha())):
        with pytest.raises(ContractViolation) as refusal:
            evidence_of(change(table))
        assert message in str(refusal.value)


def test_a_signed_return_that_is_not_of_the_labels_session_is_refused():
    shifted = risk(realised_return=pl.col("realised_return").shift(6))
    with pytest.raises(ContractViolation, match="same session"):
        risk_evidence(shifted)


def test_labels_of_several_sessions_need_signed_returns_and_longer_lags():
    week = risk(label=pl.col("label") * 1.5)
    _, coverage, slope = risk_evidence(week, horizon=12)
    assert coverage.details["lag"] == slope.details["lag"] == 11
    unsigned = risk_evidence(week.drop("realised_return"), horizon=12)[1]
    assert unsigned.value is None
    assert "signed returns are needed" in unsigned.details["undefined"]


def test_the_label_shuffle_uses_the_generator_it_is_given():
    def shuffles(seed):
        return alpha_of(alpha(), seed=seed)[2].details["label_shuffle"]

    assert shuffles(1) == shuffles(1)
    assert shuffles(1) != shuffles(2)


def test_onnx_parity_is_the_largest_difference_over_the_rows_compared():
    found = onnx_parity(largest_difference=3e-7, rows=1200)
    assert (found.value, found.sample_size) == (3e-7, 1200)


@pytest.mark.parametrize(
    ("difference", "rows"), [(math.nan, 10), (math.inf, 10), (-1.0, 10), (0.0, 0), (0.0, -1)]
)
def test_onnx_parity_without_a_comparison_is_no_evidence(difference, rows):
    assert onnx_parity(largest_difference=difference, rows=rows).value is None


@pytest.mark.parametrize(
    ("exported", "failed"),
    [
        (InputSchema(("b", "a")), {"crc_equal", "order_equal"}),
        (InputSchema(("a", "c")), {"crc_equal", "order_equal", "names_equal"}),
        (InputSchema(("a", "b"), "float64"), {"crc_equal", "dtype_equal"}),
        (InputSchema(("a", "b")), set()),
    ],
)
def test_the_schema_check_says_which_part_differs(exported, failed):
    found = schema(trained=InputSchema(("a", "b")), exported=exported)
    assert found.value == (0.0 if failed else 1.0)
    assert {key for key, value in found.details.items() if value is False} == failed


def test_only_true_is_a_valid_signature():
    assert signature(valid=True, signer="desk").value == 1.0
    assert signature(valid=False).value == 0.0
    assert signature(valid="yes").value == 0.0


def test_a_training_set_is_rebuilt_when_the_digests_are_equal():
    assert training_set_rebuilt(recorded="ab", rebuilt="ab", rows=5).value == 1.0
    assert training_set_rebuilt(recorded="ab", rebuilt="ac", rows=5).value == 0.0
    assert training_set_rebuilt(recorded="ab", rebuilt=None, rows=5).value is None
    assert training_set_rebuilt(recorded="", rebuilt="", rows=5).value is None
