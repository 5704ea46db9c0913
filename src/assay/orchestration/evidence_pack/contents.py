"""From a desk to the document of a pack: plain values, each as it is recorded.

Nothing in it depends on when it is asked for. Its moment is that of the log's last entry; whether
an approval or a date has passed since is for the reader's calendar.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any, Final

from assay.delivery.approvals import Approval
from assay.domain.canonical import sha256_hex
from assay.domain.instants import Instant, render
from assay.domain.verdicts import Verdict
from assay.errors import AssayError, Tampered
from assay.orchestration.desk import Desk
from assay.orchestration.effective import UNSIGNED, effective_at
from assay.orchestration.evidence_pack.crosswalk import NOTICE, SOURCES, TOPICS
from assay.orchestration.evidence_pack.declared import Declared, read_declared
from assay.orchestration.lineage import check_lineage, lineage_of
from assay.orchestration.scorecards import KeptScorecard, scorecards_of
from assay.registry import (
    Entry,
    EventOutcome,
    EventType,
    GateRecord,
    PromotionClaim,
    VerifiedVersion,
    VersionRecord,
)
from assay.registry.keyring import APPROVAL, COUNTERSIGNATURE, PROMOTION
from assay.registry.lifecycle import DEPLOYMENT_EVENTS, MOVES
from assay.registry.sealed import SIGNATURE
from assay.registry.signing import Envelope

FORMAT: Final = "assay-evidence-pack/1"
NOT_DECLARED: Final = "not declared"
FROM_METADATA: Final = (
    "snapshot_ids",
    "dataset_version_ids",
    "training_set_digest",
    "training_set_rows",
    "training_set_known_at",
    "manifest_hash",
    "config",
    "config_hash",
    "seeds",
    "parent_run",
    "git_commit",
    "environment",
    "metrics",
    "baseline",
    "policy",
)
"""What a pack repeats from the version's signed metadata."""
SCORECARDS: Final = "scorecards"
_OUTCOMES: Final = (EventType.FAIL, EventType.ROLLBACK_REQUESTED, EventType.ROLLBACK)
_BESIDE: Final = (*DEPLOYMENT_EVENTS, EventType.ROLLBACK_REQUESTED)

_STATEMENTS: Final = {
    EventType.APPROVE: ("envelope", "approval", APPROVAL),
    EventType.PROMOTE: ("statement", "promotion", PROMOTION),
    EventType.BREAK_GLASS: ("statement", "promotion", PROMOTION),
    EventType.COUNTERSIGN: ("statement", "countersignature", COUNTERSIGNATURE),
}


def gather_pack(
    desk: Desk, name: str, version: str, cards: Sequence[KeptScorecard] | None = None
) -> dict[str, Any]:
    """The document of a pack, as JSON values.

    Parameters
    ----------
    cards: the version's scorecards, where they were read already; None to read them.

    Raises
    ------
    NotFound: no such version. Tampered: the version, or the log, does not verify.
    ConfigurationError: what is declared about the model cannot be read.
    """
    registry = desk.registry
    record = registry.get(name, version)
    opened = registry.keep_version(name, record.version)
    entries = registry.history(name)
    own = [one for one in entries if record.version in {one.from_version, one.to_version}]
    log = registry.verify_log()
    if not log.ok:
        raise Tampered(
            f"no pack over a log that does not verify: {log.problems[0]}",
            hint="assay audit verify says what is wrong",
        )
    declared = read_declared(desk.layout.root, name)
    gates = registry.gate_record(name, record.version)
    as_of = registry.latest(1)[0].at
    return {
        "format": FORMAT,
        "written_by": f"assay {version_of('assay')}",
        "notice": NOTICE,
        "desk": desk.layout.name,
        "as_of": render(as_of),
        "log_head": log.head.to_json(),
        "log_signed_up_to": log.signed_up_to,
        "log_notes": list(log.notes),
        "identity": _identity(record, opened),
        "declared": declared.to_json(),
        "data": _data(opened),
        "lineage": check_lineage(desk, name, record.version).to_json(),
        "graph": lineage_of(desk, name, record.version).to_json(),
        "evidence": [one.to_json() for one in registry.evidence(name, record.version)],
        "gates": None if gates is None else gates.to_json(),
        "people": _people(desk, record, opened, own, declared),
        "live": _live(desk, name, record, entries, as_of),
        "outcomes": [_outcome(one) for one in own if one.type in _OUTCOMES],
        "beside": beside(entries, record.version),
        "scorecards": [
            scorecard_line(f"{SCORECARDS}/{one.name}", one.data)
            for one in (scorecards_of(desk, name, record.version) if cards is None else cards)
        ],
        "not_tested": _not_tested(gates, declared),
        "history": [entry_line(one) for one in own],
        "crosswalk": [
            {"topic": one.name, "sr_11_7": one.formerly, "parts": list(one.parts)} for one in TOPICS
        ],
        "sources": [{"title": title, "url": url} for title, url in SOURCES],
    }


