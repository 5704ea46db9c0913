"""The few lines of ASGI that all parts of the service share: bodies in, answers out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from assay.serving.formats.wire import encode
from assay.serving.rejections import (
    BODY_TOO_LARGE,
    NOT_JSON,
    OVER_CAPACITY,
    REQUEST_TIMEOUT,
    UNAUTHENTICATED,
    UNAVAILABLE,
    WRONG_METHOD,
    Rejected,
)

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values."""
Answer: TypeAlias = tuple[int, bytes, bytes, Headers]
"""A whole answer: status, body, content type and further headers."""

JSON = b"application/json"
PROBLEM = b"application/problem+json"
LATE = "assay.late"
"""Key of a scope: its body did not come in time."""
_AGAIN = (b"retry-after", b"1")


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Direct:
    """What answers whole requests without waiting for anything.

    Attributes
    ----------
    path_of: from the URL of a POST request, the path to answer to; None where it is not answered.
    begin, end: called around the answers of one turn of the event loop, which all were asked for
        before it began.
    answer: from the path, the headers by their lower-case names, the body and the moment when the
        head had come, an answer; None where it has to wait for something, before it has done
        anything. Does not raise.
    """

    path_of: Callable[[bytes], str | None]
    answer: Callable[[str, Headers, bytes, int], Answer | None]
    begin: Callable[[], None] = _nothing
    end: Callable[[], None] = _nothing


class Disconnected(Exception):
    """The client went away before its request was whole."""


def check_kind(kind: bytes, expected: Collection[bytes] = (JSON,)) -> bytes:
    """The content type without its parameters.

    JSON is asked for because a browser sends no such request to another origin without asking
    first: a page on the internet cannot switch predictions of a local service off.

    Raises
    ------
    Rejected: it is none of those that are expected.
    """
    if kind in expected:
        return kind
    plain = kind.partition(b";")[0].strip().lower()
    if plain in expected:
        return plain
    text = kind[:80].decode("latin-1")
    wanted = " or ".join(sorted(one.decode() for one in expected))
    raise Rejected(
        NOT_JSON, f"content type {text!r}: expected {wanted}", found=text, expected=wanted
    )


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body of a request.

    Raises
    ------
    Rejected: it is longer than ``limit`` bytes, or did not come in time.
    Disconnected: the client went away.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        parts, size = [body], len(body)
        while message.get("more_body", False):
            if LATE in scope:
                raise Rejected(
                    REQUEST_TIMEOUT,
                    f"{size:,} bytes of the body came within {scope[LATE]:g} s: expected all",
                    found=size,
                    expected="the whole body",
                )
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            check_size(size, limit)
        body = b"".join(parts)
    elif message["type"] == "http.disconnect":
        raise Disconnected
    check_size(len(body), limit)
    return body


async def answer(
    send: Send, status: int, body: bytes, kind: bytes, *more: tuple[bytes, bytes]
) -> None:
    """Send a whole answer; ``more`` are further headers."""
    length = b"%d" % len(body)
    headers = [(b"content-type", kind), (b"content-length", length), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send, problem: Rejected, *more: tuple[bytes, bytes], body: bytes | None = None
) -> None:
    """Send a problem document, or another ``body`` that says the same."""
    status, content, kind, headers = refusal(problem, *more, body=body)
    await answer(send, status, content, kind, *headers)


def refusal(problem: Rejected, *more: tuple[bytes, bytes], body: bytes | None = None) -> Answer:
    """A problem document as an answer, or another ``body`` that says the same."""
    headers = list(more)
    if problem.kind in {BODY_TOO_LARGE, REQUEST_TIMEOUT}:
        headers.append((b"connection", b"close"))  # the rest of the body was not read
    if problem.kind in {OVER_CAPACITY, UNAVAILABLE}:
        headers.append(_AGAIN)
    if problem.kind is UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    if problem.kind is WRONG_METHOD:
        headers.append((b"allow", str(problem.expected).encode("ascii")))
    content = encode(problem.document()) if body is None else body
    return problem.kind.status, content, PROBLEM, headers


def check_size(size: int, limit: int) -> None:
    """Refuse a body of ``size`` bytes.

    Raises
    ------
    Rejected: these are more than ``limit``.
    """
    if size > limit:
        raise Rejected(
            BODY_TOO_LARGE,
            f"the body has {size:,} bytes or more: expected at most {limit:,}",
            found=size,
            expected=limit,
            hint="send several smaller batches",
        )
