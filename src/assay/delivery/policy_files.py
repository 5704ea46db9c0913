"""Reading a policy file; see :mod:`assay.delivery.policy` for what it may say.

Everything is checked when the file loads: an unknown key, kind, rule or evidence, a wrong type, a
key that stands twice. An error names the file, the path of the key and the nearest allowed name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from assay.delivery.policy import (
    Compare,
    Gate,
    Policy,
    Replayed,
    Rule,
    Untraced,
    WithoutChampion,
)
from assay.domain.verdicts import Severity
from assay.domain.versions import KINDS, check_name
from assay.errors import ConfigurationError, ContractViolation, did_you_mean
from assay.storage.documents import parse_yaml, read_text
from assay.validation.known import KNOWN_EVIDENCE

_Choice = TypeVar("_Choice", bound=StrEnum)


def load_policy(path: Path) -> Policy:
    """Read and check a policy file.

    Raises
    ------
    NotFound: there is no such file.
    ConfigurationError: it is not YAML or says something that is not allowed; the message names the
        file and the path of the key.
    """
    return read_policy(read_text(path), source=str(path))


def read_policy(text: str, *, source: str) -> Policy:
    """Check a policy given as YAML text; ``source`` names it in errors.

    Raises
    ------
    ConfigurationError: see :func:`load_policy`.
    """
    return parse_policy(parse_yaml(text, source=source), source=source)


def desk_policy_text() -> str:
    """The policy file that a new desk starts from, with every gate switched on."""
    return resources.files("assay.delivery").joinpath("desk_gates.yaml").read_text("utf-8")


def parse_policy(document: Any, *, source: str) -> Policy:
    """Check a policy given as plain data; ``source`` names it in errors.

    Raises
    ------
    ConfigurationError: see :func:`load_policy`.
    """
    top = _mapping(document, source, "the file")
    _only(top, ("kinds", "policies", "untraced"), source, "")
    untraced = _choice(Untraced, top.get("untraced", "allow"), source, "untraced")
    kinds = {}
    for name, body in _mapping(top.get("kinds", {}), source, "kinds").items():
        if name not in KINDS:
            raise ConfigurationError(
                f"{source}: kinds.{name}: unknown kind of model, expected one of "
                f"{', '.join(KINDS)}",
                hint=f"{did_you_mean(str(name), KINDS)} A kind of your own goes under 'policies'.",
            )
        kinds[name] = _gates(body, source, f"kinds.{name}")
    named = {}
    for name, body in _mapping(top.get("policies", {}), source, "policies").items():
        where = f"policies.{name}"
        try:
            check_name(name)
        except (ContractViolation, TypeError):
            raise ConfigurationError(
                f"{source}: {where}: expected a name of lower-case letters, digits and _"
            ) from None
        if name in KINDS:
            raise ConfigurationError(
                f"{source}: {where}: that is a kind of model", hint=f"move it to kinds.{name}"
            )
        named[name] = _gates(body, source, where)
    if not kinds and not named:
        raise ConfigurationError(f"{source}: no gates: expected 'kinds' or 'policies'")
    return Policy(kinds, named, untraced)


_GATE_KEYS = (
    "evidence",
    "rule",
    "threshold",
    "compare",
    "margin",
    "severity",
    "min_sample",
    "expires_days",
    "replayed",
    "without_champion",
    "enabled",
    "why",
)


def _gates(body: Any, source: str, where: str) -> tuple[Gate, ...]:
    entry = _mapping(body, source, where)
    _only(entry, ("gates",), source, where)
    gates = _mapping(entry.get("gates", {}), source, f"{where}.gates")
    if not gates:
        raise ConfigurationError(f"{source}: {where}.gates: empty, expected at least one gate")
    return tuple(_gate(name, spec, source, f"{where}.gates.{name}") for name, spec in gates.items())


def _gate(name: str, spec: Any, source: str, where: str) -> Gate:
    entry = _mapping(spec, source, where)
    _only(entry, _GATE_KEYS, source, where)
    compare = None
    if "compare" in entry:
        compare = _choice(Compare, entry["compare"], source, f"{where}.compare")
    bound = "threshold" if compare is None else "margin"
    for key in ("rule", bound, "severity"):
        if key not in entry:
            raise ConfigurationError(f"{source}: {where}.{key}: missing")
    _check_bound(entry, bound, source, where)
    rule = _choice(Rule, entry["rule"], source, f"{where}.rule")
    gate = Gate(
        name=name,
        evidence=_evidence(entry.get("evidence", name), entry, source, where),
        rule=rule,
        threshold=_threshold(entry[bound], rule, source, f"{where}.{bound}"),
        severity=_choice(Severity, entry["severity"], source, f"{where}.severity"),
        min_sample=_min_sample(entry.get("min_sample", 1), source, f"{where}.min_sample"),
        **_switch(entry, source, where),
        compare=compare,
        expires_days=_days(entry.get("expires_days"), source, f"{where}.expires_days"),
        replayed=_choice(Replayed, entry.get("replayed", "refuse"), source, f"{where}.replayed"),
        without_champion=_choice(
            WithoutChampion,
            entry.get("without_champion", "wait"),
            source,
            f"{where}.without_champion",
        ),
    )
    if "without_champion" in entry and not gate.against_champion:
        raise ConfigurationError(
            f"{source}: {where}.without_champion: {gate.evidence} does not compare with the "
            "champion, so it needs none",
            hint="remove the key, or add  compare: champion",
        )
    return gate


def _check_bound(entry: Mapping[str, Any], bound: str, source: str, where: str) -> None:
    other = "margin" if bound == "threshold" else "threshold"
    if other in entry:
        raise ConfigurationError(
            f"{source}: {where}.{other}: expected {bound}",
            hint="margin goes with  compare: champion  and stands in for the threshold",
        )


def _evidence(evidence: Any, entry: Mapping[str, Any], source: str, where: str) -> str:
    if not isinstance(evidence, str) or evidence not in KNOWN_EVIDENCE:
        key = "evidence" if "evidence" in entry else ""
        raise ConfigurationError(
            f"{source}: {_join(where, key)}: unknown evidence {evidence!r}",
            hint=did_you_mean(str(evidence), KNOWN_EVIDENCE),
        )
    return evidence


def _switch(entry: Mapping[str, Any], source: str, where: str) -> dict[str, Any]:
    enabled, why = entry.get("enabled", True), entry.get("why")
    if not isinstance(enabled, bool):
        raise _mistyped(source, f"{where}.enabled", enabled, "true or false")
    if why is not None and not (isinstance(why, str) and why.strip()):
        raise _mistyped(source, f"{where}.why", why, "a sentence")
    if not enabled and why is None:
        raise ConfigurationError(
            f"{source}: {where}.why: missing, a gate that is switched off must say why",
            hint="add a line such as  why: the desk has no paper trading yet",
        )
    return {"enabled": enabled, "why": why.strip() if why is not None else None}


def _threshold(value: Any, rule: Rule, source: str, where: str) -> tuple[float, ...]:
    if rule is not Rule.BETWEEN:
        return (_number(value, source, where),)
    if not isinstance(value, list) or len(value) != 2:
        raise _mistyped(source, where, value, "[low, high] for the rule 'between'")
    low, high = (_number(end, source, f"{where}[{i}]") for i, end in enumerate(value))
    if not low < high:
        raise ConfigurationError(f"{source}: {where}: [{low:g}, {high:g}], expected low < high")
    return low, high


def _number(value: Any, source: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = None
        if isinstance(value, str) and _reads_as_number(value):
            hint = f"YAML reads {value} as text: write it without quotes, and 1e-5 as 1.0e-5"
        raise _mistyped(source, where, value, "a number", hint=hint)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _mistyped(source, where, value, "a finite number")
    return number


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _min_sample(value: Any, source: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _mistyped(source, where, value, "a whole number of at least 1")
    return value


def _days(value: Any, source: str, where: str) -> float | None:
    if value is None:
        return None
    days = _number(value, source, where)
    if days <= 0:
        raise _mistyped(source, where, value, "a number of days above 0")
    return days


def _choice(kind: type[_Choice], value: Any, source: str, where: str) -> _Choice:
    allowed = [str(one) for one in kind]
    if value not in allowed:
        hint = did_you_mean(str(value), allowed)
        if where.endswith(".rule"):
            hint = f'allowed: {", ".join(allowed)}; quote the signs, as in rule: ">="'
        raise ConfigurationError(
            f"{source}: {where}: {value!r}, expected one of {', '.join(allowed)}", hint=hint
        )
    return kind(value)


def _mapping(value: Any, source: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _mistyped(source, where, value, "a mapping of names")
    return value


def _only(entry: Mapping[str, Any], allowed: tuple[str, ...], source: str, where: str) -> None:
    for key in entry:
        if key not in allowed:
            raise ConfigurationError(
                f"{source}: {_join(where, key)}: unknown key, expected one of {', '.join(allowed)}",
                hint=did_you_mean(key, allowed),
            )


def _join(where: str, key: str) -> str:
    return ".".join(part for part in (where, key) if part)


def _mistyped(
    source: str, where: str, value: Any, expected: str, *, hint: str | None = None
) -> ConfigurationError:
    found = "nothing" if value is None else f"{type(value).__name__} {value!r:.80}"
    return ConfigurationError(f"{source}: {where}: found {found}, expected {expected}", hint=hint)
