"""Two people who are not the author say yes to one exact version, judged by one exact gate report.

People are counted as :class:`~assay.access.AccessPolicy` knows them: two keys of one person, or a
person and a service of theirs, are one, and a service approves nothing.

An approval binds the version's digest and the gate report's digest, names its approver, ends at
a stated time, and is signed with the approver's key. An approval of anything else, by the author,
by a person who approved already, or past its end, does not count; :func:`count_approvals` says of
each one why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.access import AccessDenied, AccessPolicy, Denial
from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND, Instant, parse, render
from assay.errors import AssayError, Refused, Tampered, Unavailable
from assay.registry import KeyRing, ModelRegistry, VersionRecord
from assay.registry.keyring import APPROVAL, check_identity
from assay.registry.signing import Envelope, Statement
from assay.registry.verification import APPROVALS_NEEDED

DEFAULT_VALIDITY_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's yes. ``envelope`` is the signed form; None when it was given unsigned."""

    name: str
    version: str
    version_digest: str
    gate_report_digest: str
    approver: str
    granted_at: Instant
    expires_at: Instant
    envelope: Envelope | None = None

    def to_statement(self) -> Statement:
        """What the approver signs: everything but the signature."""
        return Statement(
            purpose=APPROVAL,
            subjects={f"{self.name}/{self.version}": self.version_digest},
            predicate={
                "name": self.name,
                "version": self.version,
                "version_digest": self.version_digest,
                "gate_report_digest": self.gate_report_digest,
                "approver": self.approver,
                "granted_at": render(self.granted_at),
                "expires_at": render(self.expires_at),
            },
        )

    def to_json(self) -> dict[str, Any]:
        return {
            **self.to_statement().predicate,
            "envelope": None if self.envelope is None else self.envelope.to_json(),
        }

    @classmethod
    def signed(cls, envelope: Envelope) -> Approval:
        """The approval that an envelope holds; whether its signature does is asked later."""
        return cls.from_json(
            {**Statement.from_bytes(envelope.body).predicate, "envelope": envelope.to_json()}
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Approval:
        try:
            envelope = document["envelope"]
            return cls(
                **{
                    **document,
                    "granted_at": parse(document["granted_at"]),
                    "expires_at": parse(document["expires_at"]),
                    "envelope": None if envelope is None else Envelope.from_json(envelope),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise Tampered(f"a recorded approval cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class ApprovalCount:
    """The approvals that count, and why each other one does not."""

    valid: tuple[Approval, ...]
    ignored: tuple[str, ...]

    @property
    def approvers(self) -> tuple[str, ...]:
        return tuple(sorted(approval.approver for approval in self.valid))

    @property
    def sufficient(self) -> bool:
        return len(self.valid) >= APPROVALS_NEEDED

    def to_json(self) -> dict[str, Any]:
        return {
            "approvers": list(self.approvers),
            "needed": APPROVALS_NEEDED,
            "sufficient": self.sufficient,
            "ignored": list(self.ignored),
        }


def approve(
    registry: ModelRegistry,
    name: str,
    version: str,
    approver: str,
    *,
    clock: Clock,
    valid_for: float = DEFAULT_VALIDITY_SECONDS,
    signed: bool = True,
    access: AccessPolicy | None = None,
) -> Approval:
    """Record that ``approver`` approves a version as its latest gate report judges it.

    Approving again while an approval stands changes nothing and returns the one that stands.

    Parameters
    ----------
    valid_for: seconds until the approval ends.
    signed: sign with the approver's key; without it the approval counts only for a promotion that
        accepts unsigned ones.
    access: the desk's users; None where it names none, and every identity is a person.

    Raises
    ------
    Refused: the approver is the author, or approved under another name.
    AccessDenied: the approver is no person who may approve. PromotionGateError: the gates do not
    say PROMOTABLE now. Unavailable: the approver's private key is not here.
    """
    approval = prepare_approval(
        registry, name, version, approver, clock=clock, valid_for=valid_for, access=access
    )
    standing = _standing(registry, approval, access, require_signed=signed)
    if standing is not None:
        return standing
    if signed:
        approval = Approval.signed(registry.keyring.sign(approver, approval.to_statement()))
    registry.record_approval(name, approval.version, approval.to_json(), approver=approver)
    return approval


def prepare_approval(
    registry: ModelRegistry,
    name: str,
    version: str,
    approver: str,
    *,
    clock: Clock,
    valid_for: float = DEFAULT_VALIDITY_SECONDS,
    access: AccessPolicy | None = None,
) -> Approval:
    """The approval that ``approver`` would give now, not signed and not recorded.

    Takes and raises what :func:`approve` does.
    """
    check_identity(approver)
    record = registry.get(name, version)
    _check_person(approver, record, access)
    report = registry.promotable(name, record.version)
    now = max(clock.now(), registry.now())
    return Approval(
        name=name,
        version=record.version,
        version_digest=record.digest,
        gate_report_digest=report.digest,
        approver=approver,
        granted_at=now,
        expires_at=now + int(valid_for * NANOS_PER_SECOND),
    )


def record_signed_approval(
    registry: ModelRegistry,
    name: str,
    version: str,
    envelope: Envelope,
    *,
    clock: Clock,
    valid_for: float = DEFAULT_VALIDITY_SECONDS,
    access: AccessPolicy | None = None,
) -> Approval:
    """Record an approval that was signed elsewhere; one that stands already is not added again.

    Parameters
    ----------
    valid_for: seconds that an approval may be good for at most.

    Raises
    ------
    AccessDenied: the statement does not verify, is for something else than this version under its
        latest gate report, for longer than allowed, or not for now. Otherwise as :func:`approve`.
    """
    record = registry.get(name, version)
    try:
        approval = Approval.signed(envelope)
        _check_signature(approval, registry.keyring, registry.now(), require_signed=True)
    except AssayError as error:
        raise AccessDenied(
            Denial.WRONG_STATEMENT, f"the approval does not hold: {error.message}"
        ) from None
    _check_person(approval.approver, record, access)
    report = registry.promotable(name, record.version)
    now = max(clock.now(), registry.now())
    try:
        _check(approval, record, report.digest, now, access)
        if approval.expires_at - approval.granted_at > int(valid_for * NANOS_PER_SECOND):
            raise Refused(f"is good for longer than {valid_for:g} s")
    except AccessDenied:
        raise
    except Refused as error:
        raise AccessDenied(
            Denial.WRONG_STATEMENT,
            f"the approval {error.message}",
            hint="sign the statement that is asked for now",
        ) from None
    standing = _standing(registry, approval, access, require_signed=True)
    if standing is not None:
        return standing
    registry.record_approval(name, record.version, approval.to_json(), approver=approval.approver)
    return approval


def _check_person(approver: str, record: VersionRecord, access: AccessPolicy | None) -> None:
    if access is not None:
        access.require_approver(approver)
    if _person(approver, access) == _person(record.author, access):
        other = "" if approver == record.author else f", which {record.author} belongs to"
        raise Refused(
            f"{approver} is the author of {record.name} {record.version}{other} and cannot "
            "approve it",
            hint="two other people can",
        )


def _person(identity: str, access: AccessPolicy | None) -> str:
    return identity if access is None else access.person_of(identity)


def _standing(
    registry: ModelRegistry,
    wanted: Approval,
    access: AccessPolicy | None,
    *,
    require_signed: bool,
) -> Approval | None:
    """The approval of the same person that stands already."""
    count = count_approvals(
        registry,
        wanted.name,
        wanted.version,
        wanted.gate_report_digest,
        now=wanted.granted_at,
        require_signed=require_signed,
        access=access,
    )
    for standing in count.valid:
        if standing.approver == wanted.approver:
            return standing
        if _person(standing.approver, access) == _person(wanted.approver, access):
            raise Refused(
                f"{wanted.approver} approved {wanted.name} {wanted.version} already, as "
                f"{standing.approver}: one person counts once",
                hint="another person can",
            )
    return None


def count_approvals(
    registry: ModelRegistry,
    name: str,
    version: str,
    gate_report_digest: str,
    *,
    now: Instant,
    require_signed: bool = True,
    access: AccessPolicy | None = None,
) -> ApprovalCount:
    """Which recorded approvals count for this version under this gate report at ``now``."""
    record = registry.get(name, version)
    valid: dict[str, Approval] = {}
    ignored: list[str] = []
    for entry in registry.approvals(name, record.version):
        try:
            approval = Approval.from_json(entry.evidence)
            _check(approval, record, gate_report_digest, now, access)
            _check_signature(approval, registry.keyring, entry.at, require_signed=require_signed)
            if _person(approval.approver, access) in valid:
                raise Refused("approved already: one person counts once")
        except AssayError as error:
            ignored.append(f"{entry.initiated_by} (entry {entry.seq}): {error.message}")
        else:
            valid[_person(approval.approver, access)] = approval
    return ApprovalCount(tuple(valid.values()), tuple(ignored))


def require_approvals(
    registry: ModelRegistry,
    name: str,
    version: str,
    gate_report_digest: str,
    *,
    now: Instant,
    require_signed: bool = True,
    access: AccessPolicy | None = None,
) -> ApprovalCount:
    """The approvals, when there are enough of them.

    Raises
    ------
    Refused: there are too few; the message says who approved and why others do not count.
    """
    count = count_approvals(
        registry,
        name,
        version,
        gate_report_digest,
        now=now,
        require_signed=require_signed,
        access=access,
    )
    if not count.sufficient:
        given = ", ".join(count.approvers) or "nobody"
        ignored = f"; not counted: {'; '.join(count.ignored)}" if count.ignored else ""
        raise Refused(
            f"{name} {version} is approved by {given}: expected {APPROVALS_NEEDED} different "
            f"people other than its author{ignored}",
            hint=f"assay models approve {name} {version} --as IDENTITY",
        )
    return count


def _check(
    approval: Approval,
    record: VersionRecord,
    gate_report_digest: str,
    now: Instant,
    access: AccessPolicy | None,
) -> None:
    if (approval.name, approval.version, approval.version_digest) != (
        record.name,
        record.version,
        record.digest,
    ):
        raise Refused(f"is for {approval.name} {approval.version}, {approval.version_digest[:12]}")
    if approval.gate_report_digest != gate_report_digest:
        raise Refused(f"is for gate report {approval.gate_report_digest[:12]}, not the latest")
    if access is not None:
        access.require_approver(approval.approver)
    if _person(approval.approver, access) == _person(record.author, access):
        raise Refused("the author cannot approve")
    if not approval.granted_at <= now < approval.expires_at:
        raise Refused(
            f"holds from {render(approval.granted_at)} to {render(approval.expires_at)}, not now"
        )


def _check_signature(
    approval: Approval, keyring: KeyRing, at: Instant, *, require_signed: bool
) -> None:
    if approval.envelope is None:
        # A person who has a key signs: otherwise anybody could approve in that person's name.
        if require_signed or keyring.key_of(approval.approver) is not None:
            raise Unavailable("is not signed")
        return
    made = keyring.verify(approval.envelope, APPROVAL, at=at)
    if made.identity != approval.approver:
        raise Tampered(f"was signed by {made.identity}")
    if made.statement != approval.to_statement():
        raise Tampered("its signature is for another approval")
