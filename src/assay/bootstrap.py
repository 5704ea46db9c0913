"""From settings to wired objects. The only module that touches the real clock and the environment.

Backends other than the embedded ones will be chosen here too: nothing else imports an adapter.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assay.domain.clock import Clock, SystemClock
from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ConfigurationError, Conflict
from assay.orchestration.desk import Desk, DeskLayout
from assay.settings import FILE, Settings, load_settings

if TYPE_CHECKING:
    from assay.serving import KillSwitch
    from assay.serving.service import Service

_DESK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
_NOT_COPIED = ("data", "artifacts", "observability", "reports", "__pycache__", "keys")


@dataclass(frozen=True, slots=True)
class Member:
    """A person or service of a desk, and what its key may sign."""

    identity: str
    may_sign: tuple[str, ...]


def open_desk(path: Path, *, clock: Clock | None = None) -> Desk:
    """Open the desk in ``path``, with the environment's overrides.

    Raises
    ------
    NotFound: there is no desk. ConfigurationError: a setting is wrong.
    """
    return _desk(path, load_settings(path, os.environ), clock)


def open_service(
    path: Path, *, champion: str | None = None, killed: bool = False, clock: Clock | None = None
) -> Service:
    """The prediction service of the desk in ``path``, loaded and verified, not started.

    Parameters
    ----------
    champion: the default model instead of ``serving.champion``.
    killed: begin with the kill switch on.

    Raises
    ------
    NotFound: nothing is in production. IntegrityError: something does not verify, load or fit.
    """
    from importlib.metadata import version

    from assay.orchestration.service import ServingLayout, make_service
    from assay.serving import Limits

    settings = load_settings(path, os.environ)
    serving = settings.serving
    layout = ServingLayout(
        champion=champion or serving.champion,
        limits=Limits(serving.require_manifest, serving.refuse_stale, serving.batch_rows),
        body_bytes=serving.body_bytes,
        poll_seconds=serving.poll_seconds,
        kill_file=serving.kill_file,
        record=serving.record,
        predictions=serving.predictions,
        feedback=serving.feedback,
        queue=serving.queue,
    )
    desk = _desk(path, settings, clock)
    return make_service(desk, layout, killed=killed, process=os.getpid(), version=version("assay"))


def open_kill_switch(path: Path) -> KillSwitch:
    """The kill switch of the desk in ``path``, without its service."""
    from assay.serving import KillSwitch, ServiceRecord

    serving = load_settings(path, os.environ).serving
    record = ServiceRecord(serving.record, SystemClock(), process=os.getpid())
    return KillSwitch(serving.kill_file, record)


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
        from assay.delivery.policy import desk_policy_text

        (staging / "configs" / "gates.yaml").write_text(desk_policy_text(), encoding="utf-8")
    settings = load_settings(staging, os.environ)
    private = settings.keys.private or private_key_folder(os.environ)
    for member in members:
        create_key(member.identity, private, settings.keys.public, may_sign=member.may_sign)
    staging.replace(path)
    return [member.identity for member in members]


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


def _desk(path: Path, settings: Settings, clock: Clock | None) -> Desk:
    from assay.registry.keyring import KeyRing

    private = settings.keys.private or private_key_folder(os.environ)
    keyring = KeyRing(settings.keys.public, private if private.is_dir() else None)
    return Desk(_layout(path.absolute(), settings), keyring, clock or SystemClock())


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
        policy=settings.delivery.policy,
        promotions=settings.delivery.promotions,
        threads=settings.training.threads,
        workers=settings.features.workers,
        approval_nanos=int(settings.delivery.approval_hours * 3_600 * NANOS_PER_SECOND),
        lock=_released_lock(),
        parity_rule=settings.parity.rule,
        parity_wasserstein=settings.parity.wasserstein,
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
