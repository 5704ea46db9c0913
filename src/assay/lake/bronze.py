"""Raw facts, append-only: compressed NDJSON segments and the log of their commits.

::

    <root>/commits.ndjson                            one line per commit, in order
    <root>/<source>/<arrival day>/<position>.ndjson.zst   one segment per commit

One record per fact: source, entity, event time, known time, published time (the source's rule),
arrival, sequence per entity, whether it is history, and the raw payload. Nothing is ever
rewritten. A commit is durable in two steps: the segment is written whole and synced, then one line
is appended to the log and synced. The line is the commit. Whatever instant a process dies at, a
segment without its line does not exist (the next writer removes it), and a torn line is cut off.

The *position* of a fact is the number of facts committed before it. Downstream work advances by
position, so a fact that was known early and arrived late is never missed.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import Any, Final

import polars as pl
import zstandard
from polars.datatypes import DataType

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.clock import Clock
from assay.domain.facts import Observation
from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, NANOS_PER_SECOND, Instant, to_datetime
from assay.errors import ContractViolation, Tampered
from assay.lake.fact_history import FactHistory, Novelty, Placement, Version
from assay.sources.port import Source
from assay.storage.files import append_line, drop_torn_tail, write_atomic
from assay.storage.locks import FileLock

BATCH_SIZE: Final = 65_536
LIVE_TOLERANCE: Final = 24 * 3_600 * NANOS_PER_SECOND

_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ENVELOPE: Final[dict[str, type[DataType]]] = {
    "source": pl.String,
    "entity": pl.String,
    "event_time": pl.Int64,
    "known_time": pl.Int64,
    "published_time": pl.Int64,
    "ingested_at": pl.Int64,
    "sequence": pl.Int64,
    "history": pl.Boolean,
}
_PAYLOAD_MARK: Final = ',"payload":'
_COLUMNS: Final[dict[str, type[DataType]]] = {
    "position": pl.Int64,
    "source_rank": pl.Int32,
    **_ENVELOPE,
    "payload": pl.String,
}
SCHEMA: Final = pl.Schema(_COLUMNS)
"""Columns of :meth:`Bronze.read`; ``payload`` is the raw JSON object, as text."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One committed segment: facts ``first`` to ``first + count - 1`` in order of storing."""

    first: int
    count: int
    source: str
    source_rank: int
    segment: str
    sha256: str
    committed_at: Instant


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one pull did. ``read + restated = added + duplicates``; the rest are parts of added.

    Attributes
    ----------
    read: observations that the source gave.
    added: facts stored now.
    duplicates: observations that were stored already.
    revisions: facts added to a known entity and event time with changed content.
    conflicts: facts added although the same pull said something else at the same time.
    restated: known facts stored once more, where a conflict begins or is settled.
    history: facts added under the source's rule because they were seen much later.
    first_position, last_position: the added facts are those from first up to, not including, last.
    seconds: duration by the lake's clock.
    """

    source: str
    read: int = 0
    added: int = 0
    duplicates: int = 0
    revisions: int = 0
    conflicts: int = 0
    restated: int = 0
    history: int = 0
    first_position: int = 0
    last_position: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class _Pull:
    """What one pull has seen so far, across its batches."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._seen: dict[str, set[tuple[Instant, Instant]]] = {}
        self.counts: dict[Novelty, int] = dict.fromkeys(Novelty, 0)
        self.history = 0
        self.restated = 0
        self.contested: dict[tuple[str, Instant], set[tuple[Instant, str]]] = {}
        self.conflicting: set[tuple[str, Instant]] = set()

    def has_seen(self, observation: Observation) -> bool:
        """Whether this fact was reported before with the same published time."""
        seen = self._seen.setdefault(observation.entity, set())
        count = len(seen)
        seen.add((observation.event_time, observation.known_time))
        return len(seen) == count

    def count(self, observation: Observation, content: str, placement: Placement) -> None:
        self.counts[placement.novelty] += 1
        self.history += placement.history
        fact = (observation.entity, observation.event_time)
        if placement.contested:
            offer = (observation.known_time, content)
            self.contested.setdefault(fact, set()).add(offer)
        elif placement.novelty is Novelty.CONFLICT:
            self.conflicting.add(fact)


