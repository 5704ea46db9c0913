"""Which files a catalogue elsewhere belongs to: a random number, made once, beside the files.

A schema of a database can be named by any desk. Whoever copies a desk copies the name of its schema
too, and both would write one log over two sets of files. So the number that stands beside the files
stands in the schema as well, and both must agree.

A folder that was copied has the number of the original. Its mark says which file it was written as
(the number of its inode) and where it stood (machine and path). A copy is neither that file nor
there; a folder that was renamed is the file, one that came back from a backup is there, and another
machine that mounts it sees the same file.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from assay.domain.canonical import canonical_bytes
from assay.errors import NotFound, Tampered
from assay.storage.files import atomic_path
from assay.storage.objects import ObjectStore

_NAME = "desk.json"


@dataclass(frozen=True, slots=True)
class Mark:
    """The number of a desk's files; ``copied_from`` where they are a copy, else None."""

    number: str
    copied_from: str | None = None


class DeskMark(Protocol):
    """Where the mark of a desk's files is kept."""

    @property
    def where(self) -> str:
        """The files, for people."""
        ...

    def read(self) -> Mark | None:
        """The mark; None where there is none yet.

        Raises
        ------
        Tampered: it cannot be read.
        """
        ...

    def make(self) -> Mark:
        """A new number, in the place of one that is there."""
        ...


class FolderMark:
    """``desk.json`` in the folder of a registry.

    Parameters
    ----------
    root: the registry's folder. machine: the name of this one.
    """

    def __init__(self, root: Path, machine: str) -> None:
        self._path = root / _NAME
        self._place = f"{machine}:{root.resolve()}"

    @property
    def where(self) -> str:
        return str(self._path.parent)

    def read(self) -> Mark | None:
        """See :meth:`DeskMark.read`."""
        try:
            with self._path.open("rb") as handle:
                inode, data = os.fstat(handle.fileno()).st_ino, handle.read()
        except FileNotFoundError:
            return None
        try:
            document = json.loads(data)
            number, place = str(document["desk"]), str(document["place"])
            is_here = inode == int(document["inode"]) or place == self._place
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _unreadable(str(self._path), error) from None
        return Mark(number, None if is_here else place)

    def make(self) -> Mark:
        """See :meth:`DeskMark.make`."""
        mark = Mark(secrets.token_hex(16))
        with atomic_path(self._path) as path:
            # Renamed, a file keeps its inode.
            document = {"desk": mark.number, "inode": path.stat().st_ino, "place": self._place}
            path.write_bytes(canonical_bytes(document) + b"\n")
        return mark


class ObjectMark:
    """``desk.json`` among the objects of a registry: whoever reaches them has the same files."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @property
    def where(self) -> str:
        return self._objects.url

    def read(self) -> Mark | None:
        """See :meth:`DeskMark.read`."""
        try:
            return _of_object(self._objects.get(_NAME), self._objects.url)
        except NotFound:
            return None

    def make(self) -> Mark:
        """See :meth:`DeskMark.make`."""
        self._objects.remove(_NAME)
        data = canonical_bytes({"desk": secrets.token_hex(16)})
        return _of_object(self._objects.put_if_absent(_NAME, data), self._objects.url)


def _of_object(data: bytes, where: str) -> Mark:
    try:
        return Mark(str(json.loads(data)["desk"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(f"{where}/{_NAME}", error) from None


def _unreadable(where: str, error: Exception) -> Tampered:
    return Tampered(
        f"{where}, which says whose files these are, cannot be read: {error!r:.100}",
        hint="assay models claim makes it anew",
    )
