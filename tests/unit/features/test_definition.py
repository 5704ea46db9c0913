"""Definitions say what they mean, and what they cannot mean is refused with a way out."""

from __future__ import annotations

import pickle

import pytest

from assay.errors import ContractViolation, DefinitionError
from assay.features import (
    OPERATORS,
    Duration,
    Expression,
    FeatureView,
    Sessions,
    SessionWindow,
    StepFunction,
    TimeWindow,
    col,
    day_of_week,
    half_day,
    in_session,
    lit,
    since_open,
    until_close,
    where,
)
from assay.features.definition.opcodes import Opcode

MID = col("mid")


def view(**changes: object) -> FeatureView:
    arguments: dict = {
        "name": "fx",
        "source": "market",
        "entity": "instrument",
        "features": {"ret_1": MID.simple_return(1)},
        "ttl": Sessions(3),
    }
    return FeatureView(**(arguments | changes))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda: MID.lag(-1), "future"),
        (lambda: MID.diff(0), "expected 1"),
        (lambda: MID.rolling_mean(0), "window 0"),
        (lambda: MID.rolling_std(1), "window 1"),
        (lambda: MID.rolling_mean(200_000), "131,072"),
        (lambda: MID.rolling_mean(2.0), "whole number"),
        (lambda: MID.rolling_mean(True), "whole number"),
        (lambda: MID.rolling_mean(5, min_count=6), "min_count 6"),
        (lambda: MID.rolling_std(5, min_count=1), "min_count 1"),
        (lambda: MID.ewm_mean(horizon=10), "exactly one of"),
        (lambda: MID.ewm_mean(alpha=0.1, span=3, horizon=10), "exactly one of"),
        (lambda: MID.ewm_mean(alpha=1.5, horizon=10), "0 < alpha < 1"),
        (lambda: MID.ewm_mean(span=0.5, horizon=10), "0 < alpha < 1"),
        (lambda: MID.ewm_mean(halflife=-1, horizon=10), "0 < alpha < 1"),
        (MID.clip, "lower="),
        (lambda: MID.clip(2, 1), "lower <= upper"),
        (lambda: MID + "bid", "col('bid')"),
        (lambda: MID + float("nan"), "not finite"),
        (lambda: MID + True, "bool"),
        (lambda: col(""), "name of a column"),
        (lambda: 1 if MID > 1 else 0, "where(condition"),
        (lambda: 0 < MID < 1, "(a < x) & (x < b)"),
        (lambda: 2**MID, "(mid * 0.6931471805599453).exp()"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_written(write: object, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        write()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "FX daily"}, "lower-case"),
        ({"entity": "Instrument"}, "lower-case"),
        ({"features": {}}, "no features"),
        ({"features": {"event_time": MID}}, "key column"),
        ({"features": {"instrument": MID}}, "key column"),
        ({"features": {"Ret 1": MID}}, "lower-case"),
        ({"features": {"one": 1.0}}, "expected an expression"),
        ({"ttl": 3}, "Sessions(n)"),
        ({"timezone": "Europe/Berln"}, "IANA"),
        ({"features": {"r": MID.cs_rank().rolling_mean(5)}}, "over a cross-section"),
        ({"features": {"r": (MID.cs_rank() + 1).lag(1)}}, "then cs_rank"),
    ],
)
def test_a_view_that_cannot_work_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        view(**changes)
    assert words in str(caught.value)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_a_time_to_live_is_a_positive_whole_number(wrong: object) -> None:
    with pytest.raises(DefinitionError):
        Sessions(wrong)
    with pytest.raises(DefinitionError):
        Duration(wrong)
    assert Duration.of(hours=2).nanos == 7_200 * 10**9


def test_a_missing_column_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ContractViolation, match="no column 'mid'") as caught:
        view().check(
            ["instrument", "event_time", "known_time", "source_rank", "sequence", "mid_price"]
        )
    assert "mid_price" in str(caught.value)


def test_equal_expressions_have_one_identity_and_different_ones_differ() -> None:
    assert (MID + 1).identity == (col("mid") + 1.0).identity
    assert MID.rolling_mean(5, min_count=5).identity == MID.rolling_mean(5).identity
    different = [
        MID,
        col("ask"),
        MID + 1,
        1 + MID,
        MID - 1,
        MID.lag(1),
        MID.lag(2),
        MID.rolling_mean(5),
        MID.rolling_mean(5, min_count=3),
        MID.rolling_sum(5),
        where(MID > 1, MID, 0),
        where(MID > 1, 0, MID),
        lit(0.0),
        lit(-0.0),
    ]
    assert len({item.identity for item in different}) == len(different)


