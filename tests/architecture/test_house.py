"""The house keeps its shape: layers, start-up cost, no ambient state, no foreign addresses."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/assay").rglob("*.py"))


def test_imports_only_go_down_the_house() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def imported_by(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}


def test_importing_the_package_or_the_command_line_loads_no_heavy_library() -> None:
    heavy = {"numpy", "numba", "polars", "scipy", "onnxruntime", "onnx", "xgboost", "pandas"}
    assert not imported_by("import assay") & heavy
    assert not imported_by("import assay.cli") & heavy


def test_a_server_loads_no_compiler_and_a_rollback_no_statistics() -> None:
    assert not imported_by("import assay.orchestration.service") & {"numba", "xgboost"}
    supervisor = imported_by("import assay.serving.server.supervisor")
    assert not supervisor & {"fastapi", "numba", "polars", "scipy"}
    statement = "import assay.delivery.rollback, assay.delivery.promotion"
    assert not imported_by(statement) & {"numba", "polars", "scipy", "xgboost"}


def test_optional_packages_are_never_imported_by_the_core() -> None:
    optional = {"currency_converter", "lightgbm", "duckdb", "pyarrow", "pandas", "sklearn", "redis"}
    optional |= {"fsspec", "s3fs", "botocore", "deltalake", "psycopg"}
    optional |= {"grpc"}
    statement = "import assay.bootstrap, assay.orchestration, assay.features, assay.registry"
    statement += ", assay.serving.server.http_server"
    assert not imported_by(statement) & optional


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_reads_the_clock_the_environment_or_global_randomness(path: Path) -> None:
    if path.name in {"clock.py", "locks.py"} or {"bootstrap", "cli"} & set(path.parts):
        return
    banned = {
        ("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"),
        ("date", "today"), ("os", "environ"), ("os", "getenv"),
    }  # fmt: skip
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in banned, f"{path}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "random", f"{path}:{node.lineno}: pass a generator instead"


def test_no_module_imports_the_root_package() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert all(alias.name != "assay" for alias in node.names), path
            if isinstance(node, ast.ImportFrom) and node.module == "assay":
                names = {alias.name for alias in node.names}
                assert names <= {"errors", "settings", "bootstrap"}, path


def test_the_lock_pins_every_package_with_hashes_and_names_no_index() -> None:
    text = (ROOT / "requirements/core.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links", text)
    pins = re.findall(r"^[a-z0-9][a-z0-9._-]*==", text, flags=re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9][a-z0-9._-]*==)", text, flags=re.MULTILINE)[1:]
    assert len(pins) == len(blocks) > 40
    assert all("--hash=sha256:" in block for block in blocks)
