"""Tensors of the Open Inference Protocol: as JSON, as bytes behind the JSON, as bytes alone.

Every size that a request states is held against what is there before anything is read by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.errors import did_you_mean
from assay.serving.models.live_model import LiveModel
from assay.serving.rejections import (
    BATCH_TOO_LARGE,
    FEATURE_COUNT,
    FEATURE_NAMES,
    FEATURE_TYPE,
    INVALID_HEADER,
    MALFORMED_BODY,
    TENSOR,
    Rejected,
)

FEATURES = "features"
"""The name of the one tensor that holds all columns in the model's order."""
PREDICTION = "prediction"
MANIFEST, INSTRUMENT = "manifest", "instrument"
"""Names of parameters of a request."""
_EXPECTED = {MANIFEST: "a manifest's hash", INSTRUMENT: "the name of an instrument"}
_FORMS: dict[str, np.dtype[np.floating]] = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_SIZE = "binary_data_size"
_MOST_INPUTS = 10_000
Size = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Tensor(msgspec.Struct, frozen=True):
    """An input: its numbers stand in ``data``, or behind the JSON as ``binary_data_size`` says."""

    name: str
    shape: list[Size]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output that is asked for; ``binary_data`` asks for bytes."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """An inference request: one tensor ``features`` of shape (n, columns), or one of shape (n) or
    (n, 1) for each column by its name. ``parameters.manifest`` names the feature manifest where the
    header X-Assay-Manifest does not. ``parameters.instrument`` says whose features all rows are:
    with it a canary may answer, which takes its share of the instruments.
    """

    inputs: list[Tensor]
    id: str | None = None
    parameters: Annotated[
        dict[str, Any] | None,
        msgspec.Meta(
            description="manifest: a feature manifest's hash, text. instrument: whose features the "
            "rows are, text. binary_data_output: whether the numbers stand behind the JSON.",
            examples=[{"manifest": "5f0c", "instrument": "USD_SGD"}],
        ),
    ] = None
    outputs: list[RequestedOutput] | None = None


class OutputTensor(msgspec.Struct, frozen=True):
    """An output: its numbers stand in ``data``, or behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    data: list[float] | msgspec.UnsetType = msgspec.UNSET


