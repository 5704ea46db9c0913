"""The lineage of a version, from raw facts to the log of what became of it.

1. :func:`lineage_of` follows the names in a version's signed metadata through registry, training
   run, lake and manifests, and makes one graph of what it finds; what is gone stays in it, marked.
2. :func:`check_lineage` asks whether each named thing is there and has the hash that is named.
3. :func:`lineage_events` tells the same in OpenLineage's words; :func:`lineage_svg` draws it.
"""

from assay.orchestration.lineage.checks import LineageCheck, LineageFinding, check_lineage
from assay.orchestration.lineage.events import lineage_events
from assay.orchestration.lineage.gathering import lineage_of
from assay.orchestration.lineage.picture import lineage_svg

__all__ = [
    "LineageCheck",
    "LineageFinding",
    "check_lineage",
    "lineage_events",
    "lineage_of",
    "lineage_svg",
]
