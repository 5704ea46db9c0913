"""How many files and connections a process may have open at once."""

from __future__ import annotations

import logging
import resource

_LOG = logging.getLogger("assay.serving")
_BESIDE = 128
"""For models, stores, logs and the registry."""


def room_for(connections: int) -> int:
    """Have the operating system allow so many connections beside everything else that is open.

    Most systems allow 1,024 files unless they are asked for more. A server that runs into that
    accepts nobody and writes down nothing, without telling anyone.

    Returns
    -------
    As many of the connections as there is room for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    room = max(soft - _BESIDE, 1)
    _LOG.warning(
        "%d files may be open (ulimit -n): %d connections are taken instead of %d",
        soft, room, connections,
    )  # fmt: skip
    return room
