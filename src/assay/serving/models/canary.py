"""Which entities a canary answers for: a stable choice by hash, the same in every process."""

from __future__ import annotations

import hashlib

_SPACE = 2**64


def position(salt: str, entity: str) -> float:
    """Where an entity lies in [0, 1): uniform over entities, for ever the same for one salt."""
    data = hashlib.blake2b(
        entity.encode("utf-8", "surrogatepass"), key=salt.encode("ascii"), digest_size=8
    )
    return int.from_bytes(data.digest(), "big") / _SPACE
