"""What answers predictions, and what else reads how a desk is served."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from assay.bootstrap.backends import tracing_of
from assay.bootstrap.desks import desk_of, pair_log
from assay.domain.clock import Clock, SystemClock
from assay.errors import ConfigurationError, ContractViolation, Unavailable
from assay.settings import FILE, InferenceSettings, ServingSettings, Settings, load_settings

if TYPE_CHECKING:
    from assay.delivery.canary import CanaryPolicy
    from assay.delivery.controller import RetrainConfig
    from assay.orchestration.challengers import ChallengerFiles
    from assay.registry.keyring import KeyRing
    from assay.serving import KillSwitch, Predictor
    from assay.serving.http.service import Service


def open_service(
    path: Path,
    *,
    champion: str | None = None,
    canary: bool = False,
    killed: bool = False,
    board: Path | None = None,
    exposed: bool = True,
    tokens: bool | None = None,
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
    exposed: whether others than this machine's will reach it; where that is not known, they may.
    tokens: whether whoever operates it is asked for one; None to let :func:`asks_for_tokens` say.

    Raises
    ------
    NotFound: nothing is in production. IntegrityError: something does not verify, load or fit.
    Unavailable: the identity in ``serving.identity`` cannot sign here.
    """
    from importlib.metadata import version

    from assay.orchestration.features_in_use import DeskFeatures
    from assay.orchestration.service import ServingLayout, make_service
    from assay.serving import Limits, Runtime
    from assay.serving.challengers.pair_log import Kept
    from assay.serving.http.service import Operation
    from assay.serving.telemetry.worker_board import WorkerBoard

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
            exposed=exposed,
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
    desk = desk_of(path, settings, clock, store_seconds=patience)
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
        tracing=tracing_of(serving.traces, os.environ, desk.clock, version("assay")),
        tokens=_asks_for_tokens(settings, exposed=exposed) if tokens is None else tokens,
    )


def asks_for_tokens(path: Path, *, exposed: bool) -> bool:
    """Whether whoever operates the service of the desk in ``path`` has to show a token.

    Parameters
    ----------
    exposed: whether others than this machine's reach it.

    Raises
    ------
    ConfigurationError: ``serving.operators`` is ``tokens``, and the desk names no users.
    """
    return _asks_for_tokens(load_settings(path, os.environ), exposed=exposed)


def _asks_for_tokens(settings: Settings, *, exposed: bool) -> bool:
    chosen, users = settings.serving.operators, settings.access.users
    if chosen == "tokens" and not users.exists():
        raise ConfigurationError(
            f"serving.operators is tokens, and {users} does not exist, so nobody could have one",
            hint="write it: users:, then for each name roles: [sre]",
        )
    return chosen == "tokens" or (chosen == "auto" and exposed and users.exists())


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
    service = open_service(path, champion=champion, canary=canary, tokens=False, clock=clock)
    service.start()
    try:
        yield service.predictor
    finally:
        service.stop()


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


def serving_settings(path: Path) -> ServingSettings:
    """How the desk in ``path`` is to be served; paths are absolute."""
    return load_settings(path, os.environ).serving


def prediction_log(path: Path) -> Path:
    """Where the service of the desk in ``path`` writes down its predictions."""
    return load_settings(path, os.environ).serving.predictions


def challenger_files(path: Path) -> ChallengerFiles:
    """Where the service of the desk in ``path`` writes down what challengers predict."""
    from assay.orchestration.challengers import ChallengerFiles

    serving = load_settings(path, os.environ).serving
    return ChallengerFiles(pair_log(serving), serving.feedback)


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