class Bronze:
    """The append-only store of raw facts under ``root``.

    Several processes may read and write it: writers take turns, one commit at a time.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._log = root / "commits.ndjson"
        self._histories: dict[str, tuple[int, FactHistory]] = {}
        self._pulls = 0

    @property
    def position(self) -> int:
        """How many facts are committed; the position that the next one will have."""
        commits = self.commits()
        return commits[-1].first + commits[-1].count if commits else 0

    def commits(self) -> list[Commit]:
        """All commits in order. An unfinished last line is no commit.

        Raises
        ------
        Tampered: a line is unreadable or does not continue the one before.
        """
        if not self._log.exists():
            return []
        commits: list[Commit] = []
        position = 0
        for number, line in enumerate(self._log.read_bytes().split(b"\n")[:-1], start=1):
            try:
                commit = Commit(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise Tampered(f"{self._log}: line {number} is unreadable: {error}") from None
            if commit.first != position:
                raise Tampered(
                    f"{self._log}: line {number} starts at fact {commit.first}, expected {position}"
                )
            position += commit.count
            commits.append(commit)
        return commits

    def read(self, source: str | None = None, *, after: int = 0) -> pl.DataFrame:
        """Facts from position ``after`` on, in the order of storing; columns as :data:`SCHEMA`.

        Raises
        ------
        Tampered: a segment is missing or its bytes are not what was committed.
        """
        frames = [
            self._segment(commit)
            for commit in self.commits()
            if commit.first + commit.count > after and source in {None, commit.source}
        ]
        facts = pl.concat(frames) if frames else SCHEMA.to_frame()
        return facts.filter(pl.col("position") >= after)

    def ingest(
        self,
        source: Source,
        *,
        tolerance: int = LIVE_TOLERANCE,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[IngestReport], None] | None = None,
    ) -> IngestReport:
        """Store what ``source`` reports and is not stored yet.

        Parameters
        ----------
        tolerance: nanoseconds after the source's known time up to which an arrival is live. Live
            facts are known from the later of rule and arrival; facts that arrive later than that
            are history, known by the source's rule and marked so.
        batch_size: observations per commit.
        progress: called with the running totals after each batch.

        Raises
        ------
        ContractViolation: the source's name is no identifier, or an observation cannot be stored
            (times beyond int64, payload that is not JSON scalars). Batches before it stay.
        """
        if not _SOURCE_NAME.fullmatch(source.name):
            raise ContractViolation(
                f"source name {source.name!r}: expected lower-case letters, digits and underscores"
            )
        begun = self._clock.now()
        self._pulls += 1
        pull = _Pull(self._pulls)
        report = IngestReport(source.name)
        observations = iter(source.observations())
        while batch := list(islice(observations, batch_size)):
            with self._writing(source.name) as history:
                arrival = self._clock.now()
                lines = _judge(source.name, batch, history, pull, arrival, tolerance)
                span = self._commit(source, lines, arrival)
            report = _totals(report, pull, len(batch), span, self._clock.now() - begun)
            if progress is not None:
                progress(report)
        if pull.contested:
            with self._writing(source.name) as history:
                arrival = self._clock.now()
                lines = _settle(source.name, history, pull, arrival)
                span = self._commit(source, lines, arrival)
            report = _totals(report, pull, 0, span, self._clock.now() - begun)
        return report

    @contextmanager
    def _writing(self, source: str) -> Iterator[FactHistory]:
        """The writer's turn: crash repaired, history of the source up to date."""
        with FileLock(self._root / "bronze.lock"):
            self._repair()
            try:
                yield self._history(source)
            except BaseException:
                # The history may already hold facts that never reached the disk.
                self._histories.pop(source, None)
                raise

    def _repair(self) -> None:
        drop_torn_tail(self._log)
        committed = {commit.segment for commit in self.commits()}
        for path in self._root.glob("*/*/*"):
            if path.relative_to(self._root).as_posix() not in committed:
                path.unlink()  # written by a process that died before its commit

    def _history(self, source: str) -> FactHistory:
        position, history = self._histories.get(source) or (0, FactHistory())
        facts = self.read(source, after=position)
        columns = ("entity", "event_time", "published_time", "known_time", "payload", "sequence")
        for entity, event_time, published, known, payload, sequence in zip(
            *(facts[name] for name in columns), strict=True
        ):
            history.restore(entity, event_time, Version(published, known, payload), sequence)
        self._histories[source] = (self.position, history)
        return history

    def _commit(self, source: Source, lines: list[str], arrival: Instant) -> tuple[int, int]:
        first = self.position
        if not lines:
            return first, first
        data = zstandard.ZstdCompressor(level=3).compress("".join(lines).encode("utf-8"))
        day = to_datetime(arrival).astimezone(UTC).date().isoformat()
        segment = f"{source.name}/{day}/{first:012d}.ndjson.zst"
        digest = sha256_hex(data)
        commit = Commit(
            first, len(lines), source.name, source.rank, segment, digest, self._clock.now()
        )
        write_atomic(self._root / segment, data)
        append_line(self._log, canonical_bytes(asdict(commit)))
        last = first + len(lines)
        self._histories[source.name] = (last, self._histories[source.name][1])
        return first, last

    def _segment(self, commit: Commit) -> pl.DataFrame:
        path = self._root / commit.segment
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Tampered(f"segment {path} is missing") from None
        if sha256_hex(data) != commit.sha256:
            raise Tampered(f"segment {path} has changed since it was committed")
        text = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        # Polars would re-serialise the payload; the raw text is what must be kept, so it is cut
        # out of the line. The mark cannot occur inside a JSON string: its quotes are not escaped.
        lines = pl.Series("line", text.decode("utf-8").split("\n")[:-1], dtype=pl.String)
        payload = lines.str.splitn(_PAYLOAD_MARK, 2).struct.field("field_1").str.head(-1)
        facts = pl.read_ndjson(io.BytesIO(text), schema=_ENVELOPE)
        return facts.select(
            pl.int_range(commit.first, commit.first + len(facts), dtype=pl.Int64).alias("position"),
            pl.lit(commit.source_rank, dtype=pl.Int32).alias("source_rank"),
            *_ENVELOPE,
            payload.alias("payload"),
        )


