"""Immutable signed versions, and the record of what became of them.

1. A candidate (:mod:`~assay.registry.sealed`, :mod:`~assay.registry.metadata`) becomes a folder
   that never changes: every file has a digest, and a signature covers all digests.
2. Signatures (:mod:`~assay.registry.signing`) are statements made by a key that the desk's policy
   trusts for that purpose (:mod:`~assay.registry.keyring`).
3. Everything that happens is one line of a chained log (:mod:`~assay.registry.log`).
4. One table (:mod:`~assay.registry.lifecycle`) says which event moves a version where.
5. The catalogue (:mod:`~assay.registry.catalogue`) is an index over the log, and can be dropped;
   :mod:`~assay.registry.index_layout` has its tables, :mod:`~assay.registry.listing` pages it,
   :mod:`~assay.registry.index_check` holds it against the log row by row.
6. A ledger (:mod:`~assay.registry.ledger`) keeps both: a file and SQLite
   (:mod:`~assay.registry.file_ledger`), or a database in an adapter.
7. The journal (:mod:`~assay.registry.journal`) changes ledger, folders and links in an order that
   survives being killed at any instant.
8. :class:`RegistryReader` answers questions about all this, and about the files of versions
   (:mod:`~assay.registry.version_files`); :class:`ModelRegistry` changes it too;
   :mod:`~assay.registry.verification` asks whether the record tells the whole story, and
   :mod:`~assay.registry.doubts` asks the same of a few witnesses, quickly, before an answer.
9. Where the ledger is a database, :mod:`~assay.registry.desk_mark` says which files belong to it.
"""

from assay.registry.catalogue import VersionRecord
from assay.registry.compatibility import CompatibilityResult, VersionCompatibilityChecker
from assay.registry.file_ledger import FileLedger, log_file
from assay.registry.journal import adopt_log
from assay.registry.keyring import (
    KeyRing,
    TrustedKey,
    create_key,
    revoke_key,
    rotate_key,
    trust_key,
)
from assay.registry.ledger import Ledger
from assay.registry.lifecycle import EventOutcome, EventType, PromotionGateError
from assay.registry.listing import ModelSummary
from assay.registry.log import Entry, LogHead, LogProblem, LogReport
from assay.registry.metadata import ModelMetadata, capture_environment, compute_config_hash
from assay.registry.model_registry import ModelRegistry
from assay.registry.reading import RegistryReader
from assay.registry.records import GateRecord, LiveAnswer, PromotionClaim, Registration
from assay.registry.sealed import Candidate, Problem, ValidationReport, VerifiedVersion
from assay.registry.verification import verify_registry

__all__ = [
    "Candidate",
    "CompatibilityResult",
    "Entry",
    "EventOutcome",
    "EventType",
    "FileLedger",
    "GateRecord",
    "KeyRing",
    "Ledger",
    "LiveAnswer",
    "LogHead",
    "LogProblem",
    "LogReport",
    "ModelMetadata",
    "ModelRegistry",
    "ModelSummary",
    "Problem",
    "PromotionClaim",
    "PromotionGateError",
    "Registration",
    "RegistryReader",
    "TrustedKey",
    "ValidationReport",
    "VerifiedVersion",
    "VersionCompatibilityChecker",
    "VersionRecord",
    "adopt_log",
    "capture_environment",
    "compute_config_hash",
    "create_key",
    "log_file",
    "revoke_key",
    "rotate_key",
    "trust_key",
    "verify_registry",
]
