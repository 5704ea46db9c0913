"""A person vouches for a log: by a new signed head, or by naming what it is known to have lost.

1. :func:`sign_log` signs a head over a log whose every entry verifies. It is what to do when the
   heads that cover some entries were signed with a key that was revoked since.
2. :func:`acknowledge_losses` records which entries are known to be gone, and who had seen them, as
   after restoring an older backup. From then on verification notes these, and finds any other.

Both are entries of the log itself, and signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.errors import AssayError, Conflict, ContractViolation, Refused, Tampered
from assay.registry.journal import Journal, NewEvent
from assay.registry.keyring import ACKNOWLEDGEMENT, KeyRing, check_identity
from assay.registry.lifecycle import EventOutcome, EventType
from assay.registry.log import REGISTRY_LOG, WHOLE_LOG, Entry, LogReport
from assay.registry.signing import Envelope, Statement


def sign_log(
    journal: Journal, keyring: KeyRing, report: LogReport, *, signer: str, reason: str
) -> Entry:
    """Record that somebody has read the log and vouches for it, and sign a head over that.

    Parameters
    ----------
    report: what verifying it has just found.

    Raises
    ------
    Refused: it does not verify for another reason than a revoked key. Conflict: it has gone on.
    Unavailable: the signer has no key for it here. ContractViolation: no reason is given.
    """
    _require(reason, "signing the log")
    check_identity(signer)
    others = [problem for problem in report.problems if not problem.uncovered]
    if others:
        raise Refused(
            f"the log does not verify, so nobody can vouch for it: {others[0]}",
            hint="assay audit verify lists all; assay audit acknowledge names what is lost",
        )
    with journal.locked():
        _expect(journal, report)
        # Signed once before anything is written: a key that cannot sign leaves no entry.
        journal.heads.sign(report.head.seq, report.head.hash, keyring, signer)
        entry = journal.append(
            NewEvent(
                EventType.AUDIT_SIGN,
                WHOLE_LOG,
                None,
                signer,
                reason,
                {"read": report.head.to_json(), "signed_up_to_before": report.signed_up_to},
            )
        )
        journal.heads.sign(entry.seq, entry.hash, keyring, signer)
        return entry


def acknowledge_losses(
    journal: Journal, keyring: KeyRing, report: LogReport, *, signer: str, reason: str
) -> Entry:
    """Record what a log is known to have lost: number, hash and witness of each missing entry.

    Takes and raises what :func:`sign_log` does; Refused also where nothing is lost.
    """
    _require(reason, "acknowledging a loss")
    check_identity(signer)
    losses = [problem for problem in report.problems if problem.lost is not None]
    others = [one for one in report.problems if one.lost is None and not one.uncovered]
    if others:
        raise Refused(
            f"the log is damaged, not only cut: {others[0]}", hint="assay audit verify lists all"
        )
    if not losses:
        raise Refused("nothing is known to be lost", hint="assay audit verify")
    with journal.locked():
        _expect(journal, report)
        statement = Statement(
            ACKNOWLEDGEMENT,
            {REGISTRY_LOG: report.head.hash},
            {
                "reason": reason,
                "losses": [
                    {"log": one.lost[0], "seq": one.lost[1], "hash": one.lost[2],
                     "witness": one.detail}
                    for one in losses if one.lost is not None
                ],
            },
        )  # fmt: skip
        envelope = keyring.sign(signer, statement)
        return journal.append(
            NewEvent(
                EventType.AUDIT_ACKNOWLEDGE,
                WHOLE_LOG,
                None,
                signer,
                reason,
                {"statement": envelope.to_json(), "losses": statement.predicate["losses"]},
            )
        )


def acknowledged_by(
    entries: Iterable[Entry], keyring: KeyRing, notes: list[str]
) -> frozenset[tuple[str, int, str]]:
    """Log, number and hash of every loss that somebody trusted has acknowledged in a log.

    An acknowledgement by nobody who is trusted counts for nothing, and is noted.
    """
    found: set[tuple[str, int, str]] = set()
    for entry in entries:
        if entry.type is not EventType.AUDIT_ACKNOWLEDGE or entry.outcome is not EventOutcome.DONE:
            continue
        try:
            envelope = Envelope.from_json(entry.evidence.get("statement"))
            made = keyring.verify(envelope, ACKNOWLEDGEMENT, at=entry.at).statement
            if dict(made.subjects) != {REGISTRY_LOG: entry.previous}:
                raise Tampered("it is about another log")
            losses: Sequence[Mapping[str, Any]] = made.predicate["losses"]
            found |= {(str(one["log"]), int(one["seq"]), str(one["hash"])) for one in losses}
        except (AssayError, KeyError, TypeError, ValueError) as error:
            why = error.message if isinstance(error, AssayError) else repr(error)
            notes.append(f"the acknowledgement in entry {entry.seq} counts for nothing: {why}")
    return frozenset(found)


def _expect(journal: Journal, report: LogReport) -> None:
    head = journal.ledger.head()
    if (head.seq, head.hash) != (report.head.seq, report.head.hash):
        raise Conflict(
            f"the log went on to entry {head.seq} meanwhile, read was up to {report.head.seq}",
            hint="do it again",
        )


def _require(reason: str, what: str) -> None:
    if not reason.strip():
        raise ContractViolation(f"{what} needs a reason: expected a sentence for the log")
