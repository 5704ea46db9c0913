"""One canonical byte form for anything that is hashed or signed.

JSON with sorted keys, no spaces, UTF-8, shortest round-trip floats, no NaN or infinity. Two equal
values have equal bytes on every machine, so their SHA-256 is an identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from assay.errors import ContractViolation

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
_CONTAINERS = (dict, list, tuple)


def canonical_bytes(value: Any) -> bytes:
    """Canonical JSON of ``value`` (dicts with string keys, lists, tuples, scalars).

    Raises
    ------
    ContractViolation: the value holds NaN, an infinity, a non-string key or a foreign type.
    """
    try:
        _refuse_foreign_keys(value)
        return _ENCODER.encode(value).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ContractViolation(f"value has no canonical form: {error}") from None


def _refuse_foreign_keys(value: Any) -> None:
    # The encoder would turn the key 1 into "1", so that two different values share a hash.
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} is {type(key).__name__}, expected str")
        items: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        return
    for item in items:
        if isinstance(item, _CONTAINERS):
            _refuse_foreign_keys(item)


def sha256_hex(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical form of ``value``, 64 hexadecimal digits."""
    return sha256_hex(canonical_bytes(value))
