"""Promotion policies: which gates a candidate must pass, as data that a desk owns.

A policy file (``configs/gates.yaml``) has one set of gates per kind of model, and named sets for
special cases such as baselines::

    kinds:
      risk_model:
        gates:
          var_coverage:                 # the gate's name
            evidence: var_coverage      # what it judges; the gate's name when left out
            rule: ">="                  # <=, >=, <, >, between, equals
            threshold: 0.05             # one number; [low, high] for between (both ends pass)
            severity: hard              # hard blocks, soft warns
            min_sample: 250             # fewer is INDETERMINATE
            enabled: true               # false needs `why`
    policies:
      baseline:
        gates: ...

Everything is checked when the file loads: an unknown key, kind, rule or evidence, a wrong type, a
key that stands twice. An error names the file, the path of the key and the nearest allowed name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from assay.domain.canonical import content_hash
from assay.domain.verdicts import Severity
from assay.domain.versions import KINDS, check_name
from assay.errors import ConfigurationError, ContractViolation, NotFound, did_you_mean
from assay.storage.documents import parse_yaml, read_text
from assay.validation.known import KNOWN_EVIDENCE


class Rule(StrEnum):
    """How a value is compared with a threshold."""

    AT_MOST = "<="
    AT_LEAST = ">="
    BELOW = "<"
    ABOVE = ">"
    BETWEEN = "between"
    EQUALS = "equals"


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule over one piece of evidence.

    Attributes
    ----------
    name: the gate's name, unique in its set.
    evidence: the name of the evidence it judges.
    rule, threshold: the comparison; ``threshold`` has two ends for ``between``, else one.
    severity: hard blocks, soft warns.
    min_sample: smallest sample size that may decide; at least 1.
    enabled, why: a gate that is switched off says why, and reports repeat it.
    """

    name: str
    evidence: str
    rule: Rule
    threshold: tuple[float, ...]
    severity: Severity
    min_sample: int = 1
    enabled: bool = True
    why: str | None = None

    @property
    def condition(self) -> str:
        """The rule in words and numbers, for example ``<= 0.1`` or ``between 0.8 and 1.2``."""
        return f"{self.rule} " + " and ".join(_shortest(end) for end in self.threshold)

    def holds(self, value: float) -> bool:
        """Whether a finite ``value`` satisfies the rule."""
        bound = self.threshold[0]
        match self.rule:
            case Rule.AT_MOST:
                return value <= bound
            case Rule.AT_LEAST:
                return value >= bound
            case Rule.BELOW:
                return value < bound
            case Rule.ABOVE:
                return value > bound
            case Rule.EQUALS:
                return value == bound
            case Rule.BETWEEN:
                return bound <= value <= self.threshold[1]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "evidence": self.evidence,
            "rule": str(self.rule),
            "threshold": list(self.threshold),
            "severity": str(self.severity),
            "min_sample": self.min_sample,
            "enabled": self.enabled,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Policy:
    """Sets of gates by kind of model, and by name.

    Attributes
    ----------
    kinds: gates of each kind of model, in the order of the file.
    named: gates of each named policy (and of kinds that a desk made up).
    """

    kinds: Mapping[str, tuple[Gate, ...]]
    named: Mapping[str, tuple[Gate, ...]]

    def gates(self, name: str) -> tuple[Gate, ...]:
        """The gates for a kind of model or a named policy.

        Raises
        ------
        NotFound: there is no such kind and no such policy; nothing is promoted by default.
        """
        found = self.kinds.get(name) or self.named.get(name)
        if found is None:
            raise NotFound(
                f"no gates for {name!r}: this policy has "
                f"{', '.join(sorted({*self.kinds, *self.named}))}",
                hint=did_you_mean(name, {*self.kinds, *self.named}),
            )
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            section: {name: [gate.to_json() for gate in gates] for name, gates in sets.items()}
            for section, sets in (("kinds", self.kinds), ("policies", self.named))
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's meaning: comments and layout of the file do not change it."""
        return content_hash(self.to_json())


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
    _only(top, ("kinds", "policies"), source, "")
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
    return Policy(kinds, named)


_GATE_KEYS = (
    "evidence",
    "rule",
    "threshold",
    "severity",
    "min_sample",
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
    for key in ("rule", "threshold", "severity"):
        if key not in entry:
            raise ConfigurationError(f"{source}: {where}.{key}: missing")
    evidence = entry.get("evidence", name)
    if not isinstance(evidence, str) or evidence not in KNOWN_EVIDENCE:
        key = "evidence" if "evidence" in entry else ""
        raise ConfigurationError(
            f"{source}: {_join(where, key)}: unknown evidence {evidence!r}",
            hint=did_you_mean(str(evidence), KNOWN_EVIDENCE),
        )
    rule = Rule(_choice(entry["rule"], [str(one) for one in Rule], source, f"{where}.rule"))
    severity = _choice(
        entry["severity"], [str(one) for one in Severity], source, f"{where}.severity"
    )
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
    return Gate(
        name=name,
        evidence=evidence,
        rule=rule,
        threshold=_threshold(entry["threshold"], rule, source, f"{where}.threshold"),
        severity=Severity(severity),
        min_sample=_min_sample(entry.get("min_sample", 1), source, f"{where}.min_sample"),
        enabled=enabled,
        why=why.strip() if why is not None else None,
    )


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


def _shortest(number: float) -> str:
    text = f"{number:g}"
    return text if float(text) == number else repr(number)


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


def _choice(value: Any, allowed: list[str], source: str, where: str) -> str:
    if value not in allowed:
        hint = did_you_mean(str(value), allowed)
        if where.endswith(".rule"):
            hint = f'allowed: {", ".join(allowed)}; quote the signs, as in rule: ">="'
        raise ConfigurationError(
            f"{source}: {where}: {value!r}, expected one of {', '.join(allowed)}", hint=hint
        )
    return str(value)


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