def test_an_expression_reads_as_it_was_written() -> None:
    assert repr(MID.simple_return(1).rolling_std(20) * 2) == (
        "mul(rolling_std(simple_return(mid, rows=1), window=20), 2.0)"
    )


def test_common_parts_are_computed_once() -> None:
    change = MID.simple_return(1)
    once = view(features={"a": change.rolling_std(20)})
    twice = view(
        features={"a": change.rolling_std(20), "b": col("mid").simple_return(1).rolling_std(20)}
    )
    assert len(twice.plan.first.nodes) == len(once.plan.first.nodes)
    assert len(twice.plan.first.outputs) == len(once.plan.first.outputs) + 1
    many = view(features={f"v_{n}": change.rolling_std(n) for n in range(2, 30)})
    assert sum(step.opcode is Opcode.PREFIX for step in many.plan.first.instructions) == 1


def test_look_back_adds_up_along_the_longest_path() -> None:
    deep = MID.lag(3).rolling_mean(10).simple_return(2)
    assert view(features={"a": deep, "b": MID.lag(4)}).look_back == 3 + 9 + 2
    assert view(features={"a": MID.ewm_mean(alpha=0.1, horizon=50)}).look_back == 49
    assert view(features={"a": MID + 1}).look_back == 0


def test_a_long_chain_of_operators_compiles() -> None:
    chain = MID
    for _ in range(5_000):
        chain = chain + 1
    assert view(features={"a": chain}).look_back == 0


def test_only_what_is_read_becomes_a_column() -> None:
    assert view(members="in_universe").columns == ("mid",)
    across = view(features={"r": MID.cs_rank(), "d": day_of_week()}, members="in_universe")
    assert across.columns == ("in_universe", "mid")
    assert across.has_barrier
    assert across.plan.calendar == ("day_of_week",)


def test_a_view_travels_to_another_process() -> None:
    across = view(features={"r": MID.cs_rank()}, members="in_universe")
    travelled = pickle.loads(pickle.dumps(across))
    assert travelled.plan == across.plan
    assert travelled.feature_names == across.feature_names


def test_every_operator_that_can_be_written_is_in_the_table_with_its_promises() -> None:
    x = MID
    written = [
        x + 1, x - 1, x * 2, x / 2, -x, x.abs(), x.sign(), x.sqrt(), x.log(), x.clip(0, 1),
        x < 1, x <= 1, x.eq(1), x.ne(1), (x > 1) & (x > 2), (x > 1) | (x > 2), ~(x > 1),
        where(x > 1, x, 0), x.is_valid(), x.fill_missing(0), x.lag(1), x.diff(), x.simple_return(),
        x.log_return(), x.rolling_sum(3), x.rolling_mean(3), x.rolling_std(3), x.rolling_var(3),
        x.rolling_min(3), x.rolling_max(3), x.rolling_count(3), x.zscore(3),
        x.ewm_mean(span=3, horizon=5), x.ewm_std(span=3, horizon=5),
        x.cs_rank(), x.cs_demean(), x.cs_zscore(), day_of_week(),
        x.of("A", within=Duration(1)),
        x.rolling_mean(TimeWindow.of(hours=1, max_rows=9)),
        x.rolling_mean(SessionWindow("XNYS", 1, max_rows=9)),
        x.exp(), x**3, x.ewm_mean(halflife=Duration(5), horizon=TimeWindow(50, 9)),
        StepFunction("def f(window):\n    return 1.0\n")(x, window=3),
        x.ewm_std(halflife=Duration(5), horizon=TimeWindow(50, 9)),
        x.rolling_median(3), x.rolling_quantile(9, 0.1), x.rolling_rank(5, percent=True),
        x.rolling_cov(MID.lag(1), 5), x.rolling_corr(MID.lag(1), 5), x.rolling_beta(MID.lag(1), 5),
        x.rolling_slope(5), x.rolling_skew(5), x.rolling_kurt(5),
        in_session("fx"), since_open("fx"), until_close("fx"), half_day("fx"),
        x.last_valid(3), (x > 1).rows_since(3), (x > 1).time_since(3),
    ]  # fmt: skip

    def names(expression: Expression) -> set[str]:
        return {expression.operator}.union(*map(names, expression.inputs))

    assert set().union(*map(names, written)) == set(OPERATORS)
    for operator in OPERATORS.values():
        assert operator.missing
        assert operator.unit
        assert operator.to_json()["numeric"] in {"exact", "bitwise", "tolerance"}
