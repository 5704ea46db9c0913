"""What is removed from the paired log leaves its sums: none is lost, and none counted twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from assay.domain.canonical import sha256_hex
from assay.serving.challengers.pair_log import Kept, PairLog, PairReader, segments
from assay.serving.challengers.pairs import Pair, Turn, column, encode_turns
from assay.serving.challengers.summaries import (
    FORMAT,
    OTHER_REASONS,
    REASONS,
    DaySummary,
    recorded,
    removed_segments,
    summaries_path,
    summarise,
)

HOUR = 3_600 * 10**9
DAY = 24 * HOUR
SERVED = ("champion", "champion", "canary", "fallback")


def random_turn(generator: random.Random, number: int, at: int) -> Turn:
    """A turn of up to nine rows of anything that a server may write."""
    rows = generator.randrange(1, 10)

    def some(values: Sequence[object]) -> list[object]:
        return [generator.choice(values) for _ in range(rows)]

    shadow = [None if generator.random() < 0.2 else generator.gauss(0, 1) for _ in range(rows)]
    reasons = ("it raised X", "no finite number", None)
    return Turn(
        at, generator.choice("mn"), "1.0.0", generator.choice(("old", "older")), "2.0.0",
        generator.choice(("new", "newer")), generator.choice((7, 8)), None, number,
        [None if generator.random() < 0.1 else generator.gauss(0, 1) for _ in range(rows)],
        shadow, column([at - generator.randrange(3 * HOUR) for _ in range(rows)]), 5, 6,
        column(some(("A", "B", None))), None, column(some((True, False, None))),
        column(some(SERVED)),
        column([generator.choice(reasons) if one is None else None for one in shadow]), None,
        generator.randrange(3),
    )  # fmt: skip


def plainly(pairs: Sequence[Pair]) -> dict[str, object]:
    """What a summary says, pair by pair."""
    both = [one for one in pairs if one.prediction is not None and one.shadow is not None]
    lost = [one for one in pairs if one.shadow is None]
    return {
        "first": min(one.recorded for one in pairs),
        "last": max(one.recorded for one in pairs),
        "rows": len(pairs),
        "pairs": len(both),
        "behind": max(one.recorded - one.at for one in pairs),
        "errors": dict(Counter(one.error or "no answer" for one in lost)),
        "failed": lost[-1].recorded if lost else None,
        "failure": (lost[-1].error or "no answer") if lost else None,
        "dropped": sum(one.dropped for one in pairs),
        "compared": sum(not one.stale for one in both),
        "failures": sum(
            one.prediction is not None and (one.shadow is None or one.served == "fallback")
            for one in pairs
        ),
        "answers": sum(one.served == "canary" for one in pairs),
        "fallbacks": sum(one.served == "fallback" for one in pairs),
        "stale": sum(one.stale is True for one in pairs),
    }


def key(one: Pair | DaySummary) -> tuple[str, str, str, int]:
    return one.model, one.champion_digest, one.challenger_digest, one.revision


def test_a_summary_says_what_its_pairs_say(tmp_path: Path) -> None:
    generator = random.Random(9)
    made = [random_turn(generator, n, DAY * 20_000 + n * HOUR // 3) for n in range(200)]
    path = tmp_path / "predictions-000004.jsonl"
    data = encode_turns(made)
    path.write_bytes(data[:500] + b"x" + data[500:])  # one line is damaged
    found = summarise(path)
    read = list(PairReader(path).read())
    first = path.read_bytes().splitlines(keepends=True)[0]
    assert (found.format, found.segment, found.unreadable) == (FORMAT, path.name, 1)
    assert (found.head, found.sha256) == (sha256_hex(first), sha256_hex(path.read_bytes()))
    assert found.bytes == path.stat().st_size
    days = {(*key(one), one.day): one for one in found.days}
    groups: dict[tuple[object, ...], list[Pair]] = {}
    for pair in read:
        day = ("2024-10-04", "2024-10-05", "2024-10-06")[pair.recorded // DAY - 20_000]
        groups.setdefault((*key(pair), day), []).append(pair)
    assert days.keys() == groups.keys()
    for which, pairs in groups.items():
        said = msgspec.structs.asdict(days[which])
        assert {name: said[name] for name in plainly(pairs)} == plainly(pairs)
        away = [abs(one.shadow - one.prediction) for one in pairs
                if one.shadow is not None and one.prediction is not None]  # fmt: skip
        assert said["difference"] == pytest.approx(sum(away), rel=1e-12)


def counts(path: Path) -> Counter[tuple[object, ...]]:
    """Rows of each challenger, in files that are there and in sums of those that are not."""
    reader = PairReader(path)
    found: Counter[tuple[object, ...]] = Counter(key(one) for one in reader.read())
    for segment in removed_segments(path, reader.heads):
        for one in segment.days:
            found[key(one)] += one.rows
    return found


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_are_kept_and_rows_that_are_summed_are_all_rows(
    tmp_path: Path, seed: int
) -> None:
    generator = random.Random(seed)
    path = tmp_path / "predictions.jsonl"
    logs = [PairLog(path, Kept(2_000, 9_000, days=2.0)) for _ in range(2)]
    expected: Counter[tuple[object, ...]] = Counter()
    at = DAY * 20_000
    early = PairReader(path)
    for number in range(120):
        at += generator.randrange(3 * HOUR)
        turn = random_turn(generator, number, at)
        expected[key(next(turn.pairs()))] += len(turn.prediction)
        generator.choice(logs).append(encode_turns([turn]), at)
        if number == 40:
            list(early.read())  # holds a file open that is removed later
        if number % 10 == 0:
            assert counts(path) == expected
    assert counts(path) == expected
    assert len(recorded(summaries_path(path))) > len(segments(path)) > 0
    known = Counter(key(one) for one in early.read())
    assert 0 < known.total() < expected.total()
    assert [one.trouble for one in logs] == [None, None]


def test_a_day_that_is_read_and_summarised_meanwhile_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, Kept(segment_bytes=900, total_bytes=1_800))
    generator = random.Random(3)
    made = [random_turn(generator, n, DAY * 20_000 + n) for n in range(30)]
    for one in made[:2]:
        log.append(encode_turns([one]), one.recorded)
    reader = PairReader(path)
    turns = reader.turns()
    seen = [next(turns)]  # of the file that the rest of the log pushes out
    for one in made[2:]:
        log.append(encode_turns([one]), one.recorded)
    seen += list(turns)
    rows = sum(len(one.prediction) for one in seen)
    missed = removed_segments(path, reader.heads)
    rows += sum(day.rows for one in missed for day in one.days)
    assert rows == sum(len(one.prediction) for one in made)
    assert len(seen) < len(made)


CUT = """
import os, signal, sys
from pathlib import Path
from assay.serving.challengers import summaries
from assay.serving.challengers.pair_log import Kept, PairLog
from assay.serving.challengers.pairs import Turn, encode_turns
def die():
    os.kill(os.getpid(), signal.SIGKILL)
