"""Every online store keeps the promises of the port."""

from __future__ import annotations

import pytest

from assay.features.online import MemoryStore, SqliteStore
from assay.testing.online_store import OnlineStoreTests


class TestMemoryStore(OnlineStoreTests):
    @pytest.fixture
    def open_store(self):
        return MemoryStore


class TestSqliteStore(OnlineStoreTests):
    durable = True

    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda **options: SqliteStore(tmp_path / "online.db", **options)


class TestRedisStore(OnlineStoreTests):
    durable = True

    @pytest.fixture
    def open_store(self, redis_server):
        from assay.adapters.redis import RedisStore

        return lambda **options: RedisStore(redis_server.url, **options)
