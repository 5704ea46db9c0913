"""Does the log tell the whole story? Everything that could contradict it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain, zip_longest
from pathlib import Path

from assay.errors import AssayError, Tampered
from assay.registry.catalogue import Catalogue
from assay.registry.folders import SIGNATURE, pending_folder
from assay.registry.keyring import PROMOTION, VERSION, KeyRing
from assay.registry.lifecycle import EventOutcome, EventType
from assay.registry.log import EMPTY, Entry, EventLog, LogProblem, LogReport
from assay.registry.records import PromotionClaim
from assay.registry.signing import Envelope
from assay.storage.sqlite import SqliteFile


def read_claim(envelope: Envelope, keyring: KeyRing) -> PromotionClaim:
    """The promotion that an envelope asserts, its signature verified."""
    return PromotionClaim.from_statement(keyring.verify(envelope, PROMOTION).statement)


def verify_promotion(entry: Entry, digest: str, keyring: KeyRing) -> PromotionClaim:
    """Check the signed statement inside a promotion's entry.

    Parameters
    ----------
    digest: the digest under which the promoted version was registered.

    Raises
    ------
    Tampered: there is no statement, its signature does not hold, it had expired, or it is about
        another version than the entry.
    """
    where = f"promotion of {entry.model} {entry.to_version} (entry {entry.seq})"
    try:
        envelope = Envelope.from_json(entry.evidence.get("statement"))
        claim = read_claim(envelope, keyring)
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


def verify_registry(
    root: Path,
    keyring: KeyRing,
    audit_path: Path | None,
    *,
    known: Iterable[tuple[int, str, str]] = (),
) -> LogReport:
    """Walk the log; hold it against signed heads, version folders, the index and the export.

    It only reads, and works on a registry too broken to be opened.

    Parameters
    ----------
    known: further heads of the log, as others saw them: entry number, hash, where it is written.
    """
    log = EventLog(root / "log")
    with SqliteFile(root / "registry.db").lock():
        report = log.verify(keyring, chain(_heads_in_versions(root, keyring), known))
        problems = [*report.problems]
        problems.extend(_index_problems(root, report))
        if not problems:
            problems.extend(_entry_problems(root, log, keyring))
        if audit_path is not None:
            problems.extend(_export_problems(audit_path, log))
    return LogReport(report.entries, report.head, report.signed_up_to, tuple(problems))


def _heads_in_versions(root: Path, keyring: KeyRing) -> Iterator[tuple[int, str, str]]:
    """The end of the log at each version's registration, as its signature states it."""
    for path in sorted((root / "artifacts").glob(f"*/*/{SIGNATURE}")):
        try:
            made = keyring.verify(Envelope.from_bytes(path.read_bytes()), VERSION)
            head = made.statement.predicate["log_head"]
            version = f"version {path.parent.parent.name} {path.parent.name}"
            yield int(head["seq"]), str(head["hash"]), version
        except (AssayError, KeyError, TypeError, ValueError, OSError):
            continue  # validating the version names this; it says nothing about the log


def _index_problems(root: Path, report: LogReport) -> Iterator[LogProblem]:
    try:
        applied = Catalogue(root / "registry.db").applied()
    except AssayError as error:
        yield LogProblem(0, f"the index cannot be read: {error.message}")
        return
    if applied is None:
        return
    # An index that is behind is no contradiction: the next opening follows.
    if applied.seq > report.entries:
        yield LogProblem(
            0,
            f"the index has applied entry {applied.seq}, but the log ends at {report.entries}: "
            "cut off",
        )
    elif applied.seq == report.head.seq and applied.hash != report.head.hash:
        yield LogProblem(0, f"the index has applied another entry {applied.seq}: replaced")


def _entry_problems(root: Path, log: EventLog, keyring: KeyRing) -> Iterator[LogProblem]:
    registered: dict[tuple[str, str | None], str] = {}
    for entry, _ in log.entries_after(EMPTY):
        if entry.outcome is not EventOutcome.DONE:
            continue
        key = (entry.model, entry.to_version)
        if entry.type is EventType.REGISTER:
            registered[key] = entry.evidence["digest"]
        elif entry.type in {EventType.PROMOTE, EventType.BREAK_GLASS}:
            try:
                verify_promotion(entry, registered.get(key, ""), keyring)
            except Tampered as error:
                yield LogProblem(entry.seq, error.message)
    for (name, version), digest in registered.items():
        folder = root / "artifacts" / name / str(version)
        # A registration that was killed is given its folder by the next opening.
        if not folder.exists() and not pending_folder(folder, digest).exists():
            yield LogProblem(0, f"folder {name}/{version} is gone, though it was registered")
    for folder in sorted((root / "artifacts").glob("*/[0-9]*")):
        if (folder.parent.name, folder.name) not in registered:
            yield LogProblem(
                0,
                f"folder {folder.parent.name}/{folder.name} was never registered: the log was cut, "
                "or somebody put it there",
            )


def _export_problems(audit_path: Path, log: EventLog) -> Iterator[LogProblem]:
    """The export is a copy of the log, byte for byte; the first line that is not is named."""
    ours = log.path.open("rb") if log.path.exists() else BytesIO()
    theirs = audit_path.open("rb") if audit_path.exists() else BytesIO()
    with ours, theirs:
        for number, (line, copy) in enumerate(zip_longest(ours, theirs), start=1):
            if line != copy:
                what = "ends before" if copy is None else "differs from the log at"
                yield LogProblem(number, f"audit export {audit_path.name} {what} line {number}")
                return
