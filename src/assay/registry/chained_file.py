"""A file of chained entries, one per line, whose last line may be torn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.errors import Tampered
from assay.registry.log import EMPTY, Entry, LogHead, chained
from assay.storage.files import append_line

_TAIL_BLOCK = 65_536


class ChainedFile:
    """A file of chained entries, one per line.

    One writer at a time: every method that writes expects the caller to hold the registry's lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_torn(self) -> bool:
        """Whether the last line lacks its line break: a writer died, or is writing now."""
        try:
            with self.path.open("rb") as handle:
                if handle.seek(0, os.SEEK_END) == 0:
                    return False
                handle.seek(-1, os.SEEK_END)
                return handle.read(1) != b"\n"
        except FileNotFoundError:
            return False

    def repair_tail(self) -> bytes:
        """Finish or drop a last line that has no line break; return what was dropped.

        A line that reads as a valid entry lost only its line break: the event was appended in
        full. Anything else was never acknowledged to anyone.
        """
        if not self.is_torn():
            return b""
        with self.path.open("r+b") as handle:
            line, start = _last_line(handle)
            try:
                Entry.from_line(line)
            except Tampered:
                handle.truncate(start)
                dropped = line
            else:
                handle.seek(0, os.SEEK_END)
                handle.write(b"\n")
                dropped = b""
            handle.flush()
            os.fsync(handle.fileno())
            return dropped

    def head(self) -> LogHead:
        """The last entry that ends in a line break, read from the end of the file."""
        try:
            handle = self.path.open("rb")
        except FileNotFoundError:
            return EMPTY
        with handle:
            size = handle.seek(0, os.SEEK_END)
            tail, start = _last_line(handle)
            if tail:  # an unfinished line: the head is the one before it
                size = start
                if size == 0:
                    return EMPTY
            if size == 0:
                return EMPTY
            line, _ = _last_line(handle, size - 1)
        try:
            entry = Entry.from_line(line)
        except Tampered as error:
            raise Tampered(
                f"last entry of {self.path}: {error.message}",
                hint="assay audit verify says where the log is broken",
            ) from None
        return LogHead(entry.seq, entry.hash, entry.at, size)

    def append(self, entry: Entry) -> LogHead:
        """Append a sealed entry durably."""
        append_line(self.path, entry.to_line())
        return LogHead(entry.seq, entry.hash, entry.at, self.path.stat().st_size)

    def extend(self, lines: bytes) -> None:
        """Append whole lines of another chained file durably."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as handle:
            handle.write(lines)
            handle.flush()
            os.fsync(handle.fileno())

    def lines(self, offset: int = 0) -> Iterator[bytes]:
        """Lines with their line breaks, from a position on; the last may be unfinished."""
        if self.path.exists():
            with self.path.open("rb") as handle:
                handle.seek(offset)
                yield from handle

    def entries_after(self, head: LogHead) -> Iterator[tuple[Entry, LogHead]]:
        """Entries behind ``head`` with the head that each makes, the chain checked on the way.

        Raises
        ------
        Tampered: an entry does not verify or does not follow the one before it.
        """
        return chained(self.lines(head.offset), head, str(self.path))


def _last_line(handle: Any, end: int | None = None) -> tuple[bytes, int]:
    """The bytes between the last line break before ``end`` and ``end``, and where they start."""
    position = handle.seek(0, os.SEEK_END) if end is None else end
    stop, start = position, 0
    while position > 0:
        block = max(0, position - _TAIL_BLOCK)
        handle.seek(block)
        found = handle.read(position - block).rfind(b"\n")
        if found >= 0:
            start = block + found + 1
            break
        position = block
    handle.seek(start)
    return handle.read(stop - start), start
