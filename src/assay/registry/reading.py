"""What the registry answers: everything about versions that changes none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from assay.domain.clock import Clock
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant
from assay.domain.verdicts import Outcome, Severity, Verdict
from assay.domain.versions import SemanticVersion, Stage, check_name
from assay.errors import NotFound, Refused, Tampered, did_you_mean
from assay.registry.artifacts import Artifacts
from assay.registry.catalogue import Catalogue, VersionRecord
from assay.registry.file_ledger import FileLedger
from assay.registry.folders import FolderArtifacts
from assay.registry.journal import Journal
from assay.registry.keyring import KeyRing
from assay.registry.ledger import Ledger
from assay.registry.lifecycle import (
    MANIFEST_EVENTS,
    EventOutcome,
    EventType,
    PromotionGateError,
)
from assay.registry.listing import ModelSummary, models_page, versions_page
from assay.registry.log import Entry, LogReport
from assay.registry.metadata import ModelMetadata
from assay.registry.records import (
    GateRecord,
    LiveAnswer,
    evidence_digest,
)
from assay.registry.sealed import ValidationReport, VerifiedVersion
from assay.registry.verification import check_approvals, verify_promotion, verify_registry
from assay.registry.version_files import VersionFiles

CHAMPION = "champion"
"""The alias of the version in production."""

FEATURES = "features"
"""Stands before the name of a view, with a slash, where the log is about a view's manifests."""


