"""The tutorial works as it is written: every command in it is run, on generated rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/tutorials/first-desk.md"


def test_every_command_of_the_tutorial_does_what_the_page_says(
    shell: Any, archive: Any, reader: Any
) -> None:
    def feed_with_generated_rates(folder: Path) -> None:
        archive(folder / "configs/rates.zip")
        path = folder / "configs/sources.yaml"
        document = yaml.safe_load(path.read_text())
        document["sources"]["ecb"]["path"] = "rates.zip"
        document["universe"]["min_observed"] = 300
        path.write_text(yaml.safe_dump(document))

    person = reader(shell.home, feed_with_generated_rates)
    # The generated rates end earlier than the real ones.
    dates = {
        word: word.replace("2026-10-30", "2023-12-26")
        for word in TUTORIAL.read_text(encoding="utf-8").replace("'", "\n").splitlines()
        if "2026-10-30" in word
    }
    person.follow(TUTORIAL, **dates)
    assert person.port, "the tutorial serves a model"
