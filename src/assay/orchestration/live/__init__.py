"""The live side, replayed: the last months arrive as they would have, and are proven afterwards.

1. :mod:`~assay.orchestration.live.arrivals` cuts a source into history and deliveries, and makes a
   revision and a late fact.
2. :mod:`~assay.orchestration.live.replay` ingests each delivery, feeds the online driver and store,
   and asks a real server process (:mod:`~assay.orchestration.live.server`) for predictions.
3. :mod:`~assay.orchestration.live.withdrawal` forces a broken version live; the guard sees it.
4. :mod:`~assay.orchestration.live.proof` compares what was served with what history says.
"""

from assay.orchestration.live.arrivals import record_last_sessions
from assay.orchestration.live.replay import LiveReplay, replay_live

__all__ = ["LiveReplay", "record_last_sessions", "replay_live"]
