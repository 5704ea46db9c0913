"""The messages of the Open Inference Protocol over gRPC, from a table of their names and numbers.

Both are those of https://github.com/kserve/open-inference-protocol, in
specification/protocol/open_inference_grpc.proto; they must never change.

The messages of a package lie in a pool of their own: public clients put theirs, which have the same
names, into the pool that all share, and a process may hold both.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from assay.serving.rejections import MALFORMED_BODY, Rejected

PACKAGE: Final = "inference"
SERVICE: Final = "inference.GRPCInferenceService"
_PARAMETERS = "map<string, InferParameter> parameters"
_MESSAGES: Final[dict[str, str]] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1",
    "ModelReadyRequest": "string name = 1; string version = 2",
    "ModelReadyResponse": "bool ready = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name = 1; string version = 2; repeated string extensions = 3",
    "ModelMetadataRequest": "string name = 1; string version = 2",
    "ModelMetadataResponse": "string name = 1; repeated string versions = 2; string platform = 3; "
    "repeated ModelMetadataResponse.TensorMetadata inputs = 4; "
    "repeated ModelMetadataResponse.TensorMetadata outputs = 5",
    "ModelMetadataResponse.TensorMetadata": "string name = 1; string datatype = 2; "
    "repeated int64 shape = 3",
    "ModelInferRequest": "string model_name = 1; string model_version = 2; string id = 3; "
    f"{_PARAMETERS} = 4; repeated ModelInferRequest.InferInputTensor inputs = 5; "
    "repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6; "
    "repeated bytes raw_input_contents = 7",
    "ModelInferRequest.InferInputTensor": "string name = 1; string datatype = 2; "
    f"repeated int64 shape = 3; {_PARAMETERS} = 4; InferTensorContents contents = 5",
    "ModelInferRequest.InferRequestedOutputTensor": f"string name = 1; {_PARAMETERS} = 2",
    "ModelInferResponse": "string model_name = 1; string model_version = 2; string id = 3; "
    f"{_PARAMETERS} = 4; repeated ModelInferResponse.InferOutputTensor outputs = 5; "
    "repeated bytes raw_output_contents = 6",
    "ModelInferResponse.InferOutputTensor": "string name = 1; string datatype = 2; "
    f"repeated int64 shape = 3; {_PARAMETERS} = 4; InferTensorContents contents = 5",
    "InferParameter": "bool bool_param = 1; int64 int64_param = 2; string string_param = 3; "
    "double double_param = 4; uint64 uint64_param = 5",
    "InferTensorContents": "repeated bool bool_contents = 1; repeated int32 int_contents = 2; "
    "repeated int64 int64_contents = 3; repeated uint32 uint_contents = 4; "
    "repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6; "
    "repeated double fp64_contents = 7; repeated bytes bytes_contents = 8",
}
_Field = descriptor_pb2.FieldDescriptorProto


def message_classes(
    package: str, messages: Mapping[str, str], choices: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """The class of each message of a package, by its name without the package.

    Parameters
    ----------
    messages: the fields of each, such as ``string name = 1; repeated int64 shape = 3``.
    choices: the messages of which one field at a time is set, and what the choice is called.
    """
    made = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    found: dict[str, Any] = {}
    for name, fields in messages.items():
        outer, _, plain = name.rpartition(".")
        into = found[outer].nested_type if outer else made.message_type
        found[name] = into.add(name=plain)
        for field in filter(None, fields.split("; ")):
            _add(found[name], f"{package}.{name}", field, package)
        if name in choices:
            found[name].oneof_decl.add(name=choices[name])
            for one in found[name].field:
                one.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(made)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add(message: Any, full_name: str, field: str, package: str) -> None:
    """Add a field such as ``repeated int64 shape = 3`` to a message."""
    kind, name, _, number = field.removeprefix("repeated ").rsplit(" ", 3)
    label = _Field.LABEL_REPEATED if field.startswith(("repeated ", "map<")) else 0
    added = message.field.add(name=name, number=int(number), label=label or _Field.LABEL_OPTIONAL)
    if kind.startswith("map<"):
        # On the wire a map is a list of messages of a key and a value.
        of_keys, of_values = kind.removeprefix("map<").removesuffix(">").split(", ")
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        whole = f"{full_name}.{entry.name}"
        _add(entry, whole, f"{of_keys} key = 1", package)
        _add(entry, whole, f"{of_values} value = 2", package)
        added.type, added.type_name = _Field.TYPE_MESSAGE, f".{whole}"
    elif kind[0].isupper():
        added.type, added.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
    else:
        added.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


def parse(kind: Any, data: bytes) -> Any:
    """A message of a class from its bytes.

    Raises
    ------
    Rejected: they are none.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Rejected(
            MALFORMED_BODY, f"the message is no {kind.DESCRIPTOR.name}: {error}",
            found=f"{len(data)} bytes", expected=kind.DESCRIPTOR.full_name,
        ) from None  # fmt: skip


MESSAGES: Final = message_classes(PACKAGE, _MESSAGES, {"InferParameter": "parameter_choice"})
"""The class of each message, by its name without the package."""
