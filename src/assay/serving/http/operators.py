"""Who operates a running service: switches it off and on, reloads it, tells it what came true.

Where a service asks for tokens, nothing of such a request is read before it is known who sends it.
How a token is told from another is not known here: an :class:`Operators` is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from assay.serving.rejections import INVALID_BODY, Rejected
from assay.serving.requests.asgi import Scope

OPERATED: Final = frozenset({"/kill", "/unkill", "/model/reload", "/feedback"})
"""The routes that change something."""
ADMITTED: Final = "assay.admitted"
"""Key of a scope: the :class:`Admitted` who sends the request, where tokens are asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to operate a service, as far as its head says.

    Attributes
    ----------
    path: one of :data:`OPERATED`. authorization: every header ``Authorization``, as it was sent.
    place: where it comes from. request_id: as in its answer.
    """

    path: str
    authorization: tuple[str, ...]
    place: str
    request_id: str


class Operators(Protocol):
    """Who may operate a service, by the tokens that they show, and the record of who did.

    None of these but :meth:`admit` may wait for anything.
    """

    def admit(self, asked: Asked) -> str:
        """The name of who asks, and may do it. Called in a thread.

        Raises
        ------
        Rejected: 401 where they have not shown who they are, 403 where they may not, 503 where it
            cannot be known now; recorded.
        """
        ...

    def another(self, asked: Asked, name: str, by: str) -> Rejected:
        """What to raise where ``name`` says that ``by`` does it; recorded."""
        ...

    def done(self, asked: Asked, name: str) -> None:
        """Record that it was done."""
        ...

    def stop(self) -> None:
        """Write what is to be recorded still."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody who may do what they asked for, by whom it was decided."""

    name: str
    asked: Asked
    operators: Operators

    def done(self) -> None:
        """Record that it was done."""
        self.operators.done(self.asked, self.name)


def asked_of(scope: Scope, request_id: bytes) -> Asked:
    """What the head of a request says."""
    client = scope.get("client")
    return Asked(
        scope["path"],
        tuple(
            value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"
        ),
        str(client[0]) if client else "a socket of this machine",
        request_id.decode("ascii"),
    )


def who_acts(admitted: Admitted | None, by: str | None) -> str:
    """Whose doing it is: whose token it is, and without tokens, whoever the body names.

    Raises
    ------
    Rejected: the body names nobody, or another than the token.
    """
    if admitted is None:
        if by is None:
            raise Rejected(
                INVALID_BODY, "by: Field required", found=["reason"], expected="Field required"
            )
        return by
    if by is not None and by != admitted.name:
        raise admitted.operators.another(admitted.asked, admitted.name, by)
    return admitted.name
