"""PyTorch modules and TensorFlow or Keras models, by their own exporters.

Each library writes its own ONNX graph; here it gets the face of all others (input ``X`` of shape
(rows, features), output ``prediction`` of shape (rows, outputs)) and loses what an exporter notes
about the machine it ran on. A network has no thresholds to probe: it is compared on real rows and
at the edges of float32.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.errors import ConfigurationError, ContractViolation
from assay.training.conversion.graph import INPUT, OUTPUT, node
from assay.training.trees import Tree

_OPSET: Final = 18
_TF_OPSET: Final = 17  # tf2onnx goes no further for some operators


@dataclass(frozen=True, slots=True, eq=False)
class TorchModel:
    """A module in evaluation mode, from float32 (rows, features) to (rows, outputs) or (rows,)."""

    module: Any
    features: tuple[str, ...]

    library = "torch"

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """PyTorch's own answers, shape (rows, outputs)."""
        import torch

        with torch.no_grad():
            answer = self.module(torch.from_numpy(np.ascontiguousarray(inputs)))
        return np.asarray(answer.numpy(), dtype=np.float64).reshape(len(inputs), -1)

    def trees(self) -> tuple[Tree, ...]:
        return ()

    def to_file(self) -> None:
        """None: PyTorch's own file is a pickle, and the ONNX file is the model's file."""
        return


@dataclass(frozen=True, slots=True, eq=False)
class TensorFlowModel:
    """A Keras model or another callable of TensorFlow, with the shapes of :class:`TorchModel`."""

    model: Any
    features: tuple[str, ...]

    library = "tensorflow"

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """TensorFlow's own answers, shape (rows, outputs)."""
        answer = self.model(inputs, training=False)
        return np.asarray(answer, dtype=np.float64).reshape(len(inputs), -1)

    def trees(self) -> tuple[Tree, ...]:
        return ()

    def to_file(self) -> None:
        """None: what Keras writes can hold code, and the ONNX file is the model's file."""
        return


def export_torch(module: Any, features: tuple[str, ...]) -> tuple[TorchModel, bytes]:
    """A module and its ONNX file. The module is set to evaluation mode and stays in it.

    Raises
    ------
    ContractViolation: PyTorch cannot export it, or it reads another number of inputs.
    ConfigurationError: what its exporter needs is not installed.
    """
    import torch

    model = TorchModel(module.eval(), features)
    _check_answer(model)
    rows = torch.export.Dim("rows")
    try:
        program = torch.onnx.export(
            module,
            (torch.zeros(2, len(features)),),
            input_names=["given"],
            output_names=["answer"],
            dynamic_shapes=({0: rows},),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    except ImportError as error:
        raise ConfigurationError(
            f"PyTorch's exporter needs a package that is not installed: {error}",
            hint="pip install 'assay[torch]'",
        ) from error
    except Exception as error:  # its exporter has many
        raise ContractViolation(f"PyTorch cannot export the module: {_first(error)}") from error
    return model, _tidy(program.model_proto, model)


def export_tensorflow(model: Any, features: tuple[str, ...]) -> tuple[TensorFlowModel, bytes]:
    """A Keras model and its ONNX file.

    Raises
    ------
    ContractViolation: tf2onnx cannot convert it, or it reads another number of inputs.
    ConfigurationError: tf2onnx is not installed.
    """
    import tensorflow as tf

    try:
        import tf2onnx
    except ImportError:
        raise ConfigurationError(
            "converting TensorFlow models needs tf2onnx, which is not installed",
            hint="pip install 'assay[tensorflow]'",
        ) from None
    native = TensorFlowModel(model, features)
    _check_answer(native)
    signature = (tf.TensorSpec((None, len(features)), tf.float32, name="given"),)

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def answer(given: Any) -> Any:
        return {"answer": model(given, training=False)}

    try:
        document, _ = tf2onnx.convert.from_function(
            answer, input_signature=signature, opset=_TF_OPSET
        )
    except Exception as error:  # its converter has many
        raise ContractViolation(f"tf2onnx cannot convert the model: {_first(error)}") from error
    return native, _tidy(document, native)


def _check_answer(model: TorchModel | TensorFlowModel) -> None:
    zeros = np.zeros((2, len(model.features)), dtype=np.float32)
    try:
        answer = model.predict(zeros)
    except Exception as error:  # any, of any layer
        raise ContractViolation(
            f"the model does not read {len(model.features)} inputs: {_first(error)}"
        ) from error
    if answer.ndim != 2:
        raise ContractViolation(
            f"the model answers shape {answer.shape} to 2 rows: expected numbers for each row"
        )


def _tidy(document: Any, model: TorchModel | TensorFlowModel) -> bytes:
    """The graph with our names and shapes, and without notes of where and how it was made."""
    import onnx
    from onnx import TensorProto, helper

    graph = document.graph
    outputs = model.predict(np.zeros((1, len(model.features)), dtype=np.float32)).shape[1]
    given, answer = graph.input[0].name, graph.output[0].name
    for noted in (document, graph, *graph.node, *graph.value_info, *graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
    del graph.value_info[:]
    del graph.input[:]
    del graph.output[:]
    shape = onnx.numpy_helper.from_array(np.asarray([-1, outputs], dtype=np.int64), "asked_shape")
    graph.initializer.append(shape)
    graph.node.insert(0, node("Identity", [INPUT], given))
    graph.node.append(node("Reshape", [answer, "asked_shape"], OUTPUT))
    graph.input.append(
        helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(model.features)])
    )
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, outputs]))
    graph.name = model.library
    document.producer_name, document.producer_version = "assay", ""
    helper.set_model_props(document, {"features": json.dumps(list(model.features))})
    try:
        onnx.checker.check_model(document, full_check=True)
    except Exception as error:  # an exporter may leave in what ONNX does not have
        raise ContractViolation(
            f"{model.library} made a graph that is no ONNX: {_first(error)}"
        ) from error
    return bytes(document.SerializeToString(deterministic=True))


def _first(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
