"""Memory and machine words as the steps need them.

The state of an entity is one block of 64-bit words, most of them floats and some of them integers (times, the
limbs of exact sums). These intrinsics read and write a word of that block as either.

They exist for two reasons that plain indexing cannot meet. Numba wraps negative indices around,
which keeps LLVM from vectorising ``state[offset + i]``; and it marks integer addition as never
overflowing, so that a running sum that wraps past 2**63 is undefined, whereas here it must wrap:
differences of wrapped sums are exact.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)
_DOUBLE = ir.DoubleType()


def _word(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [index], inbounds=True)


@intrinsic
def get(typing_context, address, index):  # type: ignore[no-untyped-def]
    """The float at ``index``."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load(_word(builder, *arguments, _DOUBLE))

    return types.float64(types.int64, types.int64), generate


@intrinsic
def put(typing_context, address, index, value):  # type: ignore[no-untyped-def]
    """Write a float at ``index``."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store(arguments[2], _word(builder, *arguments[:2], _DOUBLE))

    return types.void(types.int64, types.int64, types.float64), generate


@intrinsic
def get_word(typing_context, address, index):  # type: ignore[no-untyped-def]
    """The int64 with the bits at ``index``."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load(_word(builder, *arguments, _INT64))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def put_word(typing_context, address, index, value):  # type: ignore[no-untyped-def]
    """Write the bits of an int64 at ``index``."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store(arguments[2], _word(builder, *arguments[:2], _INT64))

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def word_of(typing_context, value):  # type: ignore[no-untyped-def]
    """The bits of a float as an int64."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], _INT64)

    return types.int64(types.float64), generate


@intrinsic
def float_of(typing_context, word):  # type: ignore[no-untyped-def]
    """The float with the bits of an int64."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], _DOUBLE)

    return types.float64(types.int64), generate


@intrinsic
def wrapping_add(typing_context, left, right):  # type: ignore[no-untyped-def]
    """``left + right`` modulo 2**64."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.add(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate


@intrinsic
def wrapping_sub(typing_context, left, right):  # type: ignore[no-untyped-def]
    """``left - right`` modulo 2**64."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.sub(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate
