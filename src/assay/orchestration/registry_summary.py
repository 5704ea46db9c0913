"""The state of the whole registry: every file of every version checked, and the log with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from assay.domain.instants import Instant, render
from assay.domain.versions import Stage
from assay.errors import NotFound, Tampered
from assay.orchestration.desk import Desk
from assay.orchestration.effective import verify_records
from assay.orchestration.progress import Progress
from assay.registry import LogReport, VersionRecord
from assay.storage.files import write_atomic

PAGE: Final = Path("reports", "models", "registry_summary.md")


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version: its record, what is wrong with its files, and whether they were collected."""

    record: VersionRecord
    problems: tuple[str, ...]
    signature: str
    collected: bool


@dataclass(frozen=True, slots=True)
class RegistrySummary:
    """What a check of everything found, at a moment."""

    at: Instant
    versions: tuple[VersionState, ...]
    log: LogReport
    where: str

    @property
    def ok(self) -> bool:
        return self.log.ok and not any(one.problems for one in self.versions)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "at": render(self.at),
            "artifacts": self.where,
            "log": self.log.to_json(),
            "versions": [
                {
                    "name": one.record.name,
                    "version": one.record.version,
                    "stage": str(one.record.stage),
                    "digest": one.record.digest,
                    "collected": one.collected,
                    "signature": one.signature,
                    "problems": list(one.problems),
                }
                for one in self.versions
            ],
        }

    def to_markdown(self) -> str:
        """The page ``registry_summary.md``."""
        stages = Counter(str(one.record.stage) for one in self.versions)
        live = [one.record for one in self.versions if one.record.stage is Stage.PRODUCTION]
        wrong = [one for one in self.versions if one.problems]
        lines = [
            "# Registry",
            "",
            f"Checked at {render(self.at)}: {'everything verifies' if self.ok else 'PROBLEMS'}.",
            "",
            f"- versions: {len(self.versions)} ("
            + ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items()))
            + f"), {sum(one.collected for one in self.versions)} with files collected",
            f"- files: in {self.where}",
            f"- log: {self.log.entries} entries, the last `{self.log.head.hash[:16]}`",
            f"- signed up to entry {self.log.signed_up_to}",
            "",
            "| in production | version | since | digest |",
            "|---|---|---|---|",
            *(
                f"| {one.name} | {one.version} | {render(one.stage_at)} | `{one.digest[:16]}` |"
                for one in live
            ),
        ]
        if wrong or not self.log.ok:
            lines += ["", "## Problems", ""]
            lines += [f"- log: {problem}" for problem in self.log.problems]
            lines += [
                f"- {one.record.name} {one.record.version}: {problem}"
                for one in wrong
                for problem in one.problems
            ]
        if self.log.notes:
            lines += ["", "## Notes", "", *(f"- {note}" for note in self.log.notes)]
        lines += [
            "",
            "| model | version | stage | kind | author | signature |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {one.record.name} | {one.record.version} | {one.record.stage} | {one.record.kind} "
            f"| {one.record.author} | {one.signature} |"
            for one in self.versions
        ]
        return "\n".join(lines) + "\n"


def summarize_registry(desk: Desk, progress: Progress) -> RegistrySummary:
    """Check every version and the log, and write the page.

    Raises
    ------
    Tampered: the log was cut or replaced under the catalogue, so that nothing can be asked.
    """
    registry = desk.registry
    records = registry.list()
    progress.event(f"checking every byte of {len(records)} versions")
    versions = []
    for record in records:
        collected = registry.collected(record) is not None
        problems: tuple[str, ...] = ()
        signature = "collected" if collected else "missing"
        if not collected:
            try:
                report = registry.validate(record.name, record.version)
            except (NotFound, Tampered) as error:
                problems = (error.message,)
            else:
                problems = tuple(f"{one.file}: {one.reason}" for one in report.problems)
                signature = report.signature
                if record.stage is Stage.FAILED and registry.is_whole(record):
                    problems = ()  # its key was revoked since, and nothing uses it any more
        versions.append(VersionState(record, problems, signature, collected))
    progress.event("walking the log")
    summary = RegistrySummary(
        registry.now(), tuple(versions), verify_records(desk), registry.journal.artifacts.where
    )
    write_atomic(desk.layout.root / PAGE, summary.to_markdown().encode())
    return summary
