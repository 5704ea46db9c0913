"""Batches as Arrow streams: what Arrow's own library writes is read, and nothing else is."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.serving.formats.arrow import read_stream
from assay.serving.rejections import Rejected

ARROW = "application/vnd.apache.arrow.stream"
BATCH = "/inference/batch"
COLUMNS = ("ret_1", "vol_5", "vol_20")
ROWS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def stream(frame: pl.DataFrame, **options: Any) -> bytes:
    data = io.BytesIO()
    frame.write_ipc_stream(data, **options)
    return data.getvalue()


def frame(order: tuple[str, ...] = COLUMNS, kind: Any = pl.Float64) -> pl.DataFrame:
    whole = pl.DataFrame(ROWS, schema=list(COLUMNS), orient="row")
    return whole.select(pl.col(name).cast(kind) for name in order)


@pytest.mark.parametrize("kind", [pl.Float64, pl.Float32])
def test_columns_are_read_by_name_and_answered_as_a_stream(stage: Any, kind: Any) -> None:
    body = stream(frame(("vol_20", "ret_1", "vol_5"), kind))
    answer = stage.ask("POST", BATCH, body, kind=ARROW)
    assert (answer.status, answer.headers["content-type"]) == (200, ARROW)
    assert answer.headers["x-assay-model"] == "fx_vol"
    assert answer.headers["x-assay-model-version"] == "v1.0.0"
    found = pl.read_ipc_stream(io.BytesIO(answer.body))
    assert found.to_dict(as_series=False) == {"prediction": [321.0, 654.0]}


def test_what_pyarrow_writes_in_several_batches_is_read(stage: Any) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(dict(zip(COLUMNS, ROWS.T, strict=True)))
    data = io.BytesIO()
    with pyarrow.ipc.new_stream(data, table.schema) as writer:
        for batch in (table, table.slice(1), table.slice(0, 0), table):
            writer.write_table(batch)
    answer = stage.ask("POST", BATCH, data.getvalue(), kind=ARROW)
    with pyarrow.ipc.open_stream(answer.body) as reader:
        found = reader.read_all()["prediction"].to_pylist()
    assert found == [321.0, 654.0, 654.0, 321.0, 654.0]


def test_a_null_is_a_missing_value_wherever_it_stands() -> None:
    given = pl.DataFrame({"a": [1.0, None] * 9, "b": [None, *range(17)]}, strict=False)
    read = read_stream(stream(given.cast(pl.Float64)), ("b", "a"), 100)
    expected = given.select("b", "a").to_numpy().astype(float)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "invalid-arrow"),
        (b"{}", "invalid-arrow"),
        (stream(frame())[:-40], "invalid-arrow"),
        (stream(frame()) + b"more", "invalid-arrow"),
        (stream(frame(), compression="zstd"), "invalid-arrow"),
        (stream(frame(kind=pl.Int64)), "feature-type"),
        (stream(frame(kind=pl.String)), "feature-type"),
        (stream(frame().with_columns(pl.col("ret_1").cast(pl.String).cast(pl.Categorical))),
         "feature-type"),
        (stream(frame(("ret_1", "vol_5"))), "feature-names"),
        (stream(frame().rename({"vol_5": "vol_6"})), "feature-names"),
        (stream(frame().clear()), "feature-count"),
        (stream(frame().with_columns(vol_5=pl.lit(None, pl.Float64))), "feature-value"),
    ],
)  # fmt: skip
def test_what_is_no_stream_of_the_models_columns_is_refused(
    stage: Any, body: bytes, slug: str
) -> None:
    answer = stage.ask("POST", BATCH, body, kind=ARROW)
    assert 400 <= answer.status < 500
    assert answer.json()["type"] == f"urn:assay:problem:{slug}", answer.json()


def test_more_rows_than_are_taken_are_refused_before_they_are_read() -> None:
    with pytest.raises(Rejected, match="expected 1 to 3"):
        read_stream(stream(pl.concat([frame()] * 2)), COLUMNS, 3)


def test_thousands_of_empty_batches_are_not_gone_through() -> None:
    empty = stream(frame().clear())
    start = len(empty) - 8  # the end of the stream is a mark of 8 bytes
    with pytest.raises(Rejected, match="record batches"):
        read_stream(empty[:start] + empty_batch() * 300, COLUMNS, 100)


def empty_batch() -> bytes:
    """The bytes of one record batch without rows, alone."""
    pyarrow = pytest.importorskip("pyarrow")
    schema = pyarrow.schema([(name, pyarrow.float64()) for name in COLUMNS])
    return bytes(pyarrow.record_batch([[]] * 3, schema=schema).serialize())


@pytest.mark.parametrize("trials", [1_500, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_damaged_stream_is_read_or_refused_and_nothing_else(trials: int) -> None:
    good = stream(pl.concat([frame()] * 5))
    generator = random.Random(0)
    refused = 0
    for _ in range(trials):
        data = bytearray(good)
        for _ in range(generator.choice((1, 1, 2, 8))):
            place = generator.randrange(len(data))
            data[place] = generator.choice((0, 1, 127, 128, 255, generator.randrange(256)))
        if generator.random() < 0.2:
            del data[generator.randrange(len(data)) :]
        try:
            assert read_stream(bytes(data), COLUMNS, 100).shape[1] == 3
        except Rejected:
            refused += 1
    assert refused > trials / 4


def test_the_other_prediction_routes_take_json_only(stage: Any) -> None:
    for path in ("/predict", "/inference/predict", "/model/reload"):
        assert stage.ask("POST", path, stream(frame()), kind=ARROW).status == 415
