"""Which part of a pack answers which topic of the supervisory guidance on model risk.

On 17 April 2026 the Federal Reserve (SR 26-2), the OCC (Bulletin 2026-13) and the FDIC replaced the
guidance of 2011 (SR 11-7, OCC Bulletin 2011-12). The topics are those that the bulletin names in
its highlights; the sections of 2011 are those of its attachment. The table helps a reader to find
things. Whether they are enough is for people to judge, and depends on the firm and on the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SOURCES: Final = (
    (
        "OCC Bulletin 2026-13, Model Risk Management: Revised Guidance (17 April 2026)",
        "https://www.occ.gov/news-issuances/bulletins/2026/bulletin-2026-13.html",
    ),
    (
        "SR 11-7, Guidance on Model Risk Management (4 April 2011), replaced by SR 26-2",
        "https://www.federalreserve.gov/supervisionreg/srletters/sr1107.htm",
    ),
)

NOTICE: Final = (
    "This pack states what is recorded about one version. It is not a validation, it does not say "
    "that any guidance or rule is met, and no authority has seen or endorsed it."
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of SR 26-2, where SR 11-7 had it, and the parts of a pack that speak to it."""

    name: str
    formerly: str
    parts: tuple[str, ...]


TOPICS: Final = (
    Topic(
        "Materiality, and effort in proportion to it",
        "III, overview; VI, model inventory",
        ("declared", "identity"),
    ),
    Topic(
        "Model development and use",
        "IV, development, implementation and use",
        ("declared", "data", "lineage", "evidence"),
    ),
    Topic(
        "Validation: conceptual soundness, and challenge by others than its makers",
        "V, validation: evaluation of conceptual soundness",
        ("evidence", "gates", "people", "not_tested"),
    ),
    Topic(
        "Monitoring and analysis of outcomes",
        "V, validation: ongoing monitoring; outcomes analysis",
        ("beside", "live", "outcomes"),
    ),
    Topic(
        "Governance and controls",
        "VI, governance, policies and controls",
        ("people", "history", "signatures"),
    ),
    Topic(
        "Vendor and other third-party products",
        "V, validation of vendor and other third-party products",
        ("bill_of_materials",),
    ),
)
