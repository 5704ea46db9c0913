"""The paired log: bounded on the disk, read on through what was set aside, whole after a kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ContractViolation
from assay.serving.challengers import pair_log
from assay.serving.challengers.pair_log import Kept, PairLog, PairReader, PairSums, segments
from assay.serving.challengers.pairs import Turn, column, decode_turn, encode_turns
from assay.serving.challengers.summaries import record, summaries_path, summarise

DAY = 86_400 * 10**9
WORKER = """
import sys
from pathlib import Path
from assay.serving.challengers.pair_log import Kept, PairLog
from assay.serving.challengers.pairs import Turn, encode_turns
log = PairLog(Path(sys.argv[1]), Kept(4_000, 10**9))
for n in range(300):
    turn = Turn(n, sys.argv[2], "1.0.0", "a", "2.0.0", "b", 7, None, n, [1.0], [2.0], n, 5, 6)
    log.append(encode_turns([turn]), n)
    print(n, flush=True)
sys.stdin.read()  # until it is killed
"""


def turn(number: int, *, at: int | None = None, rows: int = 1, model: str = "m") -> Turn:
    recorded = number if at is None else at
    return Turn(
        recorded, model, "1.0.0", "old", "2.0.0", "new", 7, None, number, [1.0] * rows,
        [2.0] * rows, recorded, 5, 6,
    )  # fmt: skip


def numbers(reader: PairReader) -> list[int]:
    return [one.turn for one in reader.turns()]


def test_a_line_gives_the_rows_that_went_into_it() -> None:
    errors = [None, "it raised X", None]
    made = Turn(
        9, "m", "1.0.0", "old", "2.0.0", "new", 7, "a" * 64, 3, [1.0, None, 3.0], [1.5, None, 2.5],
        [1, 2, 3], [10, None, 30], [40, 50, 40], column(["A", None, "A"]), column([5, 5, 5]),
        column([None, None, None]), column(["champion", "canary", "fallback"]), column(errors),
        column([None, "id", None]), dropped=4,
    )  # fmt: skip
    rows = list(decode_turn(encode_turns([made])).pairs())
    assert [(one.at, one.prediction, one.shadow, one.instrument, one.event_time, one.stale,
             one.served, one.error, one.request_id, one.dropped) for one in rows] == [
        (1, 1.0, 1.5, "A", 5, None, "champion", None, None, 4),
        (2, None, None, None, 5, None, "canary", "it raised X", "id", 0),
        (3, 3.0, 2.5, "A", 5, None, "fallback", None, None, 0),
    ]  # fmt: skip
    assert [one.champion_ms for one in rows] == [1e-5, None, 3e-5]
    assert [one.shadow_ms for one in rows] == [4e-5, 5e-5, 4e-5]
    assert {(one.recorded, one.turn, one.revision, one.manifest) for one in rows} == {
        (9, 3, 7, "a" * 64)
    }


def test_full_files_are_set_aside_and_the_oldest_removed(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, Kept(segment_bytes=1_000, total_bytes=5_000))
    for number in range(300):
        log.append(encode_turns([turn(number)]), number)
        files = [*segments(path), path]
        assert sum(one.stat().st_size for one in files) <= 5_000
        assert all(one.stat().st_size <= 1_000 for one in files)
    kept = numbers(PairReader(path))
    assert kept == list(range(kept[0], 300))
    assert len(kept) > 12


def test_another_day_begins_another_file_and_old_days_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, Kept(days=3.0))
    for day in range(10):
        for hour in (1, 23):
            at = day * DAY + hour * DAY // 24
            log.append(encode_turns([turn(day, at=at)]), at)
    # What was begun on the last day, and what may hold something of the last three.
    assert numbers(PairReader(path)) == [5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    assert len(segments(path)) == 4


def test_a_batch_that_is_larger_than_a_segment_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, Kept(segment_bytes=500, total_bytes=50_000))
    for number in range(3):
        log.append(encode_turns([turn(number, rows=200)]), number)
    assert len(list(PairReader(path).read())) == 600


def test_a_torn_line_is_cut_off_before_the_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, Kept(segment_bytes=300, total_bytes=10_000))
    log.append(encode_turns([turn(0)]), 0)
    reader = PairReader(path)
    assert numbers(reader) == [0]
    with path.open("ab") as handle:
        handle.write(b'{"recorded":1,"mod')
    assert numbers(reader) == []
    log.append(encode_turns([turn(1)]), 1)
    log.append(encode_turns([turn(2)]), 2)
    assert numbers(reader) == [1, 2]
    assert numbers(PairReader(path)) == [0, 1, 2]
    assert reader.unreadable == 0


@given(st.lists(st.sampled_from(["append", "read", "torn", "expire"]), max_size=60))
def test_a_reader_sees_each_line_once_and_in_order(tmp_path_factory, steps: list[str]) -> None:
    path = tmp_path_factory.mktemp("pairs") / "predictions.jsonl"
    log = PairLog(path, Kept(segment_bytes=400, total_bytes=10**6))
    reader = PairReader(path)
    seen: list[int] = []
    made = 0
    lost: set[int] = set()
    for step in steps:
        if step == "append":
            log.append(encode_turns([turn(made)]), made)
            made += 1
        elif step == "torn" and path.exists():
            with path.open("ab") as handle:
                handle.write(b"{torn")
        elif step == "expire" and segments(path):
            oldest = segments(path)[0]
            lost |= {decode_turn(line).turn for line in oldest.read_bytes().splitlines()}
            oldest.unlink()
        elif step == "read":
            seen += numbers(reader)
    seen += numbers(reader)
    assert seen == sorted(set(seen))
    assert set(range(made)) - lost <= set(seen)


def test_what_was_removed_before_it_was_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, Kept(segment_bytes=300, total_bytes=600))
    reader = PairReader(path)
    log.append(encode_turns([turn(0)]), 0)
    assert numbers(reader) == [0]
    for number in range(1, 40):
        log.append(encode_turns([turn(number)]), number)
    seen = numbers(reader)
    assert seen == list(range(seen[0], 40))


@pytest.mark.parametrize("lives", [1, pytest.param(6, marks=pytest.mark.long)])
def test_processes_that_are_killed_leave_a_log_of_whole_lines(tmp_path: Path, lives: int) -> None:
    path = tmp_path / "predictions.jsonl"
    generator = random.Random(8)
    told: dict[str, int] = {}
    reader = PairReader(path)
    seen: dict[str, list[int]] = {}
    for life in range(lives):
        names = [f"{life}-{number}" for number in range(2)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(path), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        for name, process in zip(names, processes, strict=True):
            assert process.stdout is not None
            for _ in range(generator.randrange(20, 60)):
                told[name] = int(process.stdout.readline())
            for one in reader.turns():
                seen.setdefault(one.model, []).append(one.turn)
        for name, process in zip(names, processes, strict=True):
            os.kill(process.pid, signal.SIGKILL)
            assert process.stdout is not None
            told[name] = max(told[name], *map(int, process.stdout.read().split("\n")[:-1] or [0]))
            assert process.stdin is not None
            process.stdin.close()
            process.stdout.close()
            process.wait()
    PairLog(path, Kept()).append(encode_turns([turn(0, model="last")]), 0)
    for one in reader.turns():
        seen.setdefault(one.model, []).append(one.turn)
    assert segments(path)
    assert reader.unreadable == 0
    for name, last in told.items():
        # What was told is there; the line after it may be too.
        assert seen[name] in ([*range(last + 1)], [*range(last + 2)])


def begin_another(path: Path, number: int) -> None:
    """What a server does whose file is full, and which has yet to summarise it."""
    count = len(segments(path)) + 1
    path.rename(path.with_name(f"{path.stem}-{count:06d}{path.suffix}"))
    path.write_bytes(encode_turns([turn(number)]))


def rows(sums: PairSums) -> int | None:
    days = sums.known_days()
    return None if days is None else sum(one.rows for one in days)


def test_files_without_sums_are_read_for_an_answer_only_where_they_are_few(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(encode_turns([turn(0)]))
    follows = PairSums(path)
    for number in range(1, 10):
        assert rows(follows) == number
        begin_another(path, number)
    assert rows(follows) == 10  # it never had more than one to read
    anew = PairSums(path)
    for one in segments(path)[:6]:
        assert rows(anew) is None
        record(summaries_path(path), summarise(one))
    assert len(segments(path)) == 9
    assert rows(anew) == 10  # three, and the current one


@pytest.mark.parametrize("removed", [False, True])
def test_a_file_that_is_set_aside_during_a_look_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(encode_turns([turn(0)]))
    begin_another(path, 1)
    left, opened = [2, 3], pair_log._Open.of

    def meanwhile(asked: Path) -> object:
        if asked == path and left:
            if removed:  # what is set aside has the name of the one that was listed
                for one in segments(path):
                    record(summaries_path(path), summarise(one))
                    one.unlink()
            begin_another(path, left.pop(0))
        return opened(asked)

    monkeypatch.setattr(pair_log._Open, "of", meanwhile)
    assert rows(PairSums(path)) == 4
    assert left == []


@pytest.mark.parametrize(
    "wrong", [{"segment_bytes": 0}, {"segment_bytes": 2, "total_bytes": 1}, {"days": 0.0}]
)
def test_bounds_that_keep_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ContractViolation, match="expected a segment"):
        Kept(**wrong)  # type: ignore[arg-type]
