"""Merkle trees over rows: one hash for a day of a view, and cheap ways to argue about it.

The tree is that of RFC 6962 (section 2.1): a leaf is ``SHA-256(00 || data)``, an inner node
``SHA-256(01 || left || right)``, a list of n leaves is split at the largest power of two below n,
and the root of no leaves is the SHA-256 of nothing. The two prefixes keep a node from being passed
off as a leaf.

1. :class:`MerkleTree` hashes a list of byte strings; its root changes with any bit, any row that is
   dropped, added or moved.
2. :meth:`MerkleTree.proof` shows that one row is under a root, in O(log n) hashes;
   :func:`proves_inclusion` checks it without the tree.
3. :func:`first_difference` finds the first row in which two parties differ; each asks the other for
   O(log n) hashes and shows no row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from assay.errors import ContractViolation, NotFound

_LEAF, _NODE = b"\x00", b"\x01"
_sha256 = hashlib.sha256
EMPTY_ROOT: Final = _sha256(b"").digest()
"""The root of no leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf, 32 bytes."""
    return _sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over its two halves, 32 bytes."""
    return _sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That a leaf is at ``index`` of ``size`` leaves.

    ``path`` holds the hashes of the other halves, from the leaf's neighbour up to the root's child.
    """

    index: int
    size: int
    path: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with hashes in hexadecimal."""
        return {"index": self.index, "size": self.size, "path": [one.hex() for one in self.path]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> InclusionProof:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ContractViolation: a field is missing or is no hash or number.
        """
        try:
            path = tuple(bytes.fromhex(one) for one in document["path"])
            return cls(int(document["index"]), int(document["size"]), path)
        except (KeyError, TypeError, ValueError) as error:
            raise ContractViolation(f"inclusion proof cannot be read: {error!r}") from None


class Blocks(Protocol):
    """One party's side of the search for a difference: what it answers about its leaves.

    A :class:`MerkleTree` answers for itself; a remote party answers through a message.
    """

    @property
    def size(self) -> int:
        """How many leaves there are."""
        ...

    def block(self, height: int, index: int) -> bytes:
        """The root over the leaves ``index * 2**height`` up to, not including, the next block."""
        ...


class MerkleTree:
    """The tree over a list of byte strings, in their order.

    Takes 64 bytes for each leaf. Of equal lists the roots are equal; of different lists they are
    different, as far as SHA-256 has no collisions.
    """

    def __init__(self, leaves: Iterable[bytes]) -> None:
        # Written out: a call per hash is a third of the time.
        level = [_sha256(_LEAF + data).digest() for data in leaves]
        # Only whole blocks of 2**h leaves: their hashes do not depend on how many leaves follow,
        # which is what lets trees of different sizes be compared.
        self._levels: list[list[bytes]] = [level]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            level = [_sha256(_NODE + left + right).digest() for left, right in pairs]
            self._levels.append(level)

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The root, 32 bytes."""
        return self._over(0, self.size)

    def block(self, height: int, index: int) -> bytes:
        """The root over the leaves ``index * 2**height`` up to, not including, the next block.

        Raises
        ------
        NotFound: there are not so many leaves.
        """
        if not (0 <= height < len(self._levels) and 0 <= index < len(self._levels[height])):
            raise NotFound(f"a tree of {self.size} leaves has no block {index} of {2**height}")
        return self._levels[height][index]

    def proof(self, index: int) -> InclusionProof:
        """That the leaf at ``index`` is under the root.

        Raises
        ------
        NotFound: there is no such leaf.
        """
        if not 0 <= index < self.size:
            raise NotFound(f"a tree of {self.size} leaves has no leaf {index}")
        path = []
        start, stop = 0, self.size
        while stop - start > 1:
            middle = start + _split(stop - start)
            if index < middle:
                path.append(self._over(middle, stop))
                stop = middle
            else:
                path.append(self._over(start, middle))
                start = middle
        return InclusionProof(index, self.size, tuple(reversed(path)))

    def _over(self, start: int, stop: int) -> bytes:
        """The root over leaves from a place that is a whole number of blocks from the left."""
        if start == stop:
            return EMPTY_ROOT
        peaks = []
        while start < stop:
            height = (stop - start).bit_length() - 1
            peaks.append(self._levels[height][start >> height])
            start += 1 << height
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root


def proves_inclusion(root: bytes, data: bytes, proof: InclusionProof) -> bool:
    """Whether a proof shows that ``data`` is a leaf under ``root``, at its index.

    The algorithm of RFC 9162, section 2.1.3.2. A proof that is malformed shows nothing.
    """
    if not 0 <= proof.index < proof.size:
        return False
    place, last = proof.index, proof.size - 1
    found = leaf_hash(data)
    for other in proof.path:
        if last == 0 or len(other) != len(found):
            return False
        if place & 1 or place == last:
            found = node_hash(other, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, other)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def first_difference(mine: Blocks, theirs: Blocks) -> int | None:
    """The index of the first leaf in which two lists differ; None where they are equal.

    Where one list begins with the other, it is the index behind the shorter one. Rows in a total
    order that lack or have one row more differ first at that row. At most ``2 * log2(n) + 2``
    hashes are asked of either side.
    """
    common = min(mine.size, theirs.size)
    start = 0
    while start < common:
        height = (common - start).bit_length() - 1
        if mine.block(height, start >> height) != theirs.block(height, start >> height):
            return _descend(mine, theirs, height, start >> height)
        start += 1 << height
    return None if mine.size == theirs.size else common


def _descend(mine: Blocks, theirs: Blocks, height: int, index: int) -> int:
    while height:
        height, index = height - 1, 2 * index
        if mine.block(height, index) == theirs.block(height, index):
            index += 1
    return index


def _split(count: int) -> int:
    """The largest power of two below ``count``, which is at least two."""
    return 1 << ((count - 1).bit_length() - 1)
