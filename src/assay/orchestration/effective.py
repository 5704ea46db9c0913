"""What was live against what was meant to be: servers' records beside the registry.

1. The registry's log says which version of a model was meant to be live at each moment.
2. A service's record says which bytes each process had loaded, from when to when.
3. Where a process ran and the two differ, that is a gap: with its length, and with what the process
   had instead.

A process that was killed wrote no end. A worker's supervisor writes it instead; any other counts as
running until it is known to have started again, or for ever; :attr:`ServerProcess.heard_at` says
when it last said anything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from assay.domain.instants import MAX_INSTANT, NANOS_PER_SECOND, Instant, parse, render
from assay.errors import AssayError, ContractViolation, Tampered
from assay.orchestration.desk import Desk
from assay.orchestration.witness import SUBJECT
from assay.registry import KeyRing, LiveAnswer, LogProblem, LogReport
from assay.registry.keyring import SERVICE, RevokedKey
from assay.registry.signing import Envelope
from assay.registry.verification import settle
from assay.serving.prediction.service_record import RecordedLine, read_record

UNSIGNED: Final = "not signed"
_ENDS: Final = frozenset({"stopped", "ended"})
"""A process says the first of itself; the second is said of one that was killed."""


@dataclass(frozen=True, slots=True)
class Load:
    """A version in a process, ``until`` another took its place there, or the process ended.

    ``signed_by`` is whose key signed the line, or :data:`UNSIGNED`; ``line`` is its number.
    """

    model: str
    version: str
    digest: str
    ready_at: Instant
    until: Instant
    signed_by: str
    line: int


@dataclass(slots=True)
class ServerProcess:
    """One process of a server, from its start to its end (``MAX_INSTANT`` while none is known)."""

    server: str
    process: int
    started_at: Instant
    heard_at: Instant
    stopped_at: Instant = MAX_INSTANT
    loads: list[Load] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.server or 'server'}:{self.process}"

    def had(self, model: str, at: Instant) -> Load | None:
        """What it had loaded for a model at an instant."""
        found = (one for one in self.loads if one.model == model and one.ready_at <= at < one.until)
        return next(found, None)


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A service's record, read: its processes, the log heads in it, and what is wrong with it.

    ``notes`` name lines by a key that was revoked since. They count like lines that nobody signed.
    """

    processes: tuple[ServerProcess, ...]
    heads: tuple[tuple[int, str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A process had something else than was meant, from ``start`` to ``end``; None is nothing."""

    server: str
    start: Instant
    end: Instant
    intended: str | None
    effective: str | None
    other_digest: bool

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / NANOS_PER_SECOND

    def to_json(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "from": render(self.start),
            "to": render(self.end),
            "seconds": self.seconds,
            "intended": self.intended,
            "effective": self.effective,
            "other_digest": self.other_digest,
        }


@dataclass(frozen=True, slots=True)
class ServerState:
    """What one process had at the moment that was asked about."""

    process: ServerProcess
    load: Load | None
    agrees: bool

    def to_json(self) -> dict[str, Any]:
        load = self.load
        return {
            "server": self.process.name,
            "started_at": render(self.process.started_at),
            "heard_at": render(self.process.heard_at),
            "version": load.version if load else None,
            "digest": load.digest if load else None,
            "ready_at": render(load.ready_at) if load else None,
            "signed_by": load.signed_by if load else None,
            "agrees": self.agrees,
        }


@dataclass(frozen=True, slots=True)
class EffectiveAnswer:
    """Intended and effective at a moment, and every gap up to then."""

    intended: LiveAnswer
    servers: tuple[ServerState, ...]
    gaps: tuple[Gap, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            **self.intended.to_json(),
            "servers": [one.to_json() for one in self.servers],
            "gaps": [one.to_json() for one in self.gaps],
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


def effective_at(desk: Desk, name: str, at: Instant) -> EffectiveAnswer:
    """What was meant to be live at an instant, what each process had, and every gap up to then."""
    record = read_servers(desk.layout.serving_record, desk.keyring)
    intended = desk.registry.live_at(name, at)
    digest = intended.version.digest if intended.version else None
    servers = []
    for one in record.processes:
        if one.started_at <= at < one.stopped_at:
            load = one.had(name, at)
            servers.append(ServerState(one, load, (load.digest if load else None) == digest))
    changes = sorted({entry.at for entry in desk.registry.history(name)})
    meant = [(moment, desk.registry.live_at(name, moment)) for moment in changes]
    gaps = [gap for one in record.processes for gap in _gaps(meant, name, one, at)]
    gaps.sort(key=lambda gap: (gap.start, gap.server))
    return EffectiveAnswer(intended, tuple(servers), tuple(gaps), record.problems, record.notes)


def verify_records(desk: Desk, *, logs_only: bool = False) -> LogReport:
    """Verify the registry's log, also against what servers saw of it, and the record of access.

    Parameters
    ----------
    logs_only: leave out what is wrong with the record of the servers itself: who vouches for the
        logs does not vouch for that.
    """
    record = read_servers(desk.layout.serving_record, desk.keyring)
    report = desk.verify_log(known=record.heads)
    problems = [*report.problems]
    notes = [*report.notes, *record.notes]
    if not logs_only:
        problems += [LogProblem(0, problem) for problem in record.problems]
    if desk.layout.access is not None:
        wrong, remarks = desk.access_log.verify(desk.keyring)
        problems += settle(wrong, report.acknowledged, notes)
        notes += remarks
    return replace(report, problems=tuple(problems), notes=tuple(notes))


def loaded_now(desk: Desk) -> Mapping[tuple[str, str], str]:
    """Model and version -> the servers that have it loaded, by their record.

    A process that was killed counts until one of its number starts again.

    Raises
    ------
    Tampered: the record has changed, so that what it says of now cannot be relied on.
    """
    record = read_servers(desk.layout.serving_record, desk.keyring)
    if record.problems:
        raise Tampered(
            f"what servers have loaded is not known: {record.problems[0]}",
            hint="assay audit verify names every line that is wrong",
        )
    found: dict[tuple[str, str], list[str]] = {}
    for process in record.processes:
        for load in process.loads:
            if load.until == MAX_INSTANT:
                found.setdefault((load.model, load.version), []).append(process.name)
    return {key: f"loaded by {', '.join(names)}" for key, names in found.items()}


def read_servers(path: Path, keyring: KeyRing) -> ServerRecord:
    """Read a service's record: who had what loaded, by lines that verify or carry no signature.

    A line that is wrong is a problem of the record, and what it says is left out.
    """
    running: dict[tuple[str, int], ServerProcess] = {}
    every: list[ServerProcess] = []
    heads: list[tuple[int, str, str]] = []
    problems: list[str] = []
    revoked: dict[str, list[int]] = {}
    for line in read_record(path):
        where = f"{path.name} line {line.number}"
        try:
            if line.problem is not None:
                raise ContractViolation(line.problem)
            signer, lost_key = _signer(line, keyring)
            if lost_key is not None:
                revoked.setdefault(lost_key, []).append(line.number)
            _apply(line, signer, running, every)
            head = line.document.get("log_head")
            if head is not None:
                heads.append((int(head["seq"]), str(head["hash"]), f"{where} ({signer})"))
        except AssayError as error:
            problems.append(f"{where}: {error.message}")
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{where}: it cannot be read: {error!r}")
    notes = [
        f"{path.name}: {len(numbers)} lines from {numbers[0]} to {numbers[-1]}, {by}, count like "
        "unsigned ones"
        for by, numbers in revoked.items()
    ]
    return ServerRecord(tuple(every), tuple(heads), tuple(problems), tuple(notes))


def _signer(line: RecordedLine, keyring: KeyRing) -> tuple[str, str | None]:
    """Whose key signed a line, and what became of that key, if it was revoked since."""
    if line.signature is None:
        return UNSIGNED, None
    lost_key = None
    try:
        made = keyring.verify(Envelope.from_json(line.signature), SERVICE)
    except RevokedKey as error:
        made, lost_key = error.made, error.message
    if dict(made.statement.subjects) != {SUBJECT: line.digest}:
        raise ContractViolation("its signature is about another line")
    if made.statement.predicate.get("server") != line.document.get("server"):
        raise ContractViolation("its signature is of another server")
    who = made.identity if lost_key is None else f"{made.identity}, whose key is revoked"
    return who, lost_key


def _apply(
    line: RecordedLine,
    signer: str,
    running: dict[tuple[str, int], ServerProcess],
    every: list[ServerProcess],
) -> None:
    said = line.document
    at, who = parse(said["at"]), (str(said.get("server", "")), int(said["process"]))
    event = said["event"]
    one = running.get(who)
    if event == "started" or (one is None and event == "loaded"):
        if one is not None:  # it was killed: a process of this number began anew
            _end(one, at)
        one = running[who] = ServerProcess(*who, started_at=at, heard_at=at)
        every.append(one)
    if one is None:
        return
    one.heard_at = at
    if event == "loaded":
        ready = parse(said.get("ready_at", said["at"]))
        _replace(one, said["model"], ready)
        load = Load(
            said["model"], said["version"], said["digest"], ready, MAX_INSTANT, signer, line.number
        )
        one.loads.append(load)
    elif event == "withdrawn":
        _replace(one, said["model"], at)
    elif event in _ENDS:
        _end(one, at)
        del running[who]


def _replace(one: ServerProcess, model: str, at: Instant) -> None:
    one.loads = [
        replace(load, until=at) if load.model == model and load.until == MAX_INSTANT else load
        for load in one.loads
    ]


def _end(one: ServerProcess, at: Instant) -> None:
    one.stopped_at = at
    one.loads = [replace(load, until=min(load.until, at)) for load in one.loads]


def _gaps(
    meant: Sequence[tuple[Instant, LiveAnswer]], name: str, one: ServerProcess, upto: Instant
) -> Iterator[Gap]:
    """The stretches of a process's run in which it had something else than was meant.

    ``meant`` is what was meant from each moment on at which the log says anything, ascending.
    """
    end = min(one.stopped_at, upto)
    changes = {moment for moment, _ in meant}
    changes |= {moment for load in one.loads for moment in (load.ready_at, load.until)}
    moments = sorted({one.started_at, *(at for at in changes if one.started_at < at < end)})
    yield from _merged(
        _gap(_meant_at(meant, start), one, name, start, following)
        for start, following in zip(moments, [*moments[1:], end], strict=True)
        if start < following
    )


def _meant_at(meant: Sequence[tuple[Instant, LiveAnswer]], at: Instant) -> LiveAnswer | None:
    number = bisect_right(meant, at, key=lambda one: one[0])
    return meant[number - 1][1] if number else None


def _gap(
    meant: LiveAnswer | None, one: ServerProcess, name: str, start: Instant, end: Instant
) -> Gap | None:
    had = one.had(name, start)
    record = meant.version if meant else None
    if (had.digest if had else None) == (record.digest if record else None):
        return None
    version = record.version if record else None
    same_number = had is not None and had.version == version
    return Gap(one.name, start, end, version, had.version if had else None, same_number)


def _merged(gaps: Iterable[Gap | None]) -> Iterator[Gap]:
    """Neighbouring stretches that say the same, as one."""
    open_gap: Gap | None = None
    for gap in gaps:
        if open_gap is not None:
            if gap is not None and _said(gap) == _said(open_gap) and gap.start == open_gap.end:
                open_gap = replace(open_gap, end=gap.end)
                continue
            yield open_gap
        open_gap = gap
    if open_gap is not None:
        yield open_gap


def _said(gap: Gap) -> Mapping[str, object]:
    return {"intended": gap.intended, "effective": gap.effective, "other": gap.other_digest}
