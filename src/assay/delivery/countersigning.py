"""Vouching anew for a version whose signing key, or that of its promotion, was revoked since.

The way out for a desk whose key was stolen: the bytes are still those that the log registered, but
nobody who is trusted stands for them any more. Until somebody does, nothing loads the version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.access import AccessPolicy
from assay.errors import Conflict, ContractViolation, Refused
from assay.registry import EventOutcome, EventType, ModelRegistry
from assay.registry.countersigning import Countersignature
from assay.registry.journal import NewEvent
from assay.registry.keyring import check_identity
from assay.registry.log import Entry
from assay.registry.verification import verify_promotion


@dataclass(frozen=True, slots=True)
class Countersigned:
    """What was vouched for: the version, and those promotions of it (entries of the log)."""

    name: str
    version: str
    digest: str
    promotions: tuple[int, ...]
    by: str
    seq: int

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "promotions": list(self.promotions),
            "by": self.by,
            "seq": self.seq,
        }


def countersign(
    registry: ModelRegistry,
    name: str,
    version: str,
    *,
    signer: str,
    reason: str,
    access: AccessPolicy | None = None,
) -> Countersigned:
    """Sign a statement over the digest of a version, and record it in the log.

    Every byte is checked against the log first. Promotions of the version whose key was revoked
    are vouched for as well: they are named by number and hash.

    Parameters
    ----------
    access: the desk's users; where it names some, the author of the version does not countersign.

    Raises
    ------
    Tampered: a byte is not what was registered, or a promotion is wrong in itself.
    Conflict: no key behind it was revoked, or it is countersigned already.
    Refused: the signer is the author. Unavailable: no key of the signer is here.
    """
    if not reason.strip():
        raise ContractViolation("a countersignature needs a reason: expected a sentence")
    check_identity(signer)
    with registry.journal.locked():
        record = registry.get(name, version)
        if access is not None and access.person_of(signer) == access.person_of(record.author):
            raise Refused(
                f"{signer} is the author of {name} {record.version}: another person countersigns"
            )
        promotions = _promotions_without_key(registry, name, record.version, record.digest)
        kept = registry.keep_version(name, record.version)
        needed = not registry.validate(name, record.version).ok
        if not needed and not promotions:
            raise Conflict(
                f"{name} {record.version} needs no countersignature: "
                + (kept.note or "no key behind it was revoked")
            )
        made = Countersignature(
            name,
            record.version,
            record.digest,
            tuple((entry.seq, entry.hash) for entry in promotions),
        )
        envelope = registry.keyring.sign(signer, made.to_statement())
        entry = registry.journal.append(
            NewEvent(
                EventType.COUNTERSIGN,
                name,
                record.version,
                signer,
                reason,
                {"version_digest": record.digest, "statement": envelope.to_json()},
            )
        )
    numbers = tuple(one.seq for one in promotions)
    return Countersigned(name, record.version, record.digest, numbers, signer, entry.seq)


def _promotions_without_key(
    registry: ModelRegistry, name: str, version: str, digest: str
) -> tuple[Entry, ...]:
    """Promotions of a version whose statement was signed with a key that was revoked since."""
    asked: list[Entry] = []

    def vouched(entry: Entry) -> str | None:
        by = registry.countersigned(name, version, entry)
        if by is None:
            asked.append(entry)
        return by or "to be countersigned"

    for entry in registry.history(name):
        moved = entry.type in {EventType.PROMOTE, EventType.BREAK_GLASS}
        if moved and entry.to_version == version and entry.outcome is EventOutcome.DONE:
            verify_promotion(entry, digest, registry.keyring, vouched=vouched)
    return tuple(asked)
