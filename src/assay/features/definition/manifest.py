"""The manifest: what a view computes, as one hash.

It covers everything that decides a value and nothing that depends on the machine or the build:
those are in the build fingerprint (:mod:`assay.features.kernel.fingerprint`), beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes, content_hash
from assay.errors import Conflict, Tampered
from assay.features.definition.views import FeatureView, Sessions, TimeToLive
from assay.features.definition.windows import Duration
from assay.storage.files import write_atomic

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """The immutable description of one view, and its hash.

    ``document`` holds the programs, windows, operator versions, calendars, time to live, entity,
    source, columns, universe and time zone, and where the view says so how the source's bars are
    made and how late a fact may come. ``hash`` is the SHA-256 of its canonical form.
    """

    hash: str
    document: Mapping[str, Any]

    @classmethod
    def of(cls, view: FeatureView) -> Manifest:
        """The manifest of a view: the same on every machine."""
        document = {
            "format": FORMAT,
            "view": view.name,
            "source": view.source,
            "entity": view.entity,
            "columns": list(view.columns),
            "members": view.members,
            "timezone": view.timezone,
            "calendars": {table.name: table.to_json() for table in view.calendars},
            "ttl": view.ttl.to_json(),
            "features": [[name, item.identity] for name, item in view.features.items()],
            "definitions": {name: repr(item) for name, item in view.features.items()},
            "plan": view.plan.to_json(),
        }
        if view.bars is not None:
            document["bars"] = view.bars.to_json()
        if view.lateness is not None:
            document["lateness"] = view.lateness.to_json()
        return cls(content_hash(document), document)

    @property
    def view(self) -> str:
        """The name of the view."""
        return str(self.document["view"])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features in order."""
        return tuple(str(name) for name, _ in self.document["features"])

    @property
    def source(self) -> str:
        """The table that the view's rows come from."""
        return str(self.document["source"])

    @property
    def entity(self) -> str:
        """The column that says which entity a row is about."""
        return str(self.document["entity"])

    @property
    def ttl(self) -> TimeToLive:
        """How long a row may be served after its event time."""
        said = self.document["ttl"]
        return Sessions(said["sessions"]) if "sessions" in said else Duration(said["nanoseconds"])

    def publish(self, directory: Path) -> Path:
        """Write ``<hash>.json`` into a directory; publishing again is harmless."""
        return _publish(directory, self.hash, self.document)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a published manifest.

        Raises
        ------
        Tampered: the content is not what the name says.
        """
        document: dict[str, Any] = json.loads(path.read_bytes())
        if content_hash(document) != path.stem:
            raise Tampered(f"manifest {path} is not what its name says")
        return cls(path.stem, document)


@dataclass(frozen=True, slots=True)
class ManifestSet:
    """Several manifests as one: the hash of the sorted list of theirs."""

    manifests: tuple[Manifest, ...]

    @classmethod
    def of(cls, views: Iterable[FeatureView]) -> ManifestSet:
        found = sorted((Manifest.of(view) for view in views), key=lambda item: item.hash)
        names = sorted(item.view for item in found)
        for name, following in pairwise(names):
            if name == following:
                raise Conflict(f"two views are called {name}")
        return cls(tuple(found))

    @property
    def document(self) -> list[str]:
        """The sorted hashes of the manifests."""
        return [item.hash for item in self.manifests]

    @property
    def hash(self) -> str:
        """SHA-256 of the sorted list; the same in whatever order the views were given."""
        return content_hash(self.document)

    def publish(self, directory: Path) -> Path:
        """Write every manifest, then ``<hash>.json`` of the set."""
        for item in self.manifests:
            item.publish(directory)
        return _publish(directory, self.hash, self.document)


def _publish(directory: Path, name: str, document: Mapping[str, Any] | list[str]) -> Path:
    path = directory / f"{name}.json"
    data = canonical_bytes(document)
    if path.exists():
        if path.read_bytes() != data:
            raise Tampered(f"manifest {path} is not what its name says")
        return path
    write_atomic(path, data)
    return path
