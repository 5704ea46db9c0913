"""Inferences of the Open Inference Protocol as messages: typed numbers, or raw bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.serving.formats.tensors import (
    FEATURES,
    INSTRUMENT,
    MANIFEST,
    PREDICTION,
    arranged,
    check_count,
    check_output,
    form_of,
    from_bytes,
    not_text,
    wrong_count,
)
from assay.serving.grpc.messages import MESSAGES
from assay.serving.models.live_model import LiveModel
from assay.serving.prediction.predictions import BatchPrediction
from assay.serving.rejections import FEATURE_TYPE, TENSOR, Rejected

_CONTENTS = {"FP32": "fp32_contents", "FP64": "fp64_contents"}


def read_rows(request: Any, model: LiveModel, most: int) -> NDArray[np.float64]:
    """The rows of a ``ModelInferRequest`` in the model's order: float64, shape (n, k).

    Raises
    ------
    Rejected: a tensor is not what it says it is, or not what the model reads.
    """
    given, raw = request.inputs, request.raw_input_contents
    check_count(len(given), model)
    if not raw:
        return arranged([(one.name, _typed(one, most)) for one in given], model)
    if len(raw) != len(given):
        raise Rejected(
            TENSOR, f"{len(raw)} raw_input_contents for {len(given)} inputs: expected one for each",
            found=len(raw), expected=len(given),
        )  # fmt: skip
    named = []
    for one, part in zip(given, raw, strict=True):
        if one.HasField("contents"):
            raise Rejected(
                TENSOR, f"input {one.name[:80]} has contents and raw_input_contents",
                found="both", expected="one of them",
            )  # fmt: skip
        named.append((one.name, from_bytes(one.name, one.datatype, one.shape, part, most)))
    return arranged(named, model)


def _typed(one: Any, most: int) -> NDArray[np.floating]:
    form, count = form_of(one.name, one.datatype, one.shape, most)
    filled = [(field.name, value) for field, value in one.contents.ListFields()]
    expected = _CONTENTS[one.datatype]
    if [name for name, _ in filled] not in ([expected], []):
        raise Rejected(
            FEATURE_TYPE,
            f"input {one.name[:80]} is {one.datatype} and has "
            f"{', '.join(name for name, _ in filled)}: expected {expected}",
            found=[name for name, _ in filled], expected=expected,
        )  # fmt: skip
    numbers = filled[0][1] if filled else []
    if len(numbers) != count:
        raise wrong_count(one.name, len(numbers), one.shape, count)
    return np.fromiter(numbers, form, count).reshape(one.shape)


def manifest_of(request: Any) -> str | None:
    """The feature manifest that a request names in its parameters; None for none.

    Raises
    ------
    Rejected: it is no text.
    """
    return _text(request, MANIFEST)


def instrument_of(request: Any) -> str | None:
    """The instrument whose features a request says its rows are; None for none.

    Raises
    ------
    Rejected: it is no text.
    """
    return _text(request, INSTRUMENT)


def _text(request: Any, name: str) -> str | None:
    if name not in request.parameters:  # looking it up would put it there
        return None
    given = request.parameters[name]
    choice = given.WhichOneof("parameter_choice")
    if choice != "string_param":
        raise not_text(name, None if choice is None else getattr(given, choice))
    text: str = given.string_param
    return text


def check_outputs(request: Any) -> None:
    """Refuse to be asked for outputs that there are not.

    Raises
    ------
    Rejected: names one.
    """
    for one in request.outputs:
        check_output(one.name)


def answer(request: Any, made: BatchPrediction) -> bytes:
    """A ``ModelInferResponse``: raw where the request was, otherwise typed."""
    model = made.model
    reply = MESSAGES["ModelInferResponse"](
        model_name=model.name, model_version=model.version, id=request.id
    )
    output = reply.outputs.add(name=PREDICTION, datatype="FP64", shape=[len(made.values)])
    if request.raw_input_contents:
        reply.raw_output_contents.append(np.array(made.values, dtype="<f8").tobytes())
    else:
        output.contents.fp64_contents.extend(made.values)
    data: bytes = reply.SerializeToString()
    return data


def describe(model: LiveModel) -> bytes:
    """A ``ModelMetadataResponse``."""
    reply = MESSAGES["ModelMetadataResponse"](
        name=model.name, versions=[model.version], platform="onnxruntime_onnx"
    )
    reply.inputs.add(name=FEATURES, datatype="FP32", shape=[-1, len(model.schema.names)])
    reply.outputs.add(name=PREDICTION, datatype="FP64", shape=[-1])
    data: bytes = reply.SerializeToString()
    return data
