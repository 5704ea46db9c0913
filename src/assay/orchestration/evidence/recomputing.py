"""Recorded evidence measured again: the same bits, other ones, or why that cannot be told.

Everything is taken from where the record says: the run that the version's signature vouches for,
the prices and training set of its snapshots, the seeds, and the champion that the record names,
whoever is in production today.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from assay.domain.canonical import canonical_bytes
from assay.domain.evidence import Evidence
from assay.domain.provenance import Provenance
from assay.errors import AssayError
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.code import measuring_code
from assay.orchestration.evidence.measuring import Measured, measure
from assay.orchestration.progress import Progress
from assay.registry import VerifiedVersion
from assay.validation.catalogue import CATALOGUE


class Answer(StrEnum):
    """What measuring again says about a record."""

    SAME = "same"
    DIFFERS = "differs"
    CANNOT = "cannot"


@dataclass(frozen=True, slots=True)
class Change:
    """One number or word that came out differently; ``path`` is its key in the record."""

    path: str
    recorded: Any
    recomputed: Any

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "recorded": self.recorded, "recomputed": self.recomputed}


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One record, measured again. ``reason`` says why it cannot be, or what is worth knowing."""

    name: str
    answer: Answer
    recorded: float | None
    recomputed: float | None = None
    changes: tuple[Change, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "answer": str(self.answer),
            "recorded": self.recorded,
            "recomputed": self.recomputed,
            "changes": [change.to_json() for change in self.changes],
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Recomputation:
    """All evidence of one version, measured again."""

    name: str
    version: str
    records: tuple[Recomputed, ...]

    def count(self, answer: Answer) -> int:
        return sum(one.answer is answer for one in self.records)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            **{str(answer): self.count(answer) for answer in Answer},
            "records": [one.to_json() for one in self.records],
        }


def recompute_evidence(desk: Desk, name: str, version: str, progress: Progress) -> Recomputation:
    """Measure a version's recorded evidence again and compare every bit; nothing is written.

    Raises
    ------
    NotFound: no such version. Tampered: it does not verify.
    """
    registry = desk.registry
    opened = registry.open_version(name, version)
    recorded = {piece.name: piece for piece in registry.evidence(name, opened.version)}
    answers: dict[str, Recomputed] = {}
    for (champion, trials), pieces in _alike(recorded.values()).items():
        answers |= _again(desk, opened, champion, trials, pieces, progress)
    for piece in recorded.values():
        if piece.name not in answers:
            answers[piece.name] = _cannot(piece, _why_not(piece))
    return Recomputation(name, opened.version, tuple(answers[key] for key in sorted(answers)))


def _why_not(piece: Evidence) -> str:
    if piece.provenance is None:
        return "it was recorded without saying what it was taken from"
    return "it was observed at a moment that does not come back"


_Against: TypeAlias = tuple[str | None, tuple[str, ...]]


def _alike(pieces: Iterable[Evidence]) -> dict[_Against, dict[str, Evidence]]:
    """What can be measured again, by the champion that it names and the trials that it counted."""
    found: dict[_Against, dict[str, Evidence]] = {}
    for piece in pieces:
        known = CATALOGUE.get(piece.name)
        if piece.provenance is not None and known is not None and known.repeatable:
            against = (piece.provenance.champion, piece.provenance.trials)
            found.setdefault(against, {})[piece.name] = piece
    return found


def _again(
    desk: Desk,
    opened: VerifiedVersion,
    champion: str | None,
    trials: tuple[str, ...],
    pieces: Mapping[str, Evidence],
    progress: Progress,
) -> dict[str, Recomputed]:
    """These records, all against one champion or none, and with the same trials counted."""
    against = "" if champion is None else f" against {champion}"
    progress.event(f"{opened.name} {opened.version}: measuring {len(pieces)} records{against}")
    try:
        theirs = None if champion is None else desk.registry.open_version(opened.name, champion)
        measured = Measured.of(desk, opened, theirs, trials=trials or None)
        made = measure(desk, measured, progress, wanted=set(pieces))
    except AssayError as error:
        return {name: _cannot(piece, error.message) for name, piece in pieces.items()}
    found = {piece.name: piece for piece in made}
    return {
        name: _compared(piece, found[name])
        if name in found
        else _cannot(piece, "nothing here measures it for this kind of model")
        for name, piece in pieces.items()
    }


def _compared(recorded: Evidence, again: Evidence) -> Recomputed:
    assert recorded.provenance is not None
    assert again.provenance is not None
    moved = _moved(recorded.provenance, again.provenance)
    if moved is not None:
        return _cannot(recorded, moved)
    before, after = (_plain(one) for one in (recorded, again))
    changes = tuple(_changes("", before, after))
    code = _other_code(recorded.provenance)
    if not changes:
        said = "" if code is None else f"also by other code: {code}"
        return Recomputed(recorded.name, Answer.SAME, recorded.value, again.value, reason=said)
    if code is not None:
        return Recomputed(
            recorded.name, Answer.CANNOT, recorded.value, again.value, changes,
            f"it was measured by other code: {code}",
        )  # fmt: skip
    return Recomputed(recorded.name, Answer.DIFFERS, recorded.value, again.value, changes)


def _moved(recorded: Provenance, again: Provenance) -> str | None:
    """What it was taken from that is not there as it was; None when everything is."""
    for what, before, after in (
        ("the definition", recorded.convention_id, again.convention_id),
        ("the version", recorded.model_digest, again.model_digest),
        ("the champion", recorded.champion_digest, again.champion_digest),
        ("the snapshots", dict(recorded.snapshots), dict(again.snapshots)),
        ("the manifest", recorded.manifest, again.manifest),
        ("the seeds", recorded.seeds, again.seeds),
        ("the trials", recorded.trials, again.trials),
        ("what was read", recorded.inputs_digest, again.inputs_digest),
    ):
        if before != after:
            return f"{what} differs: recorded {before}, now {after}"
    return None


def _other_code(recorded: Provenance) -> str | None:
    now = measuring_code()
    differing = [
        f"{name} {recorded.code.get(name, 'none')[:12]} then, {now.get(name, 'none')[:12]} now"
        for name in sorted({*recorded.code, *now})
        if recorded.code.get(name) != now.get(name)
    ]
    return ", ".join(differing) or None


def _plain(piece: Evidence) -> dict[str, Any]:
    """The record as it reads back from the log, without what only says when."""
    document: dict[str, Any] = json.loads(canonical_bytes(piece.to_json()))
    document.pop("provenance")
    return document


def _changes(path: str, before: Any, after: Any) -> Iterable[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inner = f"{path}.{key}" if path else key
            yield from _changes(inner, before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{path}[{number}]", *pair)
    elif repr(before) != repr(after):
        # repr tells -0.0 from 0.0 and 1 from 1.0, and is the shortest form of every other float.
        yield Change(path, before, after)


def _cannot(piece: Evidence, reason: str) -> Recomputed:
    return Recomputed(piece.name, Answer.CANNOT, piece.value, reason=reason)
