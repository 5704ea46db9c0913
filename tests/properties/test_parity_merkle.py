"""Merkle trees of rows: a root tells any two different lists apart, and proofs prove what they say.

The oracle is the definition in RFC 6962, section 2.1, written as recursion over lists.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ContractViolation, NotFound
from assay.features import FeatureView, Sessions, col
from assay.features.parity import (
    InclusionProof,
    MerkleTree,
    chained_root,
    compare_days,
    day_trees,
    first_difference,
    proves_inclusion,
    row_leaf,
)

LEAVES = st.lists(st.binary(max_size=6), max_size=40)
SOME = st.lists(st.binary(max_size=6), min_size=1, max_size=40)
DAY = 86_400 * 10**9


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def oracle_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\x00" + leaves[0])
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(b"\x01" + oracle_root(leaves[:k]) + oracle_root(leaves[k:]))


def oracle_path(leaves: list[bytes], place: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if place < k:
        return [*oracle_path(leaves[:k], place), oracle_root(leaves[k:])]
    return [*oracle_path(leaves[k:], place - k), oracle_root(leaves[:k])]


@given(LEAVES)
def test_the_root_is_that_of_the_definition(leaves: list[bytes]) -> None:
    tree = MerkleTree(leaves)
    assert (tree.root, tree.size) == (oracle_root(leaves), len(leaves))


def test_roots_are_those_of_the_vectors_that_certificate_logs_test_with() -> None:
    # The eight leaves and roots that the reference implementation of RFC 6962 is tested with.
    leaves = [
        bytes.fromhex(one)
        for one in (
            "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        )
    ]  # fmt: skip
    assert MerkleTree([]).root.hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert MerkleTree(leaves[:1]).root.hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert MerkleTree(leaves).root.hex() == (
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )


@given(SOME, st.data())
def test_any_changed_bit_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    places = [n for n, leaf in enumerate(leaves) if leaf]
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    bit = data.draw(st.integers(0, 8 * len(leaves[place]) - 1))
    changed = bytearray(leaves[place])
    changed[bit // 8] ^= 1 << bit % 8
    other = [*leaves[:place], bytes(changed), *leaves[place + 1 :]]
    assert MerkleTree(other).root != MerkleTree(leaves).root
    assert first_difference(MerkleTree(leaves), MerkleTree(other)) == place


@given(LEAVES, LEAVES)
def test_two_lists_have_one_root_only_if_they_are_the_same_list(
    one: list[bytes], other: list[bytes]
) -> None:
    assert (MerkleTree(one).root == MerkleTree(other).root) == (one == other)


@given(SOME, st.data())
def test_dropped_added_and_moved_rows_change_the_root(
    leaves: list[bytes], data: st.DataObject
) -> None:
    root = MerkleTree(leaves).root
    place = data.draw(st.integers(0, len(leaves) - 1))
    assert MerkleTree(leaves[:place] + leaves[place + 1 :]).root != root
    assert MerkleTree([*leaves[:place], b"new", *leaves[place:]]).root != root
    moved = data.draw(st.permutations(leaves))
    assert (MerkleTree(moved).root == root) == (moved == leaves)


def test_a_node_cannot_pass_for_a_leaf() -> None:
    leaves = [b"a", b"b"]
    halves = sha(b"\x00a") + sha(b"\x00b")
    assert MerkleTree([halves]).root != MerkleTree(leaves).root


@given(SOME, st.data())
def test_every_row_has_a_proof_that_verifies(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    place = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.proof(place)
    assert list(proof.path) == oracle_path(leaves, place)
    assert len(proof.path) <= math.ceil(math.log2(len(leaves)))
    assert proves_inclusion(tree.root, leaves[place], proof)
    assert InclusionProof.from_json(proof.to_json()) == proof


@given(SOME, st.binary(max_size=6), st.data())
def test_wrong_proofs_do_not_verify(
    leaves: list[bytes], stranger: bytes, data: st.DataObject
) -> None:
    tree = MerkleTree(leaves)
    place = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.proof(place)
    if stranger != leaves[place]:
        assert not proves_inclusion(tree.root, stranger, proof)
    assert not proves_inclusion(bytes(32), leaves[place], proof)
    for index in range(-1, len(leaves) + 1):
        if index != place and not (0 <= index < len(leaves) and leaves[index] == leaves[place]):
            assert not proves_inclusion(tree.root, leaves[place], replace(proof, index=index))
    longer = replace(proof, path=(*proof.path, bytes(32)))
    assert not proves_inclusion(tree.root, leaves[place], longer)
    if proof.path:
        step = data.draw(st.integers(0, len(proof.path) - 1))
        shorter = replace(proof, path=proof.path[:step] + proof.path[step + 1 :])
        assert not proves_inclusion(tree.root, leaves[place], shorter)
        bad = bytes([proof.path[step][0] ^ 1]) + proof.path[step][1:]
        changed = replace(proof, path=(*proof.path[:step], bad, *proof.path[step + 1 :]))
        assert not proves_inclusion(tree.root, leaves[place], changed)
        cut = replace(proof, path=(*proof.path[:step], b"short", *proof.path[step + 1 :]))
        assert not proves_inclusion(tree.root, leaves[place], cut)


def test_what_is_no_proof_is_refused_by_name() -> None:
    for wrong in ({}, {"index": 0, "size": 1, "path": ["xyz"]}, {"index": "a", "size": 1}):
        with pytest.raises(ContractViolation, match="cannot be read"):
            InclusionProof.from_json(wrong)
    with pytest.raises(NotFound, match="no leaf 2"):
        MerkleTree([b"", b""]).proof(2)
    with pytest.raises(NotFound, match="no block 1 of 2"):
        MerkleTree([b"", b"", b""]).block(1, 1)


class Counted:
    """A party that counts what it is asked."""

    def __init__(self, leaves: list[bytes]) -> None:
        self._tree = MerkleTree(leaves)
        self.size = len(leaves)
        self.asked = 0

    def block(self, height: int, index: int) -> bytes:
        self.asked += 1
        return self._tree.block(height, index)


@given(LEAVES, LEAVES, LEAVES)
def test_two_parties_find_the_first_difference_by_few_hashes(
    start: list[bytes], mine: list[bytes], theirs: list[bytes]
) -> None:
    one, other = start + mine, start + theirs
    expected = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        None if len(one) == len(other) else min(len(one), len(other)),
    )
    here, there = Counted(one), Counted(other)
    assert first_difference(here, there) == expected
    common = min(len(one), len(other))
    assert here.asked == there.asked
    assert here.asked <= (common.bit_length() if common else 0)


# Rows and days

VIEW = FeatureView(
    name="v", source="s", entity="e", ttl=Sessions(3),
    features={"a": col("x"), "b": col("x") + 1},
)  # fmt: skip
MANIFEST = "ab" * 32
VALUES = st.floats(width=64)
KEYS = st.tuples(
    st.sampled_from(["A", "B", "Ä", "AB"]),
    st.integers(-2 * DAY, 2 * DAY),
    st.integers(0, 3),
    st.integers(0, 1),
    st.integers(0, 1),
)
ROWS = st.dictionaries(KEYS, st.tuples(VALUES, VALUES), max_size=30)
Rows = dict[tuple[str, int, int, int, int], tuple[float, float]]


def frame(rows: Rows) -> pl.DataFrame:
    schema = {"e": pl.String, "event_time": pl.Int64, "known_time": pl.Int64,
              "source_rank": pl.Int64, "sequence": pl.Int64, "manifest": pl.String,
              "a": pl.Float64, "b": pl.Float64}  # fmt: skip
    return pl.DataFrame(
        [(*key, MANIFEST, *values) for key, values in rows.items()], schema=schema, orient="row"
    )


def oracle_leaf(key: tuple[str, int, int, int, int], values: tuple[float, float]) -> bytes:
    name = key[0].encode()
    return (
        struct.pack("<I", len(name)) + name + struct.pack("<qqqq", *key[1:])
        + bytes.fromhex(MANIFEST) + struct.pack("<I", 2) + struct.pack("<dd", *values)
    )  # fmt: skip


@given(ROWS)
def test_a_day_has_the_root_of_its_rows_in_their_order(rows: Rows) -> None:
    trees = day_trees(VIEW, frame(rows))
    expected: dict[str, list[tuple[str, int, int, int, int]]] = {}
    for key in sorted(rows, key=lambda key: (key[0].encode(), *key[1:])):
        day = str(np.datetime64(key[1] // DAY, "D"))
        expected.setdefault(day, []).append(key)
    assert list(trees) == sorted(expected)
    for day, keys in expected.items():
        assert trees[day].keys == tuple(keys)
        assert trees[day].tree.root == oracle_root([oracle_leaf(k, rows[k]) for k in keys])
    again = frame(rows).sample(fraction=1, shuffle=True, seed=1)
    assert {d: t.tree.root for d, t in day_trees(VIEW, again).items()} == {
        d: t.tree.root for d, t in trees.items()
    }


@given(ROWS.filter(bool), st.data())
def test_the_row_that_differs_first_is_named_with_how_it_differs(
    rows: Rows, data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(rows)))
    day = str(np.datetime64(key[1] // DAY, "D"))
    mine = day_trees(VIEW, frame(rows))
    assert all(one.equal and one.first is None for one in compare_days(mine, mine))

    dropped = day_trees(VIEW, frame({k: v for k, v in rows.items() if k != key}))
    (found,) = [one for one in compare_days(mine, dropped) if not one.equal]
    assert (found.day, found.first, found.what) == (day, key, "missing")
    (found,) = [one for one in compare_days(dropped, mine) if not one.equal]
    assert (found.day, found.first, found.what) == (day, key, "extra")

    word = np.array(rows[key])
    word.view(np.uint64)[data.draw(st.integers(0, 1))] ^= np.uint64(
        1 << data.draw(st.integers(0, 63))
    )
    changed = day_trees(VIEW, frame({**rows, key: (word[0], word[1])}))
    (found,) = [one for one in compare_days(mine, changed) if not one.equal]
    assert (found.day, found.first, found.what) == (day, key, "changed")


def test_the_manifest_and_the_width_of_a_row_are_under_its_hash() -> None:
    key = ("A", 1, 2, 3, 4)
    one = row_leaf(key, MANIFEST, np.array([1.0, 2.0]))
    assert one == oracle_leaf(key, (1.0, 2.0))
    assert row_leaf(key, "cd" * 32, np.array([1.0, 2.0])) != one
    assert row_leaf(key, MANIFEST, np.array([1.0, 2.0, 0.0])) != one
    with pytest.raises(ContractViolation, match="64 hexadecimal"):
        row_leaf(key, "cd", np.array([1.0]))


def test_rows_that_have_no_root_are_refused() -> None:
    rows = frame({("A", 1, 2, 3, 4): (1.0, 2.0)})
    with pytest.raises(ContractViolation, match="no column 'b'"):
        day_trees(VIEW, rows.drop("b"))
    with pytest.raises(ContractViolation, match="column b has nulls"):
        day_trees(VIEW, rows.with_columns(b=pl.lit(None, pl.Float64)))
    assert day_trees(VIEW, rows.clear()) == {}


def test_one_root_stands_for_many_days() -> None:
    roots = [sha(bytes([n])).hex() for n in range(5)]
    assert chained_root(roots) == oracle_root([bytes.fromhex(one) for one in roots]).hex()
    assert chained_root(roots[::-1]) != chained_root(roots)
