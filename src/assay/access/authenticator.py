"""Tokens in and out: who gets one, and who is behind one that somebody shows."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Lock
from typing import Any

from assay.access.access_log import AccessEvent, AccessLog, issued_words
from assay.access.denials import AccessDenied, Denial
from assay.access.revocation import Revocations
from assay.access.token_keys import TokenKeys
from assay.access.tokens import Claims, check_moment, check_token, parse_token, sign_token
from assay.access.users import AccessPolicy, Scope, User, missing_scope
from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ContractViolation

_REMEMBERED = 4_096


def bearer_token(authorization: str) -> str:
    """The token in a header ``Authorization``; "" where there is none.

    Raises
    ------
    AccessDenied: it is a header of another kind.
    """
    kind, _, token = authorization.partition(" ")
    if authorization and kind.lower() != "bearer":
        raise AccessDenied(
            Denial.NO_TOKEN, "the header Authorization is of another kind: expected Bearer"
        )
    return token.strip()


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose token holds, and what both the token and their roles allow."""

    user: User
    scopes: frozenset[Scope]
    token_id: str

    @property
    def name(self) -> str:
        return self.user.name

    def require(self, scope: Scope) -> None:
        """Raise AccessDenied unless this is allowed."""
        if scope not in self.user.scopes:
            raise missing_scope(self.user, scope)
        if scope not in self.scopes:
            raise AccessDenied(
                Denial.MISSING_SCOPE,
                f"this token of {self.name} does not allow {scope}",
                hint="assay access login gives one that allows all that your roles do",
            )

    def require_identity(self, identity: str) -> None:
        """Raise AccessDenied unless a statement by this identity is the caller's own."""
        if identity not in self.user.identities:
            raise AccessDenied(
                Denial.OTHER_PERSON,
                f"the statement is signed by {identity}, the token belongs to {self.name}",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            **self.user.to_json(),
            "scopes": sorted(self.scopes),
            "token_id": self.token_id,
        }


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was made. Its text shows in no representation."""

    claims: Claims
    text: str = field(repr=False)


class Authenticator:
    """Issues tokens and recognises them.

    Parameters
    ----------
    audience: whom the tokens are for; one that is for somebody else is refused.
    """

    def __init__(
        self,
        keys: TokenKeys,
        revocations: Revocations,
        log: AccessLog,
        clock: Clock,
        *,
        audience: str,
    ) -> None:
        self.keys = keys
        self.revocations = revocations
        self.log = log
        self.audience = audience
        self._clock = clock
        self._lock = Lock()
        self._verified: dict[bytes, Claims] = {}
        self._state: Any = None

    def issue(
        self, user: User, seconds: float, *, by: str, scopes: frozenset[Scope] | None = None
    ) -> IssuedToken:
        """Make a token for a user and record that it was made.

        Parameters
        ----------
        seconds: how long it counts. by: whose doing it is.
        scopes: less than what the roles of the user allow; None for all of it.

        Raises
        ------
        ContractViolation: the time is not positive. AccessDenied: a scope that no role allows.
        Unavailable: the key that signs is not here.
        """
        if not seconds >= 1:
            raise ContractViolation(f"a token for {seconds} s: expected one second or more")
        for scope in sorted(scopes or ()):
            if scope not in user.scopes:
                raise missing_scope(user, scope)
        now = self._clock.now() // NANOS_PER_SECOND
        claims = Claims(
            issuer=self.keys.issuer,
            audience=(self.audience,),
            subject=user.name,
            token_id=secrets.token_hex(16),
            issued_at=now,
            not_before=now,
            expires_at=now + int(seconds),
            scopes=tuple(sorted(user.scopes if scopes is None else scopes)),
        )
        key_id, private = self.keys.signing_key()
        issued = IssuedToken(claims, sign_token(claims, key_id, private))
        self.log.record(
            AccessEvent(
                "issued",
                user.name,
                "token",
                claims.token_id,
                detail=issued_words(by, claims.expires_at * NANOS_PER_SECOND),
            )
        )
        return issued

    def recognise(self, token: str | None, policy: AccessPolicy) -> Caller:
        """Who shows a token. A signature is checked once; time, revocation and roles every time.

        Raises
        ------
        AccessDenied: each reason with its own code.
        """
        if not token:
            raise AccessDenied(
                Denial.NO_TOKEN,
                "no token: expected the header Authorization: Bearer TOKEN",
                hint="assay access login gives one",
            )
        claims = self._verified_claims(token)
        check_moment(claims, self.audience, self._clock.now())
        self.revocations.check(claims)
        user = policy.user(claims.subject)
        scopes = user.scopes
        if claims.scopes is not None:
            scopes = frozenset(scope for scope in user.scopes if scope in claims.scopes)
        return Caller(user, scopes, claims.token_id)

    def _verified_claims(self, token: str) -> Claims:
        mark = sha256(token.encode("utf-8", "replace")).digest()
        state = self.keys.state()
        with self._lock:
            # A key that was retired, or another issuer's new list, makes all be checked again.
            if state != self._state or len(self._verified) >= _REMEMBERED:
                self._verified.clear()
                self._state = state
            found = self._verified.get(mark)
        if found is None:
            parsed = parse_token(token)
            found = check_token(parsed, self.keys.find(parsed.key_id))
            with self._lock:
                if state == self._state:
                    self._verified[mark] = found
        return found
