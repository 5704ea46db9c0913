"""Why a request was not answered: one kind per reason, each with its HTTP status.

The in-process :class:`~assay.serving.Predictor` raises the same errors that the service turns into
problem documents (RFC 9457), so a strategy and an HTTP client read the same words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from assay.errors import AssayError

_LONGEST = 200
_DEEPEST = 3
_WIDEST_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class Kind:
    """A reason to refuse: ``slug`` names it for programs, ``title`` for people."""

    slug: str
    status: int
    title: str

    @property
    def uri(self) -> str:
        """The ``type`` of its problem document."""
        return f"urn:assay:problem:{self.slug}"


MALFORMED_BODY = Kind("malformed-body", 400, "The body is not JSON")
INVALID_BODY = Kind("invalid-body", 422, "The body does not have the documented form")
FEATURE_COUNT = Kind("feature-count", 422, "Another number of features than the model reads")
FEATURE_NAMES = Kind("feature-names", 422, "Other features than the model reads")
FEATURE_ORDER = Kind("feature-order", 422, "The features are not in the model's order")
FEATURE_TYPE = Kind("feature-type", 422, "A feature is not a number")
FEATURE_VALUE = Kind("feature-value", 422, "A feature is not a finite number in range")
INPUT_NAMES = Kind("input-names", 422, "Other inputs than the model's request view takes")
INPUT_TYPE = Kind("input-type", 422, "An input of the request is not a number")
INPUT_VALUE = Kind("input-value", 422, "An input of the request is not finite or leads to no value")
INVALID_TIMESTAMP = Kind("invalid-timestamp", 422, "The timestamp does not say which moment it is")
FUTURE_TIMESTAMP = Kind("future-timestamp", 422, "The timestamp has not come yet")
UNKNOWN_MODEL = Kind("unknown-model", 404, "No such model is live here")
UNKNOWN_INSTRUMENT = Kind("unknown-instrument", 404, "No features of this instrument are kept")
NO_FEATURES = Kind("no-features", 404, "No features were known at this moment")
NO_PREDICTION = Kind("no-prediction", 404, "No such prediction is remembered")
MANIFEST_MISMATCH = Kind("manifest-mismatch", 409, "The features follow another manifest")
MANIFEST_MISSING = Kind("manifest-missing", 428, "The header X-Assay-Manifest is required")
STALE_FEATURES = Kind("stale-features", 409, "The features are older than their time to live")
INCOMPLETE_FEATURES = Kind("incomplete-features", 409, "A stored feature has no value")
BATCH_TOO_LARGE = Kind("batch-too-large", 413, "The batch has too many rows")
BODY_TOO_LARGE = Kind("body-too-large", 413, "The body is too large")
HEAD_TOO_LARGE = Kind("head-too-large", 431, "The head of the request is too large")
NO_INSTRUMENTS = Kind("no-instruments", 422, "The request names no instrument")
TENSOR = Kind("invalid-tensor", 422, "A tensor is not what the model reads, or not what it says")
ARROW = Kind("invalid-arrow", 422, "The body is no Arrow stream of columns of numbers")
INVALID_HEADER = Kind("invalid-header", 422, "A header does not have the documented form")
REQUEST_TIMEOUT = Kind("request-timeout", 408, "The body did not come in time")
OVER_CAPACITY = Kind("over-capacity", 429, "More requests are under way than are taken")
DEADLINE_EXCEEDED = Kind("deadline-exceeded", 504, "No answer within the deadline")
NOT_JSON = Kind("unsupported-media-type", 415, "The body is of a type that is not read here")
UNAUTHENTICATED = Kind("unauthenticated", 401, "Whoever asks has not shown who they are")
FORBIDDEN = Kind("forbidden", 403, "Whoever asks may not do this")
UNKNOWN_PATH = Kind("unknown-path", 404, "No such path")
WRONG_METHOD = Kind("method-not-allowed", 405, "This path does not take this method")
RELOAD_FAILED = Kind("reload-failed", 409, "The new version was refused; the old one goes on")
KILLED = Kind("killed", 503, "The kill switch is on")
UNAVAILABLE = Kind("unavailable", 503, "Something that is needed is not there")
MODEL_FAILED = Kind("model-failed", 503, "The model gave no usable answer")
INTERNAL = Kind("internal-error", 500, "A defect of the service")

KINDS = tuple(value for value in list(globals().values()) if isinstance(value, Kind))
"""Every kind, for the documentation."""


class Rejected(AssayError):
    """A request that is not answered with a number, and why.

    Parameters
    ----------
    kind: the reason.
    message: what is wrong, which value, what was expected.
    found, expected: the value found and what would have been accepted, as plain JSON values.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        found: Any = None,
        expected: Any = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(writable(message), hint=None if hint is None else writable(hint))
        self.kind = kind
        self.found = plain(found)
        self.expected = plain(expected)

    def document(self) -> dict[str, Any]:
        """The problem document."""
        document = {
            "type": self.kind.uri,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.message,
            "found": self.found,
            "expected": self.expected,
        }
        return document if self.hint is None else document | {"hint": self.hint}


def too_deep() -> Rejected:
    """The refusal of a body whose lists or objects stand in each other a thousand times."""
    return Rejected(
        MALFORMED_BODY,
        "the body is nested too deeply to be read",
        found="lists or objects in each other, many times over",
        expected="the documented form, which is a few levels deep",
    )


def defect(error: Exception) -> Rejected:
    """What is told of an error that nobody expected; the log has the rest."""
    return Rejected(
        INTERNAL,
        f"{type(error).__name__} while answering; the server's log tells where",
        found=type(error).__name__,
        expected="an answer",
    )


def plain(value: Any, depth: int = 0) -> Any:
    """A value as it may stand in a problem document: short, and JSON on every machine."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < _WIDEST_INTEGER else _short(_digits(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, list | tuple):
        if depth == _DEEPEST:
            return f"a list of {len(value)}"
        return [plain(item, depth + 1) for item in value[:64]]
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    return _short(repr(value))


def _digits(value: int) -> str:
    # Python refuses to write out integers of thousands of digits.
    return str(value) if value.bit_length() < 2_000 else f"an integer of {value.bit_length()} bits"


def writable(text: str) -> str:
    """The text with a question mark for each lone surrogate: JSON may hold one, UTF-8 may not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _short(text: str) -> str:
    text = writable(text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
