"""PostgreSQL: the registry's log and catalogue where several machines write.

1. :mod:`~assay.adapters.postgres.address` - where the server is; passwords stay out of every text.
2. :mod:`~assay.adapters.postgres.connection` - opens a connection, refuses an unfit server, finds
   out that a kept one was dropped; :mod:`~assay.adapters.postgres.faults` says what errors mean.
3. :mod:`~assay.adapters.postgres.ledger` - the port over both: log and catalogue in one schema, a
   change of both in one transaction, one writer at a time by an advisory lock.

Version folders, signed heads, links, manifest and export stay files, in a folder that all machines
share. Needs the extra: ``pip install "assay[postgres]"``.
"""

from assay.adapters.postgres.address import PostgresAddress
from assay.adapters.postgres.ledger import PostgresLedger

__all__ = ["PostgresAddress", "PostgresLedger"]
