"""Does the log tell the whole story? Everything that could contradict it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from assay.domain.instants import Instant, parse
from assay.errors import AssayError, Refused, Tampered
from assay.registry.acknowledging import acknowledged_by
from assay.registry.artifacts import Artifacts, Place
from assay.registry.countersigning import vouched_by
from assay.registry.file_ledger import FileLedger
from assay.registry.folders import FolderArtifacts
from assay.registry.index_check import compare_with_log
from assay.registry.keyring import APPROVAL, PROMOTION, KeyRing, RevokedKey
from assay.registry.ledger import Ledger
from assay.registry.lifecycle import EventOutcome, EventType
from assay.registry.log import EMPTY, Entry, LogProblem, LogReport, SignedHeads
from assay.registry.records import PromotionClaim
from assay.registry.sealed import SIGNATURE, log_head_of
from assay.registry.signing import Envelope

APPROVALS_NEEDED = 2
"""Different people, none of them the author, without whom nothing is promoted."""


def read_claim(envelope: Envelope, keyring: KeyRing, at: Instant) -> PromotionClaim:
    """The promotion that an envelope asserts, its signature verified as of a moment."""
    return PromotionClaim.from_statement(keyring.verify(envelope, PROMOTION, at=at).statement)


class RevokedPromotion(Tampered):
    """A promotion whose statement was signed with a key that was revoked since."""


def verify_promotion(
    entry: Entry,
    digest: str,
    keyring: KeyRing,
    *,
    vouched: Callable[[Entry], str | None] = lambda _: None,
    notes: list[str] | None = None,
) -> PromotionClaim:
    """Check the signed statement inside a promotion's entry.

    Parameters
    ----------
    digest: the digest under which the promoted version was registered.
    vouched: who vouches for an entry whose key was revoked since; None for nobody.
    notes: gets a line where somebody does.

    Raises
    ------
    Tampered: there is no statement, its signature does not hold, it had expired, or it is about
        another version than the entry.
    RevokedPromotion: its key was revoked since, and nobody vouches for it.
    """
    where = f"promotion of {entry.model} {entry.to_version} (entry {entry.seq})"
    try:
        envelope = Envelope.from_json(entry.evidence.get("statement"))
        try:
            statement = keyring.verify(envelope, PROMOTION, at=entry.at).statement
        except RevokedKey as error:
            by = vouched(entry)
            if by is None:
                raise
            statement = error.made.statement
            if notes is not None:
                notes.append(f"{where}: {error.message}; {by}")
        claim = PromotionClaim.from_statement(statement)
    except RevokedKey as error:
        again = f"assay models countersign {entry.model} {entry.to_version}"
        raise RevokedPromotion(
            f"{where}: {error.message}", hint=f"{again} vouches for it anew"
        ) from None
    except AssayError as error:
        raise Tampered(f"{where}: {error.message}") from None
    said = (claim.model, claim.from_version, claim.to_version, claim.to_digest)
    if said != (entry.model, entry.from_version, entry.to_version, digest):
        raise Tampered(f"{where}: the signed statement is about another promotion")
    if claim.break_glass != (entry.type is EventType.BREAK_GLASS):
        raise Tampered(f"{where}: the signed statement is of another kind")
    if claim.expires_at <= entry.at:
        raise Tampered(f"{where}: the signed statement had expired")
    return claim


def check_approvals(
    claim: PromotionClaim,
    author: str,
    approvals: Sequence[Entry],
    keyring: KeyRing,
    at: Instant,
    *,
    notes: list[str] | None = None,
) -> None:
    """Check that those whom a promotion names as approvers have approved, as the log has it.

    Parameters
    ----------
    author: of the promoted version. approvals: the entries about it. at: when it was promoted.
    notes: for a promotion of the past: an approval counts though its key was revoked since, and
        is noted here. None for one that is to happen now, where it does not count.

    Raises
    ------
    Refused: somebody has not, or too few people other than the author have.
    """
    given = {who for who in (_approver(one, claim, keyring, at, notes) for one in approvals) if who}
    missing = sorted(set(claim.approvers) - given)
    if missing:
        raise Refused(
            f"the log holds no approval by {', '.join(missing)} of {claim.model} "
            f"{claim.to_version} under gate report {claim.gate_report_digest[:12]}"
        )
    people = set(claim.approvers) - {author}
    if len(people) < APPROVALS_NEEDED:
        raise Refused(
            f"{claim.model} {claim.to_version} has approvals of {sorted(people)}: expected "
            f"{APPROVALS_NEEDED} different people other than its author"
        )


def _approver(
    entry: Entry, claim: PromotionClaim, keyring: KeyRing, at: Instant, notes: list[str] | None
) -> str | None:
    """Who approved what is claimed, by an entry; None where it is no approval of that."""
    said: Mapping[str, Any] = entry.evidence
    note = None
    try:
        # One that is not signed is anybody's: it carries nothing, whoever it names.
        envelope = Envelope.from_json(said["envelope"])
        try:
            made = keyring.verify(envelope, APPROVAL, at=entry.at)
        except RevokedKey as error:
            if notes is None:
                raise
            made, note = error.made, error.message
        said = made.statement.predicate
        if made.identity != said["approver"]:
            return None
        about = (said["name"], said["version"], said["version_digest"], said["gate_report_digest"])
        wanted = (claim.model, claim.to_version, claim.to_digest, claim.gate_report_digest)
        if about == wanted and parse(said["granted_at"]) <= at < parse(said["expires_at"]):
            if note and notes is not None:
                what = f"approval of {entry.model} {entry.to_version} (entry {entry.seq})"
                notes.append(f"{what}: {note}")
            return str(said["approver"])
    except (AssayError, KeyError, TypeError):
        pass
    return None


def verify_registry(
    root: Path,
    keyring: KeyRing,
    audit_path: Path | None,
    ledger: Ledger | None = None,
    artifacts: Artifacts | None = None,
    *,
    known: Iterable[tuple[int, str, str]] = (),
) -> LogReport:
    """Walk the log; hold it against signed heads, version folders, the index and the export.

    It only reads, and works on a registry too broken to be opened.

    Parameters
    ----------
    ledger: where log and catalogue are; a file and SQLite in ``root`` when not given.
    artifacts: where the files of versions are; folders in ``root`` when not given.
    known: further heads of the log, as others saw them: entry number, hash, where it is written.
    """
    kept, stored = ledger or FileLedger(root), artifacts or FolderArtifacts(root)
    with kept.lock():
        heads = SignedHeads(root / "log" / "heads")
        report = heads.verify(
            kept.lines(), keyring, chain(_heads_in_versions(stored, keyring), known)
        )
        problems, notes = [*report.problems], [*report.notes]
        problems.extend(_index_problems(kept, report))
        acknowledged: frozenset[tuple[str, int, str]] = frozenset()
        if all(one.lost or one.uncovered for one in problems):  # every entry can be read
            entries = [entry for entry, _ in kept.entries_after(EMPTY)]
            acknowledged = acknowledged_by(entries, keyring, notes)
            problems = settle(problems, acknowledged, notes)
            if all(one.uncovered for one in problems):
                story = _Story(keyring, report.signed_up_to, notes)
                problems.extend(story.problems(entries))
                problems.extend(story.missing(stored))
        if audit_path is not None:
            problems.extend(_export_problems(audit_path, kept))
    return LogReport(
        report.entries,
        report.head,
        report.signed_up_to,
        tuple(problems),
        tuple(notes),
        acknowledged,
    )


def settle(
    problems: Iterable[LogProblem],
    acknowledged: frozenset[tuple[str, int, str]],
    notes: list[str],
) -> list[LogProblem]:
    """Problems without losses that were acknowledged: those become notes."""
    left = []
    for problem in problems:
        if problem.lost is not None and problem.lost in acknowledged:
            notes.append(f"acknowledged loss: {problem.detail}")
        else:
            left.append(problem)
    return left


def _heads_in_versions(artifacts: Artifacts, keyring: KeyRing) -> Iterator[tuple[int, str, str]]:
    """The end of the log at each version's registration, as its signature states it."""
    for place in artifacts.places():
        try:
            signature = artifacts.read_file(
                place.name, place.version, place.digest or "", SIGNATURE
            )
            seq, stated = log_head_of(signature, keyring)
        except AssayError:
            continue  # validating the version names this; it says nothing about the log
        yield seq, stated, f"version {place.name} {place.version}"


