"""The paired log on disk: segments of bounded size and age, written by several processes.

1. Lines are appended to ``predictions.jsonl`` under a lock. A line that a killed process left torn
   is cut off before the next one is written.
2. A file that is full, or was begun on another day, is set aside as ``predictions-000001.jsonl``
   and so on, by a rename; the next line begins a new one.
3. Each segment is summarised once (:mod:`~assay.serving.challengers.summaries`), by one process at
   a time, while the others go on appending.
4. Segments that are too many bytes together, or too old, are removed, the oldest first, when their
   summary is on the disk.
5. :class:`PairReader` reads on from where it was, through whatever was set aside meanwhile;
   :class:`PairSums` adds up all that there ever was.

Lines are not synced: a process that is killed loses what it had not written, and a power cut the
last seconds. Both make a canary wait longer, and neither makes it pass.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from assay.domain.instants import Instant
from assay.errors import AssayError, ContractViolation, Unavailable
from assay.serving.challengers.pairs import Pair, Turn, decode_turn
from assay.serving.challengers.summaries import (
    DAY,
    DaySummary,
    DaySums,
    head_of,
    record,
    recorded,
    summaries_path,
    summarise,
)
from assay.storage.files import drop_torn_tail
from assay.storage.locks import FileLock

_BEGUN = re.compile(rb'\{"recorded":(\d{1,19})[,}]')
_BLOCK = 2**20
_TRIES = 100
_BACKLOG = 2
"""Segments that are summarised at once: what was just set aside, and one from before there were
summaries. Those that are removed come in addition."""
_AT_ONCE = 4
"""Files without a summary that are begun to be read for one answer, the current one among them;
by default 64 MiB each."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of a paired log is kept.

    Attributes
    ----------
    segment_bytes: a file of more is set aside. total_bytes: of all files together, about.
    days: a segment whose successor was begun longer ago is removed.
    """

    segment_bytes: int = 64 * 2**20
    total_bytes: int = 8 * 2**30
    days: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.segment_bytes <= self.total_bytes or not self.days > 0:
            raise ContractViolation(
                f"{self}: expected a segment of at least one byte, no larger than the whole, and "
                "days above 0"
            )


def segments(path: Path) -> list[Path]:
    """The files that were set aside of the log at ``path``, the oldest first."""
    prefix, suffix = f"{path.stem}-", path.suffix
    found = []
    with suppress(FileNotFoundError), os.scandir(path.parent) as entries:
        for entry in entries:
            name = entry.name
            number = name.removeprefix(prefix).removesuffix(suffix)
            if name == f"{prefix}{number}{suffix}" and number.isdecimal():
                found.append((int(number), path.with_name(name)))
    return [one for _, one in sorted(found)]


class PairLog:
    """Appends to a paired log; several threads and processes may, each with its own.

    Parameters
    ----------
    path: the file that lines are appended to; segments are set aside beside it.

    Attributes
    ----------
    trouble: why segments could not be summarised and removed the last time, if so. They stay.
    """

    def __init__(self, path: Path, kept: Kept) -> None:
        self._path = path
        self._kept = kept
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        # Another one, so that who summarises keeps nobody from appending.
        self._tidying = FileLock(path.with_name("summaries.lock"), timeout=0.0)
        self.trouble: str | None = None

    def append(self, lines: bytes, at: Instant) -> None:
        """Append whole lines that were made at a moment.

        Raises
        ------
        OSError, Unavailable: they were not, or not all.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            drop_torn_tail(self._path)
            full = self._set_aside(len(lines), at)
            with self._path.open("ab") as handle:
                handle.write(lines)
        if full:
            self._tidy(at)

    def _set_aside(self, coming: int, at: Instant) -> bool:
        """Whether the file was full, or of another day, and has gone."""
        begun, size = _beginning(self._path)
        if not size:
            return False
        same_day = begun is None or begun // DAY == at // DAY
        if same_day and size + coming <= self._kept.segment_bytes:
            return False
        aside = segments(self._path)
        number = int(aside[-1].stem.rpartition("-")[2]) + 1 if aside else 1
        name = f"{self._path.stem}-{number:06d}{self._path.suffix}"
        self._path.rename(self._path.with_name(name))
        return True

    def _tidy(self, at: Instant) -> None:
        """Summarise and remove what is due; whoever does so already does it for all."""
        try:
            with self._tidying:
                self._summarise_and_remove(at)
            self.trouble = None
        except Unavailable:
            return
        except (OSError, AssayError) as error:
            self.trouble = f"old pairs are not removed: {error}"

    def _summarise_and_remove(self, at: Instant) -> None:
        aside = segments(self._path)
        due = self._due(aside, at)
        path = summaries_path(self._path)
        known, backlog = recorded(path).keys(), _BACKLOG
        for one in aside:
            if (one in due or backlog) and _head(one) not in known:
                record(path, summarise(one))
                backlog = max(0, backlog - 1)
            if one in due:
                one.unlink()

    def _due(self, aside: list[Path], at: Instant) -> set[Path]:
        """The oldest files, as many as are too old or too much."""
        found = [_beginning(one) for one in aside]
        total = sum(size for _, size in found) + self._kept.segment_bytes
        successors = [*(begun for begun, _ in found[1:]), at]
        due = set()
        for one, (_, size), successor in zip(aside, found, successors, strict=True):
            old = successor is not None and at - successor > self._kept.days * DAY
            if not old and total <= self._kept.total_bytes:
                break
            due.add(one)
            total -= size
        return due


def _head(path: Path) -> str:
    with path.open("rb") as handle:
        return head_of(handle.readline())


