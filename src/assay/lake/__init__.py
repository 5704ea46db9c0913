"""From raw facts to tables that can be trusted, and back to any of their earlier states.

1. :mod:`~assay.lake.bronze` stores what sources report, once, for ever, under a commit position;
   :mod:`~assay.lake.fact_history` decides what is new, a duplicate, a revision or a conflict.
2. :mod:`~assay.lake.contracts` says what a row must satisfy; :mod:`~assay.lake.silver` types the
   rates, quarantines with a reason what breaks the contract, and flags true extremes.
3. :mod:`~assay.lake.market` derives the instruments; :mod:`~assay.lake.universe` says by a rule on
   dates which of them may be traded.
4. :mod:`~assay.lake.snapshots` keeps tables as immutable Parquet files under the hash of their
   list; :mod:`~assay.lake.digest` gives a frame its identity, :mod:`~assay.lake.commits` says what
   each commit brought.
5. :class:`~assay.lake.lake.Lake` is the folder with all of it, and
   :func:`~assay.lake.refinement.refine` takes everything from bronze to silver in one step.
"""

from assay.lake.bronze import Bronze, Commit, IngestReport
from assay.lake.commits import TableCommit, commits_of, first_commit
from assay.lake.contracts import RatesContract, Reason
from assay.lake.digest import frame_digest
from assay.lake.lake import Lake
from assay.lake.market import MarketTables, build_market
from assay.lake.refinement import RefinementReport, refine
from assay.lake.silver import (
    RatesTables,
    as_first_known,
    build_rates,
    by_year,
    latest_as_of,
)
from assay.lake.snapshots import Snapshot, SnapshotFile, Table
from assay.lake.universe import Universe, UniverseRule, evaluate_universe

__all__ = [
    "Bronze",
    "Commit",
    "IngestReport",
    "Lake",
    "MarketTables",
    "RatesContract",
    "RatesTables",
    "Reason",
    "RefinementReport",
    "Snapshot",
    "SnapshotFile",
    "Table",
    "TableCommit",
    "Universe",
    "UniverseRule",
    "as_first_known",
    "build_market",
    "build_rates",
    "by_year",
    "commits_of",
    "evaluate_universe",
    "first_commit",
    "frame_digest",
    "latest_as_of",
    "refine",
]