def statements_in(entry: Entry) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Path in a pack, envelope and purpose of the signed statement that an entry holds, if any."""
    found = _STATEMENTS.get(entry.type)
    if found is not None:
        key, what, purpose = found
        envelope = entry.evidence.get(key)
        if envelope is not None:
            yield f"statements/{what}-{entry.seq:06d}.json", envelope, purpose


def _identity(record: VersionRecord, opened: VerifiedVersion) -> dict[str, Any]:
    return {
        **record.to_json(),
        "signed_by": opened.signed_by,
        "signed_with": Envelope.from_bytes(opened.files[SIGNATURE]).key_id,
        "signature_note": opened.note,
        "files": {
            name: {"sha256": sha256_hex(data), "bytes": len(data)}
            for name, data in sorted(opened.files.items())
        },
    }


def _data(opened: VerifiedVersion) -> dict[str, Any]:
    stated = opened.metadata.to_json()
    return {
        **{name: stated[name] for name in FROM_METADATA},
        "schema": None if opened.inputs is None else opened.inputs.to_json(),
    }


def _people(
    desk: Desk,
    record: VersionRecord,
    opened: VerifiedVersion,
    own: Sequence[Entry],
    declared: Declared,
) -> dict[str, Any]:
    approvals = [
        _approval(desk, one)
        for one in own
        if one.type is EventType.APPROVE and one.to_version == record.version
    ]
    promotions = [
        _promotion(desk, one)
        for one in own
        if one.type in {EventType.PROMOTE, EventType.BREAK_GLASS}
        and one.outcome is EventOutcome.DONE
        and one.to_version == record.version
    ]
    approvers = {one["approver"] for one in approvals if one["signature"] == "valid"}
    used = [set(one["approvers"]) for one in promotions]
    return {
        "author": record.author,
        "signed_by": opened.signed_by,
        "validator": declared.validator,
        "approvals": approvals,
        "promotions": promotions,
        "separation": [
            _rule("the author approved nothing", record.author not in approvers, bool(approvers)),
            _rule(
                "every promotion named two different approvers, none of them the author",
                all(len(one) >= 2 and record.author not in one for one in used),
                bool(used),
            ),
            _rule(
                "nobody broke the glass",
                not any(one["break_glass"] for one in promotions),
                bool(promotions),
            ),
            _rule(
                "the declared validator is not the author",
                declared.validator != record.author,
                declared.validator is not None,
            ),
        ],
    }


def _rule(says: str, holds: bool, asked: bool) -> dict[str, Any]:
    verdict = Verdict.INDETERMINATE if not asked else Verdict.PASS if holds else Verdict.FAIL
    return {"rule": says, "verdict": str(verdict)}


def _approval(desk: Desk, entry: Entry) -> dict[str, Any]:
    approval = Approval.from_json(entry.evidence)
    signature = "not signed"
    if approval.envelope is not None:
        try:
            made = desk.keyring.verify(approval.envelope, APPROVAL, at=entry.at)
            same = made.statement == approval.to_statement()
            same = same and made.identity == approval.approver
            signature = "valid" if same else "about another approval"
        except AssayError as error:
            signature = error.message
    stated = {key: value for key, value in approval.to_json().items() if key != "envelope"}
    return {"seq": entry.seq, **stated, "signature": signature}


def _promotion(desk: Desk, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seq": entry.seq,
        "at": render(entry.at),
        "by": entry.initiated_by,
        "reason": entry.reason,
        "from_version": entry.from_version,
        "break_glass": entry.type is EventType.BREAK_GLASS,
        "approvers": list(entry.evidence.get("approved_by", [])),
    }
    try:
        envelope = Envelope.from_json(entry.evidence.get("statement"))
        made = desk.keyring.verify(envelope, PROMOTION, at=entry.at)
        claim = PromotionClaim.from_statement(made.statement)
        return found | {
            "signature": "valid",
            "signed_by": made.identity,
            "gate_report_digest": claim.gate_report_digest,
            "expires_at": render(claim.expires_at),
        }
    except AssayError as error:
        return found | {"signature": error.message}


def _live(
    desk: Desk, name: str, record: VersionRecord, entries: Sequence[Entry], as_of: Instant
) -> dict[str, Any]:
    """When it was meant to be live, and what servers had loaded meanwhile."""
    moments = sorted({one.at for one in entries if one.type in MOVES})
    stretches: list[dict[str, Any]] = []
    for start, end in zip(moments, [*moments[1:], None], strict=False):
        answer = desk.registry.live_at(name, start)
        if answer.version is None or answer.version.version != record.version:
            continue
        if stretches and stretches[-1]["to"] == render(start):
            stretches[-1]["to"] = None if end is None else render(end)
        else:
            stretches.append({"from": render(start), "to": None if end is None else render(end)})
    found = effective_at(desk, name, as_of)
    gaps = [one for one in found.gaps if record.version in {one.intended, one.effective}]
    unsigned = any(one.load and one.load.signed_by == UNSIGNED for one in found.servers)
    return {
        "intended": stretches,
        "gaps": [one.to_json() for one in gaps],
        "servers_at_that_moment": [one.to_json() for one in found.servers],
        "some_lines_unsigned": unsigned,
        "problems": list(found.problems),
    }


def _outcome(entry: Entry) -> dict[str, Any]:
    return {**entry_line(entry), "evidence": _without_envelopes(entry.evidence)}


def beside(entries: Iterable[Entry], version: str) -> list[dict[str, Any]]:
    """When a version ran beside the one in production, and what was found, as the log says."""
    return [
        _outcome(one)
        for one in entries
        if one.type in _BESIDE and one.to_version == version and one.outcome is EventOutcome.DONE
    ]


def scorecard_line(path: str, data: bytes) -> dict[str, Any]:
    """What a pack says of a scorecard; ``inputs_digest`` is what a recorded measurement names.

    Raises
    ------
    ValueError: it is no JSON.
    """
    document = json.loads(data)
    comparison = document.get("comparison") or {}
    return {
        "path": path,
        "kind": document.get("kind"),
        "at": document.get("at"),
        "sha256": sha256_hex(data),
        "inputs_digest": comparison.get("inputs_digest"),
        "rows": comparison.get("rows"),
        "verdict": (document.get("finding") or {}).get("verdict"),
    }


def _without_envelopes(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in {"statement", "envelope"}}


def entry_line(entry: Entry) -> dict[str, Any]:
    """An entry of the log as a pack shows it."""
    return {
        "seq": entry.seq,
        "at": render(entry.at),
        "event": str(entry.type),
        "from_version": entry.from_version,
        "to_version": entry.to_version,
        "by": entry.initiated_by,
        "outcome": str(entry.outcome),
        "reason": entry.reason,
        "hash": entry.hash,
    }


def _not_tested(gates: GateRecord | None, declared: Declared) -> list[str]:
    """What nobody measured or looked at, as far as the records tell."""
    found = list(declared.not_tested)
    if gates is None:
        found.append("No gate has judged this version.")
    else:
        found += [
            f"Gate {one.name} could not be decided: {one.reason}."
            for one in gates.results
            if one.verdict is Verdict.INDETERMINATE
        ]
        found += [f"Gate {name} was switched off by the policy." for name in gates.switched_off]
    if declared.validator is None:
        found.append("No examination by an independent person is recorded or declared.")
    if not declared.limits:
        found.append("Nobody declared the limits of its use.")
    found.append("No drift or realised performance is recorded beyond the events in the log.")
    return found
