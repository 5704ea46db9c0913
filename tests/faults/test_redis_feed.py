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


def feed_until_it_fails(server, checkpoint, table, die_at, kill):
    """Take batches as a process that was started anew; whether it could take them all."""
    store = RedisStore(server.url)
    feed = OnlineFeed(VIEW, store, checkpoint, **OPTIONS)
    position = 0
    try:
        for batch in batches_of(VIEW, table):
            position += len(batch)
            if position > feed.position:
                if die_at is not None and position >= die_at:
                    kill()
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
        # Between two writes, or at some instant of the following ones.
        timer = threading.Timer(0.0005, server.kill)
        kill = timer.start if number % 2 else server.kill
        failed += not feed_until_it_fails(server, checkpoint, table, die_at, kill)
        if number % 2:
            timer.join()
        server.start()
    assert feed_until_it_fails(server, checkpoint, table, None, None)
    store = RedisStore(server.url)
    assert stored_rows(store) == expected
    store.close()
    return failed


def test_a_feed_whose_server_is_killed_goes_on_to_the_same_rows(tmp_path, start_redis):
    checkpoint = tmp_path / "feed.ckp"
    assert kill_the_server_of_a_feed(start_redis, checkpoint, 4, random.Random(1)) >= 2


@pytest.mark.long
def test_a_feed_whose_server_is_killed_fifty_times_goes_on_to_the_same_rows(tmp_path, start_redis):
    checkpoint = tmp_path / "feed.ckp"
    assert kill_the_server_of_a_feed(start_redis, checkpoint, 50, random.Random(2)) >= 25
