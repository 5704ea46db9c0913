"""What ties a service's record to the registry: the end of the log that it saw, and its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from assay.errors import AssayError
from assay.registry import KeyRing, LogHead
from assay.registry.keyring import SERVICE
from assay.registry.signing import Statement

SUBJECT: Final = "serving.jsonl"


class RegistryWitness:
    """See :class:`assay.serving.prediction.service_record.Witness`.

    Neither a registry that cannot be read nor a key that was revoked stops a service from writing
    down what it does: the line then says less, and whoever reads it sees that.

    Parameters
    ----------
    head: the end of the registry's log. It opens no registry, which could wait for whoever holds
        the lock: a server that starts must not.
    server: the machine, which each signature names. identity: whose key signs; None for nobody's.
    """

    def __init__(
        self,
        head: Callable[[], LogHead],
        keyring: KeyRing,
        server: str,
        identity: str | None,
    ) -> None:
        self._head = head
        self._keyring = keyring
        self._server = server
        self._identity = identity

    def log_head(self) -> Mapping[str, Any] | None:
        """The last entry of the registry's log."""
        try:
            last = self._head()
        except (AssayError, OSError):
            return None
        return {"seq": last.seq, "hash": last.hash} if last.seq else None

    def sign(self, digest: str) -> Mapping[str, Any] | None:
        """A statement about one line."""
        if self._identity is None:
            return None
        statement = Statement(SERVICE, {SUBJECT: digest}, {"server": self._server})
        try:
            return self._keyring.sign(self._identity, statement).to_json()
        except (AssayError, OSError):
            return None
