"""A desk with features and one trained version, made once and copied by whoever changes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from assay.bootstrap import Member, create_desk, open_desk
from assay.domain.instants import parse
from assay.orchestration.building import build_features
from assay.orchestration.ingestion import ingest
from assay.orchestration.modelling import register_run, train_recipe
from assay.testing.clocks import FixedClock

NOW = parse("2024-06-01T12:00Z")


class Silent:
    """Progress that nobody watches."""

    def event(self, text: str) -> None:
        pass


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory, archive: Callable[..., None]) -> Path:
    home = tmp_path_factory.mktemp("trained")
    folder = home / "desk"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        create_desk(
            folder,
            name=None,
            members=[Member("quant", ("version", "promotion"))],
            demonstration=True,
        )
        archive(folder / "configs/rates.zip", sessions=620)
        path = folder / "configs/sources.yaml"
        document = yaml.safe_load(path.read_text())
        document["sources"]["ecb"]["path"] = "rates.zip"
        document["universe"]["min_observed"] = 300
        path.write_text(yaml.safe_dump(document))
        (folder / "models/fx_direction.py").unlink()
        desk = open_desk(folder, clock=FixedClock(NOW))
        ingest(desk, Silent())
        build_features(desk, "fx_daily", Silent())
        register_run(desk, train_recipe(desk, "fx_vol_baseline", Silent()), author="quant")
    return home


@pytest.fixture(scope="module")
def trained(trained_home: Path) -> Iterator[Path]:
    """The folder of a desk with 620 sessions, gold, and the baseline registered; not to change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(trained_home / "config"))
        yield trained_home / "desk"


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of that desk to change."""
    folder = tmp_path / "desk"
    shutil.copytree(trained, folder, symlinks=True)
    return folder
