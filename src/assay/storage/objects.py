"""Objects under names, each written once: folders, and whatever an adapter offers.

Laws: a name that holds an object holds that object until it is removed; of several writers at once
one wins and all see its bytes; an object is seen whole or not at all, whatever instant its writer
dies at.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from assay.errors import ContractViolation, NotFound, Unavailable
from assay.storage.files import sync_directory, write_atomic
from assay.storage.locks import FileLock

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@=-]*(?:/[A-Za-z0-9_][A-Za-z0-9._@=-]*)*")
_LOCK = ".objects.lock"


class ObjectStore(Protocol):
    """Bytes by name; a name is parts of letters, digits and ``._@=-``, joined by slashes."""

    @property
    def url(self) -> str:
        """Where the objects are, for people."""
        ...

    def put_if_absent(self, name: str, data: bytes) -> bytes:
        """Write an object where there is none; the bytes that the name holds afterwards.

        Raises
        ------
        Unavailable: the objects cannot be reached or written.
        """
        ...

    def get(self, name: str) -> bytes:
        """The bytes of an object.

        Raises
        ------
        NotFound: there is none of this name. Unavailable: the objects cannot be reached.
        """
        ...

    def names(self, folder: str = "") -> list[str]:
        """The names that stand directly in a folder, with the folder's name in front, sorted.

        Raises
        ------
        Unavailable: the objects cannot be reached.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove an object; nothing where there is none.

        Raises
        ------
        Unavailable: the objects cannot be reached or removed.
        """
        ...


def check_object_name(name: str) -> str:
    """Return ``name`` when it is a legal one; it can never lead out of its store.

    Raises
    ------
    ContractViolation: it is not.
    """
    if not _NAME.fullmatch(name):
        raise ContractViolation(
            f"object name {name!r}: expected parts of letters, digits and ._@=- joined by slashes"
        )
    return name


class LocalObjects:
    """Objects as files of a folder, which is made when the first one is written."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def url(self) -> str:
        return self._root.absolute().as_uri()

    def put_if_absent(self, name: str, data: bytes) -> bytes:
        """See :meth:`ObjectStore.put_if_absent`."""
        path = self._root / check_object_name(name)
        try:
            with FileLock(self._root / _LOCK):
                if path.exists():
                    return path.read_bytes()
                write_atomic(path, data)
        except OSError as error:
            raise self._unavailable(error) from error
        return data

    def get(self, name: str) -> bytes:
        """See :meth:`ObjectStore.get`."""
        try:
            return (self._root / check_object_name(name)).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"no object {name} in {self.url}") from None
        except OSError as error:
            raise self._unavailable(error) from error

    def names(self, folder: str = "") -> list[str]:
        """See :meth:`ObjectStore.names`."""
        inside = self._root / check_object_name(folder) if folder else self._root
        try:
            found = [path.name for path in inside.iterdir() if path.is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from error
        # What begins with a dot is being written, or was when its writer died.
        names = sorted(name for name in found if not name.startswith("."))
        return [f"{folder}/{name}" for name in names] if folder else names

    def remove(self, name: str) -> None:
        """See :meth:`ObjectStore.remove`."""
        path = self._root / check_object_name(name)
        try:
            path.unlink()
            sync_directory(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> Unavailable:
        return Unavailable(f"objects in {self.url}: {error.strerror or error}")
