"""Making the compiled functions ready before they are needed."""

from __future__ import annotations

import time

from assay.features.kernel.bar_machine import compiled_steps
from assay.features.kernel.engine import compiled_run


def warm_kernel(*, bars: bool = False) -> float:
    """Make the kernel ready (compile it, or load it from the cache); the seconds that it took.

    The step of bars is one more function, which a desk without ticks never needs: ``bars=True``.
    """
    started = time.perf_counter()
    compiled_run()
    if bars:
        compiled_steps()
    return time.perf_counter() - started
