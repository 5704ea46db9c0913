"""From settings to wired objects. The only module that touches the real clock and the environment.

Backends other than the embedded ones are chosen here too: nothing else imports an adapter.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml

from assay.domain.clock import Clock, SystemClock
from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ConfigurationError, Conflict, ContractViolation, Unavailable
from assay.orchestration.desk import AccessLayout, Desk, DeskLayout, OnlineStores
from assay.settings import FILE, InferenceSettings, ServingSettings, Settings, load_settings

if TYPE_CHECKING:
    from assay.adapters.duckdb import SqlAnswer
    from assay.adapters.postgres import PostgresLedger
    from assay.delivery.canary import CanaryPolicy
    from assay.delivery.controller import RetrainConfig
    from assay.orchestration.challengers import ChallengerFiles
    from assay.registry.artifacts import Artifacts
    from assay.registry.keyring import KeyRing
    from assay.registry_api.gate import Gate
    from assay.serving import KillSwitch, Predictor
    from assay.serving.service import Service
    from assay.serving.tracing import Tracing
    from assay.storage.objects import ObjectStore

_LOG = logging.getLogger("assay.bootstrap")
_DESK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
_USERS_HEAD = """\
# Who works here. Roles: quant, mlops, sre, auditor, admin; `assay access users` says what each
# allows. One person's other keys go under `identities`; a service has `kind: service` and `owner`.
"""
_NOT_COPIED = ("data", "artifacts", "observability", "reports", "__pycache__", "keys")


@dataclass(frozen=True, slots=True)
class Member:
    """A person of a desk, what their key may sign, and their roles; all roles by default."""

    identity: str
    may_sign: tuple[str, ...]
    roles: tuple[str, ...] = ("quant", "mlops", "sre", "admin")


def open_desk(path: Path, *, clock: Clock | None = None) -> Desk:
    """Open the desk in ``path``, with the environment's overrides.

    Raises
    ------
    NotFound: there is no desk. ConfigurationError: a setting is wrong.
    """
    return _desk(path, load_settings(path, os.environ), clock)


def open_service(
    path: Path,
    *,
    champion: str | None = None,
    canary: bool = False,
    killed: bool = False,
    board: Path | None = None,
    clock: Clock | None = None,
) -> Service:
    """The prediction service of the desk in ``path``, loaded and verified, not started.

    Parameters
    ----------
    champion: the default model instead of ``serving.champion``.
    canary: read the manifests that the canary takes, as with ``serving.canary``.
    killed: begin with the kill switch on.
    board: the folder in which the processes of one service know of each other; None for the only
        one.

    Raises
    ------
    NotFound: nothing is in production. IntegrityError: something does not verify, load or fit.
    Unavailable: the identity in ``serving.identity`` cannot sign here.
    """
    from importlib.metadata import version

    from assay.orchestration.features_in_use import DeskFeatures
    from assay.orchestration.service import ServingLayout, make_service
    from assay.serving import Limits, Runtime
    from assay.serving.pair_log import Kept
    from assay.serving.service import Operation
    from assay.serving.worker_board import WorkerBoard

    settings = load_settings(path, os.environ)
    serving, inference = settings.serving, settings.inference
    _check_processors(inference)
    config, policy = _delivery_rules(settings)
    layout = ServingLayout(
        champion=champion or serving.champion,
        limits=Limits(serving.require_manifest, serving.refuse_stale, serving.batch_rows),
        operation=Operation(
            body_bytes=serving.body_bytes,
            queue=serving.queue,
            feature_log_rate=serving.feature_log_rate,
            poll_seconds=serving.poll_seconds,
            deadline_ms=serving.deadline_ms,
            store_threads=serving.store_threads,
            kill_policy=serving.kill_policy,
            p99_ms=inference.p99_ms_target,
            capacity=serving.capacity,
            connections=serving.connections,
            instance=os.urandom(5).hex(),
            kept=Kept(min(2**26, serving.pair_bytes // 8), serving.pair_bytes, serving.pair_days),
        ),
        warm_up=inference.batch_size if inference.model_warmup else 0,
        kill_file=serving.kill_file,
        record=serving.record,
        predictions=serving.predictions,
        feedback=serving.feedback,
        runtime=Runtime(serving.model_threads, inference.gpu_enabled, serving.native_batches),
        canary_policy=policy,
        ends_canaries=config.auto_rollback_enabled,
    )
    # A store that takes longer than a request may take is no help to it.
    patience = min(serving.deadline_ms / 1e3, 5.0)
    desk = _desk(path, settings, clock, store_seconds=patience)
    sources = DeskFeatures(desk, canary=canary or serving.canary)
    return make_service(
        desk,
        layout,
        sources,
        killed=killed,
        process=os.getpid(),
        server=socket.gethostname(),
        identity=_service_identity(serving.identity, desk.keyring),
        board=None if board is None else WorkerBoard(board, os.getpid()),
        version=version("assay"),
        tracing=_tracing(serving.traces, os.environ, desk.clock, version("assay")),
    )


@contextmanager
def open_predictor(
    path: Path,
    *,
    champion: str | None = None,
    canary: bool = False,
    clock: Clock | None = None,
) -> Iterator[Predictor]:
    """The models in production of the desk in ``path``, to predict with inside this process.

    Within the block they follow the registry and the kill switch as a server does, and the record
    of the service says so. What is predicted is not written down: whoever asks has it.
    ``AsyncPredictor(predictor)`` is its face for event loops.

    Parameters
    ----------
    champion, canary, clock: as in :func:`open_service`.

    Raises
    ------
    NotFound: nothing is in production. IntegrityError: something does not verify, load or fit.
    """
    service = open_service(path, champion=champion, canary=canary, clock=clock)
    service.start()
    try:
        yield service.predictor
    finally:
        service.stop()


def _tracing(
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


def _service_identity(chosen: str | None, keyring: KeyRing) -> str | None:
    """Whose key signs the service's record: the chosen one, or the user's where it can."""
    import getpass

    from assay.registry.keyring import SERVICE

    identity = chosen or getpass.getuser()
    if keyring.can_sign(identity, SERVICE):
        return identity
    if chosen is not None:
        raise Unavailable(
            f"serving.identity is {chosen}, who cannot sign for {SERVICE} here",
            hint=f"its private key must be here, and keys/trust.json must let it sign {SERVICE}",
        )
    return None


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
    return make_app(desk, version=version("assay"))


def open_kill_switch(path: Path) -> KillSwitch:
    """The kill switch of the desk in ``path``, without its service."""
    from assay.serving import KillSwitch, ServiceRecord

    serving = load_settings(path, os.environ).serving
    record = ServiceRecord(serving.record, SystemClock(), process=os.getpid())
    return KillSwitch(serving.kill_file, record)


def record_ends(path: Path) -> Callable[[int, int], None]:
    """Writes into the record of the desk in ``path`` that a worker died: its number and status."""
    from assay.serving import ServiceRecord

    record = ServiceRecord(
        load_settings(path, os.environ).serving.record,
        SystemClock(),
        process=os.getpid(),
        server=socket.gethostname(),
    )
    return lambda process, status: record.note("ended", process=process, status=status)


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


def prediction_log(path: Path) -> Path:
    """Where the service of the desk in ``path`` writes down its predictions."""
    return load_settings(path, os.environ).serving.predictions


def challenger_files(path: Path) -> ChallengerFiles:
    """Where the service of the desk in ``path`` writes down what challengers predict."""
    from assay.orchestration.challengers import ChallengerFiles

    serving = load_settings(path, os.environ).serving
    pairs = serving.predictions.parent / "shadow" / "predictions.jsonl"
    return ChallengerFiles(pairs, serving.feedback)


def delivery_rules(path: Path) -> tuple[RetrainConfig, CanaryPolicy]:
    """When the desk in ``path`` takes a challenger further, and what a canary must keep there.

    Raises
    ------
    ConfigurationError: two settings do not go together.
    """
    return _delivery_rules(load_settings(path, os.environ))


def _delivery_rules(settings: Settings) -> tuple[RetrainConfig, CanaryPolicy]:
    from assay.delivery.canary import CanaryPolicy
    from assay.delivery.controller import RetrainConfig

    section = "retraining"
    try:
        config = RetrainConfig(**asdict(settings.retraining))
        section = "canary"
        return config, CanaryPolicy(**asdict(settings.canary))
    except ContractViolation as error:
        raise ConfigurationError(f"{FILE}: {section}: {error.message}") from None


def create_desk(
    path: Path, *, name: str | None, members: Sequence[Member], demonstration: bool = False
) -> list[str]:
    """Write a new desk project from the FX example, with keys for its members.

    Its promotion policy has every gate switched on; with ``demonstration`` those that need days or
    weeks are switched off by name. Returns the identities whose private keys lie in the user's
    configuration folder. Existing files are never overwritten.

    Raises
    ------
    Conflict: the folder already holds something.
    """
    from assay.registry.keyring import create_key

    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Conflict(
            f"{path} already exists and is not empty",
            hint="choose another folder; an existing desk needs no init",
        )
    title = name or path.absolute().name
    if not _DESK_NAME.fullmatch(title):
        raise ConfigurationError(
            f"desk name {title!r}: expected up to 64 ASCII letters, digits, spaces or . _ -",
            hint=f"assay init '{path}' --name my-desk",
        )
    # Made beside and renamed: a folder with half a desk in it would look like a desk.
    staging = path.absolute().with_name(f".{path.absolute().name}.init")
    shutil.rmtree(staging, ignore_errors=True)
    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    shutil.copytree(example_path(), staging, ignore=ignored)
    settings_file = staging / FILE
    text = settings_file.read_text(encoding="utf-8")
    settings_file.write_text(
        # Quoted as JSON, which YAML reads: a desk may be called 2026 or no.
        re.sub(r"(?m)^  name: .*$", f"  name: {json.dumps(title)}", text, count=1),
        encoding="utf-8",
    )
    if not demonstration:
        from assay.delivery.policy_files import desk_policy_text

        (staging / "configs" / "gates.yaml").write_text(desk_policy_text(), encoding="utf-8")
    users = {member.identity: {"roles": list(member.roles)} for member in members}
    (staging / "configs" / "access.yaml").write_text(
        _USERS_HEAD + yaml.safe_dump({"users": users}, sort_keys=False), encoding="utf-8"
    )
    settings = load_settings(staging, os.environ)
    private = settings.keys.private or private_key_folder(os.environ)
    for member in members:
        create_key(member.identity, private, settings.keys.public, may_sign=member.may_sign)
    staging.replace(path)
    return [member.identity for member in members]


def token_folder(environment: Mapping[str, str]) -> Path:
    """Where a user's tokens lie: ``assay/tokens`` in the configuration folder."""
    return private_key_folder(environment).with_name("tokens")


