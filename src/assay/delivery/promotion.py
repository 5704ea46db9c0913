"""The one way into production.

1. The version is verified, loaded and exercised; one that does not load becomes ``failed``.
2. The latest gate record must say PROMOTABLE, on today's evidence, against today's champion.
3. Two people other than the author have approved exactly that version under that record.
4. A statement that binds all this is signed by whoever promotes.
5. The registry checks it once more under its lock and lets the event happen.
6. ``promotions.log`` gets the deployment record.

A refusal leaves a trace in the registry's log. :func:`break_glass` skips 2 and 3, and nothing
else, and the log says so for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.access import AccessDenied, AccessPolicy, Denial, Scope
from assay.delivery.activation import Activation, activate
from assay.delivery.approvals import require_approvals
from assay.delivery.judging import require_promotable
from assay.delivery.policy import Policy
from assay.domain.canonical import canonical_bytes
from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND, render
from assay.domain.versions import Stage
from assay.errors import (
    AssayError,
    Conflict,
    ContractViolation,
    IncompatibleVersion,
    Refused,
    Tampered,
    Unavailable,
)
from assay.registry import (
    Entry,
    EventOutcome,
    EventType,
    ModelRegistry,
    PromotionClaim,
    PromotionGateError,
    VerifiedVersion,
)
from assay.registry.keyring import PROMOTION, check_identity
from assay.registry.signing import Envelope
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock

STATEMENT_VALIDITY_SECONDS = 3_600
"""A signed promotion is used at once; one that was put aside must not be found and used later."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion that happened. ``from_version`` is what it archived, None for nothing."""

    name: str
    from_version: str | None
    to_version: str
    digest: str
    gate_record_digest: str
    approved_by: tuple[str, ...]
    break_glass: bool
    seq: int
    activation: Activation
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "from_version": self.from_version,
            "to_version": self.to_version,
            "digest": self.digest,
            "gate_record_digest": self.gate_record_digest,
            "approved_by": list(self.approved_by),
            "break_glass": self.break_glass,
            "seq": self.seq,
            "activation": self.activation.to_json(),
            "seconds": self.seconds,
        }


def promote(
    registry: ModelRegistry,
    name: str,
    version: str,
    *,
    initiated_by: str,
    clock: Clock,
    monotonic: Callable[[], float],
    reason: str = "",
    require_signed: bool = True,
    policy: Policy | None = None,
    promotions_log: Path | None = None,
    access: AccessPolicy | None = None,
    signed: Envelope | None = None,
) -> Promotion:
    """Put a staged version into production; see the module's docstring for the steps.

    Parameters
    ----------
    initiated_by: whose key signs the promotion.
    monotonic: seconds on a clock that never goes back, to measure with.
    policy: the policy in force. Verdicts that were reached under another one do not count; without
        it they are taken as they are recorded.
    require_signed: whether unsigned approvals count.
    promotions_log: where the deployment record goes (``artifacts/promotions.log``).
    access: the desk's users; None where it names none, and every identity is a person.
    signed: the statement of :func:`prepare_promotion`, signed elsewhere; without it the key of
        ``initiated_by`` is used, which is here.

    Raises
    ------
    AccessDenied: whoever promotes may not, or the statement that was signed is another one.
    IncompatibleVersion: it does not load or predict; it is ``failed`` from now on.
    Tampered: a byte of it is not what was sealed. PromotionGateError: the gates say no.
    Refused: too few approvals, or its stage does not allow it.
    Conflict: another version became champion meanwhile.
    """
    started = monotonic()
    check_identity(initiated_by)
    version = registry.get(name, version).version
    _allow(registry, EventType.PROMOTE, name, version, initiated_by, access)
    activation = _activated(registry, name, version, initiated_by, monotonic)
    try:
        claim = prepare_promotion(
            registry,
            name,
            version,
            clock=clock,
            require_signed=require_signed,
            policy=policy,
            access=access,
        )
        envelope = _statement(registry, claim, initiated_by, signed)
        entry = registry.promote(name, version, envelope, initiated_by=initiated_by, reason=reason)
    except AssayError as error:
        _trace(registry, EventType.PROMOTE, name, version, initiated_by, error)
        raise
    if promotions_log is not None:
        _deployed(registry, promotions_log, entry)
    return _done(entry, claim, activation, monotonic() - started)


