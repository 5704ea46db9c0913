"""Who watches a canary reads each line once, through all files, and ends it only where allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.delivery.canary import CanaryPolicy
from assay.delivery.pair_history import PairHistory
from assay.delivery.paired import compare
from assay.domain.verdicts import Verdict
from assay.orchestration.challengers import CanaryWatch, ChallengerFiles, Running
from assay.serving.challengers.pair_log import Kept, PairLog, segments
from assay.serving.challengers.pairs import Turn, column, encode_turns

HOUR = 3_600 * 10**9
RUNNING = {"m": Running("2.0.0", "new", "old", 7)}


def written(log: PairLog, first: int, count: int, *, swapped: bool) -> None:
    """Turns of twenty rows an hour apart."""
    generator = np.random.default_rng(first)
    for number in range(first, first + count):
        old = generator.standard_normal(20)
        new = generator.standard_normal(20) if swapped else old
        turn = Turn(
            number * HOUR, "m", "1.0.0", "old", "2.0.0", "new", 7, None, number, old.tolist(),
            new.tolist(), number * HOUR, 1_000, 1_000, column([f"E{n}" for n in range(20)]),
        )  # fmt: skip
        log.append(encode_turns([turn]), number * HOUR)


@pytest.mark.parametrize("acts", [True, False])
def test_a_harmful_canary_is_named_only_where_it_is_to_be_ended(tmp_path: Path, acts: bool) -> None:
    files = ChallengerFiles(tmp_path / "predictions.jsonl", tmp_path / "feedback.jsonl")
    log = PairLog(files.pairs, Kept(segment_bytes=4_000, total_bytes=10**6))
    watch = CanaryWatch(None, files, CanaryPolicy(), initiated_by="watch", acts=acts)  # type: ignore[arg-type]
    written(log, 0, 10, swapped=False)
    assert watch.look(RUNNING) == []
    assert watch.findings["m", "2.0.0"].numbers["pairs"] == 200
    written(log, 10, 20, swapped=True)
    assert len(segments(files.pairs)) > 3
    assert watch.look(RUNNING) == (["m"] if acts else [])
    finding = watch.findings["m", "2.0.0"]
    assert (finding.verdict, finding.numbers["pairs"]) == (Verdict.FAIL, 600)


def test_a_comparison_reads_every_file_that_is_kept_and_the_sums_of_the_rest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, Kept(segment_bytes=4_000, total_bytes=20_000))
    written(log, 0, 60, swapped=False)
    history = PairHistory(path, model="m", challenger="new", champion="old")
    found = compare(
        history.pairs(), model="m", champion="1.0.0", challenger="2.0.0", removed=history.removed
    )
    assert 20 * 8 < found.kept_pairs < 20 * 50  # the oldest were removed
    assert (found.rows, found.pairs, found.stable_hours) == (1_200, 1_200, 59.0)
    assert found.live.rank_correlation == 1.0


def test_who_begins_to_watch_knows_what_was_removed_before(tmp_path: Path) -> None:
    files = ChallengerFiles(tmp_path / "predictions.jsonl", tmp_path / "feedback.jsonl")
    log = PairLog(files.pairs, Kept(segment_bytes=4_000, total_bytes=20_000))
    written(log, 0, 60, swapped=False)
    watch = CanaryWatch(None, files, CanaryPolicy(), initiated_by="watch")  # type: ignore[arg-type]
    for count in (60, 90):  # what was seen before it was removed, or never, is counted once
        assert watch.look(RUNNING) == []
        numbers = watch.findings["m", "2.0.0"].numbers
        assert (numbers["pairs"], numbers["rows"]) == (count * 20, count * 20)
        assert 0 < numbers["removed"] < count * 20
        written(log, count, 30, swapped=False)
    again = CanaryWatch(None, files, CanaryPolicy(), initiated_by="again")  # type: ignore[arg-type]
    assert again.look(RUNNING) == []
    assert again.findings == {}  # the other one holds the lock
