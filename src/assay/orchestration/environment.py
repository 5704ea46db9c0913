"""What computes: packages of this process, the lock they were meant to come from, and both later.

A training run records its environment; a server's can be compared with it, package by package. The
lock is a file of pinned versions with hashes (``name==version``, as pip and uv write them): the
desk's own ``requirements.lock``, or the one that this release of Assay was tested with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import sha256_hex
from assay.domain.verdicts import Verdict
from assay.errors import ConfigurationError
from assay.orchestration.desk import Desk
from assay.registry import capture_environment

OWN_LOCK: Final = "requirements.lock"
"""The name of a desk's own lock, in its folder."""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_MACHINE: Final = ("python", "implementation", "system", "machine")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file: its SHA-256, its pins by name (several where markers choose), whose it is."""

    path: Path
    sha256: str
    pins: Mapping[str, frozenset[str]]
    own: bool

    @classmethod
    def read(cls, path: Path, *, own: bool) -> Lock:
        """Read a lock.

        Raises
        ------
        ConfigurationError: the file pins nothing.
        """
        data = path.read_bytes()
        pins: dict[str, set[str]] = {}
        for name, version in _PIN.findall(data.decode("utf-8", errors="replace")):
            pins.setdefault(_normal(name), set()).add(version)
        if not pins:
            raise ConfigurationError(
                f"lock {path} pins no package: expected lines such as numpy==2.4.6"
            )
        found = {name: frozenset(versions) for name, versions in pins.items()}
        return cls(path, sha256_hex(data), found, own)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that differs: in training and now, or as locked and as installed.

    None where it was, or is, not there.
    """

    name: str
    before: str | None
    now: str | None

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "before": self.before, "now": self.now}


@dataclass(frozen=True, slots=True)
class EnvironmentCheck:
    """A recorded environment against this process.

    Attributes
    ----------
    verdict: FAIL when anything that was recorded differs, or a package is not as the desk's own
        lock says; INDETERMINATE when no lock was recorded or there is none now.
    machine: Python, its implementation, the operating system, the processor's architecture.
    packages: those that can change a model's numbers.
    lock: SHA-256 of the lock, recorded and now.
    not_locked: installed packages that the present lock pins to another version.
    own: whether the present lock is the desk's.
    """

    verdict: Verdict
    machine: tuple[Mismatch, ...]
    packages: tuple[Mismatch, ...]
    lock: Mismatch
    not_locked: tuple[Mismatch, ...]
    own: bool

    @property
    def findings(self) -> tuple[str, ...]:
        """What differs, one sentence each; what is merely noted comes last."""
        said = [
            f"{one.name}: {one.before or 'absent'} in training, {one.now or 'absent'} now"
            for one in (*self.machine, *self.packages)
        ]
        lock = self.lock
        if lock.before is None or lock.now is None:
            where = "in training" if lock.before is None else "now"
            said.append(f"no lock was found {where}, so the locks cannot be compared")
        elif lock.before != lock.now:
            said.append(f"lock: SHA-256 {lock.before[:16]} in training, {lock.now[:16]} now")
        whose = "the desk's lock" if self.own else "the lock of this release (a note, no breach)"
        said += [
            f"{one.name}: {one.now} installed, {one.before} in {whose}" for one in self.not_locked
        ]
        return tuple(said)

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": str(self.verdict),
            "machine": [one.to_json() for one in self.machine],
            "packages": [one.to_json() for one in self.packages],
            "lock": self.lock.to_json(),
            "not_locked": [one.to_json() for one in self.not_locked],
            "own_lock": self.own,
            "findings": list(self.findings),
        }


def desk_lock(desk: Desk) -> Lock | None:
    """The desk's own lock, otherwise that of this release; None where there is neither."""
    own = desk.layout.root / OWN_LOCK
    if own.is_file():
        return Lock.read(own, own=True)
    released = desk.layout.lock
    return None if released is None else Lock.read(released, own=False)


def environment_of(desk: Desk) -> dict[str, Any]:
    """The environment of this process with the SHA-256 of its lock, as training runs record it."""
    lock = desk_lock(desk)
    return {**capture_environment(), "lock_sha256": None if lock is None else lock.sha256}


def check_environment(recorded: Mapping[str, Any], lock: Lock | None) -> EnvironmentCheck:
    """Compare a recorded environment with this process, and this process with its lock."""
    current = capture_environment()
    machine = _mismatches(_MACHINE, recorded, current)
    before, now = recorded.get("packages", {}), current["packages"]
    packages = _mismatches(sorted({*before, *now}), before, now)
    locks = Mismatch("lock", recorded.get("lock_sha256"), None if lock is None else lock.sha256)
    not_locked = () if lock is None else _not_as_locked(lock)
    own = lock is not None and lock.own
    known = locks.before is not None and locks.now is not None
    if machine or packages or (known and locks.before != locks.now) or (own and not_locked):
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.PASS if known else Verdict.INDETERMINATE
    return EnvironmentCheck(verdict, machine, packages, locks, not_locked, own)


def _mismatches(
    names: Iterable[str], before: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[Mismatch, ...]:
    return tuple(
        Mismatch(name, before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    )


def _not_as_locked(lock: Lock) -> tuple[Mismatch, ...]:
    installed = capture_environment(sorted(lock.pins))["packages"]
    return tuple(
        Mismatch(name, " or ".join(sorted(lock.pins[name])), version)
        for name, version in sorted(installed.items())
        if version not in lock.pins[name]
    )


def _normal(name: str) -> str:
    # PEP 503: the same package may be written Foo_Bar and foo-bar.
    return re.sub(r"[-_.]+", "-", name).lower()
