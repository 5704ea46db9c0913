"""Past requests enter the lake once, whole, and unchanged; recipes find their request views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assay.errors import (
    ConfigurationError,
    Conflict,
    ContractViolation,
    DefinitionError,
    NotFound,
)
from assay.orchestration.desk import Desk, DeskLayout
from assay.orchestration.past_requests import (
    add_requests,
    past_requests,
    read_requests,
    request_view_of,
)
from assay.orchestration.stores import SqliteStores
from assay.testing.clocks import FixedClock
from assay.training import Baseline, LabelDeclaration, Recipe

VIEWS = """
from assay.features import Duration, FeatureView, RequestView, col

def view(name):
    return FeatureView(name, "market", "instrument", {name + "_mid": col("mid")}, Duration(1))

daily, hourly = view("daily"), view("hourly")
order = RequestView("order", (daily,), ("size",), {"risk": col("size") * col("daily_mid")})
gap = {"gap": col("daily_mid") - col("hourly_mid")}
both = RequestView("both", (daily, hourly), ("size",), gap)
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "features").mkdir()
    (tmp_path / "features/views.py").write_text(VIEWS)
    paths = dict.fromkeys(
        (
            "root",
            "lake",
            "sources",
            "recipes",
            "runs",
            "registry",
            "audit",
            "policy",
            "promotions",
            "serving_record",
            "active_manifests",
            "changelog",
        ),
        tmp_path,
    )
    layout = DeskLayout(
        **paths, name="test", features=tmp_path / "features", threads=1, workers=1,
        approval_nanos=1, namespace="test",
    )  # fmt: skip
    keyring: Any = None  # nothing is signed here
    return Desk(layout, keyring, FixedClock(1_000), SqliteStores())


def asked(*rows: tuple[str, int, float]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={"instrument": pl.String, "as_of": pl.Int64, "size": pl.Float64},
        orient="row",
    )


def recipe(view: str, request: str) -> Recipe:
    return Recipe(
        name="vol", kind="risk_model", view=view, request=request, description="A test.",
        label=LabelDeclaration("squared_log_return"), estimator=Baseline("risk"),
    )  # fmt: skip


def test_requests_are_stored_once_in_the_order_of_their_moments(desk: Desk) -> None:
    first = add_requests(desk, "order", asked(("B", 20, 2.0), ("A", 10, 1.0)))
    again = add_requests(desk, "order", asked(("A", 10, 1.0)))
    more = add_requests(desk, "order", asked(("A", 15, 3.0), ("B", 20, 2.0)).with_columns(x=1))
    assert (first.rows, first.added) == (2, 2)
    assert (again.rows, again.added, again.snapshot) == (2, 0, first.snapshot)
    assert (more.rows, more.added) == (3, 1)
    past = past_requests(desk, desk.request_view("order"))
    assert (past.name, past.snapshot_id) == ("silver/requests_order", more.snapshot)
    assert past.frame.rows() == [("A", 10, 1.0), ("A", 15, 3.0), ("B", 20, 2.0)]


def test_whole_numbers_stand_for_floats(desk: Desk) -> None:
    frame = asked(("A", 10, 1.0)).with_columns(pl.col("size").cast(pl.Int64))
    assert add_requests(desk, "order", frame).added == 1


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        (asked(("A", 10, 2.0)), Conflict, "another request about A at 1970"),
        (asked(("A", 11, 2.0), ("A", 11, 3.0)), ContractViolation, "asked about more than once"),
        (asked(("A", 11, float("nan"))), ContractViolation, "size is nan in row 0"),
        (asked(("A", 11, 2.0)).drop("size"), ContractViolation, "no column 'size'"),
        (asked(("A", 11, 2.0), ("B", 1_001, 2.0)), ContractViolation, "B at .* has not come yet"),
    ],
)
def test_what_is_refused_changes_nothing(
    desk: Desk, more: pl.DataFrame, kind: type[Exception], words: str
) -> None:
    before = add_requests(desk, "order", asked(("A", 10, 1.0)))
    with pytest.raises(kind, match=words):
        add_requests(desk, "order", more)
    assert past_requests(desk, desk.request_view("order")).snapshot_id == before.snapshot


