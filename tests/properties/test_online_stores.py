"""Every online store against a plain dictionary."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from assay.features.online import MemoryStore, SqliteStore
from assay.testing.online_store_machine import drive_online_store


@contextmanager
def in_memory():
    yield MemoryStore


@contextmanager
def in_a_file():
    with tempfile.TemporaryDirectory(prefix="store-machine-") as folder:
        yield lambda **options: SqliteStore(Path(folder) / "online.db", **options)


@pytest.fixture
def places(request):
    def find(kind):
        if kind == "memory":
            return in_memory, False
        if kind == "sqlite":
            return in_a_file, True
        from assay.adapters.redis import RedisStore

        server, numbers = request.getfixturevalue("redis_server"), count()

        @contextmanager
        def in_redis():
            namespace = f"machine {next(numbers)}"
            yield lambda **options: RedisStore(server.url, namespace=namespace, **options)

        return in_redis, True

    return find


KINDS = ("memory", "sqlite", "redis")


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_does_what_a_dictionary_does(kind, places):
    place, durable = places(kind)
    drive_online_store(place, durable=durable, examples=20, steps=20)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_one_version_does_what_a_dictionary_does(kind, places):
    place, durable = places(kind)
    drive_online_store(place, durable=durable, examples=10, steps=15, max_versions=1)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_does_what_a_dictionary_does_for_long(kind, places):
    place, durable = places(kind)
    drive_online_store(place, durable=durable, examples=500, steps=50)