class RegistryReader:
    """Answers questions about versions, their life and the record of it.

    Opening it brings its index, links and exports up to the log, whatever a killed process left.

    Parameters
    ----------
    root: the registry's folder, ``data/models`` of a desk.
    keyring: the desk's keys and trust policy.
    clock: where the times of events come from.
    audit_path: where the audit is exported to (``model_events.jsonl``); None for no export.
    ledger: where log and catalogue are; a file and SQLite in ``root`` when not given.
    artifacts: where the files of versions are; folders in ``root`` when not given.
    configuration: the SHA-256 of each configuration file as it is now, which registrations and
        promotions bind in what they sign; of nothing when not given.

    Raises
    ------
    Tampered: the log was cut or replaced under the index.
    """

    def __init__(
        self,
        root: Path,
        keyring: KeyRing,
        clock: Clock,
        *,
        audit_path: Path | None = None,
        ledger: Ledger | None = None,
        artifacts: Artifacts | None = None,
        configuration: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.root = root
        self.configuration = configuration
        self.keyring = keyring
        self.clock = clock
        self._audit_path = audit_path
        self._journal = Journal(
            root, ledger or FileLedger(root), artifacts or FolderArtifacts(root), keyring, clock,
            audit_path,
        )  # fmt: skip
        self._catalogue = self._journal.catalogue
        self._version_files = VersionFiles(self._catalogue, self._journal.artifacts, keyring)
        self._journal.open()

    def refresh(self) -> None:
        """Bring everything up to the log, where that has changed since this was last done here.

        For a process that keeps a registry open and answers many questions: it does not pay for
        opening one each time, and still follows what other processes did, or left undone.

        Raises
        ------
        Tampered: the log was cut or replaced under the index.
        """
        self._journal.refresh()

    @property
    def catalogue(self) -> Catalogue:
        """The index behind the answers, for whoever asks in bulk."""
        return self._catalogue

    def list(
        self,
        name: str | None = None,
        stage: Stage | None = None,
        *,
        at: Instant | None = None,
    ) -> tuple[VersionRecord, ...]:
        """Versions by name and number, ascending; all of them by default.

        Parameters
        ----------
        at: the registry as it was then: versions registered by that nanosecond, each with the
            stage of that moment and since when; None for now.
        """
        if at is not None:
            return self._catalogue.select_at(at, name, stage)
        return self._catalogue.select(name, stage)

    def models(
        self,
        *,
        name: str | None = None,
        after: str | None = None,
        kind: str | None = None,
        limit: int = 1_000,
    ) -> tuple[ModelSummary, ...]:
        """The first models by name, each with its newest version and the one in production."""
        return models_page(self._catalogue, name=name, after=after, kind=kind, limit=limit)

    def page(
        self,
        name: str,
        *,
        after: SemanticVersion | None = None,
        stage: Stage | None = None,
        author: str | None = None,
        limit: int,
    ) -> tuple[VersionRecord, ...]:
        """The first versions of a model by number, behind one, in a stage, of an author."""
        return versions_page(
            self._catalogue, name, after=after, stage=stage, author=author, limit=limit
        )

    def names(self) -> tuple[str, ...]:
        """Every model that has a version."""
        return self._catalogue.names()

    def check_model(self, name: str) -> None:
        """Refuse the name of a model that has no version: silence would look like an answer.

        Raises
        ------
        NotFound: no such model; the hint names the nearest.
        """
        if self._catalogue.has_model(name):
            return
        names = self.names()
        if name not in names:
            hint = did_you_mean(name, names) if names else "assay train RECIPE registers one"
            raise NotFound(f"no model {name!r}", hint=hint)

    def get(self, name: str, version: str) -> VersionRecord:
        """One version's record.

        Raises
        ------
        NotFound: no such model or version; the hint names the nearest.
        """
        record = self._catalogue.find(name, version)
        if record is not None:
            return record
        versions = [item.version for item in self._catalogue.select(name, None)]
        if not versions:
            self.check_model(name)
        raise NotFound(f"no version {version} of {name}", hint=did_you_mean(version, versions))

    def current(self, name: str) -> VersionRecord | None:
        """The version in production, or None."""
        return self._catalogue.current(name)

    def resolve(self, reference: str) -> VersionRecord:
        """The version that ``name``, ``name@champion`` or ``name/1.2.0`` means.

        Raises
        ------
        NotFound: no such model, version or alias, or nothing is in production.
        """
        name, slash, version = reference.partition("/")
        if slash:
            return self.get(name, version)
        name, at, alias = reference.partition("@")
        if at and alias != CHAMPION:
            raise NotFound(f"no alias {alias!r} in {reference!r}", hint=f"expected @{CHAMPION}")
        self.check_model(name)
        champion = self.current(name)
        if champion is None:
            raise NotFound(
                f"no version of {name} is in production",
                hint=f"assay models list {name}; then name/version, or promote one",
            )
        return champion

    def live_at(self, name: str, instant: Instant) -> LiveAnswer:
        """What was meant to be live at an instant. A change counts from its own nanosecond on."""
        found = self._catalogue.live_at(name, instant)
        if found is None:
            return LiveAnswer(name, instant, None, None, None)
        version, since, seq = found
        record = None if version is None else self.get(name, version)
        return LiveAnswer(name, instant, record, since, seq)

    def history(
        self,
        name: str,
        *,
        types: tuple[EventType, ...] = (),
        after: int = 0,
        limit: int | None = None,
    ) -> tuple[Entry, ...]:
        """Everything that the log says about a model, oldest first.

        Parameters
        ----------
        types, after, limit: entries of these types, behind this number, so many at most.
        """
        return self._catalogue.events(name, None, types, after=after, limit=limit)

    def manifest_events(self, view: str | None = None) -> tuple[Entry, ...]:
        """Everything that the log says about the manifests of a view, or of all, oldest first."""
        name = None if view is None else f"{FEATURES}/{view}"
        return self._catalogue.events(name, None, MANIFEST_EVENTS)

    def latest(self, last: int) -> tuple[Entry, ...]:
        """The last entries of the log, whatever they are about, oldest first."""
        return self._catalogue.events(None, after=max(0, self._journal.ledger.head().seq - last))

    def promotions(self, after: int = 0) -> tuple[Entry, ...]:
        """Every promotion of every model behind entry ``after``, with broken glass or without."""
        return self._catalogue.events(
            None, None, (EventType.PROMOTE, EventType.BREAK_GLASS), after=after
        )

    def next_version(
        self, name: str, bump: Literal["major", "minor", "patch"] = "minor"
    ) -> SemanticVersion:
        """The number after the highest one; 1.0.0 for a new model."""
        versions = self._catalogue.select(check_name(name), None)
        if not versions:
            return SemanticVersion(1, 0, 0)
        last = versions[-1].semantic
        if bump == "major":
            return SemanticVersion(last.major + 1, 0, 0)
        if bump == "minor":
            return SemanticVersion(last.major, last.minor + 1, 0)
        return SemanticVersion(last.major, last.minor, last.patch + 1)

    def metadata(self, name: str, version: str) -> ModelMetadata:
        """The version's own record, read from its verified folder."""
        return self.keep_version(name, version).metadata

    def show(self, name: str, version: str) -> dict[str, Any]:
        """One version as a document: record, metadata, evidence, gates, approvals.

        ``signature_note`` says that its key was revoked since, and who vouches for it.

        Raises
        ------
        Gone: its files were collected; :meth:`remains` has what is left of it.
        """
        opened = self.keep_version(name, version)
        return {
            **self.remains(name, version),
            "metadata": opened.metadata.to_json(),
            "schema": None if opened.inputs is None else opened.inputs.to_json(),
            "contents": list(opened.contents),
            "signed_by": opened.signed_by,
            "signature_note": opened.note,
        }

    def remains(self, name: str, version: str) -> dict[str, Any]:
        """What the log alone knows of a version, also when its files were collected."""
        record = self.get(name, version)
        report = self.gate_record(name, record.version)
        collected = self.collected(record)
        return {
            "record": record.to_json(),
            "collected": None if collected is None else collected.to_json(),
            "evidence": [item.to_json() for item in self.evidence(name, record.version)],
            "gates": None if report is None else report.to_json(),
            "approvals": [dict(entry.evidence) for entry in self.approvals(name, record.version)],
        }

    def validate(self, name: str, version: str) -> ValidationReport:
        """Check every file and the signature of a version; the report names what is wrong."""
        return self._version_files.validate(self.get(name, version))

    def open_version(self, name: str, version: str) -> VerifiedVersion:
        """A version's verified bytes.

        Raises
        ------
        Tampered: a file is not what was sealed and signed; the message names it. Or the key that
        signed it was revoked since, and nobody has countersigned it.
        """
        return self._version_files.open(self.get(name, version))

    def keep_version(self, name: str, version: str) -> VerifiedVersion:
        """A version's bytes, to be kept, compared or shown, and not to be served.

        As :meth:`open_version`, but one whose key was revoked since is given as it is, with a
        :attr:`~assay.registry.sealed.VerifiedVersion.note`: its digest is still the log's.
        """
        return self._version_files.keep(self.get(name, version))

    def countersigned(self, name: str, version: str, promotion: Entry | None = None) -> str | None:
        """Who has countersigned a version, or one promotion of it; None where nobody has."""
        return self._version_files.vouched(self.get(name, version), promotion)

    def is_model(self, record: VersionRecord) -> bool:
        """Whether a version can predict, as it was registered; else it is files of another kind."""
        (entry,) = self._catalogue.events(record.name, record.version, (EventType.REGISTER,))
        # Every version was a model before that was recorded.
        return entry.evidence.get("schema_crc32", 0) is not None

    def is_whole(self, record: VersionRecord) -> bool:
        """Whether every file of a version is there and what was registered."""
        return self._version_files.is_whole(record)

    def held(self, record: VersionRecord) -> Entry | None:
        """The entry that holds a version's files, None where they are not held."""
        return self._version_files.held(record)

    def collected(self, record: VersionRecord) -> Entry | None:
        """The entry that collected a version's files, None where they are there."""
        return self._version_files.collected(record)

    def open_production(self, name: str) -> VerifiedVersion:
        """The version in production, its bytes and the promotion that put it there verified.

        Raises
        ------
        Tampered: a file, or the statement that promoted it, does not verify.
        """
        record = self.resolve(name)
        self.verify_promoted(name, record.version)
        return self.open_version(name, record.version)

    def verify_promoted(self, name: str, version: str) -> tuple[str, ...]:
        """Check what first put a version into production: the statement, and the approvals.

        Approvals are those of that moment: by two people other than the author, of this digest.
        Returned are notes, such as that an approver's key was revoked since.

        Raises
        ------
        Tampered: there is none, it does not verify, its key was revoked since and nobody has
        countersigned it, or it lacks an approval that it names.
        """
        record = self.get(name, version)
        promotions = self._catalogue.events(
            name, record.version, (EventType.PROMOTE, EventType.BREAK_GLASS)
        )
        done = [entry for entry in promotions if entry.outcome is EventOutcome.DONE]
        if not done:
            raise Tampered(f"{name} {record.version} was never promoted")
        notes: list[str] = []
        claim = verify_promotion(
            done[-1],
            record.digest,
            self.keyring,
            vouched=lambda entry: self._version_files.vouched(record, entry),
            notes=notes,
        )
        if not claim.break_glass:
            given = self.approvals(name, record.version)
            try:
                check_approvals(claim, record.author, given, self.keyring, done[-1].at, notes=notes)
            except Refused as error:
                raise Tampered(
                    f"promotion of {name} {record.version} (entry {done[-1].seq}): {error.message}"
                ) from None
        return tuple(notes)

    def evidence(self, name: str, version: str) -> tuple[Evidence, ...]:
        """A version's measurements by name; the latest of each."""
        found: dict[str, Evidence] = {}
        for entry in self._catalogue.events(name, version, (EventType.EVIDENCE,)):
            for item in entry.evidence["evidence"]:
                found[item["name"]] = Evidence.from_json(item)
        return tuple(found[key] for key in sorted(found))

    def gate_record(self, name: str, version: str) -> GateRecord | None:
        """The latest recorded verdicts, or None."""
        entries = self._catalogue.events(name, version, (EventType.GATE,))
        return GateRecord.from_json(entries[-1].evidence["report"]) if entries else None

    def promotable(self, name: str, version: str) -> GateRecord:
        """The gate report that allows this version into production now.

        Raises
        ------
        PromotionGateError: there is none, it does not say PROMOTABLE, or it was reached on other
            evidence or against another champion than today's.
        """
        record = self.get(name, version)
        report = self.gate_record(name, record.version)
        again = f"assay gates check {name} {record.version}"
        if report is None:
            raise PromotionGateError(f"{name} {record.version} was judged by no gates", hint=again)
        if report.outcome is not Outcome.PROMOTABLE:
            stopped = [
                f"{item.name} {item.verdict}"
                for item in report.results
                if item.severity is Severity.HARD and item.verdict is not Verdict.PASS
            ]
            raise PromotionGateError(
                f"{name} {record.version} is {report.outcome}: {', '.join(stopped) or 'no gates'}",
                hint=f"assay gates show {name} {record.version}",
            )
        if report.evidence_digest != evidence_digest(self.evidence(name, record.version)):
            raise PromotionGateError(
                f"evidence about {name} {record.version} changed after the gates judged it",
                hint=again,
            )
        if report.champion_digest != self._champion_digest(name):
            raise PromotionGateError(
                f"{name} {record.version} was judged against another champion than today's",
                hint=again,
            )
        return report

    def approvals(self, name: str, version: str) -> tuple[Entry, ...]:
        """Every approval ever recorded for a version, good or not, oldest first."""
        return self._catalogue.events(name, version, (EventType.APPROVE,))

    def rollback_target(self, name: str) -> VersionRecord:
        """The version that was in production before and is archived now.

        Raises
        ------
        NotFound: there is none to go back to.
        """
        self.check_model(name)
        for version in reversed(self._catalogue.productions(name)):
            if version is not None:
                record = self.get(name, version)
                if record.stage is Stage.ARCHIVED:
                    return record
        raise NotFound(
            f"no earlier version of {name} to roll back to",
            hint=f"assay models history {name} shows what was ever in production",
        )

    def productions(self, name: str) -> tuple[str | None, ...]:
        """What was in production, in order; None where nothing was."""
        return self._catalogue.productions(name)

    @property
    def journal(self) -> Journal:
        """The one writer, for what else changes or copies the registry."""
        return self._journal

    def now(self) -> Instant:
        """The time that an event would get now: never before the last one, whatever the clock."""
        return max(self.clock.now(), self._journal.ledger.head().at)

    def verify_log(self) -> LogReport:
        """Walk the log and hold it against signed heads, versions, index and audit export."""
        return verify_registry(
            self.root, self.keyring, self._audit_path, self._journal.ledger, self._journal.artifacts
        )

    def close(self) -> None:
        """Let go of connections that a database has open for it; files keep none."""
        self._journal.ledger.close()

    def _champion_digest(self, name: str) -> str:
        champion = self.current(name)
        return champion.digest if champion else ""
