"""``active_manifest.yaml``: which manifest of each view is in use, for servers and for people.

The registry's log is the truth; the file follows from it and says how far. It is replaced
atomically, after the entry was appended: a process that is killed between the two leaves a file
that is behind, and whoever opens it next makes it follow. What the file says must be what the log
said then; anything else was written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from assay.delivery.manifests.state import InUse, ViewState, all_states
from assay.domain.instants import parse
from assay.errors import AssayError, NotFound, Tampered, Unavailable
from assay.registry import ModelRegistry
from assay.registry.reading import FEATURES
from assay.storage.documents import read_mapping
from assay.storage.files import write_atomic
from assay.storage.locks import FileLock

_HEADER = """\
# Which feature manifest of each view is in use. Written by `assay features promote` and
# `assay features rollback-manifest` from the registry's log, entry by entry. A change by hand is
# found and refused; if the file is lost, either command writes it again.
"""


@dataclass(frozen=True, slots=True)
class ViewInUse:
    """What a server has to know about a view; see :class:`ViewState` for the words."""

    active: InUse | None
    canary: InUse | None
    line: tuple[str, ...]

    def taken_by(self, *, canary: bool) -> InUse | None:
        """What a server reads, by whether it is the canary."""
        return self.canary or self.active if canary else self.active


class ActiveManifests:
    """The file, and the log that it follows from.

    Parameters
    ----------
    path: ``configs/features/active_manifest.yaml`` of a desk.
    open_registry: opens the registry; called when the log is asked.
    """

    def __init__(self, path: Path, open_registry: Callable[[], ModelRegistry]) -> None:
        self.path = path
        self._open_registry = open_registry

    def states(self) -> Mapping[str, ViewState]:
        """Where every view stands, as the log says."""
        return all_states(self._open_registry().manifest_events(), f"{FEATURES}/")

    def state(self, view: str) -> ViewState:
        """Where one view stands, as the log says."""
        return self.states().get(view, ViewState(view))

    def read(self) -> Mapping[str, ViewInUse]:
        """What the file says, by view; without the log, so that a server can ask often.

        Raises
        ------
        Tampered: it cannot be read.
        """
        document = self._document()
        try:
            return {
                str(view): ViewInUse(
                    _in_use(body["active"]), _in_use(body["canary"]), tuple(body["line"])
                )
                for view, body in document["views"].items()
            }
        except (KeyError, TypeError, AttributeError, AssayError) as error:
            raise self._tampered(f"cannot be read: {error}") from None

    def stamp(self) -> object:
        """Something that is another thing once the file was replaced."""
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size

    def follow(self) -> Mapping[str, ViewState]:
        """Bring the file up to the log, if it is behind; where every view stands.

        Raises
        ------
        Tampered: the file says what the log never said.
        """
        registry = self._open_registry()
        states, text = self._behind(registry)
        if text is None:
            return states
        # In the registry's folder: this one is under version control.
        with FileLock(registry.root / "active_manifest.lock"):
            # The log is read again: the last to write has seen every entry.
            states, text = self._behind(registry)
            if text is not None:
                write_atomic(self.path, text.encode())
            return states

    def _behind(self, registry: ModelRegistry) -> tuple[Mapping[str, ViewState], str | None]:
        """Where every view stands, and what the file should hold if it holds something else."""
        entries = registry.manifest_events()
        prefix = f"{FEATURES}/"
        states = all_states(entries, prefix)
        wanted = _written(states)
        found = self._document()
        if found == wanted:
            return states, None
        upto = found.get("entry")
        said = [entry for entry in entries if isinstance(upto, int) and entry.seq <= upto]
        if found != _written(all_states(said, prefix)):
            raise self._tampered("is not what the log says")
        return states, _HEADER + yaml.safe_dump(wanted, sort_keys=False, width=200)

    def publish(self, what: str) -> None:
        """Bring the file up to the log after an event; ``what`` has happened, whatever comes of it.

        Raises
        ------
        Unavailable: the file cannot be written; the message says that the event is recorded.
        """
        try:
            self.follow()
        except (AssayError, OSError) as error:
            text = error.message if isinstance(error, AssayError) else str(error)
            raise Unavailable(
                f"{what} IS recorded, but {self.path} could not be written: {text}",
                hint="make it writable; assay features manifests writes it from the log",
            ) from error

    def _document(self) -> dict[str, Any]:
        try:
            return read_mapping(self.path)
        except NotFound:
            return _written({})

    def _tampered(self, problem: str) -> Tampered:
        return Tampered(
            f"{self.path} {problem}: it is changed by promotions and rollbacks only",
            hint=f"see git diff; or remove it: rm '{self.path}', and "
            "assay features manifests writes it again from the log",
        )


def _written(states: Mapping[str, ViewState]) -> dict[str, Any]:
    """The document that says where the views stand, those left out that never were in use."""
    used = {view: one.to_json() for view, one in states.items() if one.active or one.canary}
    last = max((one.last for one in states.values()), default=0)
    return {"entry": last, "views": used}


def _in_use(body: Mapping[str, Any] | None) -> InUse | None:
    return None if body is None else InUse(**{**body, "since": parse(body["since"])})
