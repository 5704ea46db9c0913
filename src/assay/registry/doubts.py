"""Has anybody seen more of the log than there is? Asked before an answer, so it costs little.

An index that is ahead of its log is refused when the registry is opened. Where the index was put
back together with the log, both agree, and only others can say that entries are gone: signed heads,
the audit export, version folders, servers. Verification reads all of them. Here only their latest
words are held against the log:

1. the last signed heads, of which one that contradicts the log is verified,
2. the end of the audit export,
3. the version that was registered last, and folders that the log does not know; not where they lie
   in a store of objects, since an answer must not wait for that,
4. whatever the caller knows besides, such as what servers saw.

What it finds is a doubt and no verdict: answers are given with it, and ``assay audit verify`` says
what is wrong. Losses that were acknowledged are no doubts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

from assay.domain.instants import render
from assay.errors import AssayError
from assay.registry.acknowledging import acknowledged_by
from assay.registry.artifacts import Place
from assay.registry.lifecycle import EventType
from assay.registry.log import GENESIS, REGISTRY_LOG, WHOLE_LOG, LogProblem, contradiction
from assay.registry.reading import RegistryReader
from assay.registry.sealed import SIGNATURE, log_head_of
from assay.registry.verification import never_registered, settle

Seen: TypeAlias = tuple[int, str, str]
"""An entry that somebody has seen: its number, its hash, and where that is written."""

_HEADS = 16
"""The last heads that are compared: a log that was cut has usually gone on since."""


def doubts_about(
    registry: RegistryReader, name: str | None = None, *, known: Iterable[Seen] = ()
) -> tuple[LogProblem, ...]:
    """What contradicts the log of a registry, as far as a few short reads can tell.

    Parameters
    ----------
    name: a model whose folders are looked at too; None for none.
    known: further entries that others have seen.

    Raises
    ------
    Tampered, Unavailable: log or catalogue cannot be read.
    """
    journal = registry.journal
    # What others say is read first: an entry that happens meanwhile is then in the log.
    heads = list(journal.heads.latest(_HEADS))
    near = not journal.artifacts.is_remote
    stated = _stated_at_registration(registry) if near else ()
    seen = {one[:2]: one for one in (*known, *stated)}.values()
    exported = journal.exported()
    places = list(journal.artifacts.places(name)) if near and name is not None else []
    end = journal.ledger.head()
    hashes = _hashes(registry, {seq for seq, *_ in (*heads, *seen)})
    hashes |= {0: GENESIS, end.seq: end.hash}
    problems = []
    for seq, digest, where in seen:
        problems.append(contradiction(REGISTRY_LOG, seq, digest, hashes, where))
    for seq, digest, path in heads:
        found = contradiction(REGISTRY_LOG, seq, digest, hashes, f"signed head {path.name}")
        if found is not None and journal.heads.verifies(path, registry.keyring):
            problems.append(found)
    doubts = _not_acknowledged(registry, [one for one in problems if one is not None])
    doubts.sort(key=lambda one: -one.lost[1] if one.lost else 0)  # the furthest says most
    if exported > end.seq:
        words = f"the audit export ends at entry {exported}, the log at {end.seq}: cut off"
        doubts.append(LogProblem(0, words))
    return (*doubts, *_unknown(registry, places), *(_lost(registry) if near else ()))


def _stated_at_registration(registry: RegistryReader) -> Iterator[Seen]:
    """The end of the log as the signature of the version registered last states it."""
    last = registry.catalogue.last_registered()
    if last is None:
        return
    try:
        signature = registry.journal.artifacts.read_file(
            last.name, last.version, last.digest, SIGNATURE
        )
        seq, stated = log_head_of(signature, registry.keyring)
    except AssayError:
        return  # validating the version names this
    yield seq, stated, f"version {last.name} {last.version}"


def _hashes(registry: RegistryReader, numbers: Collection[int]) -> dict[int, str]:
    """Number and hash of those entries that the catalogue has applied."""
    found = {}
    with registry.catalogue.reading() as connection:
        for number in numbers:
            row = connection.execute("SELECT hash FROM events WHERE seq = ?", (number,)).fetchone()
            if row is not None:
                found[number] = str(row[0])
    return found


def _not_acknowledged(registry: RegistryReader, problems: list[LogProblem]) -> list[LogProblem]:
    if not problems:
        return []
    entries = registry.catalogue.events(WHOLE_LOG, None, (EventType.AUDIT_ACKNOWLEDGE,))
    return settle(problems, acknowledged_by(entries, registry.keyring, []), [])


def _unknown(registry: RegistryReader, places: Iterable[Place]) -> Iterator[LogProblem]:
    """Versions that stand in their place and that the log has never heard of."""
    found = list(places)
    if not found:
        return
    with registry.catalogue.reading() as connection:
        rows = connection.execute(
            "SELECT version, digest FROM versions WHERE name = ?", (found[0].name,)
        ).fetchall()
    registered = {str(version): str(digest) for version, digest in rows}
    for place in found:
        digest = registered.get(place.version, "")
        if not digest or (place.digest or digest) != digest:
            yield LogProblem(0, never_registered(place, registry.journal.artifacts.where))


def _lost(registry: RegistryReader) -> Iterator[LogProblem]:
    """The version that was registered last, where its files are in no place that is known."""
    last = registry.catalogue.last_registered()
    if last is None:
        return
    version, artifacts = (last.name, last.version, last.digest), registry.journal.artifacts
    # In this order: files that are given their place meanwhile are seen in one of the two.
    if artifacts.is_prepared(*version) or artifacts.is_there(*version) or registry.collected(last):
        return
    yield LogProblem(
        0,
        f"version {last.name} {last.version} is not in {artifacts.where}, though it was registered "
        f"at {render(last.registered_at)} by {last.author}: its files are lost, or another copy "
        "of this desk registered it",
    )
