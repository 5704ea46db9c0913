"""The Python and the commands in the how-to pages run as they are printed."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shlex
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.access import Role
from assay.domain.instants import parse
from assay.testing.redis_server import RedisServer

LOCAL_REDIS = "redis://localhost:6379/0"
LOCAL_POSTGRES = "postgresql://localhost/assay"
FX_SOCKET = "/run/assay/fx.sock"
ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/how-to"


@pytest.mark.parametrize(
    "name",
    [
        "add-a-feature",
        "add-a-model",
        "add-a-source",
        "add-a-store",
        "backtest-and-paper-trade",
        "cache-features",
        "control-access",
        "define-a-training-set",
        "other-instruments",
        "read-a-parity-report",
        "request-time-features",
        "resample-ticks",
        "windows-and-sessions",
    ],
)
def test_the_code_of_the_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    file = re.search(r"^```yaml\n(years:.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    if file is not None:
        windows = tmp_path / "configs/features/windows.yaml"
        windows.parent.mkdir(parents=True)
        windows.write_text(file[1], encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # as with --desk
    run_code(name, text, tmp_path / "features/page.py")


def test_the_code_of_using_redis_runs(redis_server: RedisServer) -> None:
    text = (PAGES / "use-redis.md").read_text(encoding="utf-8")
    assert text.count(LOCAL_REDIS) == 2
    run_code("use-redis", text.replace(LOCAL_REDIS, redis_server.url))


def test_the_code_of_using_postgresql_runs(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PAGES / "use-postgres.md").read_text(encoding="utf-8")
    assert text.count(f'"{LOCAL_POSTGRES}"') == 1
    assert f"  catalogue: {LOCAL_POSTGRES}\n" in text
    monkeypatch.chdir(tmp_path)
    run_code("use-postgres", text.replace(LOCAL_POSTGRES, postgres_url))


def test_what_the_page_of_postgresql_explains_is_what_errors_say() -> None:
    pytest.importorskip("psycopg")
    source = ROOT / "src/assay"
    files = [*source.glob("adapters/postgres/*.py"), source / "registry/ledger.py"]
    said = " ".join(" ".join(file.read_text(encoding="utf-8").split()) for file in files)
    said = said.replace('" f"', "").replace('" "', "")
    text = (PAGES / "use-postgres.md").read_text(encoding="utf-8")
    table = text.split("## When something")[1]
    phrases = re.findall(r"^\| (.*?) \| ", table, re.MULTILINE)[1:]
    assert len(phrases) > 8
    for phrase in phrases:
        words = re.split(r" \.\.\. .*| [NM]\b,?", phrase)
        assert all(part.strip() in said for part in words), phrase


def test_the_questions_in_sql_are_answered(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any, shell: Any
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    page = PAGES / "ask-the-registry-in-sql.md"
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"^\$ assay models sql (.*)$", text, re.MULTILINE):
        result = shell.run("models", "sql", *shlex.split(line), "--desk", str(desk))
        assert (result.returncode, result.stderr) == (0, "")
        assert len(result.stdout.splitlines()) > 1
    (question,) = re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)
    now = question.replace("2026-01-15 10:30", "2199-01-01 00:00")
    found = shell.json("models", "sql", now, "--desk", str(desk))
    for row in found:
        live = shell.json("models", "live", row["model"], "--desk", str(desk))
        assert live["version"] == row["version"]
    assert found
    tables = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    pytest.importorskip("duckdb")
    from assay.adapters.duckdb import TABLES

    assert tables == set(TABLES)


def test_the_permissions_on_the_page_of_redis_are_those_that_errors_name() -> None:
    pytest.importorskip("redis")
    from assay.adapters.redis.faults import PERMITTED

    text = (PAGES / "use-redis.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"the commands `(.*?)`", text, flags=re.DOTALL)
    assert listed.split() == PERMITTED.split()


def run_code(name: str, text: str, file: Path | None = None) -> None:
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    lines = [line.removeprefix(indent) for indent, body in blocks for line in body.splitlines()]
    # One module for the page: later blocks use what earlier ones define.
    code = compile("\n".join(lines), f"{name}.md", "exec", dont_inherit=True)
    exec(code, {"__name__": "page", "__file__": str(file)})


def test_the_commands_of_controlling_access_do_what_the_page_says(
    tmp_path: Path, reader: Any, shell: Any
) -> None:
    desk = tmp_path / "my-desk"
    assert shell.run("init", str(desk)).returncode == 0
    page = PAGES / "control-access.md"
    reader(desk).follow(page)
    users = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL)[0])
    (desk / "configs/access.yaml").write_text(yaml.safe_dump(users))
    listed = shell.json("access", "users", "--desk", str(desk))
    assert [user["name"] for user in listed] == ["jane.doe", "nightly", "risk"]
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page.read_text(), flags=re.MULTILINE))
    assert set(table) == set(Role)


@pytest.mark.long
def test_the_commands_of_serving_a_model_do_what_the_page_says(
    travelled: tuple[Path, Any, Any],
    tmp_path: Path,
    short: Path,
    reader: Any,
    shell: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    page = PAGES / "serve-a-model.md"
    person = reader(desk)
    on_socket = str(short / "fx.sock")
    person.follow(page, **{FX_SOCKET: on_socket})
    assert person.port
    codes = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    served = f"http://127.0.0.1:{person.port}/model"
    (model,) = json.loads(urllib.request.urlopen(served, timeout=30).read())["models"]
    columns = model["schema"]["names"]
    names: dict[str, Any] = {
        "moment": parse("2023-12-26T17:00Z"),
        "manifest": model["manifest"],
        "values": [[0.01] * len(columns)] * 2,
        "frame": pl.DataFrame({name: [0.01, 0.01] for name in reversed(columns)}),
    }
    for code in codes:
        if "tritonclient" in code and importlib.util.find_spec("tritonclient") is None:
            continue
        here = code.replace("127.0.0.1:8000", f"127.0.0.1:{person.port}")
        here = here.replace('"127.0.0.1", 8000', f'"127.0.0.1", {person.port}')
        here = here.replace("127.0.0.1:8102", f"127.0.0.1:{person.grpc}")
        here = here.replace(FX_SOCKET, on_socket)
        exec(compile(here, page.name, "exec", dont_inherit=True), names)
    assert names["made"].value > 0
    with pytest.raises(RuntimeError, match="had gone stale"):
        names["predict"]("USD_SGD", model["manifest"], 20_000)
    assert len(set(names["predictions"].to_list())) == 1
    if "answer" in names:
        assert names["answer"].as_numpy("prediction").tolist() == names["predictions"].to_list()
        names["client"].close()
        assert names["called"].as_numpy("prediction").tolist() == names["predictions"].to_list()
        names["calls"].close()
    names["connection"].close()
    names["here"].close()
    assert names["described"]["name"] == "fx_vol"
    assert names["awaited"] == names["made"].value
    asked = json.dumps({"instrument": "USD_SGD", "timestamp": "2023-12-26T17:00Z"})
    for _ in range(2):
        person.enter(
            f"curl http://127.0.0.1:8000/predict -H 'X-Assay-Manifest: $MANIFEST' --json '{asked}'"
        )
    person.leave()  # the server has written down what it answered
    assert not Path(on_socket).exists()
    log = desk / "artifacts/predictions.jsonl"
    found = shell.json("parity", "served", "--desk", str(desk))
    assert (found["verdict"], found["lines"], found["rows"]) == ("PASS", 2, 1)
    assert found["values"] == found["equal"] > 0
    # One digit of one number that a model was given, and one row that never was.
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    stored = next(line for line in lines if "instrument" in line)
    wrong, never = copy.deepcopy(stored), copy.deepcopy(stored)
    wrong["features"][0] += 1e-15 * abs(wrong["features"][0]) + 5e-324
    never["known_time"] = "2030-01-01T00:00:00Z"
    with log.open("a") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in (wrong, never))
    found = shell.json("parity", "served", "--desk", str(desk), expect=1)
    assert (found["values"] - found["equal"], found["unknown_rows"]) == (1, 1)
    assert all(stored["instrument"] in found[what][0] for what in ("differing", "unknown"))


@pytest.mark.long
def test_the_commands_of_keeping_rows_fresh_do_what_the_page_says(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any, shell: Any
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    assert not (desk / "data" / "online.db").exists()
    reader(desk).follow(PAGES / "keep-online-rows-fresh.md")
    (found,) = shell.json("features", "status", "--desk", str(desk))
    assert (found["behind"], found["pending"]) == (0, 0)
    assert found["entities"] == found["known"] > 5
    for file in desk.glob("data/online.db*"):
        file.unlink()
    told = shell.run("features", "status", "--desk", str(desk))
    assert "next: assay features materialize fx_daily --full\n" in told.stdout
    shell.run("features", "materialize", "fx_daily", "--full", "--desk", str(desk))
    assert shell.json("features", "status", "--desk", str(desk)) == [found]


@pytest.mark.long
def test_the_commands_of_reading_a_parity_report_do_what_the_page_says(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    # The generated rates end earlier than the real ones.
    reader(desk).follow(PAGES / "read-a-parity-report.md", **{"2026-10-01": "2023-10-02"})
    written = desk / "reports/online_following"
    assert {path.suffix for path in written.iterdir()} == {".md", ".html", ".json"}
    last = (next(written.glob("*.md"))).read_text(encoding="utf-8")
    assert "online store" in last, "the replay's store was compared last"


@pytest.mark.long
def test_the_commands_of_promoting_a_manifest_do_what_the_page_says(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    person = reader(desk)
    person.follow(PAGES / "promote-a-manifest.md")
    assert person.port
    assert "fx_daily" in (desk / "configs/features/active_manifest.yaml").read_text()


@pytest.fixture
def keys_as_before(shell: Any, tmp_path: Path) -> Iterator[None]:
    """Private keys that a page changes are those of every other test, too."""
    keys, kept = shell.home / "config/assay/keys", tmp_path / "keys-before"
    shutil.copytree(keys, kept)
    yield
    shutil.rmtree(keys)
    shutil.copytree(kept, keys)


@pytest.mark.usefixtures("keys_as_before")
@pytest.mark.long
def test_each_disaster_of_the_registry_is_recovered_from_as_the_page_says(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any, shell: Any
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    registry, export = desk / "data/models", desk / "observability/audit/model_events.jsonl"

    def damage_a_file() -> None:
        path = registry / "artifacts/fx_vol/1.0.0/model.onnx"
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"x")

    def lose_the_catalogue() -> None:
        (registry / "registry.db").write_bytes(b"no database")
        for one in registry.glob("registry.db-*"):
            one.unlink()

    def change_the_log() -> None:
        log = registry / "log/events.jsonl"
        log.write_bytes(log.read_bytes().replace(b"fx_vol", b"fx_vol_2", 1))

    def lose_the_machine() -> None:
        shutil.rmtree(registry)
        export.unlink()

    def state() -> Any:
        listed = shell.json("models", "list", "--desk", str(desk))
        live = shell.json("models", "live", "fx_vol", "--desk", str(desk))
        return listed, {**live, "at": None}, export.read_bytes()

    disasters = {
        "Every day": None,
        "A file of a version is damaged or gone": damage_a_file,
        "The catalogue is damaged or gone": lose_the_catalogue,
        "The log was changed, cut or lost": change_the_log,
        "The registry is gone, or the machine is": lose_the_machine,
        "A key has to go": None,
        "Disk space is short": None,
        "A version has to go to another desk": None,
        "A signing key was stolen": None,
    }
    text = (PAGES / "recover-the-registry.md").read_text(encoding="utf-8")
    sections = dict(
        re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    )
    assert set(disasters) == {title for title, body in sections.items() if "```" in body}
    after = state()
    for number, (title, strike) in enumerate(disasters.items()):
        before = after
        if strike is not None:
            strike()
            noticed = shell.run("models", "validate", "--desk", str(desk)).returncode
            # Where nothing is left, servers' records still say that there was something.
            assert noticed == 1
        page = tmp_path / f"section{number}.md"
        page.write_text(sections[title], encoding="utf-8")
        reader(desk).follow(page)
        after = state()
        if strike in {lose_the_catalogue, change_the_log, None}:
            assert after[1] == before[1]
        if strike is not None and strike is not damage_a_file:
            assert after[0] == before[0]
        assert shell.json("models", "validate", "--desk", str(desk))["ok"] is True
        shell.run("models", "backup", str(desk / "backups"))
        if title == "Every day":
            assert "everything verifies" in (desk / "reports/models/registry_summary.md").read_text(
                encoding="utf-8"
            )


@pytest.mark.long
def test_the_commands_of_answering_an_auditor_do_what_the_page_says(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any, shell: Any
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    page = PAGES / "answer-an-auditor.md"
    (declared,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (desk / "configs/models.yaml").write_text(declared, encoding="utf-8")
    reader(desk).follow(page)
    told = (desk / "reports/models/fx_vol/lineage.json").read_text(encoding="utf-8")
    assert json.loads(told)["version"] == "1.1.0"
    for name in ("lineage.svg", "comparison.html", "fx_vol-1.1.0.zip", "fx_vol-1.1.0.cdx.json"):
        assert (desk / "reports" / name).stat().st_size > 1_000
    # The demo's server followed a bad challenger and its withdrawal, each a moment later.
    found = shell.json("models", "live", "fx_vol", "--effective", "--desk", str(desk))
    assert found["problems"] == []
    assert {"1.2.0", "1.1.0"} <= {gap["intended"] for gap in found["gaps"]}
    # The challenger was made from a version by exchanging two inputs, and its lineage tells.
    drill = shell.json(
        "models", "lineage", "fx_vol", "1.2.0", "--check", "--desk", str(desk), expect=1
    )
    failed = [one["what"] for one in drill["findings"] if one["verdict"] == "FAIL"]
    assert failed == ["input schema"]
