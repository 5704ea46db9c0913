"""The port behind which a registry keeps its log and the catalogue over it.

One port for both, because one change touches both: after :meth:`Ledger.append` an event stands in
the log and in the catalogue, and when it raises, in neither. A file and SQLite reach that by an
order of steps and a recovery (:mod:`~assay.registry.file_ledger`); a database that holds both
reaches it by a transaction.

Whoever writes another one gives a :class:`~assay.registry.index_layout.Database` to the catalogue,
whose tables, questions and rules are written once, and keeps lines in order. The conformance suite
:mod:`assay.testing.ledger` says whether it keeps the promises.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from assay.errors import Tampered
from assay.registry.catalogue import Catalogue
from assay.registry.index_layout import Rows
from assay.registry.log import Entry, LogHead


class Ledger(Protocol):
    """The log, the catalogue over it, and the lock that admits one writer to both.

    Methods that change something are called by whoever holds the lock; reading needs none.
    """

    @property
    def catalogue(self) -> Catalogue:
        """The index over the log."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Hold the writer's lock; released when its holder dies, however it dies.

        Raises
        ------
        Unavailable: somebody holds it for longer than half a minute, or nobody answers.
        """
        ...

    def is_settled(self) -> bool:
        """Whether the catalogue has applied the whole log, so that nothing is to be recovered."""
        ...

    def recover(self) -> None:
        """Make the catalogue follow the log, whatever a writer that died has left.

        Raises
        ------
        Tampered: the log was cut or replaced under the catalogue, or does not verify.
        """
        ...

    def append(self, entry: Entry) -> LogHead:
        """Let a sealed entry happen: durably in the log, and applied to the catalogue, or neither.

        Raises
        ------
        Refused: the lifecycle has no such move. Conflict: it contradicts what is there, such as a
        second version of one number. Unavailable: it could not be written.
        """
        ...

    def rebuild(self) -> LogHead:
        """Drop the catalogue, which may be damaged, and make it again from the log.

        Raises
        ------
        Tampered: the log was cut or replaced; a new catalogue would forget that.
        """
        ...

    def adopt(self, lines: Iterable[bytes]) -> LogHead:
        """Take over the whole log of another ledger, where this one is empty.

        Raises
        ------
        Conflict: this log has entries. Tampered: the other one does not verify.
        """
        ...

    def head(self) -> LogHead:
        """The last whole entry of the log.

        Raises
        ------
        Tampered: it does not verify.
        """
        ...

    def lines(self) -> Iterator[bytes]:
        """Every line of the log as it lies there, with line breaks; the last may be unfinished."""
        ...

    def entries_after(self, head: LogHead) -> Iterator[tuple[Entry, LogHead]]:
        """Entries behind ``head`` with the head that each makes, the chain checked on the way.

        Raises
        ------
        Tampered: an entry does not verify or does not follow the one before it.
        """
        ...

    def mark(self) -> Hashable:
        """Something cheap to ask that is another after every change of log or catalogue."""
        ...

    def damage(self) -> Iterator[str]:
        """What is wrong with where log and catalogue are kept, in words: what neither the chain of
        lines nor the rows could say, such as a rule of the database that is gone.

        Raises
        ------
        Tampered, Unavailable: it cannot even be asked.
        """
        ...

    def close(self) -> None:
        """Let go of connections; a closed ledger opens them again when it is asked something."""
        ...


def applied_head(catalogue: Catalogue, head: LogHead, where: str) -> LogHead | None:
    """How far the catalogue has applied the log, when the log still holds that entry.

    Raises
    ------
    Tampered: it does not; ``where`` names the log.
    """
    applied = catalogue.applied()
    if applied is not None and (
        applied.seq > head.seq
        or (applied.seq == head.seq and applied != head)
        or applied.offset > head.offset
    ):
        raise Tampered(
            f"the index has applied entry {applied.seq} of {where}, which ends at "
            f"entry {head.seq} ({head.hash[:12]}): the log was cut or replaced",
            hint="assay audit verify says where; restore the log from a backup",
        )
    return applied


def replay(
    catalogue: Catalogue,
    connection: Rows,
    applied: LogHead | None,
    entries_after: Callable[[LogHead], Iterator[tuple[Entry, LogHead]]],
) -> LogHead:
    """Apply what the log has behind ``applied``; everything, to new tables, for None."""
    head = catalogue.create(connection) if applied is None else applied
    described = None
    for entry, after in entries_after(head):
        if catalogue.apply(connection, entry):
            described = entry.seq
        head = after
    catalogue.set_applied(connection, head, described)
    return head
