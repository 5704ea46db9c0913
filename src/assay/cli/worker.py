"""A process that answers for a service of several: ``python -m assay.cli.worker``.

``assay serve --workers`` starts it; nobody else should.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.serving.server.worker import run_worker

if TYPE_CHECKING:
    from assay.serving.http.service import Service


def make(orders: Mapping[str, Any]) -> tuple[Service, Mapping[str, Any]]:
    """The service of the desk in the orders, and what is told of it."""
    from assay import bootstrap
    from assay.cli.serve import summary_of
    from assay.serving.telemetry.json_logs import log_to

    log_to()
    service = bootstrap.open_service(
        Path(orders["desk"]),
        champion=orders["model"],
        canary=orders["canary"],
        board=Path(orders["board"]),
        exposed=orders["exposed"],
        tokens=orders["tokens"],
    )
    return service, summary_of(service)


if __name__ == "__main__":
    sys.exit(run_worker(make))
