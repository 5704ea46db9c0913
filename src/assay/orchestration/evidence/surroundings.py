"""What is around a version and not in it: its parity proof, its data sets, the desk's nights.

These are observations of a moment. They are traced like other evidence and cannot be taken again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from assay.domain.evidence import Evidence
from assay.errors import NotFound
from assay.features.kernel.engine import source_hash
from assay.orchestration.desk import Desk
from assay.orchestration.kept_proofs import kept_proof
from assay.orchestration.modelling import TrainingRun
from assay.orchestration.nights import nightly_evidence
from assay.orchestration.table_names import gold_table
from assay.registry import ModelMetadata, VerifiedVersion
from assay.registry.compatibility import VersionCompatibilityChecker
from assay.validation.records import undefined

_COMPATIBLE = {"exact": 1.0, "drift": 0.5, "missing": 0.0}


def around(desk: Desk, opened: VerifiedVersion, run: TrainingRun) -> list[Evidence]:
    """Parity of its features, compatibility of its data, the desk's nights, its speed."""
    return [
        feature_parity(desk, run),
        dataset_compatibility(desk, opened.metadata),
        nightly_evidence(desk),
        onnx_speed(opened),
    ]


def feature_parity(desk: Desk, run: TrainingRun) -> Evidence:
    """The proof that is kept for the features of this model, when it is about them."""
    convention = (
        "share of feature values with equal bits when history is fed event by event, by the proof "
        "kept for the current gold snapshot"
    )

    def none(reason: str) -> Evidence:
        return undefined("feature_parity", convention, reason)

    name = run.record["recipe"]["view"]
    view = desk.views.get(name)
    if view is None:
        return none(f"the desk has no view {name} now")
    table = desk.lake.table(gold_table(view))
    snapshot = table.current()
    proof = None if snapshot is None else kept_proof(desk, name, snapshot.id)
    if snapshot is None or proof is None:
        return none(f"no proof is kept for {table.name} as it is now: assay parity run {name}")
    trained = {
        one["name"]: one["manifest"] for one in run.record["training_set"]["query"]["tables"]
    }
    if trained.get(table.name) != proof["manifest"]:
        return none("the proof is about another manifest than the model was trained on")
    if proof["build"]["kernel_source"] != source_hash():
        return none(f"the proof is by another build of the kernel: assay parity run {name}")
    report = proof["report"]
    if not report["values_compared"] or report["share"] is None:
        return none("the proof compared nothing")
    # A row that one side lacks differs in every value; a share of what both have would hide it.
    share = 0.0 if report["missing"] or report["extra"] else float(report["share"])
    return Evidence(
        "feature_parity",
        share,
        int(report["values_compared"]),
        convention,
        details={
            "view": name,
            "snapshot": snapshot.id,
            "manifest": proof["manifest"],
            "missing_rows": report["missing"],
            "extra_rows": report["extra"],
            "largest_ulp": report["largest_ulp"],
        },
    )


def dataset_compatibility(desk: Desk, metadata: ModelMetadata) -> Evidence:
    """The data sets of the version against those of the lake now."""
    convention = (
        "1 when every data set is there at the version that the model was made from, 0.5 when one "
        "is at another version, 0 when one is missing"
    )
    made = dict(metadata.dataset_version_ids)
    if not made:
        return undefined("dataset_compatibility", convention, "it names no data set")
    current: dict[str, str] = {}
    for name in made:
        # A data set that was made elsewhere is none of the lake's: it is missing here.
        with suppress(NotFound):
            snapshot = desk.lake.table(name).current()
            if snapshot is not None:
                current[name] = snapshot.id
    found = VersionCompatibilityChecker(strict_mode=False).check_compatibility(made, current)
    details: dict[str, Any] = {"level": found.level, "made_on": made, "current": current}
    if found.warnings:
        details["in_words"] = "; ".join(found.warnings)
    return Evidence(
        "dataset_compatibility", _COMPATIBLE[found.level], len(made), convention, details=details
    )


def onnx_speed(opened: VerifiedVersion) -> Evidence:
    """The 95th percentile at batch 32 that training wrote down."""
    convention = (
        "95th percentile of ONNX Runtime's own run at batch 32 on one thread, milliseconds, on the "
        "machine that trained the model"
    )
    bench = json.loads(opened.files.get("bench.json", b"{}"))
    batch = bench.get("batches", {}).get("32")
    if batch is None:
        return undefined("onnx_p95_batch32_ms", convention, "batch 32 was not timed")
    return Evidence(
        "onnx_p95_batch32_ms",
        float(batch["p95_us"]) / 1_000,
        int(batch["runs"]),
        convention,
        details={"p50_us": batch["p50_us"], "p99_us": batch["p99_us"], "runtime": bench["runtime"]},
    )