def private_key_folder(environment: Mapping[str, str]) -> Path:
    """Where a user's private keys lie: ``assay/keys`` in the configuration folder."""
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "assay" / "keys"


def example_path() -> Path:
    """The FX desk that ships with the package: in the wheel, or in a checkout of the source."""
    packaged = Path(__file__).parent / "_examples" / "fx"
    checkout = Path(__file__).parents[2] / "examples" / "fx"
    for path in (packaged, checkout):
        if (path / FILE).is_file():
            return path
    raise ConfigurationError(f"the example desk is missing from this installation: {packaged}")


def _check_processors(inference: InferenceSettings) -> None:
    """Refuse at the start what ONNX Runtime cannot do here."""
    if not inference.gpu_enabled:
        return
    import onnxruntime

    found = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in found:
        return
    raise Unavailable(
        f"inference.gpu_enabled is true: models are run on the processor here "
        f"(ONNX Runtime {onnxruntime.__version__} has {', '.join(found)})",
        hint="set inference.gpu_enabled to false, or leave INFER_GPU_ENABLED out",
    )


def serving_settings(path: Path) -> ServingSettings:
    """How the desk in ``path`` is to be served; paths are absolute."""
    return load_settings(path, os.environ).serving


def _desk(
    path: Path, settings: Settings, clock: Clock | None, *, store_seconds: float = 5.0
) -> Desk:
    from assay.registry.keyring import KeyRing

    private = settings.keys.private or private_key_folder(os.environ)
    keyring = KeyRing(settings.keys.public, private if private.is_dir() else None)
    layout, url = _layout(path.absolute(), settings), settings.features.manifests
    opened = None if url is None else partial(open_objects, path.absolute(), url)
    return Desk(
        layout,
        keyring,
        clock or SystemClock(),
        _stores(settings, store_seconds),
        open_manifests=opened,
        ledger=_ledger(path.absolute(), settings),
        artifacts=_artifacts(path.absolute(), settings),
    )


def _artifacts(root: Path, settings: Settings) -> Artifacts | None:
    """Where the settings put the files of versions; None for the registry's own folders."""
    from assay.registry.objects import ObjectArtifacts

    url = settings.registry.artifacts
    return None if url is None else ObjectArtifacts(open_objects(root, url))


def claim_registry(path: Path) -> str:
    """Let the schema that ``registry.catalogue`` names belong to the desk in ``path``; its number.

    Raises
    ------
    ConfigurationError: the desk keeps its log in its own folder, where nothing is to be claimed.
    """
    ledger = _ledger(path.absolute(), load_settings(path, os.environ))
    if ledger is None:
        raise ConfigurationError(
            "registry.catalogue is sqlite: log and catalogue lie in the desk's own folder, where "
            "nothing is to be claimed"
        )
    return ledger.claim()


def _ledger(path: Path, settings: Settings) -> PostgresLedger | None:
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


def _stores(settings: Settings, seconds: float = 5.0) -> OnlineStores:
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
        here.parent / "_requirements" / "core.lock",
        here.parents[2] / "requirements" / "core.lock",
    ):
        if path.is_file():
            return path
    return None