class InferAnswer(msgspec.Struct, frozen=True):
    """The answer to an inference request."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(InferRequest).decode


def split(body: bytes, length: bytes | None) -> tuple[bytes, memoryview]:
    """The JSON of a body, and the bytes behind it.

    Parameters
    ----------
    length: the header Inference-Header-Content-Length; None means that all of it is JSON.

    Raises
    ------
    Rejected: the header is no number of bytes that the body has.
    """
    if length is None:
        return body, memoryview(b"")
    size = int(length) if length.isdigit() and len(length) < 16 else -1
    if not 0 < size <= len(body):
        raise Rejected(
            INVALID_HEADER,
            f"Inference-Header-Content-Length is {length[:40].decode('latin-1')!r}: expected 1 to "
            f"{len(body)}, as many bytes as the body has",
            found=length[:40].decode("latin-1"),
            expected=f"1 to {len(body)}",
        )
    return body[:size], memoryview(body)[size:]


def read_request(text: bytes) -> InferRequest:
    """The JSON of a request.

    Raises
    ------
    Rejected: it is no JSON, or no inference request.
    """
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        raise Rejected(
            TENSOR, f"the request does not have the form of the protocol: {error}",
            found=text[:80].decode("utf-8", "replace"),
            expected='{"inputs": [{"name", "shape", "datatype", "data"}]}',
        ) from None  # fmt: skip
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(
            MALFORMED_BODY, f"the body is not JSON: {error}",
            found=text[:80].decode("utf-8", "replace"), expected="JSON as in RFC 8259",
        ) from None  # fmt: skip


def read_rows(
    request: InferRequest, rest: memoryview, model: LiveModel, most: int
) -> NDArray[np.float64]:
    """The rows of a request in the model's order: float64, shape (n, k).

    Raises
    ------
    Rejected: a tensor is not what it says it is, or not what the model reads.
    """
    given = request.inputs
    check_count(len(given), model)
    return arranged(
        [(one.name, _read(one, part, most)) for one, part in _parts(given, rest)], model
    )


def check_count(count: int, model: LiveModel) -> None:
    """Refuse a number of tensors that cannot be a request.

    Raises
    ------
    Rejected: there is none, or there are too many.
    """
    if not 1 <= count <= _MOST_INPUTS:
        raise Rejected(
            TENSOR, f"{count} inputs: expected one called {FEATURES}, or one for each column",
            found=count, expected=f"1, or {len(model.schema.names)}",
        )  # fmt: skip


def arranged(
    named: Sequence[tuple[str, NDArray[np.floating]]], model: LiveModel
) -> NDArray[np.float64]:
    """Tensors as rows in the model's order: float64, shape (n, k).

    Raises
    ------
    Rejected: they are not what the model reads.
    """
    arrays = dict(named)
    if len(arrays) != len(named):
        raise Rejected(TENSOR, "two inputs have one name", found=[name for name, _ in named])
    columns = model.schema.names
    if list(arrays) == [FEATURES] and FEATURES not in columns:
        rows = arrays[FEATURES]
        if rows.ndim == 1:  # one row without the dimension of rows
            rows = rows[np.newaxis, :]
        if rows.ndim != 2 or rows.shape[1] != len(columns):
            raise Rejected(
                FEATURE_COUNT,
                f"{FEATURES} has shape {list(rows.shape)}: expected [n, {len(columns)}]",
                found=list(rows.shape), expected=f"[n, {len(columns)}]",
                hint=f"GET /v2/models/{model.name} tells the shape; GET /model the names in order",
            )  # fmt: skip
        return rows.astype(np.float64)
    return _by_name(arrays, columns)


def _by_name(
    arrays: Mapping[str, NDArray[np.floating]], columns: Sequence[str]
) -> NDArray[np.float64]:
    unknown = [name for name in arrays if name not in columns]
    missing = [name for name in columns if name not in arrays]
    if unknown or missing:
        raise Rejected(
            FEATURE_NAMES,
            f"inputs are called {', '.join(name[:80] for name in list(arrays)[:4])}: expected one "
            f"called {FEATURES}, or one for each of the {len(columns)} columns",
            found=unknown or list(arrays), expected=missing or [FEATURES, *columns],
            hint=did_you_mean(unknown[0][:80], [FEATURES, *columns]) if unknown else None,
        )  # fmt: skip
    first = arrays[columns[0]]
    rows = np.empty((first.size, len(columns)))
    for place, name in enumerate(columns):
        column = arrays[name]
        if column.shape not in {(len(rows),), (len(rows), 1)}:
            raise Rejected(
                TENSOR,
                f"input {name} has shape {list(column.shape)}: expected [{len(rows)}] or "
                f"[{len(rows)}, 1]",
                found=list(column.shape), expected=[len(rows)],
            )  # fmt: skip
        rows[:, place] = column.reshape(-1)
    return rows


def _parts(given: Sequence[Tensor], rest: memoryview) -> list[tuple[Tensor, memoryview | None]]:
    """Each tensor with its bytes, None where its numbers stand in the JSON."""
    found: list[tuple[Tensor, memoryview | None]] = []
    start = 0
    for one in given:
        size = (one.parameters or {}).get(_SIZE)
        if size is None:
            found.append((one, None))
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - start:
            raise Rejected(
                TENSOR,
                f"input {one.name[:80]} says it has {size!r} bytes: {len(rest) - start} are left",
                found=size, expected=f"0 to {len(rest) - start}",
            )  # fmt: skip
        found.append((one, rest[start : start + size]))
        start += size
    if start != len(rest):
        raise Rejected(
            TENSOR,
            f"{len(rest)} bytes stand behind the JSON: the inputs say they have {start}",
            found=len(rest), expected=start,
        )  # fmt: skip
    return found


def form_of(
    name: str, datatype: str, shape: Sequence[int], most: int
) -> tuple[np.dtype[np.floating], int]:
    """How a tensor's numbers are stored, and how many its shape has.

    Raises
    ------
    Rejected: it is no tensor of one or two dimensions, has another type, or too many rows.
    """
    form = _FORMS.get(datatype)
    if form is None:
        raise Rejected(
            FEATURE_TYPE, f"input {name[:80]} is {datatype[:40]}: expected FP32 or FP64",
            found=datatype, expected="FP32 or FP64",
        )  # fmt: skip
    if not 1 <= len(shape) <= 2:
        raise Rejected(
            TENSOR,
            f"input {name[:80]} has {len(shape)} dimensions: expected rows and columns",
            found=len(shape), expected="1 or 2",
        )  # fmt: skip
    if min(shape) < 0:
        raise Rejected(
            TENSOR, f"input {name[:80]} has shape {list(shape)}: expected no negative numbers",
            found=list(shape), expected="numbers of rows and columns",
        )  # fmt: skip
    if len(shape) == 2 and shape[0] > most:
        raise Rejected(
            BATCH_TOO_LARGE, f"the batch has {shape[0]} rows: expected 1 to {most}",
            found=shape[0], expected=f"1 to {most}", hint="send several smaller batches",
        )  # fmt: skip
    return form, math.prod(shape)


def from_bytes(
    name: str, datatype: str, shape: Sequence[int], part: bytes | memoryview, most: int
) -> NDArray[np.floating]:
    """A tensor whose numbers are bytes, little-endian, row by row.

    Raises
    ------
    Rejected: it is not what it says it is.
    """
    form, count = form_of(name, datatype, shape, most)
    if len(part) != count * form.itemsize:
        raise Rejected(
            TENSOR,
            f"input {name[:80]} has {len(part)} bytes: {datatype} of shape {list(shape)} "
            f"has {count * form.itemsize}",
            found=len(part), expected=count * form.itemsize,
        )  # fmt: skip
    return np.frombuffer(part, form).reshape(shape)


def wrong_count(name: str, found: int, shape: Sequence[int], count: int) -> Rejected:
    """The refusal of a tensor that has another number of numbers than its shape."""
    return Rejected(
        TENSOR,
        f"input {name[:80]} has {found} numbers: shape {list(shape)} has {count}",
        found=found, expected=count,
    )  # fmt: skip


def not_text(name: str, found: Any) -> Rejected:
    """The refusal of a parameter of a request that is no text."""
    return Rejected(
        TENSOR, f"the parameter {name} is no text", found=found, expected=_EXPECTED[name]
    )


def check_output(name: str) -> None:
    """Refuse to be asked for an output that there is not.

    Raises
    ------
    Rejected: it is not called ``prediction``.
    """
    if name != PREDICTION:
        raise Rejected(
            TENSOR, f"no output {name[:80]!r}: expected {PREDICTION}",
            found=name, expected=PREDICTION,
        )  # fmt: skip


def _read(one: Tensor, part: memoryview | None, most: int) -> NDArray[np.floating]:
    if part is None:
        _, count = form_of(one.name, one.datatype, one.shape, most)
        return _read_json(one, count).reshape(one.shape)
    if one.data is not None:
        raise Rejected(
            TENSOR,
            f"input {one.name[:80]} has data in the JSON and {len(part)} bytes behind it",
            found="both", expected="one of them",
        )  # fmt: skip
    return from_bytes(one.name, one.datatype, one.shape, part, most)


def _read_json(one: Tensor, count: int) -> NDArray[np.float64]:
    numbers: list[Any] = []
    waiting = [one.data]
    while waiting:
        # Flat, or nested as the shape is: the protocol allows both.
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append(value)
        else:
            raise Rejected(
                FEATURE_TYPE,
                f"input {one.name[:80]} has {str(value)[:80]!r} among its data: expected numbers",
                found=value, expected="a number",
            )  # fmt: skip
    if len(numbers) != count:
        raise wrong_count(one.name, len(numbers), one.shape, count)
    try:
        return np.array(numbers, dtype=np.float64)
    except OverflowError:
        raise Rejected(
            FEATURE_TYPE, f"input {one.name[:80]} has a number that no float64 holds",
            found="an integer", expected="a number of float64's range",
        ) from None  # fmt: skip


def wants_bytes(request: InferRequest) -> bool:
    """Whether the answer's numbers are to stand behind the JSON.

    Raises
    ------
    Rejected: an output is asked for that there is not.
    """
    whole = bool((request.parameters or {}).get("binary_data_output", False))
    for one in request.outputs or ():
        check_output(one.name)
        asked = (one.parameters or {}).get("binary_data")
        if asked is not None:
            whole = bool(asked)
    return whole