def prepare_promotion(
    registry: ModelRegistry,
    name: str,
    version: str,
    *,
    clock: Clock,
    require_signed: bool = True,
    policy: Policy | None = None,
    access: AccessPolicy | None = None,
) -> PromotionClaim:
    """What whoever promotes has to sign, when gates and approvals allow it now.

    Takes and raises what :func:`promote` does.
    """
    record = registry.promotable(name, version)
    if policy is not None and record.policy_digest != policy.digest:
        raise PromotionGateError(
            f"{name} {version} was judged under policy {record.policy_digest[:12]}, in force "
            f"is {policy.digest[:12]}: the gates have changed since",
            hint=f"assay gates check {name} {version}, then approve again",
        )
    if policy is not None:
        require_promotable(registry, policy, record)
    # A clock that was set back must not make a promotion end before its own entry.
    now = max(clock.now(), registry.now())
    count = require_approvals(
        registry,
        name,
        version,
        record.digest,
        now=now,
        require_signed=require_signed,
        access=access,
    )
    expires_at = min(
        [now + STATEMENT_VALIDITY_SECONDS * NANOS_PER_SECOND]
        + [approval.expires_at for approval in count.valid]
    )
    return _claim(
        registry, registry.open_version(name, version), record.digest, count.approvers, expires_at
    )


def prepare_break_glass(
    registry: ModelRegistry, name: str, version: str, *, clock: Clock
) -> PromotionClaim:
    """What whoever breaks the glass has to sign."""
    now = max(clock.now(), registry.now())
    expires_at = now + STATEMENT_VALIDITY_SECONDS * NANOS_PER_SECOND
    opened = registry.open_version(name, version)
    return _claim(registry, opened, "", (), expires_at, glass=True)


def break_glass(
    registry: ModelRegistry,
    name: str,
    version: str,
    *,
    initiated_by: str,
    reason: str,
    clock: Clock,
    monotonic: Callable[[], float],
    promotions_log: Path | None = None,
    access: AccessPolicy | None = None,
    signed: Envelope | None = None,
) -> Promotion:
    """Put a staged version into production past its gates and approvals.

    For the hour when waiting is worse. The version is still verified, loaded, exercised and
    signed for; the log, the audit and the deployment record carry ``break_glass`` and the reason.

    Raises
    ------
    ContractViolation: no reason is given. Otherwise as :func:`promote`, gates and approvals aside.
    """
    if not reason.strip():
        raise ContractViolation("breaking the glass needs a reason: expected a sentence")
    started = monotonic()
    check_identity(initiated_by)
    version = registry.get(name, version).version
    _allow(registry, EventType.BREAK_GLASS, name, version, initiated_by, access)
    activation = _activated(registry, name, version, initiated_by, monotonic)
    try:
        claim = prepare_break_glass(registry, name, version, clock=clock)
        envelope = _statement(registry, claim, initiated_by, signed)
        entry = registry.break_glass(
            name, version, envelope, initiated_by=initiated_by, reason=reason
        )
    except AssayError as error:
        _trace(registry, EventType.BREAK_GLASS, name, version, initiated_by, error)
        raise
    if promotions_log is not None:
        _deployed(registry, promotions_log, entry)
    return _done(entry, claim, activation, monotonic() - started)


def follow_promotions(registry: ModelRegistry, path: Path) -> int:
    """Bring the deployment records in ``promotions.log`` up to the registry; how many were added.

    One JSON object per promotion. A record that a killed process did not write is written by the
    next promotion.

    Raises
    ------
    Tampered: the last line is no deployment record.
    """
    with FileLock(path.with_name(path.name + ".lock")):
        drop_torn_tail(path)
        lines = path.read_bytes().splitlines() if path.exists() else []
        try:
            last = int(json.loads(lines[-1])["seq"]) if lines else 0
        except (ValueError, KeyError, TypeError) as error:
            raise Tampered(
                f"the last line of {path} is no deployment record: {error!r}",
                hint=f"move {path} away: the next promotion writes it again from the registry",
            ) from None
        missing = [
            entry for entry in registry.promotions(after=last) if entry.outcome is EventOutcome.DONE
        ]
        for entry in missing:
            append_line(path, canonical_bytes(_deployment(entry)))
    return len(missing)


def _deployed(registry: ModelRegistry, path: Path, entry: Entry) -> None:
    """Write the deployment record; when that fails, say first that the promotion has happened."""
    happened = f"{entry.model} {entry.to_version} IS in production now (log entry {entry.seq})"
    try:
        follow_promotions(registry, path)
    except AssayError as error:
        raise type(error)(
            f"{happened}, without its deployment record: {error.message}", hint=error.hint
        ) from error
    except OSError as error:
        raise Unavailable(
            f"{happened}, without its deployment record: {error}",
            hint=f"make {path} writable: the next promotion writes what is missing",
        ) from error


def _deployment(entry: Entry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "hash": entry.hash,
        "timestamp": render(entry.at),
        "model": entry.model,
        "from_version": entry.from_version,
        "to_version": entry.to_version,
        "approved_by": entry.evidence["approved_by"],
        "initiated_by": entry.initiated_by,
        "break_glass": entry.type is EventType.BREAK_GLASS,
        "reason": entry.reason,
    }


