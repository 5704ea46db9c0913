"""Small real versions: a linear ONNX model, everything around it, and the keys to sign it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from assay.domain.clock import Clock
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict
from assay.domain.versions import RISK_MODEL, InputSchema
from assay.registry import (
    Candidate,
    Entry,
    KeyRing,
    Ledger,
    ModelMetadata,
    ModelRegistry,
    PromotionClaim,
    create_key,
)

AUTHOR = "author"
FIRST_APPROVER = "first.approver"
SECOND_APPROVER = "second.approver"
PEOPLE = (AUTHOR, FIRST_APPROVER, SECOND_APPROVER)


def make_keys(folder: Path, people: Sequence[str] = PEOPLE) -> KeyRing:
    """A key for each person: private halves in ``folder/private``, a desk in ``folder/desk``."""
    private, public = folder / "private", folder / "desk" / "keys"
    for person in people:
        create_key(person, private, public)
    return KeyRing(public, private)


def linear_onnx(weights: Sequence[float], bias: float = 0.0) -> bytes:
    """An ONNX model that answers ``rows @ weights + bias`` to float32 rows."""
    width = len(weights)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["products"]),
            helper.make_node("Add", ["products", "bias"], ["value"]),
        ],
        "linear",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [
            numpy_helper.from_array(
                np.asarray(weights, dtype=np.float32).reshape(width, 1), "weights"
            ),
            numpy_helper.from_array(np.asarray([bias], dtype=np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_candidate(
    name: str = "fx_vol",
    version: str = "1.0.0",
    *,
    weights: Sequence[float] = (0.5, -0.25),
    bias: float = 0.0,
    created_at: Instant = 0,
    author: str = AUTHOR,
    padding: bytes = b"",
) -> Candidate:
    """A candidate whose content follows from its weights and bias; ``padding`` makes it larger."""
    schema = InputSchema.of([f"x{index}" for index in range(len(weights))])
    rows = [[0.0] * len(weights), [1.0] * len(weights)]
    files = {
        "model.onnx": linear_onnx(weights, bias),
        "parity.json": b'{"largest_difference":0.0,"rows":2}',
        "bench.json": b'{"p50_ms":0.01}',
        "CHANGES.md": b"A linear model for tests.\n",
        "golden.json": json.dumps(
            {
                "rows": rows,
                "predictions": [bias + sum(w * x for w, x in zip(weights, row, strict=True))
                                for row in rows],
            }
        ).encode(),
    }  # fmt: skip
    if padding:
        files["model.txt"] = padding
    metadata = ModelMetadata(
        name=name,
        version=version,
        kind=RISK_MODEL,
        created_at=created_at,
        author=author,
        snapshot_ids={"gold": "0" * 64},
        config={"weights": list(weights), "bias": bias},
        seeds=(1,),
    )
    return Candidate(metadata, schema, files)


def gate_result(verdict: Verdict = Verdict.PASS, severity: Severity = Severity.HARD) -> GateResult:
    """One gate's verdict."""
    return GateResult("loss", severity, 0.5, "<= 1", verdict, 100, "mean loss", "as measured")


def pass_gates(registry: ModelRegistry, name: str, version: str, *, loss: float = 0.5) -> None:
    """Record one measurement and one passed hard gate for a version."""
    evidence = Evidence("loss", loss, 100, "mean loss")
    registry.record_evidence(name, version, [evidence], initiated_by=AUTHOR)
    registry.record_gates(
        name, version, [gate_result()], Outcome.PROMOTABLE, "policy", initiated_by=AUTHOR
    )


def make_registry(
    folder: Path, clock: Clock, *, audit: bool = True, ledger: Ledger | None = None
) -> ModelRegistry:
    """A registry of its own desk with the keys of :data:`PEOPLE`."""
    audit_path = folder / "desk" / "observability" / "audit" / "model_events.jsonl"
    return ModelRegistry(
        folder / "desk" / "data" / "models",
        make_keys(folder),
        clock,
        audit_path=audit_path if audit else None,
        ledger=ledger,
    )


def break_glass(registry: ModelRegistry, name: str, version: str) -> Entry:
    """Put a version into production without gates; the statement is signed by the author."""
    champion = registry.current(name)
    claim = PromotionClaim(
        model=name,
        from_version=champion.version if champion else None,
        from_digest=champion.digest if champion else "",
        to_version=version,
        to_digest=registry.get(name, version).digest,
        gate_report_digest="",
        snapshot_ids={},
        approvers=(),
        expires_at=registry.now() + 900 * 10**9,
        break_glass=True,
    )
    envelope = registry.keyring.sign(AUTHOR, claim.to_statement())
    return registry.break_glass(name, version, envelope, initiated_by=AUTHOR, reason="test")
