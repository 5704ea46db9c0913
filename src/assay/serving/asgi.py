"""The few lines of ASGI that both halves of the service share: bodies in, answers out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from assay.serving.rejections import BODY_TOO_LARGE, NOT_JSON, WRONG_METHOD, Rejected
from assay.serving.wire import encode

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
PROBLEM = b"application/problem+json"


class Disconnected(Exception):
    """The client went away before its request was whole."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body of a request that says it is JSON.

    JSON is asked for because a browser sends no such request to another origin without asking
    first: a page on the internet cannot switch predictions of a local service off.

    Raises
    ------
    Rejected: it says it is something else, or it is longer than ``limit`` bytes.
    Disconnected: the client went away.
    """
    kind = header(scope, b"content-type") or ""
    if kind != "application/json" and not _is_json(kind):
        raise Rejected(
            NOT_JSON,
            f"content type {kind[:80]!r}: expected application/json",
            found=kind,
            expected="application/json",
        )
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        parts, size = [body], len(body)
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(size, limit)
        body = b"".join(parts)
    elif message["type"] == "http.disconnect":
        raise Disconnected
    if len(body) > limit:
        raise _too_large(len(body), limit)
    return body


async def answer(
    send: Send, status: int, body: bytes, kind: bytes, *more: tuple[bytes, bytes]
) -> None:
    """Send a whole answer; ``more`` are further headers."""
    length = str(len(body)).encode("ascii")
    headers = [(b"content-type", kind), (b"content-length", length), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, problem: Rejected) -> None:
    """Send a problem document."""
    more: list[tuple[bytes, bytes]] = []
    if problem.kind is BODY_TOO_LARGE:
        more.append((b"connection", b"close"))  # the rest of the body was not read
    if problem.kind is WRONG_METHOD:
        more.append((b"allow", str(problem.expected).encode("ascii")))
    await answer(send, problem.kind.status, encode(problem.document()), PROBLEM, *more)


def _is_json(kind: str) -> bool:
    return kind.partition(";")[0].strip().lower() == "application/json"


def _too_large(size: int, limit: int) -> Rejected:
    return Rejected(
        BODY_TOO_LARGE,
        f"the body has {size:,} bytes or more: expected at most {limit:,}",
        found=size,
        expected=limit,
        hint="send several smaller batches",
    )
