"""The Open Inference Protocol, version 2, over HTTP: for clients that others have written.

Protocol: https://github.com/kserve/open-inference-protocol, with the binary tensor data extension
(https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.serving.formats.tensors import (
    FEATURES,
    INSTRUMENT,
    MANIFEST,
    PREDICTION,
    InferAnswer,
    OutputTensor,
    not_text,
    read_request,
    read_rows,
    split,
    wants_bytes,
)
from assay.serving.formats.wire import encode
from assay.serving.models.live_model import LiveModel
from assay.serving.prediction.predictions import BatchPrediction
from assay.serving.prediction.predictor import Predictor
from assay.serving.rejections import NOT_JSON, UNKNOWN_PATH, Rejected
from assay.serving.requests.asgi import JSON, check_kind
from assay.serving.requests.reception import Head

PREFIX = "/v2/"
LENGTH = b"inference-header-content-length"
OCTETS = b"application/octet-stream"
EXTENSIONS = ("binary_tensor_data",)
GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
"""The route of inferences over gRPC."""
Reply: TypeAlias = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]


class OpenInference:
    """Reads and answers the protocol over one predictor.

    Attributes
    ----------
    infer_route: what metrics call the route of inferences.
    """

    infer_route = "/v2/models/{model}/infer"

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @staticmethod
    def is_infer(path: str) -> bool:
        """Whether a path is one of an inference."""
        return path.startswith("/v2/models/") and path.endswith("/infer")

    def model_of(self, path: str) -> str:
        """The reference of the model that an infer path names.

        Raises
        ------
        Rejected: the path has another form.
        """
        name, version = self._parse(path.removesuffix("/infer"))
        return name if version is None else f"{name}/{version}"

    @staticmethod
    def _parse(path: str) -> tuple[str, str | None]:
        parts = path.split("/")[3:]  # behind "", "v2", "models"
        if len(parts) == 1 and parts[0]:
            return unquote(parts[0]), None
        if len(parts) == 3 and parts[1] == "versions" and parts[0] and parts[2]:
            return unquote(parts[0]), unquote(parts[2])
        raise Rejected(
            UNKNOWN_PATH, f"no path {path[:120]!r}", found=path,
            expected="/v2/models/NAME, or /v2/models/NAME/versions/VERSION",
        )  # fmt: skip

    def check_head(self, head: Head) -> None:
        """Refuse a body that cannot be read, before it is.

        Public clients name no content type. A browser could send such a body to another origin;
        here it changes nothing, and no answer reaches the page.

        Raises
        ------
        Rejected: it is compressed, or of another type.
        """
        coding = head.headers.get(b"content-encoding", b"identity")
        if coding != b"identity":
            text = coding[:40].decode("latin-1")
            raise Rejected(
                NOT_JSON, f"content encoding {text!r}: expected none", found=text, expected="none"
            )
        if head.kind and head.kind != JSON:
            check_kind(head.kind, (OCTETS, JSON) if LENGTH in head.headers else (JSON,))

    def infer(self, model: str, body: bytes, head: Head) -> tuple[BatchPrediction, Reply]:
        """Predict the rows of a request.

        Raises
        ------
        Rejected: nothing was predicted.
        """
        text, rest = split(body, head.headers.get(LENGTH))
        request = read_request(text)
        as_bytes = wants_bytes(request)
        manifest, instrument = head.manifest, None
        if request.parameters is not None:
            manifest = manifest or _text(request.parameters, MANIFEST)
            instrument = _text(request.parameters, INSTRUMENT)
        made = predict_read(
            self._predictor, model, manifest,
            lambda chosen, most: read_rows(request, rest, chosen, most),
            instrument=instrument,
        )  # fmt: skip
        return made, _reply(request.id, made, as_bytes=as_bytes)

    # -- what there is -----------------------------------------------------------------------------

    def describe_model(self, model: LiveModel) -> dict[str, Any]:
        """Answers ``GET /v2/models/NAME``."""
        return {
            "name": model.name,
            "versions": [model.version],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": FEATURES, "datatype": "FP32", "shape": [-1, len(model.schema.names)]}
            ],
            "outputs": [{"name": PREDICTION, "datatype": "FP64", "shape": [-1]}],
            "properties": {
                "manifest": model.manifest or "",
                "columns": ",".join(model.schema.names),
            },
        }


def predict_read(
    predictor: Predictor,
    model: str,
    manifest: str | None,
    read: Callable[[LiveModel, int], NDArray[np.float64]],
    *,
    instrument: str | None = None,
) -> BatchPrediction:
    """Predict rows that are put into the order of a model's columns while they are read.

    Parameters
    ----------
    read: reads them for a model, at most so many.
    instrument: whose rows they all are; a canary that answers for it answers.

    Raises
    ------
    Rejected: nothing was predicted.
    """
    predictor.check_switch()
    chosen = predictor.live.find(model)
    rows = read(chosen, predictor.limits.batch_rows)
    # Another version may come live at any moment, and read the columns in another order.
    return predictor.predict_batch(
        rows, model=chosen, manifest=manifest, instrument=instrument, reference=model
    )


def _text(parameters: Mapping[str, Any], name: str) -> str | None:
    given = parameters.get(name)
    if given is None or isinstance(given, str):
        return given
    raise not_text(name, given)


def _reply(asked: str | None, made: BatchPrediction, *, as_bytes: bool) -> Reply:
    shape, identity = [len(made.values)], msgspec.UNSET if asked is None else asked
    model = made.model
    if not as_bytes:
        output = OutputTensor(PREDICTION, shape, "FP64", data=made.values)
        text = encode(InferAnswer(model.name, model.version, [output], identity))
        return text, JSON, ()
    data = np.array(made.values, dtype="<f8").tobytes()
    output = OutputTensor(PREDICTION, shape, "FP64", parameters={"binary_data_size": len(data)})
    text = encode(InferAnswer(model.name, model.version, [output], identity))
    return text + data, OCTETS, ((LENGTH, b"%d" % len(text)),)
