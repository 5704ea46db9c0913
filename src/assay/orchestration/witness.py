"""What ties a service's record to the registry: the end of the log that it saw, and its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from assay.errors import AssayError
from assay.registry import KeyRing, ModelRegistry
from assay.registry.keyring import SERVICE
from assay.registry.signing import Statement

SUBJECT: Final = "serving.jsonl"


class RegistryWitness:
    """See :class:`assay.serving.service_record.Witness`.

    Neither a registry that cannot be read nor a key that was revoked stops a service from writing
    down what it does: the line then says less, and whoever reads it sees that.

    Parameters
    ----------
    server: the machine, which each signature names. identity: whose key signs; None for nobody's.
    """

    def __init__(
        self,
        open_registry: Callable[[], ModelRegistry],
        keyring: KeyRing,
        server: str,
        identity: str | None,
    ) -> None:
        self._open_registry = open_registry
        self._keyring = keyring
        self._server = server
        self._identity = identity

    def log_head(self) -> Mapping[str, Any] | None:
        """The last entry of the registry's log."""
        try:
            last = self._open_registry().latest(1)
        except (AssayError, OSError):
            return None
        return {"seq": last[-1].seq, "hash": last[-1].hash} if last else None

    def sign(self, digest: str) -> Mapping[str, Any] | None:
        """A statement about one line."""
        if self._identity is None:
            return None
        statement = Statement(SERVICE, {SUBJECT: digest}, {"server": self._server})
        try:
            return self._keyring.sign(self._identity, statement).to_json()
        except (AssayError, OSError):
            return None
