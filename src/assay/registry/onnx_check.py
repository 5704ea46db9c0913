"""What an ONNX file must be before it becomes part of a version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from assay.domain.versions import InputSchema
from assay.errors import ContractViolation

MAX_BYTES = 2**31 - 1  # a protobuf message cannot be larger


def check_onnx(data: bytes, schema: InputSchema) -> None:
    """Refuse anything but one self-contained, well-formed model with the declared input.

    Raises
    ------
    ContractViolation: as :func:`check_graph`, or an input that is not
        (rows, ``len(schema.names)``) of the schema's type.
    """
    import onnx  # takes a fifth of a second, and only registering needs it

    _check_input(check_graph(data), schema, onnx)


def check_graph(data: bytes) -> Any:
    """Refuse anything but one self-contained, well-formed model; give it as onnx reads it.

    External data is refused because it names other files, which neither the digest nor the
    signature of this one covers.

    Raises
    ------
    ContractViolation: not ONNX, malformed, or external data.
    """
    import onnx

    if len(data) > MAX_BYTES:
        raise ContractViolation(f"model.onnx has {len(data)} bytes: expected under 2 GiB")
    try:
        model = onnx.load_model_from_string(data)
        external = next((t for t in _tensors(model) if _is_external(t, onnx)), None)
        if external is not None:
            raise ContractViolation(
                f"model.onnx keeps tensor {external.name!r} in another file: expected one file",
                hint="save it with save_as_external_data=False",
            )
        onnx.checker.check_model(data)
    except ContractViolation:
        raise
    except Exception as error:  # the library raises protobuf's, its own and built-in errors
        raise ContractViolation(f"model.onnx is not a valid ONNX model: {error}") from error
    return model


def _check_input(model: Any, schema: InputSchema, onnx: Any) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = [value.name for value in inputs]
        raise ContractViolation(f"model.onnx has inputs {names}: expected exactly one")
    tensor = inputs[0].type.tensor_type
    found = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    expected = {"float32": "float", "float64": "double"}.get(schema.dtype, schema.dtype)
    if found != expected:
        raise ContractViolation(f"model.onnx reads {found}: the schema says {schema.dtype}")
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if len(shape) != 2 or shape[1] not in {None, len(schema.names)}:
        raise ContractViolation(
            f"model.onnx reads shape {shape}: the schema has {len(schema.names)} columns"
        )


def _tensors(model: Any) -> Iterator[Any]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        # Every kind of attribute that can hold a tensor, set or not: unset ones are empty.
        yield attribute.t
        yield from attribute.tensors
        sparse = (attribute.sparse_tensor, *attribute.sparse_tensors)
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)


def _is_external(tensor: Any, onnx: Any) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data)
