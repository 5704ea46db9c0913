"""Names of models, semantic versions, stages, kinds and input schemas."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import total_ordering
from typing import Any

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VERSION = re.compile(r"v?(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")


class Stage(StrEnum):
    """Where a version stands in its lifecycle."""

    STAGED = "staged"
    PRODUCTION = "production"
    ARCHIVED = "archived"
    FAILED = "failed"


RISK_MODEL = "risk_model"
ALPHA_WEIGHTS = "alpha_weights"
FACTOR_DEFINITIONS = "factor_definitions"
FEATURE_TRANSFORMS = "feature_transforms"
KINDS = (RISK_MODEL, ALPHA_WEIGHTS, FACTOR_DEFINITIONS, FEATURE_TRANSFORMS)
"""The kinds that come with a default policy; a desk may name its own."""


def check_name(name: str) -> str:
    """Return ``name`` when it is a legal name of a model: it becomes a folder and a URL part."""
    if not _NAME.fullmatch(name):
        raise ContractViolation(
            f"name {name!r}: expected a lower-case letter, then up to 63 letters, digits or _"
        )
    return name


@total_ordering
@dataclass(frozen=True, slots=True)
class SemanticVersion:
    """major.minor.patch, ordered by number. ``str`` gives the bare form, ``1.2.0``."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> SemanticVersion:
        """Read ``1.2.0`` or ``v1.2.0``."""
        match = _VERSION.fullmatch(text)
        if match is None:
            raise ContractViolation(f"version {text!r}: expected major.minor.patch, such as 1.2.0")
        return cls(*(int(part) for part in match.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def __lt__(self, other: SemanticVersion) -> bool:
        return (self.major, self.minor, self.patch) < (other.major, other.minor, other.patch)


@dataclass(frozen=True, slots=True)
class InputSchema:
    """The input of a model: the names of its columns in order, and their type.

    ``crc32`` covers names, order and type, so one integer tells two schemas apart.
    """

    names: tuple[str, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise ContractViolation(f"input names {list(self.names)}: expected distinct names")

    @classmethod
    def of(cls, names: Sequence[str], dtype: str = "float32") -> InputSchema:
        return cls(tuple(names), dtype)

    @property
    def crc32(self) -> int:
        return zlib.crc32(canonical_bytes([list(self.names), self.dtype]))

    def to_json(self) -> dict[str, Any]:
        return {"names": list(self.names), "dtype": self.dtype, "crc32": self.crc32}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> InputSchema:
        """Read a sidecar; a CRC that does not match the names is refused."""
        schema = cls(tuple(document["names"]), document["dtype"])
        if document["crc32"] != schema.crc32:
            raise ContractViolation(
                f"input schema CRC {document['crc32']}: expected {schema.crc32} for these names"
            )
        return schema
