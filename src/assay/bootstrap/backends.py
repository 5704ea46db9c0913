"""What the settings name: stores, databases, objects, spans. Nothing else imports an adapter."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ConfigurationError, Unavailable
from assay.orchestration.desk import OnlineStores
from assay.settings import Settings

if TYPE_CHECKING:
    from assay.adapters.postgres import PostgresLedger
    from assay.registry.artifacts import Artifacts
    from assay.serving.telemetry.tracing import Tracing
    from assay.storage.objects import ObjectStore

_LOG = logging.getLogger("assay.bootstrap")


def artifacts_of(root: Path, settings: Settings) -> Artifacts | None:
    """Where the settings put the files of versions; None for the registry's own folders."""
    from assay.registry.objects import ObjectArtifacts

    url = settings.registry.artifacts
    return None if url is None else ObjectArtifacts(open_objects(root, url))


def ledger_of(path: Path, settings: Settings) -> PostgresLedger | None:
    """Where the settings put the registry's log and catalogue; None for its own folder."""
    if settings.registry.catalogue == "sqlite":
        return None
    try:
        from assay.adapters.postgres import PostgresLedger
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise Unavailable(
            "registry.catalogue names PostgreSQL, whose client is not installed",
            hint="pip install 'assay[postgres]'",
        ) from error
    from assay.registry.desk_mark import FolderMark, ObjectMark
    from assay.registry.file_ledger import log_file

    root, url = settings.registry.root, settings.registry.artifacts
    files = (
        FolderMark(root, socket.gethostname())
        if url is None
        else ObjectMark(open_objects(path, url))
    )
    return PostgresLedger(
        settings.registry.catalogue, former=log_file(root), desk=settings.desk.name, mark=files
    )


def stores_of(settings: Settings, seconds: float = 5.0) -> OnlineStores:
    """What opens the online store that the settings name; a server may take ``seconds``."""
    from assay.orchestration.stores import SqliteStores

    chosen = settings.features
    if chosen.online_store == SqliteStores.kind:
        if chosen.online_retention_days is not None:
            raise ConfigurationError(
                "features.online_retention_days needs a store that forgets: sqlite keeps rows",
                hint="leave it out, or set features.online_store to a URL redis://",
            )
        return SqliteStores()
    try:
        from assay.adapters.redis.desk import RedisStores
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise Unavailable(
            "features.online_store names Redis, whose client is not installed",
            hint="pip install 'assay[redis]'",
        ) from error
    days = chosen.online_retention_days
    retention = None if days is None else int(days * 86_400 * NANOS_PER_SECOND)
    return RedisStores(chosen.online_store, retention=retention, timeout=seconds)


def open_objects(root: Path, url: str) -> ObjectStore:
    """The objects in a folder, relative to ``root``, or behind a URL that needs an adapter.

    Raises
    ------
    Unavailable: the adapter's package is not installed.
    """
    from assay.storage.objects import LocalObjects

    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        return LocalObjects(root / unquote(parts.path))
    try:
        from assay.adapters.objects import FsspecObjects
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"objects behind a URL {parts.scheme}:// need {error.name}, which is missing",
            hint="pip install 'assay[object-storage]'",
        ) from error
    return FsspecObjects(url)


def tracing_of(
    chosen: str | None, environment: Mapping[str, str], clock: Clock, version: str
) -> Tracing | None:
    """Where spans of requests go, by the setting or by the environment; None for nowhere."""
    from assay.adapters.otel.environment import wants_spans

    if not wants_spans(chosen, environment):
        return None
    try:
        from assay.adapters.otel.tracing import over_http
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        missing, hint = "spans of requests need the OpenTelemetry SDK", "pip install 'assay[otel]'"
        if chosen is None:
            # The variables may be there for every program of a machine, and for none of ours.
            _LOG.warning("%s, which is not installed: none are kept; %s", missing, hint)
            return None
        raise Unavailable(f"{missing}, which is not installed", hint=hint) from error
    return over_http(chosen, clock, version=version)