def _beginning(path: Path) -> tuple[Instant | None, int]:
    """When the first line of a file was made, where it says so, and the file's size."""
    try:
        with path.open("rb") as handle:
            found = _BEGUN.match(handle.read(64))
            return None if found is None else int(found[1]), os.fstat(handle.fileno()).st_size
    except FileNotFoundError:
        return None, 0


class PairReader:
    """Reads a paired log from where it was left; lines that are torn or damaged are left out.

    The file that is being read is held open, so that it is known again by whatever name it has.

    Attributes
    ----------
    unreadable: lines that were no turn.
    heads: of the files that were read so far, as their summaries name them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: _Open | None = None
        self.unreadable = 0
        self.heads: set[str] = set()

    def read(self) -> Iterator[Pair]:
        """Pairs that came since the last time, oldest first."""
        for turn in self.turns():
            yield from turn.pairs()

    def turns(self) -> Iterator[Turn]:
        """Lines that came since the last time, oldest first."""
        for line in self._lines():
            try:
                yield decode_turn(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1

    def _lines(self) -> Iterator[bytes]:
        while True:
            yield from self._read_on()
            following = self._following()
            if following is None:
                return
            yield from self._read_on()  # what came before it was set aside
            self._open = following

    def _read_on(self) -> Iterator[bytes]:
        if self._open is None:
            return
        for line in self._open.lines():
            if not self._open.begun:
                self._open.begun = True
                self.heads.add(head_of(line))
            yield line

    def _following(self) -> _Open | None:
        """The file after the one that is being read; None where that is the last one.

        Files are renamed meanwhile: what was opened must be what was looked at, and no segment may
        have come between.
        """
        own = None if self._open is None else self._open.inode
        for _ in range(_TRIES):
            aside = segments(self._path)
            found = [(one, _inode(one)) for one in (*aside, self._path)]
            inodes = [inode for _, inode in found]
            later = found[inodes.index(own) + 1 :] if own in inodes else found
            following = next(((one, inode) for one, inode in later if inode is not None), None)
            if following is None:
                if segments(self._path) == aside:
                    return None
                continue
            opened = _Open.of(following[0])
            same = opened is not None and opened.inode == following[1]
            if same and segments(self._path)[-1:] == aside[-1:]:
                return opened
        return None  # renamed a hundred times while it was looked at: the next look finds it


class PairSums:
    """Sums of everything that was ever in a paired log; each line is read once.

    Files that were summarised are not read at all, so that asking is cheap however much is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._read: dict[str, tuple[_Open, DaySums]] = {}

    def known_days(self) -> list[DaySummary] | None:
        """By file, challenger, champion, revision and day, the oldest file first.

        None where there is no log on this machine, it cannot be read, or more than four files were
        neither summarised nor read before: after an upgrade they are summarised one by one, as
        others are set aside.
        """
        if not self._path.parent.is_dir():
            return None
        try:
            with self._mutex:
                return self._days()
        except OSError:
            return None

    def _days(self) -> list[DaySummary] | None:
        there = self._there()
        # Asked after they were opened: what is removed meanwhile is in one or the other.
        made = recorded(summaries_path(self._path))
        if len(there.keys() - made.keys() - self._read.keys()) > _AT_ONCE:
            return None
        self._read = {
            head: self._read.get(head, (opened, DaySums()))
            for head, opened in there.items()
            if head not in made
        }
        found = [day for one in made.values() for day in one.days]
        for opened, sums in self._read.values():
            for line in opened.lines():
                with suppress(msgspec.DecodeError, UnicodeDecodeError):
                    sums.take(decode_turn(line))
            found += sums.summaries()
        return found

    def _there(self) -> dict[str, _Open]:
        """Head -> file, the oldest first; none was set aside while they were opened."""
        for _ in range(_TRIES):
            aside = segments(self._path)
            newest = _inode(aside[-1]) if aside else None
            opened = [_Open.of(one) for one in (*aside, self._path)]
            again = segments(self._path)
            if newest == (_inode(again[-1]) if again else None):
                return {head: one for one in opened if one is not None and (head := one.head())}
        raise OSError(f"{self._path} was set aside {_TRIES} times while it was looked at")


class _Open:
    """A file and how far it was read; closed when nobody holds it any more.

    ``begun`` is whether its first line was taken up.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0
        self.begun = False
        self.inode = os.fstat(descriptor).st_ino

    @classmethod
    def of(cls, path: Path) -> _Open | None:
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None

    def __del__(self) -> None:
        os.close(self._descriptor)

    def head(self) -> str | None:
        """What the file is known by; None before it has a whole line."""
        wanted = 65_536
        block = os.pread(self._descriptor, wanted, 0)
        while b"\n" not in block and len(block) == wanted:
            wanted *= 2
            block = os.pread(self._descriptor, wanted, 0)
        line, found, _ = block.partition(b"\n")
        return head_of(line + found) if found else None

    def lines(self) -> Iterator[bytes]:
        """Whole lines from here on."""
        if os.fstat(self._descriptor).st_size < self._offset:
            self._offset, self.begun = 0, False  # it was begun anew in place
        while True:
            wanted = _BLOCK
            block = os.pread(self._descriptor, wanted, self._offset)
            while b"\n" not in block and len(block) == wanted:
                wanted *= 2  # one line is longer than that
                block = os.pread(self._descriptor, wanted, self._offset)
            whole = block[: block.rfind(b"\n") + 1]
            if not whole:
                return
            for line in whole.splitlines(keepends=True):
                self._offset += len(line)
                yield line


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
