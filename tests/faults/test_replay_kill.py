"""Kill the online side of the demo's replay anywhere: what it then serves is what history says.

The arrivals are those of the demo: real rates of the European Central Bank through ingest and
refining, with the revision and the late fact that the demo makes.
"""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assay.features.definition.declarations import load_views
from assay.features.offline.arrivals import as_known_history
from assay.features.online import SqliteStore
from assay.lake import Lake
from assay.orchestration.feeding import FEED
from assay.orchestration.live.arrivals import HISTORY_SESSIONS, LIVE_SESSIONS, ReplayClock, record
from assay.orchestration.live.delivery import deliver
from assay.orchestration.sources import load_sources

FX = Path(__file__).parents[2] / "examples" / "fx"


class Replay:
    """Recorded arrivals on disk for the worker, and every row that follows from them offline."""

    def __init__(self, folder, *, live_sessions, history_sessions):
        (self.view,) = load_views(FX / "features")
        config = load_sources(FX / "configs" / "sources.yaml")
        (source,) = config.sources.values()
        recording = record(source, history_sessions=history_sessions, live_sessions=live_sessions)
        clock = ReplayClock(recording.history.arrives_at)
        table = deliver(Lake(folder / "lake", clock), recording, clock, config, self.view).arrivals
        history = int((table["known_time"] < recording.live_from).sum())
        table.write_parquet(folder / "arrivals.parquet")
        told = {"views": str(FX / "features"), "history": history}
        (folder / "case.json").write_text(json.dumps(told))
        self.folder = folder
        offline = as_known_history(self.view, table, **FEED)
        self.expected = offline.filter(pl.col("known_time") >= recording.live_from)
        self.entities = table[self.view.entity].unique().to_list()
        assert {recording.revision, recording.late} == {"EUR_JPY", "EUR_GBP"}

    def rows(self):
        values = self.expected.select(self.view.feature_names).to_numpy()
        keys = self.expected.select(self.view.key_columns).iter_rows()
        return sorted((*key, row.tobytes()) for key, row in zip(keys, values, strict=True))

    def stored(self, folder):
        store = SqliteStore(folder / "online.db", max_versions=1_000)
        rows = [row for name in self.entities for row in store.history(self.view.name, name)]
        store.close()
        return sorted((row.entity, *row.key, np.asarray(row.values).tobytes()) for row in rows)


def kill_and_go_on(replay, folder, worker, kills, generator):
    """Kill at so many points, alternately going on from a checkpoint and by warming up."""
    expected = replay.rows()
    case = str(replay.folder)
    whole = folder / "whole"
    whole.mkdir()
    assert worker(folder=whole, work="feed", case=case, count=True) == 0
    assert replay.stored(whole) == expected
    lines = int((whole / "lines").read_text())
    for number in range(kills):
        place = folder / f"kill{number}"
        place.mkdir()
        at = 1 + int(lines * (number + generator.random()) / kills)
        forget = number % 2 == 1
        assert worker(folder=place, work="feed", case=case, kill_at=at) == -9
        assert worker(folder=place, work="feed", case=case, forget=forget, untraced=True) == 0
        assert replay.stored(place) == expected, (at, forget)


@pytest.mark.long
def test_a_replay_killed_anywhere_goes_on_to_the_values_of_history(tmp_path, worker):
    replay = Replay(tmp_path, live_sessions=8, history_sessions=300)
    kill_and_go_on(replay, tmp_path, worker, 2, random.Random(6))


@pytest.mark.long
def test_the_demos_replay_killed_at_twenty_points_goes_on_to_the_values_of_history(
    tmp_path, worker
):
    replay = Replay(tmp_path, live_sessions=LIVE_SESSIONS, history_sessions=HISTORY_SESSIONS)
    kill_and_go_on(replay, tmp_path, worker, 20, random.Random(7))
    assert replay.expected.height * len(replay.view.features) > 100_000
