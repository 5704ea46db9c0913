"""Which observations are new: the versions of every fact that bronze already holds.

A fact is one (entity, event time). Its versions are told apart by what the source said, and an
observation is compared with one version only: the latest whose published time is not later than
its own. So

* the same content again is a duplicate, however often it is pulled;
* changed content is a revision, and A, B, A are three versions;
* an older vintage that is pulled again, after a newer one was stored, is a duplicate too;
* two contents within one pull at one published time are a conflict: both are stored at the same
  known time, and the silver contract quarantines them. If one of them was known before, it is
  stated again beside the other, so that the contradiction begins now and the past stays as it was;
* a source that later reports one side alone, in a whole pull, has settled the conflict.

Law: ingesting a pull a second time stores nothing, whatever it repeats, revises or contradicts
(as long as it gives the versions of one fact in the order of their publication).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from assay.domain.instants import Instant


class Novelty(StrEnum):
    """What an observation is, measured against what is stored."""

    NEW = "new"
    DUPLICATE = "duplicate"
    REVISION = "revision"
    CONFLICT = "conflict"


class Version(NamedTuple):
    """One stored version of a fact.

    ``contents`` holds the canonical payload; several, one a line, when the source contradicted
    itself within one pull (canonical JSON contains no line break). ``pull`` numbers the pull of
    this process that stored it; 0 for one that was read back from the disk.
    """

    published_time: Instant
    known_time: Instant
    contents: str
    pull: int = 0

    def holds(self, content: str) -> bool:
        return content == self.contents or content in self.contents.split("\n")

    def joined_by(self, content: str) -> Version:
        return self._replace(contents=f"{self.contents}\n{content}")


@dataclass(frozen=True, slots=True)
class Placement:
    """The judgement on one observation, with the times under which it is to be stored.

    ``history`` marks a fact whose known time is the source's rule because the system saw it only
    much later; otherwise the known time is never before the arrival. ``contested`` marks a
    duplicate of one side of a conflict. ``restated`` holds, one a line, the contents that are to
    be stored once more at the same known time.
    """

    novelty: Novelty
    known_time: Instant = 0
    history: bool = False
    contested: bool = False
    restated: str = ""


_DUPLICATE = Placement(Novelty.DUPLICATE)
_CONTESTED = Placement(Novelty.DUPLICATE, contested=True)
_Versions: TypeAlias = Version | list[Version]


class FactHistory:
    """All versions that one source has stored, and the next sequence number of each entity.

    Plain dictionaries: a version costs about 250 bytes, and judging one about half a microsecond.
    """

    def __init__(self) -> None:
        self._facts: dict[str, dict[Instant, _Versions]] = {}
        self._sequences: dict[str, int] = {}

    def next_sequence(self, entity: str) -> int:
        """Take the entity's next sequence number: 0, 1, 2, ... in the order of storing."""
        number = self._sequences.get(entity, 0)
        self._sequences[entity] = number + 1
        return number

    def versions(self, entity: str, event_time: Instant) -> list[Version]:
        """The stored versions of one fact, by published time and then known time."""
        found = self._facts.get(entity, {}).get(event_time, [])
        return [found] if isinstance(found, Version) else found

    def restore(self, entity: str, event_time: Instant, version: Version, sequence: int) -> None:
        """Take in a version that was read back from the disk."""
        self._sequences[entity] = sequence + 1
        facts = self._facts.setdefault(entity, {})
        if event_time not in facts:
            facts[event_time] = version
            return
        versions = self.versions(entity, event_time)
        for position, stored in enumerate(versions):
            if stored[:2] == version[:2]:
                versions[position] = stored.joined_by(version.contents)
                break
        else:
            _insert(versions, version)
        facts[event_time] = versions

    def place(
        self,
        entity: str,
        event_time: Instant,
        published_time: Instant,
        content: str,
        *,
        arrival: Instant,
        tolerance: int,
        pull: int,
        seen_in_pull: bool,
    ) -> Placement:
        """Judge one observation and, unless it is a duplicate, remember it as stored.

        Parameters
        ----------
        published_time: when the source's rule says that it could first be known.
        content: its payload in canonical form.
        arrival: when this system saw it.
        tolerance: nanoseconds after ``published_time`` up to which an arrival counts as live.
        pull: number of the pull, from 1 on.
        seen_in_pull: whether this pull has already reported this entity, event time and published
            time.
        """
        late = arrival - published_time > tolerance
        facts = self._facts.setdefault(entity, {})
        stored = facts.get(event_time)
        if stored is None:
            known_time = published_time if late else max(published_time, arrival)
            facts[event_time] = Version(published_time, known_time, content, pull)
            return Placement(Novelty.NEW, known_time, late)
        versions = [stored] if isinstance(stored, Version) else stored
        position = bisect_right(versions, published_time, key=_published)
        previous = versions[position - 1] if position else None
        same = previous is not None and previous.published_time == published_time
        if previous is not None and previous.holds(content):
            return _CONTESTED if "\n" in previous.contents else _DUPLICATE
        facts[event_time] = versions
        if previous is not None and seen_in_pull and same and previous.pull == pull:
            versions[position - 1] = previous.joined_by(content)
            return Placement(Novelty.CONFLICT, previous.known_time, late)
        placement = _revision(previous, position == len(versions), published_time, arrival, late)
        version = Version(published_time, placement.known_time, content, pull)
        if previous is not None and seen_in_pull:
            version = version.joined_by(previous.contents)
            placement = replace(placement, novelty=Novelty.CONFLICT, restated=previous.contents)
        _insert(versions, version)
        return placement

    def settle(
        self, entity: str, event_time: Instant, published_time: Instant, content: str, arrival: int
    ) -> Placement | None:
        """Store ``content``, now reported alone, over the conflict that it was part of.

        None when the conflict is of another published time: it stays as it is.
        """
        versions = self.versions(entity, event_time)
        position = bisect_right(versions, published_time, key=_published)
        previous = versions[position - 1]
        if previous.published_time != published_time:
            return None
        placement = _revision(
            previous, position == len(versions), published_time, arrival, late=False
        )
        _insert(versions, Version(published_time, placement.known_time, content))
        self._facts[entity][event_time] = versions
        return placement


def _revision(
    previous: Version | None,
    newest: bool,
    published_time: Instant,
    arrival: Instant,
    late: bool,
) -> Placement:
    if previous is not None and previous.published_time == published_time:
        # The source changed its answer without a new date of publication. Nobody can say when;
        # the only defensible known time is the moment at which this system saw it.
        return Placement(Novelty.REVISION, max(arrival, previous.known_time + 1), history=False)
    if not newest:
        # A vintage older than one already stored was never the best knowledge while it arrived. It
        # is history, known no later than necessary, or it would win over its own successor.
        after = previous.known_time if previous is not None else published_time
        return Placement(Novelty.REVISION, max(published_time, after), history=True)
    known_time = published_time if late else max(published_time, arrival)
    if previous is not None:
        known_time = max(known_time, previous.known_time + 1)
    return Placement(Novelty.REVISION, known_time, late)


def _published(version: Version) -> Instant:
    return version.published_time


def _insert(versions: list[Version], version: Version) -> None:
    versions.insert(bisect_right(versions, version[:2], key=lambda stored: stored[:2]), version)
