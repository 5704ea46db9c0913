"""A desk as the steps see it: where things are, and the objects that do the work.

``bootstrap`` makes one from the settings. Views, recipes and the policy are read when a step first
asks for them, so that a command which only reads the registry starts quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from assay.domain.clock import Clock
from assay.errors import ConfigurationError, NotFound, did_you_mean

if TYPE_CHECKING:
    from assay.access import (
        AccessLog,
        AccessPolicy,
        Authenticator,
        OtherIssuer,
        RepeatedRefusals,
        Scope,
    )
    from assay.delivery.manifests import ActiveManifests
    from assay.delivery.policy import Policy
    from assay.features import FeatureView, ManifestCatalogue, RequestView
    from assay.features.online import OnlineStore
    from assay.lake import Lake
    from assay.orchestration.sources import SourcesConfig
    from assay.registry import Ledger, LogHead, LogReport, ModelRegistry
    from assay.registry.artifacts import Artifacts
    from assay.registry.backup import Backup, BackupStore, Restored
    from assay.registry.keyring import KeyRing
    from assay.registry.retention import Retention
    from assay.storage.objects import ObjectStore
    from assay.training.recipe import Recipe


@dataclass(frozen=True)
class AccessLayout:
    """Where users, tokens and the record of access lie; every path is absolute.

    ``token_seconds`` and ``service_token_seconds`` are how long tokens count; ``server_identity``
    signs what is registered over HTTP, ``upload_bytes`` bounds it.
    """

    users: Path
    log: Path
    keys: Path
    private_keys: Path
    revoked: Path
    requests: Path
    issuer: str
    audience: str
    token_seconds: float
    service_token_seconds: float
    other: OtherIssuer | None
    server_identity: str | None
    upload_bytes: int


@dataclass(frozen=True)
class DeskLayout:
    """Where the parts of a desk lie; every path is absolute.

    ``namespace`` keeps its rows apart on a server that several desks share; ``threads`` bounds a
    training run, ``workers`` the offline driver; ``approval_nanos`` is how long an approval is good
    for; ``retention_days`` is how long the files of staged, failed and archived versions stay, and
    ``rollbacks`` how many earlier ones of each model stay in any case; ``pickles`` says whether
    versions may hold some; ``lock`` pins the packages that this release was tested with.
    ``parity_rule`` and ``parity_wasserstein`` are the policy of parity.
    """

    root: Path
    name: str
    lake: Path
    sources: Path
    features: Path
    recipes: Path
    runs: Path
    registry: Path
    audit: Path
    policy: Path
    promotions: Path
    serving_record: Path
    active_manifests: Path
    changelog: Path
    threads: int
    workers: int
    approval_nanos: int
    namespace: str
    retention_days: tuple[int, int, int] = (180, 180, 730)
    rollbacks: int = 3
    pickles: bool = False
    lock: Path | None = None
    parity_rule: str = "bits"
    parity_wasserstein: float = 0.02
    access: AccessLayout | None = None


class OnlineStores(Protocol):
    """Opens the online store of a desk; connects to nothing before that.

    Two desks have one store when they agree on where it is: a file by the folder of the lake, a
    server by the namespace.
    """

    @property
    def kind(self) -> str:
        """What kind of store it is, such as ``sqlite``."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether reading may wait for another process or machine."""
        ...

    def open(self, desk: Desk, *, max_versions: int) -> OnlineStore:
        """The store, made where there is none yet.

        Raises
        ------
        Unavailable: it does not answer. ConfigurationError: it cannot be what the settings say.
        """
        ...

    def find(self, desk: Desk) -> OnlineStore | None:
        """The store to read from, None where nothing was ever kept; raises as :meth:`open` does."""
        ...

    def forget(self, desk: Desk) -> None:
        """Remove every row; only a replay, whose rows nobody serves, may ask for it."""
        ...


