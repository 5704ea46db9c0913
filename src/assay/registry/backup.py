"""Backups of a registry, in a folder or any object store, and back.

::

    content/ versions/                      files of versions, each content once
    log/<first>-<last>@<hash>               lines of the log, byte for byte
    heads/<seq>@<sha256>                    signed heads
    backups/<seq>@<hash>                    one backup: the end of the log, and what belongs to it

A backup is a document that names others, written last; everything is named by its content or by
the log's own hashes and written once, so the next backup adds only what is new, and a backup that
was killed is none. The log vouches for the versions and the signed heads for the log: a backup
needs no key, and whoever restores one believes nothing that does not verify.

Keys and the trust policy are no part of it: they belong to the desk's configuration. A registry
that could be restored together with the keys that vouch for it would vouch for itself.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.clock import Clock
from assay.domain.instants import Instant, parse, render
from assay.errors import AssayError, Conflict, NotFound, Tampered
from assay.registry.artifacts import Artifacts
from assay.registry.file_ledger import FileLedger
from assay.registry.folders import FolderArtifacts
from assay.registry.keyring import KeyRing
from assay.registry.ledger import Ledger
from assay.registry.lifecycle import EventType
from assay.registry.log import EMPTY, Entry, LogHead, chained
from assay.registry.model_registry import ModelRegistry
from assay.registry.objects import ObjectArtifacts
from assay.registry.reading import RegistryReader
from assay.registry.sealed import SealedFiles, VerifiedVersion, as_it_is, verified
from assay.storage.files import write_atomic
from assay.storage.objects import ObjectStore

_FORMAT = 1
_LOG, _HEADS, _BACKUPS = "log", "heads", "backups"


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup.

    Attributes
    ----------
    seq, hash: the last entry of the log that it holds. taken_at: when.
    segments: the objects that hold the log's lines, in order.
    heads: file name of a signed head -> the object that holds it.
    versions: (name, version, digest) of every version whose files it holds.
    damaged: versions that were not whole when it was taken, with what was wrong: not in it.
    """

    seq: int
    hash: str
    taken_at: Instant
    segments: tuple[str, ...]
    heads: Mapping[str, str]
    versions: tuple[tuple[str, str, str], ...]
    damaged: tuple[tuple[str, str, str], ...]

    @property
    def id(self) -> str:
        return f"{self.seq:012d}@{self.hash}"

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "seq": self.seq,
            "hash": self.hash,
            "taken_at": render(self.taken_at),
            "segments": list(self.segments),
            "heads": dict(self.heads),
            "versions": [list(one) for one in self.versions],
            "damaged": [list(one) for one in self.damaged],
        }

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Backup:
        try:
            document = json.loads(data)
            made = cls(
                seq=int(document["seq"]),
                hash=str(document["hash"]),
                taken_at=parse(document["taken_at"]),
                segments=tuple(document["segments"]),
                heads=dict(document["heads"]),
                versions=tuple((n, v, d) for n, v, d in document["versions"]),
                damaged=tuple((n, v, w) for n, v, w in document["damaged"]),
            )
        except (ValueError, KeyError, TypeError, AssayError) as error:
            raise Tampered(f"backup {where} cannot be read: {error!r}") from None
        if canonical_bytes(made.to_json()) != data or f"{_BACKUPS}/{made.id}" != where:
            raise Tampered(f"backup {where} is not what was written under that name")
        return made


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of restoring: the end of the log, and versions that could not be made whole.

    ``notes`` name signatures by keys that were revoked since: what they signed is kept as it was.
    """

    head: LogHead
    versions: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "log_head": self.head.to_json(),
            "versions": self.versions,
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


class BackupStore:
    """The backups of one registry."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._files = ObjectArtifacts(objects)

    @property
    def url(self) -> str:
        return self._objects.url

    def ids(self) -> tuple[str, ...]:
        """The ids of all backups, by the end of the log that they hold."""
        start = f"{_BACKUPS}/"
        return tuple(name.removeprefix(start) for name in self._objects.names(_BACKUPS))

    def get(self, identifier: str | None = None) -> Backup:
        """A backup by its id or the beginning of it; the newest when none is given.

        Raises
        ------
        NotFound: there is none. Tampered: it is not what was written.
        """
        found = [one for one in self.ids() if one.startswith(identifier or "")]
        if not found:
            raise NotFound(
                f"no backup {identifier or ''} in {self.url}".replace("  ", " "),
                hint="assay models backup DESTINATION takes one",
            )
        where = f"{_BACKUPS}/{found[-1]}"
        return Backup.from_bytes(self._objects.get(where), where)

    def take(self, registry: RegistryReader) -> Backup:
        """Copy what is new since the last backup.

        Versions are checked before they are copied: one that is not whole is named in the backup
        and not part of it, unless an earlier backup holds it.

        Raises
        ------
        Tampered: the registry's log does not continue the one that was backed up last.
        """
        journal = registry.journal
        with journal.locked():  # nothing is appended or collected while it is read
            before = self.get() if self.ids() else None
            lines, head = self._new_lines(registry, before)
            heads = {
                path.name: path.read_bytes() for path in sorted(journal.heads.folder.glob("*.json"))
            }
            records = [one for one in registry.list() if registry.collected(one) is None]
        segments = before.segments if before else ()
        if lines:
            first = (before.seq if before else 0) + 1
            segment = f"{_LOG}/{first:012d}-{head.seq:012d}@{head.hash}"
            self._objects.put_if_absent(segment, b"".join(lines))
            segments = (*segments, segment)
        kept: dict[str, str] = dict(before.heads) if before else {}
        for name, data in heads.items():
            if name not in kept:
                kept[name] = f"{_HEADS}/{name.removesuffix('.json')}@{sha256_hex(data)}"
                self._objects.put_if_absent(kept[name], data)
        versions, damaged = [], []
        for record in records:
            wrong = self._copy(registry, record.name, record.version, record.digest)
            if wrong is None:
                versions.append((record.name, record.version, record.digest))
            else:
                damaged.append((record.name, record.version, wrong))
        made = Backup(
            head.seq, head.hash, registry.now(), segments, kept, tuple(versions), tuple(damaged)
        )
        where = f"{_BACKUPS}/{made.id}"
        if before is not None and before.id == made.id and before.damaged != made.damaged:
            self._objects.remove(where)  # nothing happened since, but versions were made whole
        stored = self._objects.put_if_absent(where, canonical_bytes(made.to_json()))
        return Backup.from_bytes(stored, where)

    def files(self, name: str, version: str, digest: str) -> Mapping[str, bytes]:
        """The files of a version, not checked; those that are missing are left out.

        Raises
        ------
        NotFound: no backup holds it.
        """
        return self._files.read(name, version, digest).files

    def entries(self, backup: Backup) -> Iterator[Entry]:
        """The log of a backup, its chain checked up to the end that the backup names.

        Raises
        ------
        Tampered: a line was changed, or lines are missing.
        """
        last = EMPTY
        where = f"backup {backup.id} in {self.url}"
        for segment in backup.segments:
            lines = self._objects.get(segment).splitlines(keepends=True)
            for entry, after in chained(lines, last, where):
                yield entry
                last = after
        if (last.seq, last.hash) != (backup.seq, backup.hash):
            raise Tampered(f"the log of {where} ends at entry {last.seq}, expected {backup.seq}")

    def verify(self, backup: Backup, keyring: KeyRing) -> tuple[str, ...]:
        """Read all of a backup and name what is wrong with it."""
        problems = []
        registered: dict[tuple[str, str | None], str] = {}
        try:
            registered = _registered(self.entries(backup))
        except AssayError as error:
            problems.append(error.message)
        for name, place in backup.heads.items():
            try:
                self._head(name, place)
            except AssayError as error:
                problems.append(error.message)
        for name, version, digest in backup.versions:
            try:
                self._verified(name, version, digest, keyring, registered)
            except AssayError as error:
                problems.append(error.message)
        return tuple(problems)

    def restore(
        self,
        backup: Backup,
        root: Path,
        keyring: KeyRing,
        clock: Clock,
        *,
        audit_path: Path | None = None,
        ledger: Ledger | None = None,
        artifacts: Artifacts | None = None,
    ) -> Restored:
        """Make a registry from a backup, where there is none; files first, the log after them.

        One that was killed is run again. Every byte is verified with ``keyring``, which comes
        from the desk's configuration.

        Raises
        ------
        Conflict: there is a registry, and its log is not the beginning of this one.
        Tampered: the log of the backup does not verify.
        """
        ledger, artifacts = ledger or FileLedger(root), artifacts or FolderArtifacts(root)
        entries = [*self.entries(backup)]
        registered = _registered(entries)
        problems: list[str] = []
        notes: list[str] = []
        with ledger.lock():
            ledger.recover()
            self._refuse_another(ledger, entries)
            for name, version, digest in backup.versions:
                try:
                    opened = self._verified(name, version, digest, keyring, registered)
                except AssayError as error:
                    problems.append(error.message)
                    continue
                if opened.note:
                    notes.append(f"{name} {version}: {opened.note}")
                files = opened.files
                if not _is_there(artifacts, name, version, digest, files):
                    artifacts.prepare(name, version, SealedFiles(files))
                    artifacts.put_in_place(name, version, digest)
            problems += [f"{name} {version}: {wrong}" for name, version, wrong in backup.damaged]
            for name, place in backup.heads.items():
                write_atomic(root / "log" / "heads" / name, self._head(name, place), mode=0o444)
            head = ledger.head()
            if head == EMPTY:
                head = ledger.adopt(entry.to_line() + b"\n" for entry in entries)
            for entry in entries[head.seq :]:  # an earlier backup was restored here before
                head = ledger.append(entry)
        registry = ModelRegistry(
            root, keyring, clock, audit_path=audit_path, ledger=ledger, artifacts=artifacts
        )
        report = registry.verify_log()
        problems += [str(problem) for problem in report.problems if not problem.uncovered]
        # What nobody has vouched for yet was so before, too: it came back as it was.
        notes += [*report.notes, *(str(one) for one in report.problems if one.uncovered)]
        return Restored(
            head, len(backup.versions), tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(notes))
        )

    # -- inside ---------------------------------------------------------------------------------

    def _new_lines(
        self, registry: RegistryReader, before: Backup | None
    ) -> tuple[list[bytes], LogHead]:
        """Lines behind the last backup, and the end of the log."""
        new: list[bytes] = []
        head, hashes = EMPTY, {0: EMPTY.hash}
        for entry, after in registry.journal.ledger.entries_after(EMPTY):
            head = after
            hashes[entry.seq] = entry.hash
            if before is None or entry.seq > before.seq:
                new.append(entry.to_line() + b"\n")
        if before is not None and hashes.get(before.seq) != before.hash:
            raise Tampered(
                f"backup {before.id} holds entry {before.seq}, which the registry's log does not: "
                "it was cut or replaced since",
                hint="assay audit verify says where; assay models restore brings it back",
            )
        return new, head

    def _copy(self, registry: RegistryReader, name: str, version: str, digest: str) -> str | None:
        """Copy a version that is not there; what is wrong with it, None where nothing is."""
        if self._files.is_there(name, version, digest):
            return None
        try:
            files = registry.keep_version(name, version).files
        except (NotFound, Tampered) as error:
            return error.message
        self._files.store(name, version, SealedFiles(files))
        return None

    def _verified(
        self,
        name: str,
        version: str,
        digest: str,
        keyring: KeyRing,
        registered: Mapping[tuple[str, str | None], str],
    ) -> VerifiedVersion:
        """A version of which every byte is what the log says, its signer revoked since or not."""
        if registered.get((name, version)) != digest:
            raise Tampered(f"{name} {version}: the log of the backup registered no such digest")
        files, problems = self._files.read(name, version, digest)
        return verified(files, problems, name, version, digest, keyring, vouched=as_it_is)

    def _head(self, name: str, place: str) -> bytes:
        data = self._objects.get(place)
        if not place.endswith(f"@{sha256_hex(data)}") or "/" in name:
            raise Tampered(f"signed head {name} in {self.url} is not what was written")
        return data

    def _refuse_another(self, ledger: Ledger, entries: Sequence[Entry]) -> None:
        present = ledger.head()
        if present.seq and (
            present.seq > len(entries) or entries[present.seq - 1].hash != present.hash
        ):
            raise Conflict(
                f"there is a registry, whose log ends at entry {present.seq}: not the beginning of "
                f"the backup's, which ends at entry {len(entries)}",
                hint="restore into an empty folder, and look at both",
            )


