"""Which predictions have their features written down, where not all of them do.

What was asked decides, by its hash: the same request is decided alike by every process, by a later
version of the model and in a replay, and what a rate takes a higher one takes as well. So whoever
reads the log can tell which features have to be in it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import blake2b

from assay.domain.instants import Instant
from assay.errors import ContractViolation

_ALL = 1 << 64


class FeatureRate:
    """A share of predictions, from 0 (none) to 1 (all).

    Raises
    ------
    ContractViolation: the share is no number from 0 to 1.
    """

    def __init__(self, share: float) -> None:
        if not 0.0 <= share <= 1.0:
            raise ContractViolation(f"feature_log_rate {share!r}: expected 0 to 1")
        self.share = share
        self._below = round(share * _ALL)

    def takes(self, asked: bytes) -> bool:
        """Whether the features of a prediction are written down.

        Parameters
        ----------
        asked: from :func:`asked_of_store` or :func:`asked_with_features`.
        """
        return int.from_bytes(blake2b(asked, digest_size=8).digest()) < self._below


def asked_of_store(
    model: str, instrument: str, at: Instant, request: Mapping[str, float] | None
) -> bytes:
    """What identifies a request for a prediction from stored features: the model, the instrument,
    the moment asked about, and what the request brought.
    """
    brought = sorted((request or {}).items())
    names = "\x1f".join([model, instrument, *(name for name, _ in brought)])
    numbers = struct.pack(f"<q{len(brought)}d", at, *(value for _, value in brought))
    return numbers + names.encode(errors="surrogatepass")


def asked_with_features(model: str, features: bytes) -> bytes:
    """The same of a request that brings its features, as float64 in the model's order."""
    return model.encode() + b"\x1f" + features
