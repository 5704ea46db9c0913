"""Rows as an Arrow IPC stream: columns of numbers, read by bounds-checked code of our own.

A general reader trusts the lengths that a stream states, and memory that is claimed for one of them
takes the process down. What is needed here is a small part of the format: a schema of floating
point columns and uncompressed record batches. Everything else is refused in words. Answers are
written by the same rules.

Format: https://arrow.apache.org/docs/format/Columnar.html, "Serialization and Interprocess
Communication"; tables of FlatBuffers as in Schema.fbs and Message.fbs there.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.errors import did_you_mean
from assay.serving.rejections import ARROW as INVALID
from assay.serving.rejections import (
    BATCH_TOO_LARGE,
    FEATURE_NAMES,
    FEATURE_TYPE,
    Rejected,
)

ARROW = b"application/vnd.apache.arrow.stream"

_CONTINUES = 0xFFFFFFFF
_SCHEMA, _RECORD_BATCH = 1, 3
_FLOATING_POINT = 3
_FLOATS: dict[int, np.dtype[np.floating]] = {1: np.dtype("<f4"), 2: np.dtype("<f8")}
_MOST_COLUMNS = 10_000
_MOST_BATCHES = 256
"""Empty ones are short: a body could hold thousands, and each costs time."""


def write_stream(name: str, values: Sequence[float]) -> bytes:
    """One column of float64 as an Arrow stream."""
    stream = io.BytesIO()
    pl.DataFrame({name: pl.Series(values, dtype=pl.Float64)}).write_ipc_stream(
        stream, compression="uncompressed"
    )
    return stream.getvalue()


def read_stream(body: bytes, columns: Sequence[str], most: int) -> NDArray[np.float64]:
    """The rows of a stream in the order of ``columns``: float64, shape (n, k); nulls are NaN.

    Parameters
    ----------
    columns: names that the stream must have, in any order, each once.
    most: rows at most.

    Raises
    ------
    Rejected: it is no such stream, has other columns or too many rows; says which.
    """
    try:
        return _Stream(body).read(columns, most)
    except (struct.error, ValueError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise Rejected(
            INVALID, f"the body is no Arrow stream: {error}", found=f"{len(body)} bytes",
            expected="a stream of record batches, as pyarrow.ipc.new_stream writes it",
        ) from None  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Table:
    """A FlatBuffers table inside ``data``; every read is checked against the bounds."""

    data: memoryview
    at: int

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        return cls(data, _number(data, "<I", 0))

    def field(self, number: int) -> int | None:
        """Where a field's value stands; None where it is left out."""
        table = self.at - _number(self.data, "<i", self.at)
        size = _number(self.data, "<H", table)
        entry = 4 + 2 * number
        if entry + 2 > size:
            return None
        offset = _number(self.data, "<H", table + entry)
        return self.at + offset if offset else None

    def scalar(self, number: int, form: str, default: int = 0) -> int:
        place = self.field(number)
        return default if place is None else _number(self.data, form, place)

    def table(self, number: int) -> _Table:
        place = self.field(number)
        if place is None:
            raise ValueError(f"field {number} is missing")
        return _Table(self.data, place + _number(self.data, "<I", place))

    def vector(self, number: int, size: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many of ``size`` bytes there are."""
        place = self.field(number)
        if place is None:
            return 0, 0
        start = place + _number(self.data, "<I", place)
        count = _number(self.data, "<I", start)
        if start + 4 + count * size > len(self.data):
            raise ValueError("a vector reaches beyond its message")
        return start + 4, count

    def tables(self, number: int) -> list[_Table]:
        start, count = self.vector(number, 4)
        if count > _MOST_COLUMNS:
            raise ValueError(f"{count} fields")
        places = [start + 4 * index for index in range(count)]
        return [_Table(self.data, one + _number(self.data, "<I", one)) for one in places]

    def text(self, number: int) -> str:
        start, count = self.vector(number, 1)
        return bytes(self.data[start : start + count]).decode()


class _Stream:
    """A stream that is read message by message."""

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)
        self._at = 0

    def read(self, columns: Sequence[str], most: int) -> NDArray[np.float64]:
        header = self._message()
        if header is None or header[0] != _SCHEMA:
            raise ValueError("its first message is no schema")
        names, kinds = _read_schema(header[1])
        _check_columns(names, columns)
        parts: list[NDArray[np.float64]] = []
        count = 0
        while (message := self._message()) is not None:
            kind, table, data = message
            if len(parts) == _MOST_BATCHES:
                raise ValueError(f"more than {_MOST_BATCHES} record batches")
            if kind != _RECORD_BATCH:
                raise ValueError(f"message of kind {kind}: expected record batches only")
            count += (rows := table.scalar(0, "<q"))
            if not 0 <= rows <= most or count > most:
                raise Rejected(
                    BATCH_TOO_LARGE,
                    f"the stream has {count} rows or more: expected 1 to {most}",
                    found=count,
                    expected=f"1 to {most}",
                    hint="send several smaller batches",
                )
            parts.append(_read_batch(table, data, rows, kinds))
        read = np.concatenate(parts) if parts else np.empty((0, len(names)))
        return read[:, [names.index(name) for name in columns]]

    def _message(self) -> tuple[int, _Table, memoryview] | None:
        """Kind, header and body of the next message; None at the end."""
        if self._at == len(self._body):
            return None
        if _number(self._body, "<I", self._at) != _CONTINUES:
            raise ValueError("no message begins here")
        size = _number(self._body, "<i", self._at + 4)
        start = self._at + 8
        if size == 0:
            if start != len(self._body):
                raise ValueError("bytes behind its end")
            self._at = start
            return None
        header = self._cut(start, size)
        message = _Table.root(header)
        length = message.scalar(3, "<q")
        data = self._cut(start + size, length)
        self._at = start + size + length
        return message.scalar(1, "<B"), message.table(2), data

    def _cut(self, start: int, size: int) -> memoryview:
        if size < 0 or start + size > len(self._body):
            raise ValueError(f"a part of {size} bytes at {start} reaches beyond the body")
        return self._body[start : start + size]


def _read_schema(schema: _Table) -> tuple[list[str], list[np.dtype[np.floating]]]:
    if schema.scalar(0, "<h") != 0:
        raise ValueError("its numbers are big-endian: expected little-endian")
    names: list[str] = []
    kinds: list[np.dtype[np.floating]] = []
    for one in schema.tables(1):
        name = one.text(0)
        precision = -1
        if one.scalar(2, "<B") == _FLOATING_POINT and one.field(4) is None:
            precision = one.table(3).scalar(0, "<h")
        kind = _FLOATS.get(precision)
        if kind is None:
            raise Rejected(
                FEATURE_TYPE,
                f"column {name[:80]} is of a type that is not read: expected float32 or float64",
                found=name,
                expected="float32 or float64",
                hint="cast it before it is sent",
            )
        names.append(name)
        kinds.append(kind)
    return names, kinds


def _check_columns(names: list[str], columns: Sequence[str]) -> None:
    if len(names) == len(columns) and set(names) == set(columns):
        return
    missing = [name for name in columns if name not in names]
    unknown = [name for name in names if name not in columns]
    parts = [
        f"{what} {', '.join(one[:80] for one in given[:4])}"
        for what, given in (("missing", missing), ("unknown", unknown))
        if given
    ]
    raise Rejected(
        FEATURE_NAMES,
        f"columns are {'; '.join(parts) or 'doubled'}",
        found=unknown or names,
        expected=missing or list(columns),
        hint=did_you_mean(unknown[0][:80], columns) if unknown else None,
    )


def _read_batch(
    table: _Table, data: memoryview, rows: int, kinds: Sequence[np.dtype[np.floating]]
) -> NDArray[np.float64]:
    if table.field(3) is not None:
        raise ValueError("it is compressed: expected uncompressed record batches")
    nodes, node_count = table.vector(1, 16)
    buffers, buffer_count = table.vector(2, 16)
    if node_count != len(kinds) or buffer_count != 2 * len(kinds):
        raise ValueError(f"{node_count} columns and {buffer_count} buffers for {len(kinds)} fields")
    read = np.empty((rows, len(kinds)))
    for index, kind in enumerate(kinds):
        length, nulls = struct.unpack_from("<qq", table.data, nodes + 16 * index)
        if length != rows or not 0 <= nulls <= rows:
            raise ValueError(f"column {index} has {length} values and {nulls} nulls of {rows}")
        place = buffers + 32 * index
        valid = _buffer(table.data, place, data, (rows + 7) // 8 if nulls else 0)
        values = _buffer(table.data, place + 16, data, rows * kind.itemsize)
        read[:, index] = np.frombuffer(values, kind, rows)
        if nulls:
            bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")[:rows]
            read[bits == 0, index] = np.nan
    return read


def _buffer(header: memoryview, place: int, data: memoryview, needed: int) -> memoryview:
    offset, length = struct.unpack_from("<qq", header, place)
    if offset < 0 or length < needed or offset + length > len(data):
        raise ValueError(f"a buffer of {length} bytes at {offset}: expected {needed} or more")
    return data[offset : offset + needed]


def _number(data: memoryview, form: str, at: int) -> int:
    if at < 0:
        raise ValueError("an offset leads before the message")
    found: int = struct.unpack_from(form, data, at)[0]
    return found