where, path = sys.argv[1], Path(sys.argv[2])
if where == "torn":
    def half(path, line):
        path.open("ab").write(line[: len(line) // 2])
        die()
    summaries.append_line = half
elif where == "written":
    whole = summaries.append_line
    summaries.append_line = lambda path, line: (whole(path, line), die())
elif where == "removed":
    gone = Path.unlink
    Path.unlink = lambda self: (gone(self), die())
log = PairLog(path, Kept(1_000, 3_000))
for n in range(200):
    turn = Turn(n, "m", "1.0.0", "old", "2.0.0", "new", 7, None, n, [1.0, 2.0], [2.0, 3.0], n, 5, 6)
    print(n, flush=True)  # whatever was begun may be there
    log.append(encode_turns([turn]), n)
"""


@pytest.mark.parametrize("where", ["torn", "written", "removed"])
def test_a_kill_while_a_file_is_removed_neither_loses_nor_doubles(
    tmp_path: Path, where: str
) -> None:
    path = tmp_path / "predictions.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", CUT, where, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    # It dies after the line was appended, on the way to remove another one.
    begun = int(done.stdout.split()[-1]) + 1
    assert counts(path).total() == 2 * begun
    log = PairLog(path, Kept(1_000, 3_000))
    for number in range(begun, begun + 40):
        turn = Turn(
            number, "m", "1.0.0", "old", "2.0.0", "new", 7, None, number, [1.0, 2.0], [2.0, 3.0],
            number, 5, 6,
        )  # fmt: skip
        log.append(encode_turns([turn]), number)
    assert counts(path).total() == 2 * (begun + 40)
    lines = summaries_path(path).read_bytes().splitlines()
    assert len({msgspec.json.decode(one)["head"] for one in lines}) == len(lines)
    assert sum(one.stat().st_size for one in segments(path)) <= 3_000


def test_pairs_whose_sums_cannot_be_written_stay(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    summaries_path(path).mkdir()
    log = PairLog(path, Kept(segment_bytes=500, total_bytes=1_000))
    generator = random.Random(5)
    for number in range(20):
        log.append(encode_turns([random_turn(generator, number, number)]), number)
    assert len(list(PairReader(path).turns())) == 20
    assert "old pairs are not removed" in str(log.trouble)
    summaries_path(path).rmdir()
    log.append(encode_turns([random_turn(generator, 20, 20)] * 3), 20)
    assert log.trouble is None
    assert len(list(PairReader(path).turns())) < 20


def test_reasons_are_counted_and_no_more_than_some_are_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions-000001.jsonl"
    rows = 3 * REASONS
    path.write_bytes(
        encode_turns(
            [
                Turn(
                    9, "m", "1.0.0", "old", "2.0.0", "new", 7, None, 1, [1.0] * (rows + 5),
                    [None] * (rows + 5), 9, 5, 6,
                    error=[f"no row for E{n}" for n in range(rows)] + ["it raised X"] * 5,
                )
            ]
        )
    )  # fmt: skip
    (found,) = summarise(path).days
    assert len(found.errors) == REASONS + 1
    assert found.errors["it raised X"] == 5
    assert sum(found.errors.values()) == rows + 5
    assert found.errors[OTHER_REASONS] == rows - (REASONS - 1)


def test_lines_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    segment = tmp_path / "predictions-000001.jsonl"
    segment.write_bytes(encode_turns([random_turn(random.Random(1), 0, 0)]))
    made = summarise(segment)
    path = tmp_path / "summaries.jsonl"
    later = msgspec.structs.replace(made, format=FORMAT + 1, head="another")
    whole = msgspec.json.encode(made)
    path.write_bytes(
        b"\n".join([msgspec.json.encode(later), b"{damaged", whole, whole, whole[:-9]])
    )
    assert recorded(path) == {made.head: made}
    assert recorded(tmp_path / "none.jsonl") == {}


WRITER = """
import sys
from pathlib import Path
from assay.serving.challengers.pair_log import Kept, PairLog
from assay.serving.challengers.pairs import Turn, encode_turns
log = PairLog(Path(sys.argv[1]), Kept(1_500, 6_000))
n = 0
while True:
    turn = Turn(n, sys.argv[2], "1.0.0", "a", "2.0.0", "b", 7, None, n, [1.0], [2.0], n, 5, 6)
    log.append(encode_turns([turn]), n)
    print(n, flush=True)
    n += 1
"""


@pytest.mark.long
def test_processes_that_are_killed_at_any_moment_leave_every_row_counted_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "predictions.jsonl"
    generator = random.Random(11)
    told: dict[str, int] = {}
    for life in range(12):
        processes = {
            f"{life}-{number}": subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"{life}-{number}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        }
        for name, process in processes.items():
            assert process.stdout is not None
            for _ in range(generator.randrange(30, 90)):
                told[name] = int(process.stdout.readline())
        for name, process in processes.items():
            process.kill()
            assert process.stdout is not None
            said = process.stdout.read().split("\n")
            process.stdout.close()
            process.wait()
            told[name] = max([told[name], *map(int, said[:-1])])
    found = {name: rows for (name, *_), rows in counts(path).items()}
    assert len(recorded(summaries_path(path))) > 5
    for name, rows in found.items():
        # What was told is counted; the line after it may be too.
        assert rows in {told[name] + 1, told[name] + 2}
