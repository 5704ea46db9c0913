"""One line of assay.yaml chooses the online store of a desk, and one where its registry is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assay.bootstrap import create_desk, open_desk
from assay.errors import ConfigurationError, Unavailable
from assay.testing.clocks import FixedClock
from assay.testing.online_store import stored_row
from assay.testing.redis_server import free_port

DAY = 86_400 * 10**9


@pytest.fixture
def make_desk(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def make(name="one", **features):
        folder = tmp_path / name
        create_desk(folder, name=None, members=())
        path = folder / "assay.yaml"
        document = yaml.safe_load(path.read_text())
        document["features"] |= features
        path.write_text(yaml.safe_dump(document))
        return open_desk(folder, clock=FixedClock(100 * DAY))

    return make


def test_a_desk_keeps_rows_in_a_file_of_its_lake(make_desk):
    desk = make_desk()
    assert desk.stores.kind == "sqlite"
    assert desk.stores.find(desk) is None
    store = desk.stores.open(desk, max_versions=3)
    store.write("fx", [stored_row()])
    store.close()
    assert (desk.layout.lake / "online.db").is_file()
    again = desk.stores.find(desk)
    assert again.read("fx", ["A"]) == [stored_row()]
    again.close()
    desk.stores.forget(desk)
    assert desk.stores.find(desk) is None


def test_a_desk_keeps_rows_on_the_server_that_it_names_under_its_own_name(make_desk, redis_server):
    one, other, named = (
        make_desk("one", online_store=redis_server.url),
        make_desk("other", online_store=redis_server.url),
        make_desk("third", online_store=redis_server.url, online_namespace="one"),
    )
    stores = [desk.stores.open(desk, max_versions=3) for desk in (one, other, named)]
    stores[0].write("fx", [stored_row()])
    stores[1].write("fx", [stored_row(values=(3.0,))])
    assert stores[2].read("fx", ["A"]) == [stored_row()]
    assert not (one.layout.lake / "online.db").exists()
    one.stores.forget(one)
    assert stores[2].read("fx", ["A"]) == [None]
    assert stores[2].views() == ()
    assert stores[1].read("fx", ["A"]) == [stored_row(values=(3.0,))]
    found = other.stores.find(other)
    assert found.views() == ("fx",)
    for store in (*stores, found):
        store.close()


def test_rows_end_by_the_clock_of_the_desk_where_a_retention_is_set(make_desk, redis_server):
    from redis import Redis

    desk = make_desk(online_store=redis_server.url, online_retention_days=30)
    (view,) = desk.views
    store = desk.stores.open(desk, max_versions=3)
    store.write(view, [stored_row(event_time=90 * DAY)])
    with Redis(unix_socket_path=str(redis_server.socket)) as client:
        left = client.pttl(f"{{one:{view}}}newest:A")
    assert left == pytest.approx(20 * DAY / 1e6, abs=60_000)
    store.close()


def test_a_retention_shorter_than_the_life_of_a_row_is_refused(make_desk, redis_server):
    desk = make_desk(online_store=redis_server.url, online_retention_days=0.5)
    with pytest.raises(ConfigurationError, match=r"online_retention_days is 0\.5: view"):
        desk.stores.open(desk, max_versions=3)


def test_a_retention_without_a_server_is_refused(make_desk):
    with pytest.raises(ConfigurationError, match="sqlite keeps rows"):
        make_desk(online_retention_days=30)


def test_a_desk_opens_without_its_server_and_says_so_when_rows_are_wanted(make_desk):
    pytest.importorskip("redis")
    desk = make_desk(online_store=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        desk.stores.find(desk)
    assert "features.online_store" in caught.value.hint


def test_without_the_client_the_error_says_what_to_install(tmp_path: Path):
    code = """
import sys
sys.modules["redis"] = None
from assay.bootstrap.backends import stores_of
from assay.errors import Unavailable
from assay.settings import FeaturesSettings, Settings
try:
    stores_of(Settings(features=FeaturesSettings(online_store="redis://h")))
except Unavailable as error:
    print(error.hint)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "pip install 'assay[redis]'"


@pytest.mark.parametrize(
    ("package", "call", "extra"),
    [
        ("psycopg", "ledger_of('.', Settings(registry=RegistrySettings(catalogue='postgresql://h/d')))",
         "postgres"),
        ("duckdb", "query_registry(None, 'select 1')", "sql"),
    ],
)  # fmt: skip
def test_without_the_packages_of_the_registry_errors_say_what_to_install(package, call, extra):
    code = f"""
import sys
sys.modules["{package}"] = None
from assay.bootstrap import query_registry
from assay.bootstrap.backends import ledger_of
from assay.errors import Unavailable
from assay.settings import RegistrySettings, Settings
try:
    {call}
except Unavailable as error:
    print(error.hint)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"pip install 'assay[{extra}]'"
