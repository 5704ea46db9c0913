"""Why somebody is not let in: one word per reason, for programs, logs and tests."""

from __future__ import annotations

from enum import StrEnum

from assay.errors import Refused


class Denial(StrEnum):
    """The reason of a refusal. Those in :data:`UNPROVEN` leave open who the caller is."""

    NO_TOKEN = "no_token"
    MALFORMED_TOKEN = "malformed_token"
    ALGORITHM_NONE = "algorithm_none"
    WRONG_ALGORITHM = "wrong_algorithm"
    UNKNOWN_KEY = "unknown_key"
    RETIRED_KEY = "retired_key"
    WRONG_SIGNATURE = "wrong_signature"
    MISSING_CLAIM = "missing_claim"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    REVOKED = "revoked"
    NO_PROOF = "no_proof"
    STALE_PROOF = "stale_proof"
    REPLAYED_PROOF = "replayed_proof"

    UNKNOWN_USER = "unknown_user"
    MISSING_SCOPE = "missing_scope"
    OTHER_PERSON = "other_person"
    NOT_A_PERSON = "not_a_person"
    WRONG_STATEMENT = "wrong_statement"


UNPROVEN = frozenset(list(Denial)[: list(Denial).index(Denial.UNKNOWN_USER)])
"""Refusals of callers who did not prove who they are; the others are known and may not."""


class AccessDenied(Refused):
    """A caller is not who they say, or may not do what they ask.

    Parameters
    ----------
    code: the reason as one word. message: the reason in words; never holds a token or a key.
    """

    def __init__(self, code: Denial, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
