"""The desk on Redis: one line of assay.yaml, the same demo, the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.features.online import OnlineStore, SqliteStore
from assay.testing.redis_server import RedisServer

pytestmark = pytest.mark.long


def rows_of(store: OnlineStore, entities: list[str]) -> list[Any]:
    (view,) = store.views()
    return [store.history(view, entity) for entity in entities]


def test_the_demo_on_redis_serves_and_proves_the_same_bits(
    travelled: tuple[Path, Any, Any], tmp_path: Path, shell: Any, redis_server: RedisServer
) -> None:
    from assay.adapters.redis import RedisStore

    folder, first, _ = travelled
    desk = tmp_path / folder.name
    shutil.copytree(folder, desk, symlinks=True)
    settings = desk / "assay.yaml"
    before = settings.read_text().splitlines()
    after = [
        f"  online_store: {redis_server.url}" if "online_store:" in line else line
        for line in before
    ]
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    settings.write_text("\n".join(after) + "\n")

    second = shell.json("demo", "--desk", str(desk))

    assert not second["replay"]["recorded"]
    assert not (desk / "artifacts/replay/lake/online.db").exists()
    assert second["replay"]["features"] == first["replay"]["features"]
    # How many are asked depends on how soon the guard has seen enough.
    predictions = second["replay"]["predictions"]
    assert predictions["holds"]
    assert predictions["compared"] == predictions["equal"] > 200
    assert second["replay"]["requests"]["error_count"] == 0
    log = (desk / "artifacts/replay/server.log").read_text()
    assert "Traceback" not in log

    on_redis = RedisStore(redis_server.url, namespace=f"{folder.name}.replay")
    in_file = SqliteStore(folder / "artifacts/replay/lake/online.db")
    (view,) = in_file.views()
    entities = sorted({key.split(b":", 1)[1].decode() for key in keys_of(redis_server, "newest:")})
    assert len(entities) > 10
    assert rows_of(on_redis, entities) == rows_of(in_file, entities)
    assert sum(map(len, rows_of(on_redis, entities))) > 500
    assert on_redis.views() == in_file.views() == (view,)
    on_redis.close()
    in_file.close()


def keys_of(server: RedisServer, part: str) -> list[bytes]:
    from redis import Redis

    with Redis(unix_socket_path=str(server.socket)) as client:
        found = client.keys(f"*}}{part}*")
        return [key.split(b"}", 1)[1] for key in found]