def test_a_request_view_is_told_from_a_name_that_nobody_has(desk: Desk) -> None:
    with pytest.raises(NotFound, match="'both' is a request view") as found:
        desk.view("both")
    assert found.value.hint == "the views that it reads: daily, hourly"
    with pytest.raises(NotFound, match="no view 'dayly'"):
        desk.view("dayly")


def test_other_inputs_need_another_name(desk: Desk) -> None:
    add_requests(desk, "order", asked(("A", 10, 1.0)))
    views = desk.layout.features / "views.py"
    views.write_text(VIEWS.replace('"size"', '"lots"'))
    changed = Desk(desk.layout, desk.keyring, desk.clock, desk.stores)
    with pytest.raises(Conflict, match="has columns instrument, as_of, size"):
        add_requests(changed, "order", asked(("A", 11, 1.0)).rename({"size": "lots"}))
    with pytest.raises(ContractViolation, match="no column 'lots'"):
        past_requests(changed, changed.request_view("order"))


def test_a_file_of_requests_may_say_its_moments_as_a_service_is_told_them(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("instrument,timestamp,size\nA,1970-01-01T00:00:01.000000002Z,5\n")
    assert read_requests(path)["as_of"].to_list() == [1_000_000_002]
    frame = asked(("A", 10, 1.0))
    frame.write_parquet(tmp_path / "orders.parquet")
    assert read_requests(tmp_path / "orders.parquet").equals(frame)
    path.write_text("instrument,timestamp,size\nA,1970-01-01T00:00:01,5\n")
    with pytest.raises(ContractViolation, match="1970-01-01T00:00:01"):
        read_requests(path)
    path.write_text("instrument,timestamp,size\nA,1,5\n")
    with pytest.raises(ContractViolation, match="timestamp is Int64"):
        read_requests(path)
    (tmp_path / "orders.parquet").write_bytes(b"x")
    with pytest.raises(ContractViolation, match="cannot be read"):
        read_requests(tmp_path / "orders.parquet")
    with pytest.raises(NotFound):
        read_requests(tmp_path / "none.csv")
    with pytest.raises(ConfigurationError, match="expected a file"):
        read_requests(tmp_path / "orders.xlsx")


def test_sizes_may_be_whole_for_as_long_as_they_like(desk: Desk, tmp_path: Path) -> None:
    sizes = [*range(1, 900), 1.5]
    lines = [f"A,{place},{size}" for place, size in enumerate(sizes)]
    path = tmp_path / "orders.csv"
    path.write_text("\n".join(["instrument,as_of,size", *lines]))
    assert add_requests(desk, "order", read_requests(path)).rows == 900


def test_a_recipe_finds_its_request_view_or_is_told_why_not(desk: Desk) -> None:
    assert request_view_of(desk, recipe("daily", "")) is None
    found = request_view_of(desk, recipe("daily", "order"))
    assert found is desk.request_view("order")
    with pytest.raises(NotFound, match="no request view 'ordr'"):
        request_view_of(desk, recipe("daily", "ordr"))
    for view, request in (("hourly", "order"), ("daily", "both")):
        with pytest.raises(DefinitionError, match=f"expected the recipe's view {view}"):
            request_view_of(desk, recipe(view, request))
    with pytest.raises(NotFound, match="no past requests of order are stored"):
        past_requests(desk, desk.request_view("order"))


def test_a_desk_without_request_views_has_none(desk: Desk) -> None:
    (desk.layout.features / "views.py").write_text(VIEWS.split("order =", maxsplit=1)[0])
    assert dict(desk.request_views) == {}
    with pytest.raises(NotFound, match="no request view 'order'"):
        desk.request_view("order")
