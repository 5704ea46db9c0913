"""A proof of who one is, exchanged for a token: here, or at a registry server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assay.access import AccessDenied, AccessEvent, Denial
from assay.access.proof import Proof
from assay.errors import ConfigurationError, Unavailable
from assay.orchestration.desk import Desk

if TYPE_CHECKING:
    from assay.registry.signing import Envelope

_TIMEOUT_SECONDS = 30
_MOST_BYTES = 65_536


def log_in(desk: Desk, proof: Proof) -> tuple[str, int]:
    """A token for whoever made a proof that held, and the second of the epoch when it ends.

    Raises
    ------
    AccessDenied: the identity belongs to no user; recorded. ConfigurationError: the desk names no
    users. Unavailable: the key that signs tokens is not here.
    """
    policy = desk.access
    if policy is None:
        raise ConfigurationError("this desk names no users, so nobody can log in")
    try:
        user = policy.user_of(proof.identity)
    except AccessDenied as error:
        desk.access_log.record(
            AccessEvent("refused", proof.identity, "login", "", error.code, error.message)
        )
        raise
    issued = desk.authenticator.issue(user, desk.access_layout.token_seconds, by=proof.identity)
    return issued.text, issued.claims.expires_at


def ask_server(url: str, envelope: Envelope) -> tuple[str, int]:
    """The same from a registry server.

    Raises
    ------
    ConfigurationError: no URL of a server. AccessDenied: it refuses. Unavailable: no answer.
    """
    parts = urlsplit(url)
    # A token that travels in the open is anybody's.
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ConfigurationError(
            f"--server {url}: expected https://, or http:// to this machine alone"
        )
    if parts.scheme not in {"http", "https"}:
        raise ConfigurationError(f"--server {url}: expected https://HOST[:PORT]")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        url.rstrip("/") + "/api/v1/login",
        data=json.dumps({"envelope": envelope.to_json()}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            document = json.loads(answer.read(_MOST_BYTES))
        return str(document["token"]), int(document["expires_at_seconds"])
    except urllib.error.HTTPError as error:
        try:
            problem = json.loads(error.read(_MOST_BYTES))
            code, detail = Denial(problem["code"]), str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            raise Unavailable(f"{url} answers {error.code} and not with a reason") from None
        raise AccessDenied(code, detail) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{url} does not answer as a registry server: {error}") from None
