"""The online store on Redis beside raw redis-py on the same server, in the same run.

The raw reference keeps the same packed bytes under one key for each entity: it reads them with
MGET and turns them into arrays, and writes them as SETs in one pipeline. It knows no versions,
times, conflicts or checksums. Both talk over a port of the loopback interface.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from assay.features.online.store import StoredRow, pack_row
from assay.testing.online_store import stored_row
from assay.testing.redis_server import INSTALL, RedisServer, find_redis_server, free_port
from benchmarks.online import DAY, ENTITIES, FEATURES, _beside, _row

BATCH = 1_000
VIEWS = 5
_HEADER = 72


def rows() -> list[dict[str, Any]]:
    """Measure; nothing where there is no server."""
    executable = find_redis_server()
    if executable is None:
        sys.stderr.write(f"no redis-server on this machine: {INSTALL}\n")
        return []
    with RedisServer(executable, port=free_port()) as server:
        return [*_writes(server), *_reads(server), *_views(server)]


def _day(number: int, names: list[str], values: np.ndarray[Any, Any]) -> list[StoredRow]:
    return [
        stored_row(name, number * DAY, values=row) for name, row in zip(names, values, strict=True)
    ]


def _data() -> tuple[list[str], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(1)
    names = [f"E{number:05}" for number in range(ENTITIES)]
    return names, generator.standard_normal((ENTITIES, FEATURES))


def _writes(server: RedisServer) -> list[dict[str, Any]]:
    """Rows per second in batches of :data:`BATCH`: the first of each entity, and later ones."""
    from redis import Redis

    from assay.adapters.redis import RedisStore

    names, values = _data()
    store, raw = RedisStore(server.url), Redis(port=server.port or 0, protocol=2)
    found: dict[str, tuple[list[float], list[float]]] = {"first": ([], []), "later": ([], [])}
    for day in range(4):
        batches = _day(day, names, values)
        for start in range(0, ENTITIES, BATCH):
            batch = batches[start : start + BATCH]
            kind = "later" if day else "first"
            for work, times in zip(
                (_ours(store, batch), _raw(raw, batch)), found[kind], strict=True
            ):
                begun = perf_counter()
                work()
                times.append(BATCH / (perf_counter() - begun))
    store.close()
    raw.close()
    measured = []
    for kind, (ours, reference) in found.items():
        name = f"write {kind} rows of entities, batches of {BATCH:,} (reference: pipeline of SETs)"
        row = _row(name, "rows/s", median(ours), median(reference), 0.7, ratio=True)
        measured.append(row | {"met": row["ratio"] >= 0.7})
    return measured


def _ours(store: Any, batch: list[StoredRow]) -> Callable[[], object]:
    return lambda: store.write("fx", batch)


def _raw(raw: Any, batch: list[StoredRow]) -> Callable[[], object]:
    packed = [(row.entity, pack_row("fx", row)) for row in batch]

    def write() -> object:
        pipeline = raw.pipeline(transaction=False)
        for entity, data in packed:
            pipeline.set(entity, data)
        return pipeline.execute()

    return write


def _reads(server: RedisServer) -> list[dict[str, Any]]:
    """The newest rows, and those as of a moment, of entities chosen at random."""
    from redis import Redis

    from assay.adapters.redis import RedisStore

    generator = np.random.default_rng(2)
    names, _ = _data()
    store, raw = RedisStore(server.url), Redis(port=server.port or 0, protocol=2)

    def read_raw(asked: list[str]) -> object:
        return [np.frombuffer(data, "<f8", -1, _HEADER) for data in raw.mget(asked)]

    found = []
    moments = (("newest", None), ("as of now", 10 * DAY), ("as of a day before", 2 * DAY + 1))
    for count, repeats in ((1, 2_000), (100, 300)):
        asked = [
            [names[place] for place in generator.choice(ENTITIES, count, replace=False)]
            for _ in range(repeats)
        ]
        for label, moment in moments:
            times = _beside(
                _each(asked, lambda one, moment=moment: store.read("fx", one, moment)),
                _each(asked, read_raw),
                repeats,
            )
            name = f"read {count} of {ENTITIES:,} entities, {label} (reference: raw MGET)"
            # The past comes from a script, in a second round trip: a goal of our own.
            target = 5.0 if moment == 2 * DAY + 1 else 1.5
            found.append(_row(name, "ms", *times, target, ratio=True))
    store.close()
    raw.close()
    return found


def _views(server: RedisServer) -> list[dict[str, Any]]:
    """The newest rows of some entities of several views at once."""
    from redis import Redis

    from assay.adapters.redis import RedisStore

    names, values = _data()
    names, values = names[:BATCH], values[:BATCH]
    views = [f"view{number}" for number in range(VIEWS)]
    store, raw = RedisStore(server.url), Redis(port=server.port or 0, protocol=2)
    for view in views:
        store.write(view, _day(0, names, values))
    # The raw reference keeps these rows under keys of its own, as it did above.
    for row in _day(0, names, values):
        for view in views:
            raw.set(f"{view}:{row.entity}", pack_row(view, row))
    generator, repeats, found = np.random.default_rng(3), 300, []
    for count in (1, 25):
        drawn = [
            [names[place] for place in generator.choice(BATCH, count, replace=False)]
            for _ in range(repeats)
        ]
        keys = [[f"{view}:{name}" for view in views for name in one] for one in drawn]
        asked = iter([dict.fromkeys(views, one) for one in drawn])
        raw_keys = iter(keys)

        def ours(asked: Iterator[dict[str, list[str]]] = asked) -> object:
            return store.read_views(next(asked))

        def reference(raw_keys: Iterator[list[str]] = raw_keys) -> object:
            packed = raw.mget(next(raw_keys))
            return [np.frombuffer(data, "<f8", -1, _HEADER) for data in packed]

        name = f"read {count} entities of each of {VIEWS} views at once (reference: raw MGET)"
        found.append(_row(name, "ms", *_beside(ours, reference, repeats), 1.5, ratio=True))
    store.close()
    raw.close()
    return found


def _each(asked: list[list[str]], read: Callable[[list[str]], object]) -> Callable[[], object]:
    left: Iterator[list[str]] = iter(asked)
    return lambda: read(next(left))