class Desk:
    """One desk project, opened.

    Parameters
    ----------
    layout: where things are.
    keyring: who may sign, and the keys that this user holds.
    clock: where "now" comes from.
    stores: opens its online store.
    open_manifests: opens the objects that manifests are published to; by default they are files in
        the folder ``manifests`` of the lake.
    ledger: where the registry's log and catalogue are; by default files in the registry's folder.
    artifacts: where the files of versions are; by default folders there.
    """

    def __init__(
        self,
        layout: DeskLayout,
        keyring: KeyRing,
        clock: Clock,
        stores: OnlineStores,
        *,
        open_manifests: Callable[[], ObjectStore] | None = None,
        ledger: Ledger | None = None,
        artifacts: Artifacts | None = None,
    ) -> None:
        self.layout = layout
        self.keyring = keyring
        self.clock = clock
        self.stores = stores
        self._open_manifests = open_manifests
        self.ledger = ledger
        self.artifacts = artifacts

    @property
    def access(self) -> AccessPolicy | None:
        """The desk's users, read anew each time; None where it names none."""
        from assay.access import load_access

        return None if self.layout.access is None else load_access(self.layout.access.users)

    @property
    def access_layout(self) -> AccessLayout:
        """Where users and tokens lie.

        Raises
        ------
        ConfigurationError: the desk was opened without.
        """
        if self.layout.access is None:
            raise ConfigurationError("this desk was opened without settings of access")
        return self.layout.access

    @cached_property
    def access_log(self) -> AccessLog:
        """The record of who asked for what."""
        from assay.access import AccessLog

        return AccessLog(self.access_layout.log, self.clock)

    @cached_property
    def refusals(self) -> RepeatedRefusals:
        """Where refusals of strangers go, in a bounded number of lines."""
        from assay.access import RepeatedRefusals

        return RepeatedRefusals(self.access_log, self.clock)

    @cached_property
    def authenticator(self) -> Authenticator:
        """Issues tokens and recognises them."""
        from assay.access import Authenticator, Revocations, TokenKeys

        layout = self.access_layout
        return Authenticator(
            TokenKeys(layout.keys, layout.private_keys, layout.issuer, layout.other),
            Revocations(layout.revoked),
            self.access_log,
            self.clock,
            audience=layout.audience,
        )

    @property
    def names_users(self) -> bool:
        """Whether the desk has a list of users, which may be wrong."""
        return self.layout.access is not None and self.layout.access.users.exists()

    def require(self, identity: str, scope: Scope, *, action: str, resource: str) -> str | None:
        """Let somebody at this machine do something, who holds the key of ``identity``.

        Where the list of users cannot be read, whoever may sign promotions can still roll back:
        what must work at night does not depend on a file that somebody has just edited. Returned
        is then why roles were not asked, otherwise None.

        Raises
        ------
        AccessDenied: the key is not here, or no role of its owner allows it.
        ConfigurationError: the list of users cannot be read.
        """
        from assay.access import Scope, require_here

        policy, unreadable = None, None
        try:
            policy = self.access
        except ConfigurationError as error:
            if scope is not Scope.ROLLBACK:
                raise
            unreadable = error.message
        require_here(
            self.keyring,
            policy,
            identity,
            scope,
            action=action,
            resource=resource,
            clock=self.clock,
            log=self.access_log,
            unreadable=unreadable,
        )
        return unreadable

    @cached_property
    def lake(self) -> Lake:
        """Bronze, silver, gold and quarantine."""
        from assay.lake import Lake

        return Lake(self.layout.lake, self.clock)

    @cached_property
    def manifests(self) -> ManifestCatalogue:
        """The published manifests."""
        from assay.features.definition.catalogue import ManifestCatalogue
        from assay.storage.objects import LocalObjects

        own = LocalObjects(self.layout.lake / "manifests")
        if self._open_manifests is None:
            return ManifestCatalogue(own, self.clock)
        return ManifestCatalogue(self._open_manifests(), self.clock, copies=own)

    @cached_property
    def active_manifests(self) -> ActiveManifests:
        """Which manifest of each view is in use."""
        from assay.delivery.manifests.active import ActiveManifests

        return ActiveManifests(self.layout.active_manifests, lambda: self.registry)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The registry; opening it replays what a crash left undone."""
        return self.open_registry()

    @property
    def has_links(self) -> bool:
        """Whether the registry's folder has a link to each version in production."""
        return self.artifacts is None

    def open_registry(self) -> ModelRegistry:
        """The registry opened anew: that brings it up to date after another process's crash."""
        from assay.registry import ModelRegistry

        return ModelRegistry(
            self.layout.registry,
            self.keyring,
            self.clock,
            audit_path=self.layout.audit,
            ledger=self.ledger,
            artifacts=self.artifacts,
            configuration=self._configuration,
        )

    def _configuration(self) -> Mapping[str, str]:
        from assay.orchestration.configuration_files import configuration_digests

        return configuration_digests(self.layout.root)

    def rebuilt_registry(self) -> ModelRegistry:
        """The registry over a new catalogue, also where the old one is too damaged to be opened."""
        from assay.registry import ModelRegistry

        return ModelRegistry.rebuilt(
            self.layout.registry,
            self.keyring,
            self.clock,
            audit_path=self.layout.audit,
            ledger=self.ledger,
            artifacts=self.artifacts,
        )

    def adopt_log(self, source: Path | None = None) -> LogHead:
        """Take over the registry's log from a file, into a ledger that has none.

        By default from the file in which a registry keeps its log, into a database; and from the
        audit export, back into such a file.
        """
        from assay.registry import FileLedger, adopt_log, log_file

        former = self.layout.audit if self.ledger is None else log_file(self.layout.registry)
        return adopt_log(
            self.layout.registry,
            self.keyring,
            self.clock,
            source or former,
            audit_path=self.layout.audit,
            ledger=self.ledger or FileLedger(self.layout.registry),
            artifacts=self.artifacts,
        )

    def verify_log(self, known: Iterable[tuple[int, str, str]] = ()) -> LogReport:
        """Verify the registry's log, also where the registry refuses to open on it.

        Parameters
        ----------
        known: further heads of the log, as others saw them: entry number, hash, and where that
            is written.
        """
        from assay.registry import verify_registry

        return verify_registry(
            self.layout.registry,
            self.keyring,
            self.layout.audit,
            self.ledger,
            self.artifacts,
            known=known,
        )

    @property
    def retention(self) -> Retention:
        """How long the files of versions stay."""
        from assay.registry.retention import Retention

        staged, failed, archived = self.layout.retention_days
        return Retention(staged, failed, archived, self.layout.rollbacks)

    def restore_registry(self, store: BackupStore, backup: Backup) -> Restored:
        """Make the registry from a backup, where the desk has none."""
        return store.restore(
            backup,
            self.layout.registry,
            self.keyring,
            self.clock,
            audit_path=self.layout.audit,
            ledger=self.ledger,
            artifacts=self.artifacts,
        )

    @cached_property
    def sources(self) -> SourcesConfig:
        """What is ingested, and the rule that admits an instrument on a date."""
        from assay.orchestration.sources import load_sources

        return load_sources(self.layout.sources)

    @cached_property
    def policy(self) -> Policy:
        """The promotion policy."""
        from assay.delivery.policy_files import load_policy

        return load_policy(self.layout.policy)

    @cached_property
    def views(self) -> Mapping[str, FeatureView]:
        """The desk's feature views by name."""
        from assay.features.definition.declarations import load_views

        return {view.name: view for view in load_views(self.layout.features)}

    @cached_property
    def request_views(self) -> Mapping[str, RequestView]:
        """The desk's request views by name; there may be none."""
        from assay.features.definition.declarations import load_request_views

        return {view.name: view for view in load_request_views(self.layout.features)}

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        """The desk's training recipes by name."""
        from assay.training.recipe import load_recipes

        return {recipe.name: recipe for recipe in load_recipes(self.layout.recipes)}

    def view(self, name: str) -> FeatureView:
        """One view by name."""
        if name not in self.views and name in self.request_views:
            stored = ", ".join(view.name for view in self.request_views[name].stored)
            raise NotFound(
                f"{name!r} is a request view, expected a view",
                hint=f"the views that it reads: {stored or 'none'}",
            )
        if name not in self.views:
            raise NotFound(
                f"no view {name!r} in {self.layout.features}", hint=did_you_mean(name, self.views)
            )
        return self.views[name]

    def request_view(self, name: str) -> RequestView:
        """One request view by name."""
        if name not in self.request_views:
            raise NotFound(
                f"no request view {name!r} in {self.layout.features}",
                hint=did_you_mean(name, self.request_views) if self.request_views else None,
            )
        return self.request_views[name]

    def recipe(self, name: str) -> Recipe:
        """One recipe by name."""
        if name not in self.recipes:
            raise NotFound(
                f"no recipe {name!r} in {self.layout.recipes}",
                hint=did_you_mean(name, self.recipes),
            )
        return self.recipes[name]
