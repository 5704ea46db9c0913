"""The port behind which the files of versions are kept.

A version's files are written in two steps around its entry in the log: :meth:`Artifacts.prepare`
before it, :meth:`Artifacts.put_in_place` after it. So whoever dies in between leaves files that
nobody takes for a version, and a version that stands in its place has an entry. Nothing that comes
back from here is believed: :mod:`~assay.registry.sealed` checks every byte against the log's digest
and the signature.

:mod:`~assay.registry.folders` keeps versions as folders of this machine,
:mod:`~assay.registry.objects` as objects in a store that several machines reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from assay.registry.sealed import Problem, SealedFiles


class Place(NamedTuple):
    """Where a version stands: what it calls itself, and the digest if the place names one."""

    name: str
    version: str
    digest: str | None = None


class ReadFiles(NamedTuple):
    """The files that stand in a version's place, and what is wrong with the place itself."""

    files: Mapping[str, bytes]
    problems: tuple[Problem, ...]


class Artifacts(Protocol):
    """The files of versions. Methods that change something are called under the registry's lock.

    Every method raises :class:`~assay.errors.Unavailable` where the place cannot be reached.
    """

    @property
    def where(self) -> str:
        """Where the files are, for people."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether asking may wait for another machine."""
        ...

    def prepare(self, name: str, version: str, sealed: SealedFiles) -> None:
        """Write a version's files durably, not yet in their place.

        What stands in that place without an entry is kept aside, and leftovers of killed writers
        for the same model are removed.
        """
        ...

    def is_prepared(self, name: str, version: str, digest: str) -> bool:
        """Whether files were prepared that do not stand in their place yet."""
        ...

    def put_in_place(self, name: str, version: str, digest: str) -> None:
        """Give prepared files their place, in one step; nothing where they have it already."""
        ...

    def is_there(self, name: str, version: str, digest: str) -> bool:
        """Whether something stands in a version's place."""
        ...

    def read(self, name: str, version: str, digest: str) -> ReadFiles:
        """All files of a version, none of them checked.

        Raises
        ------
        NotFound: nothing stands there. Tampered: what stands there is not of the right kind.
        """
        ...

    def read_file(self, name: str, version: str, digest: str, file: str) -> bytes:
        """One file of a version, not checked.

        Raises
        ------
        NotFound: there is no such version or file.
        """
        ...

    def places(self, name: str | None = None) -> Iterator[Place]:
        """Everything that stands in a place, registered or not, in order; of one model, or all."""
        ...

    def remove(self, name: str, version: str, digest: str) -> int:
        """Remove what stands in a version's place; bytes that became free. Nothing there: 0."""
        ...

    def leftovers(self) -> dict[str, int]:
        """What belongs to no version, with its bytes: left by killed writers, or kept aside."""
        ...

    def remove_leftover(self, leftover: str) -> None:
        """Remove one of :meth:`leftovers`."""
        ...

    def is_following(self, champions: Mapping[str, str]) -> bool:
        """Whether whatever names the version in production (model -> version) is up to date."""
        ...

    def follow(self, champions: Mapping[str, str]) -> None:
        """Bring it up to date."""
        ...
