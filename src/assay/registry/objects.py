"""Versions as objects, for a store that several machines reach, and for backups.

::

    content/<sha256>                        one file of one or more versions
    prepared/<name>@<version>@<digest>      which files a version has; not yet in its place
    versions/<name>@<version>@<digest>      the same, in its place

Every object is written once. A listing names all files of a version with their SHA-256, its seals
included, and is written after they are there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import NotFound, Tampered
from assay.registry.artifacts import Place, ReadFiles
from assay.registry.sealed import Problem, SealedFiles, digests_of
from assay.storage.objects import ObjectStore

_CONTENT, _PREPARED, _VERSIONS = "content", "prepared", "versions"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_AT_ONCE: Final = 8
"""Files of one version that travel at the same time."""


class ObjectArtifacts:
    """See :class:`~assay.registry.artifacts.Artifacts`."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @property
    def where(self) -> str:
        return self._objects.url

    @property
    def is_remote(self) -> bool:
        return True

    def prepare(self, name: str, version: str, sealed: SealedFiles) -> None:
        """See :meth:`Artifacts.prepare`."""
        for leftover in self._of_model(_PREPARED, name):
            self._objects.remove(leftover)
        self._put(_PREPARED, name, version, sealed)

    def store(self, name: str, version: str, sealed: SealedFiles) -> None:
        """Write a version straight into its place, for one that is registered already."""
        if not self.is_there(name, version, sealed.digest):
            self._put(_VERSIONS, name, version, sealed)

    def is_prepared(self, name: str, version: str, digest: str) -> bool:
        """See :meth:`Artifacts.is_prepared`."""
        return self._exists(_object(_PREPARED, name, version, digest))

    def put_in_place(self, name: str, version: str, digest: str) -> None:
        """See :meth:`Artifacts.put_in_place`."""
        prepared = _object(_PREPARED, name, version, digest)
        try:
            listing = self._objects.get(prepared)
        except NotFound:
            return
        self._objects.put_if_absent(_object(_VERSIONS, name, version, digest), listing)
        self._objects.remove(prepared)

    def is_there(self, name: str, version: str, digest: str) -> bool:
        """See :meth:`Artifacts.is_there`."""
        return self._exists(_object(_VERSIONS, name, version, digest))

    def read(self, name: str, version: str, digest: str) -> ReadFiles:
        """See :meth:`Artifacts.read`."""
        place = _object(_VERSIONS, name, version, digest)
        try:
            listed = _listing(self._objects.get(place), place)
        except NotFound:
            raise NotFound(
                f"version {name} {version} is not in {self.where}",
                hint="restore it from a backup: its digests and its signature say whether it is "
                "whole",
            ) from None
        problems: list[Problem] = []

        def fetch(file: str) -> bytes | None:
            try:
                return self._objects.get(f"{_CONTENT}/{listed[file]}")
            except NotFound:
                problems.append(Problem(file, f"its content {listed[file][:12]} is missing"))
                return None

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = dict(zip(listed, pool.map(fetch, listed), strict=True))
        files = {file: data for file, data in found.items() if data is not None}
        return ReadFiles(files, tuple(sorted(problems, key=lambda one: one.file)))

    def read_file(self, name: str, version: str, digest: str, file: str) -> bytes:
        """See :meth:`Artifacts.read_file`."""
        place = _object(_VERSIONS, name, version, digest)
        listed = _listing(self._objects.get(place), place)
        if file not in listed:
            raise NotFound(f"version {name} {version} has no file {file}")
        return self._objects.get(f"{_CONTENT}/{listed[file]}")

    def places(self, name: str | None = None) -> Iterator[Place]:
        """See :meth:`Artifacts.places`."""
        start = f"{_VERSIONS}/" if name is None else f"{_VERSIONS}/{name}@"
        for one in self._objects.names(_VERSIONS):
            if not one.startswith(start):
                continue
            parts = one.removeprefix(f"{_VERSIONS}/").split("@")
            if len(parts) == 3:
                yield Place(*parts)

    def remove(self, name: str, version: str, digest: str) -> int:
        """See :meth:`Artifacts.remove`."""
        place = _object(_VERSIONS, name, version, digest)
        try:
            mine = set(_listing(self._objects.get(place), place).values())
        except NotFound:
            return 0
        self._objects.remove(place)
        return sum(self._remove_content(one) for one in sorted(mine & self._unused()))

    def leftovers(self) -> dict[str, int]:
        """See :meth:`Artifacts.leftovers`."""
        names = [*self._objects.names(_PREPARED)]
        names += [f"{_CONTENT}/{one}" for one in sorted(self._unused())]
        return {name: len(self._objects.get(name)) for name in names}

    def remove_leftover(self, leftover: str) -> None:
        """See :meth:`Artifacts.remove_leftover`."""
        self._objects.remove(leftover)

    def is_following(self, champions: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Nothing here names the version in production."""
        return True

    def follow(self, champions: Mapping[str, str]) -> None:
        """Nothing to do."""

    # -- inside ---------------------------------------------------------------------------------

    def _put(self, folder: str, name: str, version: str, sealed: SealedFiles) -> None:
        digests = digests_of(sealed.files)

        def put(file: str) -> None:
            place = f"{_CONTENT}/{digests[file]}"
            held = self._objects.put_if_absent(place, sealed.files[file])
            if sha256_hex(held) != digests[file]:
                # Damaged since somebody else wrote it; nothing that is whole is ever replaced.
                self._objects.remove(place)
                self._objects.put_if_absent(place, sealed.files[file])

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(put, sealed.files))
        self._objects.put_if_absent(
            _object(folder, name, version, sealed.digest), canonical_bytes({"files": digests})
        )

    def _exists(self, name: str) -> bool:
        try:
            self._objects.get(name)
        except NotFound:
            return False
        return True

    def _of_model(self, folder: str, name: str) -> list[str]:
        start = f"{folder}/{name}@"
        return [one for one in self._objects.names(folder) if one.startswith(start)]

    def _unused(self) -> set[str]:
        """Content that no listing names."""
        used: set[str] = set()
        for folder in (_PREPARED, _VERSIONS):
            for one in self._objects.names(folder):
                used |= set(_listing(self._objects.get(one), one).values())
        kept = {one.removeprefix(f"{_CONTENT}/") for one in self._objects.names(_CONTENT)}
        return kept - used

    def _remove_content(self, digest: str) -> int:
        size = len(self._objects.get(f"{_CONTENT}/{digest}"))
        self._objects.remove(f"{_CONTENT}/{digest}")
        return size


def _object(folder: str, name: str, version: str, digest: str) -> str:
    return f"{folder}/{name}@{version}@{digest}"


def _listing(data: bytes, where: str) -> dict[str, str]:
    try:
        files = json.loads(data)["files"]
        if all(_DIGEST.fullmatch(digest) for digest in files.values()):
            return dict(files)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Tampered(f"object {where} is not a listing of a version's files")
