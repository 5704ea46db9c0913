"""What stays of pairs when their file is removed: a line for each file, with sums for each day.

1. :func:`summarise` reads a file that was set aside, once, and adds up what adds up exactly: rows,
   pairs, failures by reason, moments. What does not, such as a rank correlation or a quantile, is
   known for the pairs that are kept and no others.
2. :func:`record` writes it down in ``summaries.jsonl`` beside the log, synced, before the file
   goes.
3. :func:`removed_segments` are the sums of files that a reader did not find any more.

A file is known by the SHA-256 of its first line, whatever its name is by then: one that is there
and in a summary is counted once. A kill between the two leaves it in both.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from assay.domain.canonical import sha256_hex
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.serving.challengers.pairs import CHAMPION_SERVED, Turn, decode_turn, each
from assay.storage.files import append_line, drop_torn_tail

FORMAT: Final = 1
DAY: Final = 86_400 * NANOS_PER_SECOND
REASONS: Final = 20
"""Reasons for rows without an answer that are kept apart; the rest is one."""
OTHER_REASONS: Final = "other reasons"
_STRIDE = 65_536
_PAUSE = 0.001
"""Seconds after each stride: requests are answered in the same process meanwhile."""


class DaySummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one challenger did beside one champion on one day, as far as one file tells.

    Attributes
    ----------
    day: in UTC, of when the pairs were made.
    first, last: when the first and the last of them were made, ns UTC.
    rows, pairs: rows that the challenger was asked, and those that both answered.
    errors: rows without an answer, by reason. failed, failure: the last of them, ns UTC, and why.
    dropped: rows that it did not get to.
    behind: the longest time from the moment asked about to when the pair was made, ns.
    difference: sum of absolute differences over ``pairs``.
    compared: pairs whose features had not gone stale. failures: rows that the champion answered and
        the challenger did not, or not in time. answers, fallbacks: rows that the canary answered,
        and that the champion answered in its place. stale: rows with stale features.
    """

    model: str
    champion: str
    champion_digest: str
    challenger: str
    challenger_digest: str
    revision: int
    day: str
    first: int
    last: int
    rows: int
    pairs: int
    behind: int
    difference: float
    errors: dict[str, int] = {}
    failed: int | None = None
    failure: str | None = None
    dropped: int = 0
    compared: int = 0
    failures: int = 0
    answers: int = 0
    fallbacks: int = 0
    stale: int = 0


class SegmentSummary(msgspec.Struct, frozen=True):
    """One line: a file that was set aside, and what was in it.

    ``segment`` is the name that it had, ``head`` the SHA-256 of its first line, ``sha256`` its own;
    ``unreadable`` lines were no turn.
    """

    format: int
    segment: str
    head: str
    sha256: str
    bytes: int
    unreadable: int
    days: list[DaySummary]


def summaries_path(log: Path) -> Path:
    """Where the summaries of a paired log are."""
    return log.with_name("summaries.jsonl")


def head_of(line: bytes) -> str:
    """What a file is known by: the SHA-256 of its first line, with its line break."""
    return sha256_hex(line)


