"""Whole files or none: atomic replacement, durable appends, repair of a torn last line."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from assay.errors import Tampered


def sync_directory(path: Path) -> None:
    """Make renames and new names in ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part.

    The data is on the disk when this returns: the file and its directory are both synced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fchmod(handle.fileno(), mode)
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` for a writer that wants a name; renamed on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_link(link: Path, target: Path) -> None:
    """Point the symbolic link ``link`` at ``target`` (relative to the link) in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(link.parent)


def append_line(path: Path, line: bytes) -> None:
    """Append one line and sync it. The caller holds the writer's lock and has repaired the tail."""
    append_lines(path, [line])


def append_lines(path: Path, lines: Sequence[bytes], *, sync: bool = True) -> None:
    """Append lines in one write and sync them together; as :func:`append_line`.

    A crash leaves a beginning of them: some whole lines, and at most one that is torn. Without
    ``sync`` a power cut may take back what was written since :func:`sync_file`.
    """
    for line in lines:
        if b"\n" in line:
            raise Tampered(f"line for {path.name} contains a line break")
    path.parent.mkdir(parents=True, exist_ok=True)
    created = not path.exists()
    with path.open("ab") as handle:
        handle.write(b"".join(line + b"\n" for line in lines))
        handle.flush()
        if sync:
            os.fsync(handle.fileno())
    if created:
        sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Make what was written to a file survive a power cut."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def drop_torn_tail(path: Path) -> bytes:
    """Cut an unfinished last line, left by a crash during an append; return what was cut."""
    if not path.exists():
        return b""
    with path.open("r+b") as handle:
        handle.seek(0, os.SEEK_END)
        size = handle.tell()
        keep, position = 0, size
        # Backwards in blocks: a log of a million lines must not be read to repair its last one.
        while position > 0:
            start = max(0, position - 65_536)
            handle.seek(start)
            found = handle.read(position - start).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
            position = start
        if keep == size:
            return b""
        handle.seek(keep)
        torn = handle.read()
        handle.truncate(keep)
        handle.flush()
        os.fsync(handle.fileno())
        return torn


def last_line(path: Path) -> bytes:
    """The last line that ends in a line break, without it; nothing where there is none."""
    if not path.exists():
        return b""
    with path.open("rb") as handle:
        position = handle.seek(0, os.SEEK_END)
        tail = b""
        while position > 0 and tail.count(b"\n") < 2:
            start = max(0, position - 65_536)
            handle.seek(start)
            tail = handle.read(position - start) + tail
            position = start
    whole, found, _ = tail.rpartition(b"\n")
    return whole.rpartition(b"\n")[2] if found else b""


def file_sha256(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
