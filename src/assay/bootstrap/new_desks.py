"""A new desk project, from the example that ships with the package."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from assay.bootstrap.desks import private_key_folder
from assay.errors import ConfigurationError, Conflict
from assay.settings import FILE, load_settings

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


def example_path() -> Path:
    """The FX desk that ships with the package: in the wheel, or in a checkout of the source."""
    packaged = Path(__file__).parents[1] / "_examples" / "fx"
    checkout = Path(__file__).parents[3] / "examples" / "fx"
    for path in (packaged, checkout):
        if (path / FILE).is_file():
            return path
    raise ConfigurationError(f"the example desk is missing from this installation: {packaged}")
