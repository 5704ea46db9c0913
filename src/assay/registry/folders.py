"""Versions as folders of this machine.

::

    artifacts/<name>/<version>/        the files of a version
    artifacts/<name>/.<version>.<digest>.pending/    prepared, not yet in place
    artifacts/.content/<sha256>        files of all versions, by content
    latest/<name> -> ../artifacts/<name>/<version>   the version in production
    unregistered/                      what stood in a version's place without an entry

Equal files of different versions are one file with several names (hard links), so the same native
model or calibration is stored once. Where the file system has no hard links, each is a copy.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from assay.domain.canonical import sha256_hex
from assay.errors import NotFound, Tampered
from assay.registry.artifacts import Place, ReadFiles
from assay.registry.sealed import Problem, SealedFiles
from assay.storage.files import replace_link, sync_directory, write_atomic

_CONTENT = ".content"
_SHARED_FROM = 4096
"""Smaller files take one block of a disk either way."""


class FolderArtifacts:
    """See :class:`~assay.registry.artifacts.Artifacts`; ``root`` is the registry's folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._artifacts = root / "artifacts"
        self._content = self._artifacts / _CONTENT
        self._latest = root / "latest"
        self._aside = root / "unregistered"

    @property
    def where(self) -> str:
        return str(self._artifacts)

    @property
    def is_remote(self) -> bool:
        return False

    def folder(self, name: str, version: str) -> Path:
        """Where a version's files are."""
        return self._artifacts / name / version

    def prepare(self, name: str, version: str, sealed: SealedFiles) -> None:
        """See :meth:`Artifacts.prepare`."""
        folder = self.folder(name, version)
        if folder.exists():
            self._set_aside(folder)
        parent = folder.parent
        self._content.mkdir(parents=True, exist_ok=True)
        parent.mkdir(parents=True, exist_ok=True)
        sync_directory(self._artifacts)
        for leftover in parent.glob(".*.pending"):
            shutil.rmtree(leftover)
        pending = self._pending(name, version, sealed.digest)
        pending.mkdir()
        for file, data in sealed.files.items():
            if len(data) < _SHARED_FROM or not self._link(pending / file, data):
                _write(pending / file, data)
        sync_directory(self._content)
        sync_directory(pending)
        sync_directory(parent)

    def is_prepared(self, name: str, version: str, digest: str) -> bool:
        """See :meth:`Artifacts.is_prepared`."""
        return self._pending(name, version, digest).is_dir()

    def put_in_place(self, name: str, version: str, digest: str) -> None:
        """See :meth:`Artifacts.put_in_place`."""
        folder, pending = self.folder(name, version), self._pending(name, version, digest)
        if pending.is_dir() and not folder.exists():
            pending.rename(folder)
            sync_directory(folder.parent)

    def is_there(self, name: str, version: str, digest: str) -> bool:  # noqa: ARG002
        """See :meth:`Artifacts.is_there`."""
        return self.folder(name, version).exists()

    def read(self, name: str, version: str, digest: str) -> ReadFiles:  # noqa: ARG002
        """See :meth:`Artifacts.read`."""
        folder = self.folder(name, version)
        if folder.is_symlink() or not folder.is_dir():
            if folder.is_symlink() or folder.exists():
                raise Tampered(f"version folder {folder} is not a real folder")
            raise NotFound(
                f"version folder {folder} does not exist",
                hint="restore it from a backup: its digests and its signature say whether it is "
                "whole",
            )
        return _read(folder)

    def read_file(self, name: str, version: str, digest: str, file: str) -> bytes:  # noqa: ARG002
        """See :meth:`Artifacts.read_file`."""
        path = self.folder(name, version) / file
        try:
            return path.read_bytes()
        except OSError as error:
            raise NotFound(f"no file {path}: {error.strerror}") from None

    def places(self, name: str | None = None) -> Iterator[Place]:
        """See :meth:`Artifacts.places`."""
        for folder in sorted(self._artifacts.glob(f"{name or '*'}/[0-9]*")):
            if folder.parent != self._content:
                yield Place(folder.parent.name, folder.name)

    def remove(self, name: str, version: str, digest: str) -> int:  # noqa: ARG002
        """See :meth:`Artifacts.remove`."""
        folder = self.folder(name, version)
        if not folder.is_dir() or folder.is_symlink():
            return 0
        # Renamed first: half a version must not stand in a version's place.
        doomed = folder.with_name(f".{folder.name}.removed.pending")
        if doomed.exists():
            shutil.rmtree(doomed)
        folder.rename(doomed)
        sync_directory(folder.parent)
        freed = sum(
            status.st_size
            for status in (path.stat() for path in doomed.iterdir())
            if status.st_nlink <= 2  # one of the names is that by content
        )
        shutil.rmtree(doomed)
        self._forget_unused()
        return freed

    def leftovers(self) -> dict[str, int]:
        """See :meth:`Artifacts.leftovers`."""
        found = {
            str(path.relative_to(self._root)): _size(path)
            for pattern in ("artifacts/*/.*.pending", "unregistered/*")
            for path in sorted(self._root.glob(pattern))
        }
        for path in self._unused():
            found[str(path.relative_to(self._root))] = path.stat().st_size
        return found

    def remove_leftover(self, leftover: str) -> None:
        """See :meth:`Artifacts.remove_leftover`."""
        path = self._root / leftover
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def is_following(self, champions: Mapping[str, str]) -> bool:
        """See :meth:`Artifacts.is_following`: the links in ``latest/``."""
        return not self._stale_links(champions)

    def follow(self, champions: Mapping[str, str]) -> None:
        """See :meth:`Artifacts.follow`."""
        for name in self._stale_links(champions):
            link, version = self._latest / name, champions.get(name)
            if version is not None:
                replace_link(link, _target(name, version))
            else:
                link.unlink(missing_ok=True)
                sync_directory(self._latest)

    # -- inside ---------------------------------------------------------------------------------

    def _pending(self, name: str, version: str, digest: str) -> Path:
        return self._artifacts / name / f".{version}.{digest[:16]}.pending"

    def _set_aside(self, folder: Path) -> None:
        """Move away a folder that stands where a version belongs, but was never registered."""
        self._aside.mkdir(parents=True, exist_ok=True)
        inside = tempfile.mkdtemp(dir=self._aside, prefix=f"{folder.parent.name}-{folder.name}-")
        folder.rename(Path(inside, folder.name))

    def _link(self, path: Path, data: bytes) -> bool:
        """Give content a further name; False where the file system does not do that."""
        kept = self._content / sha256_hex(data)
        if not _holds(kept, data):
            write_atomic(kept, data, mode=0o444)
        try:
            path.hardlink_to(kept)
        except OSError:
            return False
        return True

    def _unused(self) -> list[Path]:
        """Content that no version has."""
        if not self._content.is_dir():
            return []
        return sorted(path for path in self._content.iterdir() if path.stat().st_nlink == 1)

    def _forget_unused(self) -> None:
        for path in self._unused():
            path.unlink(missing_ok=True)

    def _stale_links(self, champions: Mapping[str, str]) -> list[str]:
        """Models whose link is not what it should be."""
        links = self._latest
        present = {path.name: path for path in links.iterdir()} if links.is_dir() else {}
        stale = [
            name
            for name, version in champions.items()
            if (link := present.get(name)) is None
            or not link.is_symlink()
            or link.readlink() != _target(name, version)
        ]
        return [*stale, *(name for name in present if name not in champions)]


def _target(name: str, version: str) -> Path:
    return Path("..", "artifacts", name, version)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as handle:
        handle.write(data)
        handle.flush()
        os.fchmod(handle.fileno(), 0o444)
        os.fsync(handle.fileno())


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file has this content, byte for byte: it may have been damaged since."""
    with suppress(FileNotFoundError):
        return path.read_bytes() == data
    return False


def _read(folder: Path) -> ReadFiles:
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        if not entry.is_file(follow_symlinks=False):
            kind = "a symbolic link" if entry.is_symlink() else "not a plain file"
            problems.append(Problem(entry.name, f"is {kind}"))
            continue
        # O_NOFOLLOW: the name could become a link between the listing and the opening.
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                files[entry.name] = handle.read()
    return ReadFiles(files, tuple(problems))


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
