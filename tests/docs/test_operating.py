"""The page for whoever is called at night is followed, word by word, on a desk with a bad model."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.testing.redis_server import RedisServer

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs/how-to/operate-a-service.md"
LOCAL_REDIS = "ASSAY_FEATURES__ONLINE_STORE=redis://localhost:6379/0"


def promote_a_twin(folder: Path) -> None:
    """Another version of the model in production, in its place: the bad one."""
    from assay import bootstrap
    from assay.delivery.promotion import break_glass
    from assay.registry.sealed import OPTIONAL, REQUIRED, Candidate

    desk = bootstrap.open_desk(folder)
    current = desk.registry.current("fx_vol")
    assert current is not None
    first = desk.registry.open_version("fx_vol", current.version)
    twin = replace(first.metadata, version="9.0.0", config={"as": "a version of its own"})
    files = {name: first.files[name] for name in (*REQUIRED, *OPTIONAL) if name in first.files}
    desk.registry.register(Candidate(twin, first.schema, files))
    break_glass(
        desk.registry, "fx_vol", "9.0.0", initiated_by="ops.demo", reason="a test",
        clock=desk.clock, monotonic=time.monotonic,
    )  # fmt: skip


def test_the_steps_for_the_night_do_what_the_page_says(
    travelled: tuple[Path, Any, Any],
    tmp_path: Path,
    reader: Any,
    shell: Any,
    start_redis: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
    promote_a_twin(desk)
    redis: RedisServer = start_redis("--appendonly", "yes", "--appendfsync", "always")
    person = reader(desk)
    person.does["systemctl stop redis"] = redis.kill
    person.does["systemctl start redis"] = redis.start
    person.follow(PAGE, **{LOCAL_REDIS: LOCAL_REDIS.partition("=")[0] + f"={redis.url}"})
    assert person.done == {"systemctl stop redis", "systemctl start redis"}
    live = shell.json("models", "live", "fx_vol", "--desk", str(desk))
    assert live["version"] != "9.0.0"
