"""Everything that is recorded about one version, for whoever answers for the risk of models.

1. :func:`gather_pack` reads registry, lake, run and servers' records into one document of plain
   values (:mod:`~assay.orchestration.evidence_pack.contents`), with what people declared about the
   model (:mod:`~assay.orchestration.evidence_pack.declared`) and what was not tested.
2. :mod:`~assay.orchestration.evidence_pack.page` shows it as a page, with a crosswalk to the topics
   of supervisory guidance (:mod:`~assay.orchestration.evidence_pack.crosswalk`).
3. :func:`write_pack` puts it into a folder or an archive with every signed statement, the log, the
   public keys and a list of digests; the same state of the desk gives the same bytes.
4. :func:`check_pack` checks such a pack with nothing else at hand.
"""

from assay.orchestration.evidence_pack.checking import PackCheck, PackFinding, check_pack
from assay.orchestration.evidence_pack.contents import gather_pack
from assay.orchestration.evidence_pack.declared import Declared, read_declared
from assay.orchestration.evidence_pack.page import pack_page
from assay.orchestration.evidence_pack.writing import bom_of, pack_files, write_pack

__all__ = [
    "Declared",
    "PackCheck",
    "PackFinding",
    "bom_of",
    "check_pack",
    "gather_pack",
    "pack_files",
    "pack_page",
    "read_declared",
    "write_pack",
]
