from __future__ import annotations

import numpy as np
import polars as pl

from assay.orchestration.evidence import one_date_per_session
from assay.validation import alpha_evidence

HOUR = 3_600_000_000_000
DAY = 24 * HOUR


def test_a_rate_that_arrives_late_makes_no_date_of_its_own() -> None:
    generator = np.random.default_rng(4)
    rows = [
        {
            "instrument": f"USD_{name}",
            "as_of": day * DAY + 16 * HOUR,
            "label_start": (day + 1) * DAY + 14 * HOUR,
            "prediction": float(generator.random()),
            "label": float(generator.normal(0, 0.01)),
        }
        for day in range(40)
        for name in "ABCDEFG"
    ]
    punctual = pl.DataFrame(rows).with_columns(next_return="label")
    late = punctual.with_columns(
        as_of=pl.col("as_of") + pl.when(pl.col("instrument") == "USD_C").then(HOUR).otherwise(0)
    )

    def measured(table: pl.DataFrame) -> list[tuple[str, float | None, int]]:
        evidence = alpha_evidence(
            one_date_per_session(table).drop("label_start"), generator=np.random.default_rng(0)
        )
        return [(item.name, item.value, item.sample_size) for item in evidence]

    assert one_date_per_session(punctual).equals(punctual)
    assert measured(late) == measured(punctual)
    assert [size for _, _, size in measured(late)] == [40] * 4


def test_an_instrument_counts_once_in_a_session_however_often_it_was_asked_about() -> None:
    rows = [("A", 1, 9, 0.1), ("A", 3, 9, 0.3), ("B", 2, 9, 0.2), ("A", 11, 19, 0.4)]
    table = pl.DataFrame(
        rows, schema=["instrument", "as_of", "label_start", "prediction"], orient="row"
    )
    assert one_date_per_session(table).rows() == [
        ("A", 3, 9, 0.3), ("B", 3, 9, 0.2), ("A", 11, 19, 0.4)
    ]  # fmt: skip
