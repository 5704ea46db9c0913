"""How the registry changes, and how it recovers: log and index first, the rest from both.

1. Take the lock; make the index follow the log, and the rest follow the index.
2. Let the event happen in log and index, as one change (:mod:`~assay.registry.ledger`): a move
   that is not allowed ends here.
3. Publish: the new version's folder gets its name, the link ``latest/<name>`` moves, a signed
   head, the manifest of the whole registry and the audit export are written.

Dying before 2 leaves nothing but prepared files, which the next registration removes. Dying
after it leaves a folder, link, manifest or export that is behind: step 1 of the next writer, or of
the next process that opens the registry, makes them follow. So a version's folder never stands in
its place without an entry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes
from assay.domain.clock import Clock
from assay.domain.versions import Stage
from assay.errors import AssayError, NotFound, Tampered, Unavailable
from assay.registry.artifacts import Artifacts
from assay.registry.chained_file import ChainedFile
from assay.registry.file_ledger import log_file
from assay.registry.folders import FolderArtifacts
from assay.registry.keyring import LOG_HEAD, KeyRing
from assay.registry.ledger import Ledger
from assay.registry.lifecycle import (
    DEPLOYMENT_EVENTS,
    MANIFEST_MOVES,
    MOVES,
    EventOutcome,
    EventType,
)
from assay.registry.log import Entry, LogHead, SignedHeads
from assay.storage.files import write_atomic

_MANIFEST_FORMAT = 1
_MANIFEST_START = re.compile(rb'\{"format":%d,"log_seq":(\d+),' % _MANIFEST_FORMAT)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What a caller says about an event; the journal adds number, time and hashes."""

    type: EventType
    model: str
    to_version: str | None
    initiated_by: str
    reason: str = ""
    evidence: Mapping[str, Any] | None = None
    outcome: EventOutcome = EventOutcome.DONE


_SIGNED = MOVES | MANIFEST_MOVES | frozenset(DEPLOYMENT_EVENTS)


