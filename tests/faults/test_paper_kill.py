"""A paper account whose process is killed at every event goes on with the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from assay.portfolio import verify

WORKER = Path(__file__).with_name("paper_worker.py")


def test_killed_at_every_event_the_journal_is_the_one_of_a_process_nobody_killed(
    tmp_path: Path,
) -> None:
    journal, whole = tmp_path / "journal", tmp_path / "whole"
    done = subprocess.run(
        [sys.executable, str(WORKER), str(journal), str(whole)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = whole.read_bytes().count(b'"kind":"prices"')
    assert int(done.stdout) > 2 * events > 10
    assert journal.read_bytes() == whole.read_bytes()
    assert verify(journal) == []
