"""What runs beside production, told by each process of a service and by all of them together."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

RUNNING, LOADING, SUSPENDED, REFUSED = "running", "loading", "suspended", "refused"
_WORST_FIRST = (REFUSED, SUSPENDED, LOADING, RUNNING)


class Beside(msgspec.Struct, frozen=True):
    """A version beside production as a process knows it, for people.

    Attributes
    ----------
    role: ``shadow`` or ``canary``. state: ``loading``, ``running``, ``suspended`` for a canary that
        this process asks no more, ``refused`` for one that was not loaded; ``reason`` says why.
    pairs, dropped, errors: rows that were written down, lost, and not answered with a number, since
        the process began to run it. waiting: rows that it has still to answer.
    """

    model: str
    version: str
    digest: str
    role: str
    share: float
    revision: int
    state: str
    reason: str | None = None
    pairs: int = 0
    dropped: int = 0
    errors: int = 0
    waiting: int = 0


def together(several: Iterable[Beside]) -> list[Beside]:
    """What the processes of one service say as one: counts are added, the worst state is told."""
    found: dict[tuple[str, str, int], Beside] = {}
    for one in several:
        key = (one.model, one.version, one.revision)
        before = found.get(key)
        found[key] = one if before is None else _both(before, one)
    return [found[key] for key in sorted(found)]


def _both(one: Beside, other: Beside) -> Beside:
    worst = min(one, other, key=lambda it: (_WORST_FIRST.index(it.state), it.reason is None))
    return msgspec.structs.replace(
        worst,
        pairs=one.pairs + other.pairs,
        dropped=one.dropped + other.dropped,
        errors=one.errors + other.errors,
        waiting=one.waiting + other.waiting,
    )
