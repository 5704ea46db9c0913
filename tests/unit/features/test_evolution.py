"""A view may grow at its end; whatever else it does is named, and rows are read by name."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import NotFound
from assay.features import (
    FX_SESSIONS,
    Duration,
    FeatureView,
    Manifest,
    Sessions,
    check_evolution,
    col,
    in_session,
    sessions_of_rule,
)
from assay.features.definition.evolution import agree
from assay.features.online import MemoryStore, NamedRows, NamespacedStore, SqliteStore, StoredRow

MID = col("mid")
POOL = {
    "mid": MID,
    "ret": MID.simple_return(1),
    "vol": MID.rolling_std(5),
    "rank": MID.cs_rank(),
    "spread": col("ask") - col("bid"),
}


def manifest(*names: str, **changes: object) -> Manifest:
    arguments: dict = {
        "name": "fx", "source": "market", "entity": "instrument", "ttl": Sessions(3),
        "features": {name: POOL[name] for name in names},
    }  # fmt: skip
    return Manifest.of(FeatureView(**(arguments | changes)))


def test_what_is_added_at_the_end_is_an_addition() -> None:
    found = check_evolution(manifest("mid", "ret"), manifest("mid", "ret", "spread", "rank"))
    assert found.is_additive
    assert found.added == ("spread", "rank")
    assert found.to_json()["is_additive"] is True
    assert check_evolution(manifest("mid"), manifest("mid")).is_additive


@pytest.mark.parametrize(
    ("after", "obstacle"),
    [
        (manifest("mid"), "feature ret is gone"),
        (manifest("ret", "mid"), "feature ret stands in another place"),
        (manifest("mid", "vol", "ret"), "feature vol is new and does not stand at the end"),
        (manifest("mid", "ret", name="fy"), "view was 'fx' and is 'fy'"),
        (manifest("mid", "ret", source="quotes"), "source was 'market' and is 'quotes'"),
        (manifest("mid", "ret", entity="pair"), "entity was 'instrument' and is 'pair'"),
        (manifest("mid", "ret", members="mine"), "members was None and is 'mine'"),
        (manifest("mid", "ret", timezone="Asia/Tokyo"), "timezone was 'UTC' and is 'Asia/Tokyo'"),
        (
            manifest(features={"mid": MID, "ret": MID.log_return(1)}),
            "feature ret was simple_return(mid, rows=1) and is log_return(mid, rows=1)",
        ),
    ],
)
def test_what_is_no_addition_is_named(after: Manifest, obstacle: str) -> None:
    found = check_evolution(manifest("mid", "ret"), after)
    assert not found.is_additive
    assert found.obstacles[0] == obstacle


def test_time_to_live_is_free() -> None:
    longer = manifest("mid", ttl=Duration.of(days=3))
    assert check_evolution(manifest("mid"), longer).is_additive


def test_a_calendar_or_an_operator_that_means_something_else_is_no_addition() -> None:
    def with_calendar(last: date) -> Manifest:
        table = sessions_of_rule("desk", FX_SESSIONS["fx_london"], date(2024, 1, 1), last)
        return manifest(features={"open": in_session("desk")}, calendars=(table,))

    one, other = with_calendar(date(2024, 3, 1)), with_calendar(date(2024, 4, 1))
    assert "calendar desk is another one now" in check_evolution(one, other).obstacles

    old = manifest("mid", "ret")
    plan = dict(old.document["plan"])
    plan["operators"] = {**plan["operators"], "simple_return": 99}
    new = Manifest(old.hash, {**old.document, "plan": plan})
    assert check_evolution(old, new).obstacles == ("operator simple_return is another one now",)
    unknown = Manifest(old.hash, {**old.document, "something_new": 1})
    assert not check_evolution(old, unknown).is_additive, "what is not known may decide values"


names = st.lists(st.sampled_from(sorted(POOL)), unique=True, min_size=1, max_size=5)


@settings(deadline=None)
@given(names, names, names)
def test_additions_are_prefixes_and_a_line_of_them_is_one_addition(
    a: list[str], b: list[str], c: list[str]
) -> None:
    one, two, three = manifest(*a), manifest(*b), manifest(*c)
    additive = check_evolution(one, two).is_additive
    assert additive == (b[: len(a)] == a)
    if additive and check_evolution(two, three).is_additive:
        assert check_evolution(one, three).is_additive
    assert agree(one, two)
    assert agree(one, two) == agree(two, one)


@settings(deadline=None)
@given(names, names, st.data())
def test_a_row_is_read_by_name_whatever_manifest_it_was_written_under(
    written: list[str], read: list[str], data: st.DataObject
) -> None:
    old, new = manifest(*written), manifest(*read)
    words = data.draw(
        st.lists(st.integers(0, 2**64 - 1), min_size=len(written), max_size=len(written))
    )
    values = np.array(words, dtype=np.uint64).view(np.float64)
    reader = NamedRows(new, {one.hash: one for one in (old, new)}.__getitem__)
    found = reader.values(StoredRow("A", 1, 2, 0, 0, old.hash, values))
    assert found is not None
    held = dict(zip(written, words, strict=True))
    for name, word in zip(read, found.view(np.uint64).tolist(), strict=True):
        if name in held:
            assert word == held[name]
        else:
            assert np.isnan(np.uint64(word).view(np.float64))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_rows_of_two_manifests_live_in_one_store_and_are_read_by_both_sides(
    kind: str, tmp_path: Path
) -> None:
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "online.db")
    old, new = manifest("mid", "ret"), manifest("mid", "ret", "rank")
    before = NamespacedStore(store, {"fx": "fx@old"})
    after = NamespacedStore(store, {"fx": "fx@new"})
    one = StoredRow("A", 10, 11, 0, 0, old.hash, np.array([1.5, np.nan]))
    two = StoredRow("A", 10, 11, 0, 0, new.hash, np.array([1.5, np.nan, 0.5]))
    assert (before.write("fx", [one]), after.write("fx", [two])) == (1, 1)
    find = {m.hash: m for m in (old, new)}.__getitem__
    assert before.read("fx", ["A"]) == [one] == before.history("fx", "A")
    (found,) = after.read("fx", ["A"], 11)
    assert NamedRows(old, find).values(found).tobytes() == one.values.tobytes()
    assert NamedRows(new, find).values(one).tobytes() == np.append(one.values, np.nan).tobytes()
    assert "fx" in before.views()
    assert "fx" in after.views()
    assert store.views() == ("fx@new", "fx@old")
    store.close()


def test_a_row_that_means_something_else_is_not_read() -> None:
    mine, theirs = manifest("mid", "ret"), manifest(features={"mid": MID, "ret": MID.lag(1)})
    reader = NamedRows(mine, {theirs.hash: theirs}.__getitem__)
    assert reader.values(StoredRow("A", 1, 1, 0, 0, theirs.hash, np.array([1.0, 2.0]))) is None
    assert not reader.can_read(theirs.hash)
    assert reader.can_read(mine.hash)

    def gone(digest: str) -> Manifest:
        raise NotFound(digest)

    with pytest.raises(NotFound):
        NamedRows(mine, gone).can_read(theirs.hash)
