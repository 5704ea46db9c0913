"""A desk from its folder, with the environment's overrides, and its registry's faces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from assay.bootstrap.backends import artifacts_of, ledger_of, open_objects, stores_of
from assay.domain.clock import Clock, SystemClock
from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ConfigurationError, Unavailable
from assay.orchestration.desk import AccessLayout, Desk, DeskLayout
from assay.settings import ServingSettings, Settings, load_settings

if TYPE_CHECKING:
    from assay.adapters.duckdb import SqlAnswer
    from assay.registry_api.gate import Gate


def open_desk(path: Path, *, clock: Clock | None = None) -> Desk:
    """Open the desk in ``path``, with the environment's overrides.

    Raises
    ------
    NotFound: there is no desk. ConfigurationError: a setting is wrong.
    """
    return desk_of(path, load_settings(path, os.environ), clock)


def desk_of(
    path: Path, settings: Settings, clock: Clock | None, *, store_seconds: float = 5.0
) -> Desk:
    """The desk in ``path`` by its settings; its online store may take ``store_seconds``."""
    from assay.registry.keyring import KeyRing

    private = settings.keys.private or private_key_folder(os.environ)
    keyring = KeyRing(settings.keys.public, private if private.is_dir() else None)
    layout, url = _layout(path.absolute(), settings), settings.features.manifests
    opened = None if url is None else partial(open_objects, path.absolute(), url)
    return Desk(
        layout,
        keyring,
        clock or SystemClock(),
        stores_of(settings, store_seconds),
        open_manifests=opened,
        ledger=ledger_of(path.absolute(), settings),
        artifacts=artifacts_of(path.absolute(), settings),
    )


def _layout(root: Path, settings: Settings) -> DeskLayout:
    return DeskLayout(
        root=root,
        name=settings.desk.name,
        lake=settings.lake.root,
        sources=settings.sources.config,
        features=settings.features.path,
        recipes=settings.training.path,
        runs=settings.training.runs,
        registry=settings.registry.root,
        audit=settings.registry.audit,
        active_manifests=settings.features.active,
        changelog=settings.features.changelog,
        policy=settings.delivery.policy,
        promotions=settings.delivery.promotions,
        serving_record=settings.serving.record,
        threads=settings.training.threads,
        workers=settings.features.workers,
        approval_nanos=int(settings.delivery.approval_hours * 3_600 * NANOS_PER_SECOND),
        namespace=settings.features.online_namespace or settings.desk.name,
        lock=_released_lock(),
        retention_days=(
            settings.registry.staged_days,
            settings.registry.failed_days,
            settings.registry.archived_days,
        ),
        rollbacks=settings.registry.rollbacks,
        pickles=settings.registry.pickles == "scanned",
        parity_rule=settings.parity.rule,
        parity_wasserstein=settings.parity.wasserstein,
        access=_access(settings),
    )


def _access(settings: Settings) -> AccessLayout:
    from assay.access import OtherIssuer

    given = settings.access
    if (given.other_issuer is None) != (given.other_keys is None):
        raise ConfigurationError(
            "access.other_issuer and access.other_keys belong together: expected both or neither"
        )
    other = None
    if given.other_issuer is not None and given.other_keys is not None:
        other = OtherIssuer(given.other_issuer, given.other_keys)
    private = settings.keys.private or private_key_folder(os.environ)
    return AccessLayout(
        users=given.users,
        log=given.log,
        keys=given.keys,
        private_keys=private / "tokens",
        revoked=given.revoked,
        requests=given.requests,
        issuer=given.issuer or f"assay:{settings.desk.name}",
        audience=given.audience or f"assay:{settings.desk.name}",
        token_seconds=given.token_minutes * 60,
        service_token_seconds=given.service_token_days * 86_400,
        other=other,
        server_identity=given.server_identity,
        upload_bytes=given.upload_bytes,
    )


def _released_lock() -> Path | None:
    """The lock of this release: in the wheel, or in a checkout of the source."""
    here = Path(__file__)
    for path in (
        here.parents[1] / "_requirements" / "core.lock",
        here.parents[3] / "requirements" / "core.lock",
    ):
        if path.is_file():
            return path
    return None


def pair_log(serving: ServingSettings) -> Path:
    """Where a service writes down what challengers predict."""
    return serving.predictions.parent / "shadow" / "predictions.jsonl"


def private_key_folder(environment: Mapping[str, str]) -> Path:
    """Where a user's private keys lie: ``assay/keys`` in the configuration folder."""
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "assay" / "keys"


def token_folder(environment: Mapping[str, str]) -> Path:
    """Where a user's tokens lie: ``assay/tokens`` in the configuration folder."""
    return private_key_folder(environment).with_name("tokens")


def claim_registry(path: Path) -> str:
    """Let the schema that ``registry.catalogue`` names belong to the desk in ``path``; its number.

    Raises
    ------
    ConfigurationError: the desk keeps its log in its own folder, where nothing is to be claimed.
    """
    ledger = ledger_of(path.absolute(), load_settings(path, os.environ))
    if ledger is None:
        raise ConfigurationError(
            "registry.catalogue is sqlite: log and catalogue lie in the desk's own folder, where "
            "nothing is to be claimed"
        )
    return ledger.claim()


def query_registry(desk: Desk, statement: str) -> SqlAnswer:
    """Answer one SELECT over the versions, evidence, verdicts and events of a desk's registry.

    Raises
    ------
    Unavailable: DuckDB is not installed. ConfigurationError: it is no statement.
    Refused: it would change something, or reach beyond these tables.
    """
    try:
        from assay.adapters import duckdb
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise Unavailable(
            "SQL over the registry needs DuckDB, which is not installed",
            hint="pip install 'assay[sql]'",
        ) from error
    return duckdb.query_registry(desk.registry, statement)


def open_registry_api(path: Path, *, clock: Clock | None = None) -> Gate:
    """The registry of the desk in ``path`` as a web application, not started.

    Raises
    ------
    ConfigurationError: the desk names no users. Tampered: the registry's log was cut.
    """
    from importlib.metadata import version

    from assay.registry_api import make_app

    desk = open_desk(path, clock=clock)
    if desk.access is None:
        raise ConfigurationError(
            f"no users: {desk.access_layout.users} does not exist, so nobody could be let in",
            hint="write one: users:, then for each name roles: [quant]",
        )
    desk.registry.names()
    pairs = pair_log(load_settings(path, os.environ).serving)
    return make_app(desk, version=version("assay"), pairs=pairs)
