"""A version that exists to be caught: two of its input columns have each other's names.

It is the mistake that no type, range or shape check sees: the model loads, predicts finite numbers
and reads the right set of columns, each under the wrong name. The demonstration makes one, shows
that the ``schema`` gate refuses it because the columns are not in the order they were trained in,
forces it live past the gates, and shows that the guard on live evidence withdraws it. Never
register one outside a demonstration or a test.
"""

from __future__ import annotations

from assay.domain.versions import InputSchema
from assay.errors import ContractViolation, did_you_mean
from assay.registry import Candidate, ModelMetadata, VerifiedVersion
from assay.registry.sealed import OPTIONAL, REQUIRED


def swapped_candidate(
    opened: VerifiedVersion, metadata: ModelMetadata, first: str, second: str
) -> Candidate:
    """The same model with two input names exchanged in its schema.

    Every byte of the ONNX file and of the golden rows stays, so the version loads and answers its
    golden rows as before: only rows that are put together by name reach the wrong inputs.

    Parameters
    ----------
    opened: the version to spoil, verified.
    metadata: the record of the new version, with its own number; its training run must be the
        original's, so that the gates compare with what was really trained.
    first, second: two different columns of the version's schema.

    Raises
    ------
    ContractViolation: a column is not in the schema, or both are the same.
    """
    names = opened.schema.names
    for name in (first, second):
        if name not in names:
            raise ContractViolation(
                f"{opened.name} {opened.version} has no input {name!r}",
                hint=did_you_mean(name, names),
            )
    if first == second:
        raise ContractViolation(f"input {first!r} twice: expected two different inputs to exchange")
    exchanged = {first: second, second: first}
    schema = InputSchema.of(
        [exchanged.get(name, name) for name in names], dtype=opened.schema.dtype
    )
    files = {name: data for name, data in opened.files.items() if name in {*REQUIRED, *OPTIONAL}}
    files["CHANGES.md"] = (
        f"Made to be caught: {opened.name} {opened.version} with its inputs {first} and {second} "
        "exchanged.\n"
    ).encode()
    return Candidate(metadata, schema, files)
