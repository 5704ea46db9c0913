"""DuckDB: SQL for people over what a registry knows.

1. :mod:`~assay.adapters.duckdb.tables` - versions, evidence, verdicts, approvals and events as
   tables, from the catalogue of whatever ledger the registry has.
2. :mod:`~assay.adapters.duckdb.query` - one statement over a copy of them that can neither be
   written to nor reach a file.

Needs the extra: ``pip install "assay[sql]"``.
"""

from assay.adapters.duckdb.query import SqlAnswer, query_registry
from assay.adapters.duckdb.tables import TABLES

__all__ = ["TABLES", "SqlAnswer", "query_registry"]
