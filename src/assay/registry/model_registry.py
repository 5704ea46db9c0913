"""The registry as those who change it see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.domain.clock import Clock
from assay.domain.evidence import Evidence
from assay.domain.verdicts import GateResult, Outcome, decide
from assay.domain.versions import Stage, check_name
from assay.errors import Conflict, ContractViolation, Refused, Tampered
from assay.registry.artifacts import Artifacts
from assay.registry.catalogue import VersionRecord
from assay.registry.file_ledger import FileLedger
from assay.registry.folders import FolderArtifacts
from assay.registry.journal import Journal, NewEvent
from assay.registry.keyring import KeyRing, check_identity
from assay.registry.ledger import Ledger
from assay.registry.lifecycle import (
    MANIFEST_EVENTS,
    EventOutcome,
    EventType,
    PromotionGateError,
)
from assay.registry.log import Entry, LogHead
from assay.registry.reading import CHAMPION, FEATURES, RegistryReader
from assay.registry.records import (
    GateRecord,
    PromotionClaim,
    Registration,
    evidence_digest,
)
from assay.registry.sealed import Candidate, digests_of, seal
from assay.registry.signing import Envelope
from assay.registry.verification import check_approvals, read_claim


class ModelRegistry(RegistryReader):
    """Immutable signed versions, their life, and the record of it.

    Opening it brings its index, links and exports up to the log, whatever a killed process left.

    Parameters
    ----------
    root: the registry's folder, ``data/models`` of a desk.
    keyring: the desk's keys and trust policy.
    clock: where the times of events come from.
    audit_path: where the audit is exported to (``model_events.jsonl``); None for no export.
    ledger: where log and catalogue are; a file and SQLite in ``root`` when not given.

    Raises
    ------
    Tampered: the log was cut or replaced under the index.
    """

    @classmethod
    def rebuilt(
        cls,
        root: Path,
        keyring: KeyRing,
        clock: Clock,
        *,
        audit_path: Path | None = None,
        ledger: Ledger | None = None,
        artifacts: Artifacts | None = None,
    ) -> ModelRegistry:
        """Open a registry whose catalogue may be damaged, after building it again from the log.

        Raises
        ------
        Tampered: the log was cut or replaced under the index; a new index would forget that.
        """
        kept, stored = ledger or FileLedger(root), artifacts or FolderArtifacts(root)
        Journal(root, kept, stored, keyring, clock, audit_path).rebuild()
        return cls(root, keyring, clock, audit_path=audit_path, ledger=kept, artifacts=stored)

    def register(
        self, candidate: Candidate, *, signer: str | None = None, reason: str = ""
    ) -> Registration:
        """Store a candidate as an immutable, signed version in stage ``staged``.

        The same content under the same name is the same version: it is returned as it is, under
        whatever number it has, and nothing is written.

        Parameters
        ----------
        signer: the identity that signs; the author when not given.

        Raises
        ------
        ContractViolation: a file is missing, foreign or not what it says.
        Conflict: the version number is taken by other content.
        Unavailable: no private key of the signer is here.
        """
        candidate.check()
        metadata, digests = candidate.metadata, digests_of(candidate.sealed_files())
        identity = candidate.identity(digests)
        with self._journal.locked():
            present = self._catalogue.find_identity(metadata.name, identity)
            if present is not None:
                return Registration(
                    present.name, present.version, present.digest, present.stage, created=False
                )
            if self._catalogue.find(metadata.name, metadata.version) is not None:
                raise Conflict(
                    f"{metadata.name} {metadata.version} exists with other content",
                    hint=f"the next free version is {self.next_version(metadata.name)}",
                )
            author = signer or metadata.author
            head = self._journal.ledger.head()
            sealed = seal(
                candidate, digests, self.keyring, author, head.to_json(), self.configuration()
            )
            self._journal.artifacts.prepare(metadata.name, metadata.version, sealed)
            self._journal.append(
                NewEvent(
                    EventType.REGISTER,
                    metadata.name,
                    metadata.version,
                    author,
                    reason,
                    {
                        "kind": metadata.kind,
                        "digest": sealed.digest,
                        "identity": identity,
                        "author": metadata.author,
                        "baseline": metadata.baseline,
                        "created_at": metadata.created_at,
                        "schema_crc32": candidate.schema.crc32 if candidate.schema else None,
                    },
                )
            )
        return Registration(
            metadata.name, metadata.version, sealed.digest, Stage.STAGED, created=True
        )

    def record_evidence(
        self, name: str, version: str, evidence: Sequence[Evidence], *, initiated_by: str
    ) -> str:
        """Add measurements; of two with one name the later counts. Return the evidence's digest.

        Recording what is there already writes nothing.

        Raises
        ------
        ContractViolation: one name twice, or a measurement says that it is about another version.
        """
        check_identity(initiated_by)
        if len({item.name for item in evidence}) != len(evidence):
            raise ContractViolation("two measurements with one name: expected distinct names")
        with self._journal.locked():
            record = self.get(name, version)
            for item in evidence:
                measured = (
                    record.digest if item.provenance is None else item.provenance.model_digest
                )
                if measured != record.digest:
                    raise ContractViolation(
                        f"{item.name} was measured on the version with digest {measured[:12]}: "
                        f"expected {record.digest[:12]}, {name} {record.version}",
                        hint=f"assay gates check {name} {record.version} measures this one",
                    )
            before = {item.name: item for item in self.evidence(name, record.version)}
            after = before | {item.name: item for item in evidence}
            digest = evidence_digest(tuple(after.values()))
            if digest != evidence_digest(tuple(before.values())):
                self._journal.append(
                    NewEvent(
                        EventType.EVIDENCE,
                        name,
                        record.version,
                        initiated_by,
                        evidence={
                            "version_digest": record.digest,
                            "evidence": [item.to_json() for item in evidence],
                        },
                    )
                )
            return digest

    def record_gates(
        self,
        name: str,
        version: str,
        results: Sequence[GateResult],
        outcome: Outcome,
        policy_digest: str,
        *,
        initiated_by: str,
        policy: str = "",
        switched_off: Sequence[str] = (),
        judged_evidence: str | None = None,
    ) -> GateRecord:
        """Record the gates' verdicts on the evidence recorded so far, against today's champion.

        Parameters
        ----------
        policy, policy_digest: the name of the set of gates, and the SHA-256 of the whole policy.
        switched_off: gates of the policy that were not asked.
        judged_evidence: the digest of the evidence that was judged; None trusts the caller that
            it is the recorded one.

        Raises
        ------
        Conflict: other evidence was recorded meanwhile.
        ContractViolation: the outcome is not the one that follows from the results.
        """
        check_identity(initiated_by)
        if decide(results) is not outcome:
            raise ContractViolation(
                f"outcome {outcome}: these results give {decide(results)}, see domain.verdicts"
            )
        with self._journal.locked():
            record = self.get(name, version)
            recorded = evidence_digest(self.evidence(name, record.version))
            if judged_evidence not in {None, recorded}:
                raise Conflict(
                    f"evidence about {name} {record.version} changed while it was judged",
                    hint=f"assay gates check {name} {record.version}",
                )
            report = GateRecord(
                name=name,
                version=record.version,
                version_digest=record.digest,
                champion_digest=self._champion_digest(name),
                evidence_digest=recorded,
                policy=policy,
                policy_digest=policy_digest,
                results=tuple(results),
                switched_off=tuple(switched_off),
                outcome=outcome,
            )
            if self.gate_record(name, record.version) != report:
                self._journal.append(
                    NewEvent(
                        EventType.GATE,
                        name,
                        record.version,
                        initiated_by,
                        evidence={"report": report.to_json(), "report_digest": report.digest},
                    )
                )
            return report

    def record_approval(
        self, name: str, version: str, approval: dict[str, Any], *, approver: str
    ) -> Entry:
        """Record one approval, as the delivery package wrote it."""
        with self._journal.locked():
            record = self.get(name, version)
            return self._journal.append(
                NewEvent(
                    EventType.APPROVE,
                    name,
                    record.version,
                    check_identity(approver),
                    evidence=approval,
                )
            )

    def record_attempt(
        self,
        event: EventType,
        name: str,
        version: str,
        outcome: EventOutcome,
        *,
        initiated_by: str,
        reason: str,
    ) -> Entry:
        """Leave a trace of a promotion or rollback that was refused or failed."""
        if outcome is EventOutcome.DONE:
            raise ContractViolation(f"{event} that is done: expected promote() or rollback()")
        with self._journal.locked():
            record = self.get(name, version)
            return self._journal.append(
                NewEvent(event, name, record.version, initiated_by, reason, outcome=outcome)
            )

    def promote(
        self, name: str, version: str, envelope: Envelope, *, initiated_by: str, reason: str = ""
    ) -> Entry:
        """Put a staged version into production by a signed promotion; the old one is archived.

        The caller has exercised the model. Here, under the lock, the signature, the gates, the
        approvals and the champion are checked once more, because they may have changed.

        Raises
        ------
        Tampered: the statement does not verify, or is about something else.
        PromotionGateError: the gates do not allow it now.
        Conflict: another version became champion meanwhile. Refused: the lifecycle says no.
        """
        return self._promote(EventType.PROMOTE, name, version, envelope, initiated_by, reason)

    def break_glass(
        self, name: str, version: str, envelope: Envelope, *, initiated_by: str, reason: str
    ) -> Entry:
        """Put a staged version into production past gates and approvals; the log says so for ever.

        The signature, the files and the lifecycle still hold.
        """
        _require_reason(reason, "breaking the glass")
        return self._promote(EventType.BREAK_GLASS, name, version, envelope, initiated_by, reason)

    def fail(self, name: str, version: str, *, initiated_by: str, reason: str) -> Entry:
        """Mark a staged or live version as failed, for good."""
        _require_reason(reason, "failing a version")
        with self._journal.locked():
            record = self.get(name, version)
            return self._journal.append(
                NewEvent(EventType.FAIL, name, record.version, check_identity(initiated_by), reason)
            )

    def request_rollback(
        self,
        name: str,
        *,
        initiated_by: str,
        reason: str,
        finding: Mapping[str, Any],
        version: str | None = None,
    ) -> Entry:
        """Record that the version in production is to be withdrawn, and why; nothing moves.

        Parameters
        ----------
        finding: what was found out about it, as JSON values; it becomes the entry's evidence.
        version: the version that was looked at, so that a request cannot be about one that came
            into production in the meantime; None for whatever is there now.

        Raises
        ------
        NotFound: no such model, or nothing is in production. ContractViolation: no reason is
        given. Conflict: another version than ``version`` is in production.
        """
        _require_reason(reason, "a request to roll back")
        with self._journal.locked():
            live = self.resolve(f"{check_name(name)}@{CHAMPION}")
            if version is not None:
                self._expect_champion(name, self.get(name, version).version)
            return self._journal.append(
                NewEvent(
                    EventType.ROLLBACK_REQUESTED,
                    name,
                    live.version,
                    check_identity(initiated_by),
                    reason,
                    finding,
                )
            )

    def rollback(
        self,
        name: str,
        target: str,
        *,
        withdraw: str | None,
        initiated_by: str,
        reason: str,
        keep: bool = False,
    ) -> Entry:
        """Bring an archived version back; the one it replaces becomes failed, or archived.

        Parameters
        ----------
        withdraw: the version that the caller saw in production, so that nobody withdraws a
            version that somebody else has put there in the meantime.
        """
        _require_reason(reason, "a rollback")
        with self._journal.locked():
            self._expect_champion(name, withdraw)
            record = self.get(name, target)
            return self._journal.append(
                NewEvent(
                    EventType.ROLLBACK,
                    name,
                    record.version,
                    check_identity(initiated_by),
                    reason,
                    {"keep": keep, "to_digest": record.digest},
                )
            )

    def record_manifest(
        self,
        event: EventType,
        view: str,
        manifest: str,
        *,
        after: int,
        initiated_by: str,
        evidence: Mapping[str, Any],
        outcome: EventOutcome = EventOutcome.DONE,
        reason: str = "",
    ) -> Entry:
        """Record one step in the life of a view's manifest.

        Parameters
        ----------
        after: the number of the last entry about this view that the caller has seen, 0 for none.

        Raises
        ------
        Conflict: something else happened to the view meanwhile; nothing was recorded.
        """
        if event not in MANIFEST_EVENTS:
            raise ContractViolation(f"event {event}: expected one of {', '.join(MANIFEST_EVENTS)}")
        with self._journal.locked():
            seen = self.manifest_events(view)
            if seen and seen[-1].seq != after:
                raise Conflict(
                    f"view {view}: {seen[-1].initiated_by} recorded {seen[-1].type} meanwhile "
                    f"(log entry {seen[-1].seq})",
                    hint=f"assay features manifests {view} shows where it stands",
                )
            return self._journal.append(
                NewEvent(
                    event,
                    f"{FEATURES}/{view}",
                    manifest,
                    check_identity(initiated_by),
                    reason,
                    evidence,
                    outcome,
                )
            )

    def rebuild(self) -> LogHead:
        """Drop the catalogue and build it again from the log."""
        return self._journal.rebuild()

    def _expect_champion(self, name: str, expected: str | None) -> None:
        champion = self.current(name)
        found = champion.version if champion else None
        if found != expected:
            raise Conflict(
                f"{name}: {found or 'nothing'} is in production, expected {expected or 'nothing'}: "
                "it changed meanwhile",
                hint=f"assay models history {name}",
            )

    def _promote(
        self,
        event: EventType,
        name: str,
        version: str,
        envelope: Envelope,
        initiated_by: str,
        reason: str,
    ) -> Entry:
        with self._journal.locked():
            record = self.get(name, version)
            claim = read_claim(envelope, self.keyring, self.now())
            self._expect_champion(name, claim.from_version)
            if (claim.model, claim.to_version, claim.to_digest, claim.from_digest) != (
                name,
                record.version,
                record.digest,
                self._champion_digest(name),
            ):
                raise Tampered(
                    f"the signed promotion is about {claim.model} {claim.to_version} "
                    f"({claim.to_digest[:12]}), not {name} {record.version} ({record.digest[:12]})"
                )
            if claim.expires_at <= self.now():
                raise Refused("the signed promotion has expired", hint="approve and promote again")
            if claim.break_glass != (event is EventType.BREAK_GLASS):
                raise Tampered(f"the signed promotion is not one for {event}")
            if event is EventType.PROMOTE and record.stage is Stage.STAGED:
                self._check_claim(claim, record)
            return self._journal.append(
                NewEvent(
                    event,
                    name,
                    record.version,
                    check_identity(initiated_by),
                    reason,
                    {"statement": envelope.to_json(), "approved_by": [*claim.approvers]},
                )
            )

    def _check_claim(self, claim: PromotionClaim, record: VersionRecord) -> None:
        report = self.promotable(record.name, record.version)
        if claim.gate_report_digest != report.digest:
            raise PromotionGateError(
                f"the signed promotion rests on gate report {claim.gate_report_digest[:12]}, "
                f"the latest is {report.digest[:12]}",
                hint="approve and promote again",
            )
        given = self.approvals(record.name, record.version)
        check_approvals(claim, record.author, given, self.keyring, self.now())


def _require_reason(reason: str, what: str) -> None:
    if not reason.strip():
        raise ContractViolation(f"{what} needs a reason: expected a sentence for the log")
