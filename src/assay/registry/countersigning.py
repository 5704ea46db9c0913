"""Somebody who is trusted vouches for a version whose own signature lost its key.

A revoked key vouches for nothing that it ever signed. The digests are what they were, though: the
log has them. A countersignature says that somebody with a key in force has looked, and names the
digest and every promotion (entry number and hash) that it vouches for. It stands in the log, and
ends with its own key's revocation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.errors import AssayError, Tampered
from assay.registry.keyring import COUNTERSIGNATURE, KeyRing
from assay.registry.lifecycle import EventOutcome, EventType
from assay.registry.log import Entry
from assay.registry.signing import Envelope, Statement


@dataclass(frozen=True, slots=True)
class Countersignature:
    """What it vouches for; ``promotions`` are entries of the log: number and hash."""

    name: str
    version: str
    digest: str
    promotions: tuple[tuple[int, str], ...]

    def to_statement(self) -> Statement:
        """The statement to be signed; its subject is the version."""
        return Statement(
            COUNTERSIGNATURE,
            {f"{self.name}/{self.version}": self.digest},
            {
                "name": self.name,
                "version": self.version,
                "digest": self.digest,
                "promotions": [list(one) for one in self.promotions],
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> Countersignature:
        try:
            predicate = dict(statement.predicate)
            promotions = tuple((int(seq), str(text)) for seq, text in predicate["promotions"])
            made = cls(**{**predicate, "promotions": promotions})
        except (KeyError, TypeError, ValueError) as error:
            raise Tampered(f"the countersignature cannot be read: {error!r}") from None
        if made.to_statement() != statement:
            raise Tampered("the countersignature names another subject than its version")
        return made


def envelopes_of(entries: Iterable[Entry]) -> tuple[Envelope, ...]:
    """The countersignatures among the entries about a version, to go with it elsewhere."""
    done = (one for one in entries if one.outcome is EventOutcome.DONE)
    return tuple(
        Envelope.from_json(one.evidence.get("statement"))
        for one in done
        if one.type is EventType.COUNTERSIGN
    )


def vouched_elsewhere(
    envelopes: Iterable[Envelope],
    name: str,
    version: str,
    digest: str,
    author: str,
    keyring: KeyRing,
) -> str | None:
    """Who, of those trusted here, vouches for a version that came with its countersignatures.

    There is no log that dates them, so a key must be in force or retired; and whoever wrote the
    version does not vouch for it.
    """
    for envelope in envelopes:
        try:
            made = keyring.verify(envelope, COUNTERSIGNATURE)
            said = Countersignature.from_statement(made.statement)
        except AssayError:
            continue  # it vouches for nothing
        about = (said.name, said.version, said.digest)
        if about == (name, version, digest) and made.identity != author:
            return f"countersigned by {made.identity} where it came from"
    return None


def vouched_by(
    entries: Iterable[Entry], digest: str, keyring: KeyRing, promotion: Entry | None = None
) -> str | None:
    """Who vouches for a version, or for one promotion of it; None where nobody trusted does.

    Parameters
    ----------
    entries: those about the version. digest: the one under which it was registered.
    """
    for entry in entries:
        if entry.type is not EventType.COUNTERSIGN or entry.outcome is not EventOutcome.DONE:
            continue
        try:
            envelope = Envelope.from_json(entry.evidence.get("statement"))
            made = keyring.verify(envelope, COUNTERSIGNATURE, at=entry.at)
            said = Countersignature.from_statement(made.statement)
        except AssayError:
            continue  # it vouches for nothing
        if (said.name, said.version, said.digest) != (entry.model, entry.to_version, digest):
            continue
        if promotion is None or (promotion.seq, promotion.hash) in said.promotions:
            return f"countersigned by {made.identity} (log entry {entry.seq})"
    return None
