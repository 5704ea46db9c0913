"""The promises of an object store, for whoever writes one.

A suite of its own is ten lines::

    class TestMyObjects(ObjectStoreTests):
        @pytest.fixture
        def open_objects(self, tmp_path):
            return lambda: MyObjects(tmp_path)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from assay.errors import ContractViolation, NotFound
from assay.storage.objects import ObjectStore

Open = Callable[[], ObjectStore]


class ObjectStoreTests:
    """Give ``open_objects``, which opens the same objects each time, empty in each test."""

    def test_what_was_put_comes_back_to_whoever_asks(self, open_objects: Open) -> None:
        data = bytes(range(256)) * 40
        assert open_objects().put_if_absent("a.json", data) == data
        assert open_objects().get("a.json") == data

    def test_a_name_holds_its_first_object_until_it_is_removed(self, open_objects: Open) -> None:
        objects = open_objects()
        assert objects.put_if_absent("deep/er/a.json", b"first") == b"first"
        assert objects.put_if_absent("deep/er/a.json", b"second") == b"first"
        assert open_objects().put_if_absent("deep/er/a.json", b"first") == b"first"
        assert open_objects().get("deep/er/a.json") == b"first"
        objects.remove("deep/er/a.json")
        objects.remove("deep/er/a.json")
        assert open_objects().names("deep/er") == []
        with pytest.raises(NotFound):
            open_objects().get("deep/er/a.json")
        assert objects.put_if_absent("deep/er/a.json", b"third") == b"third"

    def test_an_empty_object_is_one(self, open_objects: Open) -> None:
        assert open_objects().put_if_absent("empty", b"") == b""
        assert open_objects().put_if_absent("empty", b"x") == b""
        assert open_objects().names() == ["empty"]

    def test_what_is_not_there_is_not_found(self, open_objects: Open) -> None:
        objects = open_objects()
        with pytest.raises(NotFound, match=r"a\.json"):
            objects.get("a.json")
        objects.put_if_absent("folder/a.json", b"1")
        with pytest.raises(NotFound):
            objects.get("a.json")

    def test_names_stand_in_their_folder_sorted_and_include_what_came_last(
        self, open_objects: Open
    ) -> None:
        objects, other = open_objects(), open_objects()
        assert objects.names() == []
        assert objects.names("published/fx") == []
        for name in ("b", "published/fx/2", "published/fx/1", "published/fy/3", "a"):
            other.put_if_absent(name, name.encode())
            assert other.get(name) == name.encode()
        assert objects.names() == ["a", "b"]
        assert objects.names("published/fx") == ["published/fx/1", "published/fx/2"]
        assert objects.names("published") == []

    def test_of_several_writers_at_once_one_wins_and_all_see_its_bytes(
        self, open_objects: Open
    ) -> None:
        objects = open_objects()
        offers = [str(number).encode() * 500 for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda data: objects.put_if_absent("one", data), offers))
        assert set(seen) == {open_objects().get("one")}
        assert seen[0] in offers

    @pytest.mark.parametrize("name", ["", "/a", "a/", "../a", "a/../b", "a//b", ".a", "a\n", "é"])
    def test_a_name_that_leads_elsewhere_is_refused(self, open_objects: Open, name: str) -> None:
        objects = open_objects()
        with pytest.raises(ContractViolation, match="object name"):
            objects.put_if_absent(name, b"")
        with pytest.raises(ContractViolation, match="object name"):
            objects.get(name)