def _registered(entries: Iterable[Entry]) -> dict[tuple[str, str | None], str]:
    """Model and version -> the digest under which a log registered it."""
    return {
        (entry.model, entry.to_version): str(entry.evidence["digest"])
        for entry in entries
        if entry.type is EventType.REGISTER
    }


def _is_there(
    artifacts: Artifacts, name: str, version: str, digest: str, files: Mapping[str, bytes]
) -> bool:
    """Whether a restoration that was killed has written this version."""
    try:
        found = artifacts.read(name, version, digest)
    except (NotFound, Tampered):
        return False
    return not found.problems and found.files == files


@dataclass(frozen=True, slots=True)
class Drill:
    """What a restoration into an empty place has shown.

    Attributes
    ----------
    questions: how many questions about the past were asked of both registries.
    differences: those that they answered differently, and rows of the catalogue that differ.
    """

    restored: Restored
    questions: int
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.restored.ok and not self.differences

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            **self.restored.to_json(),
            "questions": self.questions,
            "differences": list(self.differences),
        }


def drill(registry: RegistryReader, store: BackupStore) -> Drill:
    """Restore the newest backup into an empty place, and ask it what the registry is asked.

    Asked are: what was live of each model a nanosecond before, at and after each change, what the
    whole registry was then, and every row of the catalogue up to the backup's last entry.
    """
    backup = store.get()
    with _empty() as folder:
        audit = folder / "audit.jsonl"
        restored = store.restore(
            backup, folder / "models", registry.keyring, registry.clock, audit_path=audit
        )
        other = RegistryReader(
            folder / "models", registry.keyring, registry.clock, audit_path=audit
        )
        differences, questions = _compare(registry, other, backup)
    return Drill(restored, questions, tuple(differences))


@contextmanager
def _empty() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="assay-drill-") as folder:
        yield Path(folder)


def _compare(
    registry: RegistryReader, other: RegistryReader, backup: Backup
) -> tuple[list[str], int]:
    differences: list[str] = []
    questions = 0
    for name in other.names():
        mine = [entry for entry in registry.history(name) if entry.seq <= backup.seq]
        if [*other.history(name)] != mine:
            differences.append(f"history of {name}")
        moments = {entry.at + step for entry in mine for step in (-1, 0, 1)}
        last = max((entry.at for entry in mine), default=0)
        for moment in sorted(moment for moment in moments if moment <= last):
            questions += 2
            # A version's record tells what it is today; compared is what was live then.
            if registry.live_at(name, moment).to_json() != other.live_at(name, moment).to_json():
                differences.append(f"what was live of {name} at {render(moment)}")
            if registry.list(name, at=moment) != other.list(name, at=moment):
                differences.append(f"the versions of {name} at {render(moment)}")
    for record in other.list():
        questions += 1
        mine_record = registry.get(record.name, record.version)
        if record.digest != mine_record.digest:
            differences.append(f"digest of {record.name} {record.version}")
    return differences, questions
