"""The form of every answer, for the OpenAPI document: names, types, and one example of each.

Answers are written from the registry's own values, not through these classes. That the two agree
is what the tests of the description ask, with answers of every kind.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
_AT = "2026-01-15T10:30:00.000000000Z"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
Moment = Field(description="ISO 8601, UTC, to the nanosecond.", examples=[_AT])
Doubts = Field(
    description="Who has seen more of the log than there is; empty where nobody has.",
    examples=[["signed head 000000000029.json names entry 29, but the log ends at 25: cut off"]],
)
Digest = Field(description="SHA-256, as 64 hexadecimal digits.", examples=[_DIGEST])


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Page(_Document, Generic[T]):
    """Some items, and where the next page begins."""

    items: list[T]
    next: str | int | None = Field(description="For `after`; null on the last page.")


class Health(_Document):
    """The server answers, and its registry opens."""

    status: str = Field(examples=["ok"])
    version: str = Field(examples=["0.1.0"])


class Me(_Document):
    """Whoever a token belongs to."""

    name: str = Field(examples=["quant.demo"])
    kind: str = Field(examples=["person"])
    roles: list[str]
    scopes: list[str] = Field(examples=[["model:read"]])
    identities: list[str]
    owner: str | None
    token_id: str


class LogHeadDocument(_Document):
    """The last entry of the registry's log."""

    seq: int = Field(examples=[42])
    hash: str = Digest
    timestamp: str | None = Moment
    doubts: list[str] = Doubts


class VersionDocument(_Document):
    """One version as the catalogue knows it."""

    name: str = Field(examples=["fx_vol"])
    version: str = Field(examples=["1.2.0"])
    kind: str = Field(examples=["risk_model"])
    stage: str = Field(examples=["production"])
    digest: str = Digest
    author: str = Field(examples=["quant.demo"])
    baseline: bool
    created_at: str = Moment
    registered_at: str = Moment
    registered_seq: int = Field(examples=[17])
    stage_at: str = Moment


class CurrentDocument(VersionDocument):
    """The version in production, with the outcome of its gates."""

    gates: str | None = Field(examples=["PROMOTABLE"])


class ModelDocument(_Document):
    """One model."""

    name: str = Field(examples=["fx_vol"])
    kind: str = Field(examples=["risk_model"])
    versions: int = Field(examples=[3])
    latest: str = Field(examples=["1.2.0"])
    current: VersionDocument | None


class PairsDocument(_Document):
    """How much a challenger was seen beside the version in production, since it began."""

    rows: int = Field(description="Rows that it was asked.", examples=[1_204_112])
    pairs: int = Field(description="Rows that both answered.", examples=[1_204_109])
    without_answer: int = Field(examples=[3])
    dropped: int = Field(description="Rows that it did not get to.", examples=[0])
    stable_hours: float | None = Field(
        description="From the start, the last incident or the last gap to the last pair.",
        examples=[170.5],
    )
    last: str | None = Field(description="When the last pair was made.")


_PAIRS = Field(
    description="Null where the registry's server has no paired log, or where more than four of "
    "its files wait to be summed up, as after an upgrade."
)


class ShadowDocument(_Document):
    """A version that predicts on all live inputs, and on whose answers nothing acts."""

    version: str = Field(examples=["1.2.0"])
    digest: str = Digest
    since: str = Moment
    seq: int = Field(description="The entry of the log that began it.")
    by: str = Field(examples=["quant.demo"])
    seen: PairsDocument | None = _PAIRS


class CanaryDocument(_Document):
    """A version that answers for a share of the entities."""

    version: str = Field(examples=["1.2.0"])
    digest: str = Digest
    champion: str = Field(examples=["1.1.0"])
    share: float = Field(examples=[0.1])
    salt: str = Field(description="Another one chooses other entities.")
    since: str = Moment
    revision: int = Field(description="The entry of the log from which it is judged.")
    by: str = Field(examples=["head.demo"])
    seen: PairsDocument | None = _PAIRS


class ChallengersDocument(_Document):
    """What runs beside the version in production, and how much it was seen."""

    model: str = Field(examples=["fx_vol"])
    champion: str | None = Field(examples=["1.1.0"])
    shadows: list[ShadowDocument]
    canary: CanaryDocument | None


class EntryDocument(_Document):
    """One entry of the log."""

    seq: int
    timestamp: str = Moment
    type: str = Field(examples=["promote"])
    model: str
    from_version: str | None
    to_version: str | None
    initiated_by: str
    outcome: str = Field(examples=["done"])
    reason: str
    evidence: dict[str, Any]
    previous: str = Digest
    hash: str = Digest


class LiveDocument(_Document):
    """What was meant to be live at a moment."""

    name: str
    at: str = Moment
    version: str | None
    digest: str | None
    since: str | None
    seq: int | None
    doubts: list[str] = Doubts


class EvidenceDocument(_Document):
    """One measurement."""

    name: str = Field(examples=["sharpe"])
    value: float | None
    sample_size: int
    convention: str
    interval: list[float] | None
    details: dict[str, Any]
    provenance: dict[str, Any] | None = None


class EvidenceList(_Document):
    """Measurements of a version."""

    items: list[EvidenceDocument]


class GateDocument(_Document):
    """The verdict of one gate."""

    name: str
    severity: str
    value: float | None
    threshold: str
    verdict: str = Field(examples=["PASS"])
    sample_size: int | None
    convention: str
    reason: str


