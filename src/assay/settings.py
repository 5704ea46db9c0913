"""The settings of a desk: ``assay.yaml``, overridden key by key from the environment.

Every key has a default that needs no server. ``ASSAY_SECTION__KEY=value`` overrides one key; the
value is read as YAML, so ``ASSAY_TRAINING__THREADS=4`` is a number. ``INFER_KEY`` is a short name
for ``ASSAY_INFERENCE__KEY``, which counts where both are given. A wrong key, type or path is
refused with the key's name, the value found, what is allowed and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from assay.errors import ConfigurationError, NotFound, did_you_mean
from assay.storage.documents import parse_yaml, read_mapping

FILE = "assay.yaml"
PREFIX = "ASSAY_"
SHORT = {"INFER_": "inference"}
"""Short prefixes of one section's keys."""
_MUST_EXIST = {"must_exist": True}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """``desk``: what this project is called, in reports and records."""

    name: str = "desk"


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """``lake``: where bronze, silver, gold and quarantine live."""

    root: Path = Path("data")


@dataclass(frozen=True, slots=True)
class SourcesSettings:
    """``sources``: which sources feed the lake and the rule that admits instruments."""

    config: Path = field(default=Path("configs/sources.yaml"), metadata=_MUST_EXIST)


@dataclass(frozen=True, slots=True)
class FeaturesSettings:
    """``features``: where views are declared, how many threads build them, where rows are kept and
    the record of manifests.

    ``online_store`` may hold a password, so no representation shows it. ``online_namespace`` left
    empty means the desk's name; ``online_retention_days`` left empty means that rows stay.
    ``manifests`` is a folder or a URL that fsspec knows; none means ``manifests`` in the lake.
    """

    path: Path = field(default=Path("features"), metadata=_MUST_EXIST)
    workers: int = field(default=2, metadata={"minimum": 1})
    online_store: str = field(
        default="sqlite",
        repr=False,
        metadata={"words": ("sqlite",), "schemes": ("redis", "rediss", "unix")},
    )
    online_namespace: str | None = None
    online_retention_days: float | None = field(
        default=None, metadata={"minimum": 0.001, "maximum": 36_600}
    )
    manifests: str | None = None
    active: Path = Path("configs/features/active_manifest.yaml")
    changelog: Path = Path("docs/changelog/features.md")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """``training``: where recipes are declared, where runs are recorded, how many threads."""

    path: Path = field(default=Path("models"), metadata=_MUST_EXIST)
    runs: Path = Path("artifacts/runs")
    threads: int = field(default=2, metadata={"minimum": 1})


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """``registry``: the folder of versions, where log and catalogue are, and the exported audit.

    ``catalogue`` may hold a password, so no representation shows it. ``sqlite`` keeps the log in a
    file; PostgreSQL keeps both. ``artifacts`` is a folder or URL of objects for the files of
    versions, none for folders in ``root``. The days say how long files stay after a version came
    into a stage, before they may be collected. ``pickles`` are refused, or taken where they import
    nothing but what numbers and estimators are made of; Assay never loads one.
    """

    root: Path = Path("data/models")
    artifacts: str | None = None
    pickles: str = field(default="refuse", metadata={"choices": ("refuse", "scanned")})
    staged_days: int = field(default=180, metadata={"minimum": 1})
    failed_days: int = field(default=180, metadata={"minimum": 1})
    archived_days: int = field(default=730, metadata={"minimum": 1})
    rollbacks: int = field(default=3, metadata={"minimum": 1})
    catalogue: str = field(
        default="sqlite",
        repr=False,
        metadata={"words": ("sqlite",), "schemes": ("postgresql", "postgres")},
    )
    audit: Path = Path("observability/audit/model_events.jsonl")


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """``delivery``: the promotion policy and the record of promotions."""

    policy: Path = field(default=Path("configs/gates.yaml"), metadata=_MUST_EXIST)
    promotions: Path = Path("artifacts/promotions.log")
    # At least long enough for two people to type, at most a year.
    approval_hours: float = field(default=24.0, metadata={"minimum": 0.01, "maximum": 8_784})


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """``serving``: what the service accepts, where it writes, and whose key signs its record.

    ``champion`` names the desk's default model; none means the only one that is live. ``canary``
    makes it read a manifest that only the canary takes, where there is one. ``model_threads`` and
    ``native_batches`` say how models are run. ``kill_policy`` says
    what is answered while predictions are switched off: a refusal, or a number that means nothing.
    ``unix`` is a socket to listen on, ``unix_access`` who may use it, ``grpc_port`` a port for
    calls over gRPC, ``traces`` where spans are sent. ``tls_certificate`` and ``tls_key`` are files
    in PEM: with them the ports speak TLS. ``operators`` says who may switch the service off and on,
    reload it and tell it outcomes: ``tokens`` asks for one, ``open`` asks nobody, and ``auto`` asks
    where others than this machine's reach the service and the desk names users.
    ``capacity``, ``connections`` and ``store_threads`` are of each worker. ``pair_bytes`` and
    ``pair_days`` bound what is kept of the answers of challengers.
    """

    champion: str | None = None
    canary: bool = False
    require_manifest: bool = True
    refuse_stale: bool = True
    batch_rows: int = field(default=1_024, metadata={"minimum": 1})
    body_bytes: int = field(default=1_048_576, metadata={"minimum": 1_024})
    poll_seconds: float = field(default=60.0, metadata={"minimum": 0.1})
    kill_file: Path = Path("artifacts/KILL")
    record: Path = Path("artifacts/serving.jsonl")
    identity: str | None = None
    predictions: Path = Path("artifacts/predictions.jsonl")
    feedback: Path = Path("artifacts/feedback.jsonl")
    queue: int = field(default=20_000, metadata={"minimum": 0})
    feature_log_rate: float = field(default=1.0, metadata={"minimum": 0, "maximum": 1})
    model_threads: int = field(default=1, metadata={"minimum": 1, "maximum": 256})
    native_batches: bool = False
    workers: int = field(default=1, metadata={"minimum": 1, "maximum": 256})
    unix: Path | None = None
    unix_access: str = field(default="owner", metadata={"choices": ("owner", "group")})
    grpc_port: int | None = field(default=None, metadata={"minimum": 0, "maximum": 65_535})
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    operators: str = field(default="auto", metadata={"choices": ("auto", "open", "tokens")})
    traces: str | None = field(
        default=None, metadata={"words": ("none",), "schemes": ("http", "https")}
    )
    capacity: int = field(default=256, metadata={"minimum": 1})
    connections: int = field(default=1_024, metadata={"minimum": 1})
    deadline_ms: float = field(default=1_000.0, metadata={"minimum": 1, "maximum": 60_000})
    store_threads: int = field(default=16, metadata={"minimum": 1, "maximum": 1_000})
    kill_policy: str = field(default="refuse", metadata={"choices": ("refuse", "neutral")})
    pair_bytes: int = field(default=8_589_934_592, metadata={"minimum": 65_536})
    pair_days: float = field(default=30.0, metadata={"minimum": 1, "maximum": 36_600})


