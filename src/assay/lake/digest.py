"""The identity of a frame: SHA-256 over its schema and values, and over nothing else.

The digest does not depend on how the frame is chunked, how it was encoded in a file, or which
version of a library wrote it. It does depend on the order of rows and columns, on every bit of
every float, and on which values are null.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import polars as pl

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation

_BLOCK: Final = 1 << 20  # rows hashed at a time, so that memory does not grow with the frame
_FORMAT: Final = "frame-digest-1"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def frame_digest(frame: pl.DataFrame) -> str:
    """SHA-256 of the schema and values of ``frame``, 64 hexadecimal digits.

    Raises
    ------
    ContractViolation: a column has a type without a defined form (decimals, objects, binary).
    """
    digest = hashlib.sha256(_head(len(frame), frame.schema))
    for column in frame.get_columns():
        for start in range(0, len(column), _BLOCK):
            _update(digest, column.slice(start, _BLOCK))
    return digest.hexdigest()


def parquet_digest(path: Path) -> str:
    """:func:`frame_digest` of the rows in a Parquet file, a block of one column at a time."""
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    schema = rows.collect_schema()
    count = int(rows.select(pl.len()).collect().item())
    digest = hashlib.sha256(_head(count, schema))
    for name in schema:
        for start in range(0, count, _BLOCK):
            block = rows.select(name).slice(start, _BLOCK).collect()
            _update(digest, block.to_series())
    return digest.hexdigest()


def _head(rows: int, schema: pl.Schema) -> bytes:
    types = [[name, _type_name(dtype)] for name, dtype in schema.items()]
    return canonical_bytes([_FORMAT, rows, types])


def _type_name(dtype: pl.DataType) -> str:
    # Categories are an encoding of text: the same names in another order are the same values.
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return "String"
    return str(dtype)


def _update(digest: _Hash, column: pl.Series) -> None:
    """Feed one block of one column: which values are there, then the values."""
    present = column.is_not_null()
    digest.update(np.packbits(present.to_numpy()).tobytes())
    dtype = column.dtype
    values = column.drop_nulls()
    if dtype == pl.Null:
        return
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        text = values.cast(pl.String)
        digest.update(text.str.len_bytes().to_numpy().astype("<u4").tobytes())
        digest.update("".join(text).encode("utf-8"))
    elif isinstance(dtype, pl.List):
        digest.update(values.list.len().to_numpy().astype("<u4").tobytes())
        _update(digest, values.explode(empty_as_null=False))
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            _update(digest, values.struct.field(field.name))
    elif dtype == pl.Boolean:
        digest.update(np.packbits(values.to_numpy()).tobytes())
    elif dtype.is_temporal() or dtype.is_integer() or dtype.is_float():
        array = values.to_physical().to_numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    else:
        raise ContractViolation(
            f"column {column.name!r} of type {dtype} has no digest",
            hint="cast it to a number, text, a moment, a boolean, or a list or struct of these",
        )
