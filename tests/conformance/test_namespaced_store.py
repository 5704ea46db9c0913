"""A store whose rows lie under other names keeps the promises of the port."""

from __future__ import annotations

import pytest

from assay.features.online import MemoryStore, NamespacedStore
from assay.testing.online_store import OnlineStoreTests, stored_row


class TestNamespacedStore(OnlineStoreTests):
    @pytest.fixture
    def open_store(self):
        return lambda **options: NamespacedStore(MemoryStore(**options), {"fx": "fx@1234.1"})


def test_two_views_with_one_name_beneath_are_both_answered():
    beneath = MemoryStore()
    store = NamespacedStore(beneath, {"fx": "shared"})
    beneath.write("shared", [stored_row("A"), stored_row("B", 2)])
    asked = {"fx": ["A"], "other": ["A"], "shared": ["B", "?"]}
    assert store.read_views(asked) == {
        "fx": [stored_row("A")],
        "other": [None],
        "shared": [stored_row("B", 2), None],
    }


def test_what_is_dropped_is_what_lies_beneath():
    beneath = MemoryStore()
    store = NamespacedStore(beneath, {"fx": "fx@1234.1"})
    beneath.write("fx", [stored_row("A")])
    store.write("fx", [stored_row("B")])
    assert store.entities("fx") == ["B"]
    assert store.drop("fx") == 1
    assert beneath.views() == ("fx",)