@dataclass(frozen=True, slots=True)
class RetrainingSettings:
    """``retraining``: when `assay delivery` takes a version that was trained anew a step further.

    The improvements count for models whose predictions are positions.
    """

    shadow_mode_days: float = field(default=7.0, metadata={"minimum": 0, "maximum": 366})
    min_sharpe_improvement: float = field(default=0.1, metadata={"minimum": 0})
    max_drawdown_tolerance: float = field(default=0.02, metadata={"minimum": 0, "maximum": 1})
    auto_rollback_enabled: bool = True
    canary_share: float = field(default=0.1, metadata={"minimum": 0.001, "maximum": 0.5})


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """``canary``: what a canary must keep, and how sure a verdict over it must be.

    Beyond a limit is harm; within the limit and its margin is as good as the champion.
    """

    alpha: float = field(default=0.05, metadata={"minimum": 0.000_001, "maximum": 0.5})
    failures: float = field(default=0.001, metadata={"minimum": 0.000_001, "maximum": 0.99})
    failures_margin: float = field(default=0.009, metadata={"minimum": 0.000_001, "maximum": 0.99})
    rank_correlation: float = field(default=0.95, metadata={"minimum": 0.51, "maximum": 0.9999})
    rank_margin: float = field(default=0.05, metadata={"minimum": 0.0001, "maximum": 0.49})
    block: int = field(default=20, metadata={"minimum": 3, "maximum": 10_000})
    far: float = field(default=0.05, metadata={"minimum": 0.000_001, "maximum": 0.99})
    far_margin: float = field(default=0.15, metadata={"minimum": 0.000_001, "maximum": 0.99})
    slow_ms: float = field(default=50.0, metadata={"minimum": 0.001})
    slow: float = field(default=0.05, metadata={"minimum": 0.000_001, "maximum": 0.99})
    slow_margin: float = field(default=0.15, metadata={"minimum": 0.000_001, "maximum": 0.99})
    pairs: int = field(default=200, metadata={"minimum": 1})
    answers: int = field(default=20, metadata={"minimum": 1})
    hours: float = field(default=24.0, metadata={"minimum": 0})
    longest_hours: float = field(default=336.0, metadata={"minimum": 0.01})


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """``inference``: how models are run, and the latency that is aimed at.

    Each key can be given as ``INFER_KEY`` in the environment as well. ``batch_size`` is the number
    of rows that a model is warmed up with.
    """

    runtime: str = field(default="onnx", metadata={"choices": ("onnx",)})
    batch_size: int = field(default=32, metadata={"minimum": 1, "maximum": 100_000})
    gpu_enabled: bool = False
    model_warmup: bool = True
    p99_ms_target: float = field(default=50.0, metadata={"minimum": 0.001})


