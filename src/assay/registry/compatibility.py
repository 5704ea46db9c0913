"""Whether a model may meet today's data: its data sets against the current ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class CompatibilityResult:
    """The answer. ``warnings`` name each data set that differs, with both versions."""

    compatible: bool
    level: Literal["exact", "drift", "missing"]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "compatible": self.compatible,
            "level": self.level,
            "warnings": list(self.warnings),
        }


class VersionCompatibilityChecker:
    """Compares the data-set versions a model was made from with the current ones.

    A data set that is missing now always blocks. One at another version blocks in strict mode
    and warns otherwise. Data sets that the model never used do not matter.
    """

    def __init__(self, strict_mode: bool = True) -> None:
        self.strict_mode = strict_mode

    def check_compatibility(
        self, model_versions: Mapping[str, str], current_versions: Mapping[str, str]
    ) -> CompatibilityResult:
        """Compare data set by data set (name -> version id)."""
        missing = sorted(name for name in model_versions if name not in current_versions)
        drifted = sorted(
            name
            for name, version in model_versions.items()
            if name in current_versions and current_versions[name] != version
        )
        warnings = (
            *(f"data set {name} is missing: made on {model_versions[name]}" for name in missing),
            *(
                f"data set {name} is at {current_versions[name]}: made on {model_versions[name]}"
                for name in drifted
            ),
        )
        if missing:
            return CompatibilityResult(False, "missing", warnings)
        if drifted:
            return CompatibilityResult(not self.strict_mode, "drift", warnings)
        return CompatibilityResult(True, "exact", ())
