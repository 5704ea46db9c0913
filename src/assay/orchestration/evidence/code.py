"""Which code computes evidence here: versions of packages, and a digest of our own files."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata as distributions
from importlib import resources
from typing import Final

_MEASURING: Final = (
    "statistics",
    "validation",
    "portfolio",
    "training",
    "features/offline",
    "orchestration/evidence",
)
_PACKAGES: Final = ("assay", "numpy", "polars", "scipy", "xgboost-cpu")


@cache
def measuring_code() -> dict[str, str]:
    """Package -> version, and ``assay.source``: SHA-256 over the files that measure.

    The version of a package stands still while it is worked on; its files do not.
    """
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = distributions.version(package)
        except distributions.PackageNotFoundError:
            continue
    return found | {"assay.source": _source()}


def _source() -> str:
    root = resources.files("assay")
    digest = hashlib.sha256()
    for folder in _MEASURING:
        with resources.as_file(root.joinpath(folder)) as path:
            for file in sorted(path.rglob("*.py")):
                digest.update(f"{folder}/{file.relative_to(path).as_posix()}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()
