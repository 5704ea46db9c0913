"""A manifest comes into use by steps, each of which can say no, and none of which is skipped."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from assay.delivery.manifests import Span
from assay.errors import (
    ConfigurationError,
    Conflict,
    ContractViolation,
    NotFound,
    Refused,
    Tampered,
    Unavailable,
)
from assay.features import Sessions
from assay.features.offline.arrivals import as_known_history
from assay.features.online import MemoryStore, NamedRows, SqliteStore

SPEC = importlib.util.spec_from_file_location(
    "manifest_place", Path(__file__).with_name("manifest_place.py")
)
place_module = sys.modules["manifest_place"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(place_module)
FIRST, SECOND, X = place_module.FIRST, place_module.SECOND, place_module.X
view, hash_of, arrivals, DAY = (
    place_module.view, place_module.hash_of, place_module.arrivals, place_module.DAY,
)  # fmt: skip

WHOLE = ["begin", "publish", "warm_up", "parity", "canary", "check", "promote"]


@pytest.fixture
def place(tmp_path):
    made = place_module.Place(tmp_path)
    made.note("`live`: first version.")
    return made


def done(names):
    return [(f"manifest.{name}", "done") for name in names]


def test_a_promotion_takes_every_step_records_it_and_servers_read_it(place) -> None:
    told = []
    made = place.promote(view(), tell=told.append)
    assert (made.manifest, made.before, made.everywhere) == (hash_of(view()), None, True)
    assert place.said() == done(WHOLE)
    assert place.active.read()["live"].canary is None, "it reads what all read"
    assert list(made.steps) == WHOLE[1:]
    assert place.in_use() == place.in_use(canary=True) == hash_of(view())
    assert place.catalogue.get(made.manifest).feature_names == ("ret", "mean")
    assert made.steps["parity"]["equal"] == made.steps["parity"]["values"] > 0
    assert "all take it" in told[-1]
    report = place.registry.verify_log()
    assert report.ok, report.problems
    exported = (place.folder / "audit.jsonl").read_text().splitlines()
    assert len(exported) == len(WHOLE)


def test_the_namespace_holds_what_history_says_and_nothing_else_was_written(place) -> None:
    made = place.promote(view(), span=Span(event_times=7))
    store = SqliteStore(place.folder / "online.db")
    assert store.views() == (made.namespace,)
    offline = as_known_history(view(), arrivals(), margin=5, close_with_batch=True)
    since = arrivals().filter(pl.col("event_time") >= 34 * DAY)["known_time"].min()
    offline = offline.filter(pl.col("known_time") >= since)
    expected = sorted(
        (*key, np.array(values).tobytes())
        for *key, values in zip(
            offline["entity"], offline["event_time"], offline["known_time"],
            offline.select("ret", "mean").rows(), strict=True,
        )
    )  # fmt: skip
    held = [row for entity in "ABC" for row in store.history(made.namespace, entity)]
    store.close()
    found = sorted((r.entity, r.event_time, r.known_time, r.values.tobytes()) for r in held)
    assert found == expected
    assert {row.manifest for row in held} == {made.manifest}


def test_the_feed_goes_on_from_where_the_warm_up_left_it(place) -> None:
    made = place.promote(view())
    where = place.where(view())
    feed = where.feed(made.namespace)
    assert feed.position == arrivals().height
    where.store.close()


def test_what_is_in_use_already_is_left_alone(place) -> None:
    place.promote(view())
    again = place.promote(view())
    assert (again.changed, again.everywhere) == (False, True)
    assert place.said() == done(WHOLE)


def test_an_addition_takes_the_place_of_the_manifest_before(place) -> None:
    first = place.promote(view())
    place.note("`live`: rank, for the new model.")
    second = place.promote(view(SECOND))
    assert second.before == first.manifest
    assert place.in_use() == hash_of(view(SECOND))
    assert place.active.read()["live"].line == (first.manifest, second.manifest)
    # Every entity of the newest session has rows of one event time in both namespaces.
    assert second.steps["check"]["compared"] == 3
    assert second.steps["check"]["differ"] == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (view({"ret": X.simple_return(1)}), "feature mean is gone"),
        (view({"ret": X.simple_return(2), "mean": FIRST["mean"]}), "feature ret was"),
        (view({"new": X, **FIRST}), "feature new is new and does not stand at the end"),
        (view({name: FIRST[name] for name in ("mean", "ret")}), "stands in another place"),
        (view(source="other"), "source was 'source' and is 'other'"),
        (view(timezone="Europe/Berlin"), "timezone was 'UTC'"),
    ],
)
def test_what_does_more_than_add_is_refused_by_name(place, changed, says) -> None:
    place.promote(view())
    place.note("`live`: another change.")
    with pytest.raises(Refused, match=says) as caught:
        place.promote(changed)
    assert "another name" in caught.value.hint
    assert place.in_use() == hash_of(view())
    assert place.said()[len(WHOLE) :] == [("manifest.begin", "refused")]


def test_under_a_new_name_everything_may_change(place) -> None:
    place.promote(view())
    place.note("`live_2`: mean over four rows is gone.")
    made = place.promote(view({"ret": X.simple_return(2)}, name="live_2"))
    assert made.everywhere
    assert place.in_use() == hash_of(view())


def test_another_time_to_live_is_no_change_of_what_is_in_a_row(place) -> None:
    place.promote(view())
    place.note("`live`: served for two sessions.")
    assert place.promote(view(ttl=Sessions(2))).changed


def test_a_change_that_the_change_log_does_not_mention_is_refused(place) -> None:
    place.changelog.unlink()
    with pytest.raises(Refused, match="says nothing about view live") as caught:
        place.promote(view())
    assert caught.value.hint.startswith("- `live`:")
    place.note("`live_2`: something else about alive things.")
    with pytest.raises(Refused, match="says nothing about"):
        place.promote(view())
    place.note("`live`: first version.")
    place.promote(view())
    with pytest.raises(Refused, match="says nothing new about view live"):
        place.promote(view(SECOND))
    place.changelog.write_text("- `live`: rank\n  for the model.\n" + place.changelog.read_text())
    assert place.promote(view(SECOND)).everywhere


def test_the_canary_takes_it_first_and_alone_when_asked_to(place) -> None:
    first = place.promote(view())
    place.note("`live`: rank.")
    made = place.promote(view(SECOND), canary_only=True)
    assert not made.everywhere
    assert place.in_use() == first.manifest
    assert place.in_use(canary=True) == made.manifest
    again = place.promote(view(SECOND), canary_only=True)
    assert not again.changed
    place.clock.advance(DAY)
    whole = place.promote(view(SECOND))
    assert list(whole.steps) == ["promote"]
    assert place.in_use() == place.in_use(canary=True) == made.manifest


class Flipping(MemoryStore):
    """A store that gives one bit of one value back wrongly from some call on."""

    wrong_history = wrong_read = False

    @staticmethod
    def _flipped(row):
        words = row.values.copy().view(np.int64)
        words[1] ^= 1
        return row._replace(values=words.view(np.float64))

    def history(self, name, entity):
        rows = super().history(name, entity)
        if self.wrong_history and entity == "B":
            rows[2] = self._flipped(rows[2])
        return rows

    def read_views(self, asked, as_of=None):
        return {
            name: [
                self._flipped(row) if self.wrong_read and row and row.entity == "C" else row
                for row in rows
            ]
            for name, rows in super().read_views(asked, as_of).items()
        }


def test_one_wrong_bit_stops_it_before_anybody_reads_it(place) -> None:
    first = place.promote(view())
    place.store = Flipping()
    place.store.wrong_history = True
    place.note("`live`: rank.")
    with pytest.raises(Refused, match=r"rows missing, 0 extra; mean at \('B'"):
        place.promote(view(SECOND))
    assert place.said()[-1] == ("manifest.parity", "failed")
    assert place.in_use() == place.in_use(canary=True) == first.manifest
    place.store.wrong_history = False
    made = place.promote(view(SECOND))
    assert made.namespace.endswith(".3"), "a new attempt does not write beside a failed one"
    assert made.everywhere


def test_a_row_of_an_entity_that_history_does_not_know_stops_it(place) -> None:
    class Haunted(MemoryStore):
        def write(self, name, rows):
            rows = list(rows)
            ghosts = [row._replace(entity="ghost") for row in rows if row.entity == "B"][:1]
            return super().write(name, [*rows, *ghosts]) - len(ghosts)

    place.store = Haunted()
    with pytest.raises(Refused, match=r"parity with history does not hold: .* [1-9][0-9]* extra"):
        place.promote(view())
    assert place.in_use() is None


def test_a_canary_that_reads_something_else_stays_apart_and_production_keeps_the_old_one(
    place,
) -> None:
    place.store = Flipping()
    first = place.promote(view())
    place.note("`live`: rank.")
    place.store.wrong_read = True
    with pytest.raises(Refused, match=r"for C as of .* history says"):
        place.promote(view(SECOND))
    assert place.said()[-1] == ("manifest.check", "failed")
    assert place.in_use() == first.manifest
    assert place.in_use(canary=True) == hash_of(view(SECOND))
    given_up = place.roll_back(canary=True)
    assert (given_up.of_canary, given_up.withdrawn) == (True, hash_of(view(SECOND)))
    assert place.in_use(canary=True) == first.manifest
    place.store.wrong_read = False
    assert place.promote(view(SECOND)).everywhere


def test_an_entity_that_production_answers_for_is_not_lost(place) -> None:
    quiet = arrivals().filter((pl.col("entity") != "B") | (pl.col("event_time") < 39 * DAY))
    place.facts.arrivals = lambda _: quiet
    place.promote(view(), span=Span(event_times=10))
    place.note("`live`: rank.")
    with pytest.raises(Refused, match="production answers for B") as caught:
        place.promote(view(SECOND), span=Span(event_times=1))
    assert "--event-times" in caught.value.hint
    assert place.promote(view(SECOND), span=Span(event_times=4)).everywhere


def test_minutes_count_back_from_the_last_fact(place) -> None:
    made = place.promote(view(), span=Span(minutes=3 * 24 * 60))
    last = int(arrivals()["known_time"].max())
    live = arrivals().filter(pl.col("known_time") > last - 3 * DAY)
    assert made.steps["warm_up"]["live"] == live.height > 0


@pytest.mark.parametrize(
    "given", [{}, {"event_times": 0}, {"minutes": -1.0}, {"minutes": 1.0, "event_times": 2},
              {"minutes": float("nan")}],
)  # fmt: skip
def test_a_span_that_says_nothing_is_refused(given) -> None:
    with pytest.raises(ContractViolation, match="expected one of the two"):
        Span(**given)


def test_facts_that_arrive_during_a_promotion_do_not_disturb_it(place) -> None:
    place.promote(view(), canary_only=True)
    place.facts.sessions = 45
    assert place.promote(view()).everywhere
    place.note("`live`: rank.")
    assert place.promote(view(SECOND)).steps["warm_up"]["facts"] == arrivals(45).height


def test_a_definition_that_changes_during_a_promotion_begins_another_one(place) -> None:
    place.promote(view(), canary_only=True)
    made = place.promote(view(SECOND))
    assert made.everywhere
    assert [name for name, _ in place.said()].count("manifest.begin") == 2
    assert place.in_use() == hash_of(view(SECOND))
    assert place.active.read()["live"].line == (hash_of(view(SECOND)),)


def test_a_rollback_brings_the_manifest_before_back_and_again(place) -> None:
    first = place.promote(view())
    place.note("`live`: rank.")
    second = place.promote(view(SECOND))
    back = place.roll_back(reason="ranks are wrong")
    assert (back.withdrawn, back.manifest) == (second.manifest, first.manifest)
    assert back.namespace == first.namespace
    assert place.in_use() == first.manifest
    assert place.registry.manifest_events("live")[-1].reason == "ranks are wrong"
    with pytest.raises(NotFound, match="no manifest was in use before"):
        place.roll_back()
    place.note("`live`: rank, repaired.")
    assert place.promote(view(SECOND)).before == first.manifest
    assert place.roll_back().manifest == first.manifest


def test_a_rollback_looks_first_whether_there_is_something_to_go_back_to(place) -> None:
    with pytest.raises(NotFound, match="before any promotion"):
        place.roll_back()
    first = place.promote(view())
    place.note("`live`: rank.")
    second = place.promote(view(SECOND))
    with pytest.raises(ContractViolation, match="reason"):
        place.roll_back(reason=" ")
    with pytest.raises(NotFound, match="no canary"):
        place.roll_back(canary=True)
    path = place.folder / f"manifests/{first.manifest}.json"
    path.write_bytes(path.read_bytes().replace(b"source", b"sourcf"))
    with pytest.raises(Tampered, match=first.manifest):
        place.roll_back()
    path.write_bytes(path.read_bytes().replace(b"sourcf", b"source"))
    for suffix in ("", "-wal", "-shm"):
        place.folder.joinpath(f"online.db{suffix}").unlink(missing_ok=True)
    with pytest.raises(Refused, match="no rows in"):
        place.roll_back()
    assert place.in_use() == second.manifest


def test_a_rollback_in_the_middle_of_a_promotion_wins(place) -> None:
    place.promote(view())
    place.note("`live`: rank.")
    place.promote(view(SECOND))
    place.note("`live`: twice.")
    third = view(SECOND | {"twice": X * 2.0})

    def interrupt(text: str) -> None:
        if "equal history" in text:
            place.roll_back()

    with pytest.raises(Conflict, match=r"recorded manifest\.rollback meanwhile"):
        place.promote(third, tell=interrupt)
    assert place.in_use() == place.in_use(canary=True) == hash_of(view())


def test_a_file_changed_by_hand_is_refused_and_a_lost_one_is_written_again(place) -> None:
    place.promote(view())
    path = place.active.path
    good = path.read_text()
    document = yaml.safe_load(good)
    document["views"]["live"]["active"]["manifest"] = "f" * 64
    other = good.replace("by: ops", "by: eve")
    for bad in (yaml.safe_dump(document), other, "entry: 99\nviews: {}\n", "views: {}\n", "[1"):
        path.write_text(bad)
        with pytest.raises((Tampered, ConfigurationError), match="active_manifest"):
            place.promote(view())
        assert path.read_text() == bad, "it is left for people to look at"
    path.unlink()
    place.active.follow()
    assert path.read_text() == good


def test_a_file_that_is_behind_follows(place) -> None:
    place.promote(view(), canary_only=True)
    behind = place.active.path.read_text()
    place.promote(view())
    now = place.active.path.read_text()
    place.active.path.write_text(behind)
    assert place.in_use() is None
    place.active.follow()
    assert place.active.path.read_text() == now


def test_a_disk_that_is_full_says_that_the_event_has_happened_and_the_next_call_goes_on(
    place, monkeypatch
) -> None:
    place.promote(view(), canary_only=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("assay.delivery.manifests.active.write_atomic", full)
        with pytest.raises(Unavailable, match=r"IS recorded, but .*No space left"):
            place.promote(view())
    assert place.in_use() is None
    assert not place.promote(view()).changed
    assert place.in_use() == hash_of(view())


def test_old_readers_read_new_rows_and_new_readers_old_rows(place) -> None:
    first = place.promote(view())
    place.note("`live`: rank.")
    second = place.promote(view(SECOND))
    store = SqliteStore(place.folder / "online.db")
    find = place.catalogue.get
    old, new = NamedRows(find(first.manifest), find), NamedRows(find(second.manifest), find)
    for entity in "ABC":
        (before,), (after,) = (store.read(one.namespace, [entity]) for one in (first, second))
        assert old.values(after).tobytes() == before.values.tobytes()
        assert new.values(before)[:2].tobytes() == before.values.tobytes()
        assert np.isnan(new.values(before)[2])
        assert new.values(after).tobytes() == after.values.tobytes()
    store.close()


def test_an_unreachable_store_leaves_the_promotion_to_go_on(place) -> None:
    class Gone(MemoryStore):
        def write(self, *_):
            raise Unavailable("the store is gone")

    place.store = Gone()
    with pytest.raises(Unavailable, match="gone"):
        place.promote(view())
    assert place.said() == done(WHOLE[:2])
    place.store = None
    assert place.promote(view()).everywhere
    assert place.said() == done(WHOLE)


def test_two_who_promote_at_once_end_in_one_promotion(place) -> None:
    together, outcomes = threading.Barrier(2), []

    def run() -> None:
        together.wait()
        try:
            outcomes.append(place.promote(view()).everywhere)
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    assert place.promote(view()).everywhere, "whatever is left of it goes on"
    assert place.in_use() == hash_of(view())
    done_events = [event for event, outcome in place.said() if outcome == "done"]
    assert done_events[-1] == "manifest.promote"
    assert done_events.count("manifest.promote") == 1
    assert place.registry.verify_log().ok


def test_a_desk_that_promoted_nothing_is_only_read(place) -> None:
    assert place.active.follow() == {}
    assert not place.active.path.parent.exists()
