"""``configs/sources.yaml``: what a desk ingests, and the rules for what it takes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import AssayError, ConfigurationError, did_you_mean
from assay.lake import RatesContract, UniverseRule
from assay.sources import Source
from assay.sources.ecb import EcbReferenceRates
from assay.storage.documents import read_mapping

_SECTIONS = ("sources", "contract", "universe")


@dataclass(frozen=True, slots=True)
class SourcesConfig:
    """The sources by name, and the rules under which their facts become instruments."""

    sources: Mapping[str, Source]
    contract: RatesContract
    universe: UniverseRule


def load_sources(path: Path) -> SourcesConfig:
    """Read a sources file.

    Raises
    ------
    NotFound: there is no such file.
    ConfigurationError: an unknown key, type or source; the message names the nearest one.
    """
    document = read_mapping(path)
    for key in document:
        if key not in _SECTIONS:
            raise ConfigurationError(
                f"{path}: unknown key {key!r}", hint=did_you_mean(str(key), _SECTIONS)
            )
    sources = _section(path, document, "sources")
    if not sources:
        raise ConfigurationError(f"{path}: no sources", hint="sources: {ecb: {type: ecb}}")
    if len(sources) > 1:
        # One source of rates feeds silver; several need a rule for which of them wins where.
        raise ConfigurationError(f"{path}: sources are {sorted(sources)}, expected exactly one")
    return SourcesConfig(
        sources={name: _source(path, name, body) for name, body in sources.items()},
        contract=_named(path, "contract", RatesContract.from_mapping, document),
        universe=_named(path, "universe", UniverseRule.from_mapping, document),
    )


def _section(path: Path, document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    body = document.get(name) or {}
    if not isinstance(body, dict):
        raise ConfigurationError(f"{path}: {name} is {body!r}, expected keys: values")
    return body


def _named(
    path: Path, name: str, build: Callable[[Mapping[str, Any]], Any], document: Mapping[str, Any]
) -> Any:
    try:
        return build(_section(path, document, name))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {name}: {error.message}", hint=error.hint) from None


def _source(path: Path, name: str, body: Any) -> Source:
    place = f"{path}: sources.{name}"
    if not isinstance(body, dict) or "type" not in body:
        raise ConfigurationError(f"{place} has no type", hint="for example {type: ecb}")
    allowed = ("type", "path")
    for key in body:
        if key not in allowed:
            raise ConfigurationError(
                f"{place}: unknown key {key!r}", hint=did_you_mean(str(key), allowed)
            )
    if body["type"] != "ecb":
        raise ConfigurationError(
            f"{place}.type is {body['type']!r}", hint=did_you_mean(str(body["type"]), ["ecb"])
        )
    try:
        if "path" not in body:
            return EcbReferenceRates.from_package()
        archive = path.parent / str(body["path"])
        return EcbReferenceRates(archive)
    except AssayError as error:
        raise type(error)(f"{place}: {error.message}", hint=error.hint) from None
