"""Published manifests: what each hash means, and since when it has been there for all to read.

::

    <hash>.json                    the canonical document; its SHA-256 is its name
    published/<view>/<hash>.json   who published it, and when: the first publication, for ever

The document is written before the note. A publisher that dies between the two leaves a manifest
that can be read by its hash and is in no list; publishing again completes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from assay.domain.canonical import canonical_bytes, content_hash
from assay.domain.clock import Clock
from assay.domain.instants import Instant, parse, render
from assay.errors import AssayError, Conflict, NotFound, Tampered, Unavailable
from assay.features.definition.manifest import Manifest
from assay.features.definition.names import check_name
from assay.storage.objects import ObjectStore

_HASH = re.compile(r"[0-9a-f]{64}")
_PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Publication:
    """A manifest of a view, published by somebody at a moment."""

    view: str
    manifest: str
    published_at: Instant
    published_by: str

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "manifest": self.manifest,
            "published_at": render(self.published_at),
            "published_by": self.published_by,
        }

    @classmethod
    def from_bytes(cls, data: bytes, *, view: str, manifest: str) -> Publication:
        """Read a note; it must be about this view and manifest.

        Raises
        ------
        Tampered: it is not, or cannot be read.
        """
        try:
            document = json.loads(data)
            found = cls(
                document["view"],
                document["manifest"],
                parse(document["published_at"]),
                str(document["published_by"]),
            )
            if canonical_bytes(found.to_json()) != data or (view, manifest) != (
                found.view,
                found.manifest,
            ):
                raise ValueError("it is about another manifest")
        except (ValueError, KeyError, TypeError, AttributeError, AssayError) as error:
            raise Tampered(
                f"the note that manifest {manifest[:12]} of view {view} was published cannot be "
                f"read: {error}"
            ) from None
        return found


class ManifestCatalogue:
    """Publishes manifests and finds them again, wherever their objects are.

    Parameters
    ----------
    objects: where documents and notes are kept.
    clock: where the times of publications come from.
    copies: where a copy of each manifest that was read is kept, for when the objects cannot be
        reached; None where they are at hand.
    """

    def __init__(
        self, objects: ObjectStore, clock: Clock, *, copies: ObjectStore | None = None
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._copies = copies

    @property
    def url(self) -> str:
        """Where the manifests are."""
        return self._objects.url

    def publish(self, manifest: Manifest, *, by: str) -> Publication:
        """Publish a manifest; again, it is the first publication that is returned.

        Raises
        ------
        Tampered: something else stands under its hash.
        """
        data = canonical_bytes(manifest.document)
        if self._objects.put_if_absent(_file(manifest.hash), data) != data:
            raise Tampered(
                f"manifest {manifest.hash} in {self.url} is not what its name says",
                hint="somebody has changed it: put it back from a backup; it is never overwritten",
            )
        note = Publication(manifest.view, manifest.hash, self._clock.now(), by)
        name = _note(manifest.view, manifest.hash)
        held = self._objects.put_if_absent(name, canonical_bytes(note.to_json()))
        return Publication.from_bytes(held, view=manifest.view, manifest=manifest.hash)

    def get(self, digest: str) -> Manifest:
        """The manifest of a hash, its content checked against it.

        Raises
        ------
        NotFound: it is not published here. Tampered: its content is not what its name says.
        """
        if not _HASH.fullmatch(digest):
            raise NotFound(f"no manifest {digest[:80]!r}: expected 64 hexadecimal digits")
        if self._copies is not None:
            with suppress(NotFound, Tampered, Unavailable):
                return _checked(digest, self._copies)
        try:
            found = _checked(digest, self._objects)
        except NotFound as error:
            raise NotFound(
                f"{error.message}: expected a published manifest",
                hint="assay features manifests; assay features manifest VIEW --publish",
            ) from None
        if self._copies is not None:
            with suppress(Unavailable):
                self._copies.put_if_absent(_file(digest), canonical_bytes(found.document))
        return found

    def resolve(self, view: str, beginning: str) -> Publication:
        """The publication of the one manifest of a view whose hash begins so.

        Raises
        ------
        NotFound: there is none. Conflict: there are several.
        """
        every = self.publications(view)
        found = [one for one in every if one.manifest.startswith(beginning)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(
                f"no manifest of view {view} in {self.url} begins with {beginning[:80]!r}",
                hint=f"assay features manifests {view}",
            )
        raise Conflict(
            f"{len(found)} manifests of view {view} begin with {beginning!r}", hint="say more of it"
        )

    def publications(self, view: str) -> tuple[Publication, ...]:
        """The manifests of a view, in the order in which they were published.

        Raises
        ------
        Tampered: a note cannot be read.
        """
        check_name("name of the view", view)
        found = []
        for name in self._objects.names(f"{_PUBLISHED}/{view}"):
            digest = name.rpartition("/")[2].removesuffix(".json")
            note = self._objects.get(name)
            found.append(Publication.from_bytes(note, view=view, manifest=digest))
        return tuple(sorted(found, key=lambda one: (one.published_at, one.manifest)))


def _checked(digest: str, objects: ObjectStore) -> Manifest:
    """The manifest of a hash, whose content has that hash."""
    data = objects.get(_file(digest))
    try:
        document = json.loads(data)
        intact = content_hash(document) == digest
    except (ValueError, RecursionError, AssayError):
        intact = False
    if not intact:
        raise Tampered(f"manifest {digest} in {objects.url} is not what its name says")
    if not isinstance(document, Mapping) or "view" not in document:
        raise NotFound(f"{digest} in {objects.url} is a set of manifests")
    return Manifest(digest, document)


def _file(digest: str) -> str:
    return f"{digest}.json"


def _note(view: str, digest: str) -> str:
    return f"{_PUBLISHED}/{view}/{digest}.json"