@dataclass(frozen=True, slots=True)
class ParitySettings:
    """``parity``: what a comparison of the online side with history must show.

    ``rule`` is ``bits`` or ``distribution``; ``wasserstein`` is the largest distance that the
    latter allows, in units of the reference's spread.
    """

    rule: str = field(default="bits", metadata={"choices": ("bits", "distribution")})
    wasserstein: float = field(default=0.02, metadata={"minimum": 0})


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """``keys``: public keys and trust policy in the desk; private keys outside of it.

    ``private`` left empty means ``assay/keys`` in the user's configuration folder.
    """

    public: Path = Path("keys")
    private: Path | None = None


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """``access``: who works on the desk, their tokens, and what a registry server accepts.

    ``issuer`` and ``audience`` left empty mean ``assay:`` and the desk's name. ``other_issuer``
    names somebody else whose tokens count, by the keys in the JWKS file ``other_keys``.
    ``server_identity`` is whose key signs what is registered over HTTP.
    """

    users: Path = Path("configs/access.yaml")
    log: Path = Path("observability/audit/access_events.jsonl")
    keys: Path = Path("keys/tokens.json")
    revoked: Path = Path("keys/revoked.jsonl")
    requests: Path = Path("data/access/requests.db")
    issuer: str | None = None
    audience: str | None = None
    # A stolen token is good for as long as it lives.
    token_minutes: float = field(default=60.0, metadata={"minimum": 0.1, "maximum": 1_440})
    service_token_days: float = field(default=30.0, metadata={"minimum": 0.001, "maximum": 366})
    other_issuer: str | None = None
    other_keys: Path | None = None
    server_identity: str | None = None
    upload_bytes: int = field(default=268_435_456, metadata={"minimum": 1_024})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one desk. Paths are absolute once :func:`load_settings` has returned."""

    desk: DeskSettings = field(default_factory=DeskSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    sources: SourcesSettings = field(default_factory=SourcesSettings)
    features: FeaturesSettings = field(default_factory=FeaturesSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    retraining: RetrainingSettings = field(default_factory=RetrainingSettings)
    canary: CanarySettings = field(default_factory=CanarySettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    parity: ParitySettings = field(default_factory=ParitySettings)
    keys: KeysSettings = field(default_factory=KeysSettings)
    access: AccessSettings = field(default_factory=AccessSettings)


def load_settings(desk: Path, environment: Mapping[str, str]) -> Settings:
    """Read ``desk/assay.yaml`` and the overrides in ``environment``.

    Raises
    ------
    NotFound: the folder is not a desk project.
    ConfigurationError: a key, type or path is wrong; the message names it and the nearest one.
    """
    path = desk / FILE
    if not path.is_file():
        raise NotFound(
            f"no desk project in {desk}: it has no {FILE}",
            hint=f"create one with: assay init {desk}",
        )
    document = read_mapping(path)
    document = _with_overrides(document, environment)
    settings = structure(Settings, document, where=FILE)
    return _resolve_paths(settings, desk.absolute())


def structure(kind: type[T], document: Mapping[str, Any], *, where: str) -> T:
    """Build the frozen dataclass ``kind`` from a mapping, refusing what it does not declare.

    ``where`` names the file (and section) for messages. Nested dataclasses, optional values,
    paths, numbers, strings and booleans are understood.
    """
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in fields:
            raise ConfigurationError(
                f"{where}: unknown key {key!r}", hint=did_you_mean(str(key), fields)
            )
        place = f"{where}: {key}" if ": " not in where else f"{where}.{key}"
        values[key] = _convert(hints[key], value, place, fields[key].metadata)
    return kind(**values)


def _convert(hint: Any, value: Any, place: str, metadata: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if value is None:
            return hint()
        if not isinstance(value, Mapping):
            raise _mistyped(place, value, "a section of keys: values")
        return structure(hint, value, where=place)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None:
            return None
        (hint,) = [part for part in typing.get_args(hint) if part is not type(None)]
    converted = _convert_scalar(hint, value, place)
    minimum = metadata.get("minimum")
    if minimum is not None and converted < minimum:
        raise ConfigurationError(f"{place} is {value!r}: expected {minimum} or more")
    maximum = metadata.get("maximum")
    if maximum is not None and converted > maximum:
        raise ConfigurationError(f"{place} is {value!r}: expected {maximum} or less")
    if "schemes" in metadata:
        _check_address(converted, place, metadata["words"], metadata["schemes"])
    choices = metadata.get("choices")
    if choices is not None and converted not in choices:
        raise ConfigurationError(
            f"{place} is {value!r}: expected {' or '.join(choices)}",
            hint=did_you_mean(str(value), choices),
        )
    return converted


def _check_address(value: str, place: str, words: Sequence[str], schemes: Sequence[str]) -> None:
    """Refuse what is neither a word nor a URL, without repeating it: it may hold a password."""
    scheme, separator, _ = value.partition("://")
    if value in words or (separator and scheme in schemes):
        return
    urls = [f"{name}://" for name in schemes]
    raise ConfigurationError(
        f"{place} is {scheme + '://...' if separator else 'another word'}: expected "
        f"{', '.join(words)} or a URL that begins with {', '.join(urls)}",
        hint=did_you_mean(scheme + separator, [*words, *urls]),
    )


def _convert_scalar(hint: Any, value: Any, place: str) -> Any:
    # bool is an int in Python; a threads: true would otherwise mean one thread.
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    # NaN would pass every comparison with a bound.
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise _mistyped(place, value, "a finite number")
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    raise _mistyped(place, value, names.get(hint, "text" if hint is str else "a path"))


def _mistyped(place: str, value: Any, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{place} is {value!r} ({type(value).__name__}): expected {expected}")


def _with_overrides(document: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    sections = {item.name: item for item in dataclasses.fields(Settings)}
    merged = {key: dict(value) if isinstance(value, dict) else value
              for key, value in document.items()}  # fmt: skip
    short = sorted(name for name in environment if name.startswith(tuple(SHORT)))
    long = sorted(name for name in environment if name.startswith(PREFIX))
    for name in (*short, *long):
        place = _place_of(name)
        if place is None:
            continue
        section, key = place
        if section not in sections:
            raise ConfigurationError(
                f"environment variable {name}: unknown section {section!r}",
                hint=did_you_mean(section, sections),
            )
        keys = typing.get_type_hints(Settings)[section].__dataclass_fields__
        if key not in keys:
            raise ConfigurationError(
                f"environment variable {name}: unknown key {key!r}", hint=did_you_mean(key, keys)
            )
        value: Any = environment[name]
        # An address is taken as it is: what is wrong with it as YAML could show its password.
        if "schemes" not in keys[key].metadata:
            value = parse_yaml(value, source=f"environment variable {name}")
        hint = typing.get_type_hints(typing.get_type_hints(Settings)[section])[key]
        # Converted again with the rest; here so that a mistake names the variable.
        _convert(hint, value, f"environment variable {name}", keys[key].metadata)
        part = merged.setdefault(section, {})
        if not isinstance(part, dict):
            part = merged[section] = {}
        part[key] = value
    return merged


def _place_of(name: str) -> tuple[str, str] | None:
    """The section and key that a variable of the environment overrides, None for no such one."""
    if name.startswith(PREFIX) and "__" in name:
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        return section, key
    for prefix, section in SHORT.items():
        if name.startswith(prefix):
            return section, name.removeprefix(prefix).lower()
    return None


def _resolve_paths(settings: Settings, root: Path) -> Settings:
    sections: dict[str, Any] = {}
    for section in dataclasses.fields(Settings):
        value = getattr(settings, section.name)
        changes: dict[str, Path] = {}
        for item in dataclasses.fields(value):
            path = getattr(value, item.name)
            if not isinstance(path, Path):
                continue
            absolute = path if path.is_absolute() else root / path
            _check_path(f"{FILE}: {section.name}.{item.name}", absolute, item.metadata)
            changes[item.name] = absolute
        sections[section.name] = dataclasses.replace(value, **changes)
    return Settings(**sections)


def _check_path(place: str, path: Path, metadata: Mapping[str, Any]) -> None:
    if metadata.get("must_exist"):
        if not path.exists():
            beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = did_you_mean(path.name, beside) if beside else None
            raise ConfigurationError(f"{place} is {path}: no such file or folder", hint=hint)
        return
    # A path to be created later must not run through a file.
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise ConfigurationError(f"{place} is {path}: {parent} is a file, not a folder")
            return
