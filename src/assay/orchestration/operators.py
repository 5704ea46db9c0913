"""Who may operate a desk's running service: its users, by tokens, as at the registry."""

from __future__ import annotations

from typing import Final

from assay.access import (
    UNPROVEN,
    AccessDenied,
    AccessEvent,
    AccessPolicy,
    Denial,
    RecordWriter,
    Scope,
    bearer_token,
)
from assay.access.token_keys import file_state
from assay.errors import AssayError, ConfigurationError
from assay.orchestration.desk import Desk
from assay.serving import Rejected
from assay.serving.http.operators import Asked
from assay.serving.rejections import FORBIDDEN, UNAUTHENTICATED, UNAVAILABLE

SCOPES: Final = {
    "/kill": Scope.ROLLBACK,
    "/unkill": Scope.ROLLBACK,
    "/model/reload": Scope.ROLLBACK,
    "/feedback": Scope.WRITE,
}
"""What a token must allow. `assay kill` asks for the same; outcomes are evidence about versions."""
_DEEDS: Final = {"/kill": "kill", "/unkill": "kill --off", "/model/reload": "reload"}
"""What the record of access calls what was done. Outcomes have a record of their own."""
NOBODY_RECOGNISED: Final = "nobody_recognised"
"""The code of a refusal because users, keys or revocations cannot be read."""


class DeskOperators:
    """See :class:`assay.serving.http.operators.Operators`.

    A signature is checked once for each token; time, revocation and roles every time. Users, keys
    and revocations are read again when their files change, so what is changed counts at once.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._authenticator = desk.authenticator
        self._record = RecordWriter(desk.access_log, desk.refusals)
        self._users: tuple[tuple[int, int, int], AccessPolicy] | None = None

    def admit(self, asked: Asked) -> str:
        """The name of who asks, and may do it; raises Rejected."""
        scope, subject = SCOPES[asked.path], ""
        try:
            if len(asked.authorization) > 1:
                # Whatever stands between may look at another one of them.
                raise AccessDenied(
                    Denial.MALFORMED_TOKEN, "the header Authorization stands more than once"
                )
            token = bearer_token("".join(asked.authorization))
            caller = self._authenticator.recognise(token, self._policy())
            subject = caller.name
            caller.require(scope)
        except AccessDenied as error:
            raise self._denied(asked, subject, error) from None
        except (AssayError, OSError) as error:
            self._write(asked, "", NOBODY_RECOGNISED, str(error))
            # Whoever asks is a stranger: what stands in a file is for the record.
            raise Rejected(
                UNAVAILABLE,
                "users, keys or revocations cannot be read, so nobody can be recognised: nothing "
                "was done",
                found=NOBODY_RECOGNISED,
                expected=f"Authorization: Bearer, with a token that allows {scope}",
                hint="on the service's machine, assay access log says what is wrong, and "
                "assay kill works meanwhile",
            ) from None
        return subject

    def another(self, asked: Asked, name: str, by: str) -> Rejected:
        """The refusal of ``name``, who says that ``by`` does it."""
        return self._denied(
            asked,
            name,
            AccessDenied(
                Denial.OTHER_PERSON,
                f"by is {by!r}, the token belongs to {name}",
                hint="leave by out: the token says who it is",
            ),
        )

    def done(self, asked: Asked, name: str) -> None:
        """Record that it was done."""
        if asked.path in _DEEDS:
            event = AccessEvent("done", name, _DEEDS[asked.path], request_id=asked.request_id)
            self._record.write(event, asked.place)

    def stop(self) -> None:
        """Write what is to be recorded still."""
        self._record.stop()

    def _policy(self) -> AccessPolicy:
        path = self._desk.access_layout.users
        state, known = file_state(path), self._users
        if known is not None and known[0] == state:
            return known[1]
        policy = self._desk.access
        if policy is None:
            raise ConfigurationError(f"no users: {path} does not exist")
        self._users = (state, policy)
        return policy

    def _denied(self, asked: Asked, subject: str, error: AccessDenied) -> Rejected:
        self._write(asked, subject, error.code, error.message)
        return Rejected(
            UNAUTHENTICATED if error.code in UNPROVEN else FORBIDDEN,
            error.message,
            found=str(error.code),
            expected=f"Authorization: Bearer, with a token that allows {SCOPES[asked.path]}",
            hint=error.hint,
        )

    def _write(self, asked: Asked, subject: str, code: str, detail: str) -> None:
        event = AccessEvent("refused", subject, "POST", asked.path, code, detail, asked.request_id)
        self._record.write(event, asked.place)
