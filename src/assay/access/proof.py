"""A person proves who they are by signing, with their own key, a statement of this moment.

The statement says who, for which desk, when, and a number that was never used before. It is no
statement for any other purpose: nobody can turn a proof into an approval.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass

from assay.access.access_log import AccessEvent, AccessLog
from assay.access.denials import AccessDenied, Denial
from assay.access.users import AccessPolicy, Scope, User
from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND, Instant, parse, render
from assay.errors import AssayError, Tampered
from assay.registry.keyring import IDENTITY, LOG_HEAD, PROMOTION, KeyRing, check_identity
from assay.registry.signing import Envelope, Statement

ROLES_NOT_ASKED = "roles_not_asked"
"""The code of an event that was let through though nobody could say who the users are."""

PROOF_SECONDS = 120
"""How old a proof may be."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that held. ``expires_at`` is when ``nonce`` may be forgotten."""

    identity: str
    nonce: str
    expires_at: Instant


def make_proof(keyring: KeyRing, identity: str, audience: str, now: Instant) -> Envelope:
    """Sign a proof of who one is.

    Raises
    ------
    Unavailable: no private key of that identity is here. Tampered: it is not the trusted one.
    """
    predicate = {
        "identity": check_identity(identity),
        "audience": audience,
        "issued_at": render(now),
        "nonce": secrets.token_hex(16),
    }
    return keyring.sign(identity, Statement(IDENTITY, {}, predicate))


def check_proof(keyring: KeyRing, envelope: Envelope, audience: str, now: Instant) -> Proof:
    """Who made a proof.

    Raises
    ------
    AccessDenied: its signature does not hold, its key is not in force, or it is for another desk
    or of another time.
    """
    try:
        made = keyring.verify(envelope, IDENTITY)
        # What a retired key signed stays good; to say who is here now, it has to be in force.
        trusted = keyring.key_of(made.identity)
        if trusted is None or trusted.key_id != made.key_id:
            raise Tampered(f"key {made.key_id[:12]} of {made.identity} is retired")
        predicate = made.statement.predicate
        issued_at = parse(predicate["issued_at"])
        nonce = str(predicate["nonce"])
        stated = (predicate["identity"], predicate["audience"])
    except (AssayError, KeyError, TypeError, AttributeError) as error:
        why = error.message if isinstance(error, AssayError) else "it lacks a field"
        raise AccessDenied(Denial.NO_PROOF, f"the proof does not hold: {why}") from None
    if stated != (made.identity, audience):
        raise AccessDenied(Denial.NO_PROOF, "the proof is for somebody else or another desk")
    if abs(now - issued_at) > PROOF_SECONDS * NANOS_PER_SECOND:
        raise AccessDenied(
            Denial.STALE_PROOF,
            f"the proof is of {render(issued_at)}: expected within {PROOF_SECONDS} s of "
            f"{render(now)}",
            hint="compare the machines' clocks, and log in again",
        )
    return Proof(made.identity, nonce, issued_at + 2 * PROOF_SECONDS * NANOS_PER_SECOND)


def require_here(
    keyring: KeyRing,
    policy: AccessPolicy | None,
    identity: str,
    scope: Scope,
    *,
    action: str,
    resource: str,
    clock: Clock,
    log: AccessLog,
    unreadable: str | None = None,
) -> User | None:
    """Let somebody at this machine do something, who proves by their key who they are.

    Parameters
    ----------
    policy: the desk's users; None where it names none: then the proof alone counts.
    unreadable: why it cannot be said who the users are, where what is to be done must not wait for
        that: then whoever holds a key in force that may sign promotions is let through, and
        ``log`` says so.

    Raises
    ------
    AccessDenied: no proof, no such user, or no role that allows it; recorded in ``log``.
    """
    try:
        try:
            envelope = make_proof(keyring, identity, action, clock.now())
            check_proof(keyring, envelope, action, clock.now())
        except AccessDenied:
            raise
        except AssayError as error:
            raise AccessDenied(
                Denial.NO_PROOF, f"cannot act as {identity}: {error.message}", hint=error.hint
            ) from error
        if unreadable is not None and not keyring.can_sign(identity, PROMOTION):
            raise AccessDenied(
                Denial.MISSING_SCOPE,
                f"roles cannot be asked, and the key of {identity} may not sign promotions",
                hint=f"mend it first: {unreadable}",
            )
        user = None if policy is None else policy.require(identity, scope)
    except AccessDenied as error:
        log.record(AccessEvent("refused", identity, action, resource, error.code, error.message))
        raise
    if unreadable is None:
        log.record(AccessEvent("allowed", identity, action, resource))
    else:
        why = f"ROLES WERE NOT ASKED: {unreadable}"
        log.record(AccessEvent("allowed", identity, action, resource, ROLES_NOT_ASKED, why))
    # Whoever may sign heads does, so that the end of the record cannot be cut off unseen.
    with suppress(AssayError):
        if keyring.can_sign(identity, LOG_HEAD):
            log.sign(keyring, identity)
    return user
