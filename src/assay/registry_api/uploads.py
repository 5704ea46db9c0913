"""A version as one archive: a plain tar of its files and of ``candidate.json``.

The archive streams to the disk, counted on the way. It is never unpacked: each member must be a
regular file with one of the names that a version may have, without any folder, once. So there is
no path to leave a folder by, no link to follow, and nothing compressed that could grow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from assay.domain.versions import InputSchema
from assay.errors import AssayError, ContractViolation
from assay.registry import Candidate, ModelMetadata
from assay.registry.plain_tar import pack, unpack
from assay.registry.sealed import OPTIONAL, REQUIRED
from assay.registry_api.problems import Unacceptable

RECORD = "candidate.json"
MEDIA_TYPE = "application/x-tar"
_ALLOWED = frozenset({RECORD, *REQUIRED, *OPTIONAL})
_RECORD_BYTES = 4_194_304


def write_archive(path: Path, candidate: Candidate) -> None:
    """Write a model's candidate as an archive that :func:`read_archive` reads.

    Raises
    ------
    ContractViolation: it is no model; definitions are registered where the registry is.
    """
    if candidate.schema is None:
        raise ContractViolation(
            f"{candidate.metadata.name} is no model: only models are uploaded",
            hint="assay models register, on the machine of the registry",
        )
    record = {"metadata": candidate.metadata.to_json(), "schema": candidate.schema.to_json()}
    with path.open("wb") as handle:
        pack(handle, {RECORD: json.dumps(record).encode(), **candidate.files})


def read_archive(handle: BinaryIO) -> Candidate:
    """The candidate inside an archive.

    Raises
    ------
    Unacceptable: it is no plain tar, or a member is not a regular file of a known name.
    ContractViolation: its record is not one of a version.
    """
    try:
        files = unpack(handle, _ALLOWED.__contains__, f"one of {', '.join(sorted(_ALLOWED))}")
    except ValueError as error:
        raise _bad(str(error)) from None
    record = files.pop(RECORD, None)
    if record is None:
        raise _bad(f"it has no {RECORD}")
    return Candidate(*_record(record), files)


def _record(data: bytes) -> tuple[ModelMetadata, InputSchema]:
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
        return metadata, InputSchema.from_json(document["schema"])
    except AssayError as error:
        raise _bad(f"{RECORD}: {error.message}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _bad(f"{RECORD} is no record of a version: {error!r}"[:300]) from None


def _bad(why: str) -> Unacceptable:
    return Unacceptable(422, "bad_archive", f"the archive: {why}")