def _judge(
    source: str,
    batch: list[Observation],
    history: FactHistory,
    pull: _Pull,
    arrival: Instant,
    tolerance: int,
) -> list[str]:
    """The record lines of the observations in ``batch`` that are not stored yet."""
    lines: list[str] = []
    for observation in batch:
        content = _content(observation)
        placement = history.place(
            observation.entity,
            observation.event_time,
            observation.known_time,
            content,
            arrival=arrival,
            tolerance=tolerance,
            pull=pull.number,
            seen_in_pull=pull.has_seen(observation),
        )
        pull.count(observation, content, placement)
        if placement.novelty is Novelty.DUPLICATE:
            continue
        restated = placement.restated.split("\n") if placement.restated else []
        pull.restated += len(restated)
        key = (observation.entity, observation.event_time, observation.known_time)
        for text in (*restated, content):
            sequence = history.next_sequence(observation.entity)
            lines.append(_line(source, key, placement, arrival, sequence, text))
    return lines


def _settle(source: str, history: FactHistory, pull: _Pull, arrival: Instant) -> list[str]:
    lines: list[str] = []
    for fact, offers in sorted(pull.contested.items()):
        if len(offers) > 1 or fact in pull.conflicting:
            continue
        ((published_time, content),) = offers
        placement = history.settle(*fact, published_time, content, arrival)
        if placement is not None:
            pull.counts[placement.novelty] += 1
            pull.restated += 1
            sequence = history.next_sequence(fact[0])
            key = (*fact, published_time)
            lines.append(_line(source, key, placement, arrival, sequence, content))
    return lines


_SCALARS: Final = frozenset({str, int, float, bool})
_encode_string = json.encoder.encode_basestring


def _content(observation: Observation) -> str:
    """Canonical JSON of the payload, or a refusal that names the fact."""
    problem = _unstorable(observation)
    if problem is not None:
        raise ContractViolation(
            f"{observation.entity!r} at {observation.event_time!r} cannot be stored: {problem}"
        )
    # By hand: a general encoder is three times as slow on two short texts.
    parts = []
    for key, value in sorted(observation.payload.items()):
        text = _encode_string(value) if type(value) is str else json.dumps(value)
        parts.append(f"{_encode_string(key)}:{text}")
    return "{" + ",".join(parts) + "}"


def _unstorable(observation: Observation) -> str | None:
    """Why the observation has no record, or None. Bronze refuses form only, never content."""
    for moment in (observation.event_time, observation.known_time):
        if type(moment) is not int or not MIN_INSTANT <= moment <= MAX_INSTANT:
            return f"time {moment!r}, expected int64 nanoseconds"
    names = (observation.entity, *observation.payload)
    for name in names:
        if type(name) is not str:
            return f"name {name!r} is {type(name).__name__}, expected str"
    for key, value in observation.payload.items():
        if type(value) is int and not MIN_INSTANT <= value <= MAX_INSTANT:
            return f"{key} is {value}, expected an int64"
        if type(value) is float and not math.isfinite(value):
            return f"{key} is {value}, expected a finite number"
        if value is not None and type(value) not in _SCALARS:
            return f"{key} is {type(value).__name__}, expected a JSON scalar"
    for text in (*names, *observation.payload.values()):
        if type(text) is str and not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                return f"text {text!r} has no UTF-8 form"
    return None


def _line(
    source: str,
    key: tuple[str, Instant, Instant],
    placement: Placement,
    arrival: Instant,
    sequence: int,
    content: str,
) -> str:
    entity, event_time, published_time = key
    # By hand, because it is three times as fast as the encoder; the payload stands last so that
    # a reader can cut its raw text out.
    return (
        f'{{"source":"{source}","entity":{_encode_string(entity)},"event_time":{event_time},'
        f'"known_time":{placement.known_time},"published_time":{published_time},'
        f'"ingested_at":{arrival},"sequence":{sequence},'
        f'"history":{"true" if placement.history else "false"}{_PAYLOAD_MARK}{content}}}\n'
    )


def _totals(
    report: IngestReport, pull: _Pull, read: int, span: tuple[int, int], elapsed: int
) -> IngestReport:
    counts = pull.counts
    return replace(
        report,
        read=report.read + read,
        added=report.added + span[1] - span[0],
        duplicates=counts[Novelty.DUPLICATE],
        revisions=counts[Novelty.REVISION],
        conflicts=counts[Novelty.CONFLICT],
        restated=pull.restated,
        history=pull.history,
        first_position=report.first_position if report.read else span[0],
        last_position=span[1],
        seconds=elapsed / NANOS_PER_SECOND,
    )
