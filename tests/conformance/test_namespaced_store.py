"""A store whose rows lie under other names keeps the promises of the port."""

from __future__ import annotations

import pytest

from assay.features.online import MemoryStore, NamespacedStore
from assay.testing.online_store import OnlineStoreTests


class TestNamespacedStore(OnlineStoreTests):
    @pytest.fixture
    def open_store(self):
        return lambda **options: NamespacedStore(MemoryStore(**options), {"fx": "fx@1234.1"})