def _activated(
    registry: ModelRegistry,
    name: str,
    version: str,
    initiated_by: str,
    monotonic: Callable[[], float],
) -> Activation:
    record = registry.get(name, version)
    try:
        if record.stage is not Stage.STAGED:
            raise Refused(
                f"{name} {record.version} is {record.stage}: expected staged",
                hint="an archived version comes back by assay models rollback only"
                if record.stage is Stage.ARCHIVED
                else f"assay models list {name}",
            )
        return activate(registry, name, version, monotonic=monotonic)
    except IncompatibleVersion as error:
        # It cannot serve on this build, whatever its gates say: nobody is to try again by mistake.
        registry.fail(
            name, version, initiated_by=initiated_by, reason=f"activation: {error.message}"
        )
        raise IncompatibleVersion(
            f"{name} {version} does not work and is failed now: {error.message}",
            hint="mend the export and register the next version",
        ) from error
    except AssayError as error:
        _trace(registry, EventType.PROMOTE, name, version, initiated_by, error)
        raise


def _allow(
    registry: ModelRegistry,
    event: EventType,
    name: str,
    version: str,
    initiated_by: str,
    access: AccessPolicy | None,
) -> None:
    if access is None:
        return
    scope = Scope.PROMOTE if event is EventType.PROMOTE else Scope.BREAK_GLASS
    try:
        access.require(initiated_by, scope)
    except AccessDenied as error:
        _trace(registry, event, name, version, initiated_by, error)
        raise


def _statement(
    registry: ModelRegistry, claim: PromotionClaim, initiated_by: str, signed: Envelope | None
) -> Envelope:
    """The signed form of a claim: made here, or made elsewhere and about the same."""
    if signed is None:
        return registry.keyring.sign(initiated_by, claim.to_statement())
    try:
        made = registry.keyring.verify(signed, PROMOTION)
        said = PromotionClaim.from_statement(made.statement)
    except AssayError as error:
        raise AccessDenied(
            Denial.WRONG_STATEMENT, f"the signed promotion does not hold: {error.message}"
        ) from None
    # Its end may come earlier than that of one made now, and never later.
    same = replace(said, expires_at=claim.expires_at) == claim
    of_today = replace(
        said,
        expires_at=claim.expires_at,
        from_version=claim.from_version,
        from_digest=claim.from_digest,
        configuration=claim.configuration,
    )
    if of_today == claim and said.from_version != claim.from_version:
        raise Conflict(
            f"{claim.model}: {claim.from_version or 'nothing'} is in production, the promotion was "
            f"signed when {said.from_version or 'nothing'} was: it changed meanwhile",
            hint="read it again, and sign again",
        )
    if of_today == claim and said.configuration != claim.configuration:
        raise Conflict(
            f"the desk's configuration is another one than when the promotion of {claim.model} "
            f"{claim.to_version} was signed",
            hint="assay config show says what is there; read it, and sign again",
        )
    if made.identity != initiated_by or not same or said.expires_at > claim.expires_at:
        raise AccessDenied(
            Denial.WRONG_STATEMENT,
            f"the promotion signed by {made.identity} is not the one that is asked for",
            hint="sign the statement that is asked for now",
        )
    return signed


def _claim(
    registry: ModelRegistry,
    opened: VerifiedVersion,
    gate_record_digest: str,
    approvers: tuple[str, ...],
    expires_at: int,
    *,
    glass: bool = False,
) -> PromotionClaim:
    champion = registry.current(opened.name)
    return PromotionClaim(
        model=opened.name,
        from_version=champion.version if champion else None,
        from_digest=champion.digest if champion else "",
        to_version=opened.version,
        to_digest=opened.digest,
        gate_report_digest=gate_record_digest,
        snapshot_ids=opened.metadata.snapshot_ids,
        approvers=approvers,
        expires_at=expires_at,
        break_glass=glass,
        configuration=registry.configuration(),
    )


def _trace(
    registry: ModelRegistry,
    event: EventType,
    name: str,
    version: str,
    initiated_by: str,
    error: AssayError,
) -> None:
    # A registry that does not answer must not hide the first error behind its own.
    with suppress(Unavailable):
        registry.record_attempt(
            event,
            name,
            version,
            EventOutcome.REFUSED,
            initiated_by=initiated_by,
            reason=error.message,
        )


def _done(entry: Entry, claim: PromotionClaim, activation: Activation, seconds: float) -> Promotion:
    return Promotion(
        name=entry.model,
        from_version=claim.from_version,
        to_version=claim.to_version,
        digest=claim.to_digest,
        gate_record_digest=claim.gate_report_digest,
        approved_by=claim.approvers,
        break_glass=claim.break_glass,
        seq=entry.seq,
        activation=activation,
        seconds=seconds,
    )
