"""A version as one archive: a plain tar of its files and of ``candidate.json``.

The archive streams to the disk, counted on the way. It is never unpacked: each member must be a
regular file with a name that a version's file may have, without any folder, once. So there is
no path to leave a folder by, no link to follow, and nothing compressed that could grow. A model
brings the schema of its input; definitions, weights and transforms say that they have none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from assay.domain.versions import InputSchema
from assay.errors import AssayError, ContractViolation
from assay.registry import Candidate, ModelMetadata
from assay.registry.formats import NAME
from assay.registry.plain_tar import pack, unpack
from assay.registry.sealed import OPTIONAL, REQUIRED
from assay.registry_api.problems import Unacceptable

RECORD = "candidate.json"
MEDIA_TYPE = "application/x-tar"
_ALLOWED = frozenset({*REQUIRED, *OPTIONAL})
_RECORD_BYTES = 4_194_304


def write_archive(path: Path, candidate: Candidate) -> None:
    """Write a candidate as an archive that :func:`read_archive` reads.

    Raises
    ------
    ContractViolation: one of its files has the name of the record.
    """
    if RECORD in candidate.files:
        raise ContractViolation(f"a file of {candidate.metadata.name} is called {RECORD}")
    schema = None if candidate.schema is None else candidate.schema.to_json()
    record = {"metadata": candidate.metadata.to_json(), "schema": schema}
    with path.open("wb") as handle:
        pack(handle, {RECORD: json.dumps(record).encode(), **candidate.files})


def read_archive(handle: BinaryIO, *, pickles: bool = False) -> Candidate:
    """The candidate inside an archive.

    Parameters
    ----------
    pickles: whether definitions may hold pickles that import nothing unusual.

    Raises
    ------
    Unacceptable: it is no plain tar, or a member is not a regular file of a known name.
    ContractViolation: its record is not one of a version.
    """
    try:
        files = unpack(handle, _is_name, "a name that a version's file may have")
    except ValueError as error:
        raise _bad(str(error)) from None
    record = files.pop(RECORD, None)
    if record is None:
        raise _bad(f"it has no {RECORD}")
    metadata, schema = _record(record)
    foreign = sorted(files.keys() - _ALLOWED)
    if schema is not None and foreign:
        raise _bad(
            f"{foreign[0][:80]!r} does not belong to a model: expected one of "
            f"{', '.join(sorted(_ALLOWED))}"
        )
    return Candidate(metadata, schema, files, pickles=pickles)


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def _record(data: bytes) -> tuple[ModelMetadata, InputSchema | None]:
    try:
        if len(data) > _RECORD_BYTES:
            raise ValueError(f"more than {_RECORD_BYTES} bytes")
        document: Mapping[str, Any] = json.loads(data)
        metadata = ModelMetadata.from_json(document["metadata"])
        metadata.identity()
        for name in ("manifest_hash", "git_commit", "parent_run", "training_set_digest", "policy"):
            if not isinstance(getattr(metadata, name), str | None):
                raise TypeError(f"{name} is no text")
        for name, kind in (("baseline", bool), ("training_set_rows", int)):
            if type(getattr(metadata, name)) is not kind:
                raise TypeError(f"{name} is no {kind.__name__}")
        schema = document["schema"]
        return metadata, None if schema is None else InputSchema.from_json(schema)
    except AssayError as error:
        raise _bad(f"{RECORD}: {error.message}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _bad(f"{RECORD} is no record of a version: {error!r}"[:300]) from None


def _bad(why: str) -> Unacceptable:
    return Unacceptable(422, "bad_archive", f"the archive: {why}")
