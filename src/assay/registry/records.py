"""What the registry answers with, and what it is told about a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.domain.canonical import content_hash
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant, parse, render
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict
from assay.domain.versions import Stage
from assay.errors import Tampered
from assay.registry.catalogue import VersionRecord
from assay.registry.keyring import PROMOTION
from assay.registry.signing import Statement


@dataclass(frozen=True, slots=True)
class Registration:
    """The answer to a registration. ``created`` is False when the content was there already."""

    name: str
    version: str
    digest: str
    stage: Stage
    created: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "stage": str(self.stage),
            "created": self.created,
        }


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """What was meant to be live at a moment: the registry's intention, not a server's report.

    ``version`` is None when nothing was in production; ``since`` and ``seq`` name the entry that
    made it so, None before the first promotion.
    """

    name: str
    at: Instant
    version: VersionRecord | None
    since: Instant | None
    seq: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "at": render(self.at),
            "version": self.version.version if self.version else None,
            "digest": self.version.digest if self.version else None,
            "since": None if self.since is None else render(self.since),
            "seq": self.seq,
        }


@dataclass(frozen=True, slots=True)
class GateRecord:
    """The gates' verdicts about one version, bound to everything they were reached on.

    ``policy`` names the set of gates, ``switched_off`` those of them that were not asked.
    ``champion_digest`` is the version in production at that time ("" for none): evidence against
    a champion says nothing about its successor.
    """

    name: str
    version: str
    version_digest: str
    champion_digest: str
    evidence_digest: str
    policy: str
    policy_digest: str
    results: tuple[GateResult, ...]
    switched_off: tuple[str, ...]
    outcome: Outcome

    @property
    def digest(self) -> str:
        """SHA-256 of the whole report: what approvers approve."""
        return content_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "version_digest": self.version_digest,
            "champion_digest": self.champion_digest,
            "evidence_digest": self.evidence_digest,
            "policy": self.policy,
            "policy_digest": self.policy_digest,
            "results": [result.to_json() for result in self.results],
            "switched_off": list(self.switched_off),
            "outcome": str(self.outcome),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GateRecord:
        results = tuple(
            GateResult(
                **{
                    **item,
                    "severity": Severity(item["severity"]),
                    "verdict": Verdict(item["verdict"]),
                }
            )
            for item in document["results"]
        )
        return cls(
            **{
                **document,
                "results": results,
                "switched_off": tuple(document["switched_off"]),
                "outcome": Outcome(document["outcome"]),
            }
        )


@dataclass(frozen=True, slots=True)
class PromotionClaim:
    """What a promotion's signature binds together.

    ``gate_report_digest`` and ``approvers`` are empty only in a broken-glass promotion;
    ``configuration``, the SHA-256 of each configuration file, where it was not known.
    """

    model: str
    from_version: str | None
    from_digest: str
    to_version: str
    to_digest: str
    gate_report_digest: str
    snapshot_ids: Mapping[str, str]
    approvers: tuple[str, ...]
    expires_at: Instant
    break_glass: bool = False
    configuration: Mapping[str, str] = field(default_factory=dict)

    def to_statement(self) -> Statement:
        """The statement to be signed; its subject is the version that becomes live."""
        # Absent rather than empty, as in statements from before configurations were bound.
        bound = {"configuration": dict(self.configuration)} if self.configuration else {}
        return Statement(
            purpose=PROMOTION,
            subjects={f"{self.model}/{self.to_version}": self.to_digest},
            predicate={
                "model": self.model,
                "from_version": self.from_version,
                "from_digest": self.from_digest,
                "to_version": self.to_version,
                "to_digest": self.to_digest,
                "gate_report_digest": self.gate_report_digest,
                "snapshot_ids": dict(self.snapshot_ids),
                "approvers": list(self.approvers),
                "expires_at": render(self.expires_at),
                "break_glass": self.break_glass,
                **bound,
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> PromotionClaim:
        try:
            predicate = dict(statement.predicate)
            claim = cls(
                **{
                    **predicate,
                    "approvers": tuple(predicate["approvers"]),
                    "expires_at": parse(predicate["expires_at"]),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise Tampered(f"the promotion's statement cannot be read: {error}") from None
        if claim.to_statement() != statement:
            raise Tampered("the promotion's statement names another subject than its version")
        return claim


def evidence_digest(evidence: Sequence[Evidence]) -> str:
    """SHA-256 over a version's evidence; its order does not matter."""
    return content_hash([item.to_json() for item in sorted(evidence, key=lambda item: item.name)])