class GatesDocument(_Document):
    """The verdicts about a version, bound to everything they were reached on."""

    name: str
    version: str
    version_digest: str = Digest
    champion_digest: str
    evidence_digest: str = Digest
    policy: str
    policy_digest: str
    results: list[GateDocument]
    switched_off: list[str]
    outcome: str = Field(examples=["PROMOTABLE"])


class JudgedDocument(_Document):
    """The verdicts as they were just reached."""

    policy: str
    policy_digest: str
    evidence_digest: str = Digest
    results: list[GateDocument]
    switched_off: list[dict[str, Any]]
    outcome: str = Field(examples=["PROMOTABLE"])


class RecordedGates(GatesDocument):
    """The same with the digest that approvers approve."""

    digest: str = Digest


class EnvelopeDocument(_Document):
    """A DSSE envelope."""

    payload: str
    payloadType: str  # noqa: N815 - as DSSE spells it
    signatures: list[dict[str, str]]


class ApprovalDocument(_Document):
    """One person's yes."""

    name: str
    version: str
    version_digest: str = Digest
    gate_report_digest: str = Digest
    approver: str
    granted_at: str = Moment
    expires_at: str = Moment
    envelope: EnvelopeDocument | None


class RecordedApproval(ApprovalDocument):
    """The same with its entry in the log."""

    seq: int


class ApprovalCount(_Document):
    """Whose yes counts now."""

    approvers: list[str]
    needed: int
    sufficient: bool
    ignored: list[str]


class ApprovalsDocument(_Document):
    """Every approval of a version, and what they amount to."""

    items: list[RecordedApproval]
    count: ApprovalCount | None


class WholeVersion(_Document):
    """One version, whole."""

    record: VersionDocument
    metadata: dict[str, Any]
    schema_: dict[str, Any] | None = Field(alias="schema")
    contents: list[str]
    signed_by: str
    signature_note: str | None
    collected: dict[str, Any] | None
    evidence: list[EvidenceDocument]
    gates: GatesDocument | None
    approvals: list[ApprovalDocument]


class FileProblem(_Document):
    """What is wrong with one file."""

    file: str
    reason: str


class ValidationDocument(_Document):
    """The state of a version's files and signature."""

    name: str
    version: str
    digest: str = Digest
    ok: bool
    problems: list[FileProblem]
    signature: str
    files_checked: int


class LineageNode(_Document):
    """One thing that a version comes from, or that became of it."""

    id: str
    kind: str
    name: str
    digest: str | None
    at: str | None
    found: bool
    facts: dict[str, Any]


class LineageEdge(_Document):
    """What was made from what."""

    from_: str = Field(alias="from")
    to: str
    what: str


class LineageDocument(_Document):
    """What a version was made from, from raw facts to the log of what became of it."""

    format: str
    model: str
    version: str
    nodes: list[LineageNode]
    edges: list[LineageEdge]


class LineageFindingDocument(_Document):
    """One link of a lineage."""

    what: str
    verdict: str
    detail: str


class LineageCheckDocument(_Document):
    """Whether everything that a version names is there."""

    ok: bool
    model: str
    version: str
    findings: list[LineageFindingDocument]


class ComparedDocument(_Document):
    """One thing in both versions."""

    name: str
    before: Any
    after: Any
    equal: bool


class ComparedGateDocument(_Document):
    """One gate in both versions."""

    name: str
    before: GateDocument | None
    after: GateDocument | None
    equal: bool


class ComparisonDocument(_Document):
    """Two versions side by side."""

    model: str
    before: VersionDocument
    after: VersionDocument
    facts: list[ComparedDocument]
    metrics: list[ComparedDocument]
    input_schema: list[ComparedDocument]
    configuration: list[ComparedDocument]
    data: list[ComparedDocument]
    environment: list[ComparedDocument]
    files: list[ComparedDocument]
    outcome: ComparedDocument
    gates: list[ComparedGateDocument]
    features: list[dict[str, Any]]
    unknown_features: str | None


class ReportDocument(_Document):
    """One page that was written on the server's machine."""

    name: str = Field(examples=["report.html"])
    bytes: int
    written_at: str = Moment


class ReportList(_Document):
    """The pages that there are."""

    items: list[ReportDocument]


class TokenDocument(_Document):
    """A token, and until when it is good."""

    token: str
    token_type: str = Field(examples=["Bearer"])
    expires_at: str = Moment
    expires_at_seconds: int


class RegistrationDocument(_Document):
    """What came of an upload; ``created`` is false where the content was there already."""

    name: str
    version: str
    digest: str = Digest
    stage: str
    created: bool


class ToSign(_Document):
    """What a person reads and signs: the bytes of ``payload``, as text."""

    identity: str
    purpose: str
    payload: str


class ActivationDocument(_Document):
    """How a version was loaded and exercised before it counted."""

    name: str
    version: str
    digest: str = Digest
    rows: int
    stored_rows: bool
    largest_difference: float
    seconds: float


class PromotionDocument(_Document):
    """What came into production."""

    name: str
    from_version: str | None
    to_version: str
    digest: str = Digest
    gate_record_digest: str
    approved_by: list[str]
    break_glass: bool
    seq: int
    activation: ActivationDocument
    seconds: float


class RollbackDocument(_Document):
    """What was withdrawn, and what came back."""

    name: str
    from_version: str | None
    to_version: str
    withdrawn_as: str | None
    reason: str
    dry_run: bool
    seq: int | None
    activation: ActivationDocument
    seconds: float
