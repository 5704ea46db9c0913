"""The configuration of a desk: its canonical form, its signature, and what drifted since.

1. :mod:`~assay.orchestration.configuration_files` says what the files are and gives the canonical
   form of each; its digest is the SHA-256 of that.
2. Registering and promoting bind the digests of that moment in what they sign.
3. :func:`sign_configuration` signs the canonical forms themselves, in ``configs/signed.json``; so
   a file that was changed since is named, with its keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import content_hash
from assay.domain.instants import render
from assay.errors import ConfigurationError, NotFound, Tampered
from assay.orchestration.configuration_files import canonical_configuration
from assay.orchestration.desk import Desk
from assay.orchestration.version_comparison import ABSENT, key_paths
from assay.registry.keyring import CONFIGURATION, PROMOTION, Attestation
from assay.registry.lifecycle import EventType
from assay.registry.sealed import SIGNATURE
from assay.registry.signing import Envelope, Statement
from assay.storage.files import write_atomic

SIGNED: Final = Path("configs", "signed.json")


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between the signed configuration and today's; None where there is nothing."""

    file: str
    key: str
    signed: Any
    found: Any

    def to_json(self) -> dict[str, Any]:
        return {"file": self.file, "key": self.key, "signed": self.signed, "found": self.found}

    def __str__(self) -> str:
        what = f"{self.file}: {self.key}" if self.key else self.file
        signed, found = (ABSENT if one is None else repr(one) for one in (self.signed, self.found))
        return f"{what}: signed {signed}, found {found}"


@dataclass(frozen=True, slots=True)
class ConfigurationReport:
    """Who signed which configuration, and what is different today."""

    signed_by: str
    key_id: str
    signed_at: str
    reason: str
    digests: Mapping[str, str]
    drift: tuple[Drift, ...]

    @property
    def ok(self) -> bool:
        return not self.drift

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "signed_by": self.signed_by,
            "key_id": self.key_id,
            "signed_at": self.signed_at,
            "reason": self.reason,
            "digests": dict(self.digests),
            "drift": [one.to_json() for one in self.drift],
        }


def sign_configuration(desk: Desk, *, signer: str, reason: str) -> Mapping[str, str]:
    """Sign the configuration as it is, in ``configs/signed.json``; the digests that were signed.

    Raises
    ------
    ConfigurationError: no reason is given. Unavailable: the key is not here, or may not.
    """
    if not reason.strip():
        raise ConfigurationError("a signed configuration needs a reason: expected a sentence")
    forms = canonical_configuration(desk.layout.root)
    digests = {file: content_hash(form) for file, form in forms.items()}
    predicate = {"signed_at": render(desk.clock.now()), "reason": reason, "files": forms}
    envelope = desk.keyring.sign(signer, Statement(CONFIGURATION, digests, predicate))
    write_atomic(desk.layout.root / SIGNED, envelope.to_bytes())
    return digests


def verify_configuration(desk: Desk) -> ConfigurationReport:
    """Check the signature and hold today's configuration against what was signed.

    Raises
    ------
    NotFound: nothing was signed. Tampered: the signature does not hold.
    """
    path = desk.layout.root / SIGNED
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"no signed configuration at {path}", hint='assay config sign --reason "..."'
        ) from None
    made = desk.keyring.verify(Envelope.from_bytes(data), CONFIGURATION)
    forms, signed_at, reason = _stated(made)
    now = canonical_configuration(desk.layout.root)
    return ConfigurationReport(
        made.identity, made.key_id, signed_at, reason, dict(made.statement.subjects),
        tuple(_drift(forms, now)),
    )  # fmt: skip


def bound_configuration(desk: Desk, name: str, version: str) -> dict[str, dict[str, str]]:
    """The digests that a version's signature and its latest promotion bind, verified.

    ``version`` and ``promotion`` are absent where that was before configurations were bound, or
    where the version was never promoted.
    """
    registry = desk.registry
    opened = registry.open_version(name, registry.get(name, version).version)
    sealed = desk.keyring.verify(Envelope.from_bytes(opened.files[SIGNATURE]), "version")
    found = {"version": sealed.statement.predicate.get("configuration")}
    promoted = registry.history(name, types=(EventType.PROMOTE, EventType.BREAK_GLASS))
    for entry in promoted:
        if entry.to_version == opened.version and "statement" in entry.evidence:
            envelope = Envelope.from_json(entry.evidence["statement"])
            statement = desk.keyring.verify(envelope, PROMOTION, at=entry.at).statement
            found["promotion"] = statement.predicate.get("configuration")
    return {what: dict(digests) for what, digests in found.items() if digests}


def _stated(made: Attestation) -> tuple[Mapping[str, Any], str, str]:
    predicate = made.statement.predicate
    try:
        forms = dict(predicate["files"])
        signed_at, reason = str(predicate["signed_at"]), str(predicate["reason"])
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"the signed configuration cannot be read: {error!r}") from None
    if {file: content_hash(form) for file, form in forms.items()} != made.statement.subjects:
        raise Tampered("the signed configuration's digests are not those of its files")
    return forms, signed_at, reason


def _drift(signed: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Drift]:
    for file in sorted({*signed, *now}):
        if file not in now:
            yield Drift(file, "", "a file", None)
        elif file not in signed:
            yield Drift(file, "", None, "a file")
        elif signed[file] != now[file]:
            before, after = dict(key_paths(signed[file])), dict(key_paths(now[file]))
            for key in dict.fromkeys((*before, *after)):
                if before.get(key) != after.get(key) or (key in before) != (key in after):
                    yield Drift(file, key, before.get(key), after.get(key))
