"""Before any route: a number for the request, a bound for its body, and who shows which token.

It stands outside of the framework, so that nothing of a request without a good token is read.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from anyio.to_thread import run_sync

from assay.access import AccessEvent, AccessPolicy, Caller, bearer_token
from assay.errors import AssayError, ConfigurationError
from assay.orchestration.desk import Desk
from assay.registry_api.problems import Unacceptable, code_of, problem, status_of

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/openapi.json", "/health", "/api/v1/login"})
"""What is answered without a token: nothing about models."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BODY_BYTES = 1_048_576
_UPLOAD = re.compile(r"/api/v1/models/[^/]+/versions")


class Gate:
    """The ASGI application around the routes.

    Parameters
    ----------
    inner: the routes. desk: whose users, tokens and record of access these are.
    """

    def __init__(self, inner: Application, desk: Desk) -> None:
        self._inner = inner
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            try:
                await self._inner(scope, receive, send)
            finally:
                if scope["type"] == "lifespan":  # the server stops: counts go to the disk
                    await run_sync(lambda: self._desk.refusals.write_counts(everything=True))
            return
        if self._desk.refusals.has_ended():
            await run_sync(self._desk.refusals.write_counts)
        headers = dict(reversed(scope["headers"]))
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            if scope["path"] not in OPEN_PATHS:
                authorization = headers.get(b"authorization", b"").decode("latin-1")
                state["caller"] = await run_sync(self._recognise, authorization)
            bounded = self._bounded(scope, headers, receive)
        except AssayError as error:
            await run_sync(record_refusal, self._desk, scope, error)
            # FastAPI's own responses are ASGI applications too.
            await problem(error, request_id)(scope, receive, numbered)
            return
        await self._inner(scope, bounded, numbered)

    def _recognise(self, authorization: str) -> Caller:
        policy = users_of(self._desk)
        return self._desk.authenticator.recognise(bearer_token(authorization), policy)

    def _bounded(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """``receive``, refusing a body that is too long by what it says or by what comes."""
        upload = scope["method"] == "POST" and _UPLOAD.fullmatch(scope["path"])
        most = self._desk.access_layout.upload_bytes if upload else _BODY_BYTES
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated[:20]) > most:
            raise too_large(most)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise too_large(most)
            return message

        return counted


class NobodyLetIn(Unacceptable):
    """The list of users is broken or gone, so that nobody can be recognised.

    Whoever asks is a stranger: the answer does not repeat what stands in the file, the record does.
    """

    def __init__(self, why: str) -> None:
        super().__init__(
            503,
            "users_unreadable",
            "the desk's list of users cannot be read, so nobody can be let in: nothing was done",
            hint="on the desk's machine, assay access users says what is wrong with it, and "
            "assay models rollback works meanwhile",
        )
        self.why = why


def users_of(desk: Desk) -> AccessPolicy:
    """The desk's users as they are now.

    Raises
    ------
    NobodyLetIn: they cannot be read, or there are none.
    """
    try:
        policy = desk.access
    except ConfigurationError as error:
        raise NobodyLetIn(error.message) from error
    except OSError as error:
        raise NobodyLetIn(f"it cannot be read: {error.strerror or error!r}") from error
    if policy is None:
        raise NobodyLetIn("there is none")
    return policy


def too_large(most: int) -> Unacceptable:
    """What to raise for a body that is too long."""
    return Unacceptable(413, "too_large", f"the body is too large: expected {most} bytes at most")


def record_refusal(desk: Desk, scope: Scope, error: AssayError) -> None:
    """Write a refusal down; not that something which was asked for is absent, or busy now."""
    absent = code_of(error) in {"not_found", "gone"} or status_of(error) == 503
    if absent and not isinstance(error, NobodyLetIn) and scope["method"] in {"GET", "HEAD"}:
        return
    state = scope.get("state", {})
    caller = state.get("caller")
    event = AccessEvent(
        "refused",
        caller.name if caller is not None else "",
        scope["method"],
        scope["path"],
        code_of(error),
        f"{error.message}: {error.why}" if isinstance(error, NobodyLetIn) else error.message,
        state.get("request_id", ""),
    )
    if caller is not None:
        desk.access_log.record(event)
    else:
        host, *_ = scope.get("client") or ("unknown",)
        desk.refusals.record(str(host), event)
