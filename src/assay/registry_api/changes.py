"""What changes the registry: register, judge, approve, promote, break the glass, roll back.

Whoever approves, promotes or breaks the glass fetches the statement about it, reads it, signs it
with their own key, and sends the envelope: a token alone does none of these. A rollback needs a
token alone, because at night it must be one step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from anyio.to_thread import run_sync
from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from assay.access import AccessDenied, AccessEvent, Caller, Denial, Scope, check_proof
from assay.delivery.approvals import prepare_approval, record_signed_approval
from assay.delivery.judging import judge
from assay.delivery.promotion import (
    break_glass,
    prepare_break_glass,
    prepare_promotion,
    promote,
)
from assay.delivery.rollback import rollback
from assay.domain.canonical import content_hash
from assay.domain.instants import NANOS_PER_SECOND, render
from assay.errors import AssayError, ConfigurationError
from assay.orchestration.desk import Desk
from assay.orchestration.login import log_in
from assay.registry import ModelRegistry
from assay.registry.keyring import APPROVAL, PROMOTION
from assay.registry.sealed import digests_of
from assay.registry.signing import Envelope, Statement
from assay.registry_api.documents import (
    ApprovalDocument,
    JudgedDocument,
    PromotionDocument,
    RegistrationDocument,
    RollbackDocument,
    TokenDocument,
    ToSign,
    ValidationDocument,
)
from assay.registry_api.gate import users_of
from assay.registry_api.once import Answer, RequestStore
from assay.registry_api.problems import Unacceptable
from assay.registry_api.reads import (
    VERSION,
    NamePart,
    Route,
    VersionPart,
    answer,
    caller_of,
    check_unchanged,
    encoded,
    model_document,
)
from assay.registry_api.uploads import MEDIA_TYPE, read_archive

Identity: TypeAlias = Annotated[
    str | None, Query(max_length=64, description="Whose key will sign; the caller's own name.")
]
Reason = Annotated[str, Field(max_length=2_000)]
_KEY_LENGTH = 128


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SignedEnvelope(_Body):
    """A DSSE envelope as ``assay`` writes it: payload, payloadType, one signature."""

    payload: Annotated[str, Field(max_length=65_536)]
    payloadType: Annotated[str, Field(max_length=100)]  # noqa: N815 - as DSSE spells it
    signatures: Annotated[list[dict[str, str]], Field(min_length=1, max_length=1)]


class Login(_Body):
    """A proof of who one is, signed."""

    envelope: SignedEnvelope


class Approving(_Body):
    """The approval, signed."""

    envelope: SignedEnvelope


class Promoting(_Body):
    """The promotion, signed; ``reason`` is kept in the log."""

    envelope: SignedEnvelope
    reason: Reason = ""


class BreakingGlass(_Body):
    """The promotion past gates and approvals, signed, and why."""

    envelope: SignedEnvelope
    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


class RollingBack(_Body):
    """Why, and optionally what to go back to; ``keep`` archives what is withdrawn."""

    reason: Annotated[str, Field(min_length=1, max_length=2_000)]
    target: Annotated[str, Field(pattern=VERSION)] | None = None
    keep: bool = False
    dry_run: bool = False


class Changes:
    """The routes that change something.

    Parameters
    ----------
    open_registry: gives the registry, up to date also after another process's crash.
    """

    def __init__(self, desk: Desk, open_registry: Callable[[], ModelRegistry]) -> None:
        self._desk = desk
        self._open = open_registry
        self._store = RequestStore(desk.access_layout.requests, desk.clock)

    def routes(self) -> tuple[Route, ...]:
        """Method, path, function, and one line about each."""
        one = "/api/v1/models/{name}/{version}"
        return (
            Route("POST", "/api/v1/login", self.login, "Exchange a signed proof for a token",
                  TokenDocument),
            Route("POST", "/api/v1/models/{name}/versions", self.register, "Register an archive",
                  RegistrationDocument),
            Route("POST", "/api/v1/models/{name}/rollback", self.rollback,
                  "Withdraw what is in production; the version before comes back",
                  RollbackDocument),
            Route("POST", f"{one}/validate", self.validate, "Check every file and the signature",
                  ValidationDocument),
            Route("POST", f"{one}/gates", self.judge, "Apply the policy to the recorded evidence",
                  JudgedDocument),
            Route("GET", f"{one}/approval-statement", self.approval_statement,
                  "What approvers sign", ToSign),
            Route("POST", f"{one}/approvals", self.approve, "Approve, by a signed statement",
                  ApprovalDocument),
            Route("GET", f"{one}/promotion-statement", self.promotion_statement,
                  "What whoever promotes signs", ToSign),
            Route("POST", f"{one}/promote", self.promote, "Put it into production",
                  PromotionDocument),
            Route("POST", f"{one}/break-glass", self.break_glass,
                  "Put it into production past gates and approvals", PromotionDocument),
        )  # fmt: skip

    # -- who ------------------------------------------------------------------------------------

    def login(self, body: Login) -> Response:
        desk = self._desk
        users_of(desk)  # a proof counts once: it is not used up where nobody can be let in
        envelope = _envelope(body.envelope, Denial.NO_PROOF)
        proof = check_proof(desk.keyring, envelope, desk.access_layout.audience, desk.clock.now())
        if not self._store.use_proof(proof.nonce, proof.expires_at):
            raise AccessDenied(Denial.REPLAYED_PROOF, "the proof was used before: sign a new one")
        token, expires_at = log_in(desk, proof)
        document = {
            "token": token,
            "token_type": "Bearer",
            "expires_at": render(expires_at * NANOS_PER_SECOND),
            "expires_at_seconds": expires_at,
        }
        return Response(encoded(document), media_type="application/json")

    # -- versions -------------------------------------------------------------------------------

    async def register(self, request: Request, name: NamePart) -> Response:
        caller = caller_of(request)
        caller.require(Scope.WRITE)
        if request.headers.get("content-type", "").partition(";")[0].strip() != MEDIA_TYPE:
            raise Unacceptable(415, "wrong_media_type", f"expected a body of type {MEDIA_TYPE}")
        if "content-encoding" in request.headers:
            raise Unacceptable(415, "wrong_media_type", "expected a body that is not compressed")
        folder = self._desk.access_layout.requests.parent
        await run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
        # Without a name: it is gone when the request is, whatever ends it.
        with tempfile.TemporaryFile(dir=folder) as handle:
            async for part in request.stream():
                await run_sync(handle.write, part)
            return await run_sync(self._register, request, caller, name, handle)

    def _register(self, request: Request, caller: Caller, name: str, handle: Any) -> Response:
        handle.seek(0)
        candidate = read_archive(handle, pickles=self._desk.layout.pickles)
        metadata = candidate.metadata
        if metadata.name != name:
            raise Unacceptable(
                422, "bad_archive", f"the archive is of {metadata.name}, the path of {name}"
            )
        if metadata.author not in caller.user.identities:
            raise AccessDenied(
                Denial.OTHER_PERSON,
                f"the author is {metadata.author}, the token belongs to {caller.name}",
            )
        signer = self._desk.access_layout.server_identity
        if signer is None:
            raise ConfigurationError(
                "this server has no key to sign versions with",
                hint="set access.server_identity to a service whose key is on its machine",
            )

        def act() -> tuple[int, Any]:
            registry = self._open()
            if name in registry.names():
                check_unchanged(request, model_document(registry, name))
            made = registry.register(candidate, signer=signer, reason=f"uploaded by {caller.name}")
            return 201 if made.created else 200, made.to_json()

        identity = content_hash([metadata.to_json(), digests_of(candidate.files)])
        return self._once(request, caller, identity, f"{name}/{metadata.version}", act)

    def validate(self, request: Request, name: NamePart, version: VersionPart) -> Response:
        caller_of(request).require(Scope.READ)
        registry = self._open()
        record = registry.get(name, version)
        _unchanged(request, registry, name)
        return answer(request, registry.validate(name, record.version).to_json())

    def judge(self, request: Request, name: NamePart, version: VersionPart) -> Response:
        caller = caller_of(request)
        caller.require(Scope.WRITE)

        def act() -> tuple[int, Any]:
            registry = self._open()
            record = registry.get(name, version)
            _unchanged(request, registry, name)
            report = judge(
                registry, self._desk.policy, name, record.version, initiated_by=caller.name
            )
            return 200, report.to_json()

        return self._once(request, caller, "", f"{name}/{version}", act)

    # -- approvals ------------------------------------------------------------------------------

    def approval_statement(
        self, request: Request, name: NamePart, version: VersionPart, identity: Identity = None
    ) -> Response:
        caller = caller_of(request)
        caller.require(Scope.APPROVE)
        signer = _own(caller, identity)
        approval = prepare_approval(
            self._open(), name, version, signer, clock=self._desk.clock,
            valid_for=self._validity, access=self._desk.access,
        )  # fmt: skip
        return answer(request, _to_sign(signer, approval.to_statement()))

    def approve(
        self, request: Request, name: NamePart, version: VersionPart, body: Approving
    ) -> Response:
        caller = caller_of(request)
        caller.require(Scope.APPROVE)
        envelope = self._signed(caller, body.envelope, APPROVAL)

        def act() -> tuple[int, Any]:
            registry = self._open()
            _unchanged(request, registry, name)
            given = record_signed_approval(
                registry, name, version, envelope, clock=self._desk.clock,
                valid_for=self._validity, access=self._desk.access,
            )  # fmt: skip
            return 200, given.to_json()

        mark = content_hash(envelope.to_json())
        return self._once(request, caller, mark, f"{name}/{version}", act)

    # -- production -----------------------------------------------------------------------------

    def promotion_statement(
        self,
        request: Request,
        name: NamePart,
        version: VersionPart,
        *,
        break_glass: bool = False,
        identity: Identity = None,
    ) -> Response:
        caller = caller_of(request)
        caller.require(Scope.BREAK_GLASS if break_glass else Scope.PROMOTE)
        registry, clock = self._open(), self._desk.clock
        if break_glass:
            claim = prepare_break_glass(registry, name, version, clock=clock)
        else:
            claim = prepare_promotion(
                registry, name, version, clock=clock, policy=self._desk.policy,
                access=self._desk.access,
            )  # fmt: skip
        return answer(request, _to_sign(_own(caller, identity), claim.to_statement()))

    def promote(
        self, request: Request, name: NamePart, version: VersionPart, body: Promoting
    ) -> Response:
        return self._into_production(request, name, version, body, Scope.PROMOTE)

    def break_glass(
        self, request: Request, name: NamePart, version: VersionPart, body: BreakingGlass
    ) -> Response:
        return self._into_production(request, name, version, body, Scope.BREAK_GLASS)

    def _into_production(
        self,
        request: Request,
        name: str,
        version: str,
        body: Promoting | BreakingGlass,
        scope: Scope,
    ) -> Response:
        caller = caller_of(request)
        caller.require(scope)
        envelope = self._signed(caller, body.envelope, PROMOTION)
        signer = self._desk.keyring.verify(envelope, PROMOTION).identity

        def act() -> tuple[int, Any]:
            registry = self._open()
            registry.get(name, version)
            _unchanged(request, registry, name)
            common: dict[str, Any] = {
                "initiated_by": signer,
                "reason": body.reason,
                "clock": self._desk.clock,
                "monotonic": time.monotonic,
                "promotions_log": self._desk.layout.promotions,
                "access": self._desk.access,
                "signed": envelope,
            }
            if scope is Scope.BREAK_GLASS:
                return 200, break_glass(registry, name, version, **common).to_json()
            done = promote(registry, name, version, policy=self._desk.policy, **common)
            return 200, done.to_json()

        mark = content_hash([envelope.to_json(), body.reason])
        return self._once(request, caller, mark, f"{name}/{version}", act)

    def rollback(self, request: Request, name: NamePart, body: RollingBack) -> Response:
        caller = caller_of(request)
        caller.require(Scope.ROLLBACK)

        def act() -> tuple[int, Any]:
            registry = self._open()
            registry.check_model(name)
            _unchanged(request, registry, name)
            done = rollback(
                registry,
                name,
                body.target,
                reason=body.reason,
                initiated_by=caller.name,
                monotonic=time.monotonic,
                keep=body.keep,
                dry_run=body.dry_run,
            )
            return 200, done.to_json()

        return self._once(request, caller, content_hash(body.model_dump()), name, act)

    # -- shared ---------------------------------------------------------------------------------

    @property
    def _validity(self) -> float:
        return self._desk.layout.approval_nanos / NANOS_PER_SECOND

    def _signed(self, caller: Caller, given: SignedEnvelope, purpose: str) -> Envelope:
        """An envelope that the caller signed for this purpose."""
        envelope = _envelope(given, Denial.WRONG_STATEMENT)
        try:
            identity = self._desk.keyring.verify(envelope, purpose).identity
        except AssayError as error:
            raise AccessDenied(Denial.WRONG_STATEMENT, error.message) from None
        caller.require_identity(identity)
        return envelope

    def _once(
        self,
        request: Request,
        caller: Caller,
        mark: str,
        resource: str,
        act: Callable[[], tuple[int, Any]],
    ) -> Response:
        """Do it, or give the answer that the same request had; write down that it was done."""
        action = request.url.path.rpartition("/")[2]
        key = request.headers.get("idempotency-key")
        if key is not None:
            if not (0 < len(key) <= _KEY_LENGTH and key.isascii() and key.isprintable()):
                raise Unacceptable(
                    422, "invalid_request", f"Idempotency-Key: expected up to {_KEY_LENGTH} "
                    "printable characters",
                )  # fmt: skip
            fingerprint = content_hash([request.method, request.url.path, mark])
            before = self._store.begin(caller.name, key, fingerprint)
            if before is not None:
                return Response(
                    before.body, before.status, media_type="application/json",
                    headers={"Idempotency-Replayed": "true"},
                )  # fmt: skip
        kept: Answer | None = None
        try:
            status, document = act()
            kept = Answer(status, encoded(document))
            self._desk.access_log.record(
                AccessEvent(
                    "done", caller.name, action, resource, request_id=request.state.request_id
                )
            )
        finally:
            # A refusal changed nothing and is not kept: the same request may do better later.
            if key is not None:
                self._store.finish(caller.name, key, kept)
        return Response(kept.body, kept.status, media_type="application/json")


def _unchanged(request: Request, registry: ModelRegistry, name: str) -> None:
    check_unchanged(request, model_document(registry, name))


def _own(caller: Caller, identity: str | None) -> str:
    signer = identity or next(iter(caller.user.identities), caller.name)
    caller.require_identity(signer)
    return signer


def _envelope(given: SignedEnvelope, code: Denial) -> Envelope:
    try:
        return Envelope.from_json(given.model_dump())
    except AssayError as error:
        raise AccessDenied(code, error.message) from None


def _to_sign(identity: str, statement: Statement) -> dict[str, Any]:
    """What a person reads and signs; ``payload`` is the bytes, as text."""
    return {
        "identity": identity,
        "purpose": statement.purpose,
        "payload": statement.to_bytes().decode("utf-8"),
    }
