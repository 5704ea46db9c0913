"""The registry from the command line: in SQL, in the past, in a database and back."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.bootstrap import open_desk, query_registry
from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.domain.instants import render
from assay.errors import Tampered
from assay.registry import KeyRing, ModelRegistry
from assay.registry.diagram import lifecycle_dot, lifecycle_markdown, lifecycle_svg
from assay.testing.clocks import FixedClock
from assay.testing.redis_server import free_port
from assay.testing.versions import AUTHOR, make_candidate

T0 = 1_760_000_000_000_000_000
MINUTE = 60 * 10**9


@pytest.fixture(scope="module")
def desk(shell: Any) -> Path:
    """A desk with three versions, the second of them in production since its third minute."""
    folder: Path = shell.home / "commands"
    assert shell.run("init", str(folder), "--as", AUTHOR).returncode == 0
    clock = FixedClock(T0)
    registry = ModelRegistry(
        folder / "data/models",
        KeyRing(folder / "keys", shell.home / "config/assay/keys"),
        clock,
        audit_path=folder / "observability/audit/model_events.jsonl",
    )
    for number in (1, 2, 3):
        registry.register(make_candidate(version=f"{number}.0.0", weights=(number, 1)))
        clock.advance(MINUTE)
    for version in ("1.0.0", "2.0.0"):
        break_glass(
            registry, "fx_vol", version, initiated_by=AUTHOR, reason="first", clock=clock,
            monotonic=lambda: 0.0,
        )  # fmt: skip
    return folder


def test_versions_are_listed_as_they_were_at_a_moment(shell: Any, desk: Path) -> None:
    def stages(*at: str) -> dict[str, str]:
        found = shell.json("models", "list", *at, "--desk", str(desk))
        return {one["version"]: one["stage"] for one in found}

    now = {"1.0.0": "archived", "2.0.0": "production", "3.0.0": "staged"}
    assert stages() == now
    assert stages("--at", render(T0 + 3 * MINUTE)) == now
    assert stages("--at", render(T0 + 3 * MINUTE - 1)) == dict.fromkeys(now, "staged")
    assert stages("--at", render(T0 + MINUTE - 1)) == {"1.0.0": "staged"}
    assert stages("--at", render(T0 - 1)) == {}
    told = shell.run("models", "list", "fx_vol", "--at", render(T0), "--desk", str(desk))
    assert f"as it was at {render(T0)}" in told.stdout
    refused = shell.run("models", "list", "--at", "2199-01-01T00:00Z", "--desk", str(desk))
    assert refused.returncode == 1
    assert "has not come yet" in refused.stderr


def test_sql_is_answered_as_a_table_as_json_and_as_csv(shell: Any, desk: Path) -> None:
    question = "select version, stage from versions order by version"
    command = ("models", "sql", question, "--desk", str(desk))
    expected = [("1.0.0", "archived"), ("2.0.0", "production"), ("3.0.0", "staged")]
    assert [tuple(row.values()) for row in shell.json(*command)] == expected
    rows = list(csv.reader(io.StringIO(shell.run(*command, "--csv").stdout)))
    assert rows == [["version", "stage"], *map(list, expected)]
    table = shell.run(*command).stdout
    assert all(f"{version}    {stage}" in table for version, stage in expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("select nothing from versions",), "nothing"),
        (("drop table versions",), "expected SELECT"),
        (("select * from read_csv('/etc/passwd')",), "beyond the registry"),
        (("select 1", "--csv", "--json"), "expected one of them"),
    ],
)
def test_a_mistake_in_sql_exits_1_in_words(
    shell: Any, desk: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = shell.run("models", "sql", *arguments, "--desk", str(desk))
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_the_lifecycle_is_shown_without_any_desk(shell: Any) -> None:
    for option, make in (
        ("--dot", lifecycle_dot),
        ("--svg", lifecycle_svg),
        ("--markdown", lifecycle_markdown),
    ):
        assert shell.run("models", "lifecycle", option).stdout == make()
    moves = shell.json("models", "lifecycle")
    assert {"from": "archived", "by": "rollback", "to": "production"} in moves


def name_catalogue(desk: Path, value: str) -> None:
    path = desk / "assay.yaml"
    document = yaml.safe_load(path.read_text())
    document["registry"]["catalogue"] = value
    path.write_text(yaml.safe_dump(document))


def test_a_desk_moves_its_registry_into_postgresql_and_back(
    shell: Any, desk: Path, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
    copy = tmp_path / "desk"
    shutil.copytree(desk, copy, symlinks=True)
    before = open_desk(copy).registry.history("fx_vol")
    name_catalogue(copy, postgres_url)
    refused = shell.run("models", "list", "--desk", str(copy))
    assert refused.returncode == 1
    assert "assay models adopt" in refused.stderr
    assert shell.json("models", "adopt", "--as", AUTHOR, "--desk", str(copy))["entries"] == 5

    moved = open_desk(copy)
    assert moved.open_registry().current("fx_vol").version == "2.0.0"
    assert moved.registry.history("fx_vol") == before
    assert moved.verify_log().ok
    assert query_registry(moved, "select version from live order by since").rows == (
        ("1.0.0",),
        ("2.0.0",),
    )
    rollback(moved.registry, "fx_vol", reason="x", initiated_by=AUTHOR, monotonic=lambda: 0.0)
    assert len(moved.rebuilt_registry().list()) == 3
    moved.registry.close()

    name_catalogue(copy, "sqlite")
    with pytest.raises(Tampered, match="cut or replaced"):
        _ = open_desk(copy).registry  # the file is as it was when the log moved away
    assert shell.json("models", "adopt", "--as", AUTHOR, "--desk", str(copy))["entries"] == 6
    back = open_desk(copy)
    assert len(back.registry.history("fx_vol")) == 6
    assert back.registry.current("fx_vol").version == "1.0.0"
    assert back.verify_log().ok


@pytest.mark.long
def test_a_copied_desk_takes_a_schema_of_its_own_or_claims_the_one_it_names(
    shell: Any, desk: Path, tmp_path: Path, postgres: Any, postgres_url: str
) -> None:
    def run(folder: Path, *words: str) -> Any:
        return shell.run("models", *words, "--desk", str(folder))

    original, copy = tmp_path / "original", tmp_path / "copy"
    shutil.copytree(desk, original, symlinks=True)
    name_catalogue(original, postgres_url)
    assert run(original, "adopt", "--as", AUTHOR).returncode == 0
    shutil.copytree(original, copy, symlinks=True)
    refused = run(copy, "list")
    assert refused.returncode == 1
    assert f"{copy}/data/models is a copy of " in refused.stderr
    assert "assay models claim" in refused.stderr
    assert "?schema=NAME" in refused.stderr

    name_catalogue(copy, postgres.url(f"own_{postgres_url[-16:]}"))
    export = copy / "observability/audit/model_events.jsonl"
    assert run(copy, "adopt", "--from", str(export), "--as", AUTHOR).returncode == 0
    assert len(shell.json("models", "list", "--desk", str(copy))) == 3
    name_catalogue(copy, postgres_url)
    assert "is not where they are" in run(copy, "list").stderr

    assert shell.json("models", "claim", "--as", AUTHOR, "--desk", str(copy))["desk"] == "commands"
    assert len(shell.json("models", "list", "--desk", str(copy))) == 3
    assert "is not where they are" in run(original, "list").stderr
    name_catalogue(original, "sqlite")
    refused = run(original, "claim", "--as", AUTHOR)
    assert (refused.returncode, "nothing is to be claimed" in refused.stderr) == (1, True)


def test_a_password_in_the_environment_is_shown_nowhere(
    shell: Any, desk: Path, tmp_path: Path
) -> None:
    secret = "s3cret-pass"
    for url in (
        f"postgresql://u:{secret}@127.0.0.1:{free_port()}/db",
        f"postgresql://u:{secret}@127.0.0.1:port/db",
        f"oracle://u:{secret}@127.0.0.1/db",
    ):
        result = shell.run(
            "models", "list", "--desk", str(desk), environment={"ASSAY_REGISTRY__CATALOGUE": url}
        )
        assert result.returncode == 1
        assert secret not in result.stderr + result.stdout
        assert "Traceback" not in result.stderr