def summarise(path: Path) -> SegmentSummary:
    """Add up a file that nobody appends to any more.

    Raises
    ------
    OSError: it cannot be read.
    """
    sums = DaySums()
    digest = hashlib.sha256()
    head, size, unreadable, since = "", 0, 0, 0
    with path.open("rb") as handle:
        for line in handle:
            head = head or head_of(line)
            digest.update(line)
            size += len(line)
            since += len(line)
            try:
                sums.take(decode_turn(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                unreadable += 1
            if since >= _STRIDE:
                time.sleep(_PAUSE)
                since = 0
    return SegmentSummary(
        FORMAT, path.name, head, digest.hexdigest(), size, unreadable, sums.summaries()
    )


def record(path: Path, made: SegmentSummary) -> None:
    """Append a summary; it is on the disk when this returns. The caller holds the lock.

    Raises
    ------
    OSError: it was not.
    """
    drop_torn_tail(path)
    append_line(path, msgspec.json.encode(made))


def recorded(path: Path) -> dict[str, SegmentSummary]:
    """Head of a file -> its summary, in the order in which they were made.

    Lines that are torn, damaged or of another format are left out: what they said counts no more.
    """
    found: dict[str, SegmentSummary] = {}
    for line in _lines(path):
        try:
            one = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if one.format == FORMAT:
            found.setdefault(one.head, one)
    return found


def removed_segments(log: Path, read: Collection[str]) -> list[SegmentSummary]:
    """The summaries of files of a paired log that a reader did not read, oldest first.

    Parameters
    ----------
    read: heads of the files that it read, to the end, before this is asked.
    """
    return [one for head, one in recorded(summaries_path(log)).items() if head not in read]


class DaySums:
    """Adds turns up, by challenger, champion, revision and day."""

    def __init__(self) -> None:
        self._days: dict[tuple[str, str, str, int, int], _Day] = {}

    def take(self, turn: Turn) -> None:
        """Add a turn; turns come in the order of the log."""
        day = turn.recorded // DAY
        key = (turn.model, turn.champion_digest, turn.challenger_digest, turn.revision, day)
        found = self._days.get(key)
        if found is None:
            found = self._days[key] = _Day(turn)
        found.take(turn)

    def summaries(self) -> list[DaySummary]:
        """What was added up so far, by when each began."""
        return [one.summary() for one in self._days.values()]


class _Day:
    """What :class:`DaySummary` says, on its way."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._last = turn.recorded
        self._rows = self._pairs = self._compared = self._failures = 0
        self._answers = self._fallbacks = self._stale = self._dropped = 0
        self._behind = turn.recorded - _least(turn.at)
        self._differences: list[float] = []
        self._errors: Counter[str] = Counter()
        self._failed: Instant | None = None
        self._failure: str | None = None

    def take(self, turn: Turn) -> None:
        self._rows += len(turn.prediction)
        self._last = turn.recorded
        self._dropped += turn.dropped
        self._behind = max(self._behind, turn.recorded - _least(turn.at))
        differences: list[float] = []
        for old, new, served, stale, error in zip(
            turn.prediction, turn.shadow, each(turn.served), each(turn.stale), each(turn.error),
            strict=False,
        ):  # fmt: skip
            if new is None:
                self._failed, self._failure = turn.recorded, error or "no answer"
                self._errors[self._failure] += 1
            elif old is not None:
                differences.append(abs(new - old))
                self._compared += not stale
            self._stale += bool(stale)
            if served != CHAMPION_SERVED:
                self._answers += served == "canary"
                self._fallbacks += served == "fallback"
            self._failures += old is not None and (new is None or served == "fallback")
        self._pairs += len(differences)
        self._differences.append(math.fsum(differences))

    def summary(self) -> DaySummary:
        turn = self._turn
        return DaySummary(
            turn.model, turn.champion, turn.champion_digest, turn.challenger,
            turn.challenger_digest, turn.revision, render(turn.recorded)[:10], turn.recorded,
            self._last, self._rows, self._pairs, self._behind, math.fsum(self._differences),
            _most_frequent(self._errors), self._failed, self._failure, self._dropped,
            self._compared, self._failures, self._answers, self._fallbacks, self._stale,
        )  # fmt: skip


def _most_frequent(errors: Counter[str]) -> dict[str, int]:
    """The counts, of which a caller who asks for nonsense cannot make any number."""
    found = dict(errors.most_common(REASONS))
    rest = errors.total() - sum(found.values())
    if rest:
        found[OTHER_REASONS] = found.get(OTHER_REASONS, 0) + rest
    return found


def _least(at: int | list[int]) -> int:
    return min(at) if isinstance(at, list) else at


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as handle:
            for line in handle:
                if line.endswith(b"\n"):
                    yield line
    except FileNotFoundError:
        return


_decode = msgspec.json.Decoder(SegmentSummary).decode
