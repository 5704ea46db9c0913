"""Manifests of a desk: what was published, which build computed it, and what changed since."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes, content_hash
from assay.errors import ContractViolation, NotFound, nearest
from assay.features import Manifest
from assay.features.definition.differences import Difference, differences
from assay.orchestration.desk import Desk
from assay.storage.files import write_atomic

_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest, and where it was found.

    ``build`` is the build that last computed its features: None where nobody wrote it down, or
    where ``stands``: it is the definition as it stands, which this process would compute.
    """

    manifest: Manifest
    where: str
    build: dict[str, str] | None = None
    stands: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between two manifests, and between the builds that computed them.

    ``build`` holds (fact, before, after) where both builds are known; ``same_bits`` is None where
    one is not, otherwise whether both computed the golden program alike.
    """

    before: FoundManifest
    after: FoundManifest
    found: tuple[Difference, ...]
    build: tuple[tuple[str, str, str], ...]
    same_bits: bool | None

    @property
    def equal(self) -> bool:
        """Whether the same values are meant, and no build is known to compute others."""
        return not self.found and self.same_bits is not False

    def to_json(self) -> dict[str, Any]:
        return {
            "equal": self.equal,
            **{
                side: {"manifest": one.manifest.hash, "view": one.manifest.view, "from": one.where}
                for side, one in (("before", self.before), ("after", self.after))
            },
            "differences": [one.to_json() for one in self.found],
            "build": [list(fact) for fact in self.build],
            "same_bits": self.same_bits,
        }


def note_build(published: Path) -> None:
    """Write down beside a published manifest that this build has computed its features."""
    build, path = canonical_bytes(_this_build()), _build_path(published)
    if not path.is_file() or path.read_bytes() != build:
        write_atomic(path, build)


def compare_manifests(
    open_desk: Callable[[], Desk], before: str, after: str | None = None
) -> Comparison:
    """Say what changed from one manifest to another.

    Parameters
    ----------
    open_desk: opens the desk, where one of them is not a file.
    before, after: a file, the hash of a published manifest or its first letters (at least six), or
        the name of a view, which means its definition as it stands. Without ``after``, the
        definition of the view that ``before`` is of.

    Raises
    ------
    NotFound: there is no such manifest or view. Tampered: a file is not what its name says.
    ContractViolation: a file is no manifest, or a hash is of several.
    """
    old = _find(open_desk, before)
    new = _defined(open_desk(), old.manifest.view) if after is None else _find(open_desk, after)
    facts: tuple[tuple[str, str, str], ...] = ()
    same_bits = None
    # A definition that stands has no build yet; to ask this process for it takes a second.
    wanted = old.build is not None or new.build is not None
    was, now = (_this_build() if one.stands and wanted else one.build for one in (old, new))
    if was is not None and now is not None:
        names = dict.fromkeys((*was, *now))
        pairs = ((name, was.get(name, "-"), now.get(name, "-")) for name in names)
        facts = tuple(fact for fact in pairs if fact[1] != fact[2])
        same_bits = was.get("golden") == now.get("golden")
    try:
        found = differences(old.manifest.document, new.manifest.document)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # A copy under a name of its own carries no hash that would have told.
        raise ContractViolation(
            f"{old.where} or {new.where} is no whole manifest: {type(error).__name__}: {error}",
            hint="compare the published files: assay features manifests",
        ) from error
    return Comparison(old, new, found, facts, same_bits)


def _find(open_desk: Callable[[], Desk], what: str) -> FoundManifest:
    path = Path(what)
    if path.is_file():
        return _read(path)
    desk = open_desk()
    published = sorted((desk.layout.lake / "manifests").glob("*.json"))
    if _PREFIX.fullmatch(what):
        hits = [one for one in published if one.stem.startswith(what)]
        if len(hits) > 1:
            raise ContractViolation(
                f"{what} is the beginning of {len(hits)} published manifests",
                hint="give more letters: " + ", ".join(one.stem[:16] for one in hits),
            )
        if hits:
            return replace(_read(hits[0]), where="as it was published")
    if what in desk.views:
        return _defined(desk, what)
    close = nearest(what, desk.views)
    raise NotFound(
        f"no manifest {what!r}: expected a file, the hash of one of {len(published)} published "
        f"manifests in {desk.layout.lake / 'manifests'}, or one of the views "
        f"{', '.join(sorted(desk.views))}",
        hint=f"did you mean '{close}'?" if close else "assay features build publishes a manifest",
    )


def _defined(desk: Desk, view: str) -> FoundManifest:
    return FoundManifest(Manifest.of(desk.view(view)), "as it is defined now", stands=True)


def _this_build() -> dict[str, str]:
    # Here, because the compiler takes a second to load, and most comparisons do without.
    from assay.features import BuildFingerprint

    return {name: str(value) for name, value in BuildFingerprint.capture().to_json().items()}


def _read(path: Path) -> FoundManifest:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ContractViolation(f"{path} is no manifest: {error}") from None
    if not _is_manifest(document):
        raise ContractViolation(
            f"{path} is no manifest of a view",
            hint="assay features build writes them into the lake's folder manifests",
        )
    # Under another name it is taken as it is: somebody kept a copy.
    named = _HASH.fullmatch(path.stem) is not None
    manifest = Manifest.read(path) if named else Manifest(content_hash(document), document)
    built = _build_path(path.with_stem(manifest.hash))
    build = None
    if built.is_file():
        build = {name: str(value) for name, value in json.loads(built.read_bytes()).items()}
    return FoundManifest(manifest, str(path), build)


def _is_manifest(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    features, plan = document.get("features"), document.get("plan")
    return (
        isinstance(document.get("view"), str)
        and isinstance(features, list)
        and all(isinstance(one, list) and len(one) == 2 for one in features)
        and isinstance(document.get("definitions"), dict)
        and isinstance(plan, dict)
        and isinstance(plan.get("operators"), dict)
        and isinstance(plan.get("first_stage"), dict)
    )


def _build_path(path: Path) -> Path:
    """Where stands which build last computed the features of a published manifest."""
    return path.parent / "builds" / path.name
