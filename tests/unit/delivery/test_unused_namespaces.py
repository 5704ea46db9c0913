"""Rows of manifests that were replaced or withdrawn are dropped, and no others."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from assay.delivery.manifests import drop_unused
from assay.delivery.manifests.unused import GRACE
from assay.errors import Refused, Tampered, Unavailable
from assay.features.online import MemoryStore, SqliteStore
from assay.testing.online_store import stored_row

SPEC = importlib.util.spec_from_file_location(
    "manifest_place", Path(__file__).with_name("manifest_place.py")
)
manifest_place = sys.modules["manifest_place"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(manifest_place)
FIRST, SECOND, X = manifest_place.FIRST, manifest_place.SECOND, manifest_place.X
THIRD = SECOND | {"twice": X.simple_return(2)}
view = manifest_place.view


@pytest.fixture
def place(tmp_path):
    found = manifest_place.Place(tmp_path)
    found.note("`live`: first version.")
    found.store = MemoryStore()
    return found


def promote(place, features):
    place.note(f"`live`: {len(features)} features at {place.clock.now()}.")
    place.clock.advance(1)
    return place.promote(view(features)).namespace


def collect(place, *, later=GRACE, **options):
    """After so many nanoseconds: what goes and what stays, with the reasons."""
    place.clock.advance(later)
    forgotten = []
    found = drop_unused(
        registry=place.registry, active=place.active, store=place.store,
        forget=forgotten.append, now=place.clock.now(), initiated_by="ops", **options,
    )  # fmt: skip
    gone = {one.name: one.why for one in found if not one.keep}
    assert forgotten == ([] if options.get("dry_run") else list(gone))
    return gone, {one.name: one.why for one in found if one.keep}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def three(request, place, tmp_path):
    """Three manifests were promoted one after the other, in each kind of store."""
    if request.param == "sqlite":
        place.store = SqliteStore(tmp_path / "online.db")
    elif request.param == "redis":
        from assay.adapters.redis import RedisStore

        place.store = RedisStore(request.getfixturevalue("redis_server").url)
    names = [promote(place, features) for features in (FIRST, SECOND, THIRD)]
    yield place, names
    place.store.close()


def test_what_was_replaced_twice_goes_and_what_is_used_or_brought_back_stays(three) -> None:
    place, (old, before, active) = three
    place.store.write("live", [stored_row("A")])
    place.store.write("other@12.1", [stored_row("A")])
    held = place.store.history(before, "A")
    gone, kept = collect(place, dry_run=True)
    assert set(place.store.views()) == {old, before, active, "live", "other@12.1"}
    assert (gone, kept) == collect(place, later=0)
    assert list(gone) == [old]
    assert gone[old].startswith("replaced at 2023-11-14T22:")
    assert kept == {
        active: "servers read it",
        before: "a rollback brings it back",
        "live": "no promotion wrote it",
        "other@12.1": "no promotion wrote it",
    }
    assert set(place.store.views()) == {before, active, "live", "other@12.1"}
    assert place.store.history(before, "A") == held
    assert collect(place)[0] == {}
    assert place.roll_back().namespace == before
    with pytest.raises(Refused, match=r"nothing needed the rows in .* dropped at 2023-11-14T22:"):
        place.roll_back()


def test_rows_stay_until_servers_surely_read_others(three) -> None:
    place, (old, _, _) = three
    gone, kept = collect(place, later=GRACE - 1)
    assert gone == {}
    assert kept[old].endswith("servers may still read it")
    assert list(collect(place, later=1)[0]) == [old]


def test_another_view_is_left_alone_when_one_is_named(three) -> None:
    place, (old, _, _) = three
    place.store.write("other", [stored_row("A")])
    assert collect(place, view="other") == ({}, {"other": "no promotion wrote it"})
    assert list(collect(place, view="live")[0]) == [old]


def test_what_was_rolled_back_goes(place) -> None:
    first, second = promote(place, FIRST), promote(place, SECOND)
    place.clock.advance(GRACE)
    place.roll_back()
    assert collect(place, later=GRACE - 1)[0] == {}
    gone, kept = collect(place, later=1)
    assert list(gone) == [second]
    assert gone[second].startswith("rolled back at ")
    assert kept == {first: "servers read it"}
    third = promote(place, SECOND)
    assert place.store.views() == tuple(sorted([first, third]))


def test_a_canary_stays_until_it_is_withdrawn_and_the_rows_of_a_failed_attempt_go(place) -> None:
    first = promote(place, FIRST)
    place.note("`live`: rank.")
    canary = place.promote(view(SECOND), canary_only=True).namespace
    assert collect(place)[1] == {
        first: "servers read it",
        canary: "a promotion under way writes it"
        if place.active.state("live").canary is None
        else "the canary reads it",
    }
    place.roll_back(canary=True)
    gone, kept = collect(place)
    assert list(gone) == [canary]
    assert gone[canary].startswith("withdrawn at ")
    assert kept == {first: "servers read it"}

    class Lossy(MemoryStore):
        def history(self, name, entity):
            return [] if entity == "B" else super().history(name, entity)

    rows = {name: list(place.store.history(first, name)) for name in "ABC"}
    place.store = Lossy()
    for written in rows.values():
        place.store.write(first, written)
    with pytest.raises(Refused, match="parity with history"):
        place.promote(view(SECOND))
    gone, kept = collect(place)
    assert [why.startswith("its promotion failed at ") for why in gone.values()] == [True]
    assert kept == {first: "servers read it"}


def test_a_promotion_under_way_keeps_its_rows(place) -> None:
    first = promote(place, FIRST)
    writes = []

    class Failing(MemoryStore):
        def write(self, name, rows):
            writes.append(name)
            if len(writes) > 4:
                raise Unavailable("the store is gone")
            return super().write(name, rows)

    whole, place.store = place.store, Failing()
    place.note("`live`: rank.")
    with pytest.raises(Unavailable):
        place.promote(view(SECOND))
    gone, kept = collect(place)
    assert gone == {}
    assert list(kept.values()) == ["a promotion under way writes it"]
    place.store = whole
    assert place.promote(view(SECOND)).everywhere
    assert first in place.store.views()


def test_no_rollback_leads_to_rows_of_which_some_are_gone(place) -> None:
    old, before, _ = (promote(place, features) for features in (FIRST, SECOND, THIRD))
    drop = place.store.drop

    def killed(name):
        del place.store._rows[name]["A"]
        raise Unavailable("the process died here")

    place.store.drop = killed
    with pytest.raises(Unavailable):
        collect(place)
    place.store.drop = drop
    assert place.roll_back().namespace == before
    with pytest.raises(Refused, match="dropped at"):
        place.roll_back()
    # The log names it as what a rollback would bring back; none does, so it goes.
    gone, kept = collect(place)
    assert gone[old].startswith("given up at ")
    assert kept == {before: "servers read it"}
    assert place.store.views() == (before,)


def test_a_run_that_was_killed_is_finished_by_the_next_one(place) -> None:
    old, before, active = (promote(place, features) for features in (FIRST, SECOND, THIRD))
    drop = place.store.drop

    def killed(name):
        del place.store._rows[name]["A"]
        raise Unavailable("the process died here")

    place.store.drop = killed
    with pytest.raises(Unavailable):
        collect(place)
    place.store.drop = drop
    assert list(collect(place)[0]) == [old]
    assert place.store.views() == tuple(sorted([before, active]))
    lines = (place.folder / "models/dropped_namespaces.ndjson").read_text().splitlines()
    assert [json.loads(line)["namespace"] for line in lines] == [old]


def test_a_rollback_in_between_is_seen(place) -> None:
    old, _, _ = (promote(place, features) for features in (FIRST, SECOND, THIRD))
    listed = place.store.entities

    def entities(name):
        place.store.entities = listed
        place.roll_back()  # what it takes back is judged already; the next one would lead to old
        return listed(name)

    place.store.entities = entities
    gone, kept = collect(place)
    assert gone == {}
    assert kept[old] == "it is needed again"
    assert place.roll_back().namespace == old
    assert place.store.history(old, "A")


def test_servers_that_are_told_only_now_may_still_read_what_was_replaced(place) -> None:
    old, _, _ = (promote(place, features) for features in (FIRST, SECOND, THIRD))
    place.active.path.unlink()
    gone, kept = collect(place)
    assert gone == {}
    assert kept[old] == "replaced, and servers are told only now"
    assert list(collect(place, later=0)[0]) == [old]


def test_nothing_goes_where_the_file_was_changed_by_hand(place) -> None:
    for features in (FIRST, SECOND, THIRD):
        promote(place, features)
    text = place.active.path.read_text()
    place.active.path.write_text(text.replace("ops", "eve"))
    with pytest.raises(Tampered):
        collect(place)
    assert len(place.store.views()) == 3
