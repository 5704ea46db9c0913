"""What the registry says should be live, verified and loaded for serving.

Serving and registry do not know each other; this is the only way from one to the other. A version
is handed over after its files, its signature and the statement that promoted it were verified and
its golden rows were predicted: what :mod:`~assay.delivery.activation` does before a promotion is
done again by every process that loads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from assay.delivery.activation import Activation, activate
from assay.errors import IncompatibleVersion, Unavailable
from assay.registry import ModelRegistry
from assay.registry.deployments import DOORBELL, Deployments, deployments_of
from assay.serving import Deployed, LiveModel, Runtime

_ANOTHER = "mount or restore its folder; a server that is to follow another registry is restarted"


class RegistryLiveSource:
    """The versions in production of one registry, as :class:`assay.serving.LiveSource`.

    Parameters
    ----------
    open_registry: opens the registry; called at each look, so that a damaged registry is an error
        of that look and not of the process.
    root: the registry's folder; its ``latest`` links are the pointer.
    linked: whether it has such links, which only a registry with folders of versions has; without
        them the catalogue is asked.
    monotonic: seconds on a clock that never goes back.
    runtime: how models are run; None for one thread of the processor.
    warm_up: rows that a model predicts, alone and together, before it is handed over.
    """

    def __init__(
        self,
        open_registry: Callable[[], ModelRegistry],
        root: Path,
        *,
        monotonic: Callable[[], float],
        linked: bool = True,
        runtime: Runtime | None = None,
        warm_up: int = 0,
    ) -> None:
        self._warm_up = warm_up
        self._open_registry = open_registry
        self._latest = os.fspath(root / "latest")
        self._doorbell = root / DOORBELL
        self._monotonic = monotonic
        self._linked = linked
        self._runtime = runtime
        self._known = 0
        self._folded: dict[str, Deployments] = {}

    def pointer(self) -> object:
        """Which ``latest`` links there are: each is replaced atomically by a promotion.

        The link itself is looked at, not where it leads: from one version to another and back
        again are two changes, and the second one must not look like none.
        """
        if not self._linked:
            registry = self._open_registry()
            return {
                name: (registry.productions(name), self._deployments(registry, name).last)
                for name in registry.names()
            }
        try:
            with os.scandir(self._latest) as entries:
                links = [(item.name, item.stat(follow_symlinks=False)) for item in entries]
        except FileNotFoundError:
            return None
        return self._rung(), sorted((name, one.st_ino, one.st_ctime_ns) for name, one in links)

    def _rung(self) -> object:
        """Another thing after each change of what runs beside production."""
        try:
            found = self._doorbell.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_ctime_ns

    def deployed(self) -> tuple[Deployed, ...]:
        """Every challenger in shadow, and every canary, as the log says."""
        registry = self._opened()
        found: list[Deployed] = []
        for name in registry.names():
            now = self._deployments(registry, name)
            found += [
                Deployed(name, one.version, one.digest, one.seq) for one in now.shadows.values()
                if now.canary is None or now.canary.version != one.version
            ]  # fmt: skip
            if now.canary is not None:
                one = now.canary
                found.append(
                    Deployed(name, one.version, one.digest, one.revision, one.share, one.salt)
                )
        return tuple(found)

    def load_version(self, name: str, version: str) -> LiveModel:
        """A challenger, its bytes and its registration verified.

        Raises
        ------
        NotFound: there is no such version. Tampered: a file does not verify.
        IncompatibleVersion: it does not load or predict.
        """
        registry = self._open_registry()
        return _live(registry, self._activated(registry, name, version))

    def wanted(self) -> Mapping[str, str]:
        """Name -> digest of every version in production that is a model."""
        registry = self._opened()
        champions = {name: registry.current(name) for name in registry.names()}
        return {
            name: record.digest
            for name, record in champions.items()
            if record is not None and registry.is_model(record)
        }

    def load(self, name: str) -> LiveModel:
        """The version of ``name`` in production, its bytes and its promotion verified.

        Raises
        ------
        NotFound: nothing is in production. Tampered: a file or the promotion does not verify.
        IncompatibleVersion: it does not load or predict.
        """
        registry = self._opened()
        record = registry.resolve(name)
        registry.verify_promoted(name, record.version)
        ready = self._activated(registry, name, record.version)
        if ready.version.digest != record.digest:
            raise IncompatibleVersion(f"{name} {record.version} is not the version in production")
        return _live(registry, ready)

    def _deployments(self, registry: ModelRegistry, name: str) -> Deployments:
        """Read on from the last answer: a log of years is not gone through at each look."""
        found = deployments_of(registry, name, self._folded.get(name))
        self._folded[name] = found
        return found

    def _opened(self) -> ModelRegistry:
        """The registry, unless it is another one than before.

        A file system that is not mounted any more leaves an empty folder, and a registry that is
        made there has nothing in production: not what should be followed.

        Raises
        ------
        Unavailable: the folder is gone, or its log ends before what was seen of it.
        """
        if self._known and self._linked and not Path(self._latest).is_dir():
            raise Unavailable(
                f"{self._latest} is gone, and the registry's log had come to entry {self._known}",
                hint=_ANOTHER,
            )
        registry = self._open_registry()
        last = registry.journal.ledger.head().seq
        if last < self._known:
            raise Unavailable(
                f"the registry's log ends at entry {last}, and had come to entry {self._known}",
                hint=_ANOTHER,
            )
        self._known = last
        return registry

    def _activated(self, registry: ModelRegistry, name: str, version: str) -> Activation:
        """A version as it will be run here: a challenger is compared only with its equals."""
        ready = activate(registry, name, version, monotonic=self._monotonic, runtime=self._runtime)
        if self._warm_up:
            ready.loaded.warm_up(self._warm_up)
        return ready


def _live(registry: ModelRegistry, ready: Activation) -> LiveModel:
    version = ready.version
    return LiveModel(
        name=version.name,
        version=version.version,
        digest=version.digest,
        kind=version.metadata.kind,
        manifest=version.metadata.manifest_hash,
        model=ready.loaded,
        loaded_at=registry.clock.now(),
    )
