"""A feed whose server is killed goes on from its checkpoint to the same rows."""

import importlib.util
import random
import threading
from pathlib import Path

import pytest

from assay.errors import Unavailable
from assay.features.offline.arrivals import as_known_history
from assay.features.online import OnlineFeed, batches_of

pytest.importorskip("redis")

from assay.adapters.redis import RedisStore

WORKER = Path(__file__).with_name("online_worker.py")
SPEC = importlib.util.spec_from_file_location("online_worker", WORKER)
online_worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(online_worker)
ENTITIES, VIEW, OPTIONS = online_worker.ENTITIES, online_worker.VIEW, online_worker.OPTIONS


def expected_rows(table):
    history = as_known_history(VIEW, table, margin=OPTIONS["margin"], close_with_batch=True)
    values = history.select(VIEW.feature_names).to_numpy()
    keys = history.select(VIEW.key_columns).iter_rows()
    return sorted((*key, row.tobytes()) for key, row in zip(keys, values, strict=True))


def stored_rows(store):
    rows = [row for entity in ENTITIES for row in store.history(VIEW.name, entity)]
    return sorted((row.entity, *row.key, row.values.tobytes()) for row in rows)


def feed_until_it_fails(server, checkpoint, table, die_at):
    """Take batches as a process that was started anew; where it ended, and whether it is done."""
    store = RedisStore(server.url)
    feed = OnlineFeed(VIEW, store, checkpoint, **OPTIONS)
    position = 0
    try:
        for batch in batches_of(VIEW, table):
            position += len(batch)
            if position > feed.position:
                if die_at is not None and position >= die_at:
                    # At some instant of this write and the following ones.
                    threading.Timer(0.0005, server.kill).start()
                    die_at = None
                feed.take(batch, position=position)
        feed.checkpoint()
        return True
    except Unavailable:
        return False
    finally:
        store.close()


def kill_the_server_of_a_feed(start_redis, checkpoint, kills, generator):
    table = online_worker.arrivals()
    expected = expected_rows(table)
    server = start_redis("--appendonly", "yes", "--appendfsync", "no")
    failed = 0
    for number in range(kills):
        die_at = 1 + int(table.height * (number + generator.random()) / kills)
        failed += not feed_until_it_fails(server, checkpoint, table, die_at)
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
        server.start()
    assert feed_until_it_fails(server, checkpoint, table, None)
    store = RedisStore(server.url)
    assert stored_rows(store) == expected
    store.close()
    return failed


def test_a_feed_whose_server_is_killed_goes_on_to_the_same_rows(tmp_path, start_redis):
    kills = 4
    failed = kill_the_server_of_a_feed(start_redis, tmp_path / "feed.ckp", kills, random.Random(1))
    assert failed >= kills - 1  # the last one may die when everything is written


@pytest.mark.long
def test_a_feed_whose_server_is_killed_fifty_times_goes_on_to_the_same_rows(tmp_path, start_redis):
    assert kill_the_server_of_a_feed(start_redis, tmp_path / "f.ckp", 50, random.Random(2)) >= 40
