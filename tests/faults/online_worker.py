"""Writes to an online store in processes that can be killed at any line; driven by its input.

Each order is run in a fork, so that the compiler is loaded once. ``kill_at`` ends it with SIGKILL
before the so-many-th line of the code under test, ``kill_after`` after so many seconds.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import polars as pl

from assay.features import FeatureView, Sessions, col
from assay.features.online import OnlineFeed, SqliteStore, batches_of, sqlite
from assay.testing.online_store import stored_row

ENTITIES = ("A", "B", "C", "D")
BATCHES = 30
TRACED = ("/assay/features/online/", "/assay/storage/", "/assay/orchestration/materialization")
X = col("x")
VIEW = FeatureView(
    "live",
    "source",
    "entity",
    {"x": X, "std": X.simple_return(1).rolling_std(4, min_count=2), "rank": X.cs_rank()},
    Sessions(2),
)
OPTIONS = {"margin": 5, "checkpoint_every": 9, "close_with_batch": True}


def arrivals(sessions=40, seed=3):
    """Sessions of four entities with revised and late facts, as they arrive."""
    generator = random.Random(seed)
    rows, late = [], []
    for session in range(1, sessions + 1):
        batch = late
        late = []
        for number, entity in enumerate(ENTITIES):
            fact = (entity, session * 10, 1.0 + number + generator.random())
            (late if generator.random() < 0.06 else batch).append(fact)
        if session > 3 and generator.random() < 0.2:
            back = session - generator.randint(1, 3)
            batch.append((generator.choice(ENTITIES), back * 10, 1.0 + generator.random()))
        rows += [
            (entity, time, session * 10 + 5, 0, len(rows) + place, value)
            for place, (entity, time, value) in enumerate(batch)
        ]
    names = ["entity", "event_time", "known_time", "source_rank", "sequence", "x"]
    return pl.DataFrame(rows, schema=names, orient="row")


def batch_rows(number):
    return [stored_row(entity, number + 1, values=(number,)) for entity in ENTITIES]


def write_rows(folder):
    store = SqliteStore(folder / "online.db")
    acknowledged = (folder / "acknowledged").open("a")
    begun = len((folder / "acknowledged").read_text().splitlines())
    for number in range(begun, BATCHES):
        store.write("live", batch_rows(number))
        acknowledged.write(f"{number}\n")
        acknowledged.flush()
    store.close()


def drop_rows(folder):
    sqlite._DROPPED_AT_ONCE = 2
    store = SqliteStore(folder / "online.db")
    store.drop("replaced")
    store.close()


class Case:
    """What a feed is given: a small generated one, or the arrivals of a recorded replay.

    Made after the fork: the threads of Polars do not outlive one.
    """

    def __init__(self, folder):
        if folder is None:
            self.view, self.table, self.history = VIEW, arrivals(), 0
            self.open = lambda store, path: OnlineFeed(VIEW, store, path, **OPTIONS)
        else:
            from assay.features.definition.declarations import load_views
            from assay.orchestration.live.delivery import open_feed

            folder = Path(folder)
            told = json.loads((folder / "case.json").read_text())
            (self.view,) = load_views(Path(told["views"]))
            self.table, self.history = pl.read_parquet(folder / "arrivals.parquet"), told["history"]
            self.open = lambda store, path: open_feed(self.view, store, path, checkpoint_every=250)


def feed_rows(folder, *, forget, case):
    store = SqliteStore(folder / "online.db", max_versions=1_000)
    path = folder / "feed.ckp"
    taken = folder / "taken"
    if forget:
        path.unlink(missing_ok=True)
    feed = case.open(store, path)
    if not feed.position:
        # Where there is no checkpoint: the consumer's own note of how far it came.
        lines = taken.read_text().split("\n")[:-1] if forget and taken.exists() else []
        known = int(lines[-1]) if lines else case.history
        if known:
            feed.warm_up(case.table[:known], position=known)
    note = taken.open("a")
    position = case.history
    for batch in batches_of(case.view, case.table[case.history :]):
        position += len(batch)
        if position > feed.position:
            feed.take(batch, position=position)
            note.write(f"{position}\n")
            note.flush()
    feed.checkpoint()
    store.close()


def materialize_rows(folder):
    from types import SimpleNamespace

    from assay.lake import Lake
    from assay.orchestration.materialization import Materializer, Target
    from assay.testing.clocks import FixedClock

    lake = Lake(folder / "lake", FixedClock(0))
    desk = SimpleNamespace(lake=lake, layout=SimpleNamespace(lake=lake.root))
    store = SqliteStore(folder / "online.db")
    target = Target(VIEW.name, folder / "feed.checkpoint")
    Materializer(desk, VIEW, store, target).run(SimpleNamespace(event=lambda text: None))
    store.close()


def run(order):
    """In a fork; the exit status says how it ended."""
    folder, lines = Path(order["folder"]), 0
    kill_at = order.get("kill_at")

    def trace(frame, event, _):
        nonlocal lines
        if not any(part in frame.f_code.co_filename for part in TRACED):
            return None
        if event == "line":
            lines += 1
            if lines == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    if "kill_after" in order:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, order["kill_after"])
    elif not order.get("untraced"):
        sys.settrace(trace)
    if order["work"] == "store":
        write_rows(folder)
    elif order["work"] == "drop":
        drop_rows(folder)
    elif order["work"] == "materialize":
        materialize_rows(folder)
    else:
        feed_rows(folder, forget=order.get("forget", False), case=Case(order.get("case")))
    sys.settrace(None)
    if order.get("count"):
        (folder / "lines").write_text(str(lines))


def main():
    OnlineFeed(VIEW, None).take([])  # loads the compiler before the first fork
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(order)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
