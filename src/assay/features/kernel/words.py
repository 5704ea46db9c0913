"""Memory and machine words as the steps need them.

The state of an entity is one block of 64-bit words, most of them floats and some of them integers
(times, the limbs of exact sums). These intrinsics read and write a word of a block, given by its
address, as either.

They exist for reasons that plain indexing cannot meet. Numba wraps negative indices around, which
keeps LLVM from vectorising ``state[offset + i]``, and passes an array as seven words where an
address is one. And it marks integer addition as never overflowing, so that a running sum that
wraps past 2**63 is undefined, whereas here it must wrap: differences of wrapped sums are exact.

Nothing here checks bounds: :class:`~assay.features.kernel.layout.Machine` checks every array that
comes from outside, and offsets inside a state come from its own layout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INT64 = ir.IntType(64)
_DOUBLE = ir.DoubleType()


def _inline(write: Callable[..., Any]) -> Any:
    """Numba's intrinsic, typed: compiled callers have the instructions in place of a call."""
    return intrinsic(write)


def _word(builder: Any, arguments: Any, kind: Any) -> Any:
    address, index = arguments[0], arguments[1]
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [index], inbounds=True)


@_inline
def get(typing_context: Any, address: Any, index: Any) -> Any:
    """The float at ``index``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_word(builder, arguments, _DOUBLE))

    return types.float64(types.int64, types.int64), generate


@_inline
def put(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """Write a float at ``index``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _word(builder, arguments, _DOUBLE))

    return types.void(types.int64, types.int64, types.float64), generate


@_inline
def get_word(typing_context: Any, address: Any, index: Any) -> Any:
    """The int64 with the bits at ``index``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_word(builder, arguments, _INT64))

    return types.int64(types.int64, types.int64), generate


@_inline
def put_word(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """Write the bits of an int64 at ``index``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _word(builder, arguments, _INT64))

    return types.void(types.int64, types.int64, types.int64), generate


@_inline
def word_of(typing_context: Any, value: Any) -> Any:
    """The bits of a float as an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _INT64)

    return types.int64(types.float64), generate


@_inline
def float_of(typing_context: Any, word: Any) -> Any:
    """The float with the bits of an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _DOUBLE)

    return types.float64(types.int64), generate


@_inline
def wrapping_add(typing_context: Any, left: Any, right: Any) -> Any:
    """``left + right`` modulo 2**64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.add(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate


@_inline
def wrapping_sub(typing_context: Any, left: Any, right: Any) -> Any:
    """``left - right`` modulo 2**64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sub(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate


@_inline
def wrapping_mul(typing_context: Any, left: Any, right: Any) -> Any:
    """``left * right`` modulo 2**64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.mul(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate


@_inline
def invoke(typing_context: Any, function: Any, block: Any, count: Any, stride: Any) -> Any:
    """Call a compiled function by its address: of an address and two numbers, giving a float."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, block, count, stride = arguments
        kind = ir.FunctionType(_DOUBLE, (_DOUBLE.as_pointer(), _INT64, _INT64))
        target = builder.inttoptr(address, kind.as_pointer())
        return builder.call(target, (builder.inttoptr(block, _DOUBLE.as_pointer()), count, stride))

    return types.float64(types.int64, types.int64, types.int64, types.int64), generate
