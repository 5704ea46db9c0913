"""The files of registered versions: read from where they are kept, and held against the log."""

from __future__ import annotations

from collections.abc import Callable

from assay.domain.instants import render
from assay.errors import Gone, NotFound, Tampered
from assay.registry.artifacts import Artifacts, ReadFiles
from assay.registry.catalogue import Catalogue, VersionRecord
from assay.registry.countersigning import vouched_by
from assay.registry.keyring import KeyRing
from assay.registry.lifecycle import EventType
from assay.registry.log import Entry
from assay.registry.sealed import ValidationReport, VerifiedVersion, as_it_is, validate, verified


class VersionFiles:
    """What is kept of versions, by their records.

    Parameters
    ----------
    catalogue: the index over the log, which says what was registered, held and collected.
    artifacts: where the files are. keyring: whose signatures count.
    """

    def __init__(self, catalogue: Catalogue, artifacts: Artifacts, keyring: KeyRing) -> None:
        self._catalogue = catalogue
        self._artifacts = artifacts
        self._keyring = keyring

    def validate(self, record: VersionRecord) -> ValidationReport:
        """Check every file and the signature; the report names what is wrong."""
        files = self._read(record)
        return validate(
            *files, record.name, record.version, record.digest, self._keyring,
            at=record.registered_at, vouched=lambda: self.vouched(record),
        )  # fmt: skip

    def open(self, record: VersionRecord) -> VerifiedVersion:
        """Verified bytes, to be served.

        Raises
        ------
        Tampered: a file is not what was sealed and signed; the message names it. Or the key that
        signed it was revoked since, and nobody has countersigned it.
        """
        return self._verified(record, lambda: self.vouched(record))

    def keep(self, record: VersionRecord) -> VerifiedVersion:
        """As :meth:`open`, but with a note instead of an error where the key was revoked since."""
        return self._verified(record, lambda: self.vouched(record) or as_it_is())

    def vouched(self, record: VersionRecord, promotion: Entry | None = None) -> str | None:
        """Who has countersigned a version, or one promotion of it; None where nobody has."""
        entries = self._catalogue.events(record.name, record.version, (EventType.COUNTERSIGN,))
        return vouched_by(entries, record.digest, self._keyring, promotion)

    def is_whole(self, record: VersionRecord) -> bool:
        """Whether every file is there and what was registered."""
        try:
            return bool(self.keep(record).files)
        except (NotFound, Tampered):
            return False

    def held(self, record: VersionRecord) -> Entry | None:
        """The entry that holds the files, None where they are not held."""
        return self._last_of(record, EventType.HOLD, EventType.RELEASE)

    def collected(self, record: VersionRecord) -> Entry | None:
        """The entry that collected the files, None where they are there."""
        return self._last_of(record, EventType.COLLECT, EventType.RESTORE)

    def _last_of(self, record: VersionRecord, begins: EventType, ends: EventType) -> Entry | None:
        events = self._catalogue.events(record.name, record.version, (begins, ends))
        return events[-1] if events and events[-1].type is begins else None

    def _verified(
        self, record: VersionRecord, vouched: Callable[[], str | None]
    ) -> VerifiedVersion:
        files = self._read(record)
        return verified(
            *files, record.name, record.version, record.digest, self._keyring,
            at=record.registered_at, vouched=vouched,
        )  # fmt: skip

    def _read(self, record: VersionRecord) -> ReadFiles:
        try:
            return self._artifacts.read(record.name, record.version, record.digest)
        except NotFound:
            collected = self.collected(record)
            if collected is None:
                raise
            raise collected_error(record, collected) from None


def collected_error(record: VersionRecord, collected: Entry) -> Gone:
    """The error of asking for files that were collected."""
    return Gone(
        f"the files of {record.name} {record.version} were collected at {render(collected.at)} by "
        f"{collected.initiated_by} (log entry {collected.seq}): {collected.reason}",
        hint=f"assay models bring-back {record.name} {record.version} --from BACKUP",
    )