class Journal:
    """The one writer of a registry.

    Parameters
    ----------
    root: the registry's folder. ledger: where its log and catalogue are.
    artifacts: where the files of versions are.
    audit_path: the exported audit file, None for no export.
    """

    def __init__(
        self,
        root: Path,
        ledger: Ledger,
        artifacts: Artifacts,
        keyring: KeyRing,
        clock: Clock,
        audit_path: Path | None,
    ) -> None:
        self._root = root
        self._keyring = keyring
        self._clock = clock
        self._audit = None if audit_path is None else AuditExport(audit_path)
        self.heads = SignedHeads(root / "log" / "heads")
        self.ledger = ledger
        self.artifacts = artifacts
        self.catalogue = ledger.catalogue
        self._seen: Hashable | None = None

    def open(self) -> None:
        """Bring index, links, manifest and export up to the log, if they are behind."""
        # Taken first: what happens meanwhile is looked at again by the next refresh.
        mark = self.ledger.mark()
        if not self._is_settled():
            with self.locked():
                pass
        self._seen = mark

    def refresh(self) -> None:
        """The same, but only where the ledger has changed since the last time."""
        if self._seen is None or self._seen != self.ledger.mark():
            self.open()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the writer's lock over a recovered registry."""
        self._require_writable()
        with self.ledger.lock():
            self.ledger.recover()
            self._follow()
            yield

    def append(self, event: NewEvent) -> Entry:
        """Let an event happen. The caller is inside :meth:`locked`.

        Raises
        ------
        Refused: the lifecycle has no such move; nothing was written.
        """
        head = self.ledger.head()
        champion = self.catalogue.current(event.model)
        entry = Entry(
            seq=head.seq + 1,
            at=max(self._clock.now(), head.at),
            type=event.type,
            model=event.model,
            from_version=champion.version if champion else None,
            to_version=event.to_version,
            initiated_by=event.initiated_by,
            outcome=event.outcome,
            reason=event.reason,
            evidence=dict(event.evidence or {}),
            previous=head.hash,
        ).sealed()
        self._publish(entry, self.ledger.append(entry))
        return entry

    def rebuild(self) -> LogHead:
        """Drop the index and build it again from the log.

        Raises
        ------
        Tampered: the log was cut or replaced under the index; a new index would forget that.
        """
        self._require_writable()
        with self.ledger.lock():
            head = self.ledger.rebuild()
            self._follow()
        return head

    def adopt(self, path: Path) -> LogHead:
        """Take over the log in a file of chained lines, where the ledger has none.

        The file that a log was kept in before is put aside, so that nothing is added to it.
        """
        with self.ledger.lock():
            head = self.ledger.adopt(ChainedFile(path).lines())
            self._follow()
        former = log_file(self._root)
        if path.absolute() == former.absolute():
            path.rename(path.with_name(f"{path.name}.adopted"))
        return head

    def exported(self) -> int:
        """The last entry of the audit export; 0 where there is none, or none that can be read."""
        return 0 if self._audit is None else max(0, self._audit.last_seq())

    def describe(self) -> dict[str, Any]:
        """The whole registry as one document: what ``manifest.json`` holds."""
        models: dict[str, Any] = {}
        for record in self.catalogue.select(None, None):
            model = models.setdefault(record.name, {"production": None, "versions": []})
            model["versions"].append(
                {
                    "version": record.version,
                    "kind": record.kind,
                    "stage": str(record.stage),
                    "digest": record.digest,
                }
            )
            if record.stage is Stage.PRODUCTION:
                model["production"] = record.version
        return {
            "format": _MANIFEST_FORMAT,
            "log_seq": self.catalogue.described_seq(),
            "models": models,
        }

    def _require_writable(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        if not os.access(self._root, os.W_OK):
            raise Unavailable(
                f"the registry's folder {self._root} is read-only here: nothing was changed",
                hint="mount it for writing, or ask its owner; questions are answered as before",
            )

    # -- recovery -------------------------------------------------------------------------------

    def _is_settled(self) -> bool:
        return (
            self.ledger.is_settled()
            and self._described() == self.catalogue.described_seq()
            and self.artifacts.is_following(self.catalogue.champions())
            and not self._is_pending()
            and (self._audit is None or self._audit.last_seq() == self.ledger.head().seq)
        )

    def _is_pending(self) -> bool:
        """Whether the last registration died before its folder had its name.

        Only the last one can: whoever registers recovers first.
        """
        last = self.catalogue.last_registered()
        if last is None:
            return False
        version = (last.name, last.version, last.digest)
        return self.artifacts.is_prepared(*version) and not self.artifacts.is_there(*version)

    def _follow(self) -> None:
        """Make folders, links, manifest and audit export follow the index."""
        last = self.catalogue.last_registered()
        if last is not None:
            self.artifacts.put_in_place(last.name, last.version, last.digest)
        self.artifacts.follow(self.catalogue.champions())
        if self._described() != self.catalogue.described_seq():
            self._write_manifest()
        if self._audit is not None:
            self._audit.follow(self.ledger)

    # -- publishing -----------------------------------------------------------------------------

    def _publish(self, entry: Entry, head: LogHead) -> None:
        if entry.type is EventType.REGISTER:
            self.artifacts.put_in_place(
                entry.model, str(entry.to_version), entry.evidence["digest"]
            )
        if entry.outcome is EventOutcome.DONE and entry.type in MOVES:
            self.artifacts.follow(self.catalogue.champions())
        if entry.outcome is EventOutcome.DONE and entry.type in _SIGNED:
            # Whoever may sign heads does. A person whose key is not here, or not usable, can
            # still roll back at night: the next head covers this entry too.
            with suppress(AssayError):
                if self._keyring.can_sign(entry.initiated_by, LOG_HEAD):
                    self.heads.sign(head.seq, head.hash, self._keyring, entry.initiated_by)
        if self._described() != self.catalogue.described_seq():
            self._write_manifest()
        if self._audit is not None:
            self._audit.follow(self.ledger)

    def _write_manifest(self) -> None:
        write_atomic(self._root / "manifest.json", canonical_bytes(self.describe()) + b"\n")

    def _described(self) -> int:
        """The entry that ``manifest.json`` describes; -1 when it is absent or unreadable.

        Its canonical form starts with that number: a large file need not be read for it.
        """
        try:
            with (self._root / "manifest.json").open("rb") as handle:
                start = _MANIFEST_START.match(handle.read(64))
        except FileNotFoundError:
            return -1
        return int(start[1]) if start else -1


def adopt_log(
    root: Path,
    keyring: KeyRing,
    clock: Clock,
    source: Path,
    *,
    ledger: Ledger,
    artifacts: Artifacts | None = None,
    audit_path: Path | None = None,
) -> LogHead:
    """Take over a registry's log from a file of chained lines into a ledger that has none.

    Where ``source`` is the file in which a registry keeps its log, it is put aside afterwards, so
    that nothing can be added to it any more.

    Raises
    ------
    NotFound: there is no such file. Conflict: the ledger has a log. Tampered: the file does not
    verify.
    """
    if not source.is_file():
        raise NotFound(f"no log to take over at {source}")
    return Journal(
        root, ledger, artifacts or FolderArtifacts(root), keyring, clock, audit_path
    ).adopt(source)


class AuditExport:
    """``model_events.jsonl``: the log's lines, byte for byte, where auditors look for them.

    Being the same chained lines, it verifies on its own and against the log.
    """

    def __init__(self, path: Path) -> None:
        self._copy = ChainedFile(path)

    def last_seq(self) -> int:
        """The last entry exported; -1 when the file does not end in a whole, valid one."""
        try:
            return -1 if self._copy.is_torn() else self._copy.head().seq
        except Tampered:
            return -1

    def follow(self, ledger: Ledger) -> None:
        """Append what is missing. The caller holds the registry's lock.

        An export that is not the beginning of the log stays as it is, for verification to name:
        a damaged copy must not keep anyone from rolling back.
        """
        with suppress(Tampered):
            self._copy.repair_tail()
            mine = self._copy.head()
            if mine.seq < ledger.head().seq:
                # Entries are read through the chain: they must follow what was exported last.
                lines = [entry.to_line() + b"\n" for entry, _ in ledger.entries_after(mine)]
                self._copy.extend(b"".join(lines))
