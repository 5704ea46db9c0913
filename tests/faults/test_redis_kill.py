"""Kill redis-server between and inside writes: nothing half-written is read, a retry completes."""

import random
import shutil
import threading

import pytest

from assay.errors import Unavailable
from assay.testing.online_store import stored_row

pytest.importorskip("redis")

from assay.adapters.redis import RedisStore

ENTITIES = [f"E{number:02}" for number in range(40)]
DURABLE = ("--appendonly", "yes", "--appendfsync", "no")  # a killed process loses no written byte


def batch(number):
    return [stored_row(entity, number, values=(number, 0.5) * 20) for entity in ENTITIES]


def batches_held(store):
    """How many whole batches the store holds; every other state of it fails."""
    held = [[row.event_time for row in store.history("fx", entity)] for entity in ENTITIES]
    assert all(times == held[0] for times in held), held
    assert held[0] == list(range(1, len(held[0]) + 1))
    newest = batch(len(held[0])) if held[0] else [None] * len(ENTITIES)
    assert store.read("fx", ENTITIES) == newest
    return len(held[0])


def log_of(server):
    """The append-only file, wherever this version of the server keeps it."""
    return max(server.folder.rglob("*.aof*"), key=lambda path: (path.stat().st_size, path.name))


def cut_the_log(start_redis, cuts):
    """A server whose log ends inside the last write, at each of some places."""
    server = start_redis(*DURABLE)
    store = RedisStore(server.url)
    for number in (1, 2):
        store.write("fx", batch(number))
    whole_before = log_of(server).stat().st_size
    store.write("fx", batch(3))
    server.kill()
    log = log_of(server)
    content = log.read_bytes()
    length = len(content) - whole_before
    assert length > 40 * 300
    seen = []
    for number in range(cuts + 1):
        log.write_bytes(content[: whole_before + length * number // cuts])
        server.start()
        seen.append(batches_held(store))
        assert store.write("fx", batch(3)) == (40 if seen[-1] == 2 else 0)
        assert batches_held(store) == 3
        server.kill()
    store.close()
    assert seen == [2] * cuts + [3]


def kill_while_writing(start_redis, kills, generator):
    """Kill the server at random moments of a stream of writes, and go on after each."""
    server = start_redis(*DURABLE)
    store = RedisStore(server.url, max_versions=1_000_000)
    accepted, in_doubt = 0, 0
    for _ in range(kills):
        timer = threading.Timer(generator.random() * 0.05, server.kill)
        timer.start()
        try:
            while True:
                store.write("fx", batch(accepted + 1))
                accepted += 1
        except Unavailable:
            pass
        timer.join()
        server.start()
        held = batches_held(store)
        assert accepted <= held <= accepted + 1
        in_doubt += held - accepted
        # The batch whose answer never came is written again, and is then there once.
        assert store.write("fx", batch(accepted + 1)) == (0 if held > accepted else 40)
        accepted += 1
        assert batches_held(store) == accepted
    store.close()
    shutil.rmtree(server.folder, ignore_errors=True)
    return accepted


def test_a_log_cut_anywhere_inside_a_write_holds_none_of_it(start_redis):
    cut_the_log(start_redis, 12)


@pytest.mark.long
def test_a_log_cut_at_three_hundred_places_holds_whole_batches_only(start_redis):
    cut_the_log(start_redis, 300)


def test_a_server_killed_while_it_writes_has_every_accepted_batch_whole(start_redis):
    assert kill_while_writing(start_redis, 4, random.Random(1)) >= 4


@pytest.mark.long
def test_a_server_killed_a_hundred_times_has_every_accepted_batch_whole(start_redis):
    assert kill_while_writing(start_redis, 100, random.Random(2)) > 100
