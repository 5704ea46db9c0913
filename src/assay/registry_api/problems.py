"""Problem documents (RFC 9457): one form for every refusal, with our error's name and hint."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from assay.access import UNPROVEN, AccessDenied
from assay.errors import (
    AssayError,
    ConfigurationError,
    Conflict,
    DataError,
    Gone,
    IntegrityError,
    NotFound,
    Refused,
    Unavailable,
)

_STATUSES: tuple[tuple[type[AssayError], int], ...] = (
    (Gone, 410),
    (NotFound, 404),
    (Conflict, 409),
    (Refused, 409),
    (IntegrityError, 409),
    (DataError, 422),
    (Unavailable, 503),
    (ConfigurationError, 503),
)


class Problem(BaseModel):
    """Why a request was not done. ``code`` is stable; ``hint`` says what to do next."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    request_id: str


class Unacceptable(AssayError):
    """A request that no registry could answer: its form, not its content, is wrong."""

    def __init__(self, status: int, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


def status_of(error: AssayError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Unacceptable):
        return error.status
    if isinstance(error, AccessDenied):
        return 401 if error.code in UNPROVEN else 403
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 503)


def code_of(error: AssayError) -> str:
    """The error's reason as one word: of a denial its own, otherwise the name of its class."""
    if isinstance(error, AccessDenied | Unacceptable):
        return str(error.code)
    name = type(error).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def problem(error: AssayError, request_id: str) -> Response:
    """The answer that says what went wrong."""
    status, code = status_of(error), code_of(error)
    document = Problem(
        type=f"urn:assay:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=error.message,
        code=code,
        hint=error.hint,
        request_id=request_id,
    )
    answer = Response(_text(document.model_dump()), status, media_type="application/problem+json")
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def of_validation(error: RequestValidationError) -> Unacceptable:
    """What is wrong with a request that does not have the documented form."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return Unacceptable(422, "invalid_request", f"{place[:200]}: {first['msg'][:300]}")


def of_http(request: Request, error: HTTPException) -> Unacceptable:
    """What the framework refused: an unknown path, a wrong method, a body that is no JSON."""
    path = request.url.path[:200]
    if error.status_code == 404:
        return Unacceptable(404, "unknown_path", f"no path {path!r}", hint="see /openapi.json")
    if error.status_code == 405:
        return Unacceptable(405, "wrong_method", f"{request.method} is not for {path!r}")
    return Unacceptable(error.status_code, "invalid_request", str(error.detail)[:300])


def _text(document: dict[str, Any]) -> bytes:
    # A lone surrogate, which a request can bring, is escaped here instead of failing.
    return json.dumps(document, separators=(",", ":")).encode("ascii")
