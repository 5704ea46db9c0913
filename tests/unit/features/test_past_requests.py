"""A training set of past requests holds what each brought, what was known then, and rebuilds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest

from assay.domain.canonical import content_hash
from assay.errors import ContractViolation, LookAhead, Tampered
from assay.features import Duration, FeatureView, Manifest, OfflineDriver, RequestView, col
from assay.features.offline.labels import ForwardReturn, PriceTable
from assay.features.offline.past_requests import PastRequests
from assay.features.offline.point_in_time import FeatureTable, TimeToLive
from assay.features.offline.training_sets import Spine, get_training_set, rebuild
from assay.lake import Lake
from assay.testing.clocks import FixedClock

STEP, DELAY, SESSIONS = 1_000, 100, 12
END = SESSIONS * STEP
MID = col("mid")
VIEW = FeatureView(
    "daily", "market", "instrument", {"level": MID, "ret_1": MID.simple_return(1)},
    Duration(3 * STEP),
)  # fmt: skip
ORDER = RequestView(
    "order",
    (VIEW,),
    ("order_size",),
    {"cost": col("order_size") * col("level"), "size": col("order_size") + 0.0},
)
TABLE = "silver/requests_order"
ASKED = [("A", 2_050, 4.0), ("A", 2_100, 5.0), ("B", 50, 6.0), ("A", 9_999, 7.0), ("B", 7_500, 8.0)]


def asked(rows: list[tuple[str | None, int | None, float | None]]) -> pl.DataFrame:
    schema = {"instrument": pl.String, "as_of": pl.Int64, "order_size": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "data", FixedClock(0))


@pytest.fixture
def market(lake: Lake) -> PriceTable:
    rows = [
        (name, n * STEP, n * STEP + DELAY, 0, n, 100.0 + n)
        for name, last in (("A", SESSIONS), ("B", 4))
        for n in range(last)
    ]
    names = ("instrument", "event_time", "known_time", "source_rank", "sequence", "mid")
    frame = pl.DataFrame(rows, schema=names, orient="row")
    return PriceTable("silver/market", frame, lake.table("silver/market").commit(frame).id)


@pytest.fixture
def gold(lake: Lake, market: PriceTable) -> FeatureTable:
    frame = OfflineDriver(VIEW).run(market.frame)
    return FeatureTable(
        "gold/daily", frame, VIEW.feature_names, lake.table("gold/daily").commit(frame).id,
        Manifest.of(VIEW).hash, ttl=TimeToLive(nanos=3 * STEP),
    )  # fmt: skip


@pytest.fixture
def past(lake: Lake) -> PastRequests:
    frame = asked(ASKED)
    return PastRequests(TABLE, frame, ORDER.inputs, lake.table(TABLE).commit(frame).id)


def test_each_past_request_is_a_row_with_what_it_brought_and_what_was_known(
    past: PastRequests, gold: FeatureTable, market: PriceTable
) -> None:
    made = get_training_set(
        Spine.of_requests(past),
        [gold],
        ForwardReturn(1),
        request=ORDER,
        prices=market,
        known_at=END,
    )
    assert made.features == ("level", "ret_1", "cost", "size")
    rows = made.frame.select("instrument", "as_of", "order_size", "level", "cost", "size").rows()
    assert rows == [
        ("B", 50, 6.0, None, None, None),  # nothing was known yet: it would be refused now
        ("A", 2_050, 4.0, 101.0, 404.0, 4.0),
        ("A", 2_100, 5.0, 102.0, 510.0, 5.0),  # known at this very moment
        ("B", 7_500, 8.0, None, None, None),  # the last row had gone stale
        ("A", 9_999, 7.0, 109.0, 763.0, 7.0),
    ]
    assert made.frame["stale.daily"].to_list() == [False, False, False, True, False]
    late = made.frame.filter(as_of=9_999)
    assert late["label_start"].item() == 10 * STEP
    assert late["label"].item() == pytest.approx(math.log(111 / 110))
    assert made.snapshots[TABLE] == past.snapshot_id
    assert made.manifest_hash == content_hash(sorted([gold.manifest_hash, ORDER.manifest_hash]))


def test_requests_from_the_cut_off_on_are_left_out_or_refused(
    past: PastRequests, gold: FeatureTable
) -> None:
    early = Spine.of_requests(past, end=9_999)
    made = get_training_set(early, [gold], request=ORDER, known_at=9_998)
    assert made.rows == len(ASKED) - 1
    with pytest.raises(LookAhead):
        get_training_set(Spine.of_requests(past), [gold], request=ORDER, known_at=9_998)


def test_the_set_is_rebuilt_bit_for_bit_by_the_same_request_view_only(
    lake: Lake, past: PastRequests, gold: FeatureTable, market: PriceTable, tmp_path: Path
) -> None:
    made = get_training_set(
        Spine.of_requests(past, end=END), [gold], ForwardReturn(1), request=ORDER, prices=market,
        known_at=END,
    )  # fmt: skip
    path = made.save(tmp_path / "set")
    lake.table(TABLE).commit(past.frame.head(1))  # the lake moves on
    assert rebuild(path, lake, request=ORDER).description() == json.loads(path.read_bytes())
    other = RequestView("order", (VIEW,), ORDER.inputs, {**ORDER.features, "size": col("level")})
    for wrong in (None, other):
        with pytest.raises(ContractViolation, match="has a request view of manifest"):
            rebuild(path, lake, request=wrong)
    without = get_training_set(Spine.of_requests(past), [gold], known_at=END).description()
    with pytest.raises(ContractViolation, match="manifest None"):
        rebuild(without, lake, request=ORDER)
    del without["query"]["request"]  # as descriptions were before there were request views
    assert rebuild(without, lake).digest == without["digest"]
    for file in (lake.root / TABLE / "files").iterdir():
        file.write_bytes(b"x")
    with pytest.raises(Tampered):
        rebuild(path, lake, request=ORDER)


def test_a_request_view_over_another_state_of_its_view_is_refused(
    past: PastRequests, gold: FeatureTable
) -> None:
    other = FeatureView(
        "daily", "market", "instrument", {"level": MID + 1.0, "ret_1": MID}, Duration(3 * STEP)
    )
    view = RequestView("order", (other,), ORDER.inputs, dict(ORDER.features))
    with pytest.raises(ContractViolation, match="reads view daily of manifest"):
        get_training_set(Spine.of_requests(past), [gold], request=view, known_at=END)


def test_a_spine_without_the_inputs_is_refused(gold: FeatureTable) -> None:
    spine = Spine.of(asked(ASKED).drop("order_size"))
    with pytest.raises(ContractViolation, match="order_size is not there, an input"):
        get_training_set(spine, [gold], request=ORDER, known_at=END)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (asked(ASKED).drop("as_of"), "no column 'as_of'"),
        (asked(ASKED).drop("order_size"), "no column 'order_size'"),
        (asked(ASKED).with_columns(order_size=pl.lit("4")), "order_size is String"),
        (asked([("A", 1, None)]), "order_size is None in row 0"),
        (asked([("A", 1, 1.0), ("A", 2, math.nan)]), "order_size is nan in row 1"),
        (asked([("A", 1, -math.inf)]), "order_size is -inf in row 0"),
        (asked([(None, 1, 1.0)]), "instrument is None"),
        (asked([("A", None, 1.0)]), "as_of is None"),
        (asked([("A", 1, 1.0), ("A", 1, 2.0)]), "A was asked about more than once at 1970"),
    ],
)
def test_what_would_be_refused_when_served_is_no_past_request(
    frame: pl.DataFrame, words: str
) -> None:
    with pytest.raises(ContractViolation, match=words):
        PastRequests(TABLE, frame, ORDER.inputs, "x")