def _index_problems(ledger: Ledger, report: LogReport) -> Iterator[LogProblem]:
    try:
        applied = ledger.catalogue.applied()
    except AssayError as error:
        yield LogProblem(0, f"the index cannot be read: {error.message}")
        return
    if applied is None:
        return
    try:
        for found in ledger.damage():
            yield LogProblem(0, f"the index: {found}")
    except AssayError as error:
        yield LogProblem(0, f"the index cannot be read: {error.message}")
    # An index that is behind is no contradiction: the next opening follows.
    if applied.seq > report.entries:
        yield LogProblem(
            0,
            f"the index has applied entry {applied.seq}, but the log ends at {report.entries}: "
            "cut off",
        )
    elif applied.seq == report.head.seq and applied.hash != report.head.hash:
        yield LogProblem(0, f"the index has applied another entry {applied.seq}: replaced")
    elif not report.problems:
        # Only a log that verifies can say what an index over it should hold.
        try:
            for found in compare_with_log(ledger):
                yield LogProblem(0, f"the index: {found}")
        except AssayError as error:
            yield LogProblem(0, f"the index cannot be read: {error.message}")


_Key = tuple[str, str | None]


@dataclass(slots=True)
class _Story:
    """What the entries tell of versions, held against signatures and files."""

    keyring: KeyRing
    signed_up_to: int
    notes: list[str]
    digests: dict[_Key, str] = field(default_factory=dict)
    collected: set[_Key] = field(default_factory=set)

    def problems(self, entries: Sequence[Entry]) -> Iterator[LogProblem]:
        """What is wrong with promotions and the approvals behind them."""
        authors: dict[_Key, str] = {}
        approvals: dict[_Key, list[Entry]] = {}
        about: dict[_Key, list[Entry]] = {}
        done = [entry for entry in entries if entry.outcome is EventOutcome.DONE]
        for entry in done:
            if entry.type is EventType.COUNTERSIGN:
                about.setdefault((entry.model, entry.to_version), []).append(entry)
        for entry in done:
            key = (entry.model, entry.to_version)
            if entry.type is EventType.REGISTER:
                self.digests[key] = entry.evidence["digest"]
                authors[key] = entry.evidence["author"]
            elif entry.type is EventType.APPROVE:
                approvals.setdefault(key, []).append(entry)
            elif entry.type is EventType.COLLECT:
                self.collected.add(key)
            elif entry.type is EventType.RESTORE:
                self.collected.discard(key)
            elif entry.type in {EventType.PROMOTE, EventType.BREAK_GLASS}:
                given = approvals.get(key, [])
                try:
                    self._promotion(entry, authors.get(key, ""), given, about.get(key, []))
                except RevokedPromotion as error:
                    yield LogProblem(entry.seq, error.message, uncovered=True)
                except (Tampered, Refused) as error:
                    yield LogProblem(entry.seq, error.message)

    def _promotion(
        self, entry: Entry, author: str, approvals: Sequence[Entry], about: Sequence[Entry]
    ) -> None:
        digest = self.digests.get((entry.model, entry.to_version), "")

        def vouched(one: Entry) -> str | None:
            # That it happened is sure where a head covers it; to serve it takes more.
            covered = f"a later signed head covers it, up to entry {self.signed_up_to}"
            by = vouched_by(about, digest, self.keyring, one)
            return by or (covered if one.seq <= self.signed_up_to else None)

        claim = verify_promotion(entry, digest, self.keyring, vouched=vouched, notes=self.notes)
        if not claim.break_glass:
            check_approvals(claim, author, approvals, self.keyring, entry.at, notes=self.notes)

    def missing(self, artifacts: Artifacts) -> Iterator[LogProblem]:
        """Versions without files, and files without a version."""
        for (name, version), digest in self.digests.items():
            place = (name, str(version), digest)
            # A registration that was killed is given its place by the next opening.
            if (name, version) in self.collected:
                continue
            if not artifacts.is_there(*place) and not artifacts.is_prepared(*place):
                yield LogProblem(0, f"version {name} {version} is gone, though it was registered")
        for found in artifacts.places():
            digest = self.digests.get((found.name, found.version), "")
            if not digest or (found.digest or digest) != digest:
                yield LogProblem(0, never_registered(found, artifacts.where))


def never_registered(place: Place, where: str) -> str:
    """What is said of files of a version that the log has never heard of."""
    return (
        f"version {place.name} {place.version} stands in {where}, but was never registered: the "
        "log was cut, or somebody put it there"
    )


def _export_problems(audit_path: Path, ledger: Ledger) -> Iterator[LogProblem]:
    """The export is a copy of the log, byte for byte; the first line that is not is named."""
    theirs = audit_path.open("rb") if audit_path.exists() else BytesIO()
    with theirs:
        for number, (line, copy) in enumerate(zip_longest(ledger.lines(), theirs), start=1):
            if line != copy:
                what = "ends before" if copy is None else "differs from the log at"
                yield LogProblem(number, f"audit export {audit_path.name} {what} line {number}")
                return
