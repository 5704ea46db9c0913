"""Checks of the candidate's files that every kind of model must pass.

The checks themselves happen where the files are (training, registry); these builders turn their
answers into evidence with the same wording everywhere. A yes is 1, a no is 0.
"""

from __future__ import annotations

from assay.domain.evidence import Evidence
from assay.domain.versions import InputSchema
from assay.validation.records import undefined


def onnx_parity(*, largest_difference: float, rows: int) -> Evidence:
    """Largest absolute difference between the trained model and its ONNX form.

    ``rows`` counts the compared predictions; none compared, or a difference that is not a number
    of at least zero, is no evidence.
    """
    convention = (
        "largest absolute difference between predictions of the trained model and of its ONNX "
        "form on the same rows"
    )
    if rows <= 0:
        return undefined("onnx_parity", convention, "no row was compared")
    if not largest_difference >= 0:
        reason = f"the largest difference was {largest_difference}"
        return undefined("onnx_parity", convention, reason, sample_size=rows)
    return Evidence("onnx_parity", float(largest_difference), int(rows), convention)


def schema(*, trained: InputSchema, exported: InputSchema) -> Evidence:
    """Whether the model's declared input is the one it was trained on: CRC, names, order, type."""
    same_names = set(trained.names) == set(exported.names)
    checks = {
        "crc_equal": trained.crc32 == exported.crc32,
        "names_equal": same_names,
        "order_equal": trained.names == exported.names,
        "dtype_equal": trained.dtype == exported.dtype,
    }
    return Evidence(
        "schema",
        float(all(checks.values())),
        len(trained.names),
        "1 if CRC-32, names, order and type of the input columns equal those trained on, else 0",
        details={
            **checks,
            "missing": sorted(set(trained.names) - set(exported.names)),
            "unexpected": sorted(set(exported.names) - set(trained.names)),
        },
    )


def signature(*, valid: bool, signer: str | None = None) -> Evidence:
    """Whether the version's signature verifies against a key that the desk trusts."""
    return Evidence(
        "signature",
        1.0 if valid is True else 0.0,
        1,
        "1 if the signature over the version's manifest verifies against a trusted key, else 0",
        details={"signer": signer},
    )


def readable_files(count: int) -> Evidence:
    """That so many files of a version were read in their own formats; one that cannot be is an
    error and no evidence.
    """
    return Evidence(
        "readable_files", 1.0, count, "1 if every file of the version was read in its own format"
    )


def training_set_rebuilt(*, recorded: str, rebuilt: str | None, rows: int) -> Evidence:
    """Whether rebuilding the training set from its snapshot and manifest gave the same digest.

    ``rebuilt`` is None when nobody tried, which is no evidence. ``rows`` is the set's length.
    """
    convention = (
        "1 if the training set rebuilt from its recorded snapshot and feature manifest has the "
        "recorded digest, else 0"
    )
    if not recorded or not rebuilt:
        return undefined("training_set_rebuilt", convention, "the training set was not rebuilt")
    return Evidence(
        "training_set_rebuilt",
        float(recorded == rebuilt),
        int(rows),
        convention,
        details={"recorded": recorded, "rebuilt": rebuilt},
    )
